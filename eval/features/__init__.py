"""Feature extractors: networks, their weights, preprocessing, and what runs them."""

"""Reports of evaluations: HTML, charts, text."""

"""The experiment that retrains on a curated dataset, beside its controls."""

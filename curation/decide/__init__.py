"""Verdicts on images: pruning, quotas, review, lineage, materialised datasets."""

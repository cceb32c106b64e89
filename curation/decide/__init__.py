"""Verdicts on images: pruning, quotas, review, lineage, materialised datasets.

Public are prune (`prune`) with request (`PruneRequest`, `ReviewRequest`), quotas, lineage (`log`, `diff`), materialize,
review_page and review_server (`ReviewSession`).
"""

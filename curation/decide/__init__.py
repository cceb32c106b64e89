"""Verdicts on images: pruning, quotas, review, lineage, materialised datasets.

Public are prune (`prune`) and learn (`learn`) with request (`PruneRequest`, `LearnRequest`, `ReviewRequest`), quotas,
verdict_model, lineage (`log`, `diff`), materialize, review_page and review_server (`ReviewSession`).
"""

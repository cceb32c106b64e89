"""Curation of training data: collections of images become datasets, and each decision on them a manifest.

Public are prepare.pipeline (`collect`), score.check and score.score, decide.prune, decide.lineage, decide.materialize
and decide.review_server, retrain.plan and retrain.run; each takes the request of its room. Of the common modules,
`child_manifest` writes more columns, and `columns` reads those that all have.
"""

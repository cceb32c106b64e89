"""The experiment that retrains on a curated dataset, beside its controls.

Public are request (`RetrainRequest`), plan (`RetrainPlan`: the request, checked), run (`retrain`) and verdict, the rule
by which a curation helped.
"""

"""The methods of scoring how typical an image is, and the columns of a manifest that hold their scores."""

from gan.runtime import plugins

BY_FEATURES = ("density", "knn")  # by an extractor's features; the order of the rows in a fitted state
BY_DISCRIMINATOR = ("d-low",)  # by a run's discriminator: a baseline
FEATURES = {"content": ("content",), "style": ("style",), "both": ("content", "style")}  # what is compared
METHODS = (*BY_FEATURES, *BY_DISCRIMINATOR)
LEARNED = "learned"  # by a reviewer's verdicts: salon curate learn
NEXT = "next_to_review"  # the column of the images proposed to the reviewer: 1 for the first
REMOVED = ("d-core", "d-cross")  # manifests may hold their scores
SCORE_FORM = "[a-z][a-z0-9-]*"  # of the name of a method that another package adds (curation.score.image_score)
DISCRIMINATOR_PREFIX = "score_d_"  # of the columns of scores by discriminators, also of those removed


def of_features(method: str, features: str) -> str:
    """A method's name by the features that it compares: density, or style-density of style."""
    return method if features == "content" else f"{features}-{method}"


RANKING = tuple(of_features(method, features) for features in FEATURES["both"] for method in BY_FEATURES)


def score_column(method: str) -> str:
    """The column of a method's scores, such as score_d_low of d-low; its standard errors lie in score_d_low_se."""
    return f"score_{method.replace('-', '_')}"


def known_methods() -> list[str]:
    """METHODS, and those that other packages offer."""
    return [*METHODS, *plugins.names(plugins.SCORES, (*METHODS, *REMOVED, LEARNED))]

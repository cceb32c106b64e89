"""Attributes of images, by a classifier that learns them from real images' features: what separability is about."""

from collections.abc import Callable, Sequence

from eval.metrics.feature_stats import Array

REGULARIZATION = 0.01  # of the classifier: features are many, images few


def learn(features: Array, labels: Sequence[str]) -> tuple[list[str], Callable[[Array], Array]]:
    """Of features [N, d] and their labels [N], of two kinds or more -> names, and features [n, d] -> probabilities.

    The probabilities are [n, names], of each name by itself; of two the first alone is there, since the other says the
    same.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=REGULARIZATION, max_iter=1000))
    classifier.fit(features, list(labels))
    names = [str(name) for name in classifier.classes_]
    told = 1 if len(names) == 2 else len(names)

    def probabilities(of: Array) -> Array:
        every: Array = classifier.predict_proba(of)
        return every[:, :told]

    return names[:told], probabilities

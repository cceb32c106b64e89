"""Metrics of other packages, put into the registry when a request names them."""

from collections.abc import Sequence

from eval.metric_registry import BLOCKS, METRICS, NAMES, FeatureSets, Metric, Number, Result, identity_of, register
from eval.metrics.feature_metric import FeatureMetric, jackknife
from gan.errors import RequestError
from gan.runtime import plugins

OWN = frozenset(METRICS)  # Salon's metrics, before any other is registered
FORM = "[a-z][a-z0-9_]*"


def require_known(metrics: Sequence[str]) -> None:
    """Raise RequestError for an unknown metric, or none. Those that other packages offer are known afterwards."""
    offered = plugins.names(plugins.METRICS, METRICS)
    if not metrics or any(metric not in (*METRICS, *offered) for metric in metrics):
        wrong = next((metric for metric in metrics if metric not in (*METRICS, *offered)), "none")
        raise RequestError(f"`metrics` must be some of {','.join((*METRICS, *offered))}; got {wrong} instead")
    for name in dict.fromkeys(metrics):
        if name in OWN:
            plugins.tell_taken(plugins.METRICS, name)
        elif name not in METRICS:
            metric, package = plugins.load(plugins.METRICS, name, FeatureMetric, parameter="metrics", form=FORM)
            if name in NAMES:
                raise RequestError(f"`metrics` {name} of {package} must have a new name; a result of Salon's has it")
            register(_registered(name, metric, package))


def _registered(name: str, metric: FeatureMetric, package: str) -> Metric:
    def measure(sets: FeatureSets) -> list[Result]:
        with plugins.running(f"the metric {name}", package):
            replicates = jackknife(metric, sets.gen, sets.reference.features, BLOCKS)
        identity = identity_of(name, sets.reference, len(sets.gen), {"package": package, "blocks": BLOCKS})
        return [Result(identity=identity, estimate=replicates.raw(), replicates=replicates)]

    return Metric(
        name=name,
        gives=(Number(id=name, name=metric.name, higher_is_better=metric.higher_is_better),),
        measure=measure,
        least_generated=max(metric.least_generated, 2),
        least_real=metric.least_real,
    )

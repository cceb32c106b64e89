"""Prometheus figures: of the front's own, and those of Triton's models, under Triton's own names."""

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
COUNTS = {  # name -> what it counts, in a row of ModelStatistics
    "nv_inference_request_success": lambda row: row.inference_stats.success.count,
    "nv_inference_request_failure": lambda row: row.inference_stats.fail.count,
    "nv_inference_count": lambda row: row.inference_count,
    "nv_inference_exec_count": lambda row: row.execution_count,
    "nv_inference_request_duration_us": lambda row: row.inference_stats.success.ns // 1000,
    "nv_inference_queue_duration_us": lambda row: row.inference_stats.queue.ns // 1000,
    "nv_inference_compute_input_duration_us": lambda row: row.inference_stats.compute_input.ns // 1000,
    "nv_inference_compute_infer_duration_us": lambda row: row.inference_stats.compute_infer.ns // 1000,
    "nv_inference_compute_output_duration_us": lambda row: row.inference_stats.compute_output.ns // 1000,
}


class Figures:
    """What the front counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ["protocol", "model", "code"]
        self.requests = Counter("salon_requests", "Requests for inference.", labels, registry=self._registry)
        self.seconds = Histogram(
            "salon_request_seconds",
            "Seconds to the answer.",
            ["model"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.refused = Counter(
            "salon_refused", "Requests that the front refused.", ["protocol", "code"], registry=self._registry
        )
        self.in_flight = Gauge("salon_requests_in_flight", "Requests for inference.", registry=self._registry)
        self.starts = Counter("salon_server_starts", "Starts of the server behind.", registry=self._registry)
        self.dead = Gauge("salon_models_without_answer", "Models that failed their trial.", registry=self._registry)

    def text(self, statistics: Any | None) -> bytes:
        """All figures for Prometheus; `statistics` is a ModelStatisticsResponse, None where there is none."""
        registry = CollectorRegistry()
        registry.register(_Models(statistics))
        return generate_latest(self._registry) + generate_latest(registry)


class _Models:
    def __init__(self, statistics: Any | None) -> None:
        self._rows = [] if statistics is None else list(statistics.model_stats)

    def collect(self) -> Iterator[Metric]:
        for name, count in COUNTS.items():
            metric = Metric(name, "As Triton counts it.", "unknown")
            for row in self._rows:
                labels = {"model": row.name, "version": row.version}
                metric.add_sample(name, labels, count(row))  # type: ignore[no-untyped-call]
            yield metric

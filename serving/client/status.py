"""State and statistics of a Triton server, as one set of figures. Over gRPC, numbers are texts and zeros are absent."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from serving.contract import ModelMetadata


def summarize(
    server: Mapping[str, Any],
    ready: bool,
    index: Sequence[Mapping[str, Any]],
    statistics: Sequence[Mapping[str, Any]],
    metadata: Mapping[tuple[str, str], ModelMetadata | None],
) -> dict[str, Any]:
    """Name, version and readiness of the server, and one entry a version of a model, from the answers of a
    serving.client.transport.Transport and the models' `metadata` by name and version.

    An entry holds name, version, state, reason, about (its metadata; None: not of Salon's making), pixels (of its
    images, such as "384x256" or "64x64 grey"; None: it makes none), succeeded and failed requests, images, executions,
    and mean milliseconds a request: queue_ms in the queue, compute_ms in the model, total_ms from its arrival to its
    answer; None where there was no request. Ensembles have total_ms alone.
    """
    counted = {(entry["name"], entry.get("version", "")): entry for entry in statistics}
    models = []
    for entry in sorted(index, key=lambda entry: (entry["name"], _number(entry.get("version", 0)))):
        name, version = entry["name"], entry.get("version", "")
        about = metadata.get((name, version))
        models.append(
            {
                "name": name,
                "version": version,
                "state": entry.get("state", "UNAVAILABLE"),
                "reason": entry.get("reason", ""),
                "about": dataclasses.asdict(about) if about else None,
                "pixels": str(about.shape) if about and about.resolution else None,
                **_figures(counted.get((name, version), {})),
            }
        )
    return {"server": server.get("name", ""), "version": server.get("version", ""), "ready": ready, "models": models}


def _figures(counted: Mapping[str, Any]) -> dict[str, Any]:
    times = counted.get("inference_stats", {})
    return {
        "succeeded": _number(times.get("success", {}).get("count", 0)),
        "failed": _number(times.get("fail", {}).get("count", 0)),
        "images": _number(counted.get("inference_count", 0)),
        "executions": _number(counted.get("execution_count", 0)),
        "queue_ms": _milliseconds(times.get("queue", {})),
        "compute_ms": _milliseconds(times.get("compute_infer", {})),
        "total_ms": _milliseconds(times.get("success", {})),
    }


def _milliseconds(duration: Mapping[str, Any]) -> float | None:
    count = _number(duration.get("count", 0))
    return round(_number(duration.get("ns", 0)) / count / 1e6, 3) if count else None


def _number(value: int | str) -> int:
    return int(value or 0)

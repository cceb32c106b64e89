"""A snapshot -> a file of its weights in the form of another implementation."""

from typing import Any

from gan import snapshot
from gan.foreign import write as foreign
from gan.runtime.files import refuse_existing
from serving.export.request import ExportRequest


def write(request: ExportRequest) -> dict[str, Any]:
    """Write the networks of `request.snapshot` to `request.out` in `request.format` -> figures.

    Raises RequestError where the form cannot hold them, or `request.out` exists and may not be replaced.
    """
    assert request.snapshot is not None  # as ExportRequest makes sure
    refuse_existing([request.out], request.overwrite)
    return foreign.write(snapshot.find(request.snapshot), request.out, request.format)

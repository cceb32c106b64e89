"""What both protocols do with a request for inference: check, count, pass on, cancel."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from grpc import StatusCode
from tritonclient.grpc import service_pb2 as messages

from serving.server.front import rules
from serving.server.front.access import Access
from serving.server.front.figures import Figures
from serving.server.front.refused import Refused
from serving.server.front.rules import ModelRule
from serving.server.front.upstream import Upstream

AT_ONCE = 64  # requests that Triton has at a time; others wait here, in order
WAITING = 256  # requests in all; further ones are told to come later
LARGEST = 33 * 2**20  # bytes of a request: the 32 MiB that Salon's client sends at most, and what they are called


class Gate:
    """The way to Triton. `ready` is set by the front when every model answers; until then requests are unavailable."""

    def __init__(self, upstream: Upstream, access: Access, figures: Figures) -> None:
        self.upstream, self.access, self.figures = upstream, access, figures
        self.ready = False
        self.suspect = asyncio.Event()  # set when an answer looks like that of a model whose process is gone
        self.in_flight = 0  # requests for inference
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def rule(self, model: str, version: str) -> ModelRule:
        """See Upstream.rule. Raises Refused while the server starts."""
        self.check_ready()
        return await self.upstream.rule(model, version)

    def check_ready(self) -> None:
        """Raises Refused while the server is not there."""
        if not self.ready:
            raise Refused("the server is starting: its models are being loaded", StatusCode.UNAVAILABLE)

    async def infer(self, protocol: str, request: Any, message: bytes | None, timeout: float | None) -> bytes:
        """A ModelInferResponse, as bytes, to a ModelInferRequest; `message` is the request as it came, if it did.

        Raises Refused for a request that is not in order, and with Triton's own errors.
        """
        model, start = request.model_name, time.perf_counter()
        rule = await self.rule(model, request.model_version)
        rules.check(request, rule)
        wanted = {output.name for output in request.outputs}
        if rule.is_ensemble and wanted:  # Triton fails where an output is left out that another of its steps needs
            del request.outputs[:]
            message = None
        with self._counted(protocol, model):
            async with self._slots:
                answer = await self.upstream.call("ModelInfer", message or request.SerializeToString(), timeout)
        self.figures.seconds.labels(model).observe(time.perf_counter() - start)
        return only(answer, wanted) if rule.is_ensemble and wanted else answer

    @contextmanager
    def _counted(self, protocol: str, model: str) -> Iterator[None]:
        if self.in_flight >= WAITING:
            raise Refused(f"{WAITING} requests are waiting: come later", StatusCode.RESOURCE_EXHAUSTED)
        self.in_flight += 1
        self.figures.in_flight.set(self.in_flight)
        code = "CANCELLED"
        try:
            yield
            code = "OK"
        except Refused as error:
            code = error.code.name
            if error.code in (StatusCode.INTERNAL, StatusCode.UNAVAILABLE, StatusCode.UNKNOWN):
                self.suspect.set()
            raise
        finally:
            self.in_flight -= 1
            self.figures.in_flight.set(self.in_flight)
            self.figures.requests.labels(protocol, model, code).inc()

    async def metrics(self) -> bytes:
        """All figures, for Prometheus."""
        try:
            statistics = await self.upstream.ask("ModelStatistics", timeout=5)
        except Refused:
            statistics = None
        return self.figures.text(statistics)


def only(message: bytes, wanted: set[str]) -> bytes:
    """A ModelInferResponse with the outputs `wanted` alone."""
    found = response(message)
    kept = [pair for pair in zip(found.outputs, found.raw_output_contents, strict=True) if pair[0].name in wanted]
    answer = messages.ModelInferResponse(
        model_name=found.model_name,
        model_version=found.model_version,
        id=found.id,
        outputs=[tensor for tensor, _ in kept],
        raw_output_contents=[raw for _, raw in kept],
    )
    return bytes(answer.SerializeToString())


def response(message: bytes) -> Any:
    """A ModelInferResponse from its bytes."""
    found = messages.ModelInferResponse()
    found.ParseFromString(message)
    return found

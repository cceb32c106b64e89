"""Triton over gRPC, by tritonclient. One channel serves all threads."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

from numpy.typing import NDArray
from tritonclient import grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from serving.client.cancel import Cancellation
from serving.client.transport_errors import (
    USUAL,
    Arrays,
    check_version,
    failed,
    refused,
    too_slow,
    unauthorized,
    unreachable,
)

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's own log goes to standard error; what matters is raised

_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),  # a batch of large images is above the usual 4 MB
    ("grpc.enable_http_proxy", 0),  # as over HTTP: a server is asked at its own address
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that is back is found soon, not after up to two minutes
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
_LATE = 10.0  # seconds in which gRPC tells that a call ended
_REFUSED = ("INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE", "FAILED_PRECONDITION", "UNIMPLEMENTED")
_LATER = ("UNAVAILABLE", "CANCELLED", "ABORTED")  # a stopping server cancels what is under way


class GrpcTransport:
    """See serving.client.transport.Transport. `address` is host:port."""

    def __init__(self, url: str, address: str, secure: bool, token: str | None = None) -> None:
        self.url = url
        self._metadata = {} if token is None else {"authorization": f"Bearer {token}"}
        self._client = grpc.InferenceServerClient(address, ssl=secure, channel_args=_CHANNEL)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        timeout: float,
        version: int | None = None,
        cancel: Cancellation | None = None,
    ) -> Arrays:
        tensors = []
        for name, array in inputs.items():
            tensors.append(grpc.InferInput(name, array.shape, np_to_triton_dtype(array.dtype)))
            tensors[-1].set_data_from_numpy(array)
        wanted = [grpc.InferRequestedOutput(name) for name in outputs]
        asked = "" if version is None else str(version)
        with self._errors():
            cancel = cancel or Cancellation()
            cancel.check()
            answer: Future[grpc.InferResult] = Future()
            settle = partial(_settle, answer)
            call = self._client.async_infer(
                model, tensors, settle, asked, outputs=wanted, client_timeout=timeout, headers=self._metadata
            )
            with cancel.ends_by(call.cancel):
                result = answer.result(timeout + _LATE)
        check_version(self.url, model, result.get_response().model_version, version)
        return {name: result.as_numpy(name) for name in outputs}

    def server(self, timeout: float) -> dict[str, Any]:
        return self._ask(self._client.get_server_metadata, timeout)

    def ready(self, timeout: float) -> bool:
        with self._errors():
            return bool(self._client.is_server_ready(headers=self._metadata, client_timeout=timeout))

    def index(self, timeout: float) -> list[dict[str, Any]]:
        return list(self._ask(self._client.get_model_repository_index, timeout).get("models", []))

    def config(self, model: str, timeout: float) -> dict[str, Any]:
        return dict(self._ask(self._client.get_model_config, timeout, model_name=model)["config"])

    def statistics(self, timeout: float) -> list[dict[str, Any]]:
        return list(self._ask(self._client.get_inference_statistics, timeout).get("model_stats", []))

    def close(self) -> None:
        self._client.close()

    def _ask(self, call: Callable[..., dict[str, Any]], timeout: float, **arguments: str) -> dict[str, Any]:
        with self._errors():
            return call(as_json=True, headers=self._metadata, client_timeout=timeout, **arguments)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:  # gRPC itself ends calls in time, unless its thread does not come round
            raise too_slow(self.url) from error
        except ValueError as error:  # of a channel that close() closed meanwhile
            raise unreachable(self.url, str(error)) from error
        except InferenceServerException as error:
            status, detail = (error.status() or "").removeprefix("StatusCode."), error.message() or ""
            if status == "DEADLINE_EXCEEDED":
                raise too_slow(self.url) from error
            if status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
                raise unauthorized(self.url, detail) from error
            if "HTTP/2" in detail or "Socket closed" in detail:  # as when HTTP's port is asked
                detail += f" ({USUAL})"
            explain = unreachable if status in _LATER else refused if status in _REFUSED else failed
            raise explain(self.url, detail) from error


def _settle(
    answer: "Future[grpc.InferResult]", result: grpc.InferResult | None, error: InferenceServerException | None
) -> None:
    # tritonclient calls this by the names of these parameters, from a thread of gRPC's.
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)

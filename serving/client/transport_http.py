"""Triton over HTTP: tritonclient makes and reads the messages, the standard library carries them.

tritonclient's own connections are gevent's, which belong to one thread and cannot be ended from another.
"""

import http.client
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from numpy.typing import NDArray
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from gan.errors import SalonError
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

_LENGTH = "Inference-Header-Content-Length"  # of the JSON before the tensors' bytes
_LATER = (429, 502, 503, 504)  # too many requests, or a proxy's or the server's own "not now"


class HttpTransport:
    """See transport.Transport. A connection carries one request at a time; those that are free are kept."""

    def __init__(self, url: str, host: str, port: int, secure: bool, token: str | None = None) -> None:
        self.url = url
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._host, self._port = host, port
        self._context = ssl.create_default_context() if secure else None
        self._idle: list[http.client.HTTPConnection] = []
        self._busy: set[http.client.HTTPConnection] = set()

    def infer(
        self,
        model: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        timeout: float,
        version: int | None = None,
        cancel: Cancellation | None = None,
    ) -> Arrays:
        tensors = [InferInput(name, array.shape, np_to_triton_dtype(array.dtype)) for name, array in inputs.items()]
        for tensor, array in zip(tensors, inputs.values(), strict=True):
            tensor.set_data_from_numpy(array)
        wanted = [InferRequestedOutput(name) for name in outputs]
        body, length = InferenceServerClient.generate_request_body(tensors, outputs=wanted)
        asked = "" if version is None else f"/versions/{version}"
        path, header = (
            f"v2/models/{quote(model)}{asked}/infer",
            {_LENGTH: str(length if length is not None else len(body))},
        )
        headers, answer = self._checked(*self._send("POST", path, timeout, body, header, cancel))
        try:
            result = InferenceServerClient.parse_response_body(answer, header_length=int(headers[_LENGTH]))
            answered = str(result.get_response()["model_version"])
            arrays = {name: result.as_numpy(name) for name in outputs}
        except (InferenceServerException, ValueError, KeyError, TypeError) as error:
            raise failed(self.url, f"its answer is none of Triton's ({error})") from error
        check_version(self.url, model, answered, version)
        return arrays

    def server(self, timeout: float) -> dict[str, Any]:
        return dict(self._ask("GET", "v2", timeout))

    def ready(self, timeout: float) -> bool:
        return self._send("GET", "v2/health/ready", timeout)[0] == HTTPStatus.OK

    def index(self, timeout: float) -> list[dict[str, Any]]:
        return list(self._ask("POST", "v2/repository/index", timeout))

    def config(self, model: str, timeout: float) -> dict[str, Any]:
        return dict(self._ask("GET", f"v2/models/{quote(model)}/config", timeout))

    def statistics(self, timeout: float) -> list[dict[str, Any]]:
        return list(self._ask("GET", "v2/models/stats", timeout)["model_stats"])

    def close(self) -> None:
        for connection in list(self._busy):
            with suppress(AttributeError):  # it may be closing just now
                _end(connection.sock)
        while self._idle:
            self._idle.pop().close()

    def _ask(self, method: str, path: str, timeout: float) -> Any:
        _, answer = self._checked(*self._send(method, path, timeout))
        try:
            return json.loads(answer)
        except ValueError as error:
            raise failed(self.url, "its answer is none of Triton's") from error

    def _send(
        self,
        method: str,
        path: str,
        timeout: float,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        cancel: Cancellation | None = None,
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        # -> status, headers, content. Only the transport's own errors are raised here.
        connection, complete = self._borrow(timeout), False
        try:
            if connection.sock is None:
                connection.connect()
            with (cancel or Cancellation()).ends_by(partial(_end, connection.sock)):
                connection.request(method, f"/{path}", body, {**self._headers, **(headers or {})})
                answer = connection.getresponse()
                content, complete = answer.read(), True
                return answer.status, answer.headers, content
        except (OSError, http.client.HTTPException) as error:
            raise self._explained(error) from error
        finally:
            if not complete:
                connection.close()  # half an answer may wait in it; the next request opens it anew
            self._busy.discard(connection)
            self._idle.append(connection)

    def _explained(self, error: OSError | http.client.HTTPException) -> SalonError:
        if isinstance(error, TimeoutError):
            return too_slow(self.url)
        if isinstance(error, ssl.SSLCertVerificationError):
            return SalonError(f"{self.url} is not trusted: {error.verify_message}; SSL_CERT_FILE names authorities")
        if isinstance(error, OSError | http.client.IncompleteRead):
            return unreachable(self.url, getattr(error, "strerror", None) or str(error))
        return failed(self.url, f"its answer is not HTTP ({USUAL})")

    def _checked(
        self, status: int, headers: http.client.HTTPMessage, content: bytes
    ) -> tuple[http.client.HTTPMessage, bytes]:
        if status == HTTPStatus.OK:
            return headers, content
        try:
            detail = str(json.loads(content)["error"])
        except (ValueError, KeyError, TypeError):
            detail = content[:200].decode("utf-8", "replace") or http.client.responses.get(status, str(status))
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise unauthorized(self.url, detail)
        explain = unreachable if status in _LATER else refused if status < 500 else failed
        raise explain(self.url, detail)

    def _borrow(self, timeout: float) -> http.client.HTTPConnection:
        try:
            connection = self._idle.pop()  # as list and set are changed, so in one step: no lock is needed
        except IndexError:
            connection = self._open()
        self._busy.add(connection)
        connection.timeout = timeout
        if connection.sock:
            connection.sock.settimeout(timeout)
        return connection

    def _open(self) -> http.client.HTTPConnection:
        if self._context:
            return http.client.HTTPSConnection(self._host, self._port, context=self._context)
        return http.client.HTTPConnection(self._host, self._port)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):  # it may have ended itself
        connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for an answer

"""The way to a Triton server: gRPC or HTTP, behind one small protocol.

Every call takes the seconds that it may last. What goes wrong is one of three errors, each with one clear line:
RequestError when the request is at fault, Unavailable when the same call may succeed later, else SalonError.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from gan.errors import RequestError, SalonError
from serving.client.cancel import Cancellation
from serving.client.transport_errors import Arrays

_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 8000}  # Triton's own
_URL = re.compile(r"(grpcs?|https?)://([\w.-]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?/?")  # names, IPv4, IPv6 in brackets


class Transport(Protocol):
    """What the client asks of a server. Calls may come from several threads; close() ends those under way."""

    url: str

    def infer(
        self,
        model: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        timeout: float,
        version: int | None = None,
        cancel: Cancellation | None = None,
    ) -> Arrays:
        """Run a model on named arrays -> the named outputs. `version` None: the newest one.

        Raises Cancelled when `cancel` ended it, SalonError when another version answered.
        """
        ...

    def server(self, timeout: float) -> dict[str, Any]:
        """Name and version of the server, and its extensions."""
        ...

    def ready(self, timeout: float) -> bool:
        """Whether the server and all of its models answer."""
        ...

    def index(self, timeout: float) -> list[dict[str, Any]]:
        """Every version of every model in the repository: name, version, state, reason."""
        ...

    def config(self, model: str, timeout: float) -> dict[str, Any]:
        """A model's config.pbtxt."""
        ...

    def statistics(self, timeout: float) -> list[dict[str, Any]]:
        """Counts and durations of every version of every model, as Triton's statistics extension has them."""
        ...

    def close(self) -> None:
        """End what is under way, and let go of the connections."""
        ...


def connect(url: str, token: str | None = None) -> Transport:
    """The transport for a URL; nothing is sent yet. `token` goes out with every call, as a bearer token (RFC 6750).

    Raises RequestError when the URL is not of the right form.
    """
    match = _URL.fullmatch(url)
    if not match or not 0 < (port := int(match[3] or _PORTS[match[1]])) < 65536:
        raise RequestError(f"`url` must be grpc://HOST:PORT or http://HOST:PORT, or grpcs or https; got {url} instead")
    secure = match[1].endswith("s")
    try:
        if match[1].startswith("grpc"):
            from serving.client.transport_grpc import GrpcTransport

            return GrpcTransport(url, f"{match[2]}:{port}", secure, token)
        from serving.client.transport_http import HttpTransport

        return HttpTransport(url, match[2].strip("[]"), port, secure, token)
    except ImportError as error:
        raise SalonError(f"{error.name or error} is missing; install it with: pip install 'salon[query]'") from error

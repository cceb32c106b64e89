"""The way to a Triton server: gRPC or HTTP, behind one small protocol.

Every call takes the seconds that it may last. What goes wrong is one of three errors, each with one clear line:
RequestError when the request is at fault, Unavailable when the same call may succeed later, else SalonError.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from gan.errors import RequestError, SalonError
from serving.patience import Unavailable

_PORTS = {"grpc": 8001, "grpcs": 8001, "http": 8000, "https": 8000}  # Triton's own
USUAL = "Triton's usual ports are http://HOST:8000 and grpc://HOST:8001"
_URL = re.compile(r"(grpcs?|https?)://([\w.-]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?/?")  # names, IPv4, IPv6 in brackets
_NOISE = re.compile(r"\[request id: \S*\]|NOTE: .*", re.DOTALL)  # of Triton's messages

Arrays = dict[str, NDArray[Any]]


class Transport(Protocol):
    """What the client asks of a server. Calls may come from several threads; close() ends those under way."""

    url: str

    def infer(self, model: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], timeout: float) -> Arrays:
        """Run a model on named arrays -> the named outputs."""
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


def connect(url: str) -> Transport:
    """The transport for a URL; nothing is sent yet. Raises RequestError when it is not of the right form."""
    match = _URL.fullmatch(url)
    if not match or not 0 < (port := int(match[3] or _PORTS[match[1]])) < 65536:
        raise RequestError(f"--url must be grpc://HOST:PORT or http://HOST:PORT, or grpcs or https; got {url} instead")
    secure = match[1].endswith("s")
    try:
        if match[1].startswith("grpc"):
            from serving.transport_grpc import GrpcTransport

            return GrpcTransport(url, f"{match[2]}:{port}", secure)
        from serving.transport_http import HttpTransport

        return HttpTransport(url, match[2].strip("[]"), port, secure)
    except ImportError as error:
        raise SalonError(f"{error.name or error} is missing; install it with: pip install 'salon[query]'") from error


def unreachable(url: str, detail: str) -> Unavailable:
    """The error for a server that cannot be reached, or not now."""
    return Unavailable(
        f"{url} is not available: {_one_line(detail)}; start a server with `salon serve`, or name another with --url"
    )


def refused(url: str, detail: str) -> RequestError:
    """The error for a request that the server found at fault."""
    return RequestError(f"{url} refused the request: {_one_line(detail)}")


def failed(url: str, detail: str) -> SalonError:
    """The error for a server that failed: Unavailable where only a process of its Python backend died."""
    if "stub process" in detail.lower():
        return Unavailable(f"{url} is not available: {_one_line(detail)}; if it stays so, start the server again")
    return SalonError(f"{url} failed: {_one_line(detail)}; its log says more")


def too_slow(url: str, timeout: float) -> SalonError:
    """The error for a request that took longer than it may."""
    return SalonError(
        f"{url} did not answer within {timeout:.3g} s; raise --timeout, or lower --concurrency if it has too much to do"
    )


def _one_line(text: str) -> str:
    return " ".join(_NOISE.sub("", text).split()).rstrip(".;") or "no reason given"

"""What the two transports say of a server that fails, so that both say it alike."""

import re
from typing import Any

from numpy.typing import NDArray

from gan.errors import RequestError, SalonError
from serving.client.retry import TooSlow, Unavailable

USUAL = "Triton's usual ports are http://HOST:8000 and grpc://HOST:8001"
_NOISE = re.compile(r"\[request id: \S*\]|NOTE: .*", re.DOTALL)  # of Triton's messages

Arrays = dict[str, NDArray[Any]]


def unreachable(url: str, detail: str) -> Unavailable:
    """The error for a server that cannot be reached, or not now."""
    return Unavailable(
        f"{url} is not available: {_one_line(detail)}; start a server with `salon serve`, or name another with `url`"
    )


def refused(url: str, detail: str) -> RequestError:
    """The error for a request that the server found at fault."""
    return RequestError(f"{url} refused the request: {_one_line(detail)}")


def failed(url: str, detail: str) -> SalonError:
    """The error for a server that failed: Unavailable where only a process of its Python backend died."""
    if "stub process" in detail.lower():
        return Unavailable(f"{url} is not available: {_one_line(detail)}; if it stays so, start the server again")
    return SalonError(f"{url} failed: {_one_line(detail)}; its log says more")


def too_slow(url: str) -> SalonError:
    """The error for a request that took longer than it may."""
    return TooSlow(url)


def unauthorized(url: str, detail: str) -> RequestError:
    """The error for a server that wants a token, or another one."""
    return RequestError(
        f"{url} refused the request: {_one_line(detail)}; it wants a token: name its file with `token_file`, or set "
        "SALON_TOKEN"
    )


def check_version(url: str, model: str, answered: str, version: int | None) -> None:
    """Raise SalonError when another version of the model answered than was asked for."""
    if version is not None and answered != str(version):
        raise failed(url, f"version {answered} of {model} answered instead of {version}")


def _one_line(text: str) -> str:
    return " ".join(_NOISE.sub("", text).split()).rstrip(".;") or "no reason given"

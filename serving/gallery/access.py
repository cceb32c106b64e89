"""What keeps the gallery from being overrun or misused: a rate for each client, and a guard around every answer."""

import ipaddress
import math
import re
import time
from collections.abc import Callable, Collection, Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gan.errors import RequestError

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def parse_rate(text: str) -> tuple[int, float]:
    """ "60/min" -> (60, 60.0): requests, and the seconds in which they may be made. Raises RequestError otherwise."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(s|min|h)\s*", text)
    if not match or not int(match[1]):
        raise RequestError(f"`rate` must be requests a time, such as 60/min, 2/s or 1000/h; got {text!r} instead")
    return int(match[1]), UNITS[match[2]]


def check_names(names: Iterable[str]) -> None:
    """Raises RequestError for what is no name of a host, and so could never be in a request."""
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name):
            raise RequestError(f"`allow_host` must be a name alone, such as gallery.example; got {name} instead")


class RateLimit:
    """A bucket of tokens for each client: full it holds `count`, and it fills in `seconds`."""

    def __init__(self, count: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.count, self.seconds, self.clock = count, seconds, clock
        self.full_at: dict[str, float] = {}  # when a client's bucket will be full again; absent: it is

    def wait(self, client: str) -> float:
        """Take a token of `client` -> 0; or take none -> the seconds until there is one."""
        now, one = self.clock(), self.seconds / self.count
        if len(self.full_at) > 1000:
            self.full_at = {name: full for name, full in self.full_at.items() if full > now}
        full = max(self.full_at.get(client, now), now) + one
        if full - now > self.seconds * (1 + 1e-9):
            return full - now - self.seconds
        self.full_at[client] = full
        return 0.0


class TooMany(RequestError):
    """A client asked for more than its rate. `seconds` from now on it may ask again."""

    def __init__(self, limit: RateLimit, wait: float) -> None:
        self.seconds = math.ceil(wait)
        super().__init__(
            f"Too many pictures at once: {limit.count} requests in {limit.seconds:g} s are allowed. "
            f"Go on in {self.seconds} s."
        )


class Guard:
    """Around an app: refuse names that are not the gallery's, and say in every answer what a page of it may do.

    A site whose name its owner points at this machine (DNS rebinding) could read answers as its own. Its requests carry
    that name, whereas an address of digits cannot be pointed elsewhere.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, {"localhost", *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY)
            await send(message)

        host = Headers(scope=scope).get("host", "")
        if self.knows(host):
            await self.app(scope, receive, guarded)
        else:
            text = f"This gallery is not {host[:100]}. If it should be, allow this host name when you start it.\n"
            await PlainTextResponse(text, 421)(scope, receive, guarded)

    def knows(self, host: str) -> bool:
        """Whether a Host header is of this gallery: a known name or an address, with or without a port."""
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]]+))(?::\d+)?", host)
        if not match:
            return False
        name = match[1] or match[2].lower()
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.hosts
        return True

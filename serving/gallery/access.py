"""Access to the gallery: the rate limit of each client, and the host names that requests may be for."""

import math
import re
import time
from collections.abc import Callable, Iterable

from gan.errors import RequestError

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def parse_rate(text: str) -> tuple[int, float]:
    """Requests, and the seconds in which they may be made: (60, 60.0) for "60/min".

    Raises RequestError for another form.
    """
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(s|min|h)\s*", text)
    if not match or not int(match[1]):
        raise RequestError(f"`rate` must be requests a time, such as 60/min, 2/s or 1000/h; got {text!r} instead")
    return int(match[1]), UNITS[match[2]]


def check_host_names(names: Iterable[str]) -> None:
    """Raises RequestError for a name that is no host's, and so could never be in a request."""
    for name in names:
        if not re.fullmatch(r"[\w.-]+", name):
            raise RequestError(f"`allow_host` must be a name alone, such as gallery.example; got {name} instead")


class RateLimit:
    """Token bucket of each client: full it holds `count` requests, and it fills in `seconds`."""

    def __init__(self, count: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.count, self.seconds, self.clock = count, seconds, clock
        self.full_at: dict[str, float] = {}  # when a client's bucket will be full again; absent: it is

    def wait(self, client: str) -> float:
        """Take a token of `client` and return 0, or take none and return the seconds until there is one."""
        now, seconds_per_token = self.clock(), self.seconds / self.count
        if len(self.full_at) > 1000:
            self.full_at = {name: full for name, full in self.full_at.items() if full > now}
        full = max(self.full_at.get(client, now), now) + seconds_per_token
        if full - now > self.seconds * (1 + 1e-9):
            return full - now - self.seconds
        self.full_at[client] = full
        return 0.0


class RateExceeded(RequestError):
    """A client exceeded its rate. It may ask again after `seconds`."""

    def __init__(self, limit: RateLimit, wait: float) -> None:
        self.seconds = math.ceil(wait)
        super().__init__(
            f"Too many images at once: {limit.count} requests in {limit.seconds:g} s are allowed. "
            f"Go on in {self.seconds} s."
        )

"""Access to the gallery: who a visitor is, the rate limit of each, and which names, proxies and sites are known."""

import ipaddress
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


def check_proxies(proxies: Iterable[str]) -> None:
    """Raises RequestError for what is no address or network."""
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as error:
            rule = "`trust_proxy` must be an address or a network, such as 10.0.0.7 or 10.0.0.0/8"
            raise RequestError(f"{rule}; got {proxy} instead") from error


def visitor(client: str) -> str:
    """Who is counted: an IPv4 address, or the network of an IPv6 address, all of whose addresses one visitor may use.

    What a proxy gives in the place of an address counts as it is.
    """
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client[:100]
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


class RateLimit:
    """Token bucket of each client: full it holds `count` requests, and it fills in `seconds`."""

    def __init__(self, count: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.count, self.seconds, self.clock = count, seconds, clock
        self.full_at: dict[str, float] = {}  # when a client's bucket will be full again; absent: it is

    def wait(self, client: str, tokens: float = 1) -> float:
        """Take tokens of `client` and return 0, or take none and return the seconds until there are so many.

        What costs more than a full bucket takes all of it.
        """
        now, seconds_per_token = self.clock(), self.seconds / self.count
        if len(self.full_at) > 1000:
            self.full_at = {name: full for name, full in self.full_at.items() if full > now}
        full = max(self.full_at.get(client, now), now) + min(tokens, self.count) * seconds_per_token
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

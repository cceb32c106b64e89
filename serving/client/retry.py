"""Retry policy of the client: a deadline for every request, and exponential backoff with jitter between attempts."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gan.errors import RequestError, SalonError

TIMEOUT, RETRIES, CONCURRENCY = 120.0, 6, 4  # defaults of a client
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0  # seconds between attempts; each pause is twice the one before

Answer = TypeVar("Answer")


class Unavailable(SalonError):
    """The server cannot be reached, is starting or stopping, or has too much to do: the same call may succeed later."""


class TooSlow(SalonError):
    """A call did not end within the time that it had. RetryPolicy says how long that was, with all attempts."""

    def __init__(self, url: str) -> None:
        super().__init__(f"{url} did not answer in time")
        self.url = url


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Limits of a request's attempts. Raises RequestError when they are out of range."""

    timeout: float = TIMEOUT  # seconds, for a request with all of its attempts
    retries: int = RETRIES  # attempts after the first one

    def __post_init__(self) -> None:
        if not 0 < self.timeout < float("inf"):
            raise RequestError(f"`timeout` must be above 0 seconds; got {self.timeout} instead")
        if self.retries < 0:
            raise RequestError(f"`retries` must be at least 0; got {self.retries} instead")

    def ask(
        self,
        call: Callable[[float], Answer],
        stopped: threading.Event,
        announce: Callable[[str], None] = lambda line: None,
    ) -> Answer:
        """Answer of call(seconds left). Only Unavailable is tried again, never a request at fault.

        `announce` gets a line before the second attempt. Once `stopped` is set there is no further one.
        Raises what the last attempt raised; when it ran out of time, SalonError with the time of all.
        """
        end = time.monotonic() + self.timeout
        pause, more = _FIRST_PAUSE, "raise `timeout`, or lower `concurrency` if it has too much to do"
        for attempt in range(self.retries + 1):
            try:
                return call(max(end - time.monotonic(), 0.001))
            except TooSlow as error:
                raise SalonError(f"{error.url} did not answer within {self.timeout:g} s; {more}") from error
            except Unavailable as error:
                more = f"before that, {error}"
                # The jitter keeps clients of one server from all coming back at once.
                wait = pause * random.uniform(0.75, 1.25)
                left = end - time.monotonic()
                if attempt == self.retries or wait >= left or stopped.is_set():
                    raise
                if attempt == 0:
                    announce(f"{error}. Trying again, {self.retries} times within {left:.0f} s")
                if stopped.wait(wait):
                    raise
                pause = min(2 * pause, _LONGEST_PAUSE)
        raise AssertionError("the last attempt returns or raises")

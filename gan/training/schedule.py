"""Schedules by ticks and minutes, the request to stop, and the progress bar of the training loop."""

import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType

from tqdm import tqdm

from gan.runtime import distributed, signals
from gan.runtime.console import say


class Schedule:
    """Due every so many ticks or minutes, whichever comes first; the first time after a minute at most."""

    def __init__(self, ticks: int, minutes: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.ticks, self.seconds = ticks, minutes * 60
        self._clock = clock  # tells the seconds
        self._next = clock() + min(self.seconds, 60)

    def due(self, tick: int, ended: bool) -> bool:
        """`tick` has just `ended`, or is going on."""
        by_time = bool(self.seconds) and self._clock() >= self._next
        if by_time or (ended and bool(self.ticks) and tick % self.ticks == 0):
            self._next = self._clock() + self.seconds
            return True
        return False


class StopRequest:
    """A request to stop after the iteration, made by SIGINT, SIGTERM or SIGHUP; a second one stops at once.

    But for SIGHUP, which shell and terminal both send, and which `nohup` has ignored.

    Of several processes each gets Ctrl-C from the terminal and again from torchrun, which gives them half a minute.
    """

    def __enter__(self) -> "StopRequest":
        self.wanted = False
        self._before = {number: signal.signal(number, self._wish) for number in signals.stopping()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _wish(self, _number: int, _frame: FrameType | None) -> None:
        self.wanted = True
        if distributed.world_size() > 1:
            say("Stopping after this iteration.")
        else:
            say("Stopping after this iteration; once more stops at once.")
            self._restore(signal.SIGINT, signal.SIGTERM)

    def _restore(self, *numbers: signal.Signals) -> None:
        for number in numbers or self._before:
            signal.signal(number, self._before[number])


def progress_bar(total_nimg: int, cur_nimg: int) -> "tqdm[None]":
    """A bar over the images of a run, where standard error is a terminal."""
    hidden = None if distributed.is_main() else True  # None: where standard error is no terminal
    start = min(cur_nimg, total_nimg)
    return tqdm(total=total_nimg, initial=start, unit=" img", disable=hidden, dynamic_ncols=True)

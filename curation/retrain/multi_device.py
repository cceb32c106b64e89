"""Arms of an experiment trained side by side: a process for each device, which takes an arm after the other.

A process trains an arm as Experiment.train does, with the same result, and writes what it has to say to a log beside
the arm. It is in a process group of its own, so that Ctrl-C at the terminal reaches the command alone, which asks each
process once to stop and save. A process whose command is gone does so by itself.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from curation.retrain.experiment import Arm, Experiment
from gan.device.selection import select
from gan.errors import SalonError
from gan.runtime import parallel
from gan.runtime.console import say
from gan.training.request import TrainingOptions
from gan.training.schedule import StopRequest, progress_bar

POLL = 0.5  # seconds


def train_side_by_side(
    experiment: Experiment, arms: Sequence[Arm], names: Sequence[str], options: TrainingOptions
) -> bool:
    """Train all arms on the devices of these names -> whether all are finished; a wish to stop leaves some unfinished.

    Raises SalonError when an arm fails; the others are asked to stop and save.
    """
    if options.cache:
        experiment.plan.dataset.cache(experiment.plan.fingerprint)  # once, before all processes want it
    waiting = deque(arm for arm in arms if not experiment.finished(arm))
    free, running = deque(names), dict[int, _Training]()
    total = round(len(arms) * experiment.plan.request.kimg * 1000)
    with StopRequest() as stop, progress_bar(total, _seen(experiment, arms)) as bar:
        try:
            while running or (waiting and not stop.wanted):
                while waiting and free and not stop.wanted:
                    training = _Training(experiment, waiting.popleft(), free.popleft(), options)
                    running[training.process.sentinel] = training
                ready = wait(list(running), POLL)
                for sentinel in [one for one in running if one in ready]:
                    ended = running.pop(sentinel)
                    ended.end()
                    free.append(ended.device)
                if stop.wanted:
                    _stop(running.values())
                bar.update(max(_seen(experiment, arms) - bar.n, 0))
        except KeyboardInterrupt:  # the second wish to stop
            for training in running.values():
                training.process.terminate()
            raise
        finally:
            _stop(running.values())
            for training in running.values():
                training.process.join()
    return all(experiment.finished(arm) for arm in arms)


class _Training:
    """A process that trains an arm on a device."""

    def __init__(self, experiment: Experiment, arm: Arm, device: str, options: TrainingOptions) -> None:
        self.arm, self.device, self.stopping = arm, device, False
        self.log = experiment.run(arm).path.with_suffix(".log")
        say(f"{arm.name}, {arm.images} images, on {device}: {self.log}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        arguments = (experiment, arm, device, options, self.log)
        self.process = parallel.start([__name__], _train, *arguments)

    def end(self) -> None:
        """Raise SalonError when the process has failed."""
        self.process.join()
        if self.process.exitcode and not self.stopping:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            last = lines[-1] if lines else f"exit code {self.process.exitcode}"
            raise SalonError(f"{self.arm.name} on {self.device} failed: {last}. {self.log} has the rest")


def _stop(trainings: Iterable[_Training]) -> None:
    # Once each: a second signal would not let it save.
    for training in trainings:
        if not training.stopping:
            training.stopping = True
            training.process.terminate()


def _seen(experiment: Experiment, arms: Sequence[Arm]) -> int:
    # Images that the arms have learned from, of all that they shall.
    rows = [experiment.run(arm).read_stats()[-1:] for arm in arms]
    return sum(int(row["nimg"]) - experiment.plan.start_nimg for last in rows for row in last)


def _train(experiment: Experiment, arm: Arm, device: str, options: TrainingOptions, log: Path) -> None:
    os.setpgrp()
    with open(log, "a", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    threading.Thread(target=_stop_when_orphaned, daemon=True).start()
    try:
        experiment.train(arm, select(device), options)
    except SalonError as error:
        say(f"Error: {error}")
        sys.exit(error.exit_code)


def _stop_when_orphaned() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)

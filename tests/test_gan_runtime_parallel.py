"""Ordered parallel work."""

import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from conftest import HANG, read_only_shared_memory

from gan.runtime.parallel import delayed, ordered_map


def test_results_come_in_the_items_order_whatever_order_they_are_done_in():
    second_done = threading.Event()

    def work(item):
        if item == 0:
            assert second_done.wait(HANG)  # item 0 ends after item 1
        if item == 1:
            second_done.set()
        return item * item

    with ThreadPoolExecutor(2) as pool:
        assert list(ordered_map(pool, work, range(100), ahead=4)) == [n * n for n in range(100)]


@pytest.mark.parametrize("count", [0, 1, 3, 64, 65])
def test_every_item_is_worked_on_once(count):
    with ThreadPoolExecutor(2) as pool:
        assert list(ordered_map(pool, str, range(count))) == [str(n) for n in range(count)]


def test_no_more_items_are_taken_than_asked_for():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(pool, lambda n: n, items(), ahead=5)
        assert not taken
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        assert len(taken) == 3 + 5
        results.close()
    assert len(taken) == 3 + 5


def test_an_error_comes_at_its_place_and_ends_the_work():
    done = []

    def work(item):
        if item == 3:
            raise KeyError(item)
        done.append(item)
        return item

    with ThreadPoolExecutor(1) as pool:
        results = ordered_map(pool, work, range(1000), ahead=2)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(KeyError):
            next(results)
    assert len(done) < 10


@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_an_item_is_given_when_more_have_been_taken(count):
    taken = []
    items = (taken.append(number) or number for number in range(5))
    for number in delayed(items, count):
        assert taken == list(range(min(number + count + 1, 5)))
    assert number == 4 and not list(delayed([], count))


def test_a_wait_that_is_no_longer_wanted_ends():
    class Never:
        def submit(self, function, item):
            return Future()

    assert not list(ordered_map(Never(), str, range(3), stopped=lambda: True))


# Forked as for training, and from a fork server as for preparing.
PROCESSES = """
import os
from gan.runtime.parallel import Processes
for preload in (None, []):
    pool = Processes(1, preload)
    assert pool.submit(os.getpid).result() != os.getpid()
    pool.stop()
"""


def test_worker_processes_with_a_long_folder_for_temporary_files(tmp_path):
    folder = tmp_path / ("long" * 30)  # a socket's path may have 107 bytes
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", PROCESSES], env={**os.environ, "TMPDIR": str(folder)}, timeout=HANG)
    assert done.returncode == 0 and not list(folder.iterdir())


def test_worker_processes_without_writable_shared_memory():
    command = read_only_shared_memory([sys.executable, "-c", PROCESSES])
    done = subprocess.run(command, capture_output=True, text=True)
    message = "SalonError: worker processes cannot be had: no semaphores in /dev/shm: Read-only file system"
    assert done.returncode == 1 and message in done.stderr

"""Ordered parallel work that holds only a few results at a time."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")


def ordered_map(
    pool: Executor, function: Callable[[Item], Value], items: Iterable[Item], ahead: int = 64
) -> Iterator[Value]:
    """`function` of each item, in the items' order, with at most `ahead` results computed before they are asked for."""
    source = iter(items)
    futures: deque[Future[Value]] = deque(pool.submit(function, item) for item in itertools.islice(source, ahead))
    try:
        while futures:
            value = futures.popleft().result()
            for item in itertools.islice(source, 1):
                futures.append(pool.submit(function, item))
            yield value
    finally:
        for future in futures:
            future.cancel()

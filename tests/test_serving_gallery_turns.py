"""Whose turn it is: visitors come round, and who has left is not waited for."""

import asyncio

from serving.gallery.cache import Cache
from serving.gallery.turns import Turns


def order(asked: list[str], *, leave: tuple[int, ...] = (), late: tuple[str, ...] = ()) -> list[str]:
    """Visitors in the order of their turns, all asked for while "first" has one; those at places `leave` give up, and
    `late` come while the first of the others has a turn.
    """

    async def run() -> list[str]:
        turns, done, go = Turns(), [], asyncio.Event()

        async def take(visitor: str) -> None:
            async with turns.turn(visitor):
                if len(done) == 1:
                    tasks.extend(asyncio.ensure_future(take(each)) for each in late)
                    await asyncio.sleep(0)
                done.append(visitor)
                if visitor == "first":
                    await go.wait()

        tasks = [asyncio.ensure_future(take("first"))]
        await asyncio.sleep(0)
        tasks += [asyncio.ensure_future(take(visitor)) for visitor in asked]
        await asyncio.sleep(0)
        assert all(turns.waiting(visitor) == asked.count(visitor) for visitor in asked)
        for place in leave:
            tasks[1 + place].cancel()
        go.set()
        await asyncio.wait(tasks)
        await asyncio.wait(tasks)
        async with turns.turn("last"):  # which is free
            return done[1:]

    return asyncio.run(run())


def test_visitors_come_round():
    assert order(["a", "a", "a", "b", "c", "c"]) == ["a", "b", "c", "a", "c", "a"]
    assert order(["a", "a", "a"], late=("b",)) == ["a", "b", "a", "a"]
    assert order([]) == []


def test_who_has_left_is_passed_over():
    assert order(["a", "a", "b"], leave=(0, 2)) == ["a"]


def test_a_turn_that_comes_to_one_who_leaves_goes_on():
    async def run() -> list[str]:
        turns, done = Turns(), []

        async def take(visitor: str) -> None:
            async with turns.turn(visitor):
                done.append(visitor)

        async with turns.turn("first"):
            leaves, stays = (asyncio.ensure_future(take(visitor)) for visitor in ("leaves", "stays"))
            await asyncio.sleep(0)
        leaves.cancel()  # it was given the turn just now
        await asyncio.wait([leaves, stays])
        return done

    assert asyncio.run(run()) == ["stays"]


def test_nobody_comes_between_a_turn_and_the_next():
    async def run() -> list[str]:
        turns, done = Turns(), []

        async def take(visitor: str) -> None:
            async with turns.turn(visitor):
                done.append(visitor)

        async with turns.turn("first"):
            waits = asyncio.ensure_future(take("waits"))
            await asyncio.sleep(0)
        await take("comes")
        await waits
        return done

    assert asyncio.run(run()) == ["waits", "comes"]


def test_a_turn_ends_with_an_error():
    async def run() -> None:
        turns = Turns()
        for _ in range(2):
            try:
                async with turns.turn("a"):
                    raise ValueError
            except ValueError:
                pass

    asyncio.run(run())


def test_the_cache_keeps_what_was_used_last():
    cache = Cache(10, len)
    for key in "abc":
        cache.keep(key, key * 3)
    assert cache.get("a") == "aaa" and cache.bytes == 9
    cache.keep("d", "dddd")
    assert "b" not in cache and [key for key in "acd" if key in cache] == ["a", "c", "d"] and cache.bytes == 10
    cache.keep("a", "A")  # in the place of what was there
    assert cache.bytes == 8 and len(cache) == 3
    cache.keep("e", "e" * 11)  # is more than all that may be kept
    assert len(cache) == 0 and cache.bytes == 0 and cache.get("e") is None
    cache.keep("f", "f")
    cache.clear()
    assert cache.bytes == 0 and "f" not in cache

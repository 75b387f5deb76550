"""Whom new entries wake: all whom they may concern, whenever they looked last, and nobody else."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from api.streams import MOST_NEWS, Interests, News, StreamLimits, Streams, TooManySubscriptionsError
from ledger.tail import Tail

LIMIT_S = 30
BOB, EVE = frozenset({"bob"}), frozenset({"eve"})


class Telling:
    """A ledger that grows when a test says so, and news of it; ``spans`` are those that were asked about."""

    def __init__(self, *answers: Interests | Exception) -> None:
        self.tail = _Tail(object())  # type: ignore[arg-type]
        self.answers = list(answers)
        self.spans: list[tuple[int, int]] = []
        self.news = News(self.tail, self._concerned)

    async def _concerned(self, first: int, end: int) -> Interests:
        self.spans.append((first, end))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(self, size: int, interests: Interests, timeout_s: float = LIMIT_S) -> "asyncio.Task[int]":
        """Somebody who has looked at so many entries and waits."""
        return asyncio.create_task(self.news.wait(size, interests, timeout_s))

    async def grow(self, size: int) -> None:
        """Record entries, and wait until they are told of."""
        self.tail.learn(size)
        while self.news._told < size:  # noqa: ASYNC110 - nobody is told when
            await asyncio.sleep(0)


class _Tail(Tail):
    """A tail without a thread."""

    def _wake(self) -> None:
        pass


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on an event loop, for no longer than is reasonable."""

    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await test()

    asyncio.run(limited())


async def ended(waiting: Awaitable[int]) -> int:
    """What somebody who is woken is told."""
    async with asyncio.timeout(LIMIT_S / 2):
        return await waiting


def test_those_are_woken_whom_it_concerns() -> None:
    """From where they had looked; who follows everything always is."""

    async def test() -> None:
        telling = Telling(BOB)
        bob, eve, all_ = telling.wait(7, BOB), telling.wait(7, EVE), telling.wait(7, None)
        await asyncio.sleep(0)
        await telling.grow(9)
        assert await ended(bob) == 7
        assert await ended(all_) == 7
        assert not eve.done()
        eve.cancel()

    run(test)


def test_others_need_not_look_at_what_does_not_concern_them() -> None:
    """Neither when time is up, nor when something does at last."""

    async def test() -> None:
        telling = Telling(BOB, BOB, EVE)
        brief, eve = telling.wait(7, EVE, 0.2), telling.wait(7, EVE)
        await asyncio.sleep(0)
        await telling.grow(9)
        await telling.grow(12)
        assert await ended(brief) == 12
        await telling.grow(14)
        assert await ended(eve) == 12
        assert telling.spans == [(7, 9), (9, 12), (12, 14)]

    run(test)


def test_who_looked_before_the_news_looks_again() -> None:
    """It was told of before this one waited: nobody would be woken for it."""

    async def test() -> None:
        telling = Telling(BOB)
        other = telling.wait(7, EVE)
        await asyncio.sleep(0)
        await telling.grow(9)
        assert await ended(telling.wait(8, BOB)) == 8
        late = telling.wait(9, BOB)
        await asyncio.sleep(0.05)
        assert not late.done()
        late.cancel()
        other.cancel()

    run(test)


def test_who_comes_while_it_is_asked_is_told_too() -> None:
    """The question was put before, about the entries that this one waits for."""

    async def test() -> None:
        telling = Telling(BOB)
        asked, go_on = asyncio.Event(), asyncio.Event()
        answer = telling._concerned

        async def slowly(first: int, end: int) -> Interests:
            asked.set()
            await go_on.wait()
            return await answer(first, end)

        telling.news._concerned = slowly
        eve = telling.wait(7, EVE)
        await asyncio.sleep(0)
        telling.tail.learn(9)
        await asked.wait()
        bob = telling.wait(7, BOB)
        await asyncio.sleep(0)
        go_on.set()
        assert await ended(bob) == 7
        eve.cancel()

    run(test)


def test_who_is_woken_still_looks_from_where_it_was_when_more_is_new() -> None:
    """It did not run yet, and what comes next does not concern it; what it was woken for does."""

    async def test() -> None:
        telling = Telling(BOB, EVE)
        bob = telling.wait(7, BOB)
        await asyncio.sleep(0)
        await telling.news._tell_of(9)
        await telling.news._tell_of(12)
        assert await ended(bob) == 7

    run(test)


@pytest.mark.parametrize("answer", [None, RuntimeError("no answer")])
def test_all_look_when_it_may_concern_anyone(answer: Interests | Exception) -> None:
    """Also when it cannot be found out."""

    async def test() -> None:
        telling = Telling(answer)
        waiting = [telling.wait(7, interests) for interests in (BOB, EVE, None)]
        await asyncio.sleep(0)
        await telling.grow(8)
        assert [await ended(each) for each in waiting] == [7, 7, 7]

    run(test)


def test_all_look_when_there_is_much_that_is_new() -> None:
    async def test() -> None:
        telling = Telling()
        waiting = [telling.wait(7, interests) for interests in (BOB, EVE)]
        await asyncio.sleep(0)
        await telling.grow(8 + MOST_NEWS)
        assert [await ended(each) for each in waiting] == [7, 7]
        assert telling.spans == []

    run(test)


def test_telling_begins_again_after_nobody_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was recorded meanwhile is nobody's news."""
    monkeypatch.setattr("api.streams.IDLE_S", 0.02)

    async def test() -> None:
        telling = Telling(BOB)
        assert await ended(telling.wait(7, BOB, 0.01)) == 7
        while telling.news._telling is not None:  # noqa: ASYNC110 - nobody is told when
            await asyncio.sleep(0.01)
        telling.tail.learn(20)
        bob = telling.wait(20, BOB)
        await asyncio.sleep(0)
        await telling.grow(21)
        assert await ended(bob) == 20
        assert telling.spans == [(20, 21)]

    run(test)


def test_nothing_is_passed_over_when_telling_has_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waited before looks again, though somebody else had it begin anew behind what is new."""
    monkeypatch.setattr("api.streams.RETRY_S", 0.05)

    async def test() -> None:
        telling = Telling(EVE, EVE)
        bob = telling.wait(10, BOB)
        while not telling.tail._watchers:  # noqa: ASYNC110 - nobody is told when
            await asyncio.sleep(0)
        with monkeypatch.context() as patched:
            patched.setattr(telling.tail, "watching", _failing)
            await telling.grow(11)
            while "nobody can be told" not in caplog.text:  # noqa: ASYNC110 - nobody is told when
                await asyncio.sleep(0)
        telling.tail.learn(15)
        other = telling.wait(15, EVE)
        assert await ended(bob) <= 11
        other.cancel()

    run(test)


def _failing(*_: object) -> None:
    raise OSError("no pipe")


def test_who_missed_news_is_woken_and_not_led_past_them() -> None:
    """Whatever made it miss them."""

    async def test() -> None:
        telling = Telling(EVE)
        bob = telling.wait(10, BOB)
        await asyncio.sleep(0)
        telling.news._told = 15
        await telling.news._tell_of(17)
        assert await ended(bob) == 10

    run(test)


def test_telling_ends_with_the_service() -> None:
    """And leaves nobody waiting."""

    async def test() -> None:
        telling = Telling()
        bob = telling.wait(7, BOB)
        await asyncio.sleep(0)
        await telling.news.close()
        assert telling.news._telling is None
        assert await ended(bob) == 7
        await telling.news.close()

    run(test)


def test_subscriptions_from_one_address_are_limited() -> None:
    """Whosever they are; a place is free again when one has ended."""
    streams = Streams(Telling().news, StreamLimits(total=10, per_account=2, per_address=3), 4)
    with streams.place("alice", "a"), streams.place("alice", "a"), streams.place("bob", "b"):
        with streams.place("bob", "a"):
            with pytest.raises(TooManySubscriptionsError, match="3 subscriptions from this address"):
                streams.place("eve", "a").__enter__()
            with pytest.raises(TooManySubscriptionsError, match="2 subscriptions of this account"):
                streams.place("alice", "b").__enter__()
        with streams.place("eve", "a"):
            pass

"""The tail of the ledger: whoever waits hears of every commit, of whatever process, and of none that did not happen."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
import sqlalchemy as sa

from ledger import tail as tails
from ledger.store import CHANNEL, Changes, Store, open_engine
from ledger.tail import Tail
from tests.postgres import connect
from tests.worlds import World

LIMIT_S = 30


@pytest.fixture
def tail(world: World) -> Iterator[Tail]:
    """A tail on connections of its own, as another process has it."""
    engine = open_engine(world.url)
    with Tail(Store(engine, world.origin)) as tail:
        yield tail
    engine.dispose()


def waits_for(tail: Tail, size: int, stack: ExitStack) -> threading.Event:
    """Something that is set when the tail tells of more entries than ``size``."""
    told = threading.Event()
    stack.enter_context(tail.watching(size, told.set))
    return told


def test_entries_of_others_are_told(world: World, tail: Tail) -> None:
    """One entry after the other, each before the next is recorded."""
    for size in range(1, 6):
        with ExitStack() as stack:
            told = waits_for(tail, size, stack)
            assert not told.is_set()
            world.add_member()
            assert told.wait(LIMIT_S)


def test_who_comes_late_is_told_at_once(world: World, tail: Tail) -> None:
    """The entries were there before anyone waited."""
    world.add_members(3)
    with ExitStack() as stack:
        assert waits_for(tail, 3, stack).wait(LIMIT_S)
        assert waits_for(tail, 0, stack).wait(LIMIT_S)


def test_each_is_told_only_of_what_it_waits_for(world: World, tail: Tail) -> None:
    """Sizes differ; a watcher of a size that is not reached yet hears nothing."""
    with ExitStack() as stack:
        near, far = waits_for(tail, 1, stack), waits_for(tail, 2, stack)
        world.add_member()
        assert near.wait(LIMIT_S)
        assert not far.is_set()
        world.add_member()
        assert far.wait(LIMIT_S)


def test_nobody_is_told_twice_or_after_they_left(world: World, tail: Tail) -> None:
    calls: list[str] = []
    with tail.watching(1, lambda: calls.append("gone")):
        pass
    with tail.watching(1, lambda: calls.append("there")), ExitStack() as stack:
        for size in (1, 2):
            told = waits_for(tail, size, stack)
            world.add_member()
            assert told.wait(LIMIT_S)
    assert calls == ["there"]


def test_what_this_process_recorded_is_known_without_asking() -> None:
    """No database is needed to pass it on."""
    tail = Tail(object())  # type: ignore[arg-type]
    told = threading.Event()
    tail.learn(2)
    with tail.watching(1, told.set):
        assert told.is_set()


def test_sequencer_passes_on_how_far_it_is(world: World) -> None:
    """Sizes never decrease but for what was recorded before."""
    sizes: list[int] = []
    with world.make_sequencer(recorded=sizes.append) as sequencer:
        for _ in range(3):
            sequencer.submit([world.open_member(world.make_key())]).result(LIMIT_S)
    assert sizes == [2, 3, 4]


@pytest.mark.postgres
def test_notifications_are_sent_with_the_commit_alone(postgres_database: str) -> None:
    """A batch that is rolled back is announced to nobody; others of the database are told apart by their number."""
    with (
        World(postgres_database) as world,
        World(postgres_database, origin="ledger.example/other") as other,
        closing(connect(sa.make_url(postgres_database))) as connection,
    ):
        connection.execute(f"LISTEN {CHANNEL}")
        with world.store.write() as transaction:
            transaction.write(Changes(), transaction.lock_head())
            transaction.connection.rollback()
        world.add_member()
        other.add_member()
        payloads = [notice.payload for notice in connection.notifies(timeout=LIMIT_S, stop_after=2)]
    assert payloads == [f"{world.store.ledger_id} 2", f"{other.store.ledger_id} 2"]


@pytest.mark.postgres
def test_another_ledger_of_the_database_is_not_mistaken_for_this_one(postgres_database: str) -> None:
    with (
        World(postgres_database) as world,
        World(postgres_database, origin="ledger.example/other") as other,
        Tail(world.store) as tail,
        ExitStack() as stack,
    ):
        mine = waits_for(tail, 1, stack)
        other.add_members(3)
        assert not mine.wait(2 * tails.NOTIFIED_POLL_S)
        world.add_member()
        assert mine.wait(LIMIT_S)


@pytest.mark.postgres
def test_lost_notifications_are_made_up_for(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a pooler: it listens where nobody says anything."""
    monkeypatch.setattr(tails, "CHANNEL", "elsewhere")
    with World(postgres_database) as world, Tail(world.store) as tail, ExitStack() as stack:
        for size in (1, 2):
            told = waits_for(tail, size, stack)
            world.add_member()
            assert told.wait(LIMIT_S)


@pytest.mark.postgres
def test_tail_comes_back_after_its_connection_was_cut(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was recorded meanwhile is told when it is back."""
    monkeypatch.setattr(tails, "RETRY_S", 0.2)
    with World(postgres_database) as world, Tail(world.store) as tail, ExitStack() as stack:
        assert waits_for(tail, 0, stack).wait(LIMIT_S)
        told = waits_for(tail, 1, stack)
        with world.engine.connect() as connection:
            cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            connection.execute(sa.text(f"{cut} AND pid <> pg_backend_pid()"))
        world.engine.dispose()
        give_up_at = time.monotonic() + LIMIT_S
        while "trying again" not in caplog.text:
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
        world.add_member()
        assert told.wait(LIMIT_S)


def test_who_still_watches_a_closed_tail_writes_nowhere(world: World) -> None:
    """Its descriptors may be somebody else's by then."""
    with Tail(world.store) as tail:
        pass
    reader, writer = os.pipe()
    try:
        os.set_blocking(reader, False)
        with tail.watching(10**6, lambda: None):
            pass
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)

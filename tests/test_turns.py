"""Whose turn it is: one of several processes on a database, until it ends."""

import multiprocessing
import stat
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import sqlalchemy as sa

from ledger.store import Store, UnavailableError, open_engine
from ledger.turns import Turn
from tests.worlds import World

WORK = "witness"


def test_one_of_several_has_the_turn(world: World) -> None:
    """Until it lets go; the one that has it is told so each time. Another work and another ledger have their own."""
    first, second = Turn(world.store, WORK), Turn(world.store, WORK)
    assert [first.take(), second.take(), first.take(), second.take()] == [True, False, True, False]
    with World(world.url, origin="ledger.example/second", seed=1) as other:
        for elsewhere in (Turn(other.store, WORK), Turn(world.store, "webhook")):
            assert elsewhere.take()
            elsewhere.release()
    first.release()
    assert [second.take(), first.take()] == [True, False]
    second.release()
    second.release()


def wait_with_turn(url: str, origin: str, taken: Event) -> None:
    """The program of a process that takes the turn and never lets go."""
    assert Turn(Store(open_engine(url), origin), WORK).take()
    taken.set()
    time.sleep(600)


def test_turn_ends_with_its_process(world: World) -> None:
    """However it ends: nothing is left behind that somebody would have to clear away."""
    spawn = multiprocessing.get_context("spawn")
    taken = spawn.Event()
    process = spawn.Process(target=wait_with_turn, args=(world.url, world.origin, taken), daemon=True)
    process.start()
    assert taken.wait(60)
    turn = Turn(world.store, WORK)
    assert not turn.take()
    process.kill()
    process.join()
    while not turn.take():  # PostgreSQL notices a moment later
        pass
    turn.release()


@pytest.mark.postgres
def test_turn_is_lost_with_the_session(postgres_database: str) -> None:
    """A server that restarts takes locks with it: that is told, and the turn taken anew."""
    with World(postgres_database) as world:
        turn = Turn(world.store, WORK)
        assert turn.take()
        with world.engine.connect() as connection:
            connection.execute(sa.text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
        with pytest.raises(UnavailableError, match="did not answer"):
            turn.take()
        assert turn.take()
        turn.release()


def test_lock_file_is_the_owners_alone(tmp_path: Path) -> None:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        turn = Turn(world.store, WORK)
        assert turn.take()
        (file,) = tmp_path.glob("ledger.sqlite-witness-*")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        turn.release()

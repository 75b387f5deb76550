"""The server's scheduler does due work by itself: one of several, for as long as it runs, whatever fails in between."""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from api.due_work import DueScheduler, due_wallet, operator_of
from api.settings import Settings, SettingsError
from ledger.due import Submit
from ledger.keyring import KeyFileError, save_private_key
from ledger.operations import SignedOperation
from ledger.sequencer import Outcome
from ledger.state import Rejection
from ledger.store import UnavailableError
from ledger.wallet import Wallet
from tests.service import key_file, running
from tests.test_due import add_asset, entries, found, give, hold, make_backlog, released, retired
from tests.witnesses import until
from tests.worlds import World

INTERVAL_MS = 20
LOGGER = "guerdon.due"


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[World]:
    """A world on SQLite alone, where nothing depends on the database."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield world


def scheduling(world: World, wallet: Wallet | None = None, submit: Submit | None = None) -> closing[DueScheduler]:
    """A scheduler with the world's sequencer, until the block ends."""
    submit = submit or world.sequencer.submit
    scheduler = DueScheduler(world.store, submit, wallet or world.operator, world.clock, interval_ms=INTERVAL_MS)
    return closing(scheduler.start())


def make_more(world: World, code: str) -> None:
    """An asset of which two lots and a hold are due."""
    shop, members = world.add_merchant(), world.add_members(2)
    add_asset(world, shop, code, days=1)
    give(world, shop, code, members)
    hold(world, members[0], code, shop, 3)
    world.clock.advance(days=9)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.message) for record in caplog.records if record.name == LOGGER]


def test_scheduler_does_what_is_due_and_what_becomes_due(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """At once, and again; a line in the log tells what, and where nothing is due nothing is recorded or told."""
    caplog.set_level(logging.INFO, LOGGER)
    lots, holds = make_backlog(world)
    with scheduling(world):
        until(lambda: len(logged(caplog)) == 3)
        assert (found(world), len(retired(world)), len(released(world))) == ([], lots, holds)
        size = len(entries(world))
        time.sleep(5 * INTERVAL_MS / 1000)
        assert len(entries(world)) == size
        make_more(world, "MORE")
        until(lambda: len(logged(caplog)) == 4)
    assert (found(world), len(retired(world)), len(released(world))) == ([], lots + 2, holds + 1)
    words = "due work in MORE: 2 lots of 20 points expired, 1 lapsed holds of 3 points released, "
    words += "0 points of 0 purchases vested, 0 tiers reviewed, 0 members reminded, 0 birthdays"
    assert logged(caplog)[-1] == ("INFO", words)


def test_one_of_several_schedulers_works(world: World) -> None:
    """The others look whether it still does; when it has ended, one of them goes on."""
    submitted: list[str] = []

    def noting(name: str) -> Submit:
        def hand_in(items: Sequence[SignedOperation | Rejection]) -> Future[list[Outcome]]:
            submitted.append(name)
            return world.sequencer.submit(items)

        return hand_in

    with scheduling(world, submit=noting("first")) as first:
        make_more(world, "ONE")
        until(lambda: found(world) == [])
        with scheduling(world, submit=noting("second")):
            make_more(world, "TWO")
            until(lambda: found(world) == [])
            assert set(submitted) == {"first"}
            first.close()
            make_more(world, "THREE")
            until(lambda: found(world) == [])
    assert set(submitted) == {"first", "second"}
    assert len(retired(world)) == len(set(retired(world))) == 6
    assert len(released(world)) == len(set(released(world))) == 3


def test_scheduler_survives_what_fails(embedded: World, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal, a database that is gone, a fault of ours: each is told once, and what is due is done afterwards."""
    failing: list[Exception | None] = [UnavailableError("the database did not answer: gone")]

    def hand_in(items: Sequence[SignedOperation | Rejection]) -> Future[list[Outcome]]:
        if failing[-1] is not None:
            raise failing[-1]
        return embedded.sequencer.submit(items)

    make_more(embedded, "STAR")
    with scheduling(embedded, submit=hand_in):
        until(lambda: len(logged(caplog)) == 1)
        failing.append(ValueError("a fault"))
        until(lambda: len(logged(caplog)) == 2)
        time.sleep(3 * INTERVAL_MS / 1000)
        assert retired(embedded) == []
        failing.append(None)
        until(lambda: found(embedded) == [])
    assert logged(caplog)[:2] == [
        ("WARNING", "not all that is due is done: the database did not answer: gone"),
        ("WARNING", "not all that is due is done: a fault"),
    ]
    assert len(retired(embedded)) == 2


def test_key_that_is_not_the_accounts_is_told_once(embedded: World, caplog: pytest.LogCaptureFixture) -> None:
    make_more(embedded, "STAR")
    stranger = embedded.wallet(embedded.operator.account, embedded.make_key())
    with scheduling(embedded, stranger):
        until(lambda: logged(caplog))
        time.sleep(3 * INTERVAL_MS / 1000)
    ((level, words),) = logged(caplog)
    assert level == "WARNING"
    assert words.startswith("not all that is due is done: SIGNATURE_")
    assert retired(embedded) == []


def test_closing_waits_for_nothing_but_the_submission_under_way(embedded: World) -> None:
    """What was not done is left for later."""
    make_backlog(embedded)
    scheduler: list[DueScheduler] = []

    def hand_in(items: Sequence[SignedOperation | Rejection]) -> Future[list[Outcome]]:
        until(lambda: scheduler)
        scheduler[0]._stopping.set()  # as close does, from another thread
        return embedded.sequencer.submit(items)

    with scheduling(embedded, submit=hand_in) as started:
        scheduler.append(started)
        until(lambda: released(embedded))
    assert retired(embedded) == []
    assert found(embedded) != []


# In a server


def settings_of(world: World, folder: Path, **given: Any) -> Settings:
    own: dict[str, Any] = {"log_key_file": key_file(folder, world.log_key), "database_url": world.url}
    return Settings(data=folder, **own | {"due_key_files": (key_file(folder, world.operator.keys[0]),)} | given)


def test_server_does_due_work(embedded: World, tmp_path: Path) -> None:
    """With the key that its settings name, for the operator unless they name another account."""
    make_more(embedded, "STAR")
    key = key_file(tmp_path, embedded.operator.keys[0])
    with running(embedded, tmp_path, due_key_files=(key,), due_interval_s=1):
        until(lambda: found(embedded) == [])
    assert (len(retired(embedded)), len(released(embedded))) == (2, 1)


@pytest.mark.parametrize("given", [{"due_interval_s": 0}, {"due_key_files": ()}], ids=["interval", "no key"])
def test_scheduler_can_be_off(embedded: World, tmp_path: Path, given: dict[str, Any]) -> None:
    assert due_wallet(settings_of(embedded, tmp_path, **given), embedded.store, embedded.clock) is None


def test_wallet_is_of_the_account_and_keys_that_are_named(embedded: World, tmp_path: Path) -> None:
    """Several keys, where the account's threshold asks for them, under the passphrase of the server's keys."""
    shop = embedded.add_merchant()
    (tmp_path / "passphrase").write_bytes(b"correct horse\n")
    files = (tmp_path / "a.pem", tmp_path / "b.pem")
    keys = [embedded.make_key() for _ in files]
    for file, key in zip(files, keys, strict=True):
        save_private_key(file, key, b"correct horse")
    fields = {"due_key_files": files, "key_passphrase_file": tmp_path / "passphrase"}
    wallet = due_wallet(settings_of(embedded, tmp_path, **fields), embedded.store, embedded.clock)
    assert wallet is not None
    assert wallet.account == operator_of(embedded.store) == embedded.operator.account
    assert [key.private_bytes_raw() for key in wallet.keys] == [key.private_bytes_raw() for key in keys]
    fields |= {"due_account": str(shop.account)}
    wallet = due_wallet(settings_of(embedded, tmp_path, **fields), embedded.store, embedded.clock)
    assert wallet is not None
    assert wallet.account == shop.account


def test_server_does_not_start_without_the_account_or_the_key(embedded: World, tmp_path: Path) -> None:
    """What is wrong is said at the start, with the variable's name or the file's."""
    member = embedded.add_member()
    with (
        pytest.raises(SettingsError, match=r"^GUERDON_DUE_ACCOUNT: mem_.* is no account of the operator or a merchant"),
        running(embedded, tmp_path, **_due(embedded, tmp_path, due_account=str(member.account))),
    ):
        pass
    with (
        pytest.raises(KeyFileError, match=r"missing\.pem cannot be read"),
        running(embedded, tmp_path, **_due(embedded, tmp_path, due_key_files=(tmp_path / "missing.pem",))),
    ):
        pass


def _due(world: World, folder: Path, **given: Any) -> dict[str, Any]:
    return {"due_key_files": (key_file(folder, world.operator.keys[0]),)} | given


def test_settings_of_due_work_are_read() -> None:
    environ = {
        "GUERDON_DUE_ACCOUNT": "opr_" + "a" * 26,
        "GUERDON_DUE_KEY_FILE": "/run/a.pem:/run/b.pem",
        "GUERDON_DUE_INTERVAL_S": "60",
    }
    settings = Settings.from_environment(environ)
    assert settings.due_account == "opr_" + "a" * 26
    assert settings.due_key_files == (Path("/run/a.pem"), Path("/run/b.pem"))
    assert settings.due_interval_s == 60
    unset = Settings.from_environment({})
    assert (unset.due_account, unset.due_key_files, unset.due_interval_s) == (None, (), 300)


@pytest.mark.parametrize(
    ("name", "value"),
    [("GUERDON_DUE_ACCOUNT", "operator"), ("GUERDON_DUE_INTERVAL_S", "-1"), ("GUERDON_DUE_KEY_FILE", "a.pem:")],
)
def test_bad_setting_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name} is '.*': use "):
        Settings.from_environment({name: value})

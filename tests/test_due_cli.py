"""The command `guerdon run-due`: what it shows, what it does, and how it ends."""

import json
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ledger.operations import SignedOperation
from ledger.sequencer import Outcome, Sequencer
from ledger.state import Rejection
from ledger.wallet import Wallet
from tests.service import key_file
from tests.test_cli import fail, guerdon, succeed
from tests.test_due import add_asset, entries, found, give, hold, retired
from tests.worlds import Clock, World

LONG_AGO = "2020-03-02T12:00:00.000Z"


class Neglected(NamedTuple):
    """The ledger the settings name, and the options of those who can do its due work."""

    world: World
    operator: tuple[str, ...]
    merchants: dict[str, tuple[str, ...]]


@pytest.fixture
def neglected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Neglected]:
    """Points of two merchants that nobody looked after for years."""

    def options(wallet: Wallet) -> tuple[str, ...]:
        return ("--account", str(wallet.account), "--key", str(key_file(tmp_path, wallet.keys[0])))

    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}", clock=Clock(LONG_AGO)) as world:
        monkeypatch.setenv("GUERDON_DATABASE_URL", world.url)
        monkeypatch.setenv("GUERDON_DATA", str(tmp_path))
        monkeypatch.setenv("GUERDON_LOG_KEY_FILE", str(key_file(tmp_path, world.log_key)))
        members = world.add_members(3)
        shops = {code: world.add_merchant(code) for code in ("COIN", "STAR")}
        for code, shop in shops.items():
            add_asset(world, shop, code)
            give(world, shop, code, members, points=1_250)
            hold(world, members[0], code, shop, 250)
        world.clock.advance(days=365 * 5)
        world.restart()
        yield Neglected(world, options(world.operator), {code: options(shop) for code, shop in shops.items()})


def pieces(table: str, asset: str) -> list[list[str]]:
    """What a table shows of an asset, a line for each kind of work."""
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in table.splitlines()]
    return [row[1:] for row in rows if row[0] == asset]


def test_dry_run_shows_what_is_due_and_does_nothing(neglected: Neglected) -> None:
    """Without a key, of everything unless an account is named; also for programs."""
    size = len(entries(neglected.world))
    table = succeed("run-due", "--dry-run")
    assert pieces(table, "STAR") == [["lots due", "3", "3500"], ["holds lapsed", "1", "250"]]
    answer = json.loads(succeed("run-due", "--dry-run", "--json", "--asset", "STAR"))
    (star,) = answer["due"]
    assert star.pop("through") >= "2026-01-01"
    assert star == {
        "asset": "STAR",
        "lots": 3,
        "points": 3_500,
        "holds": 1,
        "held_points": 250,
        "vesting": 0,
        "vesting_points": 0,
        "members": 0,
        "vests_since": None,
        "tiers_until": None,
        "first_day": "2020-03-12",
        "lapsed_since": "2020-03-02T13:00:00.000Z",
    }
    assert len(entries(neglected.world)) == size


def test_run_does_what_is_due_once(neglected: Neglected) -> None:
    """Shown as people read it; then nothing is due."""
    table = succeed("run-due", *neglected.operator)
    assert pieces(table, "COIN") == [["lots expired", "3", "3750"], ["holds released", "1", "250"]]
    assert (found(neglected.world), len(retired(neglected.world))) == ([], 6)
    size = len(entries(neglected.world))
    assert succeed("run-due", *neglected.operator) == succeed("run-due", "--dry-run") == "nothing is due\n"
    assert len(entries(neglected.world)) == size


def test_merchant_does_its_part(neglected: Neglected) -> None:
    """And says so in JSON, in the smallest unit."""
    answer = json.loads(succeed("run-due", *neglected.merchants["STAR"], "--json"))
    done = {"asset": "STAR", "lots": 3, "points": 3_750, "holds": 1, "held_points": 250}
    done |= {"vesting": 0, "vesting_points": 0, "members": 0, "reminded": 0, "birthdays": 0}
    assert (answer["done"], answer["complete"], answer["refused"], answer["trouble"]) == ([done], True, 0, None)
    assert [each.asset for each in found(neglected.world)] == ["COIN"]


def test_key_and_account_may_be_those_of_the_server(
    neglected: Neglected, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, file = neglected.merchants["COIN"][1::2]
    monkeypatch.setenv("GUERDON_DUE_ACCOUNT", account)
    monkeypatch.setenv("GUERDON_DUE_KEY_FILE", file)
    succeed("run-due")
    assert [each.asset for each in found(neglected.world)] == ["STAR"]


def test_run_that_does_not_do_everything_fails(neglected: Neglected, tmp_path: Path) -> None:
    """With one line that says why, after what was done."""
    stranger = key_file(tmp_path, neglected.world.make_key())
    words = fail("run-due", "--account", str(neglected.world.operator.account), "--key", stranger)
    assert words.startswith("not all that is due is done: SIGNATURE_")
    result = guerdon("run-due", "--key", stranger, "--json")
    answer = json.loads(result.out)
    assert (result.status, answer["complete"], answer["done"]) == (1, False, [])
    assert answer["trouble"].startswith("SIGNATURE_")


def test_interrupted_run_tells_what_it_did(neglected: Neglected, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C lets what is under way be recorded; the next run goes on, and Ctrl-C is what it was before."""
    submit = Sequencer.submit

    def interrupt(self: Sequencer, items: Sequence[SignedOperation | Rejection]) -> Future[list[Outcome]]:
        signal.raise_signal(signal.SIGINT)
        return submit(self, items)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Sequencer, "submit", interrupt)
        result = guerdon("run-due", *neglected.operator, "--json")
    assert (result.status, result.err) == (1, "guerdon: not all that is due is done: stopped\n")
    assert [(done["holds"], done["lots"]) for done in json.loads(result.out)["done"]] == [(1, 0), (1, 0)]
    assert signal.getsignal(signal.SIGINT) is before
    succeed("run-due", *neglected.operator)
    assert found(neglected.world) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--asset", "NONE"), "there is no asset NONE"),
        (("--account", "mer_nobody"), "mer_nobody is no account of the operator or a merchant: these do due work"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(neglected: Neglected, arguments: tuple[Any, ...], message: str) -> None:
    assert fail("run-due", "--dry-run", *arguments) == message


def test_without_a_key_it_is_a_wrong_call(neglected: Neglected) -> None:
    result = guerdon("run-due")
    assert result.status == 2
    assert "GUERDON_DUE_KEY_FILE" in result.err

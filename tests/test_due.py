"""Due work is found and done: each piece once, whoever does it, however late, and wherever a run was cut off."""

import json
import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from ledger import due
from ledger.due import DueFilter, DueOfAsset, DueReport, DueRun, due_assets, due_filter, lapsed_holds
from ledger.encoding import account_id, format_time, parse_time
from ledger.operations import Capture, Freeze, Grant, Hold, Redeem, Release, SignedOperation
from ledger.program_terms import ExpiresAfterDays
from ledger.queries import Page
from ledger.sequencer import Outcome, Recorded
from ledger.state import Code, Rejection
from ledger.store import StoreError, UnavailableError
from ledger.tables import ENTRY
from ledger.wallet import Wallet
from tests.partners import hold_of
from tests.worlds import ANSWER_LIMIT_S, DAY_MS, World, make_program

HOUR_MS = 3_600_000
EVERYTHING = DueFilter()
ALL = Page(limit=1_000)


def add_asset(world: World, shop: Wallet, code: str, days: int = 10, zone: str = "UTC") -> None:
    """An asset whose points live some days of a time zone."""
    world.add_asset(shop, code, make_program(expiry=ExpiresAfterDays(count=days), time_zone=zone))


def give(world: World, shop: Wallet, code: str, members: Sequence[Wallet], points: int = 10) -> None:
    """Points of today for each, in one commit."""
    fields: dict[str, Any] = {"asset": code, "amount": points, "activity": "goodwill"}
    numbers = [world.random.randbytes(9).hex() for _ in members]
    world.record(
        *(shop.sign(Grant, member=m.account, reference=n, **fields) for m, n in zip(members, numbers, strict=True))
    )


def hold(world: World, member: Wallet, code: str, shop: Wallet, points: int) -> str:
    """A hold that lapses in an hour."""
    until = format_time(world.clock.now_ms + HOUR_MS)
    (placed,) = world.record(member.sign(Hold, asset=code, amount=points, merchant=shop.account, until=until))
    return hold_of(placed)


def found(world: World, wanted: DueFilter = EVERYTHING, page: Page = ALL) -> list[DueOfAsset]:
    """What is due by the world's clock."""
    with world.store.read() as connection:
        return due_assets(world.store, connection, wanted, format_time(world.clock.now_ms), page)


def make_run(world: World, wallet: Wallet | None = None, **options: Any) -> DueRun:
    """A run of the operator, or of a merchant, with the world's sequencer unless another is given."""
    wallet = wallet or world.operator
    with world.store.read() as connection:
        wanted = options.pop("wanted", None) or due_filter(world.store, connection, str(wallet.account))
    submit = options.pop("submit", world.sequencer.submit)
    return DueRun(world.store, submit, wallet, world.clock, wanted, **options)


def run(world: World, wallet: Wallet | None = None, **options: Any) -> DueReport:
    return make_run(world, wallet, **options).run()


def entries(world: World) -> list[dict[str, Any]]:
    with world.store.read() as connection:
        query = sa.select(ENTRY.c.data).where(ENTRY.c.ledger_id == world.store.ledger_id).order_by(ENTRY.c.seq)
        return [json.loads(data) for data in connection.execute(query).scalars()]


def retired(world: World) -> list[tuple[str, str, str]]:
    """Account, asset and last day of each lot that an entry retired."""
    legs = [leg for entry in entries(world) if entry["op"]["kind"] == "expire" for leg in entry["postings"][:-1]]
    return [(leg["account"], leg["asset"], leg["lot"]) for leg in legs]


def released(world: World) -> list[str]:
    return [entry["op"]["hold"] for entry in entries(world) if entry["op"]["kind"] == "release"]


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[World]:
    """A world on SQLite alone, where nothing depends on the database."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield world


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of few pieces, so that little work is many of them."""
    monkeypatch.setattr(due, "MAX_EXPIRED_LOTS", 3)
    monkeypatch.setattr(due, "EXPIRIES_TOGETHER", 2)
    monkeypatch.setattr(due, "HOLDS_TOGETHER", 2)
    monkeypatch.setattr(due, "ASSETS_TOGETHER", 2)


def make_backlog(world: World) -> tuple[int, int]:
    """Three assets, of which lots and holds have been due for months; how many lots and holds."""
    shops = [world.add_merchant() for _ in range(3)]
    members = world.add_members(10)
    for number, shop in enumerate(shops):
        add_asset(world, shop, f"DUE{number}", days=2)
        give(world, shop, f"DUE{number}", members[number:], points=10)
    world.clock.advance(days=1)
    give(world, shops[0], "DUE0", members[:4])
    for number, member in enumerate(members[3:8]):
        hold(world, member, f"DUE{number % 3}", shops[number % 3], 10)
    world.clock.advance(days=100)
    return 10 + 9 + 8 + 4, 5


# What is due


def test_day_ends_where_the_program_says(world: World) -> None:
    """From one side of the date line to the other: a lot is due from the first millisecond of the next day there."""
    zones = {"KIRI": "Pacific/Kiritimati", "UTC": "UTC", "ANGEL": "America/Los_Angeles", "PAGO": "Pacific/Pago_Pago"}
    shop, member = world.add_merchant(), world.add_member()
    for code, zone in zones.items():
        add_asset(world, shop, code, days=3, zone=zone)
        give(world, shop, code, [member])
    ends = {
        "KIRI": "2026-03-06T10:00:00.000Z",  # given on 3 March there, at noon of the 2nd in UTC
        "UTC": "2026-03-06T00:00:00.000Z",
        "ANGEL": "2026-03-06T08:00:00.000Z",
        "PAGO": "2026-03-06T11:00:00.000Z",
    }
    days = {"KIRI": "2026-03-06", "UTC": "2026-03-05", "ANGEL": "2026-03-05", "PAGO": "2026-03-05"}
    over: set[str] = set()
    for code, end in sorted(ends.items(), key=lambda each: each[1]):
        world.clock.now_ms = parse_time(end) - 1
        assert {each.asset for each in found(world)} == over
        world.clock.advance(ms=1)
        over.add(code)
        mine = next(each for each in found(world) if each.asset == code)
        assert (mine.through, mine.first_day, mine.lots, mine.points) == (days[code], days[code], 1, 10)
        report = run(world, wanted=DueFilter(assets=(code,)))
        assert report.is_complete
        assert [(done.asset, done.lots, done.points) for done in report.assets] == [(code, 1, 10)]
        over.discard(code)


def test_hold_has_lapsed_once_its_last_millisecond_is_over(embedded: World) -> None:
    shop, member = embedded.add_merchant(), embedded.add_member()
    add_asset(embedded, shop, "STAR")
    give(embedded, shop, "STAR", [member])
    name = hold(embedded, member, "STAR", shop, 4)
    embedded.record(shop.sign(Capture, amount=1, hold=name))
    embedded.clock.advance(ms=HOUR_MS)
    assert found(embedded) == []
    assert run(embedded).assets == ()
    embedded.clock.advance(ms=1)
    (lapsed,) = found(embedded)
    assert (lapsed.holds, lapsed.held_points, lapsed.lots) == (1, 3, 0)
    assert lapsed.lapsed_since == format_time(embedded.clock.now_ms - 1)
    report = run(embedded)
    assert [(done.holds, done.held_points) for done in report.assets] == [(1, 3)]
    assert (found(embedded), report.is_complete, released(embedded)) == ([], True, [name])


def test_merchant_sees_and_does_its_part(world: World) -> None:
    """Lots of its assets, holds of these and for it; another's lots are not its to retire."""
    one, two = world.add_merchant(), world.add_merchant()
    members = world.add_members(2)
    for shop, code in ((one, "ONE"), (two, "TWO")):
        add_asset(world, shop, code)
        give(world, shop, code, members)
        hold(world, members[0], code, shop, 4)
    world.clock.advance(days=30)
    with world.store.read() as connection:
        part = due_filter(world.store, connection, str(one.account))
    assert [(each.asset, each.lots, each.holds) for each in found(world, part)] == [("ONE", 2, 1)]
    assert [(done.asset, done.lots, done.holds) for done in run(world, one).assets] == [("ONE", 2, 1)]
    assert [(each.asset, each.lots, each.holds) for each in found(world)] == [("TWO", 2, 1)]
    with world.store.read() as connection, pytest.raises(StoreError, match="no account of the operator or a merchant"):
        due_filter(world.store, connection, str(members[0].account))
    with world.store.read() as connection, pytest.raises(StoreError, match="there is no asset NONE"):
        due_filter(world.store, connection, str(one.account), ["ONE", "NONE"])


def test_pages_go_both_ways(embedded: World, small: None) -> None:
    """Also where an asset between has nothing due, and more are looked at than are in a page."""
    shop, member = embedded.add_merchant(), embedded.add_member()
    codes = [f"A{number}" for number in range(7)]
    for number, code in enumerate(codes):
        add_asset(embedded, shop, code, days=1 if number not in {2, 3, 4} else 90)
        give(embedded, shop, code, [member])
    embedded.clock.advance(days=5)
    assert [each.asset for each in found(embedded)] == ["A0", "A1", "A5", "A6"]

    def codes_of(**page: Any) -> list[str]:
        return [each.asset for each in found(embedded, page=Page(**page))]

    assert codes_of(limit=3) == ["A0", "A1", "A5"]
    assert codes_of(limit=3, after="A1") == ["A5", "A6"]
    assert codes_of(limit=3, from_end=True) == ["A1", "A5", "A6"]
    assert codes_of(limit=3, from_end=True, before="A5") == ["A0", "A1"]


def test_finding_reads_index_ranges_alone(embedded: World) -> None:
    """However many lots and holds there are that are not due: SQLite's plans say so."""
    plans: list[str] = []
    store = embedded.store
    with store.read() as connection:

        @sa.event.listens_for(connection, "before_cursor_execute")
        def explain(_: Any, cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
            plans.extend(row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())

        time = format_time(embedded.clock.now_ms)
        for wanted in (EVERYTHING, DueFilter(merchant="mer_a", assets=("STAR",))):
            due._due_lots(store, connection, {"STAR": "2026-03-01"})
            due._held(store, connection, wanted, time, {"STAR": "mer_a"})
            lapsed_holds(store, connection, wanted, time, after=None, limit=10)
    assert "SEARCH lot USING INDEX lot_due (ledger_id=? AND asset=? AND last_day<?)" in plans
    assert sum("hold_due (ledger_id=? AND status=? AND until<?" in step for step in plans) == 4
    assert not [step for step in plans if step.startswith("SCAN") and ("lot" in step or "hold" in step)], plans


# Doing it


def test_run_late_by_months_does_everything(world: World, small: None) -> None:
    """Also what returns from holds after its last day; and then nothing is due, whoever asks."""
    lots, holds = make_backlog(world)
    stages: dict[str, list[tuple[int, int]]] = {}
    report = run(world, progress=lambda stage, done, total: stages.setdefault(stage, []).append((done, total)))
    assert report.is_complete
    assert sum(done.lots for done in report.assets) == len(retired(world)) == len(set(retired(world))) == lots
    assert sum(done.holds for done in report.assets) == len(set(released(world))) == holds
    assert {done.asset: done.points for done in report.assets} == {"DUE0": 140, "DUE1": 90, "DUE2": 80}
    assert {stage: steps[-1] for stage, steps in stages.items()} == {
        due.RELEASED_STAGE: (holds, holds),
        due.EXPIRED_STAGE: (lots, lots),
    }
    size = len(entries(world))
    again = run(world)
    assert (again.assets, again.is_complete, found(world), len(entries(world))) == ((), True, [], size)


def test_several_at_once_do_each_piece_once(world: World, small: None) -> None:
    """Each with a sequencer of its own, as several servers have; and what they say they did adds up."""
    lots, holds = make_backlog(world)
    world.restart()
    reports: list[DueReport] = []
    barrier = threading.Barrier(3)

    def work() -> None:
        with world.make_sequencer() as sequencer:
            mine = make_run(world, submit=sequencer.submit)
            barrier.wait(ANSWER_LIMIT_S)
            reports.append(mine.run())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.is_complete for report in reports] == [True] * 3
    done = [each for report in reports for each in report.assets]
    assert sum(each.lots for each in done) == len(retired(world)) == len(set(retired(world))) == lots
    assert sum(each.holds for each in done) == len(released(world)) == len(set(released(world))) == holds
    assert found(world) == []


class KilledError(BaseException):
    """The process has ended."""


def killed_after(submissions: int, submit: due.Submit) -> due.Submit:
    """Submitting until the process is killed: what it submitted last is recorded, but it hears nothing of it."""
    count = 0

    def hand_in(items: Sequence[SignedOperation | Rejection]) -> Future[list[Outcome]]:
        nonlocal count
        future = submit(items)
        future.result(ANSWER_LIMIT_S)
        count += 1
        if count >= submissions:
            raise KilledError
        return future

    return hand_in


def test_run_that_is_killed_is_resumed(world: World, small: None) -> None:
    """Wherever it was: each run gets two submissions further, and nothing is done twice or left out."""
    lots, holds = make_backlog(world)
    report, killed = None, 0
    while report is None:
        try:
            report = run(world, submit=killed_after(2, world.sequencer.submit))
        except KilledError:
            killed += 1
    assert killed >= 4
    assert report.is_complete
    assert len(retired(world)) == len(set(retired(world))) == lots
    assert len(released(world)) == len(set(released(world))) == holds
    assert found(world) == []


def test_run_that_is_stopped_says_what_it_did(embedded: World, small: None) -> None:
    """And that this is not all; nothing is wrong with it."""
    _, holds = make_backlog(embedded)
    asked = iter([True, True, True, True, False])
    report = run(embedded, goes_on=lambda: next(asked))
    assert (report.finished, report.is_complete, report.trouble, report.refused) == (False, False, None, 0)
    assert sum(done.holds for done in report.assets) == holds
    assert sum(done.lots for done in report.assets) == len(retired(embedded)) == 6


def refusing(code: Code, kind: type, submit: due.Submit) -> due.Submit:
    """Submitting where operations of a kind are refused, from the second one on."""
    seen = 0

    def hand_in(items: Sequence[SignedOperation | Rejection]) -> Future[list[Outcome]]:
        nonlocal seen
        passed = []
        for item in items:
            assert isinstance(item, SignedOperation)
            seen += isinstance(item.op, kind)
            refused = isinstance(item.op, kind) and seen > 1
            passed.append(Rejection(code, "for a test", ("op",)) if refused else item)
        return submit(passed)

    return hand_in


def test_one_piece_that_is_refused_holds_up_no_other(embedded: World, small: None) -> None:
    """It is counted and named, and the run is not complete."""
    lots, _ = make_backlog(embedded)
    report = run(embedded, submit=refusing(Code.TOO_LARGE, Release, embedded.sequencer.submit))
    assert (report.refused, report.finished, report.is_complete) == (4, True, False)
    assert report.trouble is not None
    assert report.trouble.startswith("hld_")
    assert "TOO_LARGE: for a test" in report.trouble
    assert len(retired(embedded)) == lots - 4  # each hold has the whole of a lot


@pytest.mark.parametrize("code", [Code.OVERLOADED, Code.UNAVAILABLE, Code.ACCOUNT_FROZEN])
def test_refusal_of_everything_ends_the_run(embedded: World, small: None, code: Code) -> None:
    """What was recorded before is told."""
    make_backlog(embedded)
    report = run(embedded, submit=refusing(code, Release, embedded.sequencer.submit))
    assert (report.finished, report.refused, report.trouble) == (False, 0, f"{code}: for a test")
    assert sum(done.holds for done in report.assets) == len(released(embedded)) == 1
    assert retired(embedded) == []


def test_key_without_authority_does_nothing(embedded: World) -> None:
    make_backlog(embedded)
    stranger = embedded.wallet(embedded.operator.account, embedded.make_key())
    size = len(entries(embedded))
    report = run(embedded, stranger)
    assert report.trouble is not None
    assert report.trouble.startswith("SIGNATURE_")
    assert (report.is_complete, report.assets, len(entries(embedded))) == (False, (), size)


def test_frozen_holder_gets_its_points_back_and_loses_those_that_expire(embedded: World) -> None:
    """It is not the holder who acts."""
    shop, member = embedded.add_merchant(), embedded.add_member()
    add_asset(embedded, shop, "STAR")
    give(embedded, shop, "STAR", [member])
    hold(embedded, member, "STAR", shop, 4)
    embedded.record(embedded.operator.sign(Freeze, account=member.account, reason="fraud"))
    embedded.clock.advance(days=30)
    (done,) = run(embedded).assets
    assert (done.holds, done.held_points, done.lots, done.points) == (1, 4, 1, 10)


def test_database_that_fails_is_told_in_the_report(embedded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what was done before it did."""
    make_backlog(embedded)
    failing = make_run(embedded)

    def fail(*_: Any, **__: Any) -> Any:
        raise UnavailableError("the database did not answer: gone")

    monkeypatch.setattr(due, "due_assets", fail)
    report = failing.run()
    assert (report.finished, report.trouble) == (False, "the database did not answer: gone")
    assert sum(done.holds for done in report.assets) == len(released(embedded)) == 5


def test_clock_behind_the_ledger_makes_nothing_due(embedded: World) -> None:
    """What the next entry's time is at least counts, so nothing is refused for being early."""
    make_backlog(embedded)
    embedded.record(embedded.open_member(embedded.make_key()))
    embedded.clock.advance(ms=-20_000)
    report = run(embedded)
    assert report.is_complete
    assert report.time == format_time(embedded.clock.now_ms + 20_000)


# Against a reference


def hold_names(world: World) -> dict[int, str]:
    """The hold that each entry would place, by its number."""
    with world.store.read() as connection:
        rows = connection.execute(sa.select(ENTRY.c.seq, ENTRY.c.op_id)).all()
    return {seq: account_id("hld", op_id) for seq, op_id in rows}


def naive_due(world: World, zones: dict[str, str]) -> dict[str, tuple[int, int, int, int]]:
    """Lots, points, holds and held points that are due by asset: all entries added up by hand."""
    now = format_time(world.clock.now_ms)
    names = hold_names(world)
    lots: dict[tuple[str, str, str], int] = {}
    holds: dict[str, list[Any]] = {}
    for entry in entries(world):
        op, time = entry["op"], entry["time"]
        for leg in entry["postings"]:
            if "lot" in leg:
                key = (leg["account"], leg["asset"], leg["lot"])
                lots[key] = lots.get(key, 0) + leg["amount"]
        if op["kind"] in {"redeem", "hold"}:  # what has lapsed of the one who spends has returned before
            whose = (op["actor"], op["asset"])
            holds = {name: each for name, each in holds.items() if (each[0], each[1]) != whose or each[2] >= time}
        if op["kind"] == "hold":
            holds[names[entry["seq"]]] = [op["actor"], op["asset"], op["until"], op["amount"]]
        elif op["kind"] == "release":
            del holds[op["hold"]]
        elif op["kind"] == "capture":
            holds[op["hold"]][3] -= op["amount"]
            if op.get("final") or not holds[op["hold"]][3]:
                del holds[op["hold"]]
    totals: dict[str, list[int]] = {}
    for (_, code, day), points in lots.items():
        midnight = datetime.fromisoformat(f"{day}T00:00:00").replace(tzinfo=ZoneInfo(zones[code])) + timedelta(days=1)
        if points and midnight.astimezone(UTC) <= datetime.fromisoformat(now):
            total = totals.setdefault(code, [0, 0, 0, 0])
            total[0] += 1
            total[1] += points
    for _, code, until, points in holds.values():
        if until < now:
            total = totals.setdefault(code, [0, 0, 0, 0])
            total[2] += 1
            total[3] += points
    return {code: (a, b, c, d) for code, (a, b, c, d) in totals.items()}


ZONES = ("UTC", "Pacific/Kiritimati", "America/Los_Angeles", "Pacific/Pago_Pago", "Asia/Kathmandu", "America/Santiago")


@pytest.mark.parametrize("seed", range(2))
def test_what_is_due_is_what_a_reference_finds(world: World, small: None, seed: int) -> None:
    """At any time of a random history, before and after a run; runs of any length come to the same in the end."""
    chance = random.Random(f"due {seed}")
    shops = [world.add_merchant() for _ in range(2)]
    members = world.add_members(4)
    zones = {f"P{number}": zone for number, zone in enumerate(chance.sample(ZONES, 4))}
    issuer = {code: chance.choice(shops) for code in zones}
    for code, zone in zones.items():
        add_asset(world, issuer[code], code, days=chance.randint(1, 4), zone=zone)
    holds: list[tuple[str, str]] = []
    for _ in range(12):
        code, member = chance.choice(list(zones)), chance.choice(members)
        shop = issuer[code]
        until = format_time(world.clock.now_ms + chance.randint(1, 60) * HOUR_MS)
        give(world, shop, code, chance.sample(members, 2), points=chance.randint(1, 9))
        acts = [
            member.sign(Hold, asset=code, amount=chance.randint(1, 4), merchant=shop.account, until=until),
            member.sign(Redeem, asset=code, amount=1, merchant=shop.account),
        ]
        if holds:
            name, its = chance.choice(holds)
            acts.append(issuer[its].sign(Capture, amount=1, hold=name, final=chance.random() < 0.3))
        for outcome, act in zip(world.submit(*acts), acts, strict=True):
            if isinstance(outcome, Recorded) and isinstance(act.op, Hold):
                holds.append((hold_of(outcome), code))
        world.clock.advance(ms=chance.randint(0, 40) * HOUR_MS // 2)
        expected = naive_due(world, zones)
        seen = {each.asset: (each.lots, each.points, each.holds, each.held_points) for each in found(world)}
        assert seen == expected, seed
        if chance.random() < 0.4:
            steps = chance.randint(0, 5)
            stop = iter([True] * steps + [False] * 1_000)
            report = run(world, goes_on=lambda stop=stop: next(stop))
            left = naive_due(world, zones)
            assert not report.is_complete or left == {}, seed
    assert run(world).is_complete
    assert naive_due(world, zones) == {}
    world.clock.advance(ms=10 * DAY_MS)
    assert run(world).is_complete
    assert (naive_due(world, zones), found(world)) == ({}, [])

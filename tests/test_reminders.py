"""Members are reminded of their balance, of points that expire and of a new tier: what is due, each once."""

from typing import Any

import pytest

from ledger.program_terms import (
    ExpiresAfterDays,
    ExpiresAfterMonths,
    NeverExpires,
    Program,
    Reminders,
    TierLevel,
    Tiers,
)
from ledger.reminders import points_told, sentence
from ledger.state import Code, Reminder
from tests.rulebook import Book, make_program

LEVELS = (TierLevel(from_count=0, tier="member"), TierLevel(from_count=10_000, tier="gold"))
TIERS = Tiers(basis="amount", levels=LEVELS, period="calendar_year")


def told(book: Book, about: str, *members: str, actor: str | None = None) -> list[Reminder]:
    """What an entry reminds these members of."""
    actor = actor or book.state.assets["STAR"].issuer
    book.do("remind", about=about, actor=actor, asset="STAR", members=list(members))
    return [reminder for reminder in book.state.reminders if reminder.seq == book.seq]


def nobody(book: Book, about: str, *members: str) -> bool:
    """Whether none of these members is to be reminded."""
    actor = book.state.assets["STAR"].issuer
    refusal = book.refused("remind", about=about, actor=actor, asset="STAR", members=list(members))
    assert (refusal.code, refusal.path) == (Code.NOTHING_DUE, ("members",))
    return True


def open_book(start: str = "2026-03-02T12:00:00.000Z", **parts: Any) -> tuple[Book, str, str]:
    """A book with an issuer of STAR under a program of these parts, and a member."""
    book = Book(start)
    shop = book.merchant()
    book.asset(shop, program=make_program(**parts))
    return book, shop, book.member()


def buy(book: Book, member: str, amount: int, order: str) -> None:
    shop = book.state.assets["STAR"].issuer
    purchase = {"amount": amount, "at": book.time, "member": member, "order": order}
    book.do("record_purchases", actor=shop, asset="STAR", currency="USD", purchases=[purchase])


def test_balance_is_told_once_a_month() -> None:
    book, _, alice = open_book(reminders=Reminders(balance="month"))
    bob = book.member()
    assert nobody(book, "balance", alice, bob)
    book.give(alice, "STAR", 30)
    (reminder,) = told(book, "balance", alice, bob)
    assert reminder == Reminder(seq=book.seq, account=alice, asset="STAR", about="balance", points=30)
    book.give(alice, "STAR", 5)
    assert nobody(book.at("2026-03-31T23:59:59.999Z"), "balance", alice)
    (reminder,) = told(book.at("2026-04-01T00:00:00.000Z"), "balance", alice)
    assert reminder.points == 35


def test_balance_is_told_once_a_year_and_counts_what_can_be_used() -> None:
    book, _, alice = open_book(reminders=Reminders(balance="year"))
    book.give(alice, "STAR", {"2026-03-01": 7, "2026-03-02": 1})
    (reminder,) = told(book, "balance", alice)
    assert reminder.points == 1
    assert nobody(book.at("2026-12-31T12:00:00.000Z"), "balance", alice)
    book.give(alice, "STAR", 2)
    assert told(book.at("2027-01-01T12:00:00.000Z"), "balance", alice)[0].points == 2


def test_lot_is_told_of_as_many_days_before_its_last_as_the_program_says() -> None:
    program: dict[str, Any] = {"expiry": ExpiresAfterDays(count=100), "reminders": Reminders(expiring_days=(30, 7))}
    book, _, alice = open_book(**program)
    book.give(alice, "STAR", {"2026-04-02": 10, "2026-04-05": 4})
    assert nobody(book.at("2026-03-02T12:00:00.000Z"), "expiry", alice)
    (reminder,) = told(book.at("2026-03-03T12:00:00.000Z"), "expiry", alice)
    assert (reminder.points, reminder.day) == (10, "2026-04-02")
    assert nobody(book.at("2026-03-05T12:00:00.000Z"), "expiry", alice)
    (reminder,) = told(book.at("2026-03-06T12:00:00.000Z"), "expiry", alice)
    assert (reminder.points, reminder.day) == (4, "2026-04-05")
    (reminder,) = told(book.at("2026-03-26T12:00:00.000Z"), "expiry", alice)
    assert (reminder.points, reminder.day) == (10, "2026-04-02")
    (reminder,) = told(book.at("2026-04-02T12:00:00.000Z"), "expiry", alice)
    assert (reminder.points, reminder.day) == (4, "2026-04-05")
    assert nobody(book.at("2026-04-05T12:00:00.000Z"), "expiry", alice)


def test_late_reminder_of_points_that_expire_comes_once() -> None:
    """Nobody is reminded twice in one day because two reminders were missed, nor of what is gone."""
    program: dict[str, Any] = {"expiry": ExpiresAfterMonths(count=1), "reminders": Reminders(expiring_days=(7, 30))}
    book, _, alice = open_book(**program)
    book.give(alice, "STAR", {"2026-03-01": 1, "2026-03-04": 2, "2026-03-20": 4})
    (reminder,) = told(book, "expiry", alice)
    assert (reminder.points, reminder.day) == (6, "2026-03-04")
    assert nobody(book, "expiry", alice)


def test_new_tier_is_told_once_and_so_is_its_end() -> None:
    """The tier that everybody begins in is no news."""
    book, shop, alice = open_book(reminders=Reminders(new_tier=True), tiers=TIERS)
    buy(book, alice, 9_999, "a")
    assert nobody(book, "tier", alice)
    buy(book, alice, 1, "b")
    (reminder,) = told(book, "tier", alice)
    assert reminder.tier == "gold"
    buy(book, alice, 1, "c")
    assert nobody(book, "tier", alice)
    book.at("2027-01-01T00:00:00.000Z")
    assert nobody(book, "tier", alice)  # it was not reviewed
    book.do("review_tiers", actor=shop, asset="STAR", members=[alice])
    assert told(book, "tier", alice)[0].tier == "member"
    assert nobody(book, "tier", alice)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"about": "balance", "points": 1_250}, "You have 12.50 STAR to spend."),
        (
            {"about": "expiry", "points": 30, "day": "2026-12-31"},
            "0.30 STAR will soon expire, the first of them after 2026-12-31.",
        ),
        ({"about": "tier", "tier": "gold"}, "You are now in the tier gold of STAR."),
        ({"about": "tier"}, "You are in no tier of STAR any more."),
    ],
)
def test_a_reminder_is_said_in_words(fields: dict[str, Any], words: str) -> None:
    reminder = Reminder(seq=7, account="mem_a", asset="STAR", **fields)
    assert sentence(reminder, 2) == words
    assert points_told(reminder) == fields.get("points")


@pytest.mark.parametrize("about", ["balance", "expiry", "tier"])
@pytest.mark.parametrize(
    "program",
    [
        make_program(),
        make_program(reminders=Reminders(balance="month"), tiers=TIERS),
        make_program(reminders=Reminders(expiring_days=(365,)), tiers=TIERS),
        make_program(reminders=Reminders(new_tier=True), tiers=TIERS, expiry=NeverExpires()),
    ],
)
def test_what_the_program_does_not_say_is_not_told(about: str, program: Program) -> None:
    book = Book()
    book.asset(book.merchant(), program=program)
    alice = book.member()
    buy(book, alice, 20_000, "a")
    book.give(alice, "STAR", {"2026-12-31": 3})
    said = program.reminders
    names = {"balance": "balance", "expiring_days": "expiry", "new_tier": "tier"}
    wanted = {names[name] for name in names if said is not None and getattr(said, name)}
    if about in wanted:
        assert told(book, about, alice)
    else:
        assert nobody(book, about, alice)


def test_issuer_and_operator_remind() -> None:
    """Who is no member has nothing to be told; nothing moves, and the issuer hears of it."""
    book, shop, alice = open_book(reminders=Reminders(balance="month"))
    book.give(alice, "STAR", 30)
    book.give(shop, "STAR", 30)
    assert nobody(book, "balance", shop, f"mem_{'a' * 26}")
    refusal = book.refused("remind", about="balance", actor=alice, asset="STAR", members=[alice])
    assert (refusal.code, refusal.path) == (Code.NOT_PERMITTED, ("actor",))
    assert book.refused("remind", about="balance", actor=shop, asset="NONE", members=[alice]).code is Code.UNKNOWN_ASSET
    admission = book.do("remind", about="balance", actor=book.operator, asset="STAR", members=[alice, shop])
    assert (admission.postings, set(admission.parties)) == ((), {alice, shop})

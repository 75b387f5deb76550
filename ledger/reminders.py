"""Reminders: members are told of their balance, of points that are about to expire, and of a new tier, each once.

They are entries like any other, so that each is told once by whichever server does it, whoever has webhooks hears of
it, and an auditor can see that members were warned. What there is to tell follows from the state.
"""

from datetime import date, timedelta

from ledger.amounts import format_amount
from ledger.movements import Movement, spendable
from ledger.operations import Remind
from ledger.program_terms import Program, Reminders
from ledger.refusals import check_issuer_or_operator
from ledger.state import Code, Decision, Membership, Rejection, Reminded, Reminder, Request, State

BALANCE, EXPIRY, TIER = "balance", "expiry", "tier"


def expiry_about(days: int) -> str:
    """Under what it is kept how far an account was reminded so many days before the last one of its points."""
    return f"expiry_{days}"


def reminder_period(reminders: Reminders, day: str) -> str:
    """The period whose beginning a reminder of the balance marks: ``2026-11`` or ``2026``."""
    return day[:7] if reminders.balance == "month" else day[:4]


def expiry_windows(reminders: Reminders, today: str) -> list[tuple[int, str, str]]:
    """By days before the end, fewest first: those days, and the first and last of the last days they are about.

    A lot is in the window of the fewest days that will do, so that who comes late reminds of it once.
    """
    windows: list[tuple[int, str, str]] = []
    first = date.fromisoformat(today)
    for days in sorted(reminders.expiring_days):
        last = date.fromisoformat(today) + timedelta(days=days)
        windows.append((days, first.isoformat(), last.isoformat()))
        first = last + timedelta(days=1)
    return windows


def base_tier(program: Program) -> str:
    """The tier that everybody is in from the start; nothing where there is none."""
    levels = () if program.tiers is None else program.tiers.levels
    return levels[0].tier if levels and levels[0].from_count == 0 else ""


def points_told(reminder: Reminder) -> int | None:
    """How many points a reminder is about; ``None`` where it is about none, but about a tier."""
    return None if reminder.about == TIER else reminder.points


def sentence(reminder: Reminder, points_scale: int) -> str:
    """A reminder in plain English, to the member; points have so many decimal places.

    Points that expire may be of several lots, of which only the first to go has its day told.
    """
    points = f"{format_amount(reminder.points, points_scale)} {reminder.asset}"
    if reminder.about == BALANCE:
        return f"You have {points} to spend."
    if reminder.about == EXPIRY:
        return f"{points} will soon expire, the first of them after {reminder.day}."
    if reminder.tier is None:
        return f"You are in no tier of {reminder.asset} any more."
    return f"You are now in the tier {reminder.tier} of {reminder.asset}."


def admit_remind(ask: Request[Remind]) -> Decision:
    """Decide ``remind``: of the members named those count of whom it is due."""
    state, op, time = ask.state, ask.op, ask.time
    if refusal := check_issuer_or_operator(state, op.asset, ask.actor, "reminds members of"):
        return refusal
    version = state.program_at(op.asset, time)
    move = Movement(state, time)
    told: list[str] = []
    if version is not None and version.program.reminders is not None:
        for account in op.members:
            reminder = _due(move, version.program, op, account)
            if reminder is not None:
                move.put("reminders", reminder)
                told.append(account)
    if not told:
        return Rejection(Code.NOTHING_DUE, f"none of these members is to be reminded of {op.about} now", ("members",))
    move.concern((*told, state.assets[op.asset].issuer))
    return move.admission(op.actor)


def _due(move: Movement, program: Program, op: Remind, account: str) -> Reminder | None:
    """What a member is to be reminded of, which is noted; nothing where it has been, or there is nothing."""
    reminders, today = program.reminders, move.today(op.asset)
    assert reminders is not None
    found = move.state.accounts.get(account)
    if found is None or found.role != "member":
        return None
    match op.about:
        case "balance":
            return _balance(move, reminders, op, account, today)
        case "expiry":
            return _expiry(move, reminders, op, account, today)
    return _tier(move, program, op, account) if reminders.new_tier else None


def _through(state: State, asset: str, account: str, about: str) -> str:
    reminded: Reminded | None = state.reminded.get(asset, account, about)
    return "" if reminded is None else reminded.through


def _note(move: Movement, asset: str, account: str, about: str, through: str) -> None:
    move.put("reminded", Reminded(asset=asset, account=account, about=about, through=through))


def _balance(move: Movement, reminders: Reminders, op: Remind, account: str, today: str) -> Reminder | None:
    points = spendable(move.state.lots_of(account, op.asset), today)
    period = reminder_period(reminders, today)
    if reminders.balance is None or points == 0 or _through(move.state, op.asset, account, BALANCE) >= period:
        return None
    _note(move, op.asset, account, BALANCE, period)
    return Reminder(seq=move.state.size, account=account, asset=op.asset, about=op.about, points=points)


def _expiry(move: Movement, reminders: Reminders, op: Remind, account: str, today: str) -> Reminder | None:
    lots, windows = move.state.lots_of(account, op.asset), expiry_windows(reminders, today)
    due: dict[str, int] = {}
    for days, first, last in windows:
        through = _through(move.state, op.asset, account, expiry_about(days))
        due |= {day: points for day, points in lots.items() if first <= day <= last and day > through and points > 0}
    if not due:
        return None
    for days, _, last in windows:
        _note(move, op.asset, account, expiry_about(days), last)
    return Reminder(
        seq=move.state.size,
        account=account,
        asset=op.asset,
        about=op.about,
        points=sum(due.values()),
        day=min(due),
    )


def _tier(move: Movement, program: Program, op: Remind, account: str) -> Reminder | None:
    membership: Membership | None = move.state.memberships.get(op.asset, account)
    if membership is None:
        return None
    reminded: Reminded | None = move.state.reminded.get(op.asset, account, TIER)
    known = base_tier(program) if reminded is None else reminded.through
    tier = membership.tier or ""
    if tier == known:
        return None
    _note(move, op.asset, account, TIER, tier)
    return Reminder(seq=move.state.size, account=account, asset=op.asset, about=op.about, tier=membership.tier)

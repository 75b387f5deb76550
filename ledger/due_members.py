"""Due work about members: whom to remind of what, and whose birthday it is; found by set-based queries.

Reminders follow from the projections, birthdays from profiles, which are found by a keyed hash of the day. Both are
done by :class:`ledger.due.DueRun`, as entries; whom an entry has told is not found again.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ledger.profiles import Profiles
from ledger.program_terms import Birthday, Program
from ledger.queries import Page, paged
from ledger.reminders import BALANCE, TIER, base_tier, expiry_about, expiry_windows, reminder_period
from ledger.state import grant_scope
from ledger.store import Store
from ledger.tables import EARNING, LOT, MEMBERSHIP, PROFILE, REMINDED

LATE_BIRTHDAY_DAYS = 30
"""How late points are still given for a birthday, when nobody did it on the day."""


def members_to_remind(
    store: Store,
    connection: Connection,
    asset: str,
    program: Program,
    *,
    about: str,
    today: str,
    after: str | None,
    limit: int,
) -> list[str]:
    """The next members, by account, who are to be reminded of something on a local date."""
    reminders = program.reminders
    if reminders is None:
        return []
    if about == "balance":
        query = None if reminders.balance is None else _balances(store, asset, reminder_period(reminders, today), today)
    elif about == "expiry":
        windows = expiry_windows(reminders, today)
        query = _expiries(store, asset, windows) if windows else None
    else:
        query = _tiers(store, asset, base_tier(program)) if reminders.new_tier else None
    if query is None:
        return []
    account = query.selected_columns[0]
    return list(connection.execute(paged(query, (account,), Page(limit=limit, after=after))).scalars())


def _told(store: Store, asset: str, account: sa.ColumnElement[str], about: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        REMINDED.c.ledger_id == store.ledger_id,
        REMINDED.c.asset == asset,
        REMINDED.c.account == account,
        REMINDED.c.about == about,
    )


def _lots(store: Store, asset: str) -> tuple[sa.ColumnElement[bool], ...]:
    """Lots of members: their accounts begin with ``mem_``, and no other account lies between these bounds."""
    return (
        LOT.c.ledger_id == store.ledger_id,
        LOT.c.asset == asset,
        LOT.c.account >= "mem_",
        LOT.c.account < "mem`",
    )


def _balances(store: Store, asset: str, period: str, today: str) -> sa.Select[tuple[str]]:
    told = sa.exists().where(*_told(store, asset, LOT.c.account, BALANCE), REMINDED.c.through >= period)
    query = sa.select(LOT.c.account).where(*_lots(store, asset), LOT.c.last_day >= today, ~told)
    return query.group_by(LOT.c.account).having(sa.func.sum(LOT.c.points) > 0)


def _expiries(store: Store, asset: str, windows: Sequence[tuple[int, str, str]]) -> sa.Select[tuple[str]]:
    due = []
    for days, first, last in windows:
        told = _told(store, asset, LOT.c.account, expiry_about(days))
        known = sa.exists().where(*told, REMINDED.c.through >= LOT.c.last_day)
        due.append(sa.and_(LOT.c.last_day >= first, LOT.c.last_day <= last, ~known))
    # The bounds of all windows once more: an index finds the lots by them.
    within = (LOT.c.last_day >= windows[0][1], LOT.c.last_day <= windows[-1][2])
    return sa.select(LOT.c.account).where(*_lots(store, asset), *within, LOT.c.points > 0, sa.or_(*due)).distinct()


def _tiers(store: Store, asset: str, base: str) -> sa.Select[tuple[str]]:
    table = MEMBERSHIP.c
    known = sa.select(REMINDED.c.through).where(*_told(store, asset, table.account, TIER)).scalar_subquery()
    changed = sa.func.coalesce(table.tier, "") != sa.func.coalesce(known, base)
    return sa.select(table.account).where(table.ledger_id == store.ledger_id, table.asset == asset, changed)


def birthdays(
    store: Store,
    connection: Connection,
    profiles: Profiles,
    asset: str,
    birthday: Birthday,
    *,
    today: str,
    after: tuple[str, str] | None,
    limit: int,
) -> list[tuple[str, str]]:
    """The next members whose birthday it was lately, as (that day, account), in this order.

    They take part in the program, and have had nothing for it in that calendar year. Who was born on 29 February has a
    birthday on 28 February of other years.
    """
    days = birthdays_through(today)
    hashes = profiles.birthday_hashes(store, connection, [born for _, born in days])
    by_day: dict[str, list[bytes]] = {}
    for day, born in days:
        by_day.setdefault(day, []).extend(hashed for hashed, on in hashes.items() if on == born)
    found: list[tuple[str, str]] = []
    for day, hashed in by_day.items():
        if after is not None and day < after[0]:
            continue
        behind = after[1] if after is not None and day == after[0] else None
        page = Page(limit=limit - len(found), after=behind)
        query = paged(_born(store, asset, birthday, hashed, day), (PROFILE.c.account,), page)
        found += [(day, account) for account in connection.execute(query).scalars()]
        if len(found) == limit:
            break
    return found


def birthdays_through(today: str) -> list[tuple[str, str]]:
    """The days of some weeks until today, each with the day of the year (``MM-DD``) that has its birthday on it."""
    last, found = date.fromisoformat(today), []
    for back in range(LATE_BIRTHDAY_DAYS, -1, -1):
        day = last - timedelta(days=back)
        found.append((day.isoformat(), day.isoformat()[5:]))
        if (day.month, day.day) == (2, 28) and (day + timedelta(days=1)).month == 3:
            found.append((day.isoformat(), "02-29"))
    return found


def _born(store: Store, asset: str, birthday: Birthday, hashed: Sequence[bytes], day: str) -> sa.Select[tuple[str]]:
    earned = (EARNING.c.ledger_id == store.ledger_id, EARNING.c.asset == asset, EARNING.c.account == PROFILE.c.account)
    this_year = (EARNING.c.earned_on >= f"{day[:4]}-01-01", EARNING.c.earned_on <= f"{day[:4]}-12-31")
    had = sa.exists().where(*earned, *this_year, EARNING.c.scope == grant_scope(birthday.activity))
    member = sa.exists().where(
        MEMBERSHIP.c.ledger_id == store.ledger_id,
        MEMBERSHIP.c.asset == asset,
        MEMBERSHIP.c.account == PROFILE.c.account,
    )
    takes_part = sa.or_(member, sa.exists().where(*earned))
    return sa.select(PROFILE.c.account).where(
        PROFILE.c.ledger_id == store.ledger_id, PROFILE.c.birthday_hash.in_(hashed), takes_part, ~had
    )

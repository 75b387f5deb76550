"""A statement of points as a document: what an account had of an asset over some days, each movement, and why.

Days are local dates in the time zone of the asset's program, by the time of recording. Once they are over a statement
is the same for ever: entries do not change, and what explains them follows from them.
"""

import zoneinfo
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct
from sqlalchemy.engine import Connection

from ledger import program_queries, queries
from ledger.bulk import chunks_of
from ledger.encoding import format_time, round_ms
from ledger.program_queries import GIVING_KINDS, ExplainedEvent, explain
from ledger.programs import local_date
from ledger.queries import Page, StatementKey
from ledger.store import Store

MAX_LINES = 50_000
"""Lines of one statement: some years of whoever moves points every hour."""

EVENTS_TOGETHER = 1_000
"""Lines of which the events behind are read in one question."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PointsKey(Struct, frozen=True, kw_only=True):
    """Which statement: of an account, in an asset, over local dates, both included."""

    account: str
    asset: str
    start: date
    through: date


class PointsLine(Struct, frozen=True, kw_only=True):
    """A posting on a local date and the balance after it; ``explanations`` say for what an entry gave points.

    They are of all purchases and activities of the account in the entry, at the first line that gives points of it.
    """

    day: str
    seq: int
    leg: int
    kind: str
    amount: int
    last_day: str | None
    balance: int
    explanations: tuple[str, ...] = ()


class PointsStatement(Struct, frozen=True, kw_only=True):
    """An account's points of an asset over local dates ``start`` to ``through``, both included.

    Amounts are in the asset's smallest unit, of which ``scale`` decimal places make a point.
    """

    origin: str
    account: str
    asset: str
    name: str
    scale: int
    time_zone: str
    start: str
    through: str
    opening: int
    closing: int
    lines: Sequence[PointsLine]


class TooManyPointsLinesError(ValueError):
    """A statement that is too long for one document."""


def points_statement(
    store: Store, connection: Connection, key: PointsKey, scales: Mapping[str, int]
) -> PointsStatement | None:
    """A whole statement, with all lines; ``None`` if there is no such asset.

    ``scales`` are the decimal places of currencies. Raise :class:`TooManyPointsLinesError` for more lines than
    :data:`MAX_LINES`.
    """
    asset = queries.asset(store, connection, key.asset)
    if asset is None:
        return None
    zone = queries.time_zones(store, connection, [key.asset]).get(key.asset, "UTC")
    span = StatementKey(
        account=key.account, asset=key.asset, start=_midnight(key.start, zone), end=_midnight(_next(key.through), zone)
    )
    found = queries.statement(store, connection, span, Page(limit=MAX_LINES + 1))
    if len(found.lines) > MAX_LINES:
        raise TooManyPointsLinesError(f"more than {MAX_LINES:,} lines: take a shorter period")
    why = _explanations(store, connection, key.account, found.lines, scales)
    spent = [line.seq for line in found.lines if line.amount < 0]
    vouchers = program_queries.vouchers_by_entry(store, connection, key.account, key.asset, spent)
    lines = []
    for line in found.lines:
        lines.append(
            PointsLine(
                day=local_date(line.time, zone),
                seq=line.seq,
                leg=line.leg,
                kind=line.kind,
                amount=line.amount,
                last_day=line.last_day,
                balance=line.balance,
                explanations=why.pop(line.seq, ()) if line.amount > 0 else _had(vouchers.pop(line.seq, {})),
            )
        )
    return PointsStatement(
        origin=store.origin,
        account=key.account,
        asset=key.asset,
        name=asset.name,
        scale=asset.scale,
        time_zone=zone,
        start=key.start.isoformat(),
        through=key.through.isoformat(),
        opening=found.opening,
        closing=found.closing,
        lines=lines,
    )


def _explanations(
    store: Store,
    connection: Connection,
    account: str,
    lines: Sequence[queries.StatementLine],
    scales: Mapping[str, int],
) -> dict[int, tuple[str, ...]]:
    """For what each entry gave the account points, by entry."""
    seqs = dict.fromkeys(line.seq for line in lines if line.amount > 0 and line.kind in GIVING_KINDS)
    found: dict[int, tuple[str, ...]] = {}
    for chunk in chunks_of(list(seqs), EVENTS_TOGETHER):
        behind = program_queries.events_behind(store, connection, [(seq, account) for seq in chunk])
        for (seq, _), events in behind.items():
            found[seq] = tuple(map(_said, explain(store, connection, events, scales)))
    return found


def _said(event: ExplainedEvent) -> str:
    if event.calculation is None:
        return " ".join(event.sentences)
    return f"{event.earning.reference}: {' '.join(event.sentences)}"


def _had(vouchers: Mapping[str, int]) -> tuple[str, ...]:
    """What was had for points, with the first of the lines by which they went."""
    return tuple(f"{count} × {reward}" for reward, count in vouchers.items())


def _next(day: date) -> date:
    return day + timedelta(days=1)


def _midnight(day: date, zone: str) -> str | None:
    """When a local date begins, in UTC; ``None`` for what no entry is recorded before, or after."""
    if not 1900 < day.year < 2999:
        return None
    begins = datetime(day.year, day.month, day.day, tzinfo=zoneinfo.ZoneInfo(zone)).astimezone(UTC)
    return format_time(round_ms(begins - _EPOCH))

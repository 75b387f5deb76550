"""The command ``guerdon insight``: what an asset's program does, as tables, CSV or JSON on standard output."""

import csv
import os
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Any, Literal, TextIO

import typer
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from api.accounting import Expectation, Ratio
from api.errors import BadInputError
from api.insight import (
    ACTIVE_DAYS,
    MAX_ACTIVE_DAYS,
    Question,
    members_in,
    points_in,
    promoters_in,
    question_of,
    sales_by_tier_in,
    sales_in,
    vouchers_in,
)
from api.opening import opened_store, system_clock
from api.settings import Settings
from ledger import insight as insights
from ledger import queries
from ledger.encoding import EncodingError, encode_canonical, format_time, parse_date
from ledger.insight import By
from ledger.queries import Page
from ledger.store import Store, StoreError

MAX_PERIODS = 1_000
"""Periods of one table: about three years of days."""

MAX_PLACES = 20
"""Merchants of one table, of those at which most points were spent; and rewards, of which most vouchers were had."""


class Share(Struct, frozen=True, kw_only=True):
    """A ratio, as two integers."""

    numerator: int
    denominator: int


class InsightRow(Struct, frozen=True, kw_only=True):
    """A period; its fields are defined in the descriptions of the GraphQL schema. ``None`` where there is no ratio.

    ``granted`` was issued for activities, ``corrected`` by hand less what was taken back so; ``outstanding`` is at the
    end. ``refunded`` points were spent and came back, ``taken_back`` ones were earned by what was refunded since,
    ``converted`` ones became vouchers by themselves. ``amount``, ``average_basket``, ``liability`` and what vouchers
    are worth are in minor units, ``promoter_score`` in hundredths of a percent.
    """

    first_day: str
    last_day: str
    issued: int
    granted: int
    corrected: int
    taken_back: int
    redeemed_at_issuer: int
    redeemed_at_partners: int
    converted: int
    exchanged_in: int
    exchanged_out: int
    refunded: int
    expired: int
    outstanding: int
    redemption_rate: Share | None
    breakage: Share | None
    liability: int | None
    members: int
    new: int
    active: int
    churned: int
    churn: Share | None
    purchases: int
    amount: int
    buyers: int
    average_basket: Share | None
    vouchers_had: int
    had_worth: int
    vouchers_used: int
    used_worth: int
    vouchers_expired: int
    expired_worth: int
    answers: int
    promoters: int
    detractors: int
    promoter_score: int | None


class TierRow(Struct, frozen=True, kw_only=True):
    """What members bought in a period while in a ``tier``, or in none. ``amount`` is in minor units."""

    first_day: str
    last_day: str
    tier: str | None
    purchases: int
    amount: int
    points: int
    buyers: int


class InsightReport(Struct, frozen=True, kw_only=True):
    """All of it. ``breakage`` of a row is of all lots that had ended by then."""

    asset: str
    time_zone: str
    active_days: int
    periods: tuple[InsightRow, ...]
    sales_by_tier: tuple[TierRow, ...]
    tiers: tuple[insights.TierCount, ...]
    rewards: tuple[insights.RewardInsight, ...]
    cohorts: tuple[insights.Cohort, ...]
    spent_at: tuple[insights.SpentAt, ...]


def _day(text: str) -> date:
    try:
        return parse_date(text)
    except EncodingError as error:
        raise typer.BadParameter(str(error)) from error


def insight(  # noqa: PLR0917 - typer makes an option of each parameter
    asset: Annotated[str, typer.Option(help="The asset.")],
    start: Annotated[
        date, typer.Option("--from", parser=_day, metavar="YYYY-MM-DD", help="The first day, where its program is.")
    ],
    through: Annotated[date, typer.Option(parser=_day, metavar="YYYY-MM-DD", help="The last day.")],
    by: Annotated[Literal["day", "month", "year"], typer.Option(help="How time is cut into periods.")] = "month",
    active_days: Annotated[
        int, typer.Option(min=1, max=MAX_ACTIVE_DAYS, help="For how many days earning or spending keeps one active.")
    ] = ACTIVE_DAYS,
    output: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print it.")] = "table",
) -> None:
    """What an asset's program does: points, members, sales, tiers, vouchers, survey answers, newcomers month by month.

    Points and vouchers are of the day they were recorded on, all else of the day something happened. CSV has a line
    for each period, ratios in it as 3/4; JSON has everything.

    Example: guerdon insight --asset STAR --from 2026-01-01 --through 2026-06-30
    """
    if through < start:
        raise typer.BadParameter(f"{through} lies before {start}", param_hint="--through")
    with opened_store(Settings.from_environment(os.environ)) as store:
        found = gather(store, asset, (start, through), by=by, active_days=active_days, now=format_time(system_clock()))
    if output == "json":
        typer.echo(encode_canonical(found).decode())
    elif output == "csv":
        write_insight_csv(found, sys.stdout)
    else:
        print_insight(found, Console())


def gather(store: Store, asset: str, days: tuple[date, date], *, by: By, active_days: int, now: str) -> InsightReport:
    """Everything about an asset, in one snapshot; raise :class:`StoreError` when that cannot be had."""
    with store.read() as connection:
        found = queries.asset(store, connection, asset)
        if found is None:
            raise StoreError(f"there is no asset {asset}")
        try:
            question = question_of(store, connection, found, days, by=by, active_days=active_days, now=now)
        except BadInputError as error:
            raise StoreError(str(error)) from error
        if len(question.periods) > MAX_PERIODS:
            raise StoreError(f"{len(question.periods):,} periods are too many: at most {MAX_PERIODS:,}")
        return InsightReport(
            asset=asset,
            time_zone=question.time_zone,
            active_days=active_days,
            periods=tuple(_rows(store, connection, question)),
            sales_by_tier=tuple(_tier_rows(store, connection, question)),
            tiers=tuple(insights.tier_counts(store, connection, question.subject, today=question.today)),
            rewards=tuple(
                insights.rewards(store, connection, question.subject, question.whole, Page(limit=MAX_PLACES))
            ),
            cohorts=tuple(
                insights.cohorts(store, connection, question.subject, question.whole, Page(limit=MAX_PERIODS))
            ),
            spent_at=tuple(
                insights.spent_at(store, connection, question.subject, question.whole, Page(limit=MAX_PLACES))
            ),
        )


def _rows(store: Store, connection: Any, question: Question) -> list[InsightRow]:
    wanted = question.periods
    expected = Expectation(asset=question.asset.code, expected=None, cost=None)
    rows = zip(
        points_in(store, connection, question, wanted, expected),
        members_in(store, connection, question, wanted),
        sales_in(store, connection, question, wanted),
        vouchers_in(store, connection, question, wanted),
        promoters_in(store, connection, question, wanted),
        strict=True,
    )
    return [
        InsightRow(
            first_day=points.first_day,
            last_day=points.last_day,
            issued=points.movement.issued,
            granted=points.movement.issued_by_grants,
            corrected=points.movement.issued_by_corrections - points.movement.taken_back_by_corrections,
            taken_back=points.movement.taken_back_by_refunds,
            redeemed_at_issuer=points.redeemed_at_issuer,
            redeemed_at_partners=points.redeemed_at_partners,
            converted=points.movement.converted,
            exchanged_in=points.movement.issued_by_exchanges,
            exchanged_out=points.exchanged_out,
            refunded=points.movement.returned,
            expired=points.movement.expired,
            outstanding=points.movement.closing,
            redemption_rate=_share(points.redemption_rate),
            breakage=_share(points.breakage_so_far.rate),
            liability=points.liability.amount if points.liability is not None else None,
            members=members.members,
            new=members.new,
            active=members.active,
            churned=members.churned,
            churn=_share(members.churn),
            purchases=sales.purchases,
            amount=sales.amount,
            buyers=sales.buyers,
            average_basket=_share(sales.average_basket),
            vouchers_had=vouchers.had.vouchers,
            had_worth=vouchers.had.worth,
            vouchers_used=vouchers.used.vouchers,
            used_worth=vouchers.used.worth,
            vouchers_expired=vouchers.expired.vouchers,
            expired_worth=vouchers.expired.worth,
            answers=answers.answers,
            promoters=answers.promoters,
            detractors=answers.detractors,
            promoter_score=answers.promoter_score,
        )
        for points, members, sales, vouchers, answers in rows
    ]


def _tier_rows(store: Store, connection: Any, question: Question) -> list[TierRow]:
    return [
        TierRow(
            first_day=found.first_day,
            last_day=found.last_day,
            tier=each.tier,
            purchases=each.purchases,
            amount=each.amount,
            points=each.points,
            buyers=each.buyers,
        )
        for found in sales_by_tier_in(store, connection, question, question.periods)
        for each in found.tiers
    ]


def _share(ratio: Ratio | None) -> Share | None:
    return Share(numerator=ratio.numerator, denominator=ratio.denominator) if ratio is not None else None


def write_insight_csv(found: InsightReport, file: TextIO) -> None:
    """One line per period; a ratio as ``numerator/denominator``, nothing where there is none."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(InsightRow.__struct_fields__)
    for row in found.periods:
        writer.writerow([_plain(getattr(row, name)) for name in InsightRow.__struct_fields__])


def _plain(value: Any) -> Any:
    return f"{value.numerator}/{value.denominator}" if isinstance(value, Share) else value


_TABLES = (
    (
        "points given, and taken back",
        ("issued", "granted", "corrected", "exchanged_in", "taken_back"),
    ),
    (
        "points spent, and refunded",
        ("redeemed_at_issuer", "redeemed_at_partners", "converted", "exchanged_out", "refunded"),
    ),
    (
        "points expired and outstanding, and what is owed",
        ("expired", "outstanding", "redemption_rate", "breakage", "liability"),
    ),
    ("members", ("members", "new", "active", "churned", "churn")),
    ("sales", ("purchases", "amount", "buyers", "average_basket")),
)
"""The tables a terminal is wide enough for, and the fields in each."""

_MORE_TABLES = (
    (
        "vouchers",
        ("vouchers_had", "had_worth", "vouchers_used", "used_worth", "vouchers_expired", "expired_worth"),
    ),
    ("answers to surveys", ("answers", "promoters", "detractors", "promoter_score")),
)
"""Those of programs that have such things."""

_FOLLOWED = 7
"""Months of newcomers that a table has room for."""


def print_insight(found: InsightReport, console: Console) -> None:
    """Everything as tables; ratios are cut to a tenth of a percent, points and money are in their smallest units."""
    console.print(f"Points and money are in their smallest units; days are those of {found.time_zone}.")
    for title, names in _TABLES:
        _print_periods(console, found, title, names)
    for title, columns in _MORE_TABLES:
        if any(getattr(row, name) for row in found.periods for name in columns):
            _print_periods(console, found, title, columns)
    _print_tiers(console, found)
    newcomers = [
        [cohort.month, f"{cohort.members:,}", *(f"{count:,}" for count in cohort.active[:_FOLLOWED])]
        for cohort in found.cohorts
    ]
    months = [f"+{number}" for number in range(_FOLLOWED)]
    _print_table(console, f"{found.asset} newcomers active months later", ["month", "members", *months], newcomers)
    places = [
        [place.name or place.merchant, f"{place.points:,}", f"{place.operations:,}", f"{place.accounts:,}"]
        for place in found.spent_at
    ]
    _print_table(console, f"{found.asset} spent at", ["merchant", "points", "operations", "accounts"], places)
    rewards = [
        [each.reward, *(f"{count:,}" for count in (each.had.vouchers, each.had.points, each.had.cancelled, each.used))]
        for each in found.rewards
    ]
    if rewards:
        _print_table(console, f"{found.asset} rewards", ["reward", "vouchers", "points", "cancelled", "used"], rewards)


def _print_periods(console: Console, found: InsightReport, title: str, names: Sequence[str]) -> None:
    rows = [[_named(row), *(_shown(name, getattr(row, name)) for name in names)] for row in found.periods]
    _print_table(console, f"{found.asset} {title}", ["period", *(name.replace("_", " ") for name in names)], rows)


_NO_TIER = "(none)"


def _print_tiers(console: Console, found: InsightReport) -> None:
    """What was bought by tier, and who is in each; nothing where there are no tiers."""
    sold = [
        [
            _named(row),
            row.tier or _NO_TIER,
            *(f"{count:,}" for count in (row.purchases, row.amount, row.points, row.buyers)),
        ]
        for row in found.sales_by_tier
    ]
    if any(row.tier is not None for row in found.sales_by_tier):
        columns = ["period", "tier", "purchases", "amount", "points", "buyers"]
        _print_table(console, f"{found.asset} sales by tier", columns, sold)
    if any(each.tier is not None for each in found.tiers):
        members = [[each.tier or _NO_TIER, f"{each.members:,}", f"{each.due:,}"] for each in found.tiers]
        _print_table(console, f"{found.asset} tiers now", ["tier", "members", "due for review"], members)


def _print_table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=column == "period")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _named(row: InsightRow | TierRow) -> str:
    """A month or year by its name where it is whole, else its days, in few letters where they are of one month."""
    first, last = row.first_day, row.last_day
    if first == last:
        return first
    if (first[5:], last[5:]) == ("01-01", "12-31"):
        return first[:4]
    next_day = parse_date(last) + timedelta(days=1)
    if first[:7] == last[:7] and first.endswith("-01") and next_day.day == 1:
        return first[:7]
    return f"{first} to {last[8:]}" if first[:7] == last[:7] else f"{first} to {last}"


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name == "promoter_score":
        return f"{'-' if value < 0 else ''}{abs(value) // 100}.{abs(value) // 10 % 10}"
    if not isinstance(value, Share):
        return f"{value:,}"
    if name == "average_basket":
        return f"{value.numerator // value.denominator:,}"
    tenths = value.numerator * 1_000 // value.denominator
    return f"{tenths // 10}.{tenths % 10} %"

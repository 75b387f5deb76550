"""A simulation on the command line: as tables with bars, as JSON, and as a chart in SVG."""

import os
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.chart import Columns, draw
from api.opening import opened_store, system_clock
from api.settings import Settings
from ledger import queries
from ledger.amounts import format_amount
from ledger.encoding import encode_canonical, format_time
from ledger.program_simulation import MemberChange, Simulation, SimulationError, Wanted, simulate
from ledger.program_terms import Program
from ledger.settlement import scales
from ledger.store import Store, StoreError

MAX_MONTHS = 36
"""Months that a terminal and a chart have room for: the last ones."""

_BAR = 32
"""Cells of the longest bar."""

_NO_TIER = "(none)"
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


def report(
    code: str,
    draft: Program,
    *,
    days: tuple[str | None, str | None],
    cost: tuple[int, int] | None,
    members: int,
    as_json: bool,
    chart: Path | None,
) -> None:
    """Simulate over the ledger of the settings, print what came of it, and draw it to a file if one is named."""
    with opened_store(Settings.from_environment(os.environ)) as store:
        found, units = gather(store, code, draft, days=days, cost=cost, members=members)
    if as_json:
        typer.echo(encode_canonical(found).decode())
    else:
        print_simulation(found, code, units, Console())
    if chart is not None:
        chart.write_bytes(draw_simulation(found, code, units))


class Units:
    """How numbers are written: points and money in decimal places of their own."""

    def __init__(self, points: int, money: int, currency: str) -> None:
        self.points_scale = points
        self._money_scale = money
        self._currency = currency

    def points(self, units: int) -> str:
        """Points."""
        return _grouped(units, self.points_scale)

    def money(self, units: int | None) -> str:
        """Money; nothing where there is none."""
        return "" if units is None else f"{_grouped(units, self._money_scale)} {self._currency}"


def _grouped(units: int, scale: int) -> str:
    """A decimal number with its thousands apart."""
    whole, point, rest = format_amount(abs(units), scale).partition(".")
    return f"{'-' if units < 0 else ''}{int(whole):,}{point}{rest}"


def gather(
    store: Store,
    code: str,
    draft: Program,
    *,
    days: tuple[str | None, str | None] = (None, None),
    cost: tuple[int, int] | None = None,
    members: int = 10,
) -> tuple[Simulation, Units]:
    """Run a draft over the whole of an asset's history, in one snapshot; raise :class:`StoreError` if it cannot be."""
    with store.read() as connection:
        asset = queries.asset(store, connection, code)
        if asset is None:
            raise StoreError(f"there is no asset {code}")
        scale = scales(store, connection).get(draft.currency)
        if scale is None:
            raise SimulationError(f"this ledger does not settle in {draft.currency}", "currency")
        wanted = Wanted(
            asset=asset,
            draft=draft,
            now=format_time(system_clock()),
            scale=scale,
            first=days[0],
            last=days[1],
            cost=cost,
            members=members,
        )
        return simulate(store, connection, wanted), Units(asset.scale, scale, draft.currency)


# On a terminal


def print_simulation(found: Simulation, code: str, units: Units, console: Console) -> None:
    """Everything as tables; of many months the last ones."""
    sums = found.sums
    head = f"{code}: the draft beside version {found.version}"
    if found.first is None:
        console.print(f"{head}: no purchases")
        return
    console.print(
        f"{head}, {found.first} to {found.last}: {sums.purchases:,} purchases of {units.money(sums.amount)}",
        highlight=False,
    )
    _print_totals(found, units, console)
    _print_months(found, units, console)
    _print_tiers(found, console)
    for title, side in (("lose", found.losing), ("gain", found.gaining)):
        console.print(f"{side.members:,} of {found.members:,} members {title} {units.points(side.points)} points")
        _print_members(side.most, units, console, f"who {title} most")


def _print_totals(found: Simulation, units: Units, console: Console) -> None:
    sums, table = found.sums, _table("points", ["recorded", "now", "draft"])
    given = (sums.recorded, sums.now, sums.draft)
    for name in ("for_purchases", "for_invitations", "taken_back", "net"):
        row = [getattr(each, name) for each in given]
        if name in {"for_purchases", "net"} or any(row):
            table.add_row(name.replace("_", " "), *(units.points(each) for each in row))
    costs = (found.recorded_cost, found.now_cost, found.draft_cost)
    if any(each is not None for each in costs):
        table.add_row("cost", *(units.money(each) for each in costs))
    console.print(table)


def _print_months(found: Simulation, units: Units, console: Console) -> None:
    months = found.months[-MAX_MONTHS:]
    most = max((max(each.sums.now.net, each.sums.draft.net) for each in months), default=0)
    table = _table("month", ["purchases", "now", "draft"])
    table.add_column("points now, and by the draft below it", no_wrap=True)
    for each in months:
        sums = each.sums
        bars = Text("\n").join(
            (Text(bar(sums.now.net, most), style="cyan"), Text(bar(sums.draft.net, most), style="magenta"))
        )
        table.add_row(each.month, f"{sums.purchases:,}", units.points(sums.now.net), units.points(sums.draft.net), bars)
    console.print(table)


def bar(number: int, most: int, cells: int = _BAR) -> str:
    """A number as a bar of blocks, to an eighth of a cell; the longest is ``most``."""
    if number <= 0 or most <= 0:
        return ""
    whole, eighths = divmod(number * cells * 8 // most, 8)
    return "█" * whole + _EIGHTHS[eighths]


def _print_tiers(found: Simulation, console: Console) -> None:
    if not found.tiers:
        return
    table = _table(f"tier on {found.tiers_on}", ["now", "draft"])
    for each in found.tiers:
        table.add_row(each.tier or _NO_TIER, f"{each.now:,}", f"{each.draft:,}")
    console.print(table)
    moves = _table("tier now", [])
    moves.add_column("by the draft")
    moves.add_column("members", justify="right")
    for move in found.moves:
        moves.add_row(move.now or _NO_TIER, move.draft or _NO_TIER, f"{move.members:,}")
    console.print(moves)


def _print_members(changes: Sequence[MemberChange], units: Units, console: Console, title: str) -> None:
    if not changes:
        return
    table = _table(title, ["now", "draft", "change"])
    for each in changes:
        numbers = (each.now, each.draft, each.draft - each.now)
        table.add_row(each.account, *(units.points(number) for number in numbers))
    console.print(table)
    example = changes[0].example
    if example is None:
        return
    console.print(f"e.g. order {example.order} of {example.earned_on}, {units.money(example.amount)}:", highlight=False)
    for name, words in (("now", example.now_why), ("draft", example.draft_why)):
        console.print(f"  {name}: {' '.join(words)}", highlight=False, markup=False)


def _table(first: str, columns: Sequence[str]) -> Table:
    table = Table(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


# As a chart


def draw_simulation(found: Simulation, code: str, units: Units) -> bytes:
    """Points by month, and members by tier, now and by the draft, as SVG."""
    months = found.months[-MAX_MONTHS:]
    names = (f"version {found.version}, now", "draft")
    place = 10**units.points_scale
    charts = [
        Columns(
            title=f"{code}: points by month of purchase",
            groups=tuple(each.month for each in months),
            series=names,
            values=(
                tuple(each.sums.now.net / place for each in months),
                tuple(each.sums.draft.net / place for each in months),
            ),
        )
    ]
    if found.tiers:
        charts.append(
            Columns(
                title=f"{code}: members by tier on {found.tiers_on}",
                groups=tuple(each.tier or _NO_TIER for each in found.tiers),
                series=names,
                values=(tuple(each.now for each in found.tiers), tuple(each.draft for each in found.tiers)),
            )
        )
    return draw(charts)

"""The command ``guerdon program simulate``: a draft beside the program in force, as tables and bars, JSON or a chart."""

import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from api.chart import Series, column_charts
from api.insight_cli import parse_day
from api.json_files import ProgramFile, read_programs
from api.opening import opened_store, system_clock
from api.settings import Settings
from ledger import queries
from ledger.amounts import format_amount
from ledger.encoding import encode_canonical, format_time
from ledger.operations import Genesis
from ledger.program_simulation import (
    MAX_CHANGES,
    MemberChange,
    Side,
    Simulation,
    SimulationError,
    Wanted,
    simulate,
)
from ledger.program_terms import Program
from ledger.store import Store, StoreError

MAX_MONTHS = 36
"""Months that a terminal and a chart have room for: the last ones."""

_BAR = 40
"""Cells of the longest bar."""

_NO_TIER = "(none)"
_BLOCKS = " ▏▎▍▌▋▊▉█"


class _Units:
    """How numbers are written: points and money in decimal places of their own."""

    def __init__(self, points: int, money: int, currency: str) -> None:
        self._points = points
        self._money = money
        self._currency = currency

    def points(self, units: int) -> str:
        return _grouped(format_amount(units, self._points))

    def money(self, units: int | None) -> str:
        return "" if units is None else f"{_grouped(format_amount(units, self._money))} {self._currency}"


def _grouped(text: str) -> str:
    """A decimal number with its thousands apart."""
    whole, point, rest = text.partition(".")
    return f"{int(whole):,}{point}{rest}" if whole not in {"-0"} else text


def simulate_command(  # noqa: PLR0917 - typer makes an option of each parameter
    file: Annotated[
        Path, typer.Argument(help="The draft as JSON, or a file of guerdon gallery.", exists=True, dir_okay=False)
    ],
    asset: Annotated[str, typer.Option(help="The asset whose history it is run over.")],
    start: Annotated[
        date | None, typer.Option("--from", parser=parse_day, metavar="YYYY-MM-DD", help="The first day told; all.")
    ] = None,
    through: Annotated[
        date | None, typer.Option(parser=parse_day, metavar="YYYY-MM-DD", help="The last day; until now.")
    ] = None,
    cost: Annotated[
        str | None, typer.Option(help="What points cost, minor units/points, such as 1/3; the asset's value.")
    ] = None,
    members: Annotated[
        int, typer.Option(min=0, max=MAX_CHANGES, help="How many to name of those who lose, and gain, most.")
    ] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    chart: Annotated[Path | None, typer.Option(help="Write a chart to this file, as SVG.")] = None,
) -> None:
    """Run a draft over an asset's purchases: points and cost beside the program in force, who loses, tiers.

    Both are told as if they had always been in force; nothing is recorded. Of a file with several assets the program
    of --asset is taken. Where days are chosen, what came before still counts for tiers, caps and first purchases.

    Example: guerdon program simulate club.json --asset STAR --from 2026-01-01 --chart club.svg
    """
    if start is not None and through is not None and through < start:
        raise typer.BadParameter(f"{through} lies before {start}", param_hint="--through")
    price = None if cost is None else _price(cost)
    draft = _draft(read_programs(file.read_bytes()), asset)
    with opened_store(Settings.from_environment(os.environ)) as store:
        days = tuple(None if day is None else day.isoformat() for day in (start, through))
        found, units = gather(store, asset, draft, days=(days[0], days[1]), cost=price, members=members)
    if as_json:
        typer.echo(encode_canonical(found).decode())
    else:
        print_simulation(found, asset, units, Console())
    if chart is not None:
        chart.write_bytes(draw_simulation(found, asset))


def gather(
    store: Store,
    code: str,
    draft: Program,
    *,
    days: tuple[str | None, str | None] = (None, None),
    cost: tuple[int, int] | None = None,
    members: int = 10,
) -> tuple[Simulation, _Units]:
    """Run a draft over the whole of an asset's history, in one snapshot; raise :class:`StoreError` if it cannot be."""
    with store.read() as connection:
        asset = queries.asset(store, connection, code)
        if asset is None:
            raise StoreError(f"there is no asset {code}")
        genesis = _genesis(store, connection)
        scales = {currency.code: currency.scale for currency in genesis.currencies}
        if draft.currency not in scales:
            raise SimulationError(f"this ledger does not settle in {draft.currency}", "currency")
        scale = scales[draft.currency]
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
        found = simulate(store, connection, wanted)
    return found, _Units(asset.scale, scale, draft.currency)

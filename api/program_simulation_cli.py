"""The command ``guerdon program simulate``. What it prints and draws is in :mod:`api.simulation_report`."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from api.json_files import ProgramFile, read_programs
from ledger.encoding import EncodingError, parse_date
from ledger.program_terms import Program


def _day(text: str) -> date:
    try:
        return parse_date(text)
    except EncodingError as error:
        raise typer.BadParameter(str(error)) from error


def simulate_command(  # noqa: PLR0917 - typer makes an option of each parameter
    file: Annotated[
        Path, typer.Argument(help="The draft as JSON, or a file of guerdon gallery.", exists=True, dir_okay=False)
    ],
    asset: Annotated[str, typer.Option(help="The asset whose history it is run over.")],
    start: Annotated[
        date | None, typer.Option("--from", parser=_day, metavar="YYYY-MM-DD", help="The first day told; all.")
    ] = None,
    through: Annotated[
        date | None, typer.Option(parser=_day, metavar="YYYY-MM-DD", help="The last day; until now.")
    ] = None,
    cost: Annotated[
        str | None, typer.Option(help="What points cost, minor units/points, such as 1/3; the asset's value.")
    ] = None,
    members: Annotated[
        int, typer.Option(min=0, max=100, help="How many to name of those who lose, and gain, most.")
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
    from api import simulation_report  # noqa: PLC0415 - the other commands of programs open no ledger

    simulation_report.report(
        asset,
        draft,
        days=(_text(start), _text(through)),
        cost=price,
        members=members,
        as_json=as_json,
        chart=chart,
    )


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _draft(found: Sequence[ProgramFile], asset: str) -> Program:
    """The program of a file, or of one with several that of an asset."""
    if len(found) == 1:
        return found[0].program
    chosen = [each.program for each in found if each.asset == asset]
    if not chosen:
        has = ", ".join(str(each.asset) for each in found)
        raise typer.BadParameter(f"the file has several assets and no {asset} among them (it has: {has})")
    return chosen[0]


def _price(text: str) -> tuple[int, int]:
    amount, slash, points = text.partition("/")
    if not (slash and amount.isdecimal() and points.isdecimal() and int(points)):
        raise typer.BadParameter(f"{text!r} is not of the form 1/3", param_hint="--cost")
    return int(amount), int(points)

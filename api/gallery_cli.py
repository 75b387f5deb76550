"""The command ``guerdon gallery``: programs after real merchants' terms, to read and to publish."""

import json
import time
from typing import Annotated

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from api.gallery import GalleryError, load, names, operations, read_as
from ledger.encoding import EncodingError, format_time, parse_time
from ledger.terms import FORMS, AccountRef, AssetCode


def gallery(
    name: Annotated[str | None, typer.Argument(help="A program; left out, all are listed.")] = None,
    merchant: Annotated[
        str | None, typer.Option(help="Print what this merchant signs to have the program, an operation a line.")
    ] = None,
    starts: Annotated[str | None, typer.Option(help="With --merchant: since when it is in force (now).")] = None,
    code: Annotated[
        list[str] | None, typer.Option(help="One's own code for an asset of the program, such as HMPOINT=STYLE.")
    ] = None,
) -> None:
    """List programs after real merchants' public terms, print one, or what one signs to have it.

    A program is JSON to be read and changed; its currency must be one of the ledger's. With --merchant each line is an
    operation for guerdon sign, in the order in which they are to be recorded; pipe each through guerdon sign and
    guerdon submit.

    Example: guerdon gallery 10_hm --merchant mer_… --code HMPOINT=STYLE > operations.jsonl
    """
    try:
        if name is None:
            _list()
        elif merchant is None:
            typer.echo(read_as(name, _own_codes(code or [])), nl=False)
        else:
            _print_operations(name, merchant, starts, code or [])
    except GalleryError as error:
        raise typer.BadParameter(str(error)) from error


def _list() -> None:
    table = Table("program", "title", "assets", "currency", box=box.ROUNDED)
    for name in names():
        program = load(name)
        currencies = dict.fromkeys(each.program.currency for each in program.assets)
        table.add_row(name, program.title, ", ".join(each.asset for each in program.assets), ", ".join(currencies))
    Console().print(table)


def _print_operations(name: str, merchant: str, starts: str | None, codes: list[str]) -> None:
    try:
        msgspec.convert(merchant, AccountRef)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(FORMS[AccountRef], param_hint="--merchant") from error
    if starts is None:
        starts = format_time(time.time_ns() // 1_000_000)
    try:
        parse_time(starts)
    except EncodingError as error:
        raise typer.BadParameter(str(error), param_hint="--starts") from error
    for each in operations(load(name), merchant, starts, _own_codes(codes)):
        typer.echo(json.dumps(each, ensure_ascii=False))


def _own_codes(codes: list[str]) -> dict[str, str]:
    return dict(_own_code(text) for text in codes)


def _own_code(text: str) -> tuple[str, str]:
    gallery_code, equals, own = text.partition("=")
    try:
        msgspec.convert(own, AssetCode)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(f"{text!r}: {FORMS[AssetCode]}", param_hint="--code") from error
    if not equals:
        raise typer.BadParameter(f"{text!r} is not of the form HMPOINT=STYLE", param_hint="--code")
    return gallery_code, own

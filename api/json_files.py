"""JSON that people write, and programs among it: read strictly, and what is wrong with it told with its place."""

import json  # msgspec keeps the last of two keys, of which a reader may have looked at the first
from collections import Counter
from typing import Any

import msgspec
from msgspec import Struct

from api.gallery import GalleryProgram
from ledger.operations import MalformedError, malformed
from ledger.program_terms import Program, ProgramError, check_program

MAX_FILE_BYTES = 4 * 1024 * 1024

SCHEMA_KEY = "$schema"
"""Says to an editor what describes a file; it is no part of a program."""


class ProgramFile(Struct, frozen=True, kw_only=True):
    """A program as a file has it; of a file of the gallery the ``asset`` and its ``scale`` are known too."""

    program: Program
    asset: str | None = None
    scale: int = 0


def read_json(data: str | bytes) -> Any:
    """JSON with every key of an object once; raise :class:`MalformedError` for anything else."""
    if len(data) > MAX_FILE_BYTES:
        raise MalformedError("TOO_LARGE", f"more than {MAX_FILE_BYTES} bytes")
    try:
        return json.loads(data, object_pairs_hook=_unique_keys)
    except MalformedError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedError("MALFORMED", f"not JSON: {error}") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise MalformedError("MALFORMED", f"the key {twice!r} is there twice")
    return fields


def read_programs(data: str | bytes) -> list[ProgramFile]:
    """The program of a file, or the programs of the assets in a file of the gallery.

    What a program says of itself by default may be written out: it is dropped when the program is signed. Raise
    :class:`MalformedError` with the place of what is wrong, outermost first.
    """
    document = read_json(data)
    if not isinstance(document, dict):
        raise MalformedError("MALFORMED", "a program is a JSON object")
    document.pop(SCHEMA_KEY, None)
    try:
        if "assets" not in document:
            return [ProgramFile(program=check_rules(msgspec.convert(document, Program)))]
        found = msgspec.convert(document, GalleryProgram)
    except msgspec.ValidationError as error:
        raise malformed(error) from error
    for i, each in enumerate(found.assets):
        check_rules(each.program, (f"assets[{i}]", "program"))
    return [ProgramFile(program=each.program, asset=each.asset, scale=each.scale) for each in found.assets]


def check_rules(program: Program, place: tuple[str, ...] = ()) -> Program:
    """A program that is well formed; raise :class:`MalformedError` with the place of what is wrong, below ``place``."""
    try:
        check_program(program)
    except ProgramError as error:
        raise MalformedError("MALFORMED", error.message, (*place, *error.path)) from error
    return program

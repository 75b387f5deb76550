"""The gallery: programs as real merchants' public terms describe them, ready to be published under one's own codes.

Each is a JSON file in ``api/gallery``: a title, what the terms say, and the assets to be defined in their order, each
with its program. A merchant reads one, changes what is different with it, and publishes it (``guerdon gallery``).
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ledger.program_terms import Program, check_program
from ledger.terms import AssetCode, Document, Name, TransferTerms, Value


class GalleryError(LookupError):
    """There is no such program in the gallery, or the assets asked for are not those of the program."""


class GalleryAsset(Document, frozen=True, kw_only=True):
    """An asset of a program, with the fields of ``define_asset``, and version 1 of its rules."""

    asset: AssetCode
    name: Name
    program: Program
    scale: Annotated[int, Meta(ge=0, le=6)]
    transfer_terms: TransferTerms | None = None
    transferable: bool
    value: Value | None = None


class GalleryProgram(Document, frozen=True, kw_only=True):
    """A program of the gallery. The last of its ``assets`` is what members earn; one it depends on comes before it."""

    about: str
    assets: Annotated[tuple[GalleryAsset, ...], Meta(min_length=1)]
    title: str


@cache
def names() -> tuple[str, ...]:
    """The names of all programs, in order: ``01_monthly_rewards`` is the first."""
    files = (entry.name for entry in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in files if name.endswith(".json")))


def load(name: str) -> GalleryProgram:
    """A program by its name, or by the part of it after the number; raise :class:`GalleryError` if there is none."""
    program = msgspec.json.decode(read(name), type=GalleryProgram)
    for each in program.assets:
        check_program(each.program)
    return program


def read(name: str) -> str:
    """The document of a program as it is written, see :func:`load`."""
    found = next((each for each in names() if name in {each, each.partition("_")[2]}), None)
    if found is None:
        raise GalleryError(f"the gallery has no program {name}: guerdon gallery lists them")
    return _folder().joinpath(f"{found}.json").read_text("utf-8")


def operations(
    program: GalleryProgram, merchant: str, starts: str, codes: Mapping[str, str] | None = None
) -> Iterator[dict[str, Any]]:
    """What a merchant signs to have a program from ``starts`` on: for each asset that it is defined, and its rules.

    As fields for :func:`ledger.operations.build_operation`, without ledger, time and nonce. ``codes`` are the
    merchant's own for those of the gallery. Raise :class:`GalleryError` for a code that the program does not have.
    """
    own = dict(codes or {})
    _check_codes(program, own)
    for each in program.assets:
        fields = msgspec.to_builtins(each)
        rules = fields.pop("program")
        if "status_asset" in rules:
            rules["status_asset"] = own.get(rules["status_asset"], rules["status_asset"])
        asset = own.get(each.asset, each.asset)
        yield {"kind": "define_asset", "actor": merchant, **fields, "asset": asset}
        published = {"asset": asset, "version": 1, "starts": starts, "program": rules}
        yield {"kind": "publish_program", "actor": merchant, **published}


def read_as(name: str, codes: Mapping[str, str]) -> str:
    """The document of a program with the merchant's own codes for those of the gallery, otherwise as it is written.

    Raise :class:`GalleryError` for a code that the program does not have.
    """
    _check_codes(load(name), codes)
    return re.sub(
        r'("(?:asset|status_asset)": ")(\w+)(?=")', lambda found: found[1] + codes.get(found[2], found[2]), read(name)
    )


def _check_codes(program: GalleryProgram, codes: Mapping[str, str]) -> None:
    if unknown := codes.keys() - {each.asset for each in program.assets}:
        raise GalleryError(f"the program has no asset {min(unknown)}")


def _folder() -> Traversable:
    return resources.files("api").joinpath("gallery")

"""The gallery of programs: its documents, and the command that lists and prints them."""

import json
import re
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from api import gallery
from ledger.operations import DefineAsset, PublishProgram, build_operation
from ledger.program_terms import Program, When
from tests.rulebook import Book
from tests.test_cli import ROOT, guerdon, succeed

MERCHANT = "mer_" + "a" * 26
STARTS = "2026-01-01T00:00:00.000Z"


@pytest.mark.parametrize("name", gallery.names())
def test_a_program_says_what_it_says_once(name: str) -> None:
    """Nothing that absence means is written out, and what is told of it is two sentences."""
    program = gallery.load(name)
    assert json.loads(msgspec.json.encode(program)) == json.loads(gallery.read(name))
    assert len(re.findall(r"\.(?= [A-Z]|$)", program.about)) == 2, program.about


@pytest.mark.parametrize("name", gallery.names())
def test_a_program_is_published_as_it_is(name: str) -> None:
    """What the gallery gives is admitted in its order, under the merchant's own codes too."""
    book = Book(STARTS)
    shop = book.merchant()
    for i, each in enumerate(gallery.operations(gallery.load(name), shop, STARTS)):
        fields = {key: value for key, value in each.items() if key != "kind"}
        book.do(each["kind"], **fields)
        assert each["kind"] == ("define_asset", "publish_program")[i % 2]
    assert len(book.state.programs) == len(gallery.load(name).assets)


def test_programs_are_numbered_in_order_and_their_codes_differ() -> None:
    """So that one ledger can have them all."""
    numbers = [int(name.partition("_")[0]) for name in gallery.names()]
    assert all(one < other for one, other in pairwise(numbers))
    codes = [each.asset for name in gallery.names() for each in gallery.load(name).assets]
    assert len(codes) == len(set(codes))


def test_the_gallery_uses_every_part_of_the_language() -> None:
    """Whoever looks for how to say something finds a program that does."""
    programs = [each.program for name in gallery.names() for each in gallery.load(name).assets]
    used = {part for program in programs for part in msgspec.to_builtins(program)}
    assert set(Program.__struct_fields__) - used == set()
    asked = {part for program in programs for part in all_asked(msgspec.to_builtins(program))}
    assert set(When.__struct_fields__) - asked == {"merchants"}  # they are accounts, which a document cannot know


def all_asked(value: Any) -> set[str]:
    """What conditions anywhere in a document ask for."""
    if isinstance(value, dict):
        return set(value.get("when", ())).union(*map(all_asked, value.values()))
    return set().union(*map(all_asked, value)) if isinstance(value, list | tuple) else set()


def test_own_codes_replace_those_of_the_gallery_wherever_they_are() -> None:
    """The status asset of a program is named twice."""
    codes = {"ATMOS": "MILES", "ATMOSST": "LEVELS"}
    published = list(gallery.operations(gallery.load("alaska_atmos"), MERCHANT, STARTS, codes))
    assert [each["asset"] for each in published] == ["LEVELS", "LEVELS", "MILES", "MILES"]
    assert published[-1]["program"]["status_asset"] == "LEVELS"
    with pytest.raises(gallery.GalleryError, match="no asset PAPER"):
        list(gallery.operations(gallery.load("01_monthly_rewards"), MERCHANT, STARTS, {"PAPER": "MILES"}))


def test_the_command_lists_every_program() -> None:
    listed = succeed("gallery")
    assert [name for name in gallery.names() if name not in listed] == []


def test_the_command_prints_a_program_by_either_name() -> None:
    assert succeed("gallery", "hm") == succeed("gallery", "10_hm") == gallery.read("10_hm")


def test_the_command_prints_a_program_under_own_codes_and_otherwise_as_it_is() -> None:
    """So that what is changed in it can be published as the program of one's own asset."""
    renamed = succeed("gallery", "alaska_atmos", "--code", "ATMOS=MILES", "--code", "ATMOSST=LEVELS")
    assert [line for line in renamed.splitlines() if "ATMOS" in line] == []
    assert renamed.replace("MILES", "ATMOS").replace("LEVELS", "ATMOSST") == gallery.read("12_alaska_atmos")


def test_the_command_prints_operations_that_are_well_formed() -> None:
    """A line each, lacking only what guerdon sign fills in."""
    lines = succeed("gallery", "13_azal_miles", "--merchant", MERCHANT, "--code", "AZAL=FLY").splitlines()
    more = {"guerdon": 1, "ledger": "ledger.example/test", "at": STARTS, "nonce": "A" * 22}
    kinds = [type(build_operation(json.loads(line) | more)) for line in lines]
    assert kinds == [DefineAsset, PublishProgram] * 2
    assert json.loads(lines[-1])["asset"] == "FLY"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("zara",), "the gallery has no program zara"),
        (("10_hm", "--merchant", "me"), "mem_, mer_"),
        (("10_hm", "--merchant", MERCHANT, "--starts", "now"), "--starts"),
        (("10_hm", "--merchant", MERCHANT, "--code", "HMPOINT"), "--code"),
        (("10_hm", "--merchant", MERCHANT, "--code", "OTHER=STYLE"), "no asset OTHER"),
        (("10_hm", "--code", "OTHER=STYLE"), "no asset OTHER"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(arguments: tuple[str, ...], complaint: str) -> None:
    result = guerdon("gallery", *arguments)
    assert result.status == 2
    assert complaint in " ".join(result.err.split())


def test_documents_are_in_the_distribution() -> None:
    """Package data is named one by one."""
    assert '"gallery/*.json"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_every_row_of_the_gallery_is_in_the_readme_and_has_its_tests() -> None:
    """Programs that need no document of their own are rows by their number."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Gallery")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?:`(\w+)`|(\d+), with `(\w+)`) \|", section, re.MULTILINE)
    numbers = [int((name or number).partition("_")[0]) for name, number, _ in rows]
    assert numbers == list(range(1, 24))
    assert [name for name, *_ in rows if name] == list(gallery.names())
    assert {name for *_, name in rows if name} <= set(gallery.names())
    tested = {int(path.name.split("_")[2]) for path in (ROOT / "tests").glob("test_program_[0-9]*.py")}
    assert tested == set(numbers)

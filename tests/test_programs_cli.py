"""The commands of programs: described, checked and tried offline, published and used against the real server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
import urllib3

from api import gallery, program_schema
from api.guerdon import Guerdon
from api.json_files import read_programs
from api.opening import system_clock
from ledger.checkpoint import encode_verifier_key
from ledger.encoding import format_time
from ledger.keyring import generate_private_key, save_private_key
from ledger.operations import MalformedError
from ledger.program_terms import Plan, Program, Reward
from ledger.wallet import Wallet
from tests.service import serving
from tests.test_api_programs import EVERY_PART
from tests.test_cli import fail, guerdon, succeed
from tests.test_wallet_cli import SystemClock, at_a_terminal
from tests.worlds import World, make_program

SMALL: dict[str, Any] = {
    "bands": [{"from": 0, "per": 100, "points": 1}],
    "currency": "USD",
    "expiry": {"after": "never"},
    "round_amount": "none",
    "round_points": "down",
    "time_zone": "UTC",
}
CLUB = SMALL | {
    "benefits": [{"benefit": "free_shipping", "when": {"from_amount": 5_000}}],
    "bonuses": [{"bonus": "welcome", "points": 100, "when": {"first_purchase": True}}],
    "earning_cap": {"period": "month", "points": 500},
    "formulas": [{"bands": [{"from": 0, "per": 1, "points": 2}], "formula": "miles", "quantity": "miles"}],
    "multipliers": [
        {"multiplier": "gold", "times": {"denominator": 2, "numerator": 3}, "when": {"tiers": ["gold"]}},
        {"multiplier": "food", "times": {"denominator": 1, "numerator": 3}, "when": {"categories": ["food"]}},
    ],
    "tiers": {"basis": "amount", "levels": [{"from": 10_000, "tier": "gold"}], "period": "month"},
}


@pytest.fixture
def club(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "club.json", CLUB)


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), "utf-8")
    return path


# The schema


def validator() -> Any:
    return jsonschema_rs.Draft202012Validator(json.loads(program_schema.program_schema()))


def test_schema_describes_all_programs_that_there_are() -> None:
    """Its dialect is told, every field says what it means, and what it refers to is in it."""
    schema = json.loads(succeed("program", "schema"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema)
    assert jsonschema_rs.Draft202012Validator(schema).is_valid(EVERY_PART)
    for name in gallery.names():
        for found in json.loads(gallery.read(name))["assets"]:
            assert validator().is_valid(found["program"]), name
    mute = [
        f"{name}.{field}"
        for name, found in schema["$defs"].items()
        for field, described in found["properties"].items()
        if "description" not in described and field != "after"
    ]
    assert mute == []
    assert all(found["description"] for found in schema["$defs"].values())
    assert set(re.findall(r"#/\$defs/(\w+)", json.dumps(schema))) == set(schema["$defs"])


def wrong(place: str, value: Any) -> dict[str, Any]:
    """Every part, of which one is changed: `tiers.levels.0.from`. ``...`` removes it."""
    document: dict[str, Any] = json.loads(json.dumps(EVERY_PART))
    *way, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    here: Any = document
    for part in way:
        here = here[part]
    here[last] = value
    if value is ...:
        del here[last]
    return document


WRONG = {
    "bands": [],
    "bands.0.per": 0,
    "bands.0.points": 1.5,
    "benefits.0.benefit": "Free shipping",
    "birthday.points": None,
    "currency": "usd",
    "expiry": {"after": "days", "months": 1},
    "expiry.after": "someday",
    "multipliers.0.times": 2,
    "multipliers.0.when.weekdays": ["monday"],
    "multipliers.0.when.from_day": "1.5.2026",
    "rewards.0.stok": 1,
    "rewards.0.price": ...,
    "stacking": "most",
    "tiers.levels.0.from": -1,
    "time_zone": ...,
}


@pytest.mark.parametrize("place", WRONG)
def test_schema_and_decoder_refuse_the_same(place: str, tmp_path: Path) -> None:
    """What the types of a program do not take, the schema made from them does not."""
    document = wrong(place, WRONG[place])
    assert not validator().is_valid(document)
    with pytest.raises(MalformedError) as caught:
        read_programs(json.dumps(document))
    name = next(part for part in reversed(place.split(".")) if not part.isdigit())
    assert name in ".".join(caught.value.path) or caught.value.path == ("expiry",)


def test_name_of_a_part_ends_where_its_text_does() -> None:
    """Python's and ECMA-262's regular expressions end differently; no line break slips in."""
    assert not validator().is_valid(SMALL | {"currency": "USD\n"})
    assert "\\Z" not in program_schema.program_schema().decode()


# Check


def test_check_shows_what_purchases_earn(club: Path) -> None:
    out = succeed("program", "check", "club.json", "--amount", "12.50", "--amount", "60", "--day", "2026-03-02")
    assert out.splitlines() == [
        "club.json is well formed",
        "       12.50 USD earns           12",
        "          60 USD earns           60  (free_shipping)",
    ]


@pytest.mark.parametrize(
    ("options", "points", "why"),
    [
        (["--tier", "gold"], "60", "base 40, gold"),
        (["--tier", "gold", "--category", "food"], "120", "base 40, food"),
        (["--first"], "140", "base 40, welcome +100"),
        (["--formula", "miles", "--quantity", "miles=70"], "140", "formula miles"),
        (["--formula", "miles", "--quantity", "miles=400"], "500", "formula miles, 300 above the cap"),
        (["--category", "tools"], "40", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_check_says_why(club: Path, options: list[str], points: str, why: str) -> None:
    """Whatever makes it other than the base points is named."""
    out = succeed("program", "check", "club.json", "--amount", "40", *options)
    line = f"{'40':>12} USD earns {points:>12}" + (f"  ({why})" if why else "")
    assert out.splitlines()[1:] == [line]


def test_check_in_json_has_the_whole_calculation(club: Path) -> None:
    told = json.loads(succeed("program", "check", "club.json", "--amount", "40", "--first", "--json"))
    (purchase,) = told[0]["purchases"]
    assert (purchase["amount"], purchase["earned"]["points"]) == (4_000, 140)
    assert purchase["earned"]["bonuses"] == [{"bonus": "welcome", "points": 100}]


def test_file_of_the_gallery_is_checked_whole_or_for_one_asset(tmp_path: Path) -> None:
    """Its programs are those that one copies and changes."""
    path = tmp_path / "style.json"
    path.write_text(gallery.read("10_hm"), "utf-8")
    assets = [each.asset for each in gallery.load("10_hm").assets]
    out = succeed("program", "check", str(path))
    assert [line.split()[0] for line in out.splitlines() if "well formed" in line] == assets
    out = succeed("program", "check", str(path), "--asset", assets[-1], "--amount", "1")
    assert out.startswith(f"{assets[-1]} is well formed\n")
    result = guerdon("program", "check", str(path), "--asset", "NONE")
    assert (result.status, "the file has no asset NONE" in result.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(SMALL | {"bands": [{"from": 0, "per": 0, "points": 1}]}), "bands[0].per: Expected `int` >= 1"),
        (
            json.dumps({name: part for name, part in CLUB.items() if name != "tiers"}),
            "multipliers[0].when.tiers: the program has no tier gold",
        ),
        (json.dumps(SMALL | {"time_zone": "Mars"}), "time_zone: 'Mars' is not a time zone of the IANA database"),
        (json.dumps(SMALL | {"colour": "red"}), "colour: Object contains unknown field `colour`"),
        ('{"bands": [], "bands": []}', "the key 'bands' is there twice"),
        ("[]", "a program is a JSON object"),
        ("{", "not JSON: "),
    ],
    ids=["type", "between parts", "zone", "unknown", "twice", "list", "broken"],
)
def test_check_names_the_place_of_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text, "utf-8")
    assert fail("program", "check", str(path)).startswith(message)


def test_editors_key_and_spelled_out_defaults_are_no_mistake(tmp_path: Path) -> None:
    """A person may write what a signed document never says."""
    document = SMALL | {"$schema": "./program.schema.json", "refunds": "cap", "grants": [], "returned_lot_days": 0}
    (found,) = read_programs(json.dumps(document))
    assert found.program == msgspec.convert(SMALL, Program)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--tier", "silver"], "it has: gold"),
        (["--plan", "plus"], "it has: none"),
        (["--formula", "bus"], "it has: miles"),
        (["--amount", "1.005"], "--amount"),
        (["--quantity", "miles"], "--quantity"),
        (["--day", "2026-02-30"], "--day"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_the_program_has_not_is_a_wrong_call(club: Path, options: list[str], word: str) -> None:
    result = guerdon("program", "check", "club.json", *options)
    assert result.status == 2
    assert word in re.sub(r"\s+", " ", result.err)


# With a server


class Town:
    """A served ledger with a shop's STAR, and key files of the shop and of two members."""

    def __init__(self, world: World, url: str, folder: Path) -> None:
        self.world = world
        self.url = url
        self.shop, (self.alice, self.bob) = world.add_merchant(), world.add_members(2)
        for name, wallet in (("shop", self.shop), ("alice", self.alice), ("bob", self.bob)):
            save_private_key(folder / f"{name}.pem", wallet.keys[0], None)

    def as_(self, name: str) -> tuple[str, ...]:
        wallet: Wallet = getattr(self, name)
        return "--account", str(wallet.account), "--key", f"{name}.pem"

    def program(self) -> tuple[int, Any]:
        with Guerdon(self.url) as client:
            version, document = client.newest_program("STAR")
            return version, json.loads(document) if document is not None else None


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    clock = SystemClock(format_time(system_clock()))
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}", clock=clock) as world:
        generate_private_key(tmp_path / "profiles.pem", None)
        with serving(world, tmp_path, profile_key_file=tmp_path / "profiles.pem") as url:
            monkeypatch.setenv("GUERDON_WALLET_URL", url)
            monkeypatch.setenv("GUERDON_WALLET_LOG_KEYS", encode_verifier_key(world.origin, world.log_key))
            monkeypatch.chdir(tmp_path)
            yield Town(world, url, tmp_path)


def test_program_is_published_version_by_version(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is in force at once, a later one in a minute; before it is signed one is shown what changes."""
    town.world.add_asset(town.shop, "STAR", make_program())
    write(Path("club.json"), CLUB)
    asked = ("program", "publish", "club.json", "--asset", "STAR", *town.as_("shop"))
    refused = at_a_terminal(monkeypatch, "n\n", *asked)
    assert "version 2 of the program of STAR" in refused.err
    assert "new      benefits, bonuses, earning_cap, formulas, multipliers, tiers\n" in refused.err
    assert "changed  round_amount\n" in refused.err
    assert "gone     grants\n" in refused.err
    assert town.program()[0] == 1
    assert "receipt   verified" in succeed(*asked)
    assert town.program() == (2, CLUB)
    again = at_a_terminal(monkeypatch, "n\n", *asked)
    assert "it is as the version before" in again.err


def test_program_of_the_gallery_is_published_for_its_asset(town: Town) -> None:
    """It begins at once where there is none yet, or when it is told to."""
    found = gallery.load("10_hm").assets[-1]
    program = msgspec.structs.replace(found.program, status_asset=None)
    write(
        Path("style.json"),
        {
            "about": "",
            "title": "",
            "assets": [msgspec.to_builtins(msgspec.structs.replace(found, asset="STAR", program=program))],
        },
    )
    town.world.add_asset(town.shop, "STAR", program)
    options = ("--asset", "STAR", "--starts", "2999-01-01T00:00:00.000Z", "--ends", "2999-02-01T00:00:00.000Z")
    told = json.loads(succeed("program", "publish", "style.json", *options, *town.as_("shop"), "--json"))
    assert told["proven"]
    assert town.program()[0] == 2
    wrong_time = guerdon("program", "publish", "style.json", "--asset", "STAR", "--starts", "now", *town.as_("shop"))
    assert (wrong_time.status, "--starts" in wrong_time.err) == (2, True)


def test_members_and_tills_use_a_program(town: Town) -> None:
    """Enrol, pay for a plan and end it, form a pool, have a reward from it, use the voucher by its code, leave."""
    program = make_program(plans=(Plan(plan="plus", days=30, price=990),), rewards=(Reward(reward="cup", price=10),))
    town.world.add_asset(town.shop, "STAR", program)
    for wallet in (town.alice, town.bob):
        town.world.grant(town.shop, "STAR", wallet, 50)
    shop, alice, bob = (str(wallet.account) for wallet in (town.shop, town.alice, town.bob))
    succeed("enroll", "STAR", "--invited-by", bob, *town.as_("alice"))
    assert "ALREADY_ENROLLED" in fail("enroll", "STAR", *town.as_("alice"))
    succeed("plan", "start", "STAR", alice, "plus", "--reference", "pay-1", *town.as_("shop"))
    succeed("plan", "end", "STAR", alice, "--refunded", *town.as_("shop"))
    assert "NO_PLAN" in fail("plan", "end", "STAR", alice, *town.as_("shop"))
    succeed("pool", "form", "STAR", bob, "--member-key", "bob.pem", *town.as_("alice"))
    out = succeed("redeem", "20", "STAR", shop, "--reward", "cup", "--from-pool", *town.as_("alice"))
    assert f"posting   -10 STAR {bob}" in out
    (first, second) = json.loads(succeed("voucher", "list", "--json", *town.as_("alice")))
    assert (first["reward"], first["status"], first["index"], second["index"]) == ("cup", "issued", 0, 1)
    succeed("voucher", "use", first["code"], "--reference", "bill-1", *town.as_("shop"))
    assert "VOUCHER_CLOSED" in fail("voucher", "use", first["id"], *town.as_("shop"))
    assert "there is no voucher" in fail("voucher", "use", "vch_1_0", *town.as_("shop"))
    lines = succeed("voucher", "list", "--all", *town.as_("alice")).splitlines()
    assert lines == [
        f"{first['id']} cup for 10 STAR at {shop}, used",
        f"{second['id']} cup for 10 STAR at {shop}, issued, code {second['code']}",
    ]
    succeed("pool", "leave", "STAR", *town.as_("bob"))
    assert "NO_POOL" in fail("pool", "leave", "STAR", *town.as_("alice"))
    assert succeed("voucher", "list", *town.as_("bob")) == "no vouchers\n"


def test_server_has_the_schema_for_everybody(town: Town) -> None:
    """Without a session, as the type that such files have."""
    answer = urllib3.request("GET", f"{town.url}{program_schema.PATH}")
    assert (answer.status, answer.data) == (200, program_schema.program_schema())
    assert answer.headers["content-type"] == "application/schema+json"
    assert answer.headers["cache-control"] == "public, max-age=3600"

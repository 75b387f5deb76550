"""Profiles in GraphQL: who keeps, reads, finds and erases; and what strangers learn, which is nothing."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.cli import app
from ledger.keyring import save_private_key
from ledger.keys import encode_public_key
from ledger.operations import OpenAccount, ReplaceKeys
from ledger.sequencer import account_opened_by
from tests.service import ERRORS, Service, key_file, running, serving
from tests.worlds import World

PROFILE = """accountId name email phone birthday language timeZone address { lines postalCode city region country }
  revision updatedAt erasedAt identifiers { id merchantId kind value lastCharacters addedBy addedAt }"""
RESULTS = {
    "profileUpdate": f"profile {{ {PROFILE} }}",
    "profileErase": "erasedAt",
    "identifierAdd": "identifier { id merchantId kind value lastCharacters addedBy }",
    "identifierRemove": "removedId",
}
PHONE = "+49 30 1234567"
ADA = {"name": "Ada Lovelace", "email": "Ada@EXAMPLE.org", "phone": PHONE, "language": "EN-gb"}


class Counter:
    """A merchant with a member in its custody, another with a key, and everybody's tokens."""

    def __init__(self, service: Service) -> None:
        self.service, self.world = service, service.world
        self.shop, self.other = self.world.add_merchant(), self.world.add_merchant("Other")
        self.world.add_asset(self.shop, "STAR")
        self.ben, self.eve = self.world.add_members(2)
        self.world.grant(self.shop, "STAR", self.ben, 10)
        (opened,) = self.world.record(self.shop.sign(OpenAccount, role="member", keys=()))
        self.ada = account_opened_by(opened)
        self.tokens = {
            name: service.sign_in(wallet)
            for name, wallet in (
                ("shop", self.shop),
                ("other", self.other),
                ("ben", self.ben),
                ("eve", self.eve),
                ("operator", self.world.operator),
            )
        }

    def call(self, who: str, mutation: str, **given: Any) -> Any:
        kind = mutation[0].upper() + mutation[1:] + "Input"
        document = f"mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {RESULTS[mutation]} {ERRORS} }} }}"
        return self.service.query(document, {"input": given}, self.tokens[who])[mutation]

    def done(self, who: str, mutation: str, **given: Any) -> Any:
        payload = self.call(who, mutation, **given)
        assert payload.pop("userErrors") == []
        (result,) = payload.values()
        return result

    def refused(self, who: str, mutation: str, **given: Any) -> tuple[str, str]:
        payload = self.call(who, mutation, **given)
        (error,) = payload.pop("userErrors")
        assert set(payload.values()) == {None}
        return error["code"], ".".join(error["path"])

    def profile(self, who: str, account: str | None = None) -> Any:
        document = f"query($id: ID) {{ profile(account: $id) {{ {PROFILE} }} }}"
        return self.service.query(document, {"id": account}, self.tokens[who])["profile"]

    def find(self, who: str, value: str, kind: str = "PHONE") -> Any:
        document = (
            "query($k: MemberIdentifierKind!, $v: String!) { "
            "accountByIdentifier(kind: $k, value: $v) { accountId addedBy } }"
        )
        found = self.service.query(document, {"k": kind, "v": value}, self.tokens[who])["accountByIdentifier"]
        return found and (found["accountId"], found["addedBy"])


@pytest.fixture
def counter(world: World, tmp_path: Path) -> Iterator[Counter]:
    with running(world, tmp_path, profile_key_file=key_file(tmp_path, world.make_key())) as service:
        yield Counter(service)


def test_custodian_keeps_the_profile_of_who_has_no_phone_until_it_is_claimed(counter: Counter) -> None:
    """After the claim it is the member's alone; at the till the merchant still finds its member."""
    ada, world = counter.ada, counter.world
    kept = counter.done("shop", "profileUpdate", account=ada, **ADA, timeZone="Europe/London")
    assert (kept["email"], kept["phone"], kept["language"]) == ("Ada@example.org", "+49301234567", "en-GB")
    added = counter.done("shop", "identifierAdd", account=ada, kind="PHONE", value="0049 30 1234567")
    assert (added["value"], added["lastCharacters"], added["addedBy"]) == ("+49301234567", "4567", "MERCHANT")
    assert counter.profile("shop", ada)["identifiers"][0]["id"] == added["id"]
    assert counter.find("shop", PHONE) == (ada, "MERCHANT")
    key = world.make_key()
    custodian = world.wallet(ada, *counter.shop.keys)
    counter.tokens["custody"] = counter.service.sign_in(custodian)
    assert counter.profile("custody")["name"] == "Ada Lovelace"
    world.record(custodian.sign(ReplaceKeys, co_signers=[key], keys=(encode_public_key(key),)))
    assert counter.profile("shop", ada) is None
    assert counter.refused("shop", "profileUpdate", account=ada, name="X") == ("NOT_PERMITTED", "input.account")
    assert counter.refused("shop", "profileErase", account=ada) == ("NOT_PERMITTED", "input.account")
    counter.tokens["ada"] = counter.service.sign_in(world.wallet(ada, key))
    assert counter.profile("ada")["name"] == "Ada Lovelace"
    assert counter.find("shop", PHONE) is None  # it has no points of the merchant's assets
    world.grant(counter.shop, "STAR", world.wallet(ada, key), 5)
    assert counter.find("shop", PHONE) == (ada, "MERCHANT")


def test_member_keeps_its_own_profile(counter: Counter) -> None:
    """What is left out stays, null deletes, and a change of an older revision is refused."""
    assert counter.profile("ben") is None
    address = {"lines": ["Street 1"], "city": "Town", "country": "GB"}
    first = counter.done("ben", "profileUpdate", name="Ben", birthday="1990-01-31", address=address)
    assert first["address"] == {
        "lines": ["Street 1"],
        "postalCode": None,
        "city": "Town",
        "region": None,
        "country": "GB",
    }
    second = counter.done("ben", "profileUpdate", expectedRevision=1, birthday=None, phone=PHONE)
    assert (second["name"], second["birthday"], second["phone"], second["revision"]) == ("Ben", None, "+49301234567", 2)
    refused = counter.refused("ben", "profileUpdate", expectedRevision=1, name="B")
    assert refused == ("PROFILE_CHANGED", "input.expectedRevision")
    assert counter.profile("ben") == second


@pytest.mark.parametrize("who", ["eve", "other", "operator"])
def test_stranger_reads_the_same_null_of_everybody(counter: Counter, who: str) -> None:
    """Of a member with a profile, of one without, and of an account that is not there."""
    counter.done("ben", "profileUpdate", name="Ben")
    counter.done("shop", "profileUpdate", account=counter.ada, name="Ada")
    for account in (str(counter.ben.account), counter.ada, f"mem_{'a' * 26}"):
        assert counter.profile(who, account) is None
        if who != "operator":
            assert counter.refused(who, "profileUpdate", account=account, name="X") == (
                "NOT_PERMITTED",
                "input.account",
            )
    assert counter.profile("shop", str(counter.ben.account)) is None


def test_only_members_and_merchants_keep_profiles_and_only_merchants_find(counter: Counter) -> None:
    find = 'query { accountByIdentifier(kind: PHONE, value: "+49301234567") { accountId } }'
    update = 'mutation { profileUpdate(input: {name: "X"}) { profile { name } } }'
    assert counter.service.error_code(update, token=counter.tokens["operator"]) == "FORBIDDEN"
    assert counter.service.error_code(update) == "UNAUTHENTICATED"
    assert counter.service.error_code("{ profile { name } }") == "UNAUTHENTICATED"
    for who in ("ben", "operator"):
        assert counter.service.error_code(find, token=counter.tokens[who]) == "FORBIDDEN"


def test_identifier_is_found_by_its_merchant_alone(counter: Counter) -> None:
    """The other merchant gets the null that it gets for nobody; a member adds it where it has points only."""
    shop, other = str(counter.shop.account), str(counter.other.account)
    added = counter.done("ben", "identifierAdd", merchant=shop, kind="CARD", value="6001 2345")
    assert counter.find("shop", "6001-2345", "CARD") == (counter.ben.account, "MEMBER")
    assert counter.find("other", "60012345", "CARD") is None
    assert counter.find("shop", "60012346", "CARD") is None
    add = {"kind": "CARD", "value": "60012345"}
    assert counter.refused("ben", "identifierAdd", merchant=other, **add) == ("NOT_PERMITTED", "input.merchant")
    assert counter.refused("eve", "identifierAdd", merchant=shop, **add) == ("NOT_PERMITTED", "input.merchant")
    assert counter.refused("ben", "identifierAdd", **add) == ("MALFORMED", "input.merchant")
    refused = counter.refused("shop", "identifierAdd", account=counter.ada, **add)
    assert refused == ("IDENTIFIER_TAKEN", "input.value")
    unknown = ("UNKNOWN_IDENTIFIER", "input.id")
    assert counter.refused("eve", "identifierRemove", id=added["id"]) == unknown
    assert counter.refused("other", "identifierRemove", id=added["id"]) == unknown
    assert counter.done("shop", "identifierRemove", id=added["id"]) == added["id"]
    assert counter.refused("ben", "identifierRemove", id=added["id"]) == unknown
    assert counter.done("shop", "identifierAdd", account=counter.ada, **add)["addedBy"] == "MERCHANT"


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"email": "ada"}, "input.email"),
        ({"timeZone": "Mars"}, "input.timeZone"),
        ({"address": {"lines": [], "postalCode": ""}}, "input.address.postalCode"),
        ({"birthday": "2026-03-04"}, "input.birthday"),
    ],
)
def test_what_has_no_normal_form_is_refused_at_its_field(counter: Counter, given: Any, path: str) -> None:
    assert counter.refused("ben", "profileUpdate", **given) == ("MALFORMED", path)
    assert counter.profile("ben") is None


def test_erasure_is_final_and_says_when(counter: Counter) -> None:
    counter.done("ben", "profileUpdate", **ADA)
    counter.done("ben", "identifierAdd", merchant=str(counter.shop.account), kind="EMAIL", value="ada@example.org")
    erased_at = counter.done("ben", "profileErase")
    left = counter.profile("ben")
    assert (left["erasedAt"], left["revision"], left["identifiers"]) == (erased_at, 0, [])
    assert {left[name] for name in ("name", "email", "phone", "language", "address", "updatedAt")} == {None}
    assert counter.find("shop", "ada@example.org", "EMAIL") is None


def test_nothing_personal_is_logged_or_taken_in_a_url(counter: Counter, caplog: pytest.LogCaptureFixture) -> None:
    """Neither when it is refused, nor when what is stored was tampered with."""
    caplog.set_level(logging.DEBUG)
    counter.done("ben", "profileUpdate", **ADA)
    counter.refused("ben", "profileUpdate", email="lovelace at example")
    with counter.world.store.write() as transaction:
        transaction.connection.exec_driver_sql("UPDATE profile SET revision = 7")
    assert counter.service.error_code("{ profile { name } }", token=counter.tokens["ben"]) == "INTERNAL_ERROR"
    assert "sealed" in caplog.text
    for secret in ("Lovelace", "lovelace", "1234567", "example.org"):
        assert secret not in caplog.text
    find = '{ accountByIdentifier(kind: PHONE, value: "+49301234567") { accountId } }'
    headers = {"authorization": f"Bearer {counter.tokens['shop']}"}
    answer = counter.service.client.get("/graphql", params={"query": find}, headers=headers).json()
    assert answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert "POST" in answer["errors"][0]["message"]


def test_who_tries_many_numbers_is_stopped(world: World, tmp_path: Path) -> None:
    """A lookup counts as a thousand fields."""
    settings: dict[str, Any] = {"profile_key_file": key_file(tmp_path, world.make_key()), "rate_cost": 4_000}
    with running(world, tmp_path, steady=lambda: 0, **settings) as service:
        shop = world.add_merchant()
        token = service.sign_in(shop)
        find = {"query": '{ accountByIdentifier(kind: CARD, value: "1234") { accountId } }'}
        codes = [service.post(find, token=token).status_code for _ in range(4)]
    assert codes[:2] == [200, 200]
    assert codes[-1] == 429


def test_server_without_a_key_keeps_no_profiles_and_says_so(world: World, tmp_path: Path) -> None:
    with running(world, tmp_path) as service:
        token = service.sign_in(world.add_member())
        for document in ("{ profile { name } }", "mutation { profileErase(input: {}) { erasedAt } }"):
            (error,) = service.ask(document, token=token)["errors"]
            assert error["extensions"]["code"] == "FORBIDDEN"
            assert "GUERDON_PROFILE_KEY_FILE" in error["message"]


def test_member_exports_what_is_kept(tmp_path: Path) -> None:
    """Profile, identifiers and movements, as JSON."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        with running(world, tmp_path, profile_key_file=(key := key_file(tmp_path, world.make_key()))) as service:
            counter = Counter(service)
            counter.done("ben", "profileUpdate", **ADA)
            counter.done("ben", "identifierAdd", merchant=str(counter.shop.account), kind="CARD", value="60012345")
        save_private_key(tmp_path / "ben.pem", counter.ben.keys[0], None)
        with serving(world, tmp_path, profile_key_file=key) as url:
            arguments = ["profile", "export", "--account", str(counter.ben.account), "--key", str(tmp_path / "ben.pem")]
            done = CliRunner().invoke(app, [*arguments, "--url", url])
    assert done.exit_code == 0, done.output
    data = json.loads(done.output)
    assert data["profile"]["name"] == "Ada Lovelace"
    assert data["profile"]["identifiers"][0]["value"] == "60012345"
    assert (data["balances"][0]["total"], len(data["movements"]["STAR"])) == (10, 1)

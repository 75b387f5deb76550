"""Mutations: every kind of operation recorded, replayed and refused over the API."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from api.inputs import KIND_OF
from ledger.checkpoint import encode_verifier_key
from ledger.encoding import format_time
from ledger.entries import decode_entry, leaf_hash, signed_operation_of
from ledger.keys import encode_public_key
from ledger.operations import (
    KINDS,
    CancelRecovery,
    DefineAsset,
    Expire,
    Grant,
    OpenAccount,
    PublishProgram,
    RecordPurchases,
    RecoverKeys,
    Redeem,
    ReplaceKeys,
    ReplaceLogKey,
    SignedOperation,
    Transfer,
)
from ledger.program_terms import ExpiresAfterDays, ExpiresAfterMonths, ExpiresAtYearEnd, NeverExpires
from ledger.receipt import decode_receipt
from ledger.sequencer import account_opened_by
from ledger.terms import Purchase, Recipient, Value
from ledger.wallet import Wallet
from tests.service import MUTATIONS, Service, running, signed_text, typed_input
from tests.test_api_partners_mutations import OPERATIONS
from tests.worlds import DAY_MS, World, make_program, pay


class Shop:
    """A merchant with an asset and two members, one of whom holds 500 points."""

    def __init__(self, world: World) -> None:
        self.merchant = world.add_merchant()
        world.add_asset(self.merchant, "STAR", make_program(expiry=ExpiresAfterDays(count=30)), supply_cap=10_000)
        self.alice, self.bob = world.add_members(2)
        world.grant(self.merchant, "STAR", self.alice, 500)
        self.next_log_key = world.make_key()


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


@pytest.fixture
def service(world: World, shop: Shop, tmp_path: Path) -> Iterator[Service]:
    with running(world, tmp_path, [world.log_key, shop.next_log_key]) as service:
        yield service


def purchases(shop: Shop, *orders: str, amount: int = 1050) -> SignedOperation:
    bought = tuple(
        Purchase(amount=amount, at="2026-03-01T10:00:00.000Z", member=str(shop.alice.account), order=order)
        for order in orders
    )
    return shop.merchant.sign(RecordPurchases, asset="STAR", currency="USD", purchases=bought)


def grant(shop: Shop, amount: int, reference: str = "r1") -> SignedOperation:
    return shop.merchant.sign(
        Grant, asset="STAR", member=shop.alice.account, amount=amount, activity="goodwill", reference=reference
    )


def redeem(shop: Shop, amount: int, **fields: Any) -> SignedOperation:
    return shop.alice.sign(Redeem, asset="STAR", amount=amount, merchant=shop.merchant.account, **fields)


def test_every_kind_has_a_mutation() -> None:
    """All kinds but genesis, which founds the ledger and is not submitted."""
    assert set(KIND_OF.values()) == set(KINDS) - {"genesis"} == set(MUTATIONS)


def operations(world: World, shop: Shop) -> dict[str, tuple[SignedOperation, str]]:
    """One operation of each kind that is recorded, and what more to ask of its payload."""
    key = world.make_key()
    member = world.wallet(None, key)
    other = world.add_merchant("Other")
    world.add_asset(other, "MILE")
    program = make_program(expiry=ExpiresAtYearEnd(count=1))
    world.record(recover(world, shop.bob, world.make_key()))
    account = "account { id keys threshold keysSeq recovery { keys threshold effectiveAt seq } }"
    return {
        "open_account": (
            member.sign(OpenAccount, role="member", keys=(encode_public_key(key),)),
            "account { id role }",
        ),
        "define_asset": (
            other.sign(
                DefineAsset,
                asset="COIN",
                name="Coins",
                scale=2,
                supply_cap=10**9,
                transferable=False,
                value=Value(points=100, amount=1, currency="USD"),
            ),
            "asset { id code supplyCap value { points amount currency } }",
        ),
        "publish_program": (
            other.sign(PublishProgram, asset="MILE", version=2, starts="2026-04-01T00:00:00.000Z", program=program),
            "program { id version expiry { after count } bands { from points per } }",
        ),
        "record_purchases": (purchases(shop, "o1", "o2"), ""),
        "grant": (grant(shop, 7), ""),
        "transfer": (pay(shop.alice, "STAR", 40, shop.bob), "balance"),
        "redeem": (redeem(shop, 60, reference="bill-1"), "balance"),
        "replace_keys": (shop.alice.replace_keys([world.make_key(), *shop.alice.keys], threshold=2), account),
        "recover_keys": (recover(world, shop.alice, world.make_key(), world.make_key(), threshold=2), account),
        "cancel_recovery": (shop.bob.sign(CancelRecovery, account=shop.bob.account), account),
        "replace_log_key": (
            world.operator.sign(ReplaceLogKey, log_key=encode_verifier_key(world.origin, shop.next_log_key)),
            "ledger { logKey logKeys { verifierKey fromSize } }",
        ),
    }


BETWEEN_MERCHANTS = {name.partition(" ")[0] for name in OPERATIONS}
"""Kinds that are tried in the module named so."""

OF_PROGRAMS = {"enroll", "vest", "review_tiers", "start_plan", "end_plan", "form_pool", "leave_pool", "use_voucher"}
OF_PROGRAMS |= {"remind"}
"""Kinds that are tried with programs, in :mod:`tests.test_api_programs`."""


@pytest.mark.parametrize("kind", sorted(set(MUTATIONS) - {"expire"} - BETWEEN_MERCHANTS - OF_PROGRAMS))
def test_operation_is_recorded_then_replayed(kind: str, world: World, shop: Shop, service: Service) -> None:
    """The typed input rebuilds the bytes that were signed; sent again, the same entry is the answer."""
    signed, more = operations(world, shop)[kind]
    payload = service.submit(signed, more)
    assert payload["userErrors"] == []
    entry = payload["entry"]
    assert entry["operationId"] == signed.op_id.hex()
    assert entry["kind"] == kind.upper()
    assert decode_entry(entry["document"].encode()).op == signed.op
    assert leaf_hash(entry["document"].encode()).hex() == entry["hash"]
    assert not payload["replayed"]
    again = service.submit(signed, more)
    assert again["replayed"]
    assert again["entry"] == entry


def test_payload_tells_what_came_of_it(world: World, shop: Shop, service: Service) -> None:
    """The account, asset or program version that is new, and what the actor has left."""
    some = operations(world, shop)
    account = service.submit(*some["open_account"])["account"]
    assert account["id"].startswith("mem_")
    assert account["role"] == "MEMBER"
    asset = service.submit(*some["define_asset"])["asset"]
    value = {"points": 100, "amount": 1, "currency": "USD"}
    assert asset == {"id": "ast_COIN", "code": "COIN", "supplyCap": 10**9, "value": value}
    program = service.submit(*some["publish_program"])["program"]
    assert program["id"] == "prg_MILE_2"
    assert program["expiry"] == {"after": "YEAR_END", "count": 1}
    assert program["bands"] == [{"from": 0, "points": 1, "per": 100}]
    assert service.submit(*some["transfer"])["balance"] == 460
    assert service.submit(*some["redeem"])["balance"] == 400


def test_payload_of_new_keys_tells_the_account_as_it_is_now(world: World, shop: Shop, service: Service) -> None:
    """Keys in force, and the pending recovery; nothing to whoever only sends an old document again."""
    some = operations(world, shop)
    recovered = some["recover_keys"][0]
    payload = service.submit(*some["recover_keys"])
    account, seq = payload["account"], payload["entry"]["seq"]
    assert account["keys"] == [encode_public_key(key) for key in shop.alice.keys]
    assert account["recovery"] == {
        "keys": [signature.key for signature in recovered.sigs[1:]],
        "threshold": 2,
        "effectiveAt": effective(world),
        "seq": seq,
    }
    replaced = some["replace_keys"][0]
    payload = service.submit(*some["replace_keys"])
    account = {"id": str(shop.alice.account), "threshold": 2, "keysSeq": payload["entry"]["seq"], "recovery": None}
    assert isinstance(replaced.op, ReplaceKeys)
    assert payload["account"] == {**account, "keys": list(replaced.op.keys)}
    assert service.submit(*some["cancel_recovery"])["account"]["recovery"] is None
    for kind in ("recover_keys", "replace_keys", "cancel_recovery"):
        again = service.submit(*some[kind])
        assert (again["replayed"], again["account"]) == (True, None)
    ledger = service.submit(*some["replace_log_key"])["ledger"]
    assert ledger["logKey"] == ledger["logKeys"][1]["verifierKey"]
    assert service.submit(*some["replace_log_key"])["ledger"] == ledger


def test_lots_due_are_retired(world: World, shop: Shop, service: Service) -> None:
    """An expiry is recorded once its day has passed, and refused before."""
    expire = world.operator.sign(Expire, asset="STAR", limit=10, through="2026-04-01")
    early = service.submit(expire)
    assert [error["code"] for error in early["userErrors"]] == ["NOT_YET_DUE"]
    assert early["userErrors"][0]["path"] == ["input", "through"]
    world.clock.advance(days=31)
    assert service.submit(expire)["userErrors"] == []
    late = service.submit(world.operator.sign(Expire, asset="STAR", limit=10, through="2026-04-01"))
    assert late["userErrors"][0]["code"] == "NOTHING_DUE"


@pytest.mark.parametrize(
    "expiry",
    [NeverExpires(), ExpiresAfterDays(count=0), ExpiresAfterMonths(count=18), ExpiresAtYearEnd(count=2)],
    ids=lambda expiry: type(expiry).__name__,
)
def test_every_rule_of_expiry_can_be_published(expiry: Any, world: World, shop: Shop, service: Service) -> None:
    """Each way of the @oneOf input stands for one rule of the document."""
    signed = shop.merchant.sign(
        PublishProgram,
        asset="STAR",
        version=2,
        starts="2026-04-01T00:00:00.000Z",
        ends="2027-04-01T00:00:00.000Z",
        program=make_program(expiry=expiry, round_amount="none", round_points="half_even"),
    )
    assert service.submit(signed)["userErrors"] == []


def test_custodial_member_is_opened_by_its_merchant(world: World, shop: Shop, service: Service) -> None:
    """A member without keys: the field is left out of the document, and so of the input."""
    payload = service.submit(shop.merchant.sign(OpenAccount, role="member"), "account { keys custodianId }")
    assert payload["account"] == {"keys": [], "custodianId": shop.merchant.account}


def recover(world: World, wallet: Wallet, *keys: Any, threshold: int = 1) -> SignedOperation:
    """The operator's recovery of an account, co-signed by its new keys."""
    public = tuple(encode_public_key(key) for key in keys)
    given = {"account": wallet.account, "keys": public, "threshold": threshold}
    return world.operator.sign(RecoverKeys, co_signers=keys, **given)


def refusals(world: World, shop: Shop) -> dict[str, tuple[SignedOperation, list[str], dict[str, Any]]]:
    """Operations that are refused: by code, with path and details."""
    stranger = world.wallet(shop.alice.account, world.make_key())
    world.record(recover(world, shop.bob, world.make_key()))
    elsewhere = Wallet("ledger.example/other", shop.alice.account, shop.alice.keys, world.clock)
    return {
        "INSUFFICIENT_POINTS": (
            pay(shop.alice, "STAR", 501, shop.bob),
            ["input", "recipients"],
            {"requiredPoints": 501, "availablePoints": 500},
        ),
        "SUPPLY_EXCEEDED": (grant(shop, 9_501), ["input", "amount"], {"supplyCap": 10_000, "circulatingPoints": 500}),
        "GRANT_TOO_LARGE": (grant(shop, 10**9 + 1), ["input", "amount"], {"maxPoints": 10**9}),
        "UNKNOWN_ASSET": (pay(shop.alice, "NONE", 1, shop.bob), ["input", "asset"], {}),
        "UNKNOWN_ACCOUNT": (
            shop.alice.sign(Transfer, asset="STAR", recipients=(Recipient(amount=1, to="mem_" + "a" * 26),)),
            ["input", "recipients", "0", "to"],
            {},
        ),
        "SIGNATURE_MISSING": (pay(stranger, "STAR", 1, shop.bob), ["input", "signatures"], {}),
        "WRONG_LEDGER": (pay(elsewhere, "STAR", 1, shop.bob), ["input", "ledger"], {}),
        "AT_IN_FUTURE": (pay(shop.alice, "STAR", 1, shop.bob, at="2026-03-02T12:01:00.000Z"), ["input", "at"], {}),
        "EXPIRED": (
            pay(shop.alice, "STAR", 1, shop.bob, expires="2026-03-02T11:59:59.000Z"),
            ["input", "expires"],
            {},
        ),
        "NOT_PERMITTED": (
            shop.alice.sign(
                Grant, asset="STAR", member=shop.bob.account, amount=1, activity="goodwill", reference="mine"
            ),
            ["input", "actor"],
            {},
        ),
        "ACTIVITY_UNKNOWN": (
            shop.merchant.sign(
                Grant, asset="STAR", member=shop.bob.account, amount=1, activity="birthday", reference="b1"
            ),
            ["input", "activity"],
            {},
        ),
        "RECOVERY_PENDING": (
            recover(world, shop.bob, world.make_key()),
            ["input", "account"],
            {"effectiveAt": effective(world)},
        ),
        "NO_RECOVERY": (shop.alice.sign(CancelRecovery, account=shop.alice.account), ["input", "account"], {}),
        "LOG_KEY_USED": (
            world.operator.sign(ReplaceLogKey, log_key=encode_verifier_key(world.origin, world.log_key)),
            ["input", "logKey"],
            {},
        ),
    }


def effective(world: World) -> str:
    """When a recovery that is recorded now takes effect."""
    return format_time(world.clock() + 7 * DAY_MS)


@pytest.mark.parametrize(
    "code",
    [
        "ACTIVITY_UNKNOWN",
        "AT_IN_FUTURE",
        "EXPIRED",
        "GRANT_TOO_LARGE",
        "INSUFFICIENT_POINTS",
        "LOG_KEY_USED",
        "NOT_PERMITTED",
        "NO_RECOVERY",
        "RECOVERY_PENDING",
        "SIGNATURE_MISSING",
        "SUPPLY_EXCEEDED",
        "UNKNOWN_ACCOUNT",
        "UNKNOWN_ASSET",
        "WRONG_LEDGER",
    ],
)
def test_refusal_is_typed_and_names_the_field(code: str, world: World, shop: Shop, service: Service) -> None:
    """Code, the path in the input's own spelling, and the details a program can act on; nothing is recorded."""
    signed, path, details = refusals(world, shop)[code]
    size = service.query("{ ledger { size } }")
    payload = service.submit(signed)
    assert payload["entry"] is None
    (error,) = payload["userErrors"]
    assert error["code"] == code
    assert error["path"] == path
    assert {name: error[name] for name in details} == details
    assert error["retryable"] == (code == "AT_IN_FUTURE")
    assert service.query("{ ledger { size } }") == size


def test_used_order_names_its_entry(world: World, shop: Shop, service: Service) -> None:
    """The same order is refused the second time, in whatever company."""
    entry = service.submit(purchases(shop, "o1", "o2"))["entry"]
    (error,) = service.submit(purchases(shop, "o3", "o2"))["userErrors"]
    assert (error["code"], error["entryId"]) == ("ORDER_EXISTS", entry["id"])
    assert error["path"] == ["input", "purchases", "1", "order"]


def test_changed_field_does_not_fit_the_signature(world: World, shop: Shop, service: Service) -> None:
    """The server rebuilds the bytes from the input: what was not signed is not accepted."""
    (error,) = service.submit(redeem(shop, 5), amount=6)["userErrors"]
    assert error["code"] == "SIGNATURE_INVALID"
    assert error["path"] == ["input", "signatures", "0", "sig"]


def test_ledger_may_be_left_out(world: World, shop: Shop, service: Service) -> None:
    """It can only be this one."""
    assert service.submit(redeem(shop, 5), ledger=None)["userErrors"] == []


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"amount": 0}, ["input", "amount"]),
        ({"amount": -5}, ["input", "amount"]),
        ({"asset": "star"}, ["input", "asset"]),
        ({"actor": "alice"}, ["input", "actor"]),
        ({"nonce": "short"}, ["input", "nonce"]),
        ({"reference": "a b"}, ["input", "reference"]),
        ({"signatures": [{"key": "k", "sig": "s"}]}, ["input", "signatures", "0", "key"]),
    ],
    ids=str,
)
def test_malformed_field_is_named(changes: dict[str, Any], path: list[str], shop: Shop, service: Service) -> None:
    """What GraphQL's types let through and the format does not is a typed refusal."""
    (error,) = service.submit(redeem(shop, 5), **changes)["userErrors"]
    assert (error["code"], error["path"]) == ("MALFORMED", path)


def test_expiry_never_false_is_refused(world: World, shop: Shop, service: Service) -> None:
    """`never: false` would say nothing."""
    program = make_program()
    signed = shop.merchant.sign(
        PublishProgram, asset="STAR", version=2, starts="2026-04-01T00:00:00.000Z", program=program
    )
    rules: dict[str, Any] = {"currency": "USD", "roundAmount": "NONE", "roundPoints": "DOWN", "timeZone": "UTC"}
    rules |= {"bands": [{"from": 0, "per": 1, "points": 1}], "expiry": {"never": False}}
    mutation = "mutation($input: ProgramSubmitInput!) { programSubmit(input: $input) { replayed } }"
    assert service.error_code(mutation, {"input": typed_input(signed) | {"program": rules}}) == "BAD_USER_INPUT"


SUBMIT = """mutation($text: SignedOperation!) { operationSubmit(input: {operation: $text}) {
  entry { seq hash operationId document } replayed balance receipt userErrors { code path }
} }"""


def test_document_is_submitted_as_it_was_signed(shop: Shop, service: Service) -> None:
    """Entry, balance and receipt; again, the same entry; and the typed mutation knows it too."""
    signed = pay(shop.alice, "STAR", 1, shop.bob)
    first, second = (service.query(SUBMIT, {"text": signed_text(signed)})["operationSubmit"] for _ in range(2))
    assert (first["replayed"], first["balance"], first["userErrors"]) == (False, 499, [])
    assert (second["replayed"], second["balance"], second["entry"]) == (True, None, first["entry"])
    assert first["entry"]["operationId"] == signed.op_id.hex()
    assert decode_receipt(first["receipt"]).data == first["entry"]["document"].encode()
    assert service.submit(signed)["replayed"]


@pytest.mark.parametrize(
    ("text", "code"),
    [("{}", "MALFORMED"), ("not JSON", "MALFORMED"), ("", "MALFORMED"), (" " * 70_000, "TOO_LARGE")],
    ids=["empty", "garbage", "nothing", "large"],
)
def test_text_that_is_no_signed_document_is_refused(service: Service, text: str, code: str) -> None:
    """In user errors, as any refusal."""
    answer = service.query(SUBMIT, {"text": text})["operationSubmit"]
    assert answer["entry"] is answer["receipt"] is None
    assert [error["code"] for error in answer["userErrors"]] == [code]


def test_paths_of_a_document_are_its_own(shop: Shop, service: Service) -> None:
    """As in bulk; a typed mutation spells them as its input does."""
    signed = shop.alice.sign(Transfer, asset="STAR", recipients=(Recipient(to="mem_" + "a" * 26, amount=1),))
    (error,) = service.query(SUBMIT, {"text": signed_text(signed)})["operationSubmit"]["userErrors"]
    assert error == {"code": "UNKNOWN_ACCOUNT", "path": ["recipients", "0", "to"]}


def test_bulk_answers_each_on_its_own(world: World, shop: Shop, service: Service) -> None:
    """In the order given: recorded, refused, unreadable, and twice the same."""
    good, overdraft = pay(shop.alice, "STAR", 1, shop.bob), pay(shop.alice, "STAR", 10_000, shop.bob)
    payload = service.submit_all([signed_text(good), signed_text(overdraft), "{}", "not JSON", signed_text(good)])
    assert payload["userErrors"] == []
    recorded, refused, empty, garbage, twin = payload["results"]
    assert recorded["operationId"] == good.op_id.hex()
    assert (recorded["replayed"], recorded["balance"], recorded["userErrors"]) == (False, 499, [])
    assert refused["operationId"] == overdraft.op_id.hex()
    assert refused["seq"] is None
    assert refused["userErrors"][0]["code"] == "INSUFFICIENT_POINTS"
    assert refused["userErrors"][0]["path"] == ["recipients"]
    for unreadable in (empty, garbage):
        assert unreadable["operationId"] is None
        assert unreadable["userErrors"][0]["code"] == "MALFORMED"
    assert (twin["replayed"], twin["seq"], twin["hash"]) == (True, recorded["seq"], recorded["hash"])


def test_bulk_takes_a_thousand(world: World, shop: Shop, service: Service) -> None:
    """A thousand signed operations fit a request and are recorded in their order."""
    payload = service.submit_all([signed_text(grant(shop, 1, f"g{i}")) for i in range(1000)])
    seqs = [result["seq"] for result in payload["results"]]
    assert seqs == list(range(seqs[0], seqs[0] + 1000))


def test_bulk_of_another_size_is_refused(service: Service) -> None:
    """None is considered, and the refusal says how many may come; a longer list is not even looked at."""
    payload = service.submit_all([])
    assert payload["results"] == []
    (error,) = payload["userErrors"]
    assert error["code"] == "TOO_LARGE"
    assert error["path"] == ["input", "operations"]
    document = "mutation($input: OperationsSubmitInput!) { operationsSubmit(input: $input) { results { seq } } }"
    response = service.post({"query": document, "variables": {"input": {"operations": ["{}"] * 1001}}})
    assert (response.status_code, response.json()["errors"][0]["extensions"]["code"]) == (413, "VARIABLES_TOO_LARGE")


def test_unsigned_operation_tells_nothing(world: World, shop: Shop, service: Service) -> None:
    """Whoever exists and whatever it holds, the refusal is the same; and no refusal tells who the custodian is."""
    refusals = []
    for actor, amount in ((shop.alice.account, 1), (shop.alice.account, 10**6), ("mem_" + "a" * 26, 1)):
        nobody = world.wallet(actor)
        text = signed_text(pay(nobody, "STAR", amount, shop.bob))
        (result,) = service.submit_all([text])["results"]
        (error,) = service.submit(pay(nobody, "STAR", amount, shop.bob))["userErrors"]
        refusals += [(result["userErrors"][0]["code"], result["userErrors"][0]["message"])]
        refusals += [(error["code"], error["message"])]
    assert len(set(refusals)) == 1
    assert refusals[0][0] == "SIGNATURE_MISSING"
    (opened,) = world.record(shop.merchant.sign(OpenAccount, role="member"))
    member = world.wallet(account_opened_by(opened), world.make_key())
    (error,) = service.submit(pay(member, "STAR", 1, shop.bob))["userErrors"]
    assert error["code"] == "SIGNATURE_MISSING"
    assert str(shop.merchant.account) not in error["message"]
    assert not any(letter.isdigit() for letter in error["message"].replace(str(member.account), ""))


def test_genesis_is_not_taken_twice(world: World, service: Service) -> None:
    """The only kind without a mutation is answered with entry 0, whoever sends it again."""
    genesis = signed_operation_of(decode_entry(world.genesis.data))
    (result,) = service.submit_all([signed_text(genesis)])["results"]
    assert (result["seq"], result["replayed"]) == (0, True)


def test_transfers_of_many_clients_are_all_recorded(world: World, shop: Shop, service: Service) -> None:
    """Sent at once from sixteen threads, each is answered with its own entry, and the points add up."""
    transfers = [pay(shop.alice, "STAR", 2, shop.bob) for _ in range(80)]
    with ThreadPoolExecutor(16) as clients:
        payloads = list(clients.map(lambda signed: service.submit(signed, "balance"), transfers))
    assert [payload["entry"]["operationId"] for payload in payloads] == [signed.op_id.hex() for signed in transfers]
    assert sorted(payload["balance"] for payload in payloads) == list(range(340, 500, 2))
    token = service.sign_in(shop.bob)
    (balance,) = service.query("{ viewer { balances { total } } }", token=token)["viewer"]["balances"]
    assert balance == {"total": 160}

"""Keys over time, over HTTP: rotation, several keys, custody, recovery, the log's key, and what sessions see of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.sessions import Session, Sessions
from ledger.checkpoint import CheckpointError, decode_verifier_key, encode_verifier_key, verify_checkpoint
from ledger.keys import encode_public_key
from ledger.operations import CancelRecovery, OpenAccount, RecoverKeys, ReplaceLogKey, SignedOperation
from ledger.sequencer import account_opened_by
from ledger.store import Store, UnavailableError
from ledger.wallet import Wallet
from tests.service import Service, running, typed_document
from tests.worlds import DAY_MS, ORIGIN, World, pay

DELAY_MS = 7 * DAY_MS
ACCOUNT = "id keys threshold keysSeq custodianId recovery { keys threshold effectiveAt seq }"


class Shop:
    """A merchant with an asset, and alice and bob, who hold 500 points each."""

    def __init__(self, world: World) -> None:
        self.merchant = world.add_merchant()
        world.add_asset(self.merchant, "STAR")
        self.alice, self.bob = world.add_members(2)
        for member in (self.alice, self.bob):
            world.grant(self.merchant, "STAR", member, 500)


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


@pytest.fixture
def service(world: World, shop: Shop, tmp_path: Path) -> Iterator[Service]:
    with running(world, tmp_path) as service:
        yield service


def public(*keys: Ed25519PrivateKey) -> list[str]:
    return [encode_public_key(key) for key in keys]


def recover(world: World, account: str | None, *keys: Ed25519PrivateKey, threshold: int = 1) -> SignedOperation:
    """The operator's recovery of an account, signed by its new keys too."""
    return world.operator.sign(
        RecoverKeys, co_signers=keys, account=account, keys=tuple(public(*keys)), threshold=threshold
    )


def recorded(service: Service, signed: SignedOperation, more: str = "") -> Any:
    """The payload of an operation that must be recorded."""
    payload = service.submit(signed, more)
    assert payload["userErrors"] == []
    return payload


def refused(service: Service, signed: SignedOperation) -> str:
    """The code of an operation that must be refused."""
    payload = service.submit(signed)
    assert payload["entry"] is None
    return str(payload["userErrors"][0]["code"])


def seen(service: Service, account: str | None, token: str) -> Any:
    """An account as a session is told it."""
    document = f"query($id: ID!) {{ account(id: $id) {{ {ACCOUNT} }} }}"
    return service.query(document, {"id": account}, token)["account"]


def is_over(service: Service, token: str) -> bool:
    """Whether a session is refused as one that has ended; nothing else may be wrong with it."""
    response = service.post({"query": "{ ledger { size } }"}, token=token)
    if response.status_code == 200:
        return False
    (error,) = response.json()["errors"]
    assert (response.status_code, error["extensions"]["code"]) == (401, "UNAUTHENTICATED")
    assert error["message"].startswith("the session is over")
    assert response.headers["www-authenticate"].startswith("Bearer")
    return True


def opens_nothing(service: Service, wallet: Wallet, account: str | None = None) -> str:
    """The code with which a challenge answered by a wallet is refused."""
    payload = service.open_session(**service.answer(wallet, account))
    assert payload["token"] is None
    return str(payload["userErrors"][0]["code"])


# Rotation and several keys


def test_replaced_key_is_good_for_nothing(world: World, shop: Shop, service: Service) -> None:
    """Neither to write, nor to sign in, nor for the session it opened; the new key is, at once."""
    old, new = shop.alice, world.wallet(shop.alice.account, world.make_key())
    session = service.sign_in(old)
    payload = recorded(service, old.replace_keys(new.keys), f"account {{ {ACCOUNT} }}")
    assert payload["account"]["keys"] == public(*new.keys)
    assert payload["account"]["keysSeq"] == payload["entry"]["seq"]
    assert is_over(service, session)
    assert opens_nothing(service, old) == "NOT_PERMITTED"
    assert refused(service, pay(old, "STAR", 1, shop.bob)) == "SIGNATURE_MISSING"
    recorded(service, pay(new, "STAR", 1, shop.bob))
    assert seen(service, new.account, service.sign_in(new)) == payload["account"]


def test_kept_key_opens_a_session_anew(world: World, shop: Shop, service: Service) -> None:
    """Who may have had the other key had the session too: it ends, although one of its keys is still in force."""
    both = [*shop.alice.keys, world.make_key()]
    session = service.sign_in(shop.alice)
    recorded(service, shop.alice.replace_keys(both))
    assert is_over(service, session)
    assert not is_over(service, service.sign_in(shop.alice))


def test_new_key_signs_for_itself(world: World, shop: Shop, service: Service) -> None:
    """Nobody is given a key that nobody has shown to have, or of which a letter was misread."""
    unsigned = shop.alice.replace_keys([world.make_key()])
    payload = service.submit(unsigned, signatures=[{"key": s.key, "sig": s.sig} for s in unsigned.sigs[:1]])
    assert [(error["code"], error["path"]) for error in payload["userErrors"]] == [
        ("SIGNATURE_MISSING", ["input", "signatures"])
    ]


def test_two_of_three_keys_act_together(world: World, shop: Shop, service: Service) -> None:
    """From one key to two of three: no single key writes or reads any more, any two do."""
    keys = [shop.alice.keys[0], world.make_key(), world.make_key()]
    payload = recorded(service, shop.alice.replace_keys(keys, threshold=2), f"account {{ {ACCOUNT} }}")
    assert (payload["account"]["keys"], payload["account"]["threshold"]) == (public(*keys), 2)
    for key in keys:
        alone = world.wallet(shop.alice.account, key)
        assert refused(service, pay(alone, "STAR", 1, shop.bob)) == "SIGNATURE_MISSING"
        assert opens_nothing(service, alone) == "SIGNATURE_MISSING"
    for pair in (keys[:2], keys[1:], keys[::2]):
        together = world.wallet(shop.alice.account, *pair)
        recorded(service, pay(together, "STAR", 1, shop.bob))
        assert not is_over(service, service.sign_in(together))


@pytest.mark.parametrize("role", ["operator", "merchant"])
def test_every_role_replaces_its_keys(role: str, world: World, shop: Shop, service: Service) -> None:
    """Who vouches for others, and who issues points, change keys as members do."""
    wallet = world.operator if role == "operator" else shop.merchant
    new = world.wallet(wallet.account, world.make_key())
    session = service.sign_in(wallet)
    recorded(service, wallet.replace_keys(new.keys))
    assert is_over(service, session)
    assert seen(service, wallet.account, service.sign_in(new))["keys"] == public(*new.keys)


# Custody


def open_in_custody(world: World, shop: Shop) -> str:
    """A member without keys, in the merchant's custody, who never held a point."""
    (opened,) = world.record(shop.merchant.sign(OpenAccount, role="member"))
    return str(account_opened_by(opened))


def test_claimed_account_is_its_members_alone(world: World, shop: Shop, service: Service) -> None:
    """The custodian hands over once: after that it can neither act for the member nor read, and its session is over."""
    account = open_in_custody(world, shop)
    custodian = world.wallet(account, *shop.merchant.keys)
    member = world.wallet(account, world.make_key())
    as_member, as_merchant = service.sign_in(shop.merchant, account), service.sign_in(shop.merchant)
    before = seen(service, account, as_merchant)
    assert (before["keys"], before["custodianId"]) == ([], shop.merchant.account)
    claim = recorded(service, custodian.replace_keys(member.keys), f"account {{ {ACCOUNT} }}")
    assert claim["account"]["keys"] == public(*member.keys)
    assert claim["account"]["custodianId"] is None
    assert is_over(service, as_member)
    assert not is_over(service, as_merchant)
    assert seen(service, account, as_merchant) is None
    assert opens_nothing(service, shop.merchant, account) == "NOT_PERMITTED"
    assert refused(service, pay(custodian, "STAR", 1, shop.bob)) == "SIGNATURE_MISSING"
    assert refused(service, custodian.replace_keys([world.make_key()])) == "SIGNATURE_MISSING"
    world.grant(shop.merchant, "STAR", member, 5)
    recorded(service, pay(member, "STAR", 1, shop.bob))
    assert seen(service, account, service.sign_in(member))["keysSeq"] == claim["entry"]["seq"]


def test_claim_needs_the_custodian(world: World, shop: Shop, service: Service) -> None:
    """A key of one's own choice is no claim to an account."""
    account = open_in_custody(world, shop)
    key = world.make_key()
    assert refused(service, world.wallet(account, key).replace_keys([key])) == "SIGNATURE_MISSING"


def test_custodians_new_keys_end_sessions_of_its_members(world: World, shop: Shop, service: Service) -> None:
    """They were opened with the old ones; the new ones open others."""
    account = open_in_custody(world, shop)
    session = service.sign_in(shop.merchant, account)
    new = world.wallet(shop.merchant.account, world.make_key())
    recorded(service, shop.merchant.replace_keys(new.keys))
    assert is_over(service, session)
    assert opens_nothing(service, shop.merchant, account) == "NOT_PERMITTED"
    assert not is_over(service, service.sign_in(new, account))


def test_recovered_account_is_in_custody_no_more(world: World, shop: Shop, service: Service) -> None:
    """It needs no entry: at its time the custodian's list, sessions and powers over the member end."""
    account = open_in_custody(world, shop)
    member = world.wallet(account, world.make_key())
    recorded(service, recover(world, account, *member.keys))
    world.clock.advance(ms=DELAY_MS - 1)
    session, merchant = service.sign_in(shop.merchant, account), service.sign_in(shop.merchant)
    listed = "{ accounts(first: 100) { nodes { id } } }"
    assert {"id": account} in service.query(listed, token=merchant)["accounts"]["nodes"]
    assert seen(service, account, merchant)["recovery"]["keys"] == public(*member.keys)
    world.clock.advance(ms=1)
    assert is_over(service, session)
    assert {"id": account} not in service.query(listed, token=merchant)["accounts"]["nodes"]
    assert seen(service, account, merchant) is None
    statement = f'{{ statement(account: "{account}", asset: "NONE") {{ openingBalance }} }}'
    assert service.error_code(statement, token=merchant) == "FORBIDDEN"
    assert opens_nothing(service, shop.merchant, account) == "NOT_PERMITTED"
    mine = seen(service, account, service.sign_in(member))
    assert (mine["keys"], mine["custodianId"], mine["recovery"]) == (public(*member.keys), None, None)


# Recovery


def test_recovery_takes_effect_after_its_delay(world: World, shop: Shop, service: Service) -> None:
    """Until its last millisecond the old keys act and read; from then on the new ones, and no entry says so."""
    new = world.wallet(shop.alice.account, world.make_key())
    payload = recorded(service, recover(world, shop.alice.account, *new.keys), f"account {{ {ACCOUNT} }}")
    seq = payload["entry"]["seq"]
    world.clock.advance(ms=DELAY_MS - 1)
    session = service.sign_in(shop.alice)
    pending = seen(service, shop.alice.account, session)
    assert pending == payload["account"]
    assert pending["keys"] == public(*shop.alice.keys)
    assert pending["recovery"]["seq"] == seq > pending["keysSeq"]
    assert opens_nothing(service, new) == "NOT_PERMITTED"
    assert refused(service, pay(new, "STAR", 1, shop.bob)) == "SIGNATURE_MISSING"
    recorded(service, pay(shop.alice, "STAR", 1, shop.bob))
    world.clock.advance(ms=1)
    assert is_over(service, session)
    assert opens_nothing(service, shop.alice) == "NOT_PERMITTED"
    assert refused(service, pay(shop.alice, "STAR", 1, shop.bob)) == "SIGNATURE_MISSING"
    after = seen(service, new.account, service.sign_in(new))
    assert after == {**pending, "keys": public(*new.keys), "keysSeq": seq, "recovery": None}
    recorded(service, pay(new, "STAR", 1, shop.bob))
    assert seen(service, new.account, service.sign_in(world.operator)) == after


def test_time_of_the_last_entry_counts_where_the_clock_is_behind(world: World, shop: Shop, service: Service) -> None:
    """A reader is told the keys that the next entry would be held to, whatever its server's clock says."""
    new = world.wallet(shop.alice.account, world.make_key())
    recorded(service, recover(world, shop.alice.account, *new.keys))
    world.clock.advance(ms=DELAY_MS)
    recorded(service, pay(new, "STAR", 1, shop.bob))
    world.clock.advance(ms=-5_000)
    assert seen(service, new.account, service.sign_in(new))["keys"] == public(*new.keys)
    assert opens_nothing(service, shop.alice) == "NOT_PERMITTED"
    recorded(service, pay(new, "STAR", 1, shop.bob))


def test_recovery_the_holder_cancels_never_takes_effect(world: World, shop: Shop, service: Service) -> None:
    """Someone talked the operator into it: the holder, who has the keys, sees it and says no."""
    thief = world.wallet(shop.alice.account, world.make_key())
    seq = recorded(service, recover(world, shop.alice.account, *thief.keys))["entry"]["seq"]
    session = service.sign_in(shop.alice)
    assert seen(service, shop.alice.account, session)["recovery"]["keys"] == public(*thief.keys)
    world.clock.advance(ms=DELAY_MS // 2)
    session = service.sign_in(shop.alice)
    cancel = shop.alice.sign(CancelRecovery, account=shop.alice.account)
    account = recorded(service, cancel, f"account {{ {ACCOUNT} }}")["account"]
    assert (account["keys"], account["recovery"]) == (public(*shop.alice.keys), None)
    assert not is_over(service, session)
    entries = service.query("{ entries(last: 2) { nodes { seq kind document } } }", token=session)["entries"]["nodes"]
    assert [(entry["seq"], entry["kind"]) for entry in entries] == [(seq, "RECOVER_KEYS"), (seq + 1, "CANCEL_RECOVERY")]
    assert public(*thief.keys)[0] in entries[0]["document"]
    assert refused(service, shop.alice.sign(CancelRecovery, account=shop.alice.account)) == "NO_RECOVERY"
    world.clock.advance(ms=DELAY_MS)
    assert refused(service, pay(thief, "STAR", 1, shop.bob)) == "SIGNATURE_MISSING"
    recorded(service, pay(shop.alice, "STAR", 1, shop.bob))


def test_operator_cancels_a_recovery_too(world: World, shop: Shop, service: Service) -> None:
    """And its holder finds both entries, although it acted in neither and neither left a trace in its account."""
    begun = recorded(service, recover(world, shop.alice.account, world.make_key()))["entry"]["seq"]
    dropped = recorded(service, world.operator.sign(CancelRecovery, account=shop.alice.account))["entry"]["seq"]
    of_alice = f'filter: {{account: "{shop.alice.account}"}}'
    for wallet, arguments in [(shop.alice, "last: 100"), (world.operator, f"last: 100, {of_alice}")]:
        document = f"{{ entries({arguments}) {{ nodes {{ seq }} }} }}"
        found = service.query(document, token=service.sign_in(wallet))["entries"]["nodes"]
        assert {begun, dropped} <= {entry["seq"] for entry in found}


def test_stolen_key_is_revoked_by_rotation(world: World, shop: Shop, service: Service) -> None:
    """Alice's key is copied: she replaces it first, and the thief is left with a key, a session and old documents."""
    thief = world.wallet(shop.alice.account, *shop.alice.keys)
    session = service.sign_in(thief)
    prepared = [
        pay(thief, "STAR", 500, shop.bob),
        thief.replace_keys([world.make_key()]),
        thief.sign(CancelRecovery, account=thief.account),
    ]
    alice = world.wallet(shop.alice.account, world.make_key())
    recorded(service, shop.alice.replace_keys(alice.keys))
    assert [refused(service, signed) for signed in prepared] == ["SIGNATURE_MISSING"] * 3
    assert is_over(service, session)
    assert seen(service, alice.account, service.sign_in(alice))["keys"] == public(*alice.keys)


def test_rotation_drops_a_recovery(world: World, shop: Shop, service: Service) -> None:
    """Who can replace the keys has not lost them: what was pending would take the account away again."""
    lost = world.wallet(shop.alice.account, world.make_key())
    recorded(service, recover(world, shop.alice.account, *lost.keys))
    alice = world.wallet(shop.alice.account, world.make_key())
    payload = recorded(service, shop.alice.replace_keys(alice.keys), f"account {{ {ACCOUNT} }}")
    assert payload["account"]["recovery"] is None
    world.clock.advance(ms=DELAY_MS)
    assert opens_nothing(service, lost) == "NOT_PERMITTED"
    recorded(service, pay(alice, "STAR", 1, shop.bob))


def test_only_the_operator_recovers(world: World, shop: Shop, service: Service) -> None:
    """And not itself: its own keys are replaced by themselves."""
    key = world.make_key()
    given: dict[str, Any] = {"co_signers": [key], "keys": tuple(public(key))}
    own = shop.merchant.sign(RecoverKeys, account=shop.alice.account, **given)
    for signed, path in [(own, "actor"), (recover(world, world.operator.account, key), "account")]:
        (error,) = service.submit(signed)["userErrors"]
        assert (error["code"], error["path"]) == ("NOT_PERMITTED", ["input", path])


# Who is told


def test_pending_recovery_is_told_to_whom_it_concerns(world: World, shop: Shop, service: Service) -> None:
    """The holder, its custodian, auditors and the operator; a merchant whose points it holds sees the account alone."""
    held, kept = str(shop.alice.account), open_in_custody(world, shop)
    other = world.add_merchant("Other")
    world.add_asset(other, "MILE")
    world.grant(other, "MILE", world.wallet(kept), 5)
    auditor_key = world.make_key()
    named: dict[str, Any] = {"role": "auditor", "name": "Auditor", "keys": tuple(public(auditor_key))}
    (opened,) = world.record(world.operator.sign(OpenAccount, co_signers=[auditor_key], **named))
    auditor = world.wallet(account_opened_by(opened), auditor_key)
    for account in (held, kept):
        recorded(service, recover(world, account, world.make_key()))
    told = {
        "holder": (service.sign_in(shop.alice), {held: True, kept: None}),
        "custodian": (service.sign_in(shop.merchant), {held: False, kept: True}),
        "as its member": (service.sign_in(shop.merchant, kept), {held: None, kept: True}),
        "issuer": (service.sign_in(other), {held: None, kept: False}),
        "auditor": (service.sign_in(auditor), {held: True, kept: True}),
        "operator": (service.sign_in(world.operator), {held: True, kept: True}),
        "another member": (service.sign_in(shop.bob), {held: None, kept: None}),
    }
    for name, (token, expected) in told.items():
        found = {account: seen(service, account, token) for account in (held, kept)}
        assert {key: answer and answer["recovery"] is not None for key, answer in found.items()} == expected, name
        if name not in {"holder", "as its member", "another member"}:
            nodes = service.query(f"{{ accounts(first: 100) {{ nodes {{ {ACCOUNT} }} }} }}", token=token)
            listed = {node["id"]: node for node in nodes["accounts"]["nodes"]}
            assert {key: listed.get(key) for key in found} == found, name


@pytest.mark.parametrize("kind", ["replaceKeys", "recoverKeys", "cancelRecovery"])
def test_preview_tells_refusals_to_whom_they_concern(kind: str, world: World, shop: Shop, service: Service) -> None:
    """Everybody is given the bytes to sign; that a recovery is pending, or none is, only the actor and who sees all."""
    recorded(service, recover(world, shop.alice.account, world.make_key()))
    key = public(world.make_key())
    alice, bob, operator = (str(wallet.account) for wallet in (shop.alice, shop.bob, world.operator))
    previews: dict[str, tuple[dict[str, Any], str | None]] = {
        "replaceKeys": ({"actor": alice, "keys": key}, None),
        "recoverKeys": ({"actor": operator, "account": alice, "keys": key}, "RECOVERY_PENDING"),
        "cancelRecovery": ({"actor": bob, "account": bob}, "NO_RECOVERY"),
    }
    asked, code = previews[kind]
    document = (
        "query($input: OperationPreviewInput!) { operationPreview(input: $input) "
        "{ document message postings { amount } userErrors { code path } } }"
    )
    for wallet in (None, shop.alice, shop.bob, world.operator):
        token = service.sign_in(wallet) if wallet is not None else None
        preview = service.query(document, {"input": {kind: typed_document(asked)}}, token)["operationPreview"]
        assert preview["message"] is not None
        told = wallet is world.operator or (wallet is not None and wallet.account == asked["actor"])
        assert [error["code"] for error in preview["userErrors"]] == ([code] if told and code else [])


# Sessions and what they cost


def test_token_costs_one_small_question(world: World, shop: Shop, service: Service) -> None:
    """A request with a token reads one account more than one without; a request without reads nothing for it."""
    asked: list[str] = []

    def note(*given: Any) -> None:
        if "FROM" in given[2]:
            asked.append(given[2])

    session, custodial = service.sign_in(shop.alice), service.sign_in(shop.merchant, open_in_custody(world, shop))
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        counts = []
        for token in (None, session, custodial):
            asked.clear()
            service.query("{ __typename }", token=token)
            counts.append(len(asked))
            assert all("WHERE account.ledger_id" in text for text in asked)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert counts == [0, 1, 2]


def test_database_that_does_not_answer_is_said_so(
    shop: Shop, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a session is over cannot be told then: 503, to be tried again, and not 401."""
    session = service.sign_in(shop.alice)

    def fail(_: Store) -> None:
        raise UnavailableError("the database did not answer: gone")

    monkeypatch.setattr(Store, "read", fail)
    response = service.post({"query": "{ __typename }"}, token=session)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.json()["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
    assert "gone" not in response.text


def test_bundles_of_entries_need_keys_in_force(world: World, shop: Shop, service: Service) -> None:
    """The log's own resources go by the same sessions."""
    path = f"/log/tile/entries/000.p/{service.query('{ ledger { size } }')['ledger']['size']}"
    headers = {"authorization": f"Bearer {service.sign_in(world.operator)}"}
    assert service.client.get(path, headers=headers).status_code == 200
    recorded(service, world.operator.replace_keys([world.make_key()]))
    response = service.client.get(path, headers=headers)
    assert response.status_code == 401
    assert response.json()["errors"][0]["message"].startswith("the session is over")


# The log's key


def replace_log_key(world: World, key: Ed25519PrivateKey) -> SignedOperation:
    return world.operator.sign(ReplaceLogKey, log_key=encode_verifier_key(ORIGIN, key))


LEDGER = "{ ledger { size logKey logKeys { verifierKey fromSize } checkpoint { size note } } }"


def test_log_key_is_replaced_by_a_server_that_has_both(world: World, shop: Shop, tmp_path: Path) -> None:
    """The first checkpoint with the new key is good for whoever knows either; one with the new key alone follows."""
    new = world.make_key()
    old_name, new_name = (encode_verifier_key(ORIGIN, key) for key in (world.log_key, new))
    with running(world, tmp_path, [world.log_key, new]) as service:
        payload = recorded(service, replace_log_key(world, new), "ledger { size logKey }")
        seq = payload["entry"]["seq"]
        assert payload["ledger"] == {"size": seq + 1, "logKey": new_name}
        ledger = service.query(LEDGER)["ledger"]
        assert ledger["logKeys"] == [
            {"verifierKey": old_name, "fromSize": 1},
            {"verifierKey": new_name, "fromSize": seq + 1},
        ]
        for name in (old_name, new_name):
            assert verify_checkpoint(ledger["checkpoint"]["note"], decode_verifier_key(name), ORIGIN).size == seq + 1
        recorded(service, pay(shop.alice, "STAR", 1, shop.bob))
    with running(world, tmp_path, [new]) as service:
        recorded(service, pay(shop.alice, "STAR", 1, shop.bob))
        ledger = service.query(LEDGER)["ledger"]
        note = ledger["checkpoint"]["note"]
        assert verify_checkpoint(note, decode_verifier_key(ledger["logKey"]), ORIGIN).size == seq + 3
        with pytest.raises(CheckpointError):
            verify_checkpoint(note, decode_verifier_key(old_name), ORIGIN)


def test_server_without_the_new_log_key_records_nothing(world: World, shop: Shop, tmp_path: Path) -> None:
    """It refuses to make it the log's, and once another server has, refuses all else until it is given the key."""
    new = world.make_key()
    with running(world, tmp_path) as old_only, running(world, tmp_path, [world.log_key, new]) as both:
        size = old_only.query(LEDGER)["ledger"]["size"]
        (error,) = old_only.submit(replace_log_key(world, new))["userErrors"]
        assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
        assert "GUERDON_OTHER_LOG_KEY_FILES" in error["message"]
        assert both.query(LEDGER)["ledger"]["size"] == size
        recorded(both, replace_log_key(world, new))
        payment = pay(shop.alice, "STAR", 1, shop.bob)
        (error,) = old_only.submit(payment)["userErrors"]
        assert (error["code"], error["retryable"]) == ("UNAVAILABLE", True)
        assert encode_verifier_key(ORIGIN, new) in error["message"]
        assert old_only.query(LEDGER) == both.query(LEDGER)
        recorded(both, payment)


def test_sessions_are_those_of_the_servers_own_log_key(world: World, shop: Shop, tmp_path: Path) -> None:
    """A key that was replaced opens nothing on a server whose own is the new one: who stole it can forge no session."""
    new = world.make_key()
    session = Session(account=str(world.operator.account), role="operator", keys_seq=0)
    by_old, by_new = (Sessions(ORIGIN, key).token(session, world.clock()).text for key in (world.log_key, new))
    for own, other, good, forged in [(world.log_key, new, by_old, by_new), (new, world.log_key, by_new, by_old)]:
        with running(world, tmp_path, [own, other]) as service:
            assert service.query("{ viewer { role } }", token=good) == {"viewer": {"role": "OPERATOR"}}
            assert service.post({"query": "{ ledger { size } }"}, token=forged).status_code == 401


# Whatever happens in whatever order


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("keys")
    with World(f"sqlite:///{folder / 'ledger.sqlite'}") as world, running(world, folder) as service:
        yield service


STEPS = st.one_of(
    st.sampled_from(["replace", "recover", "cancel", "operator cancels"]),
    st.integers(1, DELAY_MS + 1),
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(custodial=st.booleans(), steps=st.lists(STEPS, max_size=8))
def test_account_is_always_told_as_a_walk_over_its_history_says(
    custodial: bool, steps: list[str | int], held: Service
) -> None:
    """Keys, their entry, the pending recovery and whose session holds, against a model that counts milliseconds."""
    world = held.world
    custodian = world.add_merchant()
    member = None if custodial else world.add_member()
    account = str(
        member.account if member else account_opened_by(world.record(custodian.sign(OpenAccount, role="member"))[0])
    )
    keys: list[Ed25519PrivateKey] = member.keys if member else []
    pending: tuple[int, Ed25519PrivateKey] | None = None
    for step in steps:
        acting = world.wallet(account, *(keys or custodian.keys))
        session = held.sign_in(acting)
        in_force = keys
        if isinstance(step, int):
            world.clock.advance(ms=step)
        elif step == "replace":
            keys, pending = [world.make_key()], None
            recorded(held, acting.replace_keys(keys))
        elif step == "recover":
            key = world.make_key()
            if pending:
                assert refused(held, recover(world, account, key)) == "RECOVERY_PENDING"
            else:
                recorded(held, recover(world, account, key))
                pending = world.clock() + DELAY_MS, key
        else:
            signer = acting if step == "cancel" else world.operator
            cancel = signer.sign(CancelRecovery, account=account)
            if pending:
                recorded(held, cancel)
            else:
                assert refused(held, cancel) == "NO_RECOVERY"
            pending = None
        if pending and pending[0] <= world.clock():
            keys, pending = [pending[1]], None
        found = seen(held, account, held.sign_in(world.operator))
        assert found["keys"] == public(*keys)
        assert (found["custodianId"] is None) == bool(keys)
        assert (found["recovery"] and found["recovery"]["keys"]) == (public(pending[1]) if pending else None)
        if not isinstance(step, int) or step < 900_000:
            assert is_over(held, session) == (in_force is not keys)

"""Sessions: challenges, tokens, and what is not one."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from api.sessions import CHALLENGE_LIFETIME_MS, TOKEN_LIFETIME_MS, Session, Sessions, TokenError
from ledger.encoding import format_time
from ledger.keys import encode_public_key, sign
from ledger.operations import OpenAccount
from ledger.sequencer import account_opened_by
from ledger.store import Store
from ledger.wallet import Wallet
from tests.service import Service, running
from tests.worlds import ORIGIN, World


@pytest.fixture
def alice(world: World) -> Wallet:
    return world.add_member()


@pytest.fixture
def service(world: World, alice: Wallet, tmp_path: Path) -> Iterator[Service]:
    with running(world, tmp_path) as service:
        yield service


WHO = "{ viewer { id } }"


def test_signed_challenge_opens_a_session(world: World, alice: Wallet, service: Service) -> None:
    """The token stands for the account until it ends."""
    payload = service.open_session(**service.answer(alice))
    assert payload["userErrors"] == []
    assert payload["expiresAt"] == format_time(world.clock() + TOKEN_LIFETIME_MS)
    assert service.query(WHO, token=payload["token"]) == {"viewer": {"id": alice.account}}


def test_session_ends(world: World, alice: Wallet, service: Service) -> None:
    """After 15 minutes the token is refused, and says so."""
    token = service.sign_in(alice)
    world.clock.advance(ms=TOKEN_LIFETIME_MS - 1000)
    assert service.query(WHO, token=token)["viewer"]
    world.clock.advance(ms=1000)
    response = service.post({"query": WHO}, token=token)
    assert response.status_code == 401
    assert response.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert "over" in response.json()["errors"][0]["message"]


def test_challenge_ends(world: World, alice: Wallet, service: Service) -> None:
    """After 2 minutes it has to be asked anew."""
    answer = service.answer(alice)
    world.clock.advance(ms=CHALLENGE_LIFETIME_MS + 1)
    (error,) = service.open_session(**answer)["userErrors"]
    assert (error["code"], error["path"]) == ("EXPIRED", ["input", "challenge"])


def test_custodian_signs_in_for_its_member(world: World, service: Service) -> None:
    """While a member has no key of its own, the custodian's stand in."""
    merchant = world.add_merchant()
    (opened,) = world.record(merchant.sign(OpenAccount, role="member"))
    member = account_opened_by(opened)
    token = service.sign_in(merchant, member)
    assert service.query(WHO, token=token) == {"viewer": {"id": member}}


def test_challenge_opens_one_session(world: World, alice: Wallet, service: Service) -> None:
    """Whoever reads the answer on its way cannot use it again; a refused answer does not use the challenge up."""
    answer = service.answer(alice)
    wrong = {**answer, "signatures": [{**answer["signatures"][0], "sig": "A" * 86}]}
    assert service.open_session(**wrong)["userErrors"][0]["code"] == "SIGNATURE_INVALID"
    assert service.open_session(**answer)["token"]
    again = service.open_session(**answer)
    assert (again["token"], again["userErrors"][0]["code"]) == (None, "EXPIRED")
    assert service.open_session(**service.answer(alice))["token"]


def test_used_challenges_are_remembered_as_long_as_they_last(
    world: World, alice: Wallet, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not longer, and not more than there is room for: then sessions are refused, never let through."""
    monkeypatch.setattr("api.sessions.MAX_ANSWERED", 2)
    for _ in range(2):
        assert service.open_session(**service.answer(alice))["token"]
    (error,) = service.open_session(**service.answer(alice))["userErrors"]
    assert (error["code"], error["retryable"]) == ("OVERLOADED", True)
    world.clock.advance(ms=CHALLENGE_LIFETIME_MS + 1)
    assert service.open_session(**service.answer(alice))["token"]


def test_session_needs_as_many_keys_as_any_act(world: World, service: Service) -> None:
    """An account whose threshold is 2 is read with two of its keys, each once, and no key of another."""
    keys = [world.make_key() for _ in range(3)]
    public = tuple(encode_public_key(key) for key in keys)
    (opened,) = world.record(world.wallet(None, *keys).sign(OpenAccount, role="member", keys=public, threshold=2))
    account = account_opened_by(opened)
    for signers, code in [
        ([], "SIGNATURE_MISSING"),
        (keys[:1], "SIGNATURE_MISSING"),
        ([keys[0], keys[0]], "MALFORMED"),
        ([keys[0], world.make_key()], "NOT_PERMITTED"),
        (keys[1:], None),
        (keys, None),
    ]:
        payload = service.open_session(**service.answer(world.wallet(account, *signers)))
        assert [error["code"] for error in payload["userErrors"]] == ([code] if code else [])
        assert (payload["token"] is None) == (code is not None)


def test_database_is_asked_only_about_challenges_of_ours(
    alice: Wallet, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who answers nothing we gave, or signs nothing, makes no work and learns nothing."""

    def fail(*_: object) -> None:
        raise AssertionError("the database was read")

    good = service.answer(alice)
    monkeypatch.setattr(Store, "read", fail)
    for answer in (
        {**good, "account": "\x00"},
        {**good, "challenge": good["challenge"].replace("v1", "v2")},
        {**good, "challenge": good["challenge"][:-3] + "AAA"},
        {**good, "signatures": []},
        {**good, "signatures": [{"key": good["signatures"][0]["key"], "sig": "A" * 86}]},
    ):
        assert service.open_session(**answer)["userErrors"]


def answers(world: World, alice: Wallet, service: Service) -> dict[str, tuple[dict[str, Any], str]]:
    """Answers that open nothing, and the code of each refusal."""
    good = service.answer(alice)
    bob = world.add_member()
    stranger = Wallet(ORIGIN, alice.account, [world.make_key()], world.clock)
    unknown = Wallet(ORIGIN, "mem_" + "a" * 26, alice.keys, world.clock)
    forged = good["challenge"].replace("v1 ", "v1 ", 1)[:-2] + ("AA" if good["challenge"][-2:] != "AA" else "BB")
    later = good["challenge"].split(" ")
    later[2] = str(int(later[2]) + 1)
    (signature,) = good["signatures"]
    bare = {**signature, "sig": sign(alice.keys[0], good["challenge"].encode())}
    return {
        "a key of someone else": (service.answer(stranger), "NOT_PERMITTED"),
        "an unknown account": (service.answer(unknown), "NOT_PERMITTED"),
        "another account's challenge": ({**service.answer(bob), "account": str(alice.account)}, "MALFORMED"),
        "a forged challenge": ({**good, "challenge": forged}, "MALFORMED"),
        "a prolonged challenge": ({**good, "challenge": " ".join(later)}, "MALFORMED"),
        "no challenge": ({**good, "challenge": ""}, "MALFORMED"),
        "a challenge that is not ASCII": ({**good, "challenge": good["challenge"] + "é"}, "MALFORMED"),
        "a signature of the bare challenge": ({**good, "signatures": [bare]}, "SIGNATURE_INVALID"),
        "an empty signature": ({**good, "signatures": [{**signature, "sig": ""}]}, "SIGNATURE_INVALID"),
        "no key": ({**good, "signatures": [{**signature, "key": "x"}]}, "SIGNATURE_INVALID"),
        "no signature": ({**good, "signatures": []}, "SIGNATURE_MISSING"),
    }


def test_other_answers_open_nothing(world: World, alice: Wallet, service: Service) -> None:
    """Each is a typed refusal; a key without authority and an account that is not there sound the same."""
    heard = {}
    for name, (answer, _) in answers(world, alice, service).items():
        payload = service.open_session(**answer)
        assert payload["token"] is None
        heard[name] = payload["userErrors"][0]["code"]
    assert heard == {name: code for name, (_, code) in answers(world, alice, service).items()}


def test_challenge_tells_nobody_who_exists(service: Service, alice: Wallet) -> None:
    """It is given for any well-formed account id, and for nothing else."""
    assert service.challenge("mem_" + "a" * 26)["challenge"].startswith("v1 mem_aaaa")
    document = "query($id: ID!) { sessionChallenge(account: $id) { challenge } }"
    for account in ("", "alice", "mem_" + "a" * 26 + " x", "sys_issued", f"{alice.account}\n"):
        assert service.error_code(document, {"id": account}) == "BAD_USER_INPUT"


def forged_tokens(world: World, token: str) -> dict[str, str]:
    """Tokens that are not ours."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    operator = {**claims, "sub": world.operator.account, "role": "operator"}
    changed = base64.urlsafe_b64encode(json.dumps(operator).encode()).rstrip(b"=").decode()
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    other_ledger = Sessions("ledger.example/other", world.log_key)
    other_key = Sessions(ORIGIN, world.make_key())
    session = Session(account=claims["sub"], role="operator", keys_seq=claims["keys"])
    unbound = {name: value for name, value in claims.items() if name != "keys"}
    return {
        "changed claims": f"{header}.{changed}.{signature}",
        "no algorithm": f"{none}.{changed}.",
        "another secret": jwt.encode(operator, "x" * 32, algorithm="HS256"),
        "another ledger": other_ledger.token(session, world.clock()).text,
        "another log key": other_key.token(session, world.clock()).text,
        "no keys": jwt.encode(unbound, Sessions(ORIGIN, world.log_key)._token_secret, algorithm="HS256"),
        "cut short": token[:-2],
        "rubbish": "rubbish",
        "nothing": "",
    }


def test_forged_tokens_are_refused(world: World, alice: Wallet, service: Service) -> None:
    """401 with a typed error, before anything is executed; also for what is public."""
    token = service.sign_in(alice)
    for name, forged in forged_tokens(world, token).items():
        response = service.post({"query": "{ ledger { size } }"}, token=forged)
        assert response.status_code == 401, name
        assert response.headers["www-authenticate"].startswith("Bearer"), name
        assert response.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED", name
        assert forged not in response.text or not forged, name


@pytest.mark.parametrize("authorization", ["Basic YTpi", "Bearer", "x", "\xff"])
def test_other_authorization_is_refused(authorization: str, service: Service) -> None:
    """Only bearer tokens are known."""
    response = service.client.post(
        "/graphql",
        content=b'{"query":"{ ledger { size } }"}',
        headers=[(b"content-type", b"application/json"), (b"authorization", authorization.encode("latin-1"))],
    )
    assert response.status_code == 401


def test_tokens_of_one_process_hold_in_another(world: World, alice: Wallet, service: Service, tmp_path: Path) -> None:
    """Secrets come from the log key, so all workers share them."""
    token = service.sign_in(alice)
    with running(world, tmp_path) as other:
        assert other.query(WHO, token=token) == {"viewer": {"id": alice.account}}


def test_token_does_not_hold_what_was_not_signed(world: World) -> None:
    """The two secrets differ, and neither is the key."""
    sessions = Sessions(ORIGIN, world.log_key)
    with pytest.raises(TokenError):
        sessions.session(jwt.encode({"sub": "x"}, world.log_key.private_bytes_raw(), algorithm="HS256"), 0)


def test_keys_show_nothing_private(alice: Wallet, service: Service) -> None:
    """An account's keys are public ones."""
    found: Any = service.query("{ viewer { keys } }", token=service.sign_in(alice))["viewer"]
    assert found["keys"] == [encode_public_key(alice.keys[0])]

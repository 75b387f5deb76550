"""The client for programs against the real server: what it proves, what it repeats, and what it does not believe."""

import base64
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import urllib3
from graphql import build_schema, parse, validate

from api import client as api_client
from api.client import RefusedError, RequestError, ServiceError
from api.client_records import Balance, Lot
from api.guerdon import (
    DOCUMENTS,
    Guerdon,
    UnansweredError,
    UnprovenError,
    account_of,
)
from api.opening import system_clock
from api.schema import print_sdl
from ledger.checkpoint import CheckpointError, encode_verifier_key, encode_witness_key
from ledger.encoding import format_time, parse_time
from ledger.entries import Posting
from ledger.keys import encode_public_key
from ledger.operations import Exchange, OpenAccount, Redeem, ReplaceKeys, SignedOperation, Transfer
from ledger.program_terms import ExpiresAfterDays
from ledger.receipt import ReceiptError, decode_receipt, encode_receipt, verify_receipt
from ledger.state import Code
from ledger.terms import AcceptanceTerms, ExchangeTerms, Fee, KeptFee, Rate, Recipient, TransferTerms
from ledger.wallet import Wallet
from tests.partners import agree, buy, owe_usd
from tests.service import serving
from tests.witnesses import Watcher
from tests.worlds import World, make_program, pay


class Town(NamedTuple):
    """A served ledger with a merchant, its asset STAR and two members, of whom Alice has 500 points."""

    world: World
    url: str
    log_key: str
    shop: Wallet
    alice: Wallet
    bob: Wallet

    def client(self, wallet: Wallet, url: str | None = None, **options: Any) -> Guerdon:
        """A client that acts for a wallet's account, with the world's clock, and that waits for nothing."""
        given: dict[str, Any] = {
            "account": wallet.account,
            "keys": wallet.keys,
            "log_keys": [self.log_key],
            "clock": self.world.clock,
            "random_bytes": self.world.random.randbytes,
            "sleep": lambda _: None,
        }
        return Guerdon(url or self.url, **given | options)


@pytest.fixture
def town(world: World, tmp_path: Path) -> Iterator[Town]:
    shop = world.add_merchant()
    world.add_asset(shop, "STAR", make_program(expiry=ExpiresAfterDays(count=10)), name="Stars", scale=2)
    alice, bob = world.add_members(2)
    world.grant(shop, "STAR", alice, 500)
    with serving(world, tmp_path) as url:
        yield Town(world, url, encode_verifier_key(world.origin, world.log_key), shop, alice, bob)


# A server between: it loses questions and answers, is busy, or changes what is said.


class Unreliable(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the real server, as far as ``fate`` lets it. See :func:`unreliable`."""

    protocol_version = "HTTP/1.1"
    upstream = ""
    requests: list[Any]
    fate: Callable[[Any, Callable[[], tuple[int, bytes]]], tuple[int, bytes] | None]

    def do_POST(self) -> None:
        """Answer one request, or hang up."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append(json.loads(body))

        def pass_on() -> tuple[int, bytes]:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in {"host", "content-length"}}
            response = urllib3.request("POST", self.upstream, body=body, headers=headers)
            return response.status, response.data

        answer = type(self).fate(self.requests[-1], pass_on)
        if answer is None:
            self.close_connection = True
            return
        status, data = answer
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def unreliable(
    town: Town, fate: Callable[[Any, Callable[[], tuple[int, bytes]]], tuple[int, bytes] | None]
) -> Iterator[tuple[str, list[Any]]]:
    """A server that answers a request with what ``fate`` makes of it; its address and the requests it got.

    ``fate`` gets the request and what passes it on; a result of ``None`` hangs up without an answer.
    """
    requests: list[Any] = []
    fields = {"upstream": f"{town.url}/graphql", "requests": requests, "fate": staticmethod(fate)}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Unreliable,), fields)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


def is_submission(request: Any) -> bool:
    return "operationSubmit" in request["query"]


# Writing


def test_transfer_is_recorded_and_proven(town: Town) -> None:
    """Entry, postings and what they leave; the receipt verifies offline with the log's key and says the same."""
    with town.client(town.alice) as client:
        paid = client.send("STAR", 120, str(town.bob.account))
    assert (paid.balance, paid.replayed) == (380, False)
    assert paid.postings == (
        Posting(account=str(town.alice.account), amount=-120, asset="STAR", lot="2026-03-12"),
        Posting(account=str(town.bob.account), amount=120, asset="STAR", lot="2026-03-12"),
    )
    proven = verify_receipt(paid.receipt, client.policy)
    assert paid.proven == proven
    assert (paid.seq, paid.hash, paid.entry) == (proven.seq, proven.leaf_hash.hex(), proven.entry)


def test_same_operation_is_recorded_once(town: Town) -> None:
    """Its id is known before it is sent; sent again, it is the same entry, replayed."""
    client = town.client(town.alice)
    signed = client.wallet.sign(Transfer, asset="STAR", recipients=(Recipient(to=str(town.bob.account), amount=5),))
    first, second = client.submit(signed), client.submit(signed)
    assert first.operation_id == second.operation_id == signed.op_id.hex()
    assert (first.replayed, second.replayed) == (False, True)
    assert (first.seq, first.hash) == (second.seq, second.hash)
    assert client.balance("STAR").total == 495


def test_account_is_opened_with_its_own_keys(town: Town) -> None:
    """And the client is that account from then on."""
    keys = [town.world.make_key(), town.world.make_key()]
    with town.client(town.world.wallet(None, *keys)) as client:
        with pytest.raises(ValueError, match="open_account"):
            client.balances()
        opened = client.open_account(threshold=2)
        assert isinstance(opened.entry.op, OpenAccount)
        assert opened.entry.op.threshold == 2
        assert client.account is not None
        assert client.balances() == ()
        assert client.query("{ viewer { id } }")["viewer"]["id"] == client.account


def test_account_of_an_opening_is_known_before_it_is_sent(town: Town) -> None:
    """As the ledger names it."""
    key = town.world.make_key()
    signed = town.world.open_member(key)
    client = town.client(town.world.wallet(account_of(signed), key))
    client.submit(signed)
    assert client.query("{ viewer { id keys } }")["viewer"] == {
        "id": account_of(signed),
        "keys": [encode_public_key(key)],
    }


def test_redemption_spends_at_a_merchant(town: Town) -> None:
    spent = town.client(town.alice).redeem("STAR", 500, str(town.shop.account), reference="bill-1")
    assert spent.balance == 0
    assert sum(leg.amount for leg in spent.postings if leg.account == town.alice.account) == -500


def test_custodian_spends_and_reads_for_its_member(town: Town) -> None:
    """A merchant signs for an account without keys, and is told what it has."""
    world = town.world
    signed = town.shop.sign(OpenAccount, role="member")
    world.record(signed)
    member = account_of(signed)
    world.grant(town.shop, "STAR", world.wallet(member), 90)
    client = town.client(town.shop)
    client.send("STAR", 30, str(town.bob.account), actor=member)
    assert client.balance("STAR", member).total == 60
    assert [line.amount for line in client.history("STAR", account=member)] == [90, -30]


def test_refusal_says_in_types_what_is_wrong(town: Town) -> None:
    """Code, field, whether to try again, and details a program can act on."""
    with pytest.raises(RefusedError) as caught:
        town.client(town.alice).send("STAR", 501, str(town.bob.account))
    error = caught.value
    assert (error.code, error.retryable) == (Code.INSUFFICIENT_POINTS, False)
    assert error.details == {"requiredPoints": 501, "availablePoints": 500}
    assert str(error).startswith("INSUFFICIENT_POINTS: ")
    with pytest.raises(RefusedError) as caught:
        town.client(town.alice).send("STAR", 1, "mem_" + "a" * 26)
    assert (caught.value.code, caught.value.path) == ("UNKNOWN_ACCOUNT", ("recipients", "0", "to"))
    assert len(caught.value.refusals) == 1


def test_operation_that_expired_is_refused(town: Town) -> None:
    """Whoever asks late knows that it is not recorded."""
    client = town.client(town.alice)
    signed = client.wallet.sign(
        Transfer, asset="STAR", recipients=(Recipient(to=str(town.bob.account), amount=5),), expires_in_ms=1_000
    )
    town.world.clock.advance(ms=1_001)
    with pytest.raises(RefusedError, match="EXPIRED"):
        client.submit(signed)


# Repeating


@pytest.mark.parametrize("lost", ["question", "answer"])
def test_lost_submission_is_sent_again_and_records_once(town: Town, lost: str) -> None:
    """Whether the question or the answer was lost: the same document is sent, and paid once."""

    def fate(request: Any, pass_on: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes] | None:
        if len(requests) == 1:
            if lost == "answer":
                pass_on()
            return None
        return pass_on()

    with unreliable(town, fate) as (url, requests):
        paid = town.client(town.alice, url).send("STAR", 100, str(town.bob.account))
    assert [is_submission(request) for request in requests] == [True, True]
    assert requests[0] == requests[1]
    assert paid.replayed is (lost == "answer")
    assert town.client(town.alice).balance("STAR").total == 400


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_busy_server_is_asked_again(town: Town, status: int) -> None:
    def fate(_: Any, pass_on: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        return (status, b"{}") if len(requests) < 3 else pass_on()

    with unreliable(town, fate) as (url, requests):
        assert town.client(town.alice, url).send("STAR", 1, str(town.bob.account)).seq > 0
    assert len(requests) == 3


def refused_as(code: str) -> tuple[int, bytes]:
    """The answer that nothing was recorded, at least not by the server that says so."""
    error = {"__typename": "OperationRefusedError", "code": code, "message": "later", "path": [], "retryable": True}
    refusal = {"entry": None, "replayed": False, "balance": None, "receipt": None, "userErrors": [error]}
    return 200, json.dumps({"data": {"operationSubmit": refusal}}).encode()


@pytest.mark.parametrize("code", ["OVERLOADED", "UNAVAILABLE"])
def test_busy_ledger_is_asked_again(town: Town, code: str) -> None:
    """After waits that grow."""
    waits: list[float] = []

    def fate(_: Any, pass_on: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        return refused_as(code) if len(requests) < 4 else pass_on()

    with unreliable(town, fate) as (url, requests):
        assert town.client(town.alice, url, sleep=waits.append).send("STAR", 1, str(town.bob.account)).balance == 499
    assert waits == sorted(set(waits))
    assert len(waits) == 3
    assert all(request == requests[0] for request in requests)


def test_ledger_that_stays_overloaded_has_recorded_nothing(town: Town) -> None:
    """It says so each time, before it takes the operation."""
    with unreliable(town, lambda *_: refused_as("OVERLOADED")) as (url, requests):
        with pytest.raises(RefusedError) as caught:
            town.client(town.alice, url, attempts=3).send("STAR", 1, str(town.bob.account))
        assert (caught.value.code, caught.value.retryable, len(requests)) == ("OVERLOADED", True, 3)


@pytest.mark.parametrize(
    "answers",
    [
        [refused_as("UNAVAILABLE")],
        [refused_as("UNAVAILABLE"), refused_as("OVERLOADED")],
        [None, refused_as("OVERLOADED")],
        [(502, b""), refused_as("OVERLOADED")],
    ],
    ids=["unavailable", "unavailable, then overloaded", "lost, then overloaded", "bad gateway, then overloaded"],
)
def test_ledger_that_may_have_recorded_it_has_not_refused_it(town: Town, answers: list[Any]) -> None:
    """UNAVAILABLE is also said when the database was lost while committing: signing anew could pay twice."""

    def fate(_: Any, pass_on: Callable[[], tuple[int, bytes]]) -> Any:
        if len(requests) == 1:
            pass_on()
        return answers[min(len(requests), len(answers)) - 1]

    with unreliable(town, fate) as (url, requests), pytest.raises(UnansweredError) as caught:
        town.client(town.alice, url, attempts=3).send("STAR", 100, str(town.bob.account))
    assert answers[-1] != refused_as("UNAVAILABLE") or "UNAVAILABLE: later" in str(caught.value)
    again = town.client(town.alice)
    assert again.submit(caught.value.signed).replayed
    assert again.balance("STAR").total == 400


@pytest.mark.parametrize("code", ["EXPIRED", "INSUFFICIENT_POINTS"])
def test_refusal_after_a_lost_question_is_a_refusal(town: Town, code: str) -> None:
    """The ledger looks for the operation first, and says when it has it."""
    with unreliable(town, lambda *_: refused_as(code) if len(requests) > 1 else None) as (url, requests):
        with pytest.raises(RefusedError) as caught:
            town.client(town.alice, url).send("STAR", 1, str(town.bob.account))
        assert (caught.value.code, len(requests)) == (code, 2)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        (503, b"{}"),
        (429, b'{"errors": [{"message": "slowly", "extensions": {"code": "RATE_LIMITED"}}]}'),
        (500, b'{"errors": [{"message": "Internal error", "extensions": {"code": "INTERNAL_ERROR"}}]}'),
        (200, b'{"data": null, "errors": [{"message": "Internal error", "extensions": {"code": "INTERNAL_ERROR"}}]}'),
        (200, b"<html>"),
        (200, b'{"data": {}}'),
        (200, b'{"data": {"operationSubmit": {"replayed": "perhaps"}}}'),
        (
            200,
            b'{"data": {"operationSubmit": {"entry": null, "replayed": false, "userErrors": []}}}',
        ),
    ],
    ids=str,
)
def test_submission_without_an_answer_can_be_tried_again(town: Town, answer: tuple[int, bytes] | None) -> None:
    """Nobody knows whether it is recorded: the error has the document, which is safe to send again, and its id."""
    with unreliable(town, lambda *_: answer) as (url, _):
        client = town.client(town.alice, url, attempts=2)
        with pytest.raises(UnansweredError) as caught:
            client.send("STAR", 7, str(town.bob.account))
    signed = caught.value.signed
    assert signed.op_id.hex() in str(caught.value)
    again = town.client(town.alice)
    assert (again.submit(signed).replayed, again.submit(signed).replayed) == (False, True)


def test_request_that_no_attempt_can_pass_is_told_as_it_is(town: Town) -> None:
    """A document that the server does not run was not run before either."""
    answer = (
        b'{"errors": [{"message": "not listed", "extensions": {"code": "QUERY_NOT_IN_SAFELIST", "requestId": "r1"}}]}'
    )
    with unreliable(town, lambda *_: (403, answer)) as (url, _), pytest.raises(RequestError) as caught:
        town.client(town.alice, url).send("STAR", 7, str(town.bob.account))
    assert (caught.value.code, caught.value.status, caught.value.request_id) == ("QUERY_NOT_IN_SAFELIST", 403, "r1")


REFUSED_REQUEST = b'{"errors": [{"message": "no", "extensions": {"code": "SOME_CODE"}}]}'


@pytest.mark.parametrize(
    ("answers", "known"),
    [
        ([(429, b""), (403, REFUSED_REQUEST)], True),
        ([None, (403, REFUSED_REQUEST)], False),
        ([(503, b""), (400, REFUSED_REQUEST)], False),
        ([refused_as("UNAVAILABLE"), (403, REFUSED_REQUEST)], False),
        ([(408, REFUSED_REQUEST)], False),
    ],
    ids=["throttled", "lost", "503", "unavailable", "408"],
)
def test_refused_request_says_nothing_about_an_earlier_one(town: Town, answers: list[Any], known: bool) -> None:
    """The one before may have been recorded, unless it was throttled; a request that came too slowly may have, too."""

    def fate(*_: Any) -> Any:
        return answers[len(requests) - 1]

    with unreliable(town, fate) as (url, requests), pytest.raises(ServiceError) as caught:
        town.client(town.alice, url).send("STAR", 100, str(town.bob.account))
    assert len(requests) == len(answers)
    assert isinstance(caught.value, RequestError if known else UnansweredError)


def test_server_that_never_answered_is_given_up_soon(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is told at once; one that did answer, and is restarting, is tried as often as others."""
    waits: list[float] = []
    monkeypatch.setattr(urllib3.Retry, "sleep", lambda self, _=None: waits.append(self.get_backoff_time()))
    with unreliable(town, lambda _, pass_on: pass_on()) as (url, _):
        client = town.client(town.alice, url)
        client.asset("STAR")
        client.close()  # the connection, so that another one is needed
    for asked, attempts in (town.client(town.alice, url), 2), (client, api_client.ATTEMPTS):
        waits.clear()
        with pytest.raises(ServiceError, match="does not answer"):
            asked.asset("STAR")
        assert len(waits) == attempts - 1
        assert (sum(waits) == 0) is (attempts == 2)


def test_redirect_is_not_followed(town: Town) -> None:
    """What is signed and the session's token are for this server alone."""
    with unreliable(town, lambda *_: (307, b"")) as (url, requests), pytest.raises(ServiceError, match="status 307"):
        town.client(town.alice, url).balances()
    assert len(requests) == 1


def test_answer_without_end_is_not_read(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody fills a client's memory."""
    monkeypatch.setattr(api_client, "MAX_ANSWER_BYTES", 1_000)
    answer = (200, b" " * 1_001)
    with unreliable(town, lambda *_: answer) as (url, _), pytest.raises(ServiceError, match="more than 1000 bytes"):
        town.client(town.alice, url).asset("STAR")


# Not believing


def changed_payload(town: Town, change: Callable[[dict[str, Any]], None]) -> Any:
    """A server that changes what is said about a submission."""

    def fate(request: Any, pass_on: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        status, data = pass_on()
        answer = json.loads(data)
        if is_submission(request):
            change(answer["data"]["operationSubmit"])
        return status, json.dumps(answer).encode()

    return unreliable(town, fate)


def without_receipt(payload: dict[str, Any]) -> None:
    payload["receipt"] = None


def another_number(payload: dict[str, Any]) -> None:
    payload["entry"]["seq"] += 1


def another_hash(payload: dict[str, Any]) -> None:
    payload["entry"]["hash"] = "0" * 64


def changed_entry(payload: dict[str, Any]) -> None:
    receipt = decode_receipt(payload["receipt"])
    data = receipt.data.replace(b'"amount":-7', b'"amount":-8')
    assert data != receipt.data
    payload["receipt"] = encode_receipt(msgspec.structs.replace(receipt, data=data))


def changed_signature(payload: dict[str, Any]) -> None:
    lines = payload["receipt"].splitlines()
    name, blob = lines[-1].rsplit(" ", 1)
    raw = bytearray(base64.b64decode(blob))
    raw[20] ^= 1
    payload["receipt"] = "\n".join([*lines[:-1], f"{name} {base64.b64encode(raw).decode()}"]) + "\n"


@pytest.mark.parametrize(
    "change",
    [without_receipt, another_number, another_hash, changed_entry, changed_signature],
    ids=lambda f: f.__name__,
)
def test_what_is_said_to_be_recorded_must_be_proven(town: Town, change: Callable[[dict[str, Any]], None]) -> None:
    """The operation is named, so that it can be asked for again."""
    with changed_payload(town, change) as (url, _), pytest.raises(UnprovenError) as caught:
        town.client(town.alice, url).send("STAR", 7, str(town.bob.account))
    assert caught.value.signed.op_id.hex() in str(caught.value)


def test_receipt_of_another_operation_proves_nothing(town: Town) -> None:
    """Even though it is a good one."""
    (other,) = [town.client(town.alice).send("STAR", 9, str(town.bob.account))]

    def change(payload: dict[str, Any]) -> None:
        payload["receipt"] = other.receipt
        payload["entry"] = {"seq": other.seq, "hash": other.hash}

    with changed_payload(town, change) as (url, _), pytest.raises(UnprovenError, match="of another operation"):
        town.client(town.alice, url).send("STAR", 9, str(town.bob.account))


def test_log_key_of_another_ledger_proves_nothing(town: Town) -> None:
    """A client that was told another log key does not take this ledger's word."""
    other = encode_verifier_key(town.world.origin, town.world.make_key())
    with pytest.raises(UnprovenError, match="no signature of a known key"):
        town.client(town.alice, log_keys=[other]).send("STAR", 7, str(town.bob.account))


def test_without_a_log_key_nothing_is_called_proven(town: Town) -> None:
    """The entry is still the one that was signed, and the ledger's name is the server's word."""
    client = town.client(town.alice, log_keys=[])
    paid = client.send("STAR", 7, str(town.bob.account))
    assert paid.proven is None
    assert client.origin == town.world.origin
    assert paid.entry.seq == paid.seq
    with pytest.raises(ReceiptError, match="no log key"):
        client.receipt(paid.seq)


def test_log_keys_are_of_one_ledger(town: Town) -> None:
    """Which one operations are signed for is not to be guessed."""
    other = encode_verifier_key("ledger.example/other", town.world.make_key())
    with pytest.raises(CheckpointError, match="several ledgers"):
        town.client(town.alice, log_keys=[town.log_key, other])
    with pytest.raises(CheckpointError, match=r"not of ledger\.example/other"):
        town.client(town.alice, origin="ledger.example/other")


# Partners


class Market(NamedTuple):
    """A town with a bakery, whose BEAN one gets 3 of for 5 STAR and a fee, and which accepts STAR for 2 cents each."""

    town: Town
    bakery: Wallet

    def __getattr__(self, name: str) -> Any:
        return getattr(self.town, name)


@pytest.fixture
def market(town: Town) -> Market:
    bakery = town.world.add_merchant("Bakery")
    town.world.add_asset(bakery, "BEAN", name="Beans")
    fee = KeptFee(amount=1, currency="USD", kept_by=str(bakery.account), points=100, round="up")
    terms = ExchangeTerms(
        asset="STAR",
        claim=owe_usd(town.shop),
        fee=fee,
        into="BEAN",
        rate=Rate(get=3, give=5),
        received="retired",
        step=5,
    )
    accepted = AcceptanceTerms(asset="STAR", claim=owe_usd(town.shop, 2), received="retired")
    world = town.world
    world.record(*(agree(world, town.shop, bakery, terms=each) for each in (terms, accepted)))
    return Market(town, bakery)


def test_quote_tells_what_an_exchange_comes_to(market: Market) -> None:
    """For an account with the lots it would use; for anybody by the terms alone. Nothing moves by asking."""
    quoted = market.client(market.alice).quote("STAR", 120, "BEAN")
    assert (quoted.amount, quoted.given, quoted.out, quoted.rate) == (120, 120, 72, Rate(get=3, give=5))
    assert (quoted.fee_amount, quoted.fee_currency, quoted.minimum_out, quoted.maximum_fee) == (2, "USD", 72, 2)
    assert (quoted.agreement, quoted.agreement_version, quoted.valid_until) == ("STAR>BEAN", 1, None)
    assert quoted.lots == (Lot(last_day="2026-03-12", points=120, is_spendable=True),)
    assert quoted.refusals == ()
    public = market.client(market.world.wallet(None)).quote("STAR", 120, "BEAN")
    assert public == msgspec.structs.replace(quoted, lots=None)
    refused = market.client(market.alice).quote("STAR", 122, "BEAN")
    assert [(refusal.code, refusal.details) for refusal in refused.refusals] == [("OFF_STEP", {"step": 5})]


def test_exchange_signs_what_was_quoted(market: Market) -> None:
    """No point less, no cent more; what came out and what is owed is proven."""
    client = market.client(market.alice)
    exchanged = client.exchange("STAR", 120, "BEAN")
    op = exchanged.entry.op
    assert isinstance(op, Exchange)
    assert (op.minimum_out, op.maximum_fee) == (72, 2)
    assert (exchanged.given, exchanged.out, exchanged.fees, exchanged.balance) == (120, 72, {"USD": 2}, 380)
    assert exchanged.proven is not None
    assert [(leg.account, leg.amount) for leg in exchanged.money] == [
        (market.shop.account, -120),
        (market.bakery.account, 120),
        (market.alice.account, -2),
        (market.bakery.account, 2),
    ]
    assert client.balance("BEAN").total == 72


def test_exchange_with_limits_of_its_own_asks_for_no_quote(market: Market) -> None:
    """Whoever knows what they want takes nobody's word for it."""
    with unreliable(market.town, lambda _, pass_on: pass_on()) as (url, requests):
        client = market.client(market.alice, url)
        assert client.exchange("STAR", 10, "BEAN", minimum_out=6, maximum_fee=1).out == 6
        with pytest.raises(RefusedError) as caught:
            client.exchange("STAR", 10, "BEAN", minimum_out=7, maximum_fee=1)
        assert (caught.value.code, caught.value.details) == ("OUTCOME_TOO_SMALL", {"outcomePoints": 6})
        with pytest.raises(RefusedError) as caught:
            client.exchange("STAR", 10, "BEAN", minimum_out=6, maximum_fee=0)
        assert (caught.value.code, caught.value.details) == ("FEE_ABOVE_LIMIT", {"feeAmount": 1, "currency": "USD"})
        assert all(is_submission(request) for request in requests)
        client.exchange("STAR", 10, "BEAN", minimum_out=5)
        assert sum("exchangeQuote" in request["query"] for request in requests) == 1


def test_exchange_that_would_be_refused_is_not_signed(market: Market) -> None:
    """The quote says why."""
    with unreliable(market.town, lambda _, pass_on: pass_on()) as (url, requests):
        for amount, into, code in ((505, "BEAN", "INSUFFICIENT_POINTS"), (5, "MOON", "UNKNOWN_ASSET")):
            with pytest.raises(RefusedError) as caught:
                market.client(market.alice, url).exchange("STAR", amount, into)
            assert caught.value.code == code
        assert [request for request in requests if is_submission(request)] == []


def test_quote_without_an_outcome_is_no_answer(market: Market) -> None:
    """There is nothing to sign by it."""

    def fate(request: Any, pass_on: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        status, data = pass_on()
        return status, data.replace(b'"minimumOut":6', b'"minimumOut":null')

    with unreliable(market.town, fate) as (url, _), pytest.raises(ServiceError, match="not as a GraphQL service"):
        market.client(market.alice, url).exchange("STAR", 10, "BEAN")


def test_custodian_exchanges_for_its_member(market: Market) -> None:
    """By a quote for the member, and not for itself."""
    signed = market.shop.sign(OpenAccount, role="member")
    market.world.record(signed)
    member = account_of(signed)
    market.world.grant(market.shop, "STAR", market.world.wallet(member), 90)
    client = market.client(market.shop)
    assert client.exchange("STAR", 90, "BEAN", actor=member).out == 54
    with pytest.raises(RefusedError, match="5 points of STAR needed, 0 available"):
        client.exchange("STAR", 5, "BEAN", actor=member)


def test_paths_lead_further_and_the_best_is_first(market: Market) -> None:
    """Each exchange of a way is a document of its own; all of it is public."""
    world = market.world
    grocer = world.add_merchant("Grocer")
    world.add_asset(grocer, "LEAF")
    onward = ExchangeTerms(asset="BEAN", into="LEAF", rate=Rate(get=2, give=1), received="retired")
    world.record(agree(world, market.bakery, grocer, terms=onward))
    direct = ExchangeTerms(asset="STAR", into="LEAF", rate=Rate(get=1, give=1), received="retired")
    world.record(agree(world, market.shop, grocer, terms=direct))
    client = market.client(world.wallet(None))
    best = client.paths("STAR", 10)
    assert [(path.into, path.out) for path in best.paths] == [("BEAN", 6), ("LEAF", 12)]
    assert best.complete
    ways = client.paths("STAR", 10, "LEAF").paths
    assert [[hop.agreement for hop in path.hops] for path in ways] == [["STAR>BEAN", "BEAN>LEAF"], ["STAR>LEAF"]]
    assert [(hop.amount, hop.given, hop.out, hop.fee_amount) for hop in ways[0].hops] == [(10, 10, 6, 1), (6, 6, 12, 0)]
    assert len(client.paths("STAR", 10, "LEAF", max_hops=1).paths) == 1
    shortened = client.paths("STAR", 10, first=1)
    assert (len(shortened.paths), shortened.complete) == (1, False)


def test_hold_is_captured_in_parts_and_the_rest_returns(market: Market) -> None:
    """Till and holder see it open, then captured; what is owed for it is in the entry."""
    alice, till = market.client(market.alice), market.client(market.bakery)
    held = alice.hold("STAR", 100, str(market.bakery.account), for_s=1_800, reference="table-4")
    assert parse_time(held.until) - parse_time(held.entry.time) == 1_800_000
    assert held.balance == 400
    (seen,) = till.holds()
    assert (seen, [seen]) == (alice.find_hold(held.hold), list(alice.holds(asset="STAR", status="open")))
    assert (seen.account_id, seen.remaining, seen.status) == (market.alice.account, 100, "open")
    assert seen.reference == "table-4"
    first = till.capture(held.hold, 30, reference="till-1")
    assert (first.captured, first.returned) == (30, 0)
    assert [leg.amount for leg in first.money] == [-60, 60]
    last = till.capture(held.hold, 45, final=True)
    assert (last.captured, last.returned) == (45, 25)
    (seen,) = alice.holds()
    assert (seen.status, seen.captured, seen.remaining) == ("captured", 75, 0)
    assert list(alice.holds(status="open")) == []
    assert alice.balance("STAR").total == 425
    with pytest.raises(RefusedError) as caught:
        till.capture(held.hold, 1)
    assert caught.value.code == "HOLD_CLOSED"


def test_hold_is_released_by_the_merchant_or_by_time(market: Market) -> None:
    """Before that by nobody else."""
    alice, till = market.client(market.alice), market.client(market.bakery)
    until = format_time(market.world.clock.now_ms + 60_000)
    first, second = (alice.hold("STAR", 10, str(market.bakery.account), until=until) for _ in range(2))
    with pytest.raises(RefusedError, match="NOT_PERMITTED"):
        alice.release(first.hold)
    released = till.release(first.hold)
    assert (released.captured, released.returned) == (0, 10)
    market.world.clock.advance(ms=60_001)
    assert [hold.status for hold in alice.holds()] == ["released", "lapsed"]
    assert alice.release(second.hold).returned == 10
    assert alice.balance("STAR").total == 500


def test_hold_has_one_end(market: Market) -> None:
    client = market.client(market.alice)
    for ends in ({}, {"until": "2026-03-03T00:00:00.000Z", "for_s": 60}):
        with pytest.raises(ValueError, match="give one of the two"):
            client.hold("STAR", 10, str(market.bakery.account), **ends)


def test_holds_are_read_page_by_page(market: Market) -> None:
    """In both directions; one that is not to be seen is none."""
    world = market.world
    alice = market.client(market.alice)
    held = [alice.hold("STAR", 1, str(market.bakery.account), for_s=60).hold for _ in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.guerdon.PAGE", 2)
        assert [hold.id for hold in alice.holds()] == held
        assert [hold.id for hold in alice.holds(newest_first=True)] == held[::-1]
    assert market.client(market.bob).find_hold(held[0]) is None
    assert list(market.client(market.bob).holds(merchant=str(market.bakery.account))) == []
    world.clock.advance(ms=60_001)
    assert list(alice.holds(status="open")) == []


def test_refunds_undo_what_was_recorded(market: Market) -> None:
    """A redemption, a capture, an exchange and a purchase, each by the merchant it was made at."""
    world = market.world
    alice, bakery, shop = market.client(market.alice), market.client(market.bakery), market.client(market.shop)
    spent = alice.redeem("STAR", 100, str(market.bakery.account))
    back = bakery.refund_redemption("STAR", spent.operation_id, 40, "back-1")
    assert (back.points, [leg.amount for leg in back.money]) == (40, [-80, 80])
    held = alice.hold("STAR", 20, str(market.bakery.account), for_s=60)
    captured = bakery.capture(held.hold, 20)
    assert bakery.refund_redemption("STAR", captured.operation_id, 20, "back-2").points == 20
    exchanged = alice.exchange("STAR", 50, "BEAN")
    assert bakery.refund_exchange("STAR", exchanged.operation_id, 50, "back-3").points == 50
    world.record(buy(market.shop, "STAR", market.alice, "order-1", 3_000))
    assert shop.refund_purchase("STAR", "order-1", 1_000, "back-4").points == 10
    assert (alice.balance("STAR").total, alice.balance("BEAN").total) == (460, 0)
    with pytest.raises(RefusedError) as caught:
        shop.refund_purchase("STAR", "order-1", 2_001, "back-5")
    assert (caught.value.code, caught.value.details) == ("REFUND_TOO_LARGE", {"refundableAmount": 2_000})


def test_what_merchants_owe_is_netted_and_settled(market: Market) -> None:
    """The operator nets by the server's proposal; the creditor confirms what it got, and no more than it is owed."""
    operator, bakery = market.client(market.world.operator), market.client(market.bakery)
    with pytest.raises(ServiceError, match="nothing is owed in USD"):
        operator.net("USD")
    market.world.record(market.alice.sign(Redeem, asset="STAR", amount=100, merchant=market.bakery.account))
    (owed,) = bakery.obligations(currency="USD")
    assert (owed.debtor_id, owed.amount, owed.day, owed.netting_entry_id) == (
        market.shop.account,
        200,
        "2026-03-02",
        None,
    )
    netted = operator.net("USD", merchants=[str(market.shop.account), str(market.bakery.account)])
    assert [(p.debtor, p.creditor, p.amount) for p in netted.payments] == [
        (market.shop.account, market.bakery.account, 200)
    ]
    (owed,) = bakery.obligations(counterparty=str(market.shop.account), account=str(market.bakery.account))
    assert owed.netting_entry_id == f"ent_{netted.seq}"
    settled = bakery.settle("USD", 150, str(market.shop.account), "bank-1")
    assert [leg.amount for leg in settled.money] == [-150, 150]
    assert settled.fees == {}
    with pytest.raises(RefusedError) as caught:
        bakery.settle("USD", 51, str(market.shop.account), "bank-2")
    assert (caught.value.code, caught.value.details) == ("SETTLED_TOO_MUCH", {"owedAmount": 50})


def test_transfer_states_the_most_it_may_cost(town: Town) -> None:
    """The asset says what it costs; without a limit a fee is refused."""
    fee = Fee(amount=1, currency="USD", fixed=5, maximum=20, points=10, round="up")
    town.world.add_asset(town.shop, "COIN", transfer_terms=TransferTerms(fee=fee, minimum=2))
    town.world.grant(town.shop, "COIN", town.alice, 100)
    client = town.client(town.alice)
    terms = client.asset("COIN").transfer_terms
    assert terms is not None
    assert terms.fee is not None
    assert (terms.minimum, terms.maximum, terms.step) == (2, None, 1)
    assert (terms.fee.amount, terms.fee.points, terms.fee.fixed, terms.fee.maximum) == (1, 10, 5, 20)
    assert client.asset("STAR").transfer_terms is None
    with pytest.raises(RefusedError) as caught:
        client.send("COIN", 30, str(town.bob.account))
    assert (caught.value.code, caught.value.details) == ("FEE_ABOVE_LIMIT", {"feeAmount": 8, "currency": "USD"})
    sent = client.send("COIN", 30, str(town.bob.account), maximum_fee=8)
    assert sent.fees == {"USD": 8}
    assert client.send("STAR", 30, str(town.bob.account), maximum_fee=8).fees == {}


def test_currencies_are_public(town: Town) -> None:
    """With the decimal places in which people write them."""
    assert town.client(town.world.wallet(None)).currencies() == {"EUR": 2, "USD": 2}


# Reading


def test_balance_tells_lots(town: Town) -> None:
    client = town.client(town.alice)
    lots = (Lot(last_day="2026-03-12", points=500, is_spendable=True),)
    assert client.balances() == (Balance(asset="STAR", total=500, spendable=500, lots=lots),)
    assert client.balance("STAR") == client.balances()[0]
    assert client.balance("MOON") == Balance(asset="MOON", total=0, spendable=0)
    town.world.clock.advance(days=11)
    assert (client.balance("STAR").total, client.balance("STAR").spendable) == (500, 0)


def test_balance_of_an_account_one_may_not_see_is_an_error(town: Town) -> None:
    """It is not mistaken for an account without points."""
    with pytest.raises(ServiceError, match="no account"):
        town.client(town.bob).balances(str(town.alice.account))


def test_history_is_read_page_by_page(town: Town) -> None:
    """In both directions the same lines, none missing or twice, and no more requests than are needed."""
    world = town.world
    world.record(*(pay(town.alice, "STAR", 1, town.bob) for _ in range(230)))
    client = town.client(town.alice)
    lines = list(client.history("STAR"))
    assert [line.amount for line in lines] == [500, *[-1] * 230]
    assert [line.balance for line in lines] == list(range(500, 269, -1))
    assert (lines[0].kind, lines[1].kind) == ("grant", "transfer")
    assert list(client.history("STAR", newest_first=True)) == lines[::-1]
    with unreliable(town, lambda _, pass_on: pass_on()) as (url, requests):
        newest = town.client(town.alice, url).history("STAR", newest_first=True)
        assert [next(newest).balance for _ in range(100)] == list(range(270, 370))
    assert sum("Statement" in request["query"] for request in requests) == 1


def test_history_is_of_a_span(town: Town) -> None:
    """From a time on, and before another."""
    world = town.world
    client = town.client(town.alice)
    marks = []
    for _ in range(3):
        world.clock.advance(days=1)
        marks.append(format_time(world.clock.now_ms))
        client.send("STAR", 1, str(town.bob.account))
    assert [line.time for line in client.history("STAR", start=marks[1])] == marks[1:]
    assert [line.time for line in client.history("STAR", start=marks[0], end=marks[2])] == marks[:2]


def test_preview_tells_what_would_happen_and_changes_nothing(town: Town) -> None:
    client = town.client(town.alice)
    op = client.wallet.build(Transfer, asset="STAR", recipients=(Recipient(to=str(town.bob.account), amount=120),))
    preview = client.preview(op)
    assert (preview.balance, preview.replayed, preview.refusals) == (380, False, ())
    assert preview.postings is not None
    assert [(leg.account, leg.amount) for leg in preview.postings] == [
        (town.alice.account, -120),
        (town.bob.account, 120),
    ]
    assert client.balance("STAR").total == 500
    too_much = client.wallet.build(
        Transfer, asset="STAR", recipients=(Recipient(to=str(town.bob.account), amount=501),)
    )
    (refusal,) = client.preview(too_much).refusals
    assert (refusal.code, refusal.details) == ("INSUFFICIENT_POINTS", {"requiredPoints": 501, "availablePoints": 500})


def test_assets_are_public(town: Town) -> None:
    """No session is opened for them."""
    with unreliable(town, lambda _, pass_on: pass_on()) as (url, requests):
        client = town.client(town.world.wallet(None), url)
        asset = client.asset("STAR")
        assert (asset.name, asset.scale, asset.issuer_id) == ("Stars", 2, town.shop.account)
        assert client.assets(["STAR", "MOON"]) == {"STAR": asset}
        assert client.assets([]) == {}
        with pytest.raises(ServiceError, match="no asset MOON"):
            client.asset("MOON")
    assert len(requests) == 3


def test_session_is_opened_once_and_renewed_by_itself(town: Town) -> None:
    """When it has ended, and when the keys were replaced."""
    with unreliable(town, lambda _, pass_on: pass_on()) as (url, requests):
        client = town.client(town.alice, url)

        def sign_ins() -> int:
            return sum("sessionOpen" in request["query"] for request in requests)

        assert [client.balance("STAR").total for _ in range(3)] == [500] * 3
        assert sign_ins() == 1
        town.world.clock.advance(ms=900_001)
        assert client.balance("STAR").total == 500
        assert sign_ins() == 2
        new = town.world.make_key()
        town.world.record(town.alice.replace_keys([new]))
        with pytest.raises(RefusedError, match=r"NOT_PERMITTED|SIGNATURE"):
            client.balances()
        client.keys = (new,)
        assert client.balance("STAR").total == 500


def test_lost_answer_of_a_sign_in_is_no_trouble(town: Town) -> None:
    """Its challenge is used up: another one is asked for."""
    lost: list[Any] = []

    def fate(request: Any, pass_on: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes] | None:
        answer = pass_on()
        if "sessionOpen" in request["query"] and not lost:
            lost.append(request)
            return None
        return answer

    with unreliable(town, fate) as (url, _):
        assert town.client(town.alice, url).balance("STAR").total == 500
    assert len(lost) == 1


def test_threads_share_a_client(town: Town) -> None:
    """One session, and every transfer is recorded."""
    with unreliable(town, lambda _, pass_on: pass_on()) as (url, requests):
        client = town.client(town.alice, url)
        balances: list[int | None] = []

        def work() -> None:
            balances.append(client.send("STAR", 10, str(town.bob.account)).balance)
            client.balances()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(filter(None, balances)) == list(range(420, 500, 10))
    assert sum("sessionOpen" in request["query"] for request in requests) == 1


# Witnesses


def test_receipt_is_held_to_the_witnesses(town: Town, tmp_path: Path) -> None:
    """None without their cosignatures; and one as soon as they have seen the entry."""
    with (
        Watcher(tmp_path, 1, town.log_key) as watcher,
        serving(town.world, tmp_path, witnesses=(watcher.address,), witness_quorum=1, witness_interval_s=1) as url,
    ):
        verifier_key = encode_witness_key(watcher.key.name, watcher.key.public_key)
        client = town.client(town.alice, url, witnesses=[verifier_key], sleep=time.sleep, clock=system_clock)
        (recorded,) = town.world.record(pay(town.alice, "STAR", 1, town.bob))
        receipt = client.receipt(recorded.seq, wait_s=60)
        assert [c.witness for c in verify_receipt(receipt, client.policy).cosignatures] == [watcher.key.name]
        watcher.stop()
        paid = town.client(town.alice, url, witnesses=[verifier_key]).send("STAR", 1, str(town.bob.account))
        assert paid.proven is not None
        with pytest.raises(ReceiptError, match="cosigned by 0 of the 1"):
            client.receipt(paid.seq)


def test_receipt_is_of_the_entry_that_was_asked_for(town: Town) -> None:
    """A good receipt of another entry is refused, and so is one of an entry that is not to be seen."""
    client = town.client(town.alice)
    paid = client.send("STAR", 1, str(town.bob.account))
    assert verify_receipt(client.receipt(paid.seq), client.policy).seq == paid.seq
    with pytest.raises(ServiceError, match="no entry 0"):
        client.receipt(0)
    answer = json.dumps({"data": {"receipt": paid.receipt}}).encode()

    def fate(request: Any, pass_on: Callable[[], tuple[int, bytes]]) -> tuple[int, bytes]:
        return (200, answer) if "receipt(seq" in request["query"] else pass_on()

    with unreliable(town, fate) as (url, _), pytest.raises(ReceiptError, match="receipt of entry"):
        town.client(town.alice, url).receipt(paid.seq - 1)


def test_documents_of_the_client_are_valid() -> None:
    """By the schema, for those who list them."""
    schema = build_schema(print_sdl())
    for document in DOCUMENTS:
        assert validate(schema, parse(document)) == [], document


def test_every_kind_of_operation_is_submitted_alike(town: Town) -> None:
    """What has no method of its own is signed with the wallet."""
    client = town.client(town.alice)
    new = town.world.make_key()
    replaced: SignedOperation = client.wallet.replace_keys([new])
    recorded = client.submit(replaced)
    assert isinstance(recorded.entry.op, ReplaceKeys)
    assert (recorded.balance, recorded.proven is not None) == (None, True)

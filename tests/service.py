"""The service in a test: the real application on a world's ledger, and a client that speaks GraphQL to it.

::

    with running(world, tmp_path) as service:
        token = service.sign_in(alice)
        service.query("{ viewer { id } }", token=token)
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.testclient import TestClient

from api.app import create_app
from api.client import USER_ERRORS
from api.rate_limits import steady_clock
from api.settings import Settings
from ledger.encoding import decode_base64url
from ledger.keyring import save_private_key
from ledger.keys import encode_public_key, sign
from ledger.operations import SignedOperation
from ledger.wallet import Wallet, encode_document
from tests.worlds import World

MUTATIONS = {
    "open_account": ("accountSubmit", "AccountSubmitInput"),
    "define_asset": ("assetSubmit", "AssetSubmitInput"),
    "publish_program": ("programSubmit", "ProgramSubmitInput"),
    "record_purchases": ("purchasesSubmit", "PurchasesSubmitInput"),
    "grant": ("grantSubmit", "GrantSubmitInput"),
    "correct": ("correctionSubmit", "CorrectionSubmitInput"),
    "transfer": ("transferSubmit", "TransferSubmitInput"),
    "redeem": ("redemptionSubmit", "RedemptionSubmitInput"),
    "exchange": ("exchangeSubmit", "ExchangeSubmitInput"),
    "hold": ("holdSubmit", "HoldSubmitInput"),
    "capture": ("captureSubmit", "CaptureSubmitInput"),
    "release": ("releaseSubmit", "ReleaseSubmitInput"),
    "refund": ("refundSubmit", "RefundSubmitInput"),
    "expire": ("expirySubmit", "ExpirySubmitInput"),
    "enroll": ("enrollmentSubmit", "EnrollmentSubmitInput"),
    "vest": ("vestingSubmit", "VestingSubmitInput"),
    "review_tiers": ("tierReviewSubmit", "TierReviewSubmitInput"),
    "start_plan": ("planStartSubmit", "PlanStartSubmitInput"),
    "end_plan": ("planEndSubmit", "PlanEndSubmitInput"),
    "form_pool": ("poolSubmit", "PoolSubmitInput"),
    "leave_pool": ("poolLeaveSubmit", "PoolLeaveSubmitInput"),
    "use_voucher": ("voucherUseSubmit", "VoucherUseSubmitInput"),
    "remind": ("reminderSubmit", "ReminderSubmitInput"),
    "agree": ("agreementSubmit", "AgreementSubmitInput"),
    "end_agreement": ("agreementEndSubmit", "AgreementEndSubmitInput"),
    "allot": ("allotmentSubmit", "AllotmentSubmitInput"),
    "net": ("nettingSubmit", "NettingSubmitInput"),
    "settle": ("settlementSubmit", "SettlementSubmitInput"),
    "dispute": ("disputeSubmit", "DisputeSubmitInput"),
    "resolve_dispute": ("disputeResolveSubmit", "DisputeResolveSubmitInput"),
    "freeze": ("freezeSubmit", "FreezeSubmitInput"),
    "unfreeze": ("unfreezeSubmit", "UnfreezeSubmitInput"),
    "replace_keys": ("replaceKeysSubmit", "ReplaceKeysSubmitInput"),
    "recover_keys": ("recoverKeysSubmit", "RecoverKeysSubmitInput"),
    "cancel_recovery": ("cancelRecoverySubmit", "CancelRecoverySubmitInput"),
    "replace_log_key": ("replaceLogKeySubmit", "ReplaceLogKeySubmitInput"),
}
"""Mutation and input type of each kind of operation."""

ERRORS = USER_ERRORS
"""User errors with all the details that some kinds of them have."""

_ENUMS = {
    "about",
    "balance",
    "basis",
    "billing",
    "drop",
    "off_step",
    "outcome",
    "period",
    "reason",
    "received",
    "refunds",
    "role",
    "round",
    "round_amount",
    "round_points",
    "stacking",
}
_TAGS = {"expiry": "after", "of": "type", "terms": "type"}


class Service:
    """A running service and the world it serves."""

    def __init__(self, world: World, client: TestClient) -> None:
        self.world = world
        self.client = client

    def post(self, body: Any, *, token: str | None = None, **headers: str) -> httpx.Response:
        """Send a body, as JSON unless it is bytes already."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        given = {"content-type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        response: httpx.Response = self.client.post("/graphql", content=content, headers=given)
        return response

    def ask(self, query: str, variables: Mapping[str, Any] | None = None, token: str | None = None) -> Any:
        """The whole answer to a document."""
        return self.post({"query": query, "variables": variables}, token=token).json()

    def query(self, query: str, variables: Mapping[str, Any] | None = None, token: str | None = None) -> Any:
        """The data of an answer that must have no errors."""
        answer = self.ask(query, variables, token)
        assert "errors" not in answer, answer
        return answer["data"]

    def error_code(self, query: str, variables: Mapping[str, Any] | None = None, token: str | None = None) -> str:
        """The code of the only error of an answer."""
        (error,) = self.ask(query, variables, token)["errors"]
        return str(error["extensions"]["code"])

    def submit(self, signed: SignedOperation, more: str = "", **changes: Any) -> Any:
        """The payload of the typed mutation for a signed operation; ``changes`` replace fields of its input."""
        mutation, input_type = MUTATIONS[signed.op.KIND]
        document = (
            f"mutation($input: {input_type}!) {{ {mutation}(input: $input) {{ "
            f"entry {{ id seq hash operationId kind document }} replayed {more} {ERRORS} }} }}"
        )
        return self.query(document, {"input": typed_input(signed) | changes})[mutation]

    def submit_all(self, documents: list[str]) -> Any:
        """The payload of ``operationsSubmit``."""
        document = (
            "mutation($input: OperationsSubmitInput!) { operationsSubmit(input: $input) { "
            f"results {{ seq hash operationId replayed balance {ERRORS} }} {ERRORS} }} }}"
        )
        return self.query(document, {"input": {"operations": documents}})["operationsSubmit"]

    def challenge(self, account: str) -> Any:
        """A challenge for an account."""
        document = "query($id: ID!) { sessionChallenge(account: $id) { challenge message expiresAt } }"
        return self.query(document, {"id": account})["sessionChallenge"]

    def open_session(self, **given: Any) -> Any:
        """The payload of ``sessionOpen``."""
        document = (
            f"mutation($input: SessionOpenInput!) {{ sessionOpen(input: $input) {{ token expiresAt {ERRORS} }} }}"
        )
        return self.query(document, {"input": given})["sessionOpen"]

    def answer(self, wallet: Wallet, account: str | None = None) -> dict[str, Any]:
        """A challenge answered with all of a wallet's keys."""
        account = account or str(wallet.account)
        challenge = self.challenge(account)
        message = challenge["message"]
        data = decode_base64url(message, len(message) * 3 // 4)
        signatures = [{"key": encode_public_key(key), "sig": sign(key, data)} for key in wallet.keys]
        return {"account": account, "challenge": challenge["challenge"], "signatures": signatures}

    def sign_in(self, wallet: Wallet, account: str | None = None) -> str:
        """A bearer token of a wallet's account."""
        payload = self.open_session(**self.answer(wallet, account))
        assert payload["userErrors"] == []
        return str(payload["token"])


@contextmanager
def running(
    world: World,
    folder: Path,
    log_keys: Sequence[Ed25519PrivateKey] | None = None,
    steady: Callable[[], int] = steady_clock,
    **settings: Any,
) -> Iterator[Service]:
    """The application on a world's ledger, with the world's clock, until the block ends.

    ``log_keys`` are the keys of the log that it has, its own first; the world's when left out. ``steady`` is the clock
    that measures how fast clients ask.
    """
    own, *others = (key_file(folder, key) for key in log_keys or [world.log_key])
    given = Settings(
        data=folder, database_url=world.url, log_key_file=own, other_log_key_files=tuple(others), **settings
    )
    with TestClient(create_app(given, world.clock, steady), raise_server_exceptions=False) as client:
        yield Service(world, client)


@contextmanager
def serving(world: World, folder: Path, **given: Any) -> Iterator[str]:
    """A world's ledger behind uvicorn; the server's address."""
    own: dict[str, Any] = {"data": folder, "database_url": world.url, "log_key_file": key_file(folder, world.log_key)}
    settings = Settings(**own | {"graphiql": False} | given)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(settings, world.clock), log_level="error"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def key_file(folder: Path, key: Ed25519PrivateKey) -> Path:
    """A file of a private key, made when it is missing."""
    path = folder / f"{encode_public_key(key)}.pem"
    if not path.exists():
        save_private_key(path, key, None)
    return path


def signed_text(signed: SignedOperation) -> str:
    """A signed operation as ``operationsSubmit`` takes it."""
    return encode_document(signed).decode()


def typed_input(signed: SignedOperation) -> dict[str, Any]:
    """A signed operation as its typed mutation takes it."""
    document = json.loads(signed.op_bytes)
    signatures = [{"key": s.key, "sig": s.sig} for s in signed.sigs]
    return {**typed_document(document), "signatures": signatures}


def typed_document(document: dict[str, Any]) -> dict[str, Any]:
    """A document as a typed input: names in camel case, enumerations in capitals."""
    fields = {name: value for name, value in document.items() if name not in {"guerdon", "kind"}}
    typed: dict[str, Any] = _typed(fields)
    return typed


def _typed(value: Any, name: str = "") -> Any:
    if name in _ENUMS:
        return value.upper()
    if name in _TAGS:
        way = value[_TAGS[name]]
        chosen = {key: item for key, item in value.items() if key != _TAGS[name]}
        return {camel(way): next(iter(chosen.values()), True) if name == "expiry" else _typed(chosen)}
    if isinstance(value, dict):
        return {camel(key): _typed(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [item.upper() if name == "weekdays" else _typed(item) for item in value]
    return value


def camel(name: str) -> str:
    """A name in camel case."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)

"""A client of a Guerdon server for programs: a wallet's, a till's or a shop's.

::

    ada = Guerdon("https://ledger.example", account="mem_…", keys=[key], log_keys=["ledger.example/coalition+…"])
    paid = ada.send("STAR", 1250, to="mem_…")
    paid.seq, paid.balance, paid.receipt

What is sent is signed here, so its id is known before anyone else sees it, and sending it again can never record it
twice: a submission that got no answer is repeated by itself, and one that never got any raises
:class:`UnansweredError` with the document to try again. What is answered is not believed but proven: an entry is what
its receipt proves under the log's key, and so are its postings. Balances, statements and previews are the server's
word, for who is signed in; sessions are opened and renewed as they are needed.

Amounts are integers in the asset's smallest unit. Keys in files are read by :mod:`ledger.keyring`, other kinds of
operations are described in :mod:`ledger.operations`. A client may be used by several threads once it has an account.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from api.client import (
    ANSWER_LIMIT_S,
    ATTEMPTS,
    CHALLENGE,
    SESSION,
    TOO_MANY_REQUESTS,
    USER_ERRORS,
    Endpoint,
    Refusal,
    RefusedError,
    RequestError,
    ServiceError,
    read_refusals,
    sign_in,
)
from ledger.checkpoint import CheckpointError, QuorumError, WitnessPolicy, decode_verifier_key, decode_witness_key
from ledger.encoding import AccountId, EncodingError, OpId, account_id
from ledger.entries import Entry, Posting, decode_entry, leaf_hash
from ledger.keys import encode_public_key
from ledger.operations import OpenAccount, Operation, Redeem, SignedOperation, Transfer, encode_operation
from ledger.receipt import Proven, ReceiptError, decode_receipt, verify_receipt
from ledger.terms import ROLE_PREFIXES, Recipient
from ledger.wallet import RandomBytes, Wallet, encode_document

SUBMISSION = f"""mutation Submit($operation: SignedOperation!) {{
  operationSubmit(input: {{operation: $operation}}) {{
    entry {{ seq hash }} replayed balance receipt {USER_ERRORS}
  }}
}}"""
LEDGER = "query Ledger { ledger { origin } }"
ASSETS = "query Assets($ids: [ID!]!) { nodes(ids: $ids) { ... on Asset { code name scale transferable issuerId } } }"
BALANCES = """query Balances($account: ID!, $asset: String) {
  account(id: $account) { balances(asset: $asset) { asset total spendable lots { lastDay points isSpendable } } }
}"""
STATEMENT = """query Statement(
  $account: ID!, $asset: String!, $from: Time, $to: Time, $first: Int, $after: String, $last: Int, $before: String
) {
  statement(
    account: $account, asset: $asset, from: $from, to: $to, first: $first, after: $after, last: $last, before: $before
  ) {
    nodes { entryId leg time at kind amount lastDay balance }
    pageInfo { hasNextPage endCursor hasPreviousPage startCursor }
  }
}"""
PREVIEW = f"""query Preview($document: String!) {{
  operationPreview(input: {{document: $document}}) {{
    operationId replayed seq balance postings {{ accountId asset amount lastDay }} {USER_ERRORS}
  }}
}}"""
RECEIPT = "query Receipt($seq: UInt53!) { receipt(seq: $seq) }"
DOCUMENTS = (SUBMISSION, LEDGER, ASSETS, BALANCES, STATEMENT, PREVIEW, RECEIPT, CHALLENGE, SESSION)
"""All that this client ever asks by itself, for an operator who allows listed documents only."""

PAGE = 100
OVERLOADED = "OVERLOADED"
BUSY = frozenset({OVERLOADED, "UNAVAILABLE"})
"""Refusals after which the same document is sent again by itself.

An overloaded server has not taken the operation. One that answers UNAVAILABLE may have: it also says so when it lost
its database while it was committing, and then does not know itself.
"""

REQUEST_TIMEOUT = 408

_FIRST_WAIT_S = 0.25
_RECEIPT_WAIT_S = 1.0

T = TypeVar("T")


class UnansweredError(ServiceError):
    """A submission without an answer: whether it is recorded is not known. Submit ``signed`` again, as it is.

    UNAVAILABLE is no answer either: the server may have lost its database while it was recording.

    A new document would be another operation, and might pay twice; the same one cannot. One with ``expires`` is known
    not to be recorded once it is refused as EXPIRED.
    """

    def __init__(self, message: str, signed: SignedOperation) -> None:
        super().__init__(f"{message}; whether operation {signed.op_id.hex()} is recorded is not known")
        self.signed = signed


class UnprovenError(ServiceError):
    """The server says that an operation is recorded, but what it gives as a proof proves no such thing.

    Keep ``receipt``, and do not rely on the payment: either the log's key is not the one this client was told, or the
    server is lying.
    """

    def __init__(self, message: str, signed: SignedOperation, receipt: str | None) -> None:
        super().__init__(f"operation {signed.op_id.hex()} is said to be recorded, which is not proven: {message}")
        self.signed = signed
        self.receipt = receipt


class Recorded(Struct, frozen=True, kw_only=True):
    """An operation that is recorded, with its receipt.

    ``proven`` is what the receipt proves under the log's key; ``None`` where the client has none. ``replayed`` tells
    that an earlier submission of the same document had recorded it. ``balance`` is what the actor has left of the
    asset, by the server's word; ``None`` when replayed and where nothing is spent.
    """

    operation_id: str
    seq: int
    hash: str
    entry: Entry
    balance: int | None
    replayed: bool
    receipt: str
    proven: Proven | None

    @property
    def postings(self) -> tuple[Posting, ...]:
        """What it moved; the legs of every asset sum to zero."""
        return self.entry.postings


class Asset(Struct, frozen=True, kw_only=True, rename="camel"):
    """An asset. ``scale`` is its number of decimal places where people read and write amounts."""

    code: str
    name: str
    scale: int
    transferable: bool
    issuer_id: str


class Lot(Struct, frozen=True, kw_only=True, rename="camel"):
    """Points of one last day; ``None`` when they never expire."""

    last_day: str | None
    points: int
    is_spendable: bool


class Balance(Struct, frozen=True, kw_only=True, rename="camel"):
    """Points of an account in an asset: all, those that can be used now, and by last day, the earliest first."""

    asset: str
    total: int
    spendable: int
    lots: tuple[Lot, ...] = ()


class StatementLine(Struct, frozen=True, kw_only=True, rename="camel"):
    """A line of a statement: points in (positive) or out, when, by which entry, and all points after it."""

    entry_id: str
    leg: int
    time: str
    at: str
    kind: str
    amount: int
    last_day: str | None
    balance: int


class Preview(Struct, frozen=True, kw_only=True):
    """What an operation would do now. ``refusals`` say why it would not be recorded; there are none when it would.

    ``postings`` and ``balance`` are ``None`` where this account is not told, as they are when it would be refused.
    """

    operation_id: str | None
    replayed: bool
    seq: int | None
    balance: int | None
    postings: tuple[Posting, ...] | None
    refusals: tuple[Refusal, ...]


class _Leg(Struct, rename="camel"):
    account_id: str
    asset: str
    amount: int
    last_day: str | None


class _Recorded(Struct):
    seq: int
    hash: str


class _Submission(Struct, rename="camel"):
    entry: _Recorded | None
    replayed: bool
    user_errors: list[dict[str, Any]]
    balance: int | None = None
    receipt: str | None = None


class _Preview(Struct, rename="camel"):
    operation_id: str | None
    replayed: bool
    seq: int | None
    balance: int | None
    postings: list[_Leg] | None
    user_errors: list[dict[str, Any]]


class _PageInfo(Struct, rename="camel"):
    has_next_page: bool
    end_cursor: str | None
    has_previous_page: bool
    start_cursor: str | None


class _Statement(Struct, rename="camel"):
    nodes: tuple[StatementLine, ...]
    page_info: _PageInfo


class _Balances(Struct):
    balances: tuple[Balance, ...]


def _system_clock() -> int:
    return time.time_ns() // 1_000_000


class Guerdon:
    """A client that acts for one account; see the module for what it promises.

    ``log_keys`` are verifier keys of the ledger's log, got from elsewhere than the server: without one nothing is
    proven, and the name of the ledger that operations are signed for is the server's word. ``witnesses``, and how many
    of them (``quorum``, all when left out), are asked for by :meth:`receipt`. ``account`` is absent until
    :meth:`open_account`. The signatures of all ``keys`` go with every operation.
    """

    def __init__(
        self,
        url: str,
        *,
        account: str | None = None,
        keys: Sequence[Ed25519PrivateKey] = (),
        log_keys: Sequence[str] = (),
        witnesses: Sequence[str] = (),
        quorum: int | None = None,
        origin: str | None = None,
        attempts: int = ATTEMPTS,
        timeout_s: float = ANSWER_LIMIT_S,
        clock: Callable[[], int] = _system_clock,
        random_bytes: RandomBytes = secrets.token_bytes,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.policy = WitnessPolicy(
            log_keys=tuple(map(decode_verifier_key, log_keys)),
            witnesses=tuple(map(decode_witness_key, witnesses)),
            threshold=len(witnesses) if quorum is None else quorum,
        )
        names = {key.name for key in self.policy.log_keys}
        if origin is None and len(names) > 1:
            raise CheckpointError(f"the log keys are of several ledgers: say which origin is meant, of {sorted(names)}")
        if origin is not None and names - {origin}:
            raise CheckpointError(f"the log keys are of {sorted(names)}, not of {origin}")
        self.account = account
        self.keys = tuple(keys)
        self._endpoint = Endpoint(url, attempts=attempts, timeout_s=timeout_s)
        self._attempts = attempts
        self._origin = origin if origin is not None else next(iter(names), None)
        self._clock = clock
        self._random_bytes = random_bytes
        self._sleep = sleep
        self._token: str | None = None
        self._signing_in = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections. The session ends by itself."""
        self._endpoint.close()

    @property
    def origin(self) -> str:
        """The ledger's name: the log key's, or else what the server says it is, asked once."""
        if self._origin is None:
            self._origin = str(self._endpoint.ask(LEDGER)["ledger"]["origin"])
        return self._origin

    @property
    def wallet(self) -> Wallet:
        """What builds and signs this account's operations."""
        return Wallet(self.origin, self.account, self.keys, self._clock, self._random_bytes)

    # Writing

    def send(self, asset: str, amount: int, to: str, **fields: Any) -> Recorded:
        """Transfer points to an account. ``fields`` may be ``expires_in_ms``, or others of every operation."""
        return self.submit(
            self.wallet.sign(Transfer, asset=asset, recipients=(Recipient(amount=amount, to=to),), **fields)
        )

    def redeem(
        self, asset: str, amount: int, merchant: str, *, reference: str | None = None, **fields: Any
    ) -> Recorded:
        """Spend points at a merchant; ``reference`` is its bill or order, if there is one."""
        signed = self.wallet.sign(Redeem, asset=asset, amount=amount, merchant=merchant, reference=reference, **fields)
        return self.submit(signed)

    def open_account(self, threshold: int = 1) -> Recorded:
        """Open a member's account with this client's keys, so many of which must sign, and be that account."""
        keys = tuple(encode_public_key(key) for key in self.keys)
        wallet = Wallet(self.origin, None, self.keys, self._clock, self._random_bytes)
        signed = wallet.sign(OpenAccount, role="member", keys=keys, threshold=threshold)
        recorded = self.submit(signed)
        self.account = account_of(signed)
        return recorded

    def submit(self, signed: SignedOperation) -> Recorded:
        """Submit a signed operation of any kind, as often as it takes, and prove that it is recorded.

        Raise :class:`RefusedError` when it is not, and :class:`RequestError` when the request for it was not even run;
        :class:`UnansweredError` when nobody knows; :class:`UnprovenError` when what is answered is not so.
        """
        answer = self._submit(signed)
        if answer.entry is None:
            raise RefusedError(read_refusals(answer.user_errors))
        return self._prove(signed, answer, answer.entry)

    def _submit(self, signed: SignedOperation) -> _Submission:
        wait_s = _FIRST_WAIT_S
        answer, lost = self._submit_once(signed, lost=False)
        for _ in range(self._attempts - 1):
            if _refused_as(answer) not in BUSY:
                return answer
            self._sleep(wait_s)
            wait_s *= 2
            answer, lost = self._submit_once(signed, lost)
        if lost and _refused_as(answer) in BUSY:
            raise UnansweredError(str(RefusedError(read_refusals(answer.user_errors))), signed)
        return answer

    def _submit_once(self, signed: SignedOperation, lost: bool) -> tuple[_Submission, bool]:
        """An answer, and whether by now an attempt may have got further than this client knows."""
        request = {"query": SUBMISSION, "variables": {"operation": encode_document(signed).decode()}}
        try:
            response = self._endpoint.post(request)
            lost = lost or response.lost
            answer = self._convert(self._endpoint.read(response).get("operationSubmit"), _Submission)
        except RequestError as error:
            if 400 <= error.status < 500 and error.status not in {REQUEST_TIMEOUT, TOO_MANY_REQUESTS} and not lost:
                raise  # the request was refused as it came, and there was no other
            raise UnansweredError(str(error), signed) from error
        except ServiceError as error:
            raise UnansweredError(str(error), signed) from error
        if answer.entry is None and not answer.user_errors:
            raise UnansweredError(str(self._endpoint.strange()), signed)
        return answer, lost or _refused_as(answer) in BUSY - {OVERLOADED}

    def _prove(self, signed: SignedOperation, answer: _Submission, stated: _Recorded) -> Recorded:
        text = answer.receipt
        try:
            if text is None:
                raise ReceiptError("there is no receipt")
            # At once, so without the witnesses, who need a while: see receipt().
            proven = (
                verify_receipt(text, WitnessPolicy(log_keys=self.policy.log_keys)) if self.policy.log_keys else None
            )
            receipt = decode_receipt(text)
            entry = decode_entry(receipt.data)
        except (ReceiptError, EncodingError) as error:
            raise UnprovenError(str(error), signed, text) from error
        if encode_operation(entry.op) != signed.op_bytes:
            raise UnprovenError("the receipt is of another operation", signed, text)
        leaf = leaf_hash(receipt.data).hex()
        if (entry.seq, receipt.seq, leaf) != (stated.seq, stated.seq, stated.hash):
            raise UnprovenError("the receipt is of another entry", signed, text)
        return Recorded(
            operation_id=signed.op_id.hex(),
            seq=entry.seq,
            hash=leaf,
            entry=entry,
            balance=answer.balance,
            replayed=answer.replayed,
            receipt=text,
            proven=proven,
        )

    # Reading

    def preview(self, op: Operation) -> Preview:
        """What an operation would do if it were recorded now; nothing is signed, recorded or reserved by asking."""
        document = encode_operation(op).decode()
        found = self._convert(self.query(PREVIEW, {"document": document})["operationPreview"], _Preview)
        legs = found.postings
        return Preview(
            operation_id=found.operation_id,
            replayed=found.replayed,
            seq=found.seq,
            balance=found.balance,
            postings=None
            if legs is None
            else tuple(
                Posting(account=leg.account_id, amount=leg.amount, asset=leg.asset, lot=leg.last_day) for leg in legs
            ),
            refusals=read_refusals(found.user_errors),
        )

    def balances(self, account: str | None = None) -> tuple[Balance, ...]:
        """Balances of this account, by asset; or of another one that this one may see, as far as it may."""
        return self._balances(account, None)

    def balance(self, asset: str, account: str | None = None) -> Balance:
        """The balance in one asset: nothing where there never was any."""
        found = self._balances(account, asset)
        return found[0] if found else Balance(asset=asset, total=0, spendable=0)

    def _balances(self, account: str | None, asset: str | None) -> tuple[Balance, ...]:
        variables = {"account": account or self._own(), "asset": asset}
        found = self.query(BALANCES, variables)["account"]
        if found is None:
            raise ServiceError(f"there is no account {variables['account']} that this session may see")
        return self._convert(found, _Balances).balances

    def history(
        self,
        asset: str,
        *,
        account: str | None = None,
        start: str | None = None,
        end: str | None = None,
        newest_first: bool = False,
    ) -> Iterator[StatementLine]:
        """What moved in an asset, recorded from ``start`` until before ``end``, page by page as it is consumed."""
        variables = {"account": account or self._own(), "asset": asset, "from": start, "to": end}
        page: dict[str, Any] = {"last" if newest_first else "first": PAGE}
        while True:
            found = self._statement(self.query(STATEMENT, variables | page)["statement"])
            yield from reversed(found.nodes) if newest_first else found.nodes
            info = found.page_info
            if not (info.has_previous_page if newest_first else info.has_next_page):
                return
            page |= {"before": info.start_cursor} if newest_first else {"after": info.end_cursor}

    def _statement(self, answered: Any) -> _Statement:
        found = self._convert(answered, _Statement)
        # As documents write it: `transfer`, not the schema's TRANSFER.
        found.nodes = tuple(msgspec.structs.replace(line, kind=line.kind.lower()) for line in found.nodes)
        return found

    def receipt(self, seq: int, *, wait_s: float = 0) -> str:
        """The receipt of an entry, verified: signed by the log and cosigned by the quorum of the witnesses.

        Witnesses need a while to see an entry: ask for up to ``wait_s`` seconds. Raise :class:`ReceiptError` (a
        :class:`ledger.checkpoint.QuorumError` is its cause when only cosignatures are missing).
        """
        give_up_at_ms = self._clock() + round(wait_s * 1000)
        while True:
            text = self.query(RECEIPT, {"seq": seq})["receipt"]
            if text is None:
                raise ServiceError(f"there is no entry {seq} that this session may see the whole of")
            try:
                self._check(str(text), seq)
            except ReceiptError as error:
                if not isinstance(error.__cause__, QuorumError) or self._clock() >= give_up_at_ms:
                    raise
            else:
                return str(text)
            self._sleep(_RECEIPT_WAIT_S)

    def _check(self, text: str, seq: int) -> None:
        if not self.policy.log_keys:
            raise ReceiptError("this client has no log key to verify a receipt with")
        if (found := verify_receipt(text, self.policy).seq) != seq:
            raise ReceiptError(f"this is the receipt of entry {found}, not of {seq}")

    def assets(self, codes: Sequence[str]) -> dict[str, Asset]:
        """What is public about assets, by their codes; those that there are none of are left out."""
        found: dict[str, Asset] = {}
        for i in range(0, len(codes), PAGE):
            ids = [f"ast_{code}" for code in codes[i : i + PAGE]]
            nodes = self._endpoint.ask(ASSETS, {"ids": ids})["nodes"]
            found |= {asset.code: asset for node in nodes if node for asset in [self._convert(node, Asset)]}
        return found

    def asset(self, code: str) -> Asset:
        """What is public about an asset."""
        found = self.assets([code])
        if code not in found:
            raise ServiceError(f"there is no asset {code}")
        return found[code]

    def query(self, document: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The data that answers any GraphQL document, asked as this account. It is not for operations: see submit()."""
        token = self._token
        if token is not None:
            try:
                return self._ask(document, variables, token)
            except RequestError as error:
                if error.status != 401:
                    raise
        return self._ask(document, variables, self._new_token(token))

    def _ask(self, document: str, variables: Mapping[str, Any] | None, token: str) -> dict[str, Any]:
        answered: dict[str, Any] = self._endpoint.ask(document, variables, token)
        return answered

    def _new_token(self, refused: str | None) -> str:
        with self._signing_in:  # several threads may be refused at once
            if self._token is None or self._token == refused:
                self._token = sign_in(self._endpoint, self._own(), self.keys)
            return self._token

    def _own(self) -> str:
        if self.account is None:
            raise ValueError("this client has no account: open_account() makes one")
        return self.account

    def _convert(self, value: Any, kind: type[T]) -> T:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise self._endpoint.strange() from error


def _refused_as(answer: _Submission) -> str | None:
    return None if answer.entry is not None else answer.user_errors[0].get("code")


def account_of(signed: SignedOperation) -> AccountId:
    """The account that a signed opening opens: its id is known before anyone else has seen the document."""
    assert isinstance(signed.op, OpenAccount)
    return account_id(ROLE_PREFIXES[signed.op.role], OpId(signed.op_id))

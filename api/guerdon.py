"""A client of a Guerdon server for programs: a wallet's, a till's or a shop's.

::

    ada = Guerdon("https://ledger.example", account="mem_…", keys=[key], log_keys=["ledger.example/coalition+…"])
    paid = ada.send("STAR", 1250, to="mem_…")
    paid.seq, paid.balance, paid.receipt
    ada.exchange("STAR", 500, into="BEAN").out

What is sent is signed here, so its id is known before anyone else sees it, and sending it again can never record it
twice: a submission that got no answer is repeated by itself, and one that never got any raises
:class:`UnansweredError` with the document to try again. What is answered is not believed but proven: an entry is what
its receipt proves under the log's key, and so are its postings. Balances, statements and previews are the server's
word, for who is signed in; sessions are opened and renewed as they are needed.

Amounts are integers in the asset's smallest unit, money in the currency's. Keys in files are read by
:mod:`ledger.keyring`, other kinds of operations are described in :mod:`ledger.operations`. A client may be used by
several threads once it has an account.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

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
    RefusedError,
    RequestError,
    ServiceError,
    read_refusals,
    sign_in,
)
from api.client_records import (
    Asset,
    Balance,
    Exchanged,
    ExchangePaths,
    Held,
    Netted,
    Obligation,
    PointsHold,
    Preview,
    Quote,
    R,
    Recorded,
    StatementLine,
    Undone,
    Unheld,
    Voucher,
    recorded_as,
)
from ledger.checkpoint import CheckpointError, QuorumError, WitnessPolicy, decode_verifier_key, decode_witness_key
from ledger.encoding import AccountId, EncodingError, OpId, account_id, format_time
from ledger.entries import Posting, decode_entry, leaf_hash
from ledger.keys import encode_public_key
from ledger.operations import (
    Capture,
    Exchange,
    Hold,
    Net,
    OpenAccount,
    Operation,
    Redeem,
    Refund,
    Release,
    Settle,
    SignedOperation,
    Transfer,
    encode_operation,
)
from ledger.receipt import ReceiptError, decode_receipt, verify_receipt
from ledger.terms import (
    ROLE_PREFIXES,
    Payment,
    Recipient,
    Refunded,
    RefundedExchange,
    RefundedPurchase,
    RefundedRedemption,
)
from ledger.wallet import RandomBytes, Wallet, encode_document

SUBMISSION = f"""mutation Submit($operation: SignedOperation!) {{
  operationSubmit(input: {{operation: $operation}}) {{
    entry {{ seq hash }} replayed balance receipt {USER_ERRORS}
  }}
}}"""
LEDGER = "query Ledger { ledger { origin } }"
CURRENCIES = "query Currencies { ledger { currencies { code scale } } }"
ASSETS = """query Assets($ids: [ID!]!) {
  nodes(ids: $ids) { ... on Asset {
    code name scale transferable issuerId
    transferTerms { minimum maximum step fee { amount points fixed maximum round currency } }
  } }
}"""
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
QUOTE = f"""query Quote($account: ID, $asset: String!, $into: String!, $amount: Points!) {{
  exchangeQuote(account: $account, asset: $asset, into: $into, amount: $amount) {{
    asset into agreement agreementVersion given out rate {{ get give }} feeAmount feeCurrency minimumOut maximumFee
    lots {{ lastDay points isSpendable }} validUntil {USER_ERRORS}
  }}
}}"""
PATHS = """query Paths($asset: String!, $into: String, $amount: Points!, $maxHops: Int!, $first: Int!) {
  exchangePaths(asset: $asset, into: $into, amount: $amount, maxHops: $maxHops, first: $first) {
    paths {
      into out rate { get give } validUntil
      hops { agreement agreementVersion asset into amount given out feeAmount feeCurrency }
    }
    complete
  }
}"""
_HOLD = "id accountId asset merchantId amount captured remaining until status reference entryId"
HOLD = f"query Hold($id: ID!) {{ hold(id: $id) {{ {_HOLD} }} }}"
HOLDS = f"""query Holds(
  $account: ID, $merchant: ID, $asset: String, $status: HoldStatus,
  $first: Int, $after: String, $last: Int, $before: String
) {{
  holds(
    account: $account, merchant: $merchant, asset: $asset, status: $status,
    first: $first, after: $after, last: $last, before: $before
  ) {{
    nodes {{ {_HOLD} }}
    pageInfo {{ hasNextPage endCursor hasPreviousPage startCursor }}
  }}
}}"""
PROGRAM = """query Program($id: ID!) {
  node(id: $id) { ... on Asset { programs(last: 1) { nodes { version document } } } }
}"""
_VOUCHER = "id seq index accountId asset merchantId reward price worth lastDay status"
VOUCHER = f"query Voucher($id: ID!) {{ node(id: $id) {{ ... on Voucher {{ {_VOUCHER} }} }} }}"
VOUCHER_BY_CODE = f"query VoucherByCode($code: String!) {{ voucherByCode(code: $code) {{ {_VOUCHER} }} }}"
VOUCHERS = f"""query Vouchers(
  $account: ID!, $status: VoucherStatus, $first: Int, $after: String, $last: Int, $before: String
) {{
  account(id: $account) {{ vouchers(status: $status, first: $first, after: $after, last: $last, before: $before) {{
    nodes {{ {_VOUCHER} code }}
    pageInfo {{ hasNextPage endCursor hasPreviousPage startCursor }}
  }} }}
}}"""
OBLIGATIONS = """query Obligations($account: ID, $counterparty: ID, $currency: String, $first: Int, $after: String) {
  obligations(
    account: $account, counterparty: $counterparty, currency: $currency, first: $first, after: $after
  ) {
    nodes { debtorId creditorId currency amount day nettingEntryId }
    pageInfo { hasNextPage endCursor hasPreviousPage startCursor }
  }
}"""
NETTING = """query Netting($currency: String!, $merchants: [ID!], $through: Date!) {
  nettingProposal(currency: $currency, merchants: $merchants, through: $through) {
    positions { accountId } payments { debtorId creditorId amount }
  }
}"""
DOCUMENTS = (
    SUBMISSION,
    LEDGER,
    CURRENCIES,
    ASSETS,
    BALANCES,
    STATEMENT,
    PREVIEW,
    RECEIPT,
    QUOTE,
    PATHS,
    HOLD,
    HOLDS,
    PROGRAM,
    VOUCHER,
    VOUCHER_BY_CODE,
    VOUCHERS,
    OBLIGATIONS,
    NETTING,
    CHALLENGE,
    SESSION,
)
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


class _Position(Struct, rename="camel"):
    account_id: str


class _Payment(Struct, rename="camel"):
    debtor_id: str
    creditor_id: str
    amount: int


class _Proposal(Struct):
    positions: tuple[_Position, ...]
    payments: tuple[_Payment, ...]


class _Currency(Struct):
    code: str
    scale: int


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


class _Page(Struct, Generic[T], rename="camel"):
    nodes: tuple[T, ...]
    page_info: _PageInfo


class _Version(Struct):
    version: int
    document: str


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

    def send(self, asset: str, amount: int, to: str, *, maximum_fee: int = 0, **fields: Any) -> Recorded:
        """Transfer points to an account, for a fee of at most ``maximum_fee`` minor units.

        ``fields``, here as in all that follow, may be ``expires_in_ms``, or others of every operation.
        """
        recipients = (Recipient(amount=amount, to=to),)
        return self.submit(
            self.wallet.sign(Transfer, asset=asset, recipients=recipients, maximum_fee=maximum_fee, **fields)
        )

    def redeem(
        self, asset: str, amount: int, merchant: str, *, reference: str | None = None, **fields: Any
    ) -> Recorded:
        """Spend points at a merchant; ``reference`` is its bill or order, if there is one."""
        signed = self.wallet.sign(Redeem, asset=asset, amount=amount, merchant=merchant, reference=reference, **fields)
        return self.submit(signed)

    def exchange(
        self,
        asset: str,
        amount: int,
        into: str,
        *,
        minimum_out: int | None = None,
        maximum_fee: int | None = None,
        **fields: Any,
    ) -> Exchanged:
        """Turn points of an asset into points of another, by the agreement of their issuers.

        At least ``minimum_out`` points come out, for a fee of at most ``maximum_fee`` minor units, or nothing happens.
        A limit that is left out is that of :meth:`quote`, which is then asked for: by the server's word, so state both
        where you know what you want.
        """
        if minimum_out is None or maximum_fee is None:
            quoted = self.quote(asset, amount, into, account=fields.get("actor"))
            if quoted.refusals:
                raise RefusedError(quoted.refusals)
            minimum_out = quoted.minimum_out if minimum_out is None else minimum_out
            maximum_fee = quoted.maximum_fee or 0 if maximum_fee is None else maximum_fee
        limits = {"minimum_out": minimum_out, "maximum_fee": maximum_fee}
        return self._record(Exchanged, Exchange, asset=asset, amount=amount, into=into, **limits, **fields)

    def hold(
        self,
        asset: str,
        amount: int,
        merchant: str,
        *,
        until: str | None = None,
        for_s: float | None = None,
        reference: str | None = None,
        **fields: Any,
    ) -> Held:
        """Set points aside for a merchant, which may capture them: up to a time, or for so many seconds from now."""
        if (until is None) == (for_s is None):
            raise ValueError("a hold is until a time or for so many seconds: give one of the two")
        until = self.time_in(for_s) if for_s is not None else until
        held = {"asset": asset, "amount": amount, "merchant": merchant, "until": until, "reference": reference}
        return self._record(Held, Hold, **held, **fields)

    def capture(
        self, hold: str, amount: int, *, final: bool = False, reference: str | None = None, **fields: Any
    ) -> Unheld:
        """Spend points on hold for this merchant. A ``final`` capture gives the rest back, others leave it on hold."""
        return self._record(Unheld, Capture, hold=hold, amount=amount, final=final, reference=reference, **fields)

    def release(self, hold: str, **fields: Any) -> Unheld:
        """Give what is on hold back to its holder: the merchant may, and anyone once its time has passed."""
        return self._record(Unheld, Release, hold=hold, **fields)

    def refund_purchase(self, asset: str, order: str, amount: int, reference: str, **fields: Any) -> Undone:
        """Take back the points that ``amount`` minor units of an own order earned; ``reference`` is good once."""
        return self._refund(asset, RefundedPurchase(amount=amount, order=order), reference, fields)

    def refund_redemption(self, asset: str, operation_id: str, amount: int, reference: str, **fields: Any) -> Undone:
        """Give back points that a redemption or capture spent at this merchant."""
        return self._refund(asset, RefundedRedemption(amount=amount, operation=operation_id), reference, fields)

    def refund_exchange(self, asset: str, operation_id: str, amount: int, reference: str, **fields: Any) -> Undone:
        """Undo an exchange into this merchant's points, as far as ``amount`` points of ``asset``, which was given."""
        return self._refund(asset, RefundedExchange(amount=amount, operation=operation_id), reference, fields)

    def _refund(self, asset: str, of: Refunded, reference: str, fields: Mapping[str, Any]) -> Undone:
        return self._record(Undone, Refund, asset=asset, of=of, reference=reference, **fields)

    def net(
        self, currency: str, *, through: str | None = None, merchants: Sequence[str] | None = None, **fields: Any
    ) -> Netted:
        """Replace what merchants owe each other by few payments, as the operator.

        What is owed of the days up to ``through`` (UTC; today when left out) between all, or between ``merchants``. The
        payments are the server's proposal; those that do not leave each with what it is owed are refused.
        """
        through = self.time_in(0)[:10] if through is None else through
        found = self.query(NETTING, {"currency": currency, "merchants": merchants, "through": through})
        proposal = self._convert(found["nettingProposal"], _Proposal)
        if not proposal.positions:
            raise ServiceError(f"nothing is owed in {currency} of the days up to {through}")
        payments = tuple(
            Payment(amount=each.amount, creditor=each.creditor_id, debtor=each.debtor_id) for each in proposal.payments
        )
        netted = merchants if merchants is not None else [each.account_id for each in proposal.positions]
        terms = {"currency": currency, "merchants": tuple(netted), "payments": payments, "through": through}
        return self._record(Netted, Net, **terms, **fields)

    def settle(self, currency: str, amount: int, debtor: str, payment: str, **fields: Any) -> Recorded:
        """Confirm that this account received what ``debtor`` owed it; ``payment`` is the bank's reference."""
        settled: dict[str, Any] = {"currency": currency, "amount": amount, "debtor": debtor, "payment": payment}
        return self.submit(self.wallet.sign(Settle, **settled, **fields))

    def _record(self, result: type[R], kind: type[Operation], **fields: Any) -> R:
        return recorded_as(result, self.submit(self.wallet.sign(kind, **fields)))

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

    def quote(self, asset: str, amount: int, into: str, *, account: str | None = None) -> Quote:
        """What an exchange would come to now: for this account, a member of this custodian, or anybody without one."""
        variables = {"account": account, "asset": asset, "into": into, "amount": amount}
        public = self.account is None and account is None
        found = (self._endpoint.ask if public else self.query)(QUOTE, variables)["exchangeQuote"]
        quoted = self._convert({**found, "amount": amount}, Quote)
        refusals = read_refusals(found["userErrors"])
        if not refusals and quoted.minimum_out is None:
            raise self._endpoint.strange()
        return msgspec.structs.replace(quoted, refusals=refusals)

    def paths(
        self, asset: str, amount: int, into: str | None = None, *, max_hops: int = 4, first: int = PAGE
    ) -> ExchangePaths:
        """What points can become by up to ``max_hops`` exchanges: all ways to ``into``, or the best to every asset."""
        variables = {"asset": asset, "into": into, "amount": amount, "maxHops": max_hops, "first": first}
        return self._convert(self._endpoint.ask(PATHS, variables)["exchangePaths"], ExchangePaths)

    def holds(
        self,
        *,
        account: str | None = None,
        merchant: str | None = None,
        asset: str | None = None,
        status: str | None = None,
        newest_first: bool = False,
    ) -> Iterator[PointsHold]:
        """Holds of an account or for a merchant, by default of this account, or for it if it is a merchant's.

        ``status`` is "open", "captured", "released" or "lapsed".
        """
        state = status.upper() if status is not None else None
        variables = {"account": account, "merchant": merchant, "asset": asset, "status": state}
        return map(_told_hold, self._pages(HOLDS, variables, _Page[PointsHold], newest_first))

    def find_hold(self, hold: str) -> PointsHold | None:
        """The hold with an id; ``None`` when there is none that this session may see."""
        found = self.query(HOLD, {"id": hold})["hold"]
        return _told_hold(self._convert(found, PointsHold)) if found is not None else None

    def obligations(
        self, *, account: str | None = None, counterparty: str | None = None, currency: str | None = None
    ) -> Iterator[Obligation]:
        """What this account owes and is owed now, disputed claims left out; all for auditors and the operator."""
        variables = {"account": account, "counterparty": counterparty, "currency": currency}
        return self._pages(OBLIGATIONS, variables, _Page[Obligation])

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
        for line in self._pages(STATEMENT, variables, _Page[StatementLine], newest_first):
            # As documents write it: `transfer`, not the schema's TRANSFER.
            yield msgspec.structs.replace(line, kind=line.kind.lower())

    def _pages(
        self,
        document: str,
        variables: Mapping[str, Any],
        kind: type[_Page[T]],
        newest_first: bool = False,
        *,
        within: str | None = None,
    ) -> Iterator[T]:
        """The items of the only field of a document, or ``within`` that, page by page as they are consumed."""
        page: dict[str, Any] = {"last" if newest_first else "first": PAGE}
        while True:
            (answered,) = self.query(document, {**variables, **page}).values()
            if within is not None:
                answered = answered[within] if answered is not None else None
            found = self._convert(answered, kind)
            yield from reversed(found.nodes) if newest_first else found.nodes
            info = found.page_info
            if not (info.has_previous_page if newest_first else info.has_next_page):
                return
            page |= {"before": info.start_cursor} if newest_first else {"after": info.end_cursor}

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

    def newest_program(self, asset: str) -> tuple[int, str | None]:
        """The number of the newest version of an asset's program and its document; 0 and ``None`` without one."""
        found = self._endpoint.ask(PROGRAM, {"id": f"ast_{asset}"})["node"]
        versions = self._convert(found["programs"]["nodes"] if found else [], tuple[_Version, ...])
        return (versions[0].version, versions[0].document) if versions else (0, None)

    def vouchers(self, *, account: str | None = None, status: str | None = None) -> Iterator[Voucher]:
        """The vouchers of an account, the oldest first, page by page as they are consumed."""
        asked = None if status is None else status.upper()
        variables = {"account": account or self._own(), "status": asked}
        for found in self._pages(VOUCHERS, variables, _Page[Voucher], within="vouchers"):
            yield _told_voucher(found)

    def find_voucher(self, name: str) -> Voucher | None:
        """A voucher by its id or, at its merchant, by the code that its holder shows."""
        by_id = name.startswith("vch_")
        answer = self.query(VOUCHER, {"id": name}) if by_id else self.query(VOUCHER_BY_CODE, {"code": name})
        (found,) = answer.values()
        return _told_voucher(self._convert(found, Voucher)) if found else None

    def assets(self, codes: Sequence[str]) -> dict[str, Asset]:
        """What is public about assets, by their codes; those that there are none of are left out."""
        found: dict[str, Asset] = {}
        for i in range(0, len(codes), PAGE):
            ids = [f"ast_{code}" for code in codes[i : i + PAGE]]
            nodes = self._endpoint.ask(ASSETS, {"ids": ids})["nodes"]
            found |= {asset.code: asset for node in nodes if node for asset in [self._convert(node, Asset)]}
        return found

    def currencies(self) -> dict[str, int]:
        """The settlement currencies of the ledger, and the number of decimal places of each."""
        found = self._convert(self._endpoint.ask(CURRENCIES)["ledger"]["currencies"], tuple[_Currency, ...])
        return {currency.code: currency.scale for currency in found}

    def time_in(self, seconds: float) -> str:
        """The time so many seconds from now, by this client's clock."""
        return format_time(self._clock() + round(seconds * 1000))

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


def _told_voucher(found: Voucher) -> Voucher:
    return msgspec.structs.replace(found, status=found.status.lower())


def _told_hold(found: PointsHold) -> PointsHold:
    return msgspec.structs.replace(found, status=found.status.lower())


def account_of(signed: SignedOperation) -> AccountId:
    """The account that a signed opening opens: its id is known before anyone else has seen the document."""
    assert isinstance(signed.op, OpenAccount)
    return account_id(ROLE_PREFIXES[signed.op.role], OpId(signed.op_id))

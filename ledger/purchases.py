"""Import of purchases: from a till's or shop's file to signed operations, restartable at any moment.

A file is read whole and checked before anything is recorded: one broken line refuses the file, naming line and field.
Two things make a second run harmless. A customer's account is opened by an operation that is a function of the
merchant's key and the customer number alone, so its id is known without a lookup table and opening it again is a
replay. A purchase's order reference is unique per merchant in the ledger, and what is there already is skipped, but
only if it is the same purchase: a reference that stands for another one there stops the import before it begins.

Customer numbers never enter the ledger. They go through HMAC-SHA256 under a secret derived from the merchant's key;
without that key nobody can tell which account is whose.
"""

import base64
import csv
import hmac
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, date, datetime
from typing import Literal, NamedTuple, TextIO
from zoneinfo import ZoneInfo

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from ledger.amounts import format_amount, parse_amount
from ledger.calculation import is_special
from ledger.encoding import (
    AccountId,
    account_id,
    encode_base64url,
    format_moment,
    format_time,
    parse_time,
)
from ledger.operations import (
    MalformedError,
    OpenAccount,
    RecordPurchases,
    SignedOperation,
    encode_operation,
    operation_id,
)
from ledger.programs import ProgramVersion, local_date, version_at
from ledger.sequencer import Outcome, Recorded, Sequencer
from ledger.state import ORDER_SCOPE, Code, Earning, Rejection
from ledger.terms import ROLE_PREFIXES, Purchase, Reference
from ledger.wallet import Wallet, sign_operation

PURCHASES_PER_OPERATION = 100
SPECIAL_PURCHASES_PER_OPERATION = 40
"""Fewer where one purchase may make many legs (:func:`ledger.calculation.is_special`), so that entries are seldom too
long to be recorded. Those are recorded one after the other, since points may depend on what was bought before.
"""

MAX_REPORTED_LINES = 10
_OPERATIONS_IN_FLIGHT = 64
_ACCOUNTS_PER_SUBMISSION = 500
_ADVICE_WITH_ORDERS = "nothing of these lines is recorded: an order number stands for one purchase of one customer"
_ADVICE_WITHOUT_ORDERS = (
    "nothing of these lines is recorded: without order numbers a purchase is known by its customer, its date and its "
    "place among the customer's purchases of that day in one file; if this file is of another till, shop or export, "
    "give it a label of its own (--source NAME)"
)


class Columns(Struct, frozen=True, kw_only=True):
    """Which column holds what: a name of the header line, or a number counted from 1 where there is none.

    Without ``order`` the reference of a purchase is made from its customer, date and how many the customer had that
    day before, which stays the same when the file is imported again or grows at its end. Two tills count apart, so
    each has a label of its own, which goes into the reference as well (``source`` of :class:`Importer`).
    """

    customer: str
    date: str
    amount: str
    order: str | None = None


class FileFormat(Struct, frozen=True, kw_only=True):
    """How to read a file. ``scale`` is the currency's decimal places; dates are local to ``time_zone``."""

    layout: Literal["csv", "whitespace"]
    columns: Columns
    date_format: str
    scale: int
    time_zone: str
    header: bool


class SoldItem(Struct, frozen=True, kw_only=True):
    """One line of a file: where it stands, the customer, the local date and time, the amount in minor units."""

    line: int
    customer: str
    date: str
    at: str
    amount: int
    order: str | None


class BrokenLine(Struct, frozen=True, kw_only=True):
    """A line that cannot be imported: its number, the field, and what is wrong with it."""

    line: int
    field: str
    message: str


class BrokenFileError(Exception):
    """A file with broken lines, of which the first few are named. Nothing of it was recorded."""

    def __init__(self, lines: Sequence[BrokenLine], more: bool = False) -> None:
        self.lines = tuple(lines)
        parts = [f"line {broken.line}, {broken.field}: {broken.message}" for broken in self.lines]
        super().__init__("\n".join([*parts, "… and more"] if more else parts))


class ImportStoppedError(Exception):
    """The ledger refused something that is not merely there already; what was recorded before stays."""


class Conflict(Struct, frozen=True, kw_only=True):
    """A line whose order is recorded already for another purchase, and in what the two differ."""

    line: int
    order: str
    difference: str


class ConflictError(ImportStoppedError):
    """Lines whose orders stand for other purchases in the ledger, of which the first few are named."""

    def __init__(self, conflicts: Sequence[Conflict], advice: str, more: bool = False) -> None:
        self.conflicts = tuple(conflicts)
        parts = [f"line {c.line}: order {c.order} is recorded with {c.difference}" for c in self.conflicts]
        super().__init__("\n".join([*parts, *(["… and more"] if more else []), advice]))


class ImportResult(Struct, frozen=True, kw_only=True):
    """What an import did: lines read, members opened and purchases recorded now, and how many were there already."""

    lines: int
    customers: int
    accounts_opened: int
    purchases_recorded: int
    purchases_known: int


class _Line(NamedTuple):
    """A purchase to import, and what the file says of it."""

    item: SoldItem
    purchase: Purchase


class _FieldError(ValueError):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def read_purchases(file: TextIO, file_format: FileFormat) -> list[SoldItem]:
    """Read every line; raise :class:`BrokenFileError` naming the broken ones.

    Open the file with ``newline=""``, and with ``encoding="utf-8-sig", errors="surrogateescape"`` so that a line which
    is not UTF-8 can be named as well. A record of several lines bears the number of its last.
    """
    items: list[SoldItem] = []
    broken: list[BrokenLine] = []
    positions: dict[str, int] | None = None
    width = 0
    for line, row in _rows(file, file_format):
        try:
            if isinstance(row, _FieldError):
                raise row
            _check_text(row)
            if positions is None:
                positions, width = _positions(row, file_format), len(row)
                if file_format.header:
                    continue
            if any(cell.strip() for cell in row[width:]):  # a decimal comma, for one, would move what comes after it
                raise _FieldError("line", f"has {len(row)} columns, the first line has {width}: quote what has a comma")
            items.append(_read_item(line, row, positions, file_format))
        except _FieldError as error:
            if len(broken) == MAX_REPORTED_LINES:
                raise BrokenFileError(broken, more=True) from error
            broken.append(BrokenLine(line=line, field=error.field, message=str(error)))
            if positions is None:
                raise BrokenFileError(broken) from error
    if broken:
        raise BrokenFileError(broken)
    return items


def _rows(file: TextIO, file_format: FileFormat) -> Iterator[tuple[int, list[str] | _FieldError]]:
    """The lines' cells; where a line ends the reading, what is wrong with it."""
    if file_format.layout == "whitespace":
        for line, text in enumerate(file, 1):
            if text.strip():
                yield line, text.split()
        return
    reader = csv.reader(file, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        yield reader.line_num, _FieldError("line", str(error))


def _check_text(row: list[str]) -> None:
    try:
        "".join(row).encode()
    except UnicodeEncodeError as error:
        raise _FieldError("line", "is not UTF-8: save the file in that encoding") from error


def _positions(row: list[str], file_format: FileFormat) -> dict[str, int]:
    """Where each field stands, from the header or the numbers given."""
    positions = {}
    columns = file_format.columns
    row = [name.strip() for name in row]
    for field in ("customer", "date", "amount", "order"):
        column = getattr(columns, field)
        if column is None:
            continue
        if file_format.header and row.count(column) > 1:
            raise _FieldError(
                field, f"{row.count(column)} columns are named {column!r}: give the number of the one meant"
            )
        if file_format.header and column in row:
            positions[field] = row.index(column)
        elif column.isdecimal() and int(column) >= 1:
            positions[field] = int(column) - 1
        else:
            known = f"the columns are {', '.join(row)}" if file_format.header else "count columns from 1"
            raise _FieldError(field, f"there is no column {column!r}: {known}")
    return positions


def _read_item(line: int, row: list[str], positions: dict[str, int], file_format: FileFormat) -> SoldItem:
    def cell(field: str) -> str:
        if positions[field] >= len(row):
            raise _FieldError(field, f"column {positions[field] + 1} is missing, the line has {len(row)}")
        text = row[positions[field]].strip()
        if not text:
            raise _FieldError(field, "is empty")
        return text

    date, at = _read_date(cell("date"), file_format)
    return SoldItem(
        line=line,
        customer=cell("customer"),
        date=date,
        at=at,
        amount=_read_amount(cell("amount"), file_format.scale),
        order=_read_order(cell("order")) if "order" in positions else None,
    )


def _read_order(text: str) -> str:
    try:
        return msgspec.convert(text, Reference)
    except msgspec.ValidationError as error:
        message = f"{text!r} is no reference: 1 to 64 letters, digits and ._:/#- that begin with a letter or digit"
        raise _FieldError("order", message) from error


def _read_date(text: str, file_format: FileFormat) -> tuple[str, str]:
    try:
        local = datetime.strptime(text, file_format.date_format)  # noqa: DTZ007 - local to the file's time zone, set below
    except ValueError as error:
        raise _FieldError("date", f"{text!r} is not a date of the form {file_format.date_format}") from error
    zone = ZoneInfo(file_format.time_zone)
    try:
        if local.tzinfo is not None:  # the form has %z: the date is that of the program's time zone
            local = local.astimezone(zone)
        at = format_moment(local.replace(tzinfo=zone).astimezone(UTC))
        parse_time(at)
    except (ValueError, OverflowError) as error:
        raise _FieldError("date", f"{text!r} lies outside the years 1900 to 2999") from error
    return local.date().isoformat(), at


def _read_amount(text: str, scale: int) -> int:
    try:
        return parse_amount(text, scale)
    except ValueError as error:
        raise _FieldError("amount", str(error)) from error


class CustomerNumbers:
    """The merchant's private map from customer numbers to accounts: a keyed function, not a table.

    ``opened_at`` is the effective time of every account opened through it, fixed so that the opening operation is
    the same document whenever it is made.
    """

    def __init__(self, merchant: str, origin: str, key: Ed25519PrivateKey, opened_at: str) -> None:
        self._secret = hmac.digest(key.private_bytes_raw(), b"guerdon customer numbers v1", "sha256")
        self._wallet = Wallet(origin, merchant, [key], lambda: parse_time(opened_at))
        self._opened_at = opened_at

    def opening(self, customer: str) -> OpenAccount:
        """The operation that opens a customer's account in the merchant's custody."""
        nonce = encode_base64url(self._digest("account", customer)[:16])
        op = self._wallet.build(OpenAccount, role="member", at=self._opened_at, nonce=nonce)
        assert isinstance(op, OpenAccount)
        return op

    def account(self, customer: str) -> AccountId:
        """The account of a customer, whether or not it has been opened."""
        return account_id(ROLE_PREFIXES["member"], operation_id(encode_operation(self.opening(customer))))

    def order(self, customer: str, date: str, count: int, source: str = "") -> str:
        """A reference for a purchase whose file has none: 26 characters that say nothing without the key."""
        digest = self._digest("order", customer, date, str(count), *([source] if source else []))
        return "p-" + base64.b32encode(digest[:16]).rstrip(b"=").decode().lower()

    def _digest(self, *parts: str) -> bytes:
        # Each part is preceded by its length, so that no two lists of parts give the same bytes.
        message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
        return hmac.digest(self._secret, message, "sha256")


class Importer:
    """Enrols customers and records their purchases for one merchant and asset.

    ``source`` is the label of the till, shop or export a file without order numbers comes from.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        wallet: Wallet,
        numbers: CustomerNumbers,
        *,
        asset: str,
        currency: str,
        progress: Callable[[str, int, int], None],
        source: str = "",
    ) -> None:
        self._sequencer = sequencer
        self._store = sequencer.store
        self._wallet = wallet
        self._numbers = numbers
        self._asset = asset
        self._currency = currency
        self._progress = progress
        self._source = source
        self._versions: list[ProgramVersion] = []

    def run(self, items: Sequence[SoldItem]) -> ImportResult:
        """Import what is not there yet; raise :class:`ImportStoppedError` when the ledger refuses something.

        Whatever the ledger's rules say of an order, a date or the asset is asked before anything is recorded.
        """
        accounts = {customer: self._numbers.account(customer) for customer in {item.customer: 0 for item in items}}
        purchases = self._purchases(items, accounts)
        self._load_program()
        known = self._known_orders(purchases)
        missing = [line for line in purchases if line.purchase.order not in known]
        self._check_dates(missing)
        opened = self._open_accounts(accounts)
        recorded = self._record(missing, len(purchases))
        return ImportResult(
            lines=len(items),
            customers=len(accounts),
            accounts_opened=opened,
            purchases_recorded=recorded,
            purchases_known=len(purchases) - recorded,
        )

    def _open_accounts(self, accounts: dict[str, AccountId]) -> int:
        with self._store.read() as connection:
            there = {account.id for account in self._store.accounts(connection, accounts.values())}
        missing = [customer for customer, account in accounts.items() if account not in there]
        done, opened = len(accounts) - len(missing), 0
        for start in range(0, len(missing), _ACCOUNTS_PER_SUBMISSION):
            part = missing[start : start + _ACCOUNTS_PER_SUBMISSION]
            signed = [sign_operation(self._numbers.opening(customer), self._wallet.keys) for customer in part]
            for outcome in self._sequencer.submit(signed).result():
                _raise_if_refused(outcome, "a customer's account")
                opened += isinstance(outcome, Recorded) and not outcome.replayed
            done += len(part)
            self._progress("Enrolling customers", done, len(accounts))
        return opened

    def _purchases(self, items: Sequence[SoldItem], accounts: dict[str, AccountId]) -> list[_Line]:
        counts: dict[tuple[str, str], int] = {}
        lines: dict[str, int] = {}
        purchases = []
        broken: list[BrokenLine] = []
        for item in items:
            key = (item.customer, item.date)
            counts[key] = counts.get(key, 0) + 1
            order = item.order or self._numbers.order(item.customer, item.date, counts[key], self._source)
            if order in lines:
                message = f"{order} is on line {lines[order]} already"
                broken.append(BrokenLine(line=item.line, field="order", message=message))
            lines[order] = item.line
            purchase = Purchase(amount=item.amount, at=item.at, member=accounts[item.customer], order=order)
            purchases.append(_Line(item, purchase))
        if broken:
            raise BrokenFileError(broken[:MAX_REPORTED_LINES], more=len(broken) > MAX_REPORTED_LINES)
        return purchases

    def _load_program(self) -> None:
        """Load the versions of the asset's program; another merchant's asset is refused for all purchases alike."""
        with self._store.read() as connection:
            asset = next(iter(self._store.assets(connection, [self._asset])), None)
            self._versions = self._store.programs(connection, [self._asset])
        if asset is None or asset.issuer != self._wallet.account:
            raise ImportStoppedError(f"{Code.NOT_PERMITTED}: {self._asset} is no asset of {self._wallet.account}")

    def _check_dates(self, missing: list[_Line]) -> None:
        """Refuse what the rules would: a purchase from no program's time, or from the future."""
        parameters = self._sequencer.parameters
        assert parameters is not None
        with self._store.read() as connection:
            now = max(format_time(self._sequencer.clock()), self._store.head(connection).last_time)
        latest = format_time(parse_time(now) + parameters.clock_tolerance_ms)
        refused = [
            f"line {item.line}: {refusal}"
            for item, purchase in missing
            if (refusal := self._date_refusal(purchase.at, now, latest))
        ]
        if refused:
            more = ["… and more"] if len(refused) > MAX_REPORTED_LINES else []
            raise ImportStoppedError("\n".join([*refused[:MAX_REPORTED_LINES], *more]))

    def _date_refusal(self, at: str, now: str, latest: str) -> str | None:
        if at > latest:
            return f"{Code.AT_IN_FUTURE}: {at} lies after {now}"
        version = version_at(self._versions, at)
        if version is None:
            return f"{Code.PROGRAM_MISSING}: no program of {self._asset} was in force at {at}"
        if version.ends is not None and at >= version.ends:
            return f"{Code.PROGRAM_CLOSED}: version {version.version} of the program ended at {version.ends}"
        within, zone = version.program.purchase_within_days, version.program.time_zone
        days = (date.fromisoformat(local_date(now, zone)) - date.fromisoformat(local_date(at, zone))).days
        if within is not None and days > within:
            return f"{Code.PURCHASE_TOO_OLD}: {at} is {days} days ago, and {self._asset} is given within {within}"
        return None

    def _known_orders(self, purchases: Sequence[_Line]) -> set[str]:
        """Orders that are recorded already; raise :class:`ConflictError` where one stands for another purchase."""
        orders = [line.purchase.order for line in purchases]
        with self._store.read() as connection:
            recorded = self._store.earnings(connection, self._wallet.account or "", ORDER_SCOPE, orders)
        conflicts, advice = [], _ADVICE_WITH_ORDERS
        for line in purchases:
            order = line.purchase.order
            if order in recorded and (difference := self._difference(line, *recorded[order])):
                conflicts.append(Conflict(line=line.item.line, order=order, difference=difference))
                advice = advice if line.item.order else _ADVICE_WITHOUT_ORDERS
        if conflicts:
            raise ConflictError(conflicts[:MAX_REPORTED_LINES], advice, more=len(conflicts) > MAX_REPORTED_LINES)
        return set(recorded)

    def _difference(self, line: _Line, asset: str, earning: Earning) -> str:
        """In what a recorded purchase differs from one of the file, in words; empty when they are the same."""
        item, purchase = line
        differences = []
        if earning.account != purchase.member:
            differences.append("another customer")
        if earning.amount != purchase.amount:
            differences.append(f"the amount {self._decimal(earning.amount or 0)}, not {self._decimal(purchase.amount)}")
        if earning.earned_on != item.date:
            differences.append(f"the date {earning.earned_on}, not {item.date}")
        if asset != self._asset:
            differences.append(f"the asset {asset}, not {self._asset}")
        return ", ".join(differences)

    def _decimal(self, amount: int) -> str:
        assert self._sequencer.parameters is not None
        scale = len(str(self._sequencer.parameters.units[self._currency])) - 1
        return f"{format_amount(amount, scale)} {self._currency}"

    def _record(self, missing: list[_Line], total: int) -> int:
        """Record what is missing, a bounded number of operations under way at once; all acknowledged at the end.

        Under a program by which points depend on earlier purchases it is done in the order of their times.
        """
        running: list[tuple[Future[list[Outcome]], list[_Line]]] = []
        recorded, done = 0, total - len(missing)
        special = any(is_special(version.program) for version in self._versions)
        size = SPECIAL_PURCHASES_PER_OPERATION if special else PURCHASES_PER_OPERATION
        under_way = 1 if special else _OPERATIONS_IN_FLIGHT
        if special:
            missing = sorted(missing, key=lambda line: line.purchase.at)
        batches = [missing[i : i + size] for i in range(0, len(missing), size)]
        for batch in [*batches, None]:
            if batch is not None:
                running.append((self._sequencer.submit([self._sign(batch)]), batch))
            while running and (batch is None or len(running) >= under_way):
                future, part = running.pop(0)
                recorded += self._settle(future.result()[0], part)
                done += len(part)
                self._progress("Recording purchases", done, total)
        return recorded

    def _sign(self, batch: list[_Line]) -> SignedOperation:
        purchases = tuple(line.purchase for line in batch)
        try:
            return self._wallet.sign(RecordPurchases, asset=self._asset, currency=self._currency, purchases=purchases)
        except MalformedError as error:
            line = _line_of(error.path, batch)
            field = error.path[-1] if error.path else "line"
            raise BrokenFileError([BrokenLine(line=line, field=field, message=error.message)]) from error

    def _settle(self, outcome: Outcome, batch: list[_Line]) -> int:
        """Count what an operation recorded; where another import was quicker with a part of it, record the rest."""
        if isinstance(outcome, Rejection) and outcome.code is Code.ORDER_EXISTS:
            known = self._known_orders(batch)
            rest = [line for line in batch if line.purchase.order not in known]
            return self._settle(self._sequencer.submit([self._sign(rest)]).result()[0], rest) if rest else 0
        if isinstance(outcome, Rejection) and outcome.code is Code.TOO_LARGE and len(batch) > 1:
            half = len(batch) // 2
            parts = (batch[:half], batch[half:])
            return sum(self._settle(self._sequencer.submit([self._sign(part)]).result()[0], part) for part in parts)
        if isinstance(outcome, Rejection) and outcome.path and outcome.path[0].startswith("purchases["):
            raise ImportStoppedError(f"line {_line_of(outcome.path, batch)}: {outcome.code}: {outcome.message}")
        _raise_if_refused(outcome, f"lines {batch[0].item.line} to {batch[-1].item.line}")
        return len(batch)


def _line_of(path: tuple[str, ...], batch: list[_Line]) -> int:
    """The line of the file a path such as ``purchases[3].at`` speaks of."""
    head = path[0] if path else ""
    index = head.removeprefix("purchases[").removesuffix("]")
    return batch[int(index) if index.isdecimal() and int(index) < len(batch) else 0].item.line


def _raise_if_refused(outcome: Outcome, what: str) -> None:
    if isinstance(outcome, Rejection):
        raise ImportStoppedError(f"{what}: {outcome.code}: {outcome.message}")
    if isinstance(outcome, Exception):
        raise outcome

"""A verifier of whole ledgers, written from ledger/FORMAT.md and nothing else.

It is naive on purpose and shares no code with the package: plain dictionaries, exact fractions, a recursive tree. The
section of FORMAT.md stands above what follows from it. Of `cryptography` only the Ed25519 primitive is used.

    python -m tests.reference_verifier [--light] CHECKPOINT [LOG_KEY…] < entries.jsonl

where standard input has one entry per line (an entry's bytes contain no newline), CHECKPOINT is a file and each LOG_KEY
a verifier key known from elsewhere.
"""

import base64
import binascii
import calendar
import hashlib
import json
import re
import sys
import zoneinfo
from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# Section 8.3: the zones of the `tzdata` package, never those of the machine.
zoneinfo.reset_tzpath(to=())

MAX_INTEGER = 2**53 - 1
MAX_ENTRY_BYTES = 65_535
MAX_RECEIPT_CHARACTERS = 131_072
WEEK_MS = 604_800_000
NEVER = "~"
"""Sorts after every date: the place of points that never expire in the order of spending."""


class RefusedError(Exception):
    """What makes a ledger or an operation unacceptable. ``code`` is a code of section 6.3 or a step of section 12."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def require(condition: object, code: str, message: str = "") -> None:
    if not condition:
        raise RefusedError(code, message)


# Section 2: canonical bytes


def encode(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8")


def decode(data: bytes) -> Any:
    try:
        value = json.loads(data.decode("utf-8"), parse_float=_refuse_number, parse_constant=_refuse_number)
        _check_plain(value)
        canonical = encode(value)
    except (ValueError, RecursionError) as error:
        raise RefusedError("MALFORMED", str(error)) from error
    require(canonical == data, "NOT_CANONICAL")
    return value


def _refuse_number(text: str) -> Any:
    raise ValueError(f"{text} is not an integer")


def _check_plain(value: Any) -> None:
    if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise ValueError("an integer beyond 2^53-1")
    if isinstance(value, list):
        for item in value:
            _check_plain(item)
    if isinstance(value, dict):
        for key, item in value.items():
            if not key.isascii():
                raise ValueError("a key that is not ASCII")
            _check_plain(item)


# Section 3: scalars

GRAMMAR = {
    "time": r"(19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z",
    "date": r"(19|2[0-9])[0-9]{2}-[0-9]{2}-[0-9]{2}",
    "origin": r"[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[A-Za-z0-9._-]+)*",
    "account": r"(mem|mer|ben|aud|opr)_[a-z2-7]{26}",
    "asset": r"[A-Z][A-Z0-9]{1,15}",
    "currency": r"[A-Z]{3}",
    "nonce": r"[A-Za-z0-9_-]{21}[AQgw]",
    "key": r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]",
    "signature": r"[A-Za-z0-9_-]{85}[AQgw]",
    "hash": r"[0-9a-f]{64}",
    "reference": r"[A-Za-z0-9][A-Za-z0-9._:/#-]{0,63}",
    "activity": r"[a-z][a-z0-9_]{0,31}",
}

SPACES = "\u0020\u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(chr(c) for c in range(0x2000, 0x200B))

P = 2**255 - 19
SMALL_ORDER = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

Check = Callable[[Any], None]


def form(condition: object, message: str = "") -> None:
    require(condition, "MALFORMED", message)


def text(name: str, max_length: int | None = None) -> Check:
    def check(value: Any) -> None:
        form(isinstance(value, str) and re.fullmatch(GRAMMAR[name], value), f"{value!r} is no {name}")
        form(max_length is None or len(value) <= max_length, f"a long {name}")

    return check


def check_date(value: Any) -> None:
    text("date")(value)
    _check_calendar(value)


def check_time(value: Any) -> None:
    text("time")(value)
    _check_calendar(value[:10])


def _check_calendar(value: str) -> None:
    year, month, day = (int(part) for part in value.split("-"))
    form(1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1], f"no day {value}")


def check_lot(value: Any) -> None:
    """The form of a date, with the years that a local date and an expiry can lead to."""
    form(isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value), f"{value!r} is no date")
    form(1899 <= int(value[:4]) <= 3100, f"{value} is no last day")
    _check_calendar(value)


def check_holder(value: Any) -> None:
    if value not in ("sys_issued", "sys_spent", "sys_expired"):
        text("account")(value)


def check_name(value: Any) -> None:
    form(isinstance(value, str) and 1 <= len(value) <= 64, "a name has 1 to 64 characters")
    form(not any(ord(c) < 0x20 or ord(c) == 0x7F for c in value), "a control character in a name")
    form(value[0] not in SPACES and value[-1] not in SPACES, "white space around a name")


def check_key(value: Any) -> None:
    text("key")(value)
    check_public_key(_base64url(value))


def check_public_key(data: bytes) -> None:
    y = int.from_bytes(data, "little") & ~(1 << 255)
    form(y < P, "a y that is not reduced")
    form(y.to_bytes(32, "little").hex() not in SMALL_ORDER, "a key of small order")


def check_zone(value: Any) -> None:
    form(isinstance(value, str) and value in zoneinfo.available_timezones(), f"no zone {value!r}")


def integer(low: int, high: int = MAX_INTEGER) -> Check:
    def check(value: Any) -> None:
        form(type(value) is int and low <= value <= high, f"{value!r} is no integer of {low}..{high}")

    return check


def boolean(value: Any) -> None:
    form(type(value) is bool, f"{value!r} is no boolean")


def one_of(*values: Any) -> Check:
    def check(value: Any) -> None:
        form(any(type(value) is type(v) and value == v for v in values), f"{value!r} is not of {values}")

    return check


def array(of: Check, low: int, high: int, unique: Callable[[Any], Any] | None = None) -> Check:
    def check(value: Any) -> None:
        form(isinstance(value, list) and low <= len(value) <= high, f"an array of {low} to {high}")
        for item in value:
            of(item)
        if unique is not None:
            names = [unique(item) for item in value]
            form(len(set(names)) == len(names), "the same twice")

    return check


def record(required: dict[str, Check], optional: dict[str, Check] | None = None) -> Check:
    def check(value: Any) -> None:
        form(isinstance(value, dict), "an object")
        fields = {**required, **(optional or {})}
        form(set(required) <= set(value) <= set(fields), f"fields {sorted(value)}")
        for name, item in value.items():
            fields[name](item)

    return check


def whole(value: Any) -> Any:
    return value


# Sections 5 and 7: documents

POINTS, MONEY = integer(1), integer(0)
ACCOUNT, ASSET, CURRENCY, REFERENCE = text("account"), text("asset"), text("currency"), text("reference")
THRESHOLD = integer(2, 8)


def check_expiry(value: Any) -> None:
    form(isinstance(value, dict), "an object")
    after = value.get("after")
    one_of("never", "days", "months", "year_end")(after)
    count = {"never": {}, "days": {"count": integer(0, 36_500)}, "months": {"count": integer(0, 1_200)}}
    record({"after": whole, **count.get(after, {"count": integer(0, 100)})})(value)


def check_program(value: Any) -> None:
    band = record({"from": MONEY, "per": integer(1, 10**12), "points": integer(0, 10**9)})
    rule = record({"activity": text("activity"), "max_points": POINTS})
    record(
        {
            "bands": array(band, 1, 32),
            "currency": CURRENCY,
            "expiry": check_expiry,
            "round_amount": one_of("none", "whole_units"),
            "round_points": one_of("down", "half_up", "half_even", "up"),
            "time_zone": check_zone,
        },
        {"grants": array(rule, 1, 64, lambda item: item["activity"])},
    )(value)
    starts = [band["from"] for band in value["bands"]]
    form(all(a < b for a, b in pairwise(starts)), "bands rise")


COMMON = {
    "at": check_time,
    "guerdon": one_of(1),
    "kind": whole,
    "ledger": text("origin", 128),
    "nonce": text("nonce"),
}
KEYS = array(check_key, 1, 8, whole)


def check_log_key(value: Any) -> None:
    form(isinstance(value, str) and len(value) <= 256, "a verifier key has at most 256 characters")


def check_recovery_delay(value: Any) -> None:
    integer(60_000, 7_776_000_000)(value)
    form(value != WEEK_MS, "seven days are what absence means")


PURCHASE = record({"amount": MONEY, "at": check_time, "member": ACCOUNT, "order": REFERENCE})
RECIPIENT = record({"amount": POINTS, "to": ACCOUNT})

Fields = dict[str, Check]
KINDS: dict[str, tuple[Fields, Fields]] = {
    "genesis": (
        {
            "clock_tolerance_ms": integer(0, 3_600_000),
            "currencies": array(
                record({"code": CURRENCY, "scale": integer(0, 4)}), 1, 32, lambda currency: currency["code"]
            ),
            "keys": KEYS,
            "log_key": check_log_key,
            "name": check_name,
        },
        {"recovery_delay_ms": check_recovery_delay, "threshold": THRESHOLD},
    ),
    "open_account": (
        {"role": one_of("member", "merchant", "beneficiary", "auditor")},
        {"actor": ACCOUNT, "keys": KEYS, "name": check_name, "threshold": THRESHOLD},
    ),
    "define_asset": (
        {"actor": ACCOUNT, "asset": ASSET, "name": check_name, "scale": integer(0, 6), "transferable": boolean},
        {"supply_cap": POINTS, "value": record({"amount": MONEY, "currency": CURRENCY, "points": POINTS})},
    ),
    "publish_program": (
        {
            "actor": ACCOUNT,
            "asset": ASSET,
            "program": check_program,
            "starts": check_time,
            "version": integer(1, 1_000_000),
        },
        {"ends": check_time},
    ),
    "record_purchases": (
        {
            "actor": ACCOUNT,
            "asset": ASSET,
            "currency": CURRENCY,
            "purchases": array(PURCHASE, 1, 1_000, lambda purchase: purchase["order"]),
        },
        {},
    ),
    "grant": (
        {
            "activity": text("activity"),
            "actor": ACCOUNT,
            "amount": POINTS,
            "asset": ASSET,
            "member": ACCOUNT,
            "reference": REFERENCE,
        },
        {},
    ),
    "transfer": (
        {"actor": ACCOUNT, "asset": ASSET, "recipients": array(RECIPIENT, 1, 100, lambda item: item["to"])},
        {},
    ),
    "redeem": (
        {"actor": ACCOUNT, "amount": POINTS, "asset": ASSET, "merchant": ACCOUNT},
        {"reference": REFERENCE},
    ),
    "expire": ({"actor": ACCOUNT, "asset": ASSET, "limit": integer(1, 400), "through": check_date}, {}),
    "replace_keys": ({"actor": ACCOUNT, "keys": KEYS}, {"threshold": THRESHOLD}),
    "recover_keys": ({"account": ACCOUNT, "actor": ACCOUNT, "keys": KEYS}, {"threshold": THRESHOLD}),
    "cancel_recovery": ({"account": ACCOUNT, "actor": ACCOUNT}, {}),
    "replace_log_key": ({"actor": ACCOUNT, "log_key": check_log_key}, {}),
}


def check_operation(op: Any) -> None:
    """Section 5: whether a document is well formed."""
    form(isinstance(op, dict) and isinstance(op.get("kind"), str) and op["kind"] in KINDS, "no such kind")
    required, optional = KINDS[op["kind"]]
    record({**COMMON, **required}, {"expires": check_time, **optional})(op)
    form(op.get("threshold", 1) <= max(len(op.get("keys", [])), 1), "a threshold above the number of keys")
    if op["kind"] == "open_account":
        _check_opening(op)
    if op["kind"] == "publish_program":
        form("ends" not in op or op["starts"] < op["ends"], "ends after starts")
    if op["kind"] == "transfer":
        form(all(item["to"] != op["actor"] for item in op["recipients"]), "a transfer to oneself")
        form(sum(item["amount"] for item in op["recipients"]) <= MAX_INTEGER, "a sum beyond 2^53-1")


def _check_opening(op: Any) -> None:
    if op["role"] == "member":
        form("name" not in op, "a member has no name")
        form("keys" in op or "actor" in op, "a member has a key or a custodian")
    else:
        form("name" in op and "keys" in op and "actor" in op, "an organisation has a name, keys and a sponsor")


SIGNATURES = array(record({"key": text("key"), "sig": text("signature")}), 0, 16, lambda item: item["key"])


# Section 4: keys, signatures, hashes


def _base64url(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))


def is_signature(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_signatures(op_bytes: bytes, sigs: list[dict[str, str]]) -> None:
    message = b"guerdon operation v1\n" + op_bytes
    for item in sigs:
        try:
            check_key(item["key"])
        except RefusedError as error:
            raise RefusedError("SIGNATURE_INVALID", item["key"]) from error
        valid = is_signature(_base64url(item["key"]), _base64url(item["sig"]), message)
        require(valid, "SIGNATURE_INVALID", item["key"])


PREFIXES = {"member": "mem", "merchant": "mer", "beneficiary": "ben", "auditor": "aud", "operator": "opr"}


def account_id(role: str, op_id: bytes) -> str:
    return f"{PREFIXES[role]}_{base64.b32encode(op_id[:16]).decode().rstrip('=').lower()}"


# Section 8: programs


def points_of(program: dict[str, Any], amount: int, unit: int) -> int:
    if program["round_amount"] == "whole_units":
        amount = amount // unit * unit
    total = Fraction(0)
    bands = program["bands"]
    for i, band in enumerate(bands):
        top = min(amount, bands[i + 1]["from"]) if i + 1 < len(bands) else amount
        total += max(top - band["from"], 0) * Fraction(band["points"], band["per"])
    return rounded(total, program["round_points"])


def rounded(value: Fraction, mode: str) -> int:
    whole_part = value.numerator // value.denominator
    rest = value - whole_part
    if mode == "up":
        return whole_part + (rest > 0)
    if mode == "half_up":
        return whole_part + (rest >= Fraction(1, 2))
    if mode == "half_even":
        return whole_part + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole_part % 2 == 1))
    return whole_part


def local_date(time: str, zone: str) -> str:
    return datetime.fromisoformat(time).astimezone(zoneinfo.ZoneInfo(zone)).date().isoformat()


def last_day(expiry: dict[str, Any], earned_on: str) -> str | None:
    day = date.fromisoformat(earned_on)
    if expiry["after"] == "never":
        return None
    count = expiry["count"]
    if expiry["after"] == "days":
        return (day + timedelta(days=count)).isoformat()
    if expiry["after"] == "year_end":
        return f"{day.year + count}-12-31"
    year, month = day.year, day.month
    for _ in range(count):
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1])).isoformat()


def milliseconds(time: str) -> int:
    span = datetime.fromisoformat(time) - datetime.fromisoformat("1970-01-01T00:00:00.000Z")
    return span // timedelta(milliseconds=1)


# Sections 6 and 7: rules

Posting = dict[str, Any]
HOLDERS = {"member", "merchant", "beneficiary"}


def leg(account: str, asset: str, amount: int, lot: str | None = None) -> Posting:
    posting = {"account": account, "amount": amount, "asset": asset}
    return posting if lot is None else {**posting, "lot": lot}


class Replica:
    """The state an entry meets, and what each kind of operation does to it."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.genesis: dict[str, Any] | None = None
        self.accounts: dict[str, dict[str, Any]] = {}
        self.log_keys: list[tuple[int, str]] = []
        self.assets: dict[str, dict[str, Any]] = {}
        self.programs: dict[str, list[dict[str, Any]]] = {}
        self.lots: dict[tuple[str, str, str], int] = {}
        self.references: set[tuple[str, str, str]] = set()
        self.op_ids: set[bytes] = set()

    # Section 6.1
    def account_at(self, account: str, time: str) -> dict[str, Any]:
        """An account as it is at a time: with the keys of its recovery once that is in effect."""
        found = self.accounts[account]
        recovery = found["recovery"]
        if recovery is None or milliseconds(time) < recovery["from_ms"]:
            return found
        return {**found, **recovery, "custodian": None, "recovery": None}

    def acting_for(self, account: str, time: str) -> tuple[list[str], int]:
        """The keys that act for an account at a time, and how many of them must sign."""
        found = self.account_at(account, time)
        if not found["keys"]:
            found = self.account_at(found["custodian"], time)
        return found["keys"], found["threshold"]

    def log_key_for(self, size: int) -> str:
        """The log key in force for a checkpoint of a size: the last whose sequence number is below it."""
        return [key for seq, key in self.log_keys if seq < size][-1]

    def decide(self, op: dict[str, Any], signers: set[str], time: str) -> list[Posting]:
        """Section 6.2: the postings of an operation recorded at a time, or the first refusal that applies."""
        require(op["ledger"] == self.origin, "WRONG_LEDGER")
        require(op.get("expires", time) >= time, "EXPIRED")
        if op["kind"] == "genesis":
            return self._decide_genesis(op, signers, time)
        require(self.genesis is not None, "UNKNOWN_ACCOUNT", "no genesis")
        self._check_at(op["at"], time, self.genesis)
        actor = None
        if "actor" in op:
            require(op["actor"] in self.accounts, "UNKNOWN_ACCOUNT", op["actor"])
            actor = self.account_at(op["actor"], time)
        self._check_authority(op, signers, time)
        decide: dict[str, Callable[..., list[Posting]]] = {
            "open_account": self._decide_open_account,
            "define_asset": self._decide_define_asset,
            "publish_program": self._decide_publish_program,
            "record_purchases": self._decide_record_purchases,
            "grant": self._decide_grant,
            "transfer": self._decide_transfer,
            "redeem": self._decide_redeem,
            "expire": self._decide_expire,
            "replace_keys": self._decide_replace_keys,
            "recover_keys": self._decide_recover_keys,
            "cancel_recovery": self._decide_cancel_recovery,
            "replace_log_key": self._decide_replace_log_key,
        }
        return decide[op["kind"]](op, actor, time)

    def _check_at(self, at: str, time: str, genesis: dict[str, Any] | None) -> None:
        assert genesis is not None
        require(milliseconds(at) - milliseconds(time) <= genesis["clock_tolerance_ms"], "AT_IN_FUTURE")

    def _check_authority(self, op: dict[str, Any], signers: set[str], time: str) -> None:
        allowed: set[str] = set()
        if "actor" in op:
            keys, threshold = self.acting_for(op["actor"], time)
            allowed |= set(keys)
            require(len(signers & allowed) >= threshold, "SIGNATURE_MISSING")
        if op["kind"] in ("open_account", "replace_keys", "recover_keys"):
            new = set(op.get("keys", []))
            had = set(self.account_at(op["actor"], time)["keys"]) if op["kind"] == "replace_keys" else set()
            require(new - had <= signers, "SIGNATURE_MISSING")
            allowed |= new
        require(signers <= allowed, "SIGNATURE_UNEXPECTED")

    # Section 7.1
    def _decide_genesis(self, op: dict[str, Any], signers: set[str], time: str) -> list[Posting]:
        require(self.genesis is None, "GENESIS_EXISTS")
        self._check_at(op["at"], time, op)
        self._check_log_key(op["log_key"])
        require(signers >= set(op["keys"]), "SIGNATURE_MISSING")
        require(signers <= set(op["keys"]), "SIGNATURE_UNEXPECTED")
        return []

    # Section 7.2
    def _decide_open_account(self, op: dict[str, Any], actor: dict[str, Any] | None, _: str) -> list[Posting]:
        if actor is not None:
            require(actor["role"] == ("merchant" if op["role"] == "member" else "operator"), "NOT_PERMITTED")
        return []

    # Section 7.3
    def _decide_define_asset(self, op: dict[str, Any], actor: dict[str, Any], _: str) -> list[Posting]:
        require(actor["role"] == "merchant", "NOT_PERMITTED")
        require(op["asset"] not in self.assets and op["asset"] not in self._units(), "ASSET_EXISTS")
        require("value" not in op or op["value"]["currency"] in self._units(), "UNKNOWN_CURRENCY")
        return []

    # Section 7.4
    def _decide_publish_program(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        self._check_issuer(op, actor)
        require(op["program"]["currency"] in self._units(), "UNKNOWN_CURRENCY")
        versions = self.programs.get(op["asset"], [])
        require(op["version"] == len(versions) + 1, "VERSION_CONFLICT")
        if versions:
            require(op["program"]["currency"] == versions[0]["program"]["currency"], "CURRENCY_MISMATCH")
            require(op["program"]["time_zone"] == versions[0]["program"]["time_zone"], "TIME_ZONE_MISMATCH")
            assert self.genesis is not None
            earliest = milliseconds(time) - self.genesis["clock_tolerance_ms"]
            require(milliseconds(op["starts"]) >= earliest, "STARTS_IN_PAST")
        return []

    # Section 7.5
    def _decide_record_purchases(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        self._check_issuer(op, actor)
        versions = self.programs.get(op["asset"], [])
        require(versions, "PROGRAM_MISSING")
        require(op["currency"] == versions[0]["program"]["currency"], "CURRENCY_MISMATCH")
        legs = []
        for purchase in op["purchases"]:
            self._check_member(purchase["member"])
            self._check_at(purchase["at"], time, self.genesis)
            require((op["actor"], "order", purchase["order"]) not in self.references, "ORDER_EXISTS")
            program = self._program_at(op["asset"], purchase["at"])
            points = points_of(program, purchase["amount"], self._units()[op["currency"]])
            if points:
                lot = last_day(program["expiry"], local_date(purchase["at"], program["time_zone"]))
                legs.append(leg(purchase["member"], op["asset"], points, lot))
        return self._issued(op["asset"], legs)

    # Section 7.6
    def _decide_grant(self, op: dict[str, Any], actor: dict[str, Any], _: str) -> list[Posting]:
        self._check_issuer(op, actor)
        self._check_member(op["member"])
        program = self._program_at(op["asset"], op["at"])
        rules = {rule["activity"]: rule["max_points"] for rule in program.get("grants", [])}
        require(op["activity"] in rules, "ACTIVITY_UNKNOWN")
        require((op["actor"], "grant:" + op["activity"], op["reference"]) not in self.references, "REFERENCE_EXISTS")
        require(op["amount"] <= rules[op["activity"]], "GRANT_TOO_LARGE")
        lot = last_day(program["expiry"], local_date(op["at"], program["time_zone"]))
        return self._issued(op["asset"], [leg(op["member"], op["asset"], op["amount"], lot)])

    # Section 7.7
    def _decide_transfer(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] in HOLDERS, "NOT_PERMITTED")
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        require(self.assets[op["asset"]]["transferable"], "NOT_TRANSFERABLE")
        for item in op["recipients"]:
            require(item["to"] in self.accounts, "UNKNOWN_ACCOUNT")
            require(self.accounts[item["to"]]["role"] in HOLDERS, "NOT_A_HOLDER")
        parts = self._spend(op["actor"], op["asset"], sum(item["amount"] for item in op["recipients"]), time)
        legs = [leg(op["actor"], op["asset"], -points, lot) for lot, points in parts]
        for item in op["recipients"]:
            wanted = item["amount"]
            while wanted:
                lot, points = parts[0]
                given = min(points, wanted)
                legs.append(leg(item["to"], op["asset"], given, lot))
                wanted -= given
                parts = parts[1:] if given == points else [(lot, points - given), *parts[1:]]
        return legs

    # Section 7.8
    def _decide_redeem(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] in HOLDERS, "NOT_PERMITTED")
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        merchant = self.accounts.get(op["merchant"])
        require(merchant is not None and merchant["role"] == "merchant", "UNKNOWN_ACCOUNT")
        require(op["merchant"] == self.assets[op["asset"]]["issuer"], "NOT_ACCEPTED")
        parts = self._spend(op["actor"], op["asset"], op["amount"], time)
        legs = [leg(op["actor"], op["asset"], -points, lot) for lot, points in parts]
        return [*legs, leg("sys_spent", op["asset"], op["amount"])]

    # Section 7.9
    def _decide_expire(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        issuer = self.assets[op["asset"]]["issuer"]
        require(actor["role"] == "operator" or op["actor"] == issuer, "NOT_PERMITTED")
        require(op["through"] < self._today(op["asset"], time), "NOT_YET_DUE")
        due = sorted(
            (lot, account)
            for (account, asset, lot) in self.lots
            if asset == op["asset"] and not account.startswith("sys_") and lot <= op["through"]
        )[: op["limit"]]
        require(due, "NOTHING_DUE")
        legs = [leg(account, op["asset"], -self.lots[account, op["asset"], lot], lot) for lot, account in due]
        return [*legs, leg("sys_expired", op["asset"], -sum(item["amount"] for item in legs))]

    # Section 7.10
    def _decide_replace_keys(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        return []

    # Section 7.11
    def _decide_recover_keys(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] == "operator", "NOT_PERMITTED")
        require(op["account"] in self.accounts, "UNKNOWN_ACCOUNT", op["account"])
        require(op["account"] != op["actor"], "NOT_PERMITTED")
        require(self.account_at(op["account"], time)["recovery"] is None, "RECOVERY_PENDING")
        return []

    # Section 7.12
    def _decide_cancel_recovery(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(op["account"] == op["actor"] or actor["role"] == "operator", "NOT_PERMITTED")
        require(op["account"] in self.accounts, "UNKNOWN_ACCOUNT", op["account"])
        require(self.account_at(op["account"], time)["recovery"] is not None, "NO_RECOVERY")
        return []

    # Section 7.13
    def _decide_replace_log_key(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] == "operator", "NOT_PERMITTED")
        key_id = self._check_log_key(op["log_key"])
        require(key_id not in {parse_verifier_key(key)[1] for _, key in self.log_keys}, "LOG_KEY_USED")
        return []

    def _check_log_key(self, log_key: str) -> bytes:
        name, key_id, _ = parse_verifier_key(log_key)
        require(name == self.origin, "MALFORMED", "the log key's name")
        return key_id

    def _units(self) -> dict[str, int]:
        assert self.genesis is not None
        return {currency["code"]: 10 ** currency["scale"] for currency in self.genesis["currencies"]}

    def _check_issuer(self, op: dict[str, Any], actor: dict[str, Any]) -> None:
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        require(self.assets[op["asset"]]["issuer"] == actor["id"], "NOT_PERMITTED")

    def _check_member(self, account: str) -> None:
        require(account in self.accounts and self.accounts[account]["role"] == "member", "UNKNOWN_ACCOUNT", account)

    # Section 8.1
    def _program_at(self, asset: str, at: str) -> dict[str, Any]:
        started = [version for version in self.programs.get(asset, []) if version["starts"] <= at]
        require(started, "PROGRAM_MISSING")
        require("ends" not in started[-1] or at < started[-1]["ends"], "PROGRAM_CLOSED")
        program: dict[str, Any] = started[-1]["program"]
        return program

    # Section 8.5
    def _today(self, asset: str, time: str) -> str:
        versions = self.programs.get(asset)
        return local_date(time, versions[0]["program"]["time_zone"] if versions else "UTC")

    # Section 8.6
    def _spend(self, account: str, asset: str, amount: int, time: str) -> list[tuple[str | None, int]]:
        today = self._today(asset, time)
        usable = sorted(
            (lot, points) for (a, b, lot), points in self.lots.items() if (a, b) == (account, asset) and lot >= today
        )
        require(sum(points for _, points in usable) >= amount, "INSUFFICIENT_POINTS")
        parts: list[tuple[str | None, int]] = []
        for lot, points in usable:
            taken = min(points, amount)
            if taken:
                parts.append((None if lot == NEVER else lot, taken))
            amount -= taken
        return parts

    # Section 8.7
    def _issued(self, asset: str, legs: list[Posting]) -> list[Posting]:
        total = sum(item["amount"] for item in legs)
        if total == 0:
            return []
        issued = -self.lots.get(("sys_issued", asset, NEVER), 0)
        require(issued + total <= MAX_INTEGER, "POINTS_OVERFLOW")
        gone = sum(self.lots.get((account, asset, NEVER), 0) for account in ("sys_spent", "sys_expired"))
        cap = self.assets[asset].get("supply_cap")
        require(cap is None or issued - gone + total <= cap, "SUPPLY_EXCEEDED")
        return [leg("sys_issued", asset, -total), *legs]

    def apply(self, op: dict[str, Any], op_id: bytes, postings: list[Posting], *, seq: int, time: str) -> None:
        """Make an entry part of the state."""
        self.op_ids.add(op_id)
        for item in postings:
            place = (item["account"], item["asset"], item.get("lot", NEVER))
            self.lots[place] = self.lots.get(place, 0) + item["amount"]
            if self.lots[place] == 0:
                del self.lots[place]
        kind = op["kind"]
        if kind == "genesis":
            self.genesis = op
            self.log_keys = [(seq, op["log_key"])]
            self._open("operator", op, op_id)
        elif kind == "open_account":
            self._open(op["role"], op, op_id)
        elif kind == "define_asset":
            self.assets[op["asset"]] = {**op, "issuer": op["actor"]}
        elif kind == "publish_program":
            self.programs.setdefault(op["asset"], []).append(op)
        elif kind == "record_purchases":
            self.references |= {(op["actor"], "order", purchase["order"]) for purchase in op["purchases"]}
        elif kind == "grant":
            self.references.add((op["actor"], "grant:" + op["activity"], op["reference"]))
        elif kind == "replace_log_key":
            self.log_keys.append((seq, op["log_key"]))
        elif kind in ("replace_keys", "recover_keys", "cancel_recovery"):
            self._change_keys(op, time)

    def _change_keys(self, op: dict[str, Any], time: str) -> None:
        name = op.get("account", op["actor"])
        account = {**self.account_at(name, time), "recovery": None}
        given = {"keys": op.get("keys"), "threshold": op.get("threshold", 1)}
        if op["kind"] == "replace_keys":
            account = {**account, **given, "custodian": None}
        if op["kind"] == "recover_keys":
            assert self.genesis is not None
            from_ms = milliseconds(time) + self.genesis.get("recovery_delay_ms", WEEK_MS)
            account["recovery"] = {**given, "from_ms": from_ms}
        self.accounts[name] = account

    def _open(self, role: str, op: dict[str, Any], op_id: bytes) -> None:
        name = account_id(role, op_id)
        keys = op.get("keys", [])
        custodian = None if keys else op["actor"]
        self.accounts[name] = {
            "id": name,
            "role": role,
            "keys": keys,
            "threshold": op.get("threshold", 1),
            "custodian": custodian,
            "recovery": None,
        }


# Section 9: entries

POSTING = record(
    {"account": check_holder, "amount": integer(-MAX_INTEGER), "asset": ASSET},
    {"lot": check_lot},
)
ENTRY = record(
    {
        "op": check_operation,
        "postings": array(POSTING, 0, MAX_ENTRY_BYTES),
        "prev": text("hash"),
        "seq": integer(0),
        "sigs": SIGNATURES,
        "time": check_time,
    }
)


def check_sums(postings: list[Posting]) -> None:
    sums: dict[str, int] = {}
    for item in postings:
        form(item["amount"] != 0, "a posting of nothing")
        sums[item["asset"]] = sums.get(item["asset"], 0) + item["amount"]
    require(not any(sums.values()), "SUM", str(sums))


# Section 12: verifying


class Verifier:
    """Steps 1 to 10, entry by entry. ``light`` makes steps 8 and 10 for few of them: section 12.2."""

    def __init__(self, *, light: bool = False) -> None:
        self.light = light
        self.size = 0
        self.prev, self.time = "0" * 64, ""
        self.leaves: list[bytes] = []
        self.replica = Replica("")

    @property
    def origin(self) -> str:
        return self.replica.origin

    def add(self, data: bytes) -> None:
        """Check the next entry and take it in; raise :class:`RefusedError`."""
        where = f"entry {self.size}"
        require(len(data) <= MAX_ENTRY_BYTES, "TOO_LARGE", where)
        entry = decode(data)
        ENTRY(entry)
        require(entry["seq"] == self.size, "SEQ", f"{where} says {entry['seq']}")
        require(entry["prev"] == self.prev, "PREV", where)
        require(entry["time"] >= self.time, "TIME", where)
        op, time = entry["op"], entry["time"]
        require((op["kind"] == "genesis") == (self.size == 0), "GENESIS", f"genesis is entry 0, {where}")
        if self.size == 0:
            self.replica.origin = op["ledger"]
        require(op["ledger"] == self.origin, "WRONG_LEDGER", where)
        op_bytes = encode(op)
        op_id = hashlib.sha256(op_bytes).digest()
        require(op_id not in self.replica.op_ids, "REPLAYED", where)
        check_signatures(op_bytes, entry["sigs"])
        check_sums(entry["postings"])
        if not self.light or self._is_of_the_log(op):
            postings = self.replica.decide(op, {item["key"] for item in entry["sigs"]}, time)
            require(entry["postings"] == postings, "POSTINGS", where)
            self.replica.apply(op, op_id, postings, seq=self.size, time=time)
        self.leaves.append(data)
        self.prev, self.time = hashlib.sha256(b"\x00" + data).hexdigest(), time
        self.size += 1

    def _is_of_the_log(self, op: dict[str, Any]) -> bool:
        """Section 12.2: genesis, another log key, or other keys of the operator, whose account is the first."""
        by_operator = bool(self.size) and op.get("actor") == next(iter(self.replica.accounts))
        return op["kind"] in ("genesis", "replace_log_key") or (op["kind"] == "replace_keys" and by_operator)

    def check_checkpoint(self, note: str, known: Sequence[str] = ()) -> None:
        """Steps 11 to 14: the log signed exactly these entries. ``known`` are log keys known from elsewhere."""
        require(self.size > 0, "GENESIS", "an empty chain")
        history = [key for _, key in self.replica.log_keys]
        usable = [key for key in known if key in history]
        require(usable or not known, "LOG_KEY", "not the log that is known")
        in_force = self.replica.log_key_for(self.size)
        (origin, size, stated_root), signers = signed_lines(note, {*known, *history})
        require(in_force in signers, "CHECKPOINT", "not signed by the log key in force")
        require(not known or signers & set(usable), "CHECKPOINT", "not signed by a log key that is known")
        require(origin == self.origin, "CHECKPOINT", "not of this ledger")
        require(size == str(self.size), "SIZE", size)
        require(stated_root == base64.b64encode(tree_hash(self.leaves)).decode(), "ROOT", stated_root)


# Section 10: the tree


def tree_hash(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


# Section 11: the checkpoint


ED25519, COSIGNATURE = 1, 4


def parse_verifier_key(value: str, algorithm: int = ED25519) -> tuple[str, bytes, bytes]:
    match = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)", value)
    form(match, "no verifier key")
    assert match is not None
    blob = _base64(match[3])
    form(len(blob) == 33 and blob[0] == algorithm, "not a key of this use")
    key_id = hashlib.sha256(match[1].encode() + b"\n" + blob).digest()[:4]
    form(key_id.hex() == match[2], "the key id")
    check_public_key(blob[1:])
    return match[1], key_id, blob[1:]


def _base64(value: str) -> bytes:
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError("MALFORMED", "no base64") from error
    form(base64.b64encode(data).decode() == value, "base64 that is not canonical")
    return data


def signed_lines(note: str, known: Collection[str]) -> tuple[list[str], set[str]]:
    """Section 11: origin, size and root of a note as text, and which of the verifier keys one knows signed it."""
    require(not any(ord(c) < 0x20 and c != "\n" for c in note), "CHECKPOINT", "a control character")
    head, separator, tail = note.rpartition("\n\n")
    require(separator and tail.endswith("\n"), "CHECKPOINT", "no signatures")
    body = head + "\n"
    signers: set[str] = set()
    for name, key_id, signature in signature_lines(tail):
        for log_key in set(known) - signers:
            if parse_verifier_key(log_key)[:2] == (name, key_id):
                public = parse_verifier_key(log_key)[2]
                require(is_signature(public, signature, body.encode()), "CHECKPOINT", "a forged signature")
                signers.add(log_key)
    require(signers, "CHECKPOINT", "not signed by a key that is known")
    parts = body.split("\n")
    require(len(parts) == 4 and parts[0] and parts[3] == "", "CHECKPOINT", "not three lines")
    size = re.fullmatch(r"0|[1-9][0-9]*", parts[1], re.ASCII)
    require(size and int(parts[1]) <= MAX_INTEGER, "CHECKPOINT", "not a size")
    require(len(_base64(parts[2])) == 32, "CHECKPOINT", "not a root")
    return parts[:3], signers


def signature_lines(tail: str) -> list[tuple[str, bytes, bytes]]:
    """Name, key id and signature of each line behind the empty one."""
    lines = tail[:-1].split("\n")
    require(len(lines) <= 64, "CHECKPOINT", "more than 64 signatures")
    found = []
    for line in lines:
        match = re.fullmatch(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)", line)
        require(match, "CHECKPOINT", "a line that is no signature")
        assert match is not None
        blob = _base64(match[2])
        require(len(blob) >= 5, "CHECKPOINT", "a short signature")
        found.append((match[1], blob[:4], blob[4:]))
    return found


def verify_ledger(
    entries: Sequence[bytes], checkpoint: str, *, log_keys: Sequence[str] = (), light: bool = False
) -> Replica:
    """Check a whole ledger; raise :class:`RefusedError` naming the first thing that is wrong.

    Who knows log keys from elsewhere gives them, and is then safe from another ledger in this one's place.
    """
    verifier = Verifier(light=light)
    for data in entries:
        verifier.add(data)
    verifier.check_checkpoint(checkpoint, log_keys)
    return verifier.replica


# Section 16: receipts


def verify_receipt(file: str, log_keys: Sequence[str]) -> Any:
    """Check a receipt with the log keys one knows; give its entry, or raise :class:`RefusedError`."""
    require(len(file) <= MAX_RECEIPT_CHARACTERS, "RECEIPT", "too many characters")
    head, _, note = file.partition("\n\n")
    match = re.fullmatch(
        r"c2sp\.org/tlog-proof@v1\nextra (\S+)\nindex (0|[1-9][0-9]*)((?:\n\S+){0,63})", head, re.ASCII
    )
    require(match, "RECEIPT", "not the lines of section 16")
    assert match is not None
    (origin, size, root), signers = signed_lines(note, log_keys)
    require(origin in {parse_verifier_key(key)[0] for key in signers}, "CHECKPOINT", "not of the log of this key")
    data, index = _base64(match[1]), int(match[2])
    require(index < int(size), "RECEIPT", "beyond the checkpoint")
    proof = [_base64(line) for line in match[3].split()]
    require(all(len(value) == 32 for value in proof), "RECEIPT", "not a hash")
    require(root_of(tree_hash([data]), index, int(size), proof) == _base64(root), "ROOT", "another root")
    require(len(data) <= MAX_ENTRY_BYTES, "TOO_LARGE")
    entry = decode(data)
    ENTRY(entry)
    require(entry["seq"] == index and entry["op"]["ledger"] == origin, "RECEIPT", "another entry")
    return entry


def root_of(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that PATH(index, D[size]) of RFC 6962 leads to, read from its end."""
    if size == 1:
        require(not proof, "RECEIPT", "hashes to spare")
        return leaf
    require(proof, "RECEIPT", "hashes are missing")
    split = 1
    while split * 2 < size:
        split *= 2
    *rest, sibling = proof
    if index < split:
        return hashlib.sha256(b"\x01" + root_of(leaf, index, split, rest) + sibling).digest()
    return hashlib.sha256(b"\x01" + sibling + root_of(leaf, index - split, size - split, rest)).digest()


# Section 17: cosignatures


def check_policy(log_keys: Collection[str], witnesses: Collection[str], wanted: int) -> None:
    """Section 17.5: no public key twice, and not more cosignatures wanted than there can be."""
    logs = {parse_verifier_key(key)[2] for key in log_keys}
    publics = [parse_verifier_key(key, COSIGNATURE)[2] for key in witnesses]
    form(len(set(publics)) == len(publics) and not logs & set(publics), "a key twice")
    form(0 <= wanted <= len(publics), "a number of witnesses that cannot be")


def verify_cosigned(
    note: str, log_keys: Collection[str], witnesses: Collection[str], wanted: int
) -> tuple[list[str], list[tuple[str, int]]]:
    """Check a note by k of n witnesses; give its three lines, and which witness cosigned it at which second."""
    check_policy(log_keys, witnesses, wanted)
    lines, signers = signed_lines(note, log_keys)
    require(lines[0] in {parse_verifier_key(key)[0] for key in signers}, "CHECKPOINT", "not of the log of this key")
    text, _, tail = note.rpartition("\n\n")
    found: dict[str, tuple[str, int]] = {}
    for name, key_id, data in signature_lines(tail):
        for witness in witnesses:
            known_name, known_id, public = parse_verifier_key(witness, COSIGNATURE)
            if (name, key_id) == (known_name, known_id) and witness not in found:
                second = int.from_bytes(data[:8], "big")
                message = f"cosignature/v1\ntime {second}\n{text}\n".encode()
                require(len(data) == 72 and second < 2**63, "COSIGNATURE", "not 72 bytes, or too late")
                require(is_signature(public, data[8:], message), "COSIGNATURE", "a forged cosignature")
                found[witness] = (name, second)
    require(len(found) >= wanted, "COSIGNATURE", "too few witnesses")
    return lines, list(found.values())


if __name__ == "__main__":
    light = "--light" in sys.argv
    file, *known = [argument for argument in sys.argv[1:] if argument != "--light"]
    chain = sys.stdin.buffer.read().split(b"\n")[:-1]
    verified = verify_ledger(chain, Path(file).read_text("utf-8"), log_keys=known, light=light)
    print(f"{len(chain)} entries of {verified.origin} are in order")

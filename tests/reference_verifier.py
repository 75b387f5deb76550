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
import copy
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
DAY_MS = 86_400_000
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
    "label": r"[a-z][a-z0-9_]{0,31}",
    "hold": r"hld_[a-z2-7]{26}",
    "agreement": r"[A-Z][A-Z0-9]{1,15}(>[A-Z][A-Z0-9]{1,15}|@(mer|ben)_[a-z2-7]{26}|\+mer_[a-z2-7]{26})",
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
Fields = dict[str, Check]


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
    form(1899 <= int(value[:4]) <= 3300, f"{value} is no last day")
    _check_calendar(value)


def check_holder(value: Any) -> None:
    if value not in ("sys_issued", "sys_spent", "sys_expired", "sys_held"):
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

POINTS, MONEY, SOME_MONEY = integer(1), integer(0), integer(1)
ACCOUNT, ASSET, CURRENCY, REFERENCE = text("account"), text("asset"), text("currency"), text("reference")
THRESHOLD = integer(2, 8)
ROUNDING = one_of("down", "half_up", "half_even", "up")


LABEL, YES = text("label"), one_of(True)
PERIOD = one_of("day", "month", "year", "ever")
CAP = record({"period": PERIOD, "points": POINTS})
DAYS = integer(0, 36_500)

EXPIRIES: dict[str, Fields] = {
    "never": {},
    "days": {"count": DAYS},
    "months": {"count": integer(0, 1_200)},
    "year_end": {"count": integer(0, 100)},
    "months_end": {"count": integer(0, 1_200)},
    "membership_year_end": {"count": integer(0, 100)},
    "inactivity": {"months": integer(1, 1_200)},
}


def check_expiry(value: Any) -> None:
    form(isinstance(value, dict) and isinstance(value.get("after"), str) and value["after"] in EXPIRIES, "an expiry")
    record({"after": whole, **EXPIRIES[value["after"]]})(value)


WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
OF_A_PURCHASE = ("categories", "channels", "first_purchase", "from_amount", "merchants", "products", "tenders")
LABELS = array(LABEL, 1, 64, whole)
WHEN: Fields = {
    **dict.fromkeys(("categories", "channels", "plans", "tenders", "tiers"), LABELS),
    "first_purchase": YES,
    "from_amount": SOME_MONEY,
    "from_day": check_date,
    "invited": YES,
    "merchants": array(ACCOUNT, 1, 64, whole),
    "products": array(REFERENCE, 1, 64, whole),
    "through_day": check_date,
    "weekdays": array(one_of(*WEEKDAYS), 1, 7, whole),
    "within_days": integer(1, 36_500),
}


def check_when(value: Any) -> None:
    record({}, WHEN)(value)
    form(value, "it asks nothing")
    form(value.get("from_day", "") <= value.get("through_day", NEVER), "it ends before it begins")


BAND = record({"from": MONEY, "per": integer(1, 10**12), "points": integer(0, 10**9)})


def check_bands(value: Any) -> None:
    array(BAND, 1, 32)(value)
    form(all(a["from"] < b["from"] for a, b in pairwise(value)), "bands rise")


LIMIT = record({"count": SOME_MONEY, "period": PERIOD})
RATIO = record({"denominator": integer(1, 1_000_000), "numerator": integer(0, 1_000_000)})
TIERS = record(
    {
        "basis": one_of("amount", "points", "status", "visits"),
        "levels": array(record({"from": MONEY, "tier": LABEL}, {"never_expires": YES}), 1, 16, lambda i: i["tier"]),
        "period": one_of("calendar_year", "membership_year", "month"),
    },
    {
        "drop": one_of("one_level"),
        "grace_days": integer(1, 366),
        "kept": integer(1, 120),
        "window": integer(2, 120),
    },
)


def check_tiers(value: Any) -> None:
    TIERS(value)
    form(all(a["from"] < b["from"] for a, b in pairwise(value["levels"])), "tiers rise")
    form(value.get("window", 1) + value.get("kept", 0) + len(value["levels"]) <= 120, "too many periods")


def check_reminders(value: Any) -> None:
    days = array(integer(1, 366), 1, 4, whole)
    record({}, {"balance": one_of("month", "year"), "expiring_days": days, "new_tier": YES})(value)
    form(value, "no reminders")


GRANT_RULE = record({"activity": LABEL, "max_points": MONEY}, {"evidence": YES, "limit": LIMIT, "scored": YES})
REWARD = record(
    {"price": POINTS, "reward": LABEL},
    {"automatic": YES, "limit": LIMIT, "stock": MONEY, "valid_days": DAYS, "when": check_when, "worth": MONEY},
)


def named(name: str, required: Fields, optional: Fields, most: int, *, unique: bool = True) -> Check:
    """An array of parts of a program, each with a name."""
    part = record({name: LABEL, **required}, optional)
    return array(part, 1, most, (lambda item: item[name]) if unique else None)


def check_program(value: Any) -> None:
    whenever: Fields = {"when": check_when}
    record(
        {
            "bands": check_bands,
            "currency": CURRENCY,
            "expiry": check_expiry,
            "round_amount": one_of("none", "whole_units"),
            "round_points": ROUNDING,
            "time_zone": check_zone,
        },
        {
            "approval_above": integer(0),
            "benefits": named("benefit", {}, whenever, 64, unique=False),
            "birthday": record({"activity": LABEL, "points": POINTS}),
            "bonuses": named("bonus", {"points": POINTS}, whenever, 64),
            "earning_cap": CAP,
            "excluded_categories": LABELS,
            "formulas": named("formula", {"bands": check_bands}, {"quantity": LABEL}, 8),
            "grants": array(GRANT_RULE, 1, 64, lambda item: item["activity"]),
            "multipliers": named("multiplier", {"times": RATIO}, whenever, 64),
            "plans": named("plan", {"days": integer(1, 36_500), "price": MONEY}, {}, 8),
            "purchase_within_days": DAYS,
            "referral": record({"points": POINTS}, {"limit": LIMIT}),
            "refunds": one_of("negative", "owe"),
            "reminders": check_reminders,
            "returned_lot_days": integer(1, 365),
            "rewards": array(REWARD, 1, 256, lambda item: item["reward"]),
            "stacking": one_of("product", "sum"),
            "status_asset": ASSET,
            "tiers": check_tiers,
            "vesting_days": integer(1, 36_500),
        },
    )(value)
    form("stacking" not in value or "multipliers" in value, "nothing to stack")
    form(sum("automatic" in reward for reward in value.get("rewards", [])) <= 1, "two automatic rewards")
    form(not any(set(reward.get("when", {})) & {*OF_A_PURCHASE} for reward in value.get("rewards", [])), "no purchase")
    known = {
        "tiers": {level["tier"] for level in value.get("tiers", {"levels": []})["levels"]},
        "plans": {plan["plan"] for plan in value.get("plans", [])},
    }
    for part in ("benefits", "bonuses", "multipliers", "rewards"):
        for when in (each.get("when", {}) for each in value.get(part, [])):
            for name, names in known.items():
                form(set(when.get(name, [])) <= names, f"no such {name}")
    if "birthday" in value:
        rules = {rule["activity"]: rule for rule in value.get("grants", [])}
        rule = rules.get(value["birthday"]["activity"])
        form(rule is not None and not {"evidence", "scored"} & set(rule), "nothing to grant on a birthday")
        form(rule is not None and value["birthday"]["points"] <= rule["max_points"], "too much on a birthday")


FEE: Fields = {"amount": MONEY, "currency": CURRENCY, "points": POINTS, "round": ROUNDING}
FEE_BOUNDS: Fields = {"fixed": SOME_MONEY, "maximum": SOME_MONEY}
CLAIM_TERMS = record({**FEE, "amount": SOME_MONEY, "debtor": ACCOUNT})
RECEIVED = one_of("kept", "retired")
BOUNDS: Fields = {"maximum": POINTS, "minimum": integer(2), "step": integer(2)}
USE_CAPS: Fields = {"holder_cap": CAP, "total_cap": CAP}


def check_bounds(value: Any) -> None:
    form(value.get("minimum", 1) <= value.get("maximum", MAX_INTEGER), "a maximum below the minimum")


def check_transfer_terms(value: Any) -> None:
    record({}, {"fee": record(FEE, FEE_BOUNDS), "in_cap": CAP, "out_cap": CAP, **BOUNDS})(value)
    form(value, "no terms")
    check_bounds(value)


TERMS: dict[str, tuple[Fields, Fields]] = {
    "exchange": (
        {
            "asset": ASSET,
            "into": ASSET,
            "rate": record({"get": POINTS, "give": POINTS}),
            "received": RECEIVED,
        },
        {
            "bonus": record({"block": POINTS, "points": POINTS}),
            "claim": CLAIM_TERMS,
            "fee": record({**FEE, "kept_by": ACCOUNT}, FEE_BOUNDS),
            "off_step": one_of("down"),
            **BOUNDS,
            **USE_CAPS,
        },
    ),
    "acceptance": ({"asset": ASSET, "received": RECEIVED}, {"claim": CLAIM_TERMS, **BOUNDS, **USE_CAPS}),
    "earning": (
        {"asset": ASSET, "billing": one_of("postpaid", "prepaid")},
        {"alert_below": POINTS, "claim": CLAIM_TERMS, "total_cap": CAP},
    ),
}


def check_terms(value: Any) -> None:
    form(isinstance(value, dict) and isinstance(value.get("type"), str) and value["type"] in TERMS, "terms of no type")
    required, optional = TERMS[value["type"]]
    record({"type": whole, **required}, optional)(value)
    check_bounds(value)
    form(value["asset"] != value.get("into"), "an exchange of nothing")
    form("off_step" not in value or "step" in value, "off_step without a step")
    if value["type"] == "earning":
        form(value["billing"] == "prepaid" or "claim" in value, "postpaid, for nothing")
        form(value["billing"] == "prepaid" or "alert_below" not in value, "an alert of no allotment")


REFUNDED_LINES = array(record({"amount": SOME_MONEY, "line": integer(0, 99)}), 1, 100, lambda item: item["line"])
REFUNDED: dict[str, Fields] = {
    "purchase": {"amount": SOME_MONEY, "order": REFERENCE},
    "redemption": {"amount": POINTS, "operation": text("hash")},
    "exchange": {"amount": POINTS, "operation": text("hash")},
}


def check_refunded(value: Any) -> None:
    form(isinstance(value, dict) and isinstance(value.get("type"), str) and value["type"] in REFUNDED, "of no type")
    lines = {"lines": REFUNDED_LINES} if value["type"] == "purchase" else {}
    record({"type": whole, **REFUNDED[value["type"]]}, lines)(value)
    form("lines" not in value or sum(line["amount"] for line in value["lines"]) == value["amount"], "lines add up")


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


PURCHASE_FORM = record(
    {"amount": MONEY, "at": check_time, "member": ACCOUNT, "order": REFERENCE},
    {
        "channel": LABEL,
        "lines": array(record({"amount": MONEY}, {"category": LABEL, "product": REFERENCE}), 1, 100),
        "quantities": array(record({"name": LABEL, "quantity": MONEY}), 1, 8, lambda item: item["name"]),
        "tender": LABEL,
    },
)


def check_purchase(value: Any) -> None:
    PURCHASE_FORM(value)
    form("lines" not in value or sum(line["amount"] for line in value["lines"]) == value["amount"], "lines add up")


RECIPIENT = record({"amount": POINTS, "to": ACCOUNT})
PAYMENT = record({"amount": SOME_MONEY, "creditor": ACCOUNT, "debtor": ACCOUNT})
CLAIM = record({"index": integer(0, 100), "seq": integer(0)})
KEY_FIELDS: Fields = {"approval_threshold": THRESHOLD, "threshold": THRESHOLD}

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
        {"actor": ACCOUNT, "keys": KEYS, "name": check_name, **KEY_FIELDS},
    ),
    "define_asset": (
        {"actor": ACCOUNT, "asset": ASSET, "name": check_name, "scale": integer(0, 6), "transferable": boolean},
        {
            "supply_cap": POINTS,
            "transfer_terms": check_transfer_terms,
            "value": record({"amount": MONEY, "currency": CURRENCY, "points": POINTS}),
        },
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
            "purchases": array(check_purchase, 1, 1_000, lambda purchase: purchase["order"]),
        },
        {},
    ),
    "grant": (
        {
            "activity": LABEL,
            "actor": ACCOUNT,
            "asset": ASSET,
            "member": ACCOUNT,
            "reference": REFERENCE,
        },
        {"amount": POINTS, "evidence": text("hash"), "score": integer(0, 10)},
    ),
    "correct": (
        {
            "actor": ACCOUNT,
            "amount": integer(-MAX_INTEGER),
            "asset": ASSET,
            "member": ACCOUNT,
            "reason": one_of("error", "fraud", "goodwill", "system", "other"),
            "reference": REFERENCE,
        },
        {},
    ),
    "transfer": (
        {"actor": ACCOUNT, "asset": ASSET, "recipients": array(RECIPIENT, 1, 100, lambda item: item["to"])},
        {"maximum_fee": SOME_MONEY},
    ),
    "redeem": (
        {"actor": ACCOUNT, "amount": POINTS, "asset": ASSET, "merchant": ACCOUNT},
        {"from_pool": YES, "reference": REFERENCE, "reward": LABEL},
    ),
    "exchange": (
        {"actor": ACCOUNT, "amount": POINTS, "asset": ASSET, "into": ASSET, "minimum_out": POINTS},
        {"maximum_fee": SOME_MONEY},
    ),
    "hold": (
        {"actor": ACCOUNT, "amount": POINTS, "asset": ASSET, "merchant": ACCOUNT, "until": check_time},
        {"reference": REFERENCE},
    ),
    "capture": (
        {"actor": ACCOUNT, "amount": POINTS, "hold": text("hold")},
        {"final": one_of(True), "reference": REFERENCE},
    ),
    "release": ({"actor": ACCOUNT, "hold": text("hold")}, {}),
    "refund": ({"actor": ACCOUNT, "asset": ASSET, "of": check_refunded, "reference": REFERENCE}, {}),
    "expire": ({"actor": ACCOUNT, "asset": ASSET, "limit": integer(1, 400), "through": check_date}, {}),
    "enroll": ({"actor": ACCOUNT, "asset": ASSET}, {"formula": LABEL, "invited_by": ACCOUNT}),
    "vest": (
        {
            "actor": ACCOUNT,
            "asset": ASSET,
            "purchases": array(
                record({"merchant": ACCOUNT, "order": REFERENCE}),
                1,
                200,
                lambda item: (item["merchant"], item["order"]),
            ),
        },
        {},
    ),
    "review_tiers": ({"actor": ACCOUNT, "asset": ASSET, "members": array(ACCOUNT, 1, 400, whole)}, {}),
    "start_plan": (
        {"actor": ACCOUNT, "asset": ASSET, "member": ACCOUNT, "plan": LABEL, "reference": REFERENCE},
        {},
    ),
    "end_plan": (
        {"actor": ACCOUNT, "asset": ASSET, "member": ACCOUNT, "reason": one_of("refunded", "other")},
        {},
    ),
    "form_pool": ({"actor": ACCOUNT, "asset": ASSET, "members": array(ACCOUNT, 1, 7, whole)}, {}),
    "leave_pool": ({"actor": ACCOUNT, "asset": ASSET}, {}),
    "use_voucher": (
        {"actor": ACCOUNT, "voucher": record({"index": integer(0, 100_000), "seq": integer(0)})},
        {"reference": REFERENCE},
    ),
    "remind": (
        {
            "about": one_of("balance", "expiry", "tier"),
            "actor": ACCOUNT,
            "asset": ASSET,
            "members": array(ACCOUNT, 1, 400, whole),
        },
        {},
    ),
    "agree": (
        {
            "actor": ACCOUNT,
            "notice_days": integer(0, 3_650),
            "partner": ACCOUNT,
            "starts": check_time,
            "terms": check_terms,
            "version": integer(1, 1_000_000),
        },
        {"ends": check_time},
    ),
    "end_agreement": ({"actor": ACCOUNT, "agreement": text("agreement"), "ends": check_time}, {}),
    "allot": ({"actor": ACCOUNT, "asset": ASSET, "partner": ACCOUNT, "points": POINTS, "reference": REFERENCE}, {}),
    "net": (
        {
            "actor": ACCOUNT,
            "currency": CURRENCY,
            "merchants": array(ACCOUNT, 2, 100, whole),
            "payments": array(PAYMENT, 0, 99, lambda payment: (payment["debtor"], payment["creditor"])),
            "through": check_date,
        },
        {},
    ),
    "settle": (
        {
            "actor": ACCOUNT,
            "amount": SOME_MONEY,
            "currency": CURRENCY,
            "debtor": ACCOUNT,
            "payment": REFERENCE,
        },
        {},
    ),
    "dispute": (
        {"actor": ACCOUNT, "claim": CLAIM, "reason": one_of("amount", "duplicate", "not_ours", "other")},
        {},
    ),
    "resolve_dispute": ({"actor": ACCOUNT, "claim": CLAIM, "outcome": one_of("cancelled", "stands")}, {}),
    "freeze": (
        {
            "account": ACCOUNT,
            "actor": ACCOUNT,
            "reason": one_of("court_order", "dispute", "fraud", "lost_keys", "stolen_points", "other"),
        },
        {},
    ),
    "unfreeze": (
        {"account": ACCOUNT, "actor": ACCOUNT, "reason": one_of("mistake", "resolved", "other")},
        {},
    ),
    "replace_keys": ({"actor": ACCOUNT, "keys": KEYS}, KEY_FIELDS),
    "recover_keys": ({"account": ACCOUNT, "actor": ACCOUNT, "keys": KEYS}, KEY_FIELDS),
    "cancel_recovery": ({"account": ACCOUNT, "actor": ACCOUNT}, {}),
    "replace_log_key": ({"actor": ACCOUNT, "log_key": check_log_key}, {}),
}


def check_operation(op: Any) -> None:
    """Section 5: whether a document is well formed."""
    form(isinstance(op, dict) and isinstance(op.get("kind"), str) and op["kind"] in KINDS, "no such kind")
    required, optional = KINDS[op["kind"]]
    record({**COMMON, **required}, {"expires": check_time, **optional})(op)
    form(op.get("threshold", 1) <= max(len(op.get("keys", [])), 1), "a threshold above the number of keys")
    if "approval_threshold" in op:
        form(op["approval_threshold"] <= len(op.get("keys", [])), "an approval threshold above the number of keys")
        form(op["approval_threshold"] > op.get("threshold", 1), "an approval threshold that is no more than the other")
    further = FURTHER_FORMS.get(op["kind"])
    if further:
        further(op)


def _check_opening(op: Any) -> None:
    if op["role"] == "member":
        form("name" not in op, "a member has no name")
        form("keys" in op or "actor" in op, "a member has a key or a custodian")
    else:
        form("name" in op and "keys" in op and "actor" in op, "an organisation has a name, keys and a sponsor")


def _check_definition(op: Any) -> None:
    form("transfer_terms" not in op or op["transferable"], "terms of transfers that cannot be")


def _check_period(op: Any) -> None:
    form("ends" not in op or op["starts"] < op["ends"], "ends after starts")


def _check_publishing(op: Any) -> None:
    _check_period(op)
    form(op["program"].get("status_asset") != op["asset"], "base points are its own")


def _check_transfer(op: Any) -> None:
    form(all(item["to"] != op["actor"] for item in op["recipients"]), "a transfer to oneself")
    form(sum(item["amount"] for item in op["recipients"]) <= MAX_INTEGER, "a sum beyond 2^53-1")


def _check_agreement(op: Any) -> None:
    _check_period(op)
    parties, terms = {op["actor"], op["partner"]}, op["terms"]
    form(len(parties) == 2, "an agreement with oneself")
    form("claim" not in terms or terms["claim"]["debtor"] in parties, "a debtor that is no party")
    once_paid = terms.get("received") != "kept" and terms.get("billing") != "postpaid"
    form(once_paid or "claim" not in terms or terms["claim"]["debtor"] == op["partner"], "an issuer that pays again")
    form("fee" not in terms or terms["fee"]["kept_by"] in parties, "a fee for no party")


def _check_netting(op: Any) -> None:
    for payment in op["payments"]:
        form({payment["debtor"], payment["creditor"]} <= set(op["merchants"]), "a payment of others")
        form(payment["debtor"] != payment["creditor"], "a payment to oneself")


FURTHER_FORMS: dict[str, Check] = {
    "open_account": _check_opening,
    "define_asset": _check_definition,
    "publish_program": _check_publishing,
    "enroll": lambda op: form(op.get("invited_by") != op["actor"], "nobody invites itself"),
    "form_pool": lambda op: form(op["actor"] not in op["members"], "the same twice"),
    "correct": lambda op: form(op["amount"] != 0, "a correction of nothing"),
    "transfer": _check_transfer,
    "exchange": lambda op: form(op["asset"] != op["into"], "an exchange of nothing"),
    "agree": _check_agreement,
    "allot": lambda op: form(op["actor"] != op["partner"], "an allotment to oneself"),
    "net": _check_netting,
    "settle": lambda op: form(op["actor"] != op["debtor"], "a payment to oneself"),
}

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
    return f"{PREFIXES[role]}_{_short_id(op_id)}"


def hold_id(op_id: bytes) -> str:
    return f"hld_{_short_id(op_id)}"


def pool_id(op_id: bytes) -> str:
    return f"pol_{_short_id(op_id)}"


def _short_id(op_id: bytes) -> str:
    return base64.b32encode(op_id[:16]).decode().rstrip("=").lower()


# Section 8: programs


SPECIAL = {"bonuses", "earning_cap", "excluded_categories", "formulas", "multipliers", "plans", "referral"}
SPECIAL |= {"status_asset", "tiers", "vesting_days"}


def is_special(program: dict[str, Any]) -> bool:
    """Section 8.19: whether a program asks and leaves more than an amount and points."""
    automatic = any("automatic" in reward for reward in program.get("rewards", []))
    return (
        bool(SPECIAL & set(program)) or automatic or program["expiry"]["after"] in ("membership_year_end", "inactivity")
    )


def banded(bands: list[dict[str, Any]], amount: int) -> Fraction:
    total = Fraction(0)
    for i, band in enumerate(bands):
        top = min(amount, bands[i + 1]["from"]) if i + 1 < len(bands) else amount
        total += max(top - band["from"], 0) * Fraction(band["points"], band["per"])
    return total


Line = tuple[int, str | None, str | None]
"""What is left of a line in minor units, its category, its product."""


class Bought:
    """Section 8.20: a purchase as it was recorded, and what of each line is left of it."""

    def __init__(self, purchase: dict[str, Any], merchant: str, earned_on: str) -> None:
        self.merchant, self.earned_on = merchant, earned_on
        self.lines = purchase.get("lines") or [{"amount": purchase["amount"]}]
        self.left = [line["amount"] for line in self.lines]
        self.quantities = {item["name"]: item["quantity"] for item in purchase.get("quantities", [])}
        self.tender, self.channel = purchase.get("tender"), purchase.get("channel")
        self.tier: str | None = None
        self.plan: str | None = None
        self.formula: str | None = None
        self.joined_on: str | None = None
        self.first = self.invited = self.refunded = False
        self.room: int | None = None

    def eligible(self, program: dict[str, Any]) -> list[Line]:
        excluded = program.get("excluded_categories", [])
        return [
            (left, line.get("category"), line.get("product"))
            for left, line in zip(self.left, self.lines, strict=True)
            if line.get("category") not in excluded
        ]

    def after(self, refunded: list[int]) -> "Bought":
        """The same purchase with so much less of each line."""
        less = copy.copy(self)
        less.left = [left - back for left, back in zip(self.left, refunded, strict=True)]
        less.refunded = True
        return less


def holds(when: dict[str, Any], bought: Bought, line: Line, earns: int) -> bool:
    """Section 8.20: whether what a part asks is so, for one line of a purchase of which so much earns."""
    day = bought.earned_on
    asked = {"tiers": bought.tier, "plans": bought.plan, "tenders": bought.tender, "channels": bought.channel}
    asked |= {"merchants": bought.merchant, "weekdays": WEEKDAYS[date.fromisoformat(day).weekday()]}
    asked |= {"categories": line[1], "products": line[2]}
    if any(name in when and value not in when[name] for name, value in asked.items()):
        return False
    since = -1 if bought.joined_on is None else days_between(bought.joined_on, day)
    if "within_days" in when and not 0 <= since < when["within_days"]:
        return False
    in_time = when.get("from_day", "") <= day <= when.get("through_day", NEVER)
    first, invited = bought.first or "first_purchase" not in when, bought.invited or "invited" not in when
    return in_time and first and invited and earns >= when.get("from_amount", 0)


def calculate(program: dict[str, Any], bought: Bought, unit: int) -> tuple[int, int, int]:
    """Section 8.2: points, status points, and how much of the amount earns."""
    if bought.refunded and sum(bought.left) == 0:
        return 0, 0, 0
    eligible = bought.eligible(program)
    earns = sum(left for left, _, _ in eligible)
    formula = next((each for each in program.get("formulas", []) if each["formula"] == bought.formula), None)
    quantity = None if formula is None or "quantity" not in formula else bought.quantities.get(formula["quantity"], 0)
    if quantity is None:
        counted = earns // unit * unit if program["round_amount"] == "whole_units" else earns
        base = banded((formula or program)["bands"], counted)
    else:
        assert formula is not None
        base = banded(formula["bands"], quantity)
        excluded = program.get("excluded_categories", [])
        originally = sum(line["amount"] for line in bought.lines if line.get("category") not in excluded)
        if originally:
            base = base * earns / originally
        elif quantity:
            eligible = [(1, None, None)]
    whole_weight = sum(left for left, _, _ in eligible)
    exact = Fraction(0)
    for line in eligible:
        factors = [
            Fraction(each["times"]["numerator"], each["times"]["denominator"])
            for each in program.get("multipliers", [])
            if holds(each.get("when", {}), bought, line, earns)
        ]
        if line[0]:
            exact += base * line[0] / whole_weight * stacked(factors, program.get("stacking"))
    points = rounded(exact, program["round_points"])
    for bonus in program.get("bonuses", []):
        if any(line[0] and holds(bonus.get("when", {}), bought, line, earns) for line in eligible):
            points += bonus["points"]
    if bought.room is not None:
        points = min(points, bought.room)
    counts = "status_asset" in program or program.get("tiers", {}).get("basis") == "status"
    return points, rounded(base, program["round_points"]) if counts else 0, earns


def stacked(factors: list[Fraction], stacking: str | None) -> Fraction:
    if not factors:
        return Fraction(1)
    if stacking == "sum":
        return max(Fraction(0), 1 + sum((factor - 1 for factor in factors), Fraction(0)))
    if stacking == "product":
        product = Fraction(1)
        for factor in factors:
            product *= factor
        return product
    return max(factors)


def points_of(program: dict[str, Any], amount: int, unit: int) -> int:
    """Points of a purchase of which nothing is known but the amount."""
    return calculate(program, Bought({"amount": amount}, "", "2026-01-01"), unit)[0]


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


def days_between(first: str, last: str) -> int:
    return (date.fromisoformat(last) - date.fromisoformat(first)).days


def days_after(day: str, count: int) -> str:
    return (date.fromisoformat(day) + timedelta(days=count)).isoformat()


def months_after(day: date, count: int) -> date:
    months = day.year * 12 + day.month - 1 + count
    year, month = months // 12, months % 12 + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def last_day(expiry: dict[str, Any], earned_on: str, joined_on: str | None = None) -> str | None:
    day = date.fromisoformat(earned_on)
    after = expiry["after"]
    if after == "never":
        return None
    if after == "inactivity":
        return months_after(day, expiry["months"]).isoformat()
    count = expiry["count"]
    if after == "days":
        return (day + timedelta(days=count)).isoformat()
    if after == "year_end":
        return f"{day.year + count}-12-31"
    if after == "months_end":
        end = months_after(day.replace(day=1), count)
        return end.replace(day=calendar.monthrange(end.year, end.month)[1]).isoformat()
    if after == "membership_year_end":
        years = Years("membership_year", joined_on or earned_on)
        return days_after(years.first_day(years.number(earned_on) + 1 + count).isoformat(), -1)
    return months_after(day, count).isoformat()


# Section 8.21: standing


class Years:
    """The periods of tiers, each with a number that is one more than that of the period before."""

    def __init__(self, period: str, joined_on: str) -> None:
        self.period, self.joined_on = period, date.fromisoformat(joined_on)

    def first_day(self, number: int) -> date:
        if self.period == "calendar_year":
            return date(number, 1, 1)
        if self.period == "month":
            return date(number // 12, number % 12 + 1, 1)
        return months_after(self.joined_on, 12 * number)

    def number(self, day: str) -> int:
        at = date.fromisoformat(day)
        if self.period == "calendar_year":
            return at.year
        if self.period == "month":
            return at.year * 12 + at.month - 1
        years = at.year - self.joined_on.year
        return years if self.first_day(years) <= at else years - 1

    def name(self, number: int) -> str:
        length = {"calendar_year": 4, "month": 7, "membership_year": 10}[self.period]
        return self.first_day(number).isoformat()[:length]


class Tiers:
    """Where a member stands, by what it did in each period: the number of a level, or -1 below them all."""

    def __init__(self, tiers: dict[str, Any], counts: dict[str, int], joined_on: str) -> None:
        self.tiers, self.counts = tiers, counts
        self.years = Years(tiers["period"], joined_on)
        self.levels = tiers["levels"]

    def _reached(self, number: int) -> int:
        window = range(number, number - self.tiers.get("window", 1), -1)
        done = sum(self.counts.get(self.years.name(each), 0) for each in window)
        return max((i for i, level in enumerate(self.levels) if level["from"] <= done), default=-1)

    def _of_period(self, number: int) -> int:
        kept = self.tiers.get("kept", 0)
        best = max(self._reached(number - i) for i in range(kept + 1))
        if "drop" in self.tiers:
            for less in range(1, len(self.levels)):
                best = max(best, self._reached(number - kept - less) - less)
        return best

    def at(self, day: str) -> int:
        since = self.years.number(days_after(day, -self.tiers.get("grace_days", 0)))
        return max(self._of_period(number) for number in range(since, self.years.number(day) + 1))

    def name_at(self, day: str) -> str | None:
        at = self.at(day)
        return None if at < 0 else self.levels[at]["tier"]

    def until(self, day: str) -> str:
        """The last day through which it stays no lower, when nothing more is done; NEVER for ever."""
        here, number = self.at(day), self.years.number(day)
        for later in range(number - 13, number + 122):
            first = self.years.first_day(later) + timedelta(days=self.tiers.get("grace_days", 0))
            if first.isoformat() > day and self.at(first.isoformat()) < here:
                return days_after(first.isoformat(), -1)
        return NEVER


def period_of(period: str, day: str) -> str:
    return {"day": day, "month": day[:7], "year": day[:4], "ever": "ever"}[period]


def milliseconds(time: str) -> int:
    span = datetime.fromisoformat(time) - datetime.fromisoformat("1970-01-01T00:00:00.000Z")
    return span // timedelta(milliseconds=1)


# Sections 8.10 to 8.13: agreements


def fee_of(fee: dict[str, Any], points: int) -> int:
    if points == 0:
        return 0
    amount: int = fee.get("fixed", 0) + rounded(Fraction(points * fee["amount"], fee["points"]), fee["round"])
    return min(amount, int(fee.get("maximum", amount)))


def claim_of(claim: dict[str, Any] | None, points: int) -> int:
    return 0 if claim is None else rounded(Fraction(points * claim["amount"], claim["points"]), claim["round"])


def outcome(terms: dict[str, Any], given: int) -> int:
    bonus = terms.get("bonus", {"block": 1, "points": 0})
    out: int = given * terms["rate"]["get"] // terms["rate"]["give"] + given // bonus["block"] * bonus["points"]
    return out


def best_rate(terms: dict[str, Any]) -> Fraction:
    bonus = terms.get("bonus", {"block": 1, "points": 0})
    return Fraction(terms["rate"]["get"], terms["rate"]["give"]) + Fraction(bonus["points"], bonus["block"])


def agreement_name(terms: dict[str, Any], partner: str) -> str:
    others = {"exchange": f">{terms.get('into')}", "acceptance": f"@{partner}", "earning": f"+{partner}"}
    return f"{terms['asset']}{others[terms['type']]}"


def in_force(versions: Sequence[dict[str, Any]], time: str) -> dict[str, Any] | None:
    started = [version for version in versions if version["starts"] <= time]
    return started[-1] if started and time < started[-1].get("ends", NEVER) else None


def pays_in_a_loop(versions: Sequence[dict[str, Any]], asset: str, into: str) -> bool:
    """Whether some way of exchanges from an asset into another, and round to it again, gives more than it takes."""
    rates = {(v["terms"]["asset"], v["terms"]["into"]): best_rate(v["terms"]) for v in versions}

    def best(at: str, product: Fraction, visited: set[str]) -> bool:
        if at == asset:
            return product > 1
        ways = [(there, rate) for (here, there), rate in rates.items() if here == at and there not in visited]
        return any(best(there, product * rate, {*visited, there}) for there, rate in ways)

    return best(into, rates[asset, into], {into})


# Sections 6 and 7: rules

Posting = dict[str, Any]
Parts = list[tuple[str | None, int]]
"""Points of lots by their last day, or none."""

Obligation = tuple[str, str, str, int, str]
"""Currency, debtor, creditor, the netting that made it or -1, day."""

HOLDERS = {"member", "merchant", "beneficiary"}


def never_expires(program: dict[str, Any], tier: str | None) -> bool:
    levels = program.get("tiers", {"levels": []})["levels"]
    return any("never_expires" in level for level in levels if level["tier"] == tier)


def active_plan(joined: dict[str, Any], day: str) -> str | None:
    """The plan a member has on a day."""
    plan: str | None = joined["plan"]
    return plan if plan is not None and joined["plan_from"] <= day <= joined["plan_until"] else None


def leg(account: str, asset: str, amount: int, lot: str | None = None) -> Posting:
    posting = {"account": account, "amount": amount, "asset": asset}
    return posting if lot is None else {**posting, "lot": lot}


def place_of(posting: Posting) -> tuple[str, str, str]:
    return posting["account"], posting["asset"], posting.get("lot", NEVER)


def legs_of(account: str, asset: str, parts: Parts, sign: int = 1) -> list[Posting]:
    return [leg(account, asset, sign * points, lot) for lot, points in parts]


def total_of(parts: Parts) -> int:
    return sum(points for _, points in parts)


def first_of(parts: Parts, amount: int) -> tuple[Parts, Parts]:
    """The first so many points of parts, and the rest of them."""
    taken: Parts = []
    rest: Parts = []
    for lot, points in parts:
        here = min(points, amount)
        amount -= here
        taken += [(lot, here)] if here else []
        rest += [(lot, points - here)] if points > here else []
    return taken, rest


class Draft:
    """What an operation makes of lots and of what members did, as far as it is decided."""

    def __init__(self, lots: dict[tuple[str, str, str], int], kept: dict[str, dict[Any, Any]]) -> None:
        self.lots = dict(lots)
        self.kept = {name: {key: copy.copy(value) for key, value in each.items()} for name, each in kept.items()}
        self.given = 0  # vouchers

    def post(self, legs: list[Posting], *new: Posting) -> None:
        """Add legs to others."""
        for item in new:
            legs.append(item)
            self.lots[place_of(item)] = self.lots.get(place_of(item), 0) + item["amount"]

    def lots_of(self, account: str, asset: str) -> dict[str, int]:
        return {lot: points for (a, b, lot), points in self.lots.items() if (a, b) == (account, asset) and points}


KEPT = ("members", "progress", "pending", "vouchers", "pools", "used", "invitations", "reminded")
"""What section 6.1 says of memberships and what follows from them, in this order."""


class Replica:
    """The state an entry meets, and what each kind of operation does to it.

    What an operation does beside its postings is collected while it is decided, and done when it is applied.
    """

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
        self.purchases: dict[tuple[str, str], dict[str, Any]] = {}
        self.agreements: dict[str, list[dict[str, Any]]] = {}
        self.allotted: dict[str, int] = {}  # what is left
        self.bought: dict[str, int] = {}
        self.kept: dict[str, dict[Any, Any]] = {name: {} for name in KEPT}
        self.holds: dict[str, dict[str, Any]] = {}
        self.spendings: dict[str, dict[str, Any]] = {}
        self.claims: dict[tuple[int, int], dict[str, Any]] = {}
        self.obligations: dict[Obligation, int] = {}
        self._signers: set[str] = set()
        self._new_claims: list[dict[str, Any]] = []
        self._changes: list[Callable[[int], None]] = []
        self._draft = Draft({}, self.kept)

    # Section 6.1
    def account_at(self, account: str, time: str) -> dict[str, Any]:
        """An account as it is at a time: with the keys of its recovery once that is in effect."""
        found = self.accounts[account]
        recovery = found["recovery"]
        if recovery is None or milliseconds(time) < recovery["from_ms"]:
            return found
        return {**found, **recovery, "custodian": None, "recovery": None}

    def authority_of(self, account: str, time: str) -> dict[str, Any]:
        """The account whose keys act for an account at a time: itself, or its custodian."""
        found = self.account_at(account, time)
        return found if found["keys"] else self.account_at(found["custodian"], time)

    def acting_for(self, account: str, time: str) -> tuple[list[str], int]:
        """The keys that act for an account at a time, and how many of them must sign."""
        found = self.authority_of(account, time)
        return found["keys"], found["threshold"]

    def log_key_for(self, size: int) -> str:
        """The log key in force for a checkpoint of a size: the last whose sequence number is below it."""
        return [key for seq, key in self.log_keys if seq < size][-1]

    def decide(self, op: dict[str, Any], signers: set[str], time: str) -> list[Posting]:
        """Section 6.2: the postings of an operation recorded at a time, or the first refusal that applies."""
        self._signers, self._new_claims, self._changes = signers, [], []
        self._draft = Draft(self.lots, self.kept)
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
        for party in self._parties(op):
            require(party in self.accounts, "UNKNOWN_ACCOUNT", party)
        self._check_authority(op, signers, time)
        for party in self._parties(op):
            require(not self.accounts[party]["frozen"], "ACCOUNT_FROZEN", party)
            require(not self.authority_of(party, time)["frozen"], "ACCOUNT_FROZEN", party)
        if op["kind"] in ("publish_program", "agree") or (op["kind"] == "replace_keys" and actor and actor["keys"]):
            for party in self._parties(op):
                self._check_approval(party, time)
        decide: Callable[..., list[Posting]] = getattr(self, f"_decide_{op['kind']}")
        postings = decide(op, actor, time)
        for claim in self._new_claims:
            postings.append(leg(claim["debtor"], claim["currency"], -claim["amount"]))
            postings.append(leg(claim["creditor"], claim["currency"], claim["amount"]))
        self._check_amounts(postings, time)
        after = {place_of(item): self.lots.get(place_of(item), 0) for item in postings}
        for item in postings:
            after[place_of(item)] += item["amount"]
        require(all(abs(points) <= MAX_INTEGER for points in after.values()), "POINTS_OVERFLOW")
        return postings

    def _parties(self, op: dict[str, Any]) -> list[str]:
        """Who acts: the actor, in `agree` and `allot` the partner, in `form_pool` all members."""
        return [op[field] for field in ("actor", "partner") if field in op] + self._pooled(op)

    @staticmethod
    def _pooled(op: dict[str, Any]) -> list[str]:
        return list(op["members"]) if op["kind"] == "form_pool" else []

    def _check_at(self, at: str, time: str, genesis: dict[str, Any] | None) -> None:
        assert genesis is not None
        require(milliseconds(at) - milliseconds(time) <= genesis["clock_tolerance_ms"], "AT_IN_FUTURE")

    def _check_authority(self, op: dict[str, Any], signers: set[str], time: str) -> None:
        allowed: set[str] = set()
        for party in self._parties(op):
            keys, threshold = self.acting_for(party, time)
            allowed |= set(keys)
            require(len(signers & set(keys)) >= threshold, "SIGNATURE_MISSING", party)
        if op["kind"] in ("open_account", "replace_keys", "recover_keys"):
            new = set(op.get("keys", []))
            had = set(self.account_at(op["actor"], time)["keys"]) if op["kind"] == "replace_keys" else set()
            require(new - had <= signers, "SIGNATURE_MISSING")
            allowed |= new
        require(signers <= allowed, "SIGNATURE_UNEXPECTED")

    def _check_approval(self, party: str, time: str) -> None:
        authority = self.authority_of(party, time)
        require(len(self._signers & set(authority["keys"])) >= authority["approvals"], "APPROVAL_MISSING", party)

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
        self._check_currency(op.get("value"))
        self._check_currency(op.get("transfer_terms", {}).get("fee"))
        return []

    # Section 7.4
    def _decide_publish_program(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        self._check_issuer(op, actor)
        if "status_asset" in op["program"]:
            self._check_issuer({"asset": op["program"]["status_asset"]}, actor)
        self._check_currency(op["program"])
        worth = "value" in self.assets[op["asset"]]
        require(op["program"].get("refunds") != "owe" or worth, "VALUE_MISSING")
        versions = self.programs.get(op["asset"], [])
        require(op["version"] == len(versions) + 1, "VERSION_CONFLICT")
        if versions:
            require(op["program"]["currency"] == versions[0]["program"]["currency"], "CURRENCY_MISMATCH")
            require(op["program"]["time_zone"] == versions[0]["program"]["time_zone"], "TIME_ZONE_MISMATCH")
            self._check_start(op["starts"], time)
        return []

    # Section 7.5
    def _decide_record_purchases(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        partner = self._check_may_issue(op, time)
        versions = self.programs.get(op["asset"], [])
        require(versions, "PROGRAM_MISSING")
        require(op["currency"] == versions[0]["program"]["currency"], "CURRENCY_MISMATCH")
        legs: list[Posting] = []
        promised = issued = 0
        statuses: dict[str, list[Posting]] = {}
        gained: list[str] = []
        for purchase in op["purchases"]:
            self._check_member(purchase["member"])
            self._check_at(purchase["at"], time, self.genesis)
            require((op["actor"], "order", purchase["order"]) not in self.references, "ORDER_EXISTS")
            program = self._program_at(op["asset"], purchase["at"])
            bought = Bought(purchase, op["actor"], local_date(purchase["at"], program["time_zone"]))
            past = days_between(bought.earned_on, self._today(op["asset"], time))
            require(past <= program.get("purchase_within_days", past), "PURCHASE_TOO_OLD")
            original = self._bought(op, purchase, program, bought, time)
            claim = partner["terms"]["claim"] if partner and partner["terms"]["billing"] == "postpaid" else None
            owed = claim_of(claim, promised + original["points"]) - claim_of(claim, promised)
            original |= {"owed": owed, "partner": partner}
            promised += original["points"]
            pending = "vesting_days" in program
            for account, points in original["promises"]:
                self._draft.post(legs, *self._redated(account, op["asset"], bought.earned_on, time))
                if not pending:
                    issued += points
                    gained.append(account)
                    self._draft.post(
                        legs, *self._repaying(op["asset"], [leg(account, op["asset"], points, original["lot"])])
                    )
            if original["status"]:
                asset, member = program["status_asset"], purchase["member"]
                more = statuses.setdefault(asset, [])
                self._draft.post(more, *self._redated(member, asset, bought.earned_on, time))
                if not pending:
                    given = leg(member, asset, original["status"], self._lot_then(asset, member, purchase["at"]))
                    self._draft.post(more, *self._repaying(asset, [given]))
        return self._given(op["asset"], legs, issued, statuses, gained, (partner, promised), time)

    def _bought(
        self, op: dict[str, Any], purchase: dict[str, Any], program: dict[str, Any], bought: Bought, time: str
    ) -> dict[str, Any]:
        """Sections 8.19 to 8.22: what one purchase gives, which is noted."""
        asset, member, order = op["asset"], purchase["member"], purchase["order"]
        unit = self._units()[op["currency"]]
        expiry = program["expiry"]
        original: dict[str, Any] = {"program": program, "bought": bought, "asset": asset, "member": member}
        if not is_special(program):
            points, status, counted = calculate(program, bought, unit)
            lot, promises = last_day(expiry, bought.earned_on), [(member, points)]
        else:
            joined = self._join(asset, member, bought.earned_on)
            bought.joined_on, bought.first = joined["joined_on"], joined["purchases"] == 0
            bought.invited, bought.formula = joined["invited_by"] is not None, joined["formula"]
            bought.plan = active_plan(joined, bought.earned_on)
            bought.tier = self._tier(program, asset, member, bought.earned_on)
            earned = (f"earned:{asset}", member, "")
            if "earning_cap" in program:
                earned = (*earned[:2], period_of(program["earning_cap"]["period"], bought.earned_on))
                bought.room = max(0, program["earning_cap"]["points"] - self._used(*earned))
            points, status, counted = calculate(program, bought, unit)
            require(max(points, status) <= MAX_INTEGER, "POINTS_OVERFLOW")
            if "earning_cap" in program:
                self._use(*earned, points)
            done = {"amount": counted, "points": points, "status": status, "visits": 1}
            self._progress(program, asset, member, bought.earned_on, done)
            joined["purchases"] += 1
            starts = days_after(bought.earned_on, program.get("vesting_days", 0))
            lot = None if never_expires(program, bought.tier) else last_day(expiry, starts, joined["joined_on"])
            promises = [(member, points), *self._inviting(op, program, bought, joined, order)]
            if not program.get("status_asset"):
                status = 0
            if "vesting_days" in program and (points or status or len(promises) > 1):
                inviter, bonus = promises[1] if len(promises) > 1 else (None, 0)
                self._draft.kept["pending"][op["actor"], order] = {
                    "asset": asset,
                    "account": member,
                    "points": points,
                    "vests_on": starts,
                    "last_day": lot,
                    "program": program,
                    "status_points": status,
                    "inviter": inviter,
                    "inviter_points": bonus,
                }
            self._note_tier(asset, member, bought.earned_on, time)
        promises = [(account, given) for account, given in promises if given]
        original |= {"points": points, "lot": lot, "status": status, "promises": promises}
        original |= {"amount": purchase["amount"], "refunded": [0] * len(bought.left)}
        original |= {"due": 0, "short": 0, "returned": 0, "lined": "lines" in purchase}
        self._changes.append(lambda _: self.purchases.update({(op["actor"], order): original}))
        self._changes.append(lambda _: self.references.add((op["actor"], "order", order)))
        return original

    # Section 8.22
    def _inviting(
        self, op: dict[str, Any], program: dict[str, Any], bought: Bought, joined: dict[str, Any], order: str
    ) -> list[tuple[str, int]]:
        """What a first purchase gives who invited the member."""
        referral, inviter = program.get("referral"), joined["invited_by"]
        issuer = self.assets[op["asset"]]["issuer"] == op["actor"]
        if referral is None or inviter is None or not bought.first or not issuer:
            return []
        if "limit" in referral:
            whose = (f"invited:{op['asset']}", inviter, period_of(referral["limit"]["period"], bought.earned_on))
            if self._used(*whose) >= referral["limit"]["count"]:
                return []
            self._use(*whose, 1)
        self._draft.kept["invitations"][op["actor"], order] = {"inviter": inviter, "points": referral["points"]}
        return [(inviter, referral["points"])]

    def _given(  # noqa: PLR0917
        self,
        asset: str,
        legs: list[Posting],
        issued: int,
        statuses: dict[str, list[Posting]],
        gained: list[str],
        billed: tuple[dict[str, Any] | None, int],
        time: str,
    ) -> list[Posting]:
        """Legs that give points, after those of the issue account, and before those of automatic rewards."""
        given = {asset: (issued, legs)}
        for status_asset, more in statuses.items():
            given[status_asset] = (sum(item["amount"] for item in more), more)
        result: list[Posting] = []
        for each, (total, more) in given.items():
            if total:
                self._check_issue(each, total)
                result.append(leg("sys_issued", each, -total))
            result += more
        self._bill(asset, *billed, time)
        for account in dict.fromkeys(gained):
            result += self._rewarded(account, asset, time)
        return result

    # Section 7.6
    def _decide_grant(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        partner = self._check_may_issue(op, time)
        self._check_member(op["member"])
        program = self._program_at(op["asset"], op["at"])
        rules = {rule["activity"]: rule for rule in program.get("grants", [])}
        require(op["activity"] in rules, "ACTIVITY_UNKNOWN")
        rule, asset, member, amount = rules[op["activity"]], op["asset"], op["member"], op.get("amount", 0)
        self._use_reference(op["actor"], "grant:" + op["activity"], op["reference"])
        require("evidence" not in rule or "evidence" in op, "EVIDENCE_MISSING")
        require("evidence" in rule or "evidence" not in op, "EVIDENCE_UNEXPECTED")
        if "evidence" in op:
            used = (self.assets[asset]["issuer"], f"evidence:{asset}", op["evidence"])
            require(used not in self.references, "EVIDENCE_USED")
            self._changes.append(lambda _: self.references.add(used))
        require("scored" not in rule or "score" in op, "SCORE_MISSING")
        require("scored" in rule or "score" not in op, "SCORE_UNEXPECTED")
        require(amount <= rule["max_points"], "GRANT_TOO_LARGE")
        earned_on = local_date(op["at"], program["time_zone"])
        if "limit" in rule:
            whose = (f"activity:{asset}:{op['activity']}", member, period_of(rule["limit"]["period"], earned_on))
            require(self._used(*whose) < rule["limit"]["count"], "LIMIT_REACHED")
            self._use(*whose, 1)
        self._check_large(op, amount, time)
        tier = joined_on = None
        if is_special(program):
            joined_on = self._join(asset, member, earned_on)["joined_on"]
            tier = self._tier(program, asset, member, earned_on)
            self._progress(program, asset, member, earned_on, {"points": amount})
            self._note_tier(asset, member, earned_on, time)
        legs: list[Posting] = []
        if amount:
            lot = None if never_expires(program, tier) else last_day(program["expiry"], earned_on, joined_on)
            self._draft.post(legs, *self._redated(member, asset, earned_on, time))
            self._draft.post(legs, *self._repaying(asset, [leg(member, asset, amount, lot)]))
        return self._given(asset, legs, amount, {}, [member] * (amount > 0), (partner, amount), time)

    # Section 7.7
    def _decide_correct(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        self._check_issuer(op, actor)
        self._check_member(op["member"])
        self._use_reference(op["actor"], "correction", op["reference"])
        version = self._last_started(op["asset"], time)
        require(op["amount"] < 0 or version is not None, "PROGRAM_MISSING")
        self._check_large(op, abs(op["amount"]), time)
        if op["amount"] < 0:
            legs, _ = self._spend(op["member"], op["asset"], -op["amount"], time, active=False)
            return [*legs, leg("sys_issued", op["asset"], -op["amount"])]
        assert version is not None
        given = leg(op["member"], op["asset"], op["amount"], self._lot_then(op["asset"], op["member"], time))
        return self._issued(op["asset"], self._repaying(op["asset"], [given]))

    # Section 7.8
    def _decide_transfer(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] in HOLDERS, "NOT_PERMITTED")
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        require(self.assets[op["asset"]]["transferable"], "NOT_TRANSFERABLE")
        for item in op["recipients"]:
            require(item["to"] in self.accounts, "UNKNOWN_ACCOUNT")
            require(self.accounts[item["to"]]["role"] in HOLDERS, "NOT_A_HOLDER")
        total = sum(item["amount"] for item in op["recipients"])
        if op["actor"] != self.assets[op["asset"]]["issuer"]:
            self._check_transfer_terms(op, total, time)
        legs, parts = self._spend(op["actor"], op["asset"], total, time)
        for item in op["recipients"]:
            given, parts = first_of(parts, item["amount"])
            legs += legs_of(item["to"], op["asset"], given)
        return legs

    def _check_transfer_terms(self, op: dict[str, Any], total: int, time: str) -> None:
        asset = self.assets[op["asset"]]
        terms = asset.get("transfer_terms", {})
        require(all(item["amount"] % terms.get("step", 1) == 0 for item in op["recipients"]), "OFF_STEP")
        require(total >= terms.get("minimum", 1), "BELOW_MINIMUM")
        require(total <= terms.get("maximum", total), "ABOVE_MAXIMUM")
        self._count(terms.get("out_cap"), ("transfer_out:" + op["asset"], op["actor"]), op["asset"], total, time)
        for item in op["recipients"]:
            if item["to"] != asset["issuer"]:
                whose = ("transfer_in:" + op["asset"], item["to"])
                self._count(terms.get("in_cap"), whose, op["asset"], item["amount"], time)
        if "fee" in terms:
            fee = fee_of(terms["fee"], total)
            require(fee <= op.get("maximum_fee", 0), "FEE_ABOVE_LIMIT")
            self._owe(op["actor"], asset["issuer"], terms["fee"]["currency"], fee)

    # Section 7.9
    def _decide_redeem(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] in HOLDERS, "NOT_PERMITTED")
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        version = self._check_accepted(op, {"merchant", "beneficiary"}, time)
        reward, count = self._wanted(op, time) if "reward" in op else ({}, 0)
        if "from_pool" in op:
            legs, parts, holders = self._spend_shared(op, time)
        else:
            legs, parts = self._spend(op["actor"], op["asset"], op["amount"], time)
            holders = [op["actor"]] * len(parts)
        terms = version["terms"] if version else {}
        legs += self._received(op["merchant"], op["asset"], parts, terms)
        claim = claim_of(terms.get("claim"), op["amount"])
        spending = self._spent(op, parts, version, claim, time, holder=op["actor"], asset=op["asset"])
        spending["holders"] = holders
        if reward:
            spending |= {"reward": reward["reward"], "vouchers": count}
            self._have(op["actor"], op["asset"], reward, count, time)
            self._changes.append(lambda seq: spending.update(seq=seq))
        return legs

    # Section 8.24
    def _wanted(self, op: dict[str, Any], time: str) -> tuple[dict[str, Any], int]:
        """The reward that is redeemed, and how many of it."""
        asset, actor = op["asset"], op["actor"]
        started = in_force(self.programs.get(asset, []), time)
        rewards = {each["reward"]: each for each in (started["program"].get("rewards", []) if started else [])}
        require(op["merchant"] == self.assets[asset]["issuer"] and op["reward"] in rewards, "UNKNOWN_REWARD")
        assert started is not None
        reward = rewards[op["reward"]]
        require(self._may_have(started["program"], reward, actor, asset, time), "REWARD_UNAVAILABLE")
        count, rest = divmod(op["amount"], reward["price"])
        require(rest == 0 and 1 <= count <= 100, "PRICE_MISMATCH")
        left, stock = self._left(reward, actor, asset, time)
        require(count <= left, "LIMIT_REACHED")
        require(count <= stock, "OUT_OF_STOCK")
        return reward, count

    def _may_have(self, program: dict[str, Any], reward: dict[str, Any], member: str, asset: str, time: str) -> bool:
        today = self._today(asset, time)
        asking = Bought({"amount": 0}, self.assets[asset]["issuer"], today)
        joined = self._draft.kept["members"].get((asset, member))
        asking.tier = self._tier(program, asset, member, today)
        if joined is not None:
            asking.joined_on, asking.invited = joined["joined_on"], joined["invited_by"] is not None
            asking.plan = active_plan(joined, today)
        return holds(reward.get("when", {}), asking, (0, None, None), 0)

    def _left(self, reward: dict[str, Any], member: str, asset: str, time: str) -> tuple[int, int]:
        """How many of a reward a member may still have, and how many there are still."""
        scope = f"reward:{asset}:{reward['reward']}"
        left = stock = MAX_INTEGER
        if "limit" in reward:
            period = period_of(reward["limit"]["period"], self._today(asset, time))
            left = max(0, reward["limit"]["count"] - self._used(scope, member, period))
        if "stock" in reward:
            stock = max(0, reward["stock"] - self._used(scope, "*", "ever"))
        return left, stock

    def _have(self, member: str, asset: str, reward: dict[str, Any], count: int, time: str) -> None:
        """Give vouchers, and count them."""
        today, scope = self._today(asset, time), f"reward:{asset}:{reward['reward']}"
        if "limit" in reward:
            self._use(scope, member, period_of(reward["limit"]["period"], today), count)
        self._use(scope, "*", "ever", count)
        voucher = {"account": member, "asset": asset, "merchant": self.assets[asset]["issuer"], "status": "issued"}
        voucher |= {"reward": reward["reward"], "price": reward["price"], "worth": reward.get("worth")}
        voucher |= {"last_day": days_after(today, reward["valid_days"]) if "valid_days" in reward else NEVER}
        for _ in range(count):
            index = self._draft.given
            self._draft.given += 1
            self._changes.append(lambda seq, index=index: self.kept["vouchers"].update({(seq, index): dict(voucher)}))  # type: ignore[misc]

    # Section 8.25
    def _rewarded(self, member: str, asset: str, time: str) -> list[Posting]:
        """What an account has by itself once it gained points: the legs with which it pays."""
        started = self._last_started(asset, time)
        program = started["program"] if started else {}
        reward = next((each for each in program.get("rewards", []) if "automatic" in each), None)
        if reward is None or self.accounts[member]["frozen"]:
            return []
        today = self._today(asset, time)
        lots = {lot: points for lot, points in self._draft.lots_of(member, asset).items() if lot >= today}
        first = [lots[lot] for lot in sorted(lots) if lots[lot] > 0][:100]
        affordable = max(0, min(sum(lots.values()), sum(first))) // reward["price"]
        count = min(affordable, *self._left(reward, member, asset, time), 100, 1_000 - self._draft.given)
        if count == 0 or not self._may_have(program, reward, member, asset, time):
            return []
        self._have(member, asset, reward, count, time)
        parts: Parts = [(None if lot == NEVER else lot, lots[lot]) for lot in sorted(lots) if lots[lot] > 0]
        taken, _ = first_of(parts, count * reward["price"])
        legs: list[Posting] = []
        self._draft.post(legs, *legs_of(member, asset, taken, -1))
        self._draft.post(legs, leg("sys_spent", asset, total_of(taken)))
        return legs

    # Section 8.27
    def _spend_shared(self, op: dict[str, Any], time: str) -> tuple[list[Posting], Parts, list[str]]:
        """What each member of the actor's pool gives."""
        asset, today = op["asset"], self._today(op["asset"], time)
        pool = self._draft.kept["members"].get((asset, op["actor"]), {}).get("pool")
        require(pool is not None, "NO_POOL")
        sharers = [each for each in self._draft.kept["pools"][pool]["members"] if not self.accounts[each]["frozen"]]
        lapsed: list[Posting] = []
        own: dict[str, int] = {}
        for member in sharers:
            returned, lots = self._with_lapsed(member, asset, time)
            lapsed += returned
            own[member] = max(0, sum(points for lot, points in lots.items() if lot >= today))
        total = sum(own.values())
        require(op["amount"] <= total, "INSUFFICIENT_POINTS")
        shares = {member: op["amount"] * points // total for member, points in own.items()}
        by_rest = sorted(sharers, key=lambda member: -(op["amount"] * own[member] % total))
        for member in by_rest[: op["amount"] - sum(shares.values())]:
            shares[member] += 1
        legs: list[Posting] = []
        parts: Parts = []
        holders: list[str] = []
        for member, share in shares.items():
            if share:
                given, taken = self._spend(member, asset, share, time)
                returned, _ = self._with_lapsed(member, asset, time)
                legs += given[len(returned) :]
                parts += taken
                holders += [member] * len(taken)
        return [*lapsed, *legs], parts, holders

    # Section 7.9, and for holds 7.11
    def _check_accepted(self, op: dict[str, Any], roles: set[str], time: str) -> dict[str, Any] | None:
        """The agreement by which these points are taken at this merchant; none where it issued them itself."""
        merchant = self.accounts.get(op["merchant"])
        require(merchant is not None and merchant["role"] in roles, "UNKNOWN_ACCOUNT")
        assert merchant is not None
        version = None
        if op["merchant"] != self.assets[op["asset"]]["issuer"]:
            version = in_force(self.agreements.get(f"{op['asset']}@{op['merchant']}", []), time)
            require(version is not None, "NOT_ACCEPTED")
        require(not merchant["frozen"], "ACCOUNT_FROZEN", op["merchant"])
        if version is not None:
            self._check_bounds_and_caps(version, op["actor"], op["amount"], time)
        return version

    def _check_bounds_and_caps(self, version: dict[str, Any], holder: str, amount: int, time: str) -> None:
        terms = version["terms"]
        require(amount % terms.get("step", 1) == 0, "OFF_STEP")
        require(amount >= terms.get("minimum", 1), "BELOW_MINIMUM")
        require(amount <= terms.get("maximum", amount), "ABOVE_MAXIMUM")
        name = agreement_name(terms, version["partner"])
        self._count(terms.get("holder_cap"), (name, holder), terms["asset"], amount, time)
        self._count(terms.get("total_cap"), (name, "*"), terms["asset"], amount, time)

    def _received(self, merchant: str, asset: str, parts: Parts, terms: dict[str, Any]) -> list[Posting]:
        if terms.get("received") == "kept":
            return legs_of(merchant, asset, parts)
        return [leg("sys_spent", asset, total_of(parts))]

    def _spent(
        self,
        op: dict[str, Any],
        parts: Parts,
        version: dict[str, Any] | None,
        claim: int,
        time: str,
        *,
        holder: str,
        asset: str,
    ) -> dict[str, Any]:
        """Remember for refunds what an operation spent, and book its claim."""
        spending: dict[str, Any] = {"kind": op["kind"], "holder": holder, "asset": asset, "parts": parts}
        spending |= {"holders": [holder] * len(parts)}
        spending |= {"amount": total_of(parts), "refunded": 0, "time": time, "version": version, "owed": []}
        spending["merchant"] = op.get("merchant", op["actor"])
        if version is not None and claim:
            terms = version["terms"]["claim"]
            (creditor,) = {version["actor"], version["partner"]} - {terms["debtor"]}
            spending["owed"].append((terms["debtor"], creditor, terms["currency"], claim))
            name = agreement_name(version["terms"], version["partner"])
            self._owe(terms["debtor"], creditor, terms["currency"], claim, name)
        op_id = hashlib.sha256(encode(op)).hexdigest()
        self._changes.append(lambda _: self.spendings.update({op_id: spending}))
        return spending

    # Section 7.10
    def _decide_exchange(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] in HOLDERS, "NOT_PERMITTED")
        for asset in (op["asset"], op["into"]):
            require(asset in self.assets, "UNKNOWN_ASSET", asset)
        name = f"{op['asset']}>{op['into']}"
        version = in_force(self.agreements.get(name, []), time)
        require(version is not None, "NO_AGREEMENT")
        assert version is not None
        for asset in (op["asset"], op["into"]):
            require(not self.accounts[self.assets[asset]["issuer"]]["frozen"], "ACCOUNT_FROZEN", asset)
        terms, given = version["terms"], op["amount"]
        if "off_step" in terms:
            given = given // terms["step"] * terms["step"]
        require(given % terms.get("step", 1) == 0, "OFF_STEP")
        require(given > 0, "BELOW_MINIMUM")
        self._check_bounds_and_caps(version, op["actor"], given, time)
        out = outcome(terms, given)
        require(out >= op["minimum_out"], "OUTCOME_TOO_SMALL", str(out))
        fee = fee_of(terms["fee"], given) if "fee" in terms else 0
        require(fee <= op.get("maximum_fee", 0), "FEE_ABOVE_LIMIT", str(fee))
        legs, parts = self._spend(op["actor"], op["asset"], given, time)
        lot = self._lot_then(op["into"], op["actor"], time)
        issued = self._issued(op["into"], [leg(op["actor"], op["into"], out, lot)])
        legs += self._received(version["partner"], op["asset"], parts, terms)
        claim = claim_of(terms.get("claim"), given)
        spending = self._spent(op, parts, version, claim, time, holder=op["actor"], asset=op["asset"])
        spending["merchant"] = version["partner"]
        if fee:
            owed = (op["actor"], terms["fee"]["kept_by"], terms["fee"]["currency"], fee)
            spending["owed"].append(owed)
            self._owe(*owed, name)
        return [*legs, *issued]

    # Section 7.11
    def _decide_hold(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] in HOLDERS, "NOT_PERMITTED")
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        version = self._check_accepted(op, {"merchant"}, time)
        ahead = milliseconds(op["until"]) - milliseconds(time)
        require(0 < ahead <= 366 * DAY_MS, "UNTIL_OUT_OF_RANGE")
        mine = [hold for hold in self.holds.values() if (hold["holder"], hold["asset"]) == (op["actor"], op["asset"])]
        require(sum(hold["status"] == "open" and time <= hold["until"] for hold in mine) < 100, "TOO_MANY_HOLDS")
        legs, parts = self._spend(op["actor"], op["asset"], op["amount"], time)
        hold = {"holder": op["actor"], "asset": op["asset"], "merchant": op["merchant"], "until": op["until"]}
        hold |= {"parts": parts, "captured": 0, "version": version, "status": "open"}
        name = hold_id(hashlib.sha256(encode(op)).digest())
        self._changes.append(lambda _: self.holds.update({name: hold}))
        return [*legs, leg("sys_held", op["asset"], op["amount"])]

    # Section 7.12
    def _decide_capture(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        hold = self.holds.get(op["hold"])
        require(hold is not None and hold["merchant"] == op["actor"], "UNKNOWN_HOLD")
        assert hold is not None
        require(hold["status"] == "open", "HOLD_CLOSED")
        require(time <= hold["until"], "HOLD_LAPSED")
        require(not self.accounts[hold["holder"]]["frozen"], "ACCOUNT_FROZEN")
        require(op["amount"] <= total_of(hold["parts"]), "HOLD_EXCEEDED")
        taken, rest = first_of(hold["parts"], op["amount"])
        returned = rest if op.get("final") else []
        version = hold["version"]
        terms = version["terms"] if version else {}
        legs = [leg("sys_held", hold["asset"], -total_of([*taken, *returned]))]
        legs += self._received(op["actor"], hold["asset"], taken, terms)
        legs += legs_of(hold["holder"], hold["asset"], returned)
        captured = hold["captured"] + op["amount"]
        claim = claim_of(terms.get("claim"), captured) - claim_of(terms.get("claim"), hold["captured"])
        self._spent(op, taken, version, claim, time, holder=hold["holder"], asset=hold["asset"])
        over = returned or not rest
        changed = {"captured": captured, "parts": [] if over else rest, "status": "captured" if over else "open"}
        self._changes.append(lambda _: hold.update(changed))
        return legs

    # Section 7.13
    def _decide_release(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        hold = self.holds.get(op["hold"])
        require(hold is not None, "UNKNOWN_HOLD")
        assert hold is not None
        require(hold["status"] == "open", "HOLD_CLOSED")
        require(op["actor"] == hold["merchant"] or time > hold["until"], "NOT_PERMITTED")
        return self._returned(hold, "lapsed" if time > hold["until"] else "released")

    def _returned(self, hold: dict[str, Any], status: str) -> list[Posting]:
        legs = [leg("sys_held", hold["asset"], -total_of(hold["parts"]))]
        legs += legs_of(hold["holder"], hold["asset"], hold["parts"])
        self._changes.append(lambda _: hold.update({"parts": [], "status": status}))
        return legs

    # Section 7.14
    def _decide_refund(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        refund: Callable[..., list[Posting]] = getattr(self, f"_refund_{op['of']['type']}")
        return refund(op, op["of"], time)

    def _refund_purchase(self, op: dict[str, Any], of: dict[str, Any], time: str) -> list[Posting]:  # noqa: PLR0915
        original = self.purchases.get((op["actor"], of["order"]))
        require(original is not None and original["asset"] == op["asset"], "UNKNOWN_ORIGINAL")
        assert original is not None
        self._use_reference(op["actor"], "refund", op["reference"])
        back = self._refunded_lines(original, of)
        already = original["refunded"]
        program, member, bought = original["program"], original["member"], original["bought"]
        unit = self._units()[program["currency"]]
        now = [sum(pair) for pair in zip(already, back, strict=True)]
        was = bought.after(already) if any(already) else bought
        _, status_before, earned_before = calculate(program, was, unit)
        points_left, status_left, earned_left = calculate(program, bought.after(now), unit)
        due = max(0, original["points"] - original["due"] - points_left)
        status = status_before - status_left if program.get("status_asset") else 0
        over = sum(now) == original["amount"]
        changed: dict[str, Any] = {"refunded": now, "due": original["due"] + due}
        legs: list[Posting] = []
        returned, short, missing = due, 0, 0
        pending = self._draft.kept["pending"].get((op["actor"], of["order"]))
        invitation = self._draft.kept["invitations"].pop((op["actor"], of["order"]), None) if over else None
        if pending is not None:
            pending["points"] -= due
            pending["status_points"] -= status
            if invitation is not None:
                pending["inviter_points"] = 0
                pending["inviter"] = None
            if not pending["points"] and not pending["status_points"] and not pending["inviter_points"]:
                del self._draft.kept["pending"][op["actor"], of["order"]]
        else:
            if due:
                taken, returned = self._take_back(
                    member, op["asset"], original["lot"], due, program.get("refunds"), time
                )
                legs += taken
                short = due - returned
            if status:
                taken, parts = self._take(member, program["status_asset"], [], status, time)
                legs += taken
                if parts:
                    legs.append(leg("sys_issued", program["status_asset"], total_of(parts)))
            if invitation is not None:
                policy = "negative" if program.get("refunds") == "negative" else None
                inviter, points = invitation["inviter"], invitation["points"]
                taken, there = self._take_back(inviter, op["asset"], original["lot"], points, policy, time)
                legs += taken
                missing = points - there
        if due:
            self._restore_allotment(original, returned)
            if program.get("refunds") == "owe":
                value = self.assets[op["asset"]]["value"]
                owed, owing = (
                    rounded(Fraction(points * value["amount"], value["points"]), "half_up")
                    for points in (original["short"], original["short"] + short)
                )
                self._owe(member, op["actor"], value["currency"], owing - owed)
            self._reverse_billing(original, returned)
            changed |= {"short": original["short"] + short, "returned": original["returned"] + returned}
        self._changes.append(lambda _: original.update(changed))
        if is_special(program):
            self._undo_progress(
                op, original, (due, status_before - status_left, earned_before - earned_left, returned), over, time
            )
            if invitation is not None and "limit" in program["referral"] and not missing:
                period = period_of(program["referral"]["limit"]["period"], bought.earned_on)
                self._use(f"invited:{op['asset']}", invitation["inviter"], period, -1)
        return legs

    # Section 8.18
    def _refunded_lines(self, original: dict[str, Any], of: dict[str, Any]) -> list[int]:
        """How much of each line is refunded."""
        left = [there - gone for there, gone in zip(original["bought"].left, original["refunded"], strict=True)]
        require(of["amount"] <= sum(left), "REFUND_TOO_LARGE")
        back = [0] * len(left)
        for named in of.get("lines", []):
            require(original["lined"] and named["line"] < len(left), "UNKNOWN_LINE")
            require(named["amount"] <= left[named["line"]], "REFUND_TOO_LARGE")
            back[named["line"]] = named["amount"]
        rest = of["amount"] - sum(back)
        for i in reversed(range(len(left))):
            if "lines" not in of:
                back[i] = min(left[i], rest)
                rest -= back[i]
        return back

    def _take_back(  # noqa: PLR0917
        self, account: str, asset: str, lot: str | None, due: int, policy: str | None, time: str
    ) -> tuple[list[Posting], int]:
        """The legs with which an account gives points back, its debt for the rest, and how many it gave."""
        legs, taken = self._take(account, asset, [(lot, due)], due, time)
        back, short = total_of(taken), due - total_of(taken)
        debt = min({"negative": short, "owe": 0}.get(policy or "", self._uncommitted(account, asset, time)), short)
        if debt:
            legs.append(leg(account, asset, -debt))
        if back + debt:
            legs.append(leg("sys_issued", asset, back + debt))
        return legs, back

    # Section 8.18
    def _undo_progress(
        self, op: dict[str, Any], original: dict[str, Any], less: tuple[int, int, int, int], over: bool, time: str
    ) -> None:
        """A purchase no longer counts, as far as it was refunded."""
        asset, member, program = op["asset"], original["member"], original["program"]
        earned_on = original["bought"].earned_on
        if "earning_cap" in program:
            period = period_of(program["earning_cap"]["period"], earned_on)
            self._use(f"earned:{asset}", member, period, -less[3])
        done = {"amount": -less[2], "points": -less[0], "status": -less[1], "visits": -1 if over else 0}
        self._progress(program, asset, member, earned_on, done)
        if over:
            self._draft.kept["members"][asset, member]["purchases"] -= 1
        self._note_tier(asset, member, earned_on, time)

    def _uncommitted(self, account: str, asset: str, time: str) -> int:
        """What an account has on holds that last, less its debt."""
        on_hold = sum(
            total_of(hold["parts"])
            for hold in self.holds.values()
            if (hold["holder"], hold["asset"], hold["status"]) == (account, asset, "open") and time <= hold["until"]
        )
        _, lots = self._with_lapsed(account, asset, time)
        return max(on_hold + min(lots.get(NEVER, 0), 0), 0)

    def _restore_allotment(self, original: dict[str, Any], points: int) -> None:
        version = original["partner"]
        if version is not None and version["terms"]["billing"] == "prepaid":
            name = agreement_name(version["terms"], version["partner"])
            left = self.allotted.get(name, 0) + points
            self._changes.append(lambda _: self.allotted.update({name: left}))

    def _reverse_billing(self, original: dict[str, Any], points: int) -> None:
        version = original["partner"]
        if version is not None and original["owed"]:
            owed, given, left = original["owed"], original["points"], original["points"] - original["returned"]
            amount = owed * left // given - owed * (left - points) // given
            claim = version["terms"]["claim"]
            (creditor,) = {version["actor"], version["partner"]} - {claim["debtor"]}
            name = agreement_name(version["terms"], version["partner"])
            self._owe(creditor, claim["debtor"], claim["currency"], amount, name)

    def _take(self, account: str, asset: str, first: Parts, amount: int, time: str) -> tuple[list[Posting], Parts]:
        """Section 8.18: the legs with which an account gives up to so many points, and what of which lot it gives.

        Of the lots named first as many as said there, even past their day; then of all others that can be used.
        """
        legs, lots = self._with_lapsed(account, asset, time)
        taken: Parts = []
        for lot, points in first:
            here = min(max(lots.get(lot or NEVER, 0), 0), points)
            taken += [(lot, here)] if here else []
            lots[lot or NEVER] = lots.get(lot or NEVER, 0) - here
        today = self._today(asset, time)
        usable: Parts = [
            (None if lot == NEVER else lot, lots[lot]) for lot in sorted(lots) if lot >= today and lots[lot] > 0
        ]
        further, _ = first_of(usable, amount - total_of(taken))
        taken += further
        return [*legs, *legs_of(account, asset, taken, -1)], taken

    def _refund_redemption(self, op: dict[str, Any], of: dict[str, Any], time: str) -> list[Posting]:
        spending = self._original(op, of, {"redeem", "capture"})
        if "reward" in spending:
            require(of["amount"] == spending["amount"], "PRICE_MISMATCH", "all at once")
            vouchers = [self._draft.kept["vouchers"][spending["seq"], i] for i in range(spending["vouchers"])]
            require(all(voucher["status"] == "issued" for voucher in vouchers), "VOUCHER_CLOSED")
            for voucher in vouchers:
                voucher["status"] = "cancelled"
            self._give_up(spending)
        return self._undone(op, spending, time)

    def _give_up(self, spending: dict[str, Any]) -> None:
        """Section 8.24: rewards that are given back are not counted."""
        asset, then = spending["asset"], spending["time"]
        scope = f"reward:{asset}:{spending['reward']}"
        known = [version for version in self.programs[asset] if version["seq"] < spending["seq"]]
        started = in_force(known, then)
        assert started is not None
        (reward,) = [each for each in started["program"]["rewards"] if each["reward"] == spending["reward"]]
        if "limit" in reward:
            period = period_of(reward["limit"]["period"], self._today(asset, then))
            self._use(scope, spending["holder"], period, -spending["vouchers"])
        self._use(scope, "*", "ever", -spending["vouchers"])

    def _refund_exchange(self, op: dict[str, Any], of: dict[str, Any], time: str) -> list[Posting]:
        spending = self._original(op, of, {"exchange"})
        terms, before = spending["version"]["terms"], spending["amount"] - spending["refunded"]
        back = outcome(terms, before) - outcome(terms, before - of["amount"])
        legs: list[Posting] = []
        if back:
            holder, into = spending["holder"], terms["into"]
            self._spend(holder, into, back, time, active=False)
            own = self._lot_then(into, holder, spending["time"])
            usable = (own or NEVER) >= self._today(into, time)
            legs, _ = self._take(holder, into, [(own, back)] if usable else [], back, time)
            legs.append(leg("sys_issued", terms["into"], back))
        return [*legs, *self._undone(op, spending, time)]

    def _original(self, op: dict[str, Any], of: dict[str, Any], kinds: set[str]) -> dict[str, Any]:
        spending = self.spendings.get(of["operation"])
        require(spending is not None and spending["kind"] in kinds, "UNKNOWN_ORIGINAL")
        assert spending is not None
        require((spending["merchant"], spending["asset"]) == (op["actor"], op["asset"]), "UNKNOWN_ORIGINAL")
        self._use_reference(op["actor"], "refund", op["reference"])
        require(of["amount"] <= spending["amount"] - spending["refunded"], "REFUND_TOO_LARGE")
        return spending

    # Section 8.18
    def _undone(self, op: dict[str, Any], spending: dict[str, Any], time: str) -> list[Posting]:
        """The spent points return to their holder, and what was owed for them is owed back."""
        asset, amount, already = op["asset"], op["of"]["amount"], spending["refunded"]
        version = spending["version"]
        _, rest = first_of(spending["parts"][::-1], already)
        returned, _ = first_of(rest, amount)
        holders = spending["holders"][::-1][len(spending["parts"]) - len(rest) :]
        back = [(self._returned_lot(asset, lot, spending["time"], time), points) for lot, points in returned]
        if version is not None and version["terms"]["received"] == "kept":
            legs = self._give_back(op["actor"], asset, returned, [lot for lot, _ in back], time)
        else:
            self._check_supply(asset, amount)
            legs = [leg("sys_spent", asset, -amount)]
        for holder, part in zip(holders, back, strict=False):
            legs += legs_of(holder, asset, [part])
        whole_amount = spending["amount"]
        left = whole_amount - already
        for debtor, creditor, currency, owed in spending["owed"]:
            reversed_part = owed * left // whole_amount - owed * (left - amount) // whole_amount
            name = agreement_name(version["terms"], version["partner"])
            self._owe(creditor, debtor, currency, reversed_part, name)
        self._changes.append(lambda _: spending.update(refunded=already + amount))
        return legs

    def _give_back(
        self, merchant: str, asset: str, parts: Parts, last_days: list[str | None], time: str
    ) -> list[Posting]:
        """The legs with which a merchant gives points it kept: of the very lots, or others that last as long."""
        legs, lots = self._with_lapsed(merchant, asset, time)
        missing = []
        for lot, points in parts:
            own = min(lots.get(lot or NEVER, 0), points)
            legs += [leg(merchant, asset, -own, lot)] if own else []
            lots[lot or NEVER] = lots.get(lot or NEVER, 0) - own
            missing.append(points - own)
        for last, points in zip(last_days, missing, strict=True):
            bound = max(last or NEVER, self._today(asset, time))
            others: Parts = [(None if lot == NEVER else lot, lots[lot]) for lot in sorted(lots) if lot >= bound]
            given, _ = first_of([(lot, there) for lot, there in others if there], points)
            require(total_of(given) == points, "INSUFFICIENT_POINTS")
            for lot, there in given:
                lots[lot or NEVER] -= there
            legs += legs_of(merchant, asset, given, -1)
        return legs

    def _returned_lot(self, asset: str, lot: str | None, spent_at: str, time: str) -> str | None:
        today, started = self._today(asset, time), self._last_started(asset, spent_at)
        days = started["program"].get("returned_lot_days", 0) if started else 0
        if lot is None or lot >= today or days == 0:
            return lot
        return (date.fromisoformat(today) + timedelta(days=days)).isoformat()

    # Section 7.15
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

    # Section 7.16
    def _decide_enroll(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] == "member", "NOT_PERMITTED")
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        program = self._program_at(op["asset"], time)
        formulas = {each["formula"] for each in program.get("formulas", [])}
        require(op.get("formula") is None or op["formula"] in formulas, "UNKNOWN_FORMULA")
        if "invited_by" in op:
            self._check_member(op["invited_by"])
        known = self._draft.kept["members"].get((op["asset"], op["actor"]))
        if known is not None:
            too_late = known["invited_by"] is not None or known["purchases"] > 0
            require("invited_by" not in op or not too_late, "INVITED_TOO_LATE")
            require("invited_by" in op or op.get("formula") != known["formula"], "ALREADY_ENROLLED")
        joined = self._join(op["asset"], op["actor"], self._today(op["asset"], time))
        joined["formula"] = op.get("formula")
        joined["invited_by"] = op.get("invited_by", joined["invited_by"])
        if known is None:
            self._note_tier(op["asset"], op["actor"], "", time)
        return []

    def _check_keeper(self, op: dict[str, Any], actor: dict[str, Any]) -> None:
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        issuer = self.assets[op["asset"]]["issuer"]
        require(actor["role"] == "operator" or op["actor"] == issuer, "NOT_PERMITTED")

    # Section 7.17
    def _decide_vest(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        self._check_keeper(op, actor)
        asset, today = op["asset"], self._today(op["asset"], time)
        legs: list[Posting] = []
        statuses: dict[str, list[Posting]] = {}
        gained: list[str] = []
        issued = due = 0
        for purchase in op["purchases"]:
            key = (purchase["merchant"], purchase["order"])
            pending = self._draft.kept["pending"].get(key)
            if pending is None or pending["asset"] != asset or pending["vests_on"] > today:
                continue
            due += 1
            del self._draft.kept["pending"][key]
            both = [(pending["account"], pending["points"]), (pending["inviter"], pending["inviter_points"])]
            for account, points in both:
                if points:
                    issued += points
                    gained.append(account)
                    given = leg(account, asset, points, pending["last_day"])
                    self._draft.post(legs, *self._repaying(asset, [given]))
            if pending["status_points"]:
                other = pending["program"]["status_asset"]
                lot = self._lot_then(other, pending["account"], time)
                given = leg(pending["account"], other, pending["status_points"], lot)
                self._draft.post(statuses.setdefault(other, []), *self._repaying(other, [given]))
        require(due, "NOTHING_DUE")
        return self._given(asset, legs, issued, statuses, gained, (None, 0), time)

    # Section 7.18
    def _decide_review_tiers(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        self._check_keeper(op, actor)
        members = self._draft.kept["members"]
        before = {member: copy.copy(members.get((op["asset"], member))) for member in op["members"]}
        for member in op["members"]:
            if before[member] is not None:
                self._note_tier(op["asset"], member, "", time)
        require(any(members.get((op["asset"], member)) != before[member] for member in op["members"]), "NOTHING_DUE")
        return []

    # Section 7.19
    def _decide_start_plan(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        self._check_issuer(op, actor)
        self._check_member(op["member"])
        version = in_force(self.programs.get(op["asset"], []), time)
        plans = {each["plan"]: each for each in (version["program"].get("plans", []) if version else [])}
        require(op["plan"] in plans, "UNKNOWN_PLAN")
        self._use_reference(op["actor"], "plan", op["reference"])
        today, days = self._today(op["asset"], time), plans[op["plan"]]["days"]
        known = (op["asset"], op["member"]) in self._draft.kept["members"]
        joined = self._join(op["asset"], op["member"], today)
        if not known:
            self._note_tier(op["asset"], op["member"], "", time)
        if joined["plan"] == op["plan"] and joined["plan_until"] >= today:
            until, more = joined["plan_until"], days
        else:
            joined["plan"], joined["plan_from"] = op["plan"], today
            until, more = today, days - 1
        joined["plan_until"] = days_after(until, min(more, days_between(until, "9999-12-31")))
        return []

    # Section 7.20
    def _decide_end_plan(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        self._check_issuer(op, actor)
        self._check_member(op["member"])
        joined = self._draft.kept["members"].get((op["asset"], op["member"]))
        today = self._today(op["asset"], time)
        require(joined is not None and active_plan(joined, today) is not None, "NO_PLAN")
        assert joined is not None
        joined |= {"plan": None, "plan_from": None, "plan_until": None}
        return []

    # Section 7.21
    def _decide_form_pool(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] == "member", "NOT_PERMITTED")
        for member in op["members"]:
            self._check_member(member)
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        together, today = [op["actor"], *op["members"]], self._today(op["asset"], time)
        members = self._draft.kept["members"]
        for member in together:
            require(members.get((op["asset"], member), {}).get("pool") is None, "ALREADY_POOLED", member)
        name = pool_id(hashlib.sha256(encode(op)).digest())
        for member in together:
            known = (op["asset"], member) in members
            self._join(op["asset"], member, today)["pool"] = name
            if not known:
                self._note_tier(op["asset"], member, "", time)
        self._draft.kept["pools"][name] = {"asset": op["asset"], "members": together}
        return []

    # Section 7.22
    def _decide_leave_pool(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        members, pools = self._draft.kept["members"], self._draft.kept["pools"]
        name = members.get((op["asset"], op["actor"]), {}).get("pool")
        require(name is not None, "NO_POOL")
        pools[name]["members"] = [each for each in pools[name]["members"] if each != op["actor"]]
        members[op["asset"], op["actor"]]["pool"] = None
        if len(pools[name]["members"]) == 1:
            (last,) = pools.pop(name)["members"]
            members[op["asset"], last]["pool"] = None
        return []

    # Section 7.23
    def _decide_use_voucher(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        voucher = self._draft.kept["vouchers"].get((op["voucher"]["seq"], op["voucher"]["index"]))
        require(voucher is not None and voucher["merchant"] == op["actor"], "UNKNOWN_VOUCHER")
        assert voucher is not None
        require(voucher["status"] == "issued", "VOUCHER_CLOSED")
        require(voucher["last_day"] >= self._today(voucher["asset"], time), "VOUCHER_EXPIRED")
        require(not self.accounts[voucher["account"]]["frozen"], "ACCOUNT_FROZEN")
        voucher["status"] = "used"
        return []

    # Section 7.24
    def _decide_remind(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        self._check_keeper(op, actor)
        started = self._last_started(op["asset"], time)
        reminders = started["program"].get("reminders", {}) if started else {}
        told = 0
        for member in op["members"]:
            account = self.accounts.get(member, {"role": "none"})
            if account["role"] == "member":
                due: Callable[..., dict[str, str]] = getattr(self, f"_reminded_of_{op['about']}")
                assert started is not None or not reminders
                through = (
                    due(op["asset"], member, reminders, started, self._today(op["asset"], time)) if reminders else {}
                )
                for about, end in through.items():
                    self._draft.kept["reminded"][op["asset"], member, about] = end
                told += bool(through)
        require(told, "NOTHING_DUE")
        return []

    def _through(self, asset: str, member: str, about: str) -> str:
        through: str = self._draft.kept["reminded"].get((asset, member, about), "")
        return through

    def _reminded_of_balance(
        self, asset: str, member: str, reminders: dict[str, Any], _: dict[str, Any], today: str
    ) -> dict[str, str]:
        if "balance" not in reminders:
            return {}
        period = period_of(reminders["balance"], today)
        usable = sum(points for lot, points in self._draft.lots_of(member, asset).items() if lot >= today)
        return {"balance": period} if usable > 0 and self._through(asset, member, "balance") < period else {}

    def _reminded_of_expiry(
        self, asset: str, member: str, reminders: dict[str, Any], _: dict[str, Any], today: str
    ) -> dict[str, str]:
        lots = self._draft.lots_of(member, asset)
        first, due = today, False
        spans = {f"expiry_{days}": days_after(today, days) for days in sorted(reminders.get("expiring_days", []))}
        for about, last in spans.items():
            through = self._through(asset, member, about)
            due = due or any(first <= lot <= last and lot > through and points > 0 for lot, points in lots.items())
            first = days_after(last, 1)
        return spans if due else {}

    def _reminded_of_tier(
        self, asset: str, member: str, reminders: dict[str, Any], started: dict[str, Any], _: str
    ) -> dict[str, str]:
        joined = self._draft.kept["members"].get((asset, member))
        if joined is None or "new_tier" not in reminders:
            return {}
        first = started["program"].get("tiers", {"levels": [{"from": 1}]})["levels"][0]
        known = self._draft.kept["reminded"].get((asset, member, "tier"), first["tier"] if first["from"] == 0 else "")
        tier = joined["tier"] or ""
        return {"tier": tier} if tier != known else {}

    # Section 7.25
    def _decide_agree(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        terms = op["terms"]
        require(actor["role"] == "merchant", "NOT_PERMITTED")
        roles = {"merchant", "beneficiary"} if terms["type"] == "acceptance" else {"merchant"}
        require(self.accounts[op["partner"]]["role"] in roles, "UNKNOWN_ACCOUNT", "the partner")
        self._check_issuer({"asset": terms["asset"]}, actor)
        if terms["type"] == "exchange":
            self._check_issuer({"asset": terms["into"]}, self.accounts[op["partner"]])
        self._check_currency(terms.get("fee"))
        self._check_currency(terms.get("claim"))
        name = agreement_name(terms, op["partner"])
        require(op["version"] == len(self.agreements.get(name, [])) + 1, "VERSION_CONFLICT")
        self._check_start(op["starts"], time)
        if terms["type"] == "exchange":
            self._check_loops(name, op)
        self._changes.append(lambda _: self.agreements.setdefault(name, []).append(dict(op)))
        return []

    # Section 8.14
    def _check_loops(self, name: str, op: dict[str, Any]) -> None:
        exchanges = {other: versions for other, versions in self.agreements.items() if ">" in other}
        exchanges[name] = [*exchanges.get(name, []), op]
        starts = {version["starts"] for versions in exchanges.values() for version in versions}
        for moment in sorted(start for start in starts if op["starts"] <= start < op.get("ends", NEVER)):
            versions = [in_force(versions, moment) for versions in exchanges.values()]
            found = [version for version in versions if version is not None]
            require(not pays_in_a_loop(found, op["terms"]["asset"], op["terms"]["into"]), "PAYING_LOOP", moment)

    # Section 7.26
    def _decide_end_agreement(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        versions = self.agreements.get(op["agreement"], [])
        require(versions, "UNKNOWN_AGREEMENT")
        require(op["actor"] in (versions[-1]["actor"], versions[-1]["partner"]), "UNKNOWN_AGREEMENT")
        version = in_force(versions, time) or versions[-1]
        earliest = milliseconds(time) + version["notice_days"] * DAY_MS
        require(milliseconds(op["ends"]) >= earliest, "NOTICE_TOO_SHORT")
        ended = [version for version in versions if version.get("ends", NEVER) > op["ends"]]
        require(ended, "AGREEMENT_ENDED")
        self._changes += [lambda _, version=version: version.update(ends=op["ends"]) for version in ended]  # type: ignore[misc]
        return []

    # Section 7.27
    def _decide_allot(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        self._check_issuer(op, actor)
        name = f"{op['asset']}+{op['partner']}"
        version = in_force(self.agreements.get(name, []), time)
        require(version is not None and version["terms"]["billing"] == "prepaid", "NO_AGREEMENT")
        assert version is not None
        self._use_reference(op["actor"], "allotment", op["reference"])
        left = self.allotted.get(name, 0) + op["points"]
        bought = self.bought.get(name, 0) + op["points"]
        require(bought <= MAX_INTEGER, "POINTS_OVERFLOW")
        self._changes.append(lambda _: self.allotted.update({name: left}))
        self._changes.append(lambda _: self.bought.update({name: bought}))
        self._owe_claim(version, op["points"])
        return []

    # Section 7.28
    def _decide_net(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] == "operator", "NOT_PERMITTED")
        self._check_currency(op)
        for merchant in op["merchants"]:
            found = self.accounts.get(merchant)
            require(found is not None and found["role"] in ("merchant", "beneficiary"), "UNKNOWN_ACCOUNT", merchant)
        require(op["through"] <= time[:10], "NOT_YET_DUE")
        merchants = set(op["merchants"])
        netted = {
            key: amount
            for key, amount in self.obligations.items()
            if key[0] == op["currency"] and {key[1], key[2]} <= merchants and key[3] == -1 and key[4] <= op["through"]
        }
        require(netted, "NOTHING_DUE")
        position = dict.fromkeys(merchants, 0)
        for (_, debtor, creditor, _, _), amount in netted.items():
            position[debtor] -= amount
            position[creditor] += amount
        paid = dict.fromkeys(merchants, 0)
        for payment in op["payments"]:
            require(position[payment["debtor"]] < 0 < position[payment["creditor"]], "NETTING_MISMATCH")
            paid[payment["debtor"]] -= payment["amount"]
            paid[payment["creditor"]] += payment["amount"]
        require(paid == position, "NETTING_MISMATCH")
        for key, amount in netted.items():
            self._change_obligation(key, -amount)

        def pay(seq: int) -> None:
            for payment in op["payments"]:
                parties = (payment["debtor"], payment["creditor"])
                self._add_obligation((op["currency"], *parties, seq, op["through"]), payment["amount"])

        self._changes.append(pay)
        return []

    # Section 7.29
    def _decide_settle(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        self._check_currency(op)
        require(op["debtor"] in self.accounts, "UNKNOWN_ACCOUNT", op["debtor"])
        self._use_reference(op["actor"], "payment", op["payment"])
        owed = sorted(
            (key[3] if key[3] >= 0 else MAX_INTEGER, key[4], key, amount)
            for key, amount in self.obligations.items()
            if key[:3] == (op["currency"], op["debtor"], op["actor"])
        )
        require(op["amount"] <= sum(amount for *_, amount in owed), "SETTLED_TOO_MUCH")
        rest = op["amount"]
        for _, _, key, amount in owed:
            self._change_obligation(key, -min(amount, rest))
            rest -= min(amount, rest)
        paid, currency = op["amount"], op["currency"]
        return [leg(op["actor"], currency, -paid), leg(op["debtor"], currency, paid)]

    # Section 7.30
    def _decide_dispute(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        claim = self.claims.get((op["claim"]["seq"], op["claim"]["index"]))
        require(claim is not None and op["actor"] in (claim["debtor"], claim["creditor"]), "UNKNOWN_CLAIM")
        assert claim is not None
        require(claim["status"] != "disputed", "DISPUTED")
        require(claim["disputed_by"] != op["actor"], "CLAIM_CLOSED")
        key = (claim["currency"], claim["debtor"], claim["creditor"], -1, claim["day"])
        open_amount = self.obligations.get(key, 0)
        require(claim["status"] != "cancelled" and open_amount >= claim["amount"], "CLAIM_CLOSED")
        self._change_obligation(key, -claim["amount"])
        self._changes.append(lambda _: claim.update(status="disputed", disputed_by=op["actor"]))
        return []

    # Section 7.31
    def _decide_resolve_dispute(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        claim = self.claims.get((op["claim"]["seq"], op["claim"]["index"]))
        operator = actor["role"] == "operator"
        require(claim is not None, "UNKNOWN_CLAIM")
        assert claim is not None
        require(operator or op["actor"] in (claim["debtor"], claim["creditor"]), "UNKNOWN_CLAIM")
        require(claim["status"] == "disputed", "NOT_DISPUTED")
        may = claim["disputed_by"] if op["outcome"] == "stands" else claim["creditor"]
        require(operator or op["actor"] == may, "NOT_PERMITTED")
        amount, currency = claim["amount"], claim["currency"]
        if op["outcome"] == "stands":
            key = (currency, claim["debtor"], claim["creditor"], -1, claim["day"])
            require(self.obligations.get(key, 0) + amount <= MAX_INTEGER, "AMOUNT_OVERFLOW")
            self._change_obligation(key, amount)
            self._changes.append(lambda _: claim.update(status="open"))
            return []
        self._changes.append(lambda _: claim.update(status="cancelled"))
        return [leg(claim["creditor"], currency, -amount), leg(claim["debtor"], currency, amount)]

    # Section 7.32
    def _decide_freeze(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] == "operator", "NOT_PERMITTED")
        require(op["account"] in self.accounts, "UNKNOWN_ACCOUNT", op["account"])
        require(op["account"] != op["actor"], "NOT_PERMITTED")
        require(not self.accounts[op["account"]]["frozen"], "ALREADY_FROZEN")
        self._changes.append(lambda _: self.accounts[op["account"]].update(frozen=True))
        return []

    # Section 7.33
    def _decide_unfreeze(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] == "operator", "NOT_PERMITTED")
        require(op["account"] in self.accounts, "UNKNOWN_ACCOUNT", op["account"])
        require(self.accounts[op["account"]]["frozen"], "NOT_FROZEN")
        self._changes.append(lambda _: self.accounts[op["account"]].update(frozen=False))
        return []

    # Section 7.34
    def _decide_replace_keys(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        return []

    # Section 7.35
    def _decide_recover_keys(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(actor["role"] == "operator", "NOT_PERMITTED")
        require(op["account"] in self.accounts, "UNKNOWN_ACCOUNT", op["account"])
        require(op["account"] != op["actor"], "NOT_PERMITTED")
        require(self.account_at(op["account"], time)["recovery"] is None, "RECOVERY_PENDING")
        return []

    # Section 7.36
    def _decide_cancel_recovery(self, op: dict[str, Any], actor: dict[str, Any], time: str) -> list[Posting]:
        require(op["account"] == op["actor"] or actor["role"] == "operator", "NOT_PERMITTED")
        require(op["account"] in self.accounts, "UNKNOWN_ACCOUNT", op["account"])
        require(self.account_at(op["account"], time)["recovery"] is not None, "NO_RECOVERY")
        return []

    # Section 7.37
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

    def _check_currency(self, part: dict[str, Any] | None) -> None:
        require(part is None or part["currency"] in self._units(), "UNKNOWN_CURRENCY")

    def _check_start(self, starts: str, time: str) -> None:
        assert self.genesis is not None
        require(milliseconds(starts) >= milliseconds(time) - self.genesis["clock_tolerance_ms"], "STARTS_IN_PAST")

    def _check_issuer(self, op: dict[str, Any], actor: dict[str, Any]) -> None:
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        require(self.assets[op["asset"]]["issuer"] == actor["id"], "NOT_PERMITTED")

    def _check_member(self, account: str) -> None:
        require(account in self.accounts and self.accounts[account]["role"] == "member", "UNKNOWN_ACCOUNT", account)

    def _use_reference(self, merchant: str, scope: str, reference: str) -> None:
        require((merchant, scope, reference) not in self.references, "REFERENCE_EXISTS")
        self._changes.append(lambda _: self.references.add((merchant, scope, reference)))

    def _check_large(self, op: dict[str, Any], amount: int, time: str) -> None:
        """Sections 7.6 and 7.7: what is above a bound of the version at the time of recording needs approval."""
        started = self._last_started(op["asset"], time)
        if started and amount > started["program"].get("approval_above", MAX_INTEGER):
            self._check_approval(op["actor"], time)

    # Section 8.1
    def _program_at(self, asset: str, at: str) -> dict[str, Any]:
        version = self._last_started(asset, at)
        require(version is not None, "PROGRAM_MISSING")
        assert version is not None
        require("ends" not in version or at < version["ends"], "PROGRAM_CLOSED")
        program: dict[str, Any] = version["program"]
        return program

    def _last_started(self, asset: str, at: str) -> dict[str, Any] | None:
        started = [version for version in self.programs.get(asset, []) if version["starts"] <= at]
        return started[-1] if started else None

    # Section 8.5
    def _today(self, asset: str, time: str) -> str:
        versions = self.programs.get(asset)
        return local_date(time, versions[0]["program"]["time_zone"] if versions else "UTC")

    # Section 8.4
    def _lot_then(self, asset: str, account: str, time: str) -> str | None:
        """The lot of points by the last version that had started at a time, closed or not; without one, no last day."""
        started = self._last_started(asset, time)
        if started is None:
            return None
        joined = self._draft.kept["members"].get((asset, account), {})
        day = local_date(time, started["program"]["time_zone"])
        return last_day(started["program"]["expiry"], day, joined.get("joined_on"))

    # Section 8.19
    def _join(self, asset: str, member: str, day: str) -> dict[str, Any]:
        """A membership, which begins on a day unless it has."""
        fresh = {"joined_on": day, "purchases": 0, "formula": None, "invited_by": None, "pool": None}
        fresh |= {"tier": None, "tier_until": NEVER, "plan": None, "plan_from": None, "plan_until": None}
        joined: dict[str, Any] = self._draft.kept["members"].setdefault((asset, member), fresh)
        return joined

    # Section 8.21
    def _standing(self, program: dict[str, Any], asset: str, member: str, day: str) -> Tiers | None:
        if "tiers" not in program:
            return None
        tiers, kept = program["tiers"], self._draft.kept
        joined = kept["members"].get((asset, member), {"joined_on": day})
        mine = (asset, member, tiers["basis"])
        counts = {key[3]: count for key, count in kept["progress"].items() if key[:3] == mine}
        return Tiers(tiers, counts, joined["joined_on"])

    def _tier(self, program: dict[str, Any], asset: str, member: str, day: str) -> str | None:
        standing = self._standing(program, asset, member, day)
        return standing.name_at(day) if standing else None

    def _note_tier(self, asset: str, member: str, day: str, time: str) -> None:
        """Note the tier of the program at the time of recording, as of today or a later day."""
        started, day = self._last_started(asset, time), max(day, self._today(asset, time))
        standing = self._standing(started["program"], asset, member, day) if started else None
        noted = {"tier": standing.name_at(day), "tier_until": standing.until(day)} if standing else {}
        self._draft.kept["members"][asset, member] |= noted or {"tier": None, "tier_until": NEVER}

    def _progress(self, program: dict[str, Any], asset: str, member: str, day: str, done: dict[str, int]) -> None:
        """Count what a member did in the period of a day, if tiers count it."""
        if "tiers" not in program or not done.get(program["tiers"]["basis"]):
            return
        kept, tiers = self._draft.kept, program["tiers"]
        years = Years(tiers["period"], kept["members"][asset, member]["joined_on"])
        key = (asset, member, tiers["basis"], years.name(years.number(day)))
        count = kept["progress"].get(key, 0) + done[tiers["basis"]]
        require(count <= MAX_INTEGER, "AMOUNT_OVERFLOW")
        assert count >= 0
        kept["progress"][key] = count
        if count == 0:
            del kept["progress"][key]

    # Section 8.12
    def _used(self, scope: str, account: str, period: str) -> int:
        used: int = self._draft.kept["used"].get((scope, account, period), 0)
        return used

    def _use(self, scope: str, account: str, period: str, count: int) -> None:
        used = self._used(scope, account, period) + count
        assert used >= 0
        self._draft.kept["used"][scope, account, period] = used

    # Section 8.23
    def _redated(self, account: str, asset: str, day: str, time: str) -> list[Posting]:
        """The legs with which the lots of who was active on a day last longer."""
        return self._lasting(account, asset, day, self._draft.lots_of(account, asset), time)

    def _lasting(self, account: str, asset: str, day: str, lots: dict[str, int], time: str) -> list[Posting]:
        started = self._last_started(asset, time)
        expiry: dict[str, Any] = started["program"]["expiry"] if started else {"after": "never"}
        if expiry["after"] != "inactivity":
            return []
        new = months_after(date.fromisoformat(day), expiry["months"]).isoformat()
        moved = [lot for lot in sorted(lots) if self._today(asset, time) <= lot < new and lots[lot] > 0]
        if not moved:
            return []
        moved = moved[:50]
        legs = [leg(account, asset, -lots[lot], lot) for lot in moved]
        return [*legs, leg(account, asset, sum(lots[lot] for lot in moved), new)]

    # Section 8.6
    def _spend(
        self, account: str, asset: str, amount: int, time: str, *, active: bool = True
    ) -> tuple[list[Posting], Parts]:
        """The legs with which an account gives points, lapsed holds before them, and what of which lot is given."""
        legs, lots = self._with_lapsed(account, asset, time)
        for item in self._lasting(account, asset, self._today(asset, time), lots, time) if active else []:
            legs.append(item)
            lots[item["lot"]] = lots.get(item["lot"], 0) + item["amount"]
        today = self._today(asset, time)
        usable = {lot: points for lot, points in lots.items() if lot >= today}
        require(sum(usable.values()) >= amount, "INSUFFICIENT_POINTS")
        parts: Parts = [(None if lot == NEVER else lot, usable[lot]) for lot in sorted(usable) if usable[lot] > 0]
        given, _ = first_of(parts, amount)
        return [*legs, *legs_of(account, asset, given, -1)], given

    # Section 8.9
    def _with_lapsed(self, account: str, asset: str, time: str) -> tuple[list[Posting], dict[str, int]]:
        """The legs that return an account's lapsed holds, and its lots by last day after them."""
        lapsed = sorted(
            (hold["until"], name)
            for name, hold in self.holds.items()
            if (hold["holder"], hold["asset"]) == (account, asset) and hold["status"] == "open" and time > hold["until"]
        )
        legs = [item for _, name in lapsed for item in self._returned(self.holds[name], "lapsed")]
        lots = {lot: points for (a, b, lot), points in self.lots.items() if (a, b) == (account, asset)}
        for item in legs:
            if item["account"] == account:
                lot = item.get("lot", NEVER)
                lots[lot] = lots.get(lot, 0) + item["amount"]
        return legs, lots

    # Section 8.7
    def _issued(self, asset: str, legs: list[Posting]) -> list[Posting]:
        total = sum(item["amount"] for item in legs)
        if total == 0:
            return []
        self._check_issue(asset, total)
        return [leg("sys_issued", asset, -total), *legs]

    def _check_issue(self, asset: str, total: int) -> None:
        issued = -self.lots.get(("sys_issued", asset, NEVER), 0)
        require(issued + total <= MAX_INTEGER, "POINTS_OVERFLOW")
        self._check_supply(asset, total)

    def _check_supply(self, asset: str, more: int) -> None:
        issued = -self.lots.get(("sys_issued", asset, NEVER), 0)
        gone = sum(self.lots.get((account, asset, NEVER), 0) for account in ("sys_spent", "sys_expired"))
        cap = self.assets[asset].get("supply_cap")
        require(cap is None or issued - gone + more <= cap, "SUPPLY_EXCEEDED")

    # Section 8.8
    def _repaying(self, asset: str, legs: list[Posting]) -> list[Posting]:
        """Legs that give points, of which those that repay a debt have no last day."""
        debts: dict[str, int] = {}
        split = []
        for item in legs:
            account, points = item["account"], item["amount"]
            debt = debts.get(account, max(0, -self._draft.lots.get((account, asset, NEVER), 0)))
            repaid = min(points, debt)
            debts[account] = debt - repaid
            if repaid == 0 or "lot" not in item:
                split.append(item)
                continue
            split.append(leg(account, asset, repaid))
            if points > repaid:
                split.append({**item, "amount": points - repaid})
        return split

    # Section 8.12
    def _count(self, cap: dict[str, Any] | None, whose: tuple[str, str], asset: str, points: int, time: str) -> None:
        """Count points under a cap, whose use is that of a scope and an account."""
        if cap is None:
            return
        today = self._today(asset, time)
        period = period_of(cap["period"], today)
        require(self._used(*whose, period) + points <= cap["points"], "CAP_EXCEEDED", str(whose))
        self._use(*whose, period, points)

    # Section 8.15
    def _check_may_issue(self, op: dict[str, Any], time: str) -> dict[str, Any] | None:
        """The agreement by which the actor gives points of this asset; none for its issuer."""
        require(op["asset"] in self.assets, "UNKNOWN_ASSET")
        if self.assets[op["asset"]]["issuer"] == op["actor"]:
            return None
        version = in_force(self.agreements.get(f"{op['asset']}+{op['actor']}", []), time)
        require(version is not None, "NOT_PERMITTED")
        return version

    def _bill(self, asset: str, partner: dict[str, Any] | None, total: int, time: str) -> None:
        if partner is not None and total:
            terms = partner["terms"]
            name = agreement_name(terms, partner["partner"])
            self._count(terms.get("total_cap"), (name, "*"), asset, total, time)
            if terms["billing"] == "prepaid":
                left = self.allotted.get(name, 0) - total
                require(left >= 0, "ALLOTMENT_USED_UP")
                self._changes.append(lambda _: self.allotted.update({name: left}))
            else:
                self._owe_claim(partner, total)

    # Section 8.16
    def _owe_claim(self, version: dict[str, Any], points: int) -> None:
        """Book what the terms of an agreement say is owed for points."""
        claim = version["terms"].get("claim")
        if claim is not None:
            (creditor,) = {version["actor"], version["partner"]} - {claim["debtor"]}
            name = agreement_name(version["terms"], version["partner"])
            self._owe(claim["debtor"], creditor, claim["currency"], claim_of(claim, points), name)

    def _owe(self, debtor: str, creditor: str, currency: str, amount: int, agreement: str | None = None) -> None:
        if amount and debtor != creditor:
            claim = {"debtor": debtor, "creditor": creditor, "currency": currency, "amount": amount}
            self._new_claims.append({**claim, "agreement": agreement, "status": "open", "disputed_by": None})

    def _change_obligation(self, key: Obligation, amount: int) -> None:
        self._changes.append(lambda _: self._add_obligation(key, amount))

    def _add_obligation(self, key: Obligation, amount: int) -> None:
        self.obligations[key] = self.obligations.get(key, 0) + amount
        assert self.obligations[key] >= 0
        if self.obligations[key] == 0:
            del self.obligations[key]

    def _check_amounts(self, postings: list[Posting], time: str) -> None:
        """Section 8.16: of money, balances after each pair of legs, and what is owed of a day."""
        balances: dict[tuple[str, str], int] = {}
        money = [item for item in postings if item["asset"] in self._units()]
        for pair in (money[i : i + 2] for i in range(0, len(money), 2)):
            for item in pair:
                place = (item["account"], item["asset"])
                balances[place] = balances.get(place, self.lots.get((*place, NEVER), 0)) + item["amount"]
                require(abs(item["amount"]) <= MAX_INTEGER, "AMOUNT_OVERFLOW")
                require(abs(balances[place]) <= MAX_INTEGER, "AMOUNT_OVERFLOW")
        owed: dict[Obligation, int] = {}
        for claim in self._new_claims:
            key = (claim["currency"], claim["debtor"], claim["creditor"], -1, time[:10])
            owed[key] = owed.get(key, self.obligations.get(key, 0)) + claim["amount"]
            require(owed[key] <= MAX_INTEGER, "AMOUNT_OVERFLOW")

    def apply(self, op: dict[str, Any], op_id: bytes, postings: list[Posting], *, seq: int, time: str) -> None:
        """Make the operation that was decided last part of the state."""
        self.op_ids.add(op_id)
        for item in postings:
            place = place_of(item)
            self.lots[place] = self.lots.get(place, 0) + item["amount"]
            if self.lots[place] == 0:
                del self.lots[place]
        self.kept = self._draft.kept
        for change in self._changes:
            change(seq)
        for index, claim in enumerate(self._new_claims):
            self.claims[seq, index] = {**claim, "day": time[:10]}
            key = (claim["currency"], claim["debtor"], claim["creditor"], -1, time[:10])
            self._add_obligation(key, claim["amount"])
        self._changes, self._new_claims = [], []
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
            self.programs.setdefault(op["asset"], []).append({**op, "seq": seq})
        elif kind == "replace_log_key":
            self.log_keys.append((seq, op["log_key"]))
        elif kind in ("replace_keys", "recover_keys", "cancel_recovery"):
            self._change_keys(op, time)

    def _change_keys(self, op: dict[str, Any], time: str) -> None:
        name = op.get("account", op["actor"])
        account = {**self.account_at(name, time), "recovery": None}
        threshold = op.get("threshold", 1)
        given = {"keys": op.get("keys"), "threshold": threshold, "approvals": op.get("approval_threshold", threshold)}
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
        threshold = op.get("threshold", 1)
        self.accounts[name] = {
            "id": name,
            "role": role,
            "keys": keys,
            "threshold": threshold,
            "approvals": op.get("approval_threshold", threshold),
            "custodian": custodian,
            "recovery": None,
            "frozen": False,
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

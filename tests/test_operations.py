"""Operations: which documents are well formed, and what each refusal of another names."""

import copy
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_origin

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import operations, program_terms, terms
from ledger.encoding import MAX_INTEGER, encode_base64url
from ledger.keys import encode_public_key
from ledger.operations import (
    KINDS,
    MalformedError,
    Signature,
    build_operation,
    decode_operation,
    decode_signed_operation,
    encode_operation,
    encode_signed_operation,
    operation_id,
    sign_with,
    signed_message,
)
from ledger.terms import FORMS, MAX_SIGNATURES, Document

KEYS = [encode_public_key(Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32)) for i in range(20)]
MEMBER, OTHER_MEMBER, MERCHANT, OPERATOR, OTHER_MERCHANT, THIRD_MERCHANT = (
    prefix + letter * 26
    for prefix, letter in zip(("mem_", "mem_", "mer_", "opr_", "mer_", "mer_"), "abcdef", strict=True)
)
AT = "2026-11-22T10:15:30.123Z"
LATER = "2027-11-22T10:15:30.123Z"

COMMON: dict[str, Any] = {
    "guerdon": 1,
    "ledger": "ledger.example:8000/coalition",
    "at": AT,
    "nonce": "AAECAwQFBgcICQoLDA0ODw",
    "expires": LATER,
}


def kind_of(name: str) -> str:
    """The kind of a document in the table below."""
    return name.partition(" ")[0]


HOLD = "hld_" + "h" * 26
HASH = hashlib.sha256(b"an operation").hexdigest()
FEE = {"amount": 5, "currency": "USD", "fixed": 25, "maximum": 300, "points": 100, "round": "half_up"}
CLAIM = {"amount": 1, "currency": "USD", "debtor": OTHER_MERCHANT, "points": 100, "round": "half_even"}
HOLDER_CAP = {"period": "month", "points": 20_000}
TOTAL_CAP = {"period": "year", "points": 5_000_000}
LIMIT = {"count": 3, "period": "year"}
AGREEMENT = {
    "actor": MERCHANT,
    "ends": LATER,
    "notice_days": 30,
    "partner": OTHER_MERCHANT,
    "starts": AT,
    "version": 1,
}

# A document of each kind with every field it can have; of a kind that is said in several ways, one of each way, whose
# name is the kind and the way. The other tables name the kind alone: what they say holds for all its ways.
DOCUMENTS: dict[str, dict[str, Any]] = {
    "genesis": {
        "clock_tolerance_ms": 30_000,
        "currencies": [{"code": "USD", "scale": 2}, {"code": "JPY", "scale": 0}],
        "keys": KEYS[:3],
        "log_key": "ledger.example:8000/coalition+00000000+AQ==",
        "name": "Coalition of Zürich",
        "recovery_delay_ms": 86_400_000,
        "threshold": 2,
    },
    "open_account": {
        "actor": OPERATOR,
        "approval_threshold": 3,
        "keys": KEYS[:3],
        "name": "Café",
        "role": "merchant",
        "threshold": 2,
    },
    "define_asset": {
        "actor": MERCHANT,
        "asset": "STAR",
        "name": "Stars",
        "scale": 0,
        "supply_cap": 1_000_000,
        "transfer_terms": {
            "fee": FEE,
            "in_cap": {"period": "ever", "points": 50_000},
            "maximum": 10_000,
            "minimum": 100,
            "out_cap": {"period": "day", "points": 20_000},
            "step": 50,
        },
        "transferable": True,
        "value": {"amount": 1, "currency": "USD", "points": 100},
    },
    "publish_program": {
        "actor": MERCHANT,
        "asset": "STAR",
        "ends": LATER,
        "program": {
            "approval_above": 1_000,
            "bands": [{"from": 5_000, "per": 100, "points": 1}, {"from": 10_000, "per": 100, "points": 2}],
            "benefits": [{"benefit": "free_shipping", "when": {"tiers": ["silver", "gold"]}}],
            "birthday": {"activity": "birthday", "points": 250},
            "bonuses": [{"bonus": "welcome", "points": 500, "when": {"first_purchase": True}}],
            "currency": "USD",
            "earning_cap": HOLDER_CAP,
            "excluded_categories": ["tax", "gift_cards"],
            "expiry": {"after": "months", "count": 12},
            "formulas": [{"bands": [{"from": 100, "per": 1, "points": 5}], "formula": "miles", "quantity": "miles"}],
            "grants": [
                {"activity": "birthday", "limit": {**LIMIT}, "max_points": 250},
                {"activity": "survey", "evidence": True, "max_points": 10, "scored": True},
            ],
            "multipliers": [
                {
                    "multiplier": "happy_hour",
                    "times": {"denominator": 4, "numerator": 5},
                    "when": {
                        "categories": ["coffee"],
                        "channels": ["app"],
                        "first_purchase": True,
                        "from_amount": 2_500,
                        "from_day": "2026-12-01",
                        "invited": True,
                        "merchants": [MERCHANT],
                        "plans": ["prime"],
                        "products": ["BEANS/1KG"],
                        "tenders": ["card"],
                        "through_day": "2026-12-24",
                        "tiers": ["gold"],
                        "weekdays": ["mon", "sun"],
                        "within_days": 30,
                    },
                }
            ],
            "plans": [{"days": 365, "plan": "prime", "price": 9_900}],
            "purchase_within_days": 30,
            "referral": {"limit": {**LIMIT}, "points": 1_000},
            "refunds": "owe",
            "reminders": {"balance": "month", "expiring_days": [30, 7], "new_tier": True},
            "returned_lot_days": 30,
            "rewards": [
                {
                    "automatic": True,
                    "limit": {**LIMIT},
                    "price": 150,
                    "reward": "drink",
                    "stock": 10_000,
                    "valid_days": 90,
                    "when": {"weekdays": ["fri"]},
                    "worth": 500,
                }
            ],
            "round_amount": "whole_units",
            "round_points": "down",
            "stacking": "product",
            "status_asset": "LEVEL",
            "tiers": {
                "basis": "status",
                "drop": "one_level",
                "grace_days": 14,
                "kept": 1,
                "levels": [{"from": 100, "tier": "silver"}, {"from": 500, "never_expires": True, "tier": "gold"}],
                "period": "membership_year",
                "window": 2,
            },
            "time_zone": "America/New_York",
            "vesting_days": 14,
        },
        "starts": AT,
        "version": 1,
    },
    "record_purchases": {
        "actor": MERCHANT,
        "asset": "STAR",
        "currency": "USD",
        "purchases": [
            {
                "amount": 12_075,
                "at": AT,
                "channel": "shop",
                "lines": [
                    {"amount": 12_000, "category": "coffee", "product": "BEANS/1KG"},
                    {"amount": 75, "category": "tax"},
                ],
                "member": MEMBER,
                "order": "2026-000017",
                "quantities": [{"name": "miles", "quantity": 1_700}],
                "tender": "card",
            },
            {"amount": 0, "at": LATER, "member": MEMBER, "order": "2026-000018"},
        ],
    },
    "grant": {
        "activity": "birthday",
        "actor": MERCHANT,
        "amount": 250,
        "asset": "STAR",
        "evidence": HASH,
        "member": MEMBER,
        "reference": "2026/birthday#17",
        "score": 9,
    },
    "transfer": {
        "actor": MEMBER,
        "asset": "STAR",
        "maximum_fee": 300,
        "recipients": [{"amount": 1_250, "to": OTHER_MEMBER}, {"amount": 1, "to": MERCHANT}],
    },
    "redeem": {
        "actor": MEMBER,
        "amount": 150,
        "asset": "STAR",
        "from_pool": True,
        "merchant": MERCHANT,
        "reference": "bill-9",
        "reward": "drink",
    },
    "correct": {
        "actor": MERCHANT,
        "amount": -120,
        "asset": "STAR",
        "member": MEMBER,
        "reason": "error",
        "reference": "2026/correction#3",
    },
    "exchange": {
        "actor": MEMBER,
        "amount": 1_000,
        "asset": "STAR",
        "into": "BEAN",
        "maximum_fee": 300,
        "minimum_out": 600,
    },
    "hold": {
        "actor": MEMBER,
        "amount": 150,
        "asset": "STAR",
        "merchant": MERCHANT,
        "reference": "booking-9",
        "until": LATER,
    },
    "capture": {"actor": MERCHANT, "amount": 100, "final": True, "hold": HOLD, "reference": "bill-9"},
    "release": {"actor": MERCHANT, "hold": HOLD},
    "refund purchase": {
        "actor": MERCHANT,
        "asset": "STAR",
        "of": {
            "amount": 12_050,
            "lines": [{"amount": 12_000, "line": 0}, {"amount": 50, "line": 1}],
            "order": "2026-000017",
            "type": "purchase",
        },
        "reference": "2026/refund#1",
    },
    "refund redemption": {
        "actor": MERCHANT,
        "asset": "STAR",
        "of": {"amount": 150, "operation": HASH, "type": "redemption"},
        "reference": "2026/refund#2",
    },
    "refund exchange": {
        "actor": MERCHANT,
        "asset": "STAR",
        "of": {"amount": 1_000, "operation": HASH, "type": "exchange"},
        "reference": "2026/refund#3",
    },
    "expire": {"actor": OPERATOR, "asset": "STAR", "limit": 400, "through": "2026-11-21"},
    "enroll": {"actor": MEMBER, "asset": "STAR", "formula": "miles", "invited_by": OTHER_MEMBER},
    "vest": {
        "actor": OPERATOR,
        "asset": "STAR",
        "purchases": [
            {"merchant": MERCHANT, "order": "2026-000017"},
            {"merchant": OTHER_MERCHANT, "order": "2026-000017"},
        ],
    },
    "review_tiers": {"actor": OPERATOR, "asset": "STAR", "members": [MEMBER, OTHER_MEMBER]},
    "start_plan": {
        "actor": MERCHANT,
        "asset": "STAR",
        "member": MEMBER,
        "plan": "prime",
        "reference": "2026/prime#9",
    },
    "end_plan": {"actor": MERCHANT, "asset": "STAR", "member": MEMBER, "reason": "refunded"},
    "form_pool": {"actor": MEMBER, "asset": "STAR", "members": [OTHER_MEMBER]},
    "leave_pool": {"actor": MEMBER, "asset": "STAR"},
    "use_voucher": {"actor": MERCHANT, "reference": "bill-9", "voucher": {"index": 1, "seq": 4_711}},
    "remind": {"about": "expiry", "actor": OPERATOR, "asset": "STAR", "members": [MEMBER, OTHER_MEMBER]},
    "agree exchange": {
        **AGREEMENT,
        "terms": {
            "asset": "STAR",
            "bonus": {"block": 1_000, "points": 50},
            "claim": CLAIM,
            "fee": {**FEE, "kept_by": MERCHANT},
            "holder_cap": HOLDER_CAP,
            "into": "BEAN",
            "maximum": 10_000,
            "minimum": 100,
            "off_step": "down",
            "rate": {"get": 3, "give": 5},
            "received": "retired",
            "step": 50,
            "total_cap": TOTAL_CAP,
            "type": "exchange",
        },
    },
    "agree acceptance": {
        **AGREEMENT,
        "terms": {
            "asset": "STAR",
            "claim": CLAIM,
            "holder_cap": HOLDER_CAP,
            "maximum": 10_000,
            "minimum": 100,
            "received": "kept",
            "step": 50,
            "total_cap": TOTAL_CAP,
            "type": "acceptance",
        },
    },
    "agree earning": {
        **AGREEMENT,
        "terms": {
            "alert_below": 5_000,
            "asset": "STAR",
            "billing": "prepaid",
            "claim": CLAIM,
            "total_cap": TOTAL_CAP,
            "type": "earning",
        },
    },
    "end_agreement": {"actor": OTHER_MERCHANT, "agreement": "STAR>BEAN", "ends": LATER},
    "allot": {
        "actor": MERCHANT,
        "asset": "STAR",
        "partner": OTHER_MERCHANT,
        "points": 100_000,
        "reference": "2026/block#2",
    },
    "net": {
        "actor": OPERATOR,
        "currency": "USD",
        "merchants": [MERCHANT, OTHER_MERCHANT, THIRD_MERCHANT],
        "payments": [
            {"amount": 700, "creditor": MERCHANT, "debtor": OTHER_MERCHANT},
            {"amount": 50, "creditor": MERCHANT, "debtor": THIRD_MERCHANT},
        ],
        "through": "2026-11-21",
    },
    "settle": {
        "actor": MERCHANT,
        "amount": 700,
        "currency": "USD",
        "debtor": OTHER_MERCHANT,
        "payment": "SEPA/2026-11-22/4711",
    },
    "dispute": {"actor": OTHER_MERCHANT, "claim": {"index": 1, "seq": 4_711}, "reason": "duplicate"},
    "resolve_dispute": {"actor": OPERATOR, "claim": {"index": 1, "seq": 4_711}, "outcome": "stands"},
    "freeze": {"account": MEMBER, "actor": OPERATOR, "reason": "lost_keys"},
    "unfreeze": {"account": MEMBER, "actor": OPERATOR, "reason": "resolved"},
    "replace_keys": {"actor": MEMBER, "approval_threshold": 3, "keys": KEYS[:3], "threshold": 2},
    "recover_keys": {
        "account": MEMBER,
        "actor": OPERATOR,
        "approval_threshold": 3,
        "keys": KEYS[:3],
        "threshold": 2,
    },
    "cancel_recovery": {"account": MEMBER, "actor": MEMBER},
    "replace_log_key": {"actor": OPERATOR, "log_key": "ledger.example:8000/coalition+00000000+AQ=="},
}
DOCUMENTS = {name: {**COMMON, "kind": kind_of(name), **fields} for name, fields in DOCUMENTS.items()}

# What may be left out, and has no other spelling of absence: null is refused as another spelling.
NULLABLE = {
    ("genesis", "recovery_delay_ms"),
    ("open_account", "actor"),
    ("open_account", "approval_threshold"),
    ("open_account", "name"),
    ("define_asset", "supply_cap"),
    ("define_asset", "transfer_terms"),
    ("define_asset", "transfer_terms.fee"),
    ("define_asset", "transfer_terms.fee.maximum"),
    ("define_asset", "transfer_terms.in_cap"),
    ("define_asset", "transfer_terms.maximum"),
    ("define_asset", "transfer_terms.out_cap"),
    ("define_asset", "value"),
    ("publish_program", "ends"),
    ("publish_program", "program.approval_above"),
    ("publish_program", "program.benefits.when"),
    ("publish_program", "program.birthday"),
    ("publish_program", "program.bonuses.when"),
    ("publish_program", "program.earning_cap"),
    ("publish_program", "program.formulas.quantity"),
    ("publish_program", "program.grants.limit"),
    ("publish_program", "program.multipliers.when"),
    ("publish_program", "program.multipliers.when.from_day"),
    ("publish_program", "program.multipliers.when.through_day"),
    ("publish_program", "program.multipliers.when.within_days"),
    ("publish_program", "program.purchase_within_days"),
    ("publish_program", "program.referral"),
    ("publish_program", "program.referral.limit"),
    ("publish_program", "program.reminders"),
    ("publish_program", "program.reminders.balance"),
    ("publish_program", "program.rewards.limit"),
    ("publish_program", "program.rewards.stock"),
    ("publish_program", "program.rewards.valid_days"),
    ("publish_program", "program.rewards.when"),
    ("publish_program", "program.rewards.worth"),
    ("publish_program", "program.status_asset"),
    ("publish_program", "program.tiers"),
    ("publish_program", "program.vesting_days"),
    ("record_purchases", "purchases.channel"),
    ("record_purchases", "purchases.lines.category"),
    ("record_purchases", "purchases.lines.product"),
    ("record_purchases", "purchases.tender"),
    ("grant", "evidence"),
    ("grant", "score"),
    ("redeem", "reference"),
    ("redeem", "reward"),
    ("enroll", "formula"),
    ("enroll", "invited_by"),
    ("use_voucher", "reference"),
    ("hold", "reference"),
    ("capture", "reference"),
    ("agree", "ends"),
    ("agree", "terms.alert_below"),
    ("agree", "terms.bonus"),
    ("agree", "terms.claim"),
    ("agree", "terms.fee"),
    ("agree", "terms.fee.maximum"),
    ("agree", "terms.holder_cap"),
    ("agree", "terms.maximum"),
    ("agree", "terms.total_cap"),
    ("replace_keys", "approval_threshold"),
    ("recover_keys", "approval_threshold"),
    *((kind, "expires") for kind in KINDS),
}

# What may be left out because it has a default that is no null, with this default.
DEFAULTS: dict[tuple[str, str], Any] = {
    ("genesis", "threshold"): 1,
    ("open_account", "keys"): [],
    ("open_account", "threshold"): 1,
    ("define_asset", "transfer_terms.fee.fixed"): 0,
    ("define_asset", "transfer_terms.minimum"): 1,
    ("define_asset", "transfer_terms.step"): 1,
    **{
        ("publish_program", f"program.{name}"): []
        for name in ("benefits", "bonuses", "excluded_categories", "formulas")
    },
    **{("publish_program", f"program.{name}"): [] for name in ("grants", "multipliers", "plans", "rewards")},
    ("publish_program", "program.benefits.when.tiers"): [],
    ("publish_program", "program.bonuses.when.first_purchase"): False,
    ("publish_program", "program.grants.evidence"): False,
    ("publish_program", "program.grants.scored"): False,
    **{
        ("publish_program", f"program.multipliers.when.{name}"): []
        for name in ("categories", "channels", "merchants", "plans", "products", "tenders", "tiers", "weekdays")
    },
    ("publish_program", "program.multipliers.when.first_purchase"): False,
    ("publish_program", "program.multipliers.when.from_amount"): 0,
    ("publish_program", "program.multipliers.when.invited"): False,
    ("publish_program", "program.refunds"): "cap",
    ("publish_program", "program.reminders.expiring_days"): [],
    ("publish_program", "program.reminders.new_tier"): False,
    ("publish_program", "program.returned_lot_days"): 0,
    ("publish_program", "program.rewards.automatic"): False,
    ("publish_program", "program.rewards.when.weekdays"): [],
    ("publish_program", "program.stacking"): "best",
    ("publish_program", "program.tiers.drop"): "to_earned",
    ("publish_program", "program.tiers.grace_days"): 0,
    ("publish_program", "program.tiers.kept"): 0,
    ("publish_program", "program.tiers.levels.never_expires"): False,
    ("publish_program", "program.tiers.window"): 1,
    ("record_purchases", "purchases.lines"): [],
    ("record_purchases", "purchases.quantities"): [],
    ("grant", "amount"): 0,
    ("redeem", "from_pool"): False,
    ("refund", "of.lines"): [],
    ("transfer", "maximum_fee"): 0,
    ("exchange", "maximum_fee"): 0,
    ("capture", "final"): False,
    ("agree", "terms.fee.fixed"): 0,
    ("agree", "terms.minimum"): 1,
    ("agree", "terms.off_step"): "refuse",
    ("agree", "terms.step"): 1,
    ("replace_keys", "threshold"): 1,
    ("recover_keys", "threshold"): 1,
}

# The least and the most of each integer.
RANGES: dict[tuple[str, str], tuple[int, int]] = {
    ("genesis", "clock_tolerance_ms"): (0, 3_600_000),
    ("genesis", "currencies.scale"): (0, 4),
    ("genesis", "recovery_delay_ms"): (60_000, 7_776_000_000),
    ("genesis", "threshold"): (1, 8),
    ("open_account", "approval_threshold"): (2, 8),
    ("open_account", "threshold"): (1, 8),
    ("define_asset", "scale"): (0, 6),
    ("define_asset", "supply_cap"): (1, MAX_INTEGER),
    ("define_asset", "transfer_terms.fee.amount"): (0, MAX_INTEGER),
    ("define_asset", "transfer_terms.fee.fixed"): (0, MAX_INTEGER),
    ("define_asset", "transfer_terms.fee.maximum"): (1, MAX_INTEGER),
    ("define_asset", "transfer_terms.fee.points"): (1, MAX_INTEGER),
    ("define_asset", "transfer_terms.in_cap.points"): (1, MAX_INTEGER),
    ("define_asset", "transfer_terms.maximum"): (1, MAX_INTEGER),
    ("define_asset", "transfer_terms.minimum"): (1, MAX_INTEGER),
    ("define_asset", "transfer_terms.out_cap.points"): (1, MAX_INTEGER),
    ("define_asset", "transfer_terms.step"): (1, MAX_INTEGER),
    ("define_asset", "value.amount"): (0, MAX_INTEGER),
    ("define_asset", "value.points"): (1, MAX_INTEGER),
    ("publish_program", "program.approval_above"): (0, MAX_INTEGER),
    ("publish_program", "program.bands.from"): (0, MAX_INTEGER),
    ("publish_program", "program.bands.per"): (1, 10**12),
    ("publish_program", "program.bands.points"): (0, 10**9),
    ("publish_program", "program.expiry.count"): (0, 1_200),
    ("publish_program", "program.birthday.points"): (1, MAX_INTEGER),
    ("publish_program", "program.bonuses.points"): (1, MAX_INTEGER),
    ("publish_program", "program.earning_cap.points"): (1, MAX_INTEGER),
    ("publish_program", "program.formulas.bands.from"): (0, MAX_INTEGER),
    ("publish_program", "program.formulas.bands.per"): (1, 10**12),
    ("publish_program", "program.formulas.bands.points"): (0, 10**9),
    ("publish_program", "program.grants.limit.count"): (1, MAX_INTEGER),
    ("publish_program", "program.grants.max_points"): (0, MAX_INTEGER),
    ("publish_program", "program.multipliers.times.denominator"): (1, 1_000_000),
    ("publish_program", "program.multipliers.times.numerator"): (0, 1_000_000),
    ("publish_program", "program.multipliers.when.from_amount"): (0, MAX_INTEGER),
    ("publish_program", "program.multipliers.when.within_days"): (1, 36_500),
    ("publish_program", "program.plans.days"): (1, 36_500),
    ("publish_program", "program.plans.price"): (0, MAX_INTEGER),
    ("publish_program", "program.purchase_within_days"): (0, 36_500),
    ("publish_program", "program.referral.limit.count"): (1, MAX_INTEGER),
    ("publish_program", "program.referral.points"): (1, MAX_INTEGER),
    ("publish_program", "program.reminders.expiring_days"): (1, 366),
    ("publish_program", "program.returned_lot_days"): (0, 365),
    ("publish_program", "program.rewards.limit.count"): (1, MAX_INTEGER),
    ("publish_program", "program.rewards.price"): (1, MAX_INTEGER),
    ("publish_program", "program.rewards.stock"): (0, MAX_INTEGER),
    ("publish_program", "program.rewards.valid_days"): (0, 36_500),
    ("publish_program", "program.rewards.worth"): (0, MAX_INTEGER),
    ("publish_program", "program.tiers.grace_days"): (0, 366),
    ("publish_program", "program.tiers.kept"): (0, 120),
    ("publish_program", "program.tiers.levels.from"): (0, MAX_INTEGER),
    ("publish_program", "program.tiers.window"): (1, 120),
    ("publish_program", "program.vesting_days"): (1, 36_500),
    ("publish_program", "version"): (1, 1_000_000),
    ("record_purchases", "purchases.amount"): (0, MAX_INTEGER),
    ("record_purchases", "purchases.lines.amount"): (0, MAX_INTEGER),
    ("record_purchases", "purchases.quantities.quantity"): (0, MAX_INTEGER),
    ("grant", "amount"): (0, MAX_INTEGER),
    ("grant", "score"): (0, 10),
    ("transfer", "maximum_fee"): (0, MAX_INTEGER),
    ("transfer", "recipients.amount"): (1, MAX_INTEGER),
    ("redeem", "amount"): (1, MAX_INTEGER),
    ("correct", "amount"): (-MAX_INTEGER, MAX_INTEGER),
    ("exchange", "amount"): (1, MAX_INTEGER),
    ("exchange", "maximum_fee"): (0, MAX_INTEGER),
    ("exchange", "minimum_out"): (1, MAX_INTEGER),
    ("hold", "amount"): (1, MAX_INTEGER),
    ("capture", "amount"): (1, MAX_INTEGER),
    ("refund", "of.amount"): (1, MAX_INTEGER),
    ("refund", "of.lines.amount"): (1, MAX_INTEGER),
    ("refund", "of.lines.line"): (0, 99),
    ("use_voucher", "voucher.index"): (0, 100_000),
    ("use_voucher", "voucher.seq"): (0, MAX_INTEGER),
    ("expire", "limit"): (1, 400),
    ("agree", "notice_days"): (0, 3_650),
    ("agree", "terms.alert_below"): (1, MAX_INTEGER),
    ("agree", "terms.bonus.block"): (1, MAX_INTEGER),
    ("agree", "terms.bonus.points"): (1, MAX_INTEGER),
    ("agree", "terms.claim.amount"): (1, MAX_INTEGER),
    ("agree", "terms.claim.points"): (1, MAX_INTEGER),
    ("agree", "terms.fee.amount"): (0, MAX_INTEGER),
    ("agree", "terms.fee.fixed"): (0, MAX_INTEGER),
    ("agree", "terms.fee.maximum"): (1, MAX_INTEGER),
    ("agree", "terms.fee.points"): (1, MAX_INTEGER),
    ("agree", "terms.holder_cap.points"): (1, MAX_INTEGER),
    ("agree", "terms.maximum"): (1, MAX_INTEGER),
    ("agree", "terms.minimum"): (1, MAX_INTEGER),
    ("agree", "terms.rate.get"): (1, MAX_INTEGER),
    ("agree", "terms.rate.give"): (1, MAX_INTEGER),
    ("agree", "terms.step"): (1, MAX_INTEGER),
    ("agree", "terms.total_cap.points"): (1, MAX_INTEGER),
    ("agree", "version"): (1, 1_000_000),
    ("allot", "points"): (1, MAX_INTEGER),
    ("net", "payments.amount"): (1, MAX_INTEGER),
    ("settle", "amount"): (1, MAX_INTEGER),
    ("dispute", "claim.index"): (0, 100),
    ("dispute", "claim.seq"): (0, MAX_INTEGER),
    ("resolve_dispute", "claim.index"): (0, 100),
    ("resolve_dispute", "claim.seq"): (0, MAX_INTEGER),
    ("replace_keys", "approval_threshold"): (2, 8),
    ("replace_keys", "threshold"): (1, 8),
    ("recover_keys", "approval_threshold"): (2, 8),
    ("recover_keys", "threshold"): (1, 8),
}

# The integers whose least or most contradicts the rest of their document: see the contradictions below.
BOUND_BY_OTHERS = {
    *((kind, field) for kind, field in RANGES if field.endswith(("threshold", "terms.minimum", "terms.maximum"))),
    ("publish_program", "program.bands.from"),
    ("publish_program", "program.birthday.points"),
    ("publish_program", "program.grants.max_points"),
    ("publish_program", "program.tiers.kept"),
    ("publish_program", "program.tiers.levels.from"),
    ("publish_program", "program.tiers.window"),
    ("record_purchases", "purchases.amount"),
    ("record_purchases", "purchases.lines.amount"),
    ("refund", "of.amount"),
    ("refund", "of.lines.amount"),
    ("refund", "of.lines.line"),
    ("transfer", "recipients.amount"),
}

# The fewest and the most items of each list.
LENGTHS: dict[tuple[str, str], tuple[int, int]] = {
    ("genesis", "currencies"): (1, 32),
    ("genesis", "keys"): (1, 8),
    ("open_account", "keys"): (0, 8),
    ("publish_program", "program.bands"): (1, 32),
    ("publish_program", "program.benefits"): (0, 64),
    ("publish_program", "program.benefits.when.tiers"): (0, 64),
    ("publish_program", "program.bonuses"): (0, 64),
    ("publish_program", "program.excluded_categories"): (0, 64),
    ("publish_program", "program.formulas"): (0, 8),
    ("publish_program", "program.formulas.bands"): (1, 32),
    ("publish_program", "program.grants"): (0, 64),
    ("publish_program", "program.multipliers"): (0, 64),
    **{
        ("publish_program", f"program.multipliers.when.{name}"): (0, 64)
        for name in ("categories", "channels", "merchants", "plans", "products", "tenders", "tiers")
    },
    ("publish_program", "program.multipliers.when.weekdays"): (0, 7),
    ("publish_program", "program.plans"): (0, 8),
    ("publish_program", "program.reminders.expiring_days"): (0, 4),
    ("publish_program", "program.rewards"): (0, 256),
    ("publish_program", "program.rewards.when.weekdays"): (0, 7),
    ("publish_program", "program.tiers.levels"): (1, 16),
    ("record_purchases", "purchases"): (1, 1_000),
    ("record_purchases", "purchases.lines"): (0, 100),
    ("record_purchases", "purchases.quantities"): (0, 8),
    ("refund", "of.lines"): (0, 100),
    ("vest", "purchases"): (1, 200),
    ("review_tiers", "members"): (1, 400),
    ("form_pool", "members"): (1, 7),
    ("remind", "members"): (1, 400),
    ("transfer", "recipients"): (1, 100),
    ("net", "merchants"): (2, 100),
    ("net", "payments"): (0, 99),
    ("replace_keys", "keys"): (1, 8),
    ("recover_keys", "keys"): (1, 8),
}

BAD_TIMES = ["", "2026-11-22", "2026-11-22T10:15:30Z", "2026-11-22T10:15:30.123+00:00", "1899-12-31T23:59:59.999Z"]
BAD_TIMES += [
    "3000-01-01T00:00:00.000Z",
    "2026-02-29T00:00:00.000Z",
    "2026-11-22T24:00:00.000Z",
    "2016-12-31T23:59:60.000Z",
]
BAD_ACCOUNTS = ["", "mem_", "mem_" + "a" * 25, "mem_" + "a" * 27, "mem_" + "A" * 26, "mem_" + "1" * 26, "sys_issued"]
BAD_ACCOUNTS += ["usr_" + "a" * 26, "mem-" + "a" * 26, "sys_" + "a" * 26]
BAD_ASSETS = ["", "S", "star", "1STAR", "STAR-", "A" * 17, "STÄR"]
BAD_CURRENCIES = ["", "US", "USDT", "usd", "U1D", "ÜSD"]
BAD_REFERENCES = ["", "-1", "a b", "é", "a" * 65, ".a", "a\0", "a@b"]
BAD_LABELS = ["", "Birthday", "1st", "_a", "a-b", "a" * 33, "é"]
BAD_DATES = ["", "2026-02-29", "1899-12-31", "3000-01-01", "2026-1-1", "20260101", "2026-W01-1", AT]
BAD_NAMES = ["", " a", "a ", "a\tb", "a\nb", "\x7f", "a\x00", "a" * 65, "\u2028a", "a\u00a0", "\x1f"]
BAD_HASHES = ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "0x" + "a" * 62, "a" * 63 + "="]
BAD_KEYS = ["", "A" * 42, "A" * 44, "+" * 43, "A" * 43, KEYS[0][:-1] + "=", KEYS[0][:-1], "-" * 43]

# Texts each field of text must refuse, by what it is.
BAD_TEXTS: dict[str, list[str]] = {
    "account": BAD_ACCOUNTS,
    "actor": BAD_ACCOUNTS,
    "member": BAD_ACCOUNTS,
    "merchant": BAD_ACCOUNTS,
    "to": BAD_ACCOUNTS,
    "partner": BAD_ACCOUNTS,
    "invited_by": BAD_ACCOUNTS,
    "members": BAD_ACCOUNTS,
    "merchants": BAD_ACCOUNTS,
    "creditor": BAD_ACCOUNTS,
    "debtor": BAD_ACCOUNTS,
    "kept_by": BAD_ACCOUNTS,
    "asset": BAD_ASSETS,
    "into": BAD_ASSETS,
    "status_asset": BAD_ASSETS,
    "code": BAD_CURRENCIES,
    "currency": BAD_CURRENCIES,
    "at": BAD_TIMES,
    "expires": BAD_TIMES,
    "starts": BAD_TIMES,
    "ends": BAD_TIMES,
    "until": BAD_TIMES,
    "through": BAD_DATES,
    "from_day": BAD_DATES,
    "through_day": BAD_DATES,
    "ledger": [
        "",
        "https://ledger.example",
        "Ledger.example",
        "a b",
        "a+b",
        "a/",
        "a//b",
        "a:",
        "a:123456",
        "a" * 129,
        "/a",
        "é",
    ],
    "nonce": ["", "A" * 21, "A" * 23, "A" * 21 + "B", "A" * 20 + "+A", "A" * 22 + "=="],
    "keys": BAD_KEYS,
    "order": BAD_REFERENCES,
    "reference": BAD_REFERENCES,
    "payment": BAD_REFERENCES,
    "product": BAD_REFERENCES,
    "products": BAD_REFERENCES,
    "evidence": BAD_HASHES,
    "operation": BAD_HASHES,
    "hold": ["", "hld_", "hld_" + "a" * 25, "hld_" + "a" * 27, "hld_" + "A" * 26, "hld_" + "1" * 26, MEMBER, HASH],
    "agreement": [
        "",
        "STAR",
        "STAR>",
        ">BEAN",
        "STAR>B",
        "STAR>bean",
        "star>BEAN",
        "STAR>BEAN>LEAF",
        "STAR > BEAN",
        f"STAR>{MERCHANT}",
        "STAR@BEAN",
        "STAR+BEAN",
        f"STAR@{MEMBER}",
        f"STAR+{MEMBER}",
        f"STAR+ben_{'a' * 26}",
        f"STAR@{MERCHANT}a",
        f"{MERCHANT}@STAR",
        "A" * 17 + ">BEAN",
    ],
    "activity": BAD_LABELS,
    **dict.fromkeys(("benefit", "bonus", "formula", "multiplier", "plan", "quantity", "reward", "tier"), BAD_LABELS),
    **dict.fromkeys(("categories", "category", "channel", "channels", "excluded_categories", "plans"), BAD_LABELS),
    **dict.fromkeys(("tender", "tenders", "tiers"), BAD_LABELS),
    "about": ["", "Balance", "birthday"],
    "balance": ["", "day", "Month"],
    "basis": ["", "base", "Points"],
    "drop": ["", "down", "One_level"],
    "stacking": ["", "max", "Sum"],
    "weekdays": ["", "Mon", "monday", "1"],
    "name": BAD_NAMES,
    "log_key": ["a" * 257],
    "kind": ["", "Transfer", "mint", "TRANSFER", "transfer "],
    "role": ["", "operator", "Member", "system"],
    "after": ["", "weeks", "Never"],
    "reason": ["", "Fraud", "because", "lost keys"],
    "outcome": ["", "stand", "canceled", "Stands"],
    "type": ["", "Exchange", "purchases", "grant"],
    "billing": ["", "Prepaid", "monthly"],
    "received": ["", "Kept", "burned"],
    "off_step": ["", "up", "Down"],
    "period": ["", "week", "Month", "never"],
    "refunds": ["", "Cap", "refuse"],
    "round": ["", "none", "floor"],
    "round_amount": ["", "half_up", "None"],
    "round_points": ["", "none", "floor"],
    "time_zone": [
        "",
        "Mars/Olympus",
        "../etc/passwd",
        "/etc/localtime",
        "localtime",
        "posix/UTC",
        "right/UTC",
        "europe/paris",
        "America",
        ".",
        "Europe/",
        "Europe//Paris",
        "zone.tab",
        "tzdata.zi",
        "__init__.py",
        "UTC\0",
        "é",
        "a" * 65,
        "a\\b",
    ],
}

# The one field of text that is not one of a closed or patterned form.
FREE_TEXTS = {"log_key"}

Path = tuple[str | int, ...]


def walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value inside a document with its path; the document itself first."""
    yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from walk(item, (*path, key))


def places(*types: type) -> list[tuple[str, Path]]:
    """Name and path of every value of some type in the documents, but of the documents themselves."""
    return [
        (example, path)
        for example, document in DOCUMENTS.items()
        for path, value in walk(document)
        if path and (not types or type(value) in types)
    ]


def replaced(example: str, path: Path, value: Any) -> dict[str, Any]:
    """A document of the table with one value replaced."""
    document = copy.deepcopy(DOCUMENTS[example])
    target: Any = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return document


def removed(example: str, path: Path) -> dict[str, Any]:
    """A document of the table without one value."""
    document = copy.deepcopy(DOCUMENTS[example])
    target: Any = document
    for key in path[:-1]:
        target = target[key]
    del target[path[-1]]
    return document


def value_at(example: str, path: Path) -> Any:
    value: Any = DOCUMENTS[example]
    for key in path:
        value = value[key]
    return value


def dotted(path: Path) -> str:
    """A path without its indexes."""
    return ".".join(key for key in path if isinstance(key, str))


def field_of(example: str, path: Path) -> tuple[str, str]:
    """What the tables say of a place in a document: its kind and its path without indexes."""
    return kind_of(example), dotted(path)


def named(path: Path) -> tuple[str, ...]:
    """A path as a refusal names it: indexes stand with the list's name."""
    parts: list[str] = []
    for key in path:
        if isinstance(key, str):
            parts.append(key)
        else:
            parts[-1] += f"[{key}]"
    return tuple(parts)


def write(document: Any) -> bytes:
    """Canonical bytes, by the standard library; the documents have no text that it would write otherwise."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def refuse(data: bytes) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        decode_operation(data)
    return caught.value


def label(part: str | Path) -> str:
    return part if isinstance(part, str) else ".".join(named(part)) or "document"


# Fields that may be left out in general, but not in the documents above: what is then wrong.
MISSED_BY_MEANING: dict[tuple[str, Path], tuple[str, ...]] = {
    ("open_account", ("actor",)): ("actor",),
    ("open_account", ("name",)): ("name",),
    ("open_account", ("keys",)): ("threshold",),
    ("agree exchange", ("terms", "step")): ("terms", "off_step"),
    ("publish_program", ("program", "benefits", 0, "when", "tiers")): ("program", "benefits[0]", "when"),
    ("publish_program", ("program", "bonuses", 0, "when", "first_purchase")): ("program", "bonuses[0]", "when"),
    ("publish_program", ("program", "grants")): ("program", "birthday", "activity"),
    ("publish_program", ("program", "multipliers")): ("program", "stacking"),
    ("publish_program", ("program", "plans")): ("program", "multipliers[0]", "when", "plans"),
    ("publish_program", ("program", "rewards", 0, "when", "weekdays")): ("program", "rewards[0]", "when"),
    ("publish_program", ("program", "tiers")): ("program", "benefits[0]", "when", "tiers"),
}


def test_there_is_a_document_of_every_kind() -> None:
    """The tables below speak about all kinds, all integers, all lists and all texts there are."""
    assert {kind_of(name) for name in DOCUMENTS} == set(KINDS)
    assert {field_of(*place) for place in places(int) if place[1] != ("guerdon",)} == set(RANGES)
    assert {field_of(*place) for place in places(list)} == set(LENGTHS)
    assert {dotted(path).split(".")[-1] for _, path in places(str)} == set(BAD_TEXTS)
    assert {field_of(*place) for place in places()} >= NULLABLE | set(DEFAULTS)
    for fields in DOCUMENTS.values():
        assert set(fields) == {"kind", *KINDS[fields["kind"]].__struct_fields__}


def test_documents_hold_every_part_with_every_field() -> None:
    """No field of any part is left out everywhere, nor stands at its default, which would leave it out as well."""
    told: dict[type, set[str]] = {}

    def look(value: Any) -> None:
        if isinstance(value, tuple):
            for item in value:
                look(item)
        elif isinstance(value, Document):
            for field in msgspec.structs.fields(value):
                part = getattr(value, field.name)
                if part != field.default:
                    told.setdefault(type(value), set()).add(field.name)
                look(part)

    expiries: list[dict[str, Any]] = [{"after": "days", "count": 9}, {"after": "year_end", "count": 1}]
    expiries += [{"after": "months_end", "count": 1}, {"after": "membership_year_end", "count": 1}]
    expiries += [{"after": "inactivity", "months": 6}]
    for document in [*DOCUMENTS.values(), *(program_with(expiry=expiry) for expiry in expiries)]:
        look(decode_operation(write(document)))
    known = [*vars(terms).values(), *vars(program_terms).values()]
    parts = {part for part in known if isinstance(part, type) and issubclass(part, Document)}
    assert told == {
        part: set(part.__struct_fields__) for part in {*KINDS.values(), *parts} - {Document, program_terms.NeverExpires}
    }


@pytest.mark.parametrize("example", DOCUMENTS)
def test_document_is_read_and_written_back(example: str) -> None:
    """Every kind with every field: canonical bytes as a stranger writes them, read and written again."""
    data = write(DOCUMENTS[example])
    op = decode_operation(data)
    assert type(op) is KINDS[kind_of(example)]
    assert encode_operation(op) == data
    assert build_operation(DOCUMENTS[example]) == op


def test_operation_id_is_the_hash_of_the_bytes() -> None:
    """SHA-256 of the canonical bytes, and the signature covers its context and these bytes."""
    data = write(DOCUMENTS["transfer"])
    assert operation_id(data) == hashlib.sha256(data).digest()
    assert signed_message(data) == b"guerdon operation v1\n" + data


@pytest.mark.parametrize(("example", "path"), [case for case in places() if isinstance(case[1][-1], str)], ids=label)
def test_missing_field_is_named(example: str, path: Path) -> None:
    """A field left out is refused by its path, unless it may be left out; then the document is another."""
    data = write(removed(example, path))
    if (example, path) in MISSED_BY_MEANING:
        assert refuse(data).path == MISSED_BY_MEANING[example, path]
    elif field_of(example, path) in NULLABLE | set(DEFAULTS):
        assert encode_operation(decode_operation(data)) == data
    else:
        error = refuse(data)
        assert (error.code, error.path) == ("MALFORMED", named(path))


@pytest.mark.parametrize(
    ("example", "path"),
    [(example, path) for example, path in [*places(dict), *((example, ()) for example in DOCUMENTS)]],
    ids=label,
)
def test_unknown_field_is_named(example: str, path: Path) -> None:
    """An object with a field the format does not know is refused, at every level."""
    for name in ("memo", "", "At", "at ", "`", "a - at `$.b`", "kind2"):
        error = refuse(write(replaced(example, (*path, name), 1)))
        assert error.code == "MALFORMED"
        if name.isalnum():
            assert error.path == (*named(path), name)


@pytest.mark.parametrize(("example", "path"), places(), ids=label)
def test_value_of_another_type_is_named(example: str, path: Path) -> None:
    """Text for a number, a number for a list, null for anything: refused by its path."""
    right = value_at(example, path)
    for wrong in (None, True, False, 7, "7", [], {}, [1], {"a": 1}):
        if type(wrong) is type(right):
            continue
        error = refuse(write(replaced(example, path, wrong)))
        if wrong is None and field_of(example, path) in NULLABLE:
            assert error.code == "NOT_CANONICAL"
        else:
            assert (error.code, error.path) == ("MALFORMED", named(path)), wrong


@pytest.mark.parametrize(("example", "path"), places(), ids=label)
def test_float_is_named(example: str, path: Path) -> None:
    """A float is refused by its path wherever it stands, whole or not, also for an integer."""
    marker = "98765432123456789"
    for number in ("1.5", "1.0", "1e0", "1E2", "-0.0", "1e308", "1e400", "5e-324"):
        data = write(replaced(example, path, int(marker))).replace(marker.encode(), number.encode())
        error = refuse(data)
        assert error.code == "MALFORMED"
        assert error.path == named(path), (number, error.message)
    for value in (1.5, 1.0, float("nan"), float("inf")):
        with pytest.raises(MalformedError) as caught:
            build_operation(replaced(example, path, value))
        assert (caught.value.code, caught.value.path) == ("MALFORMED", named(path))


@pytest.mark.parametrize(("example", "path"), [case for case in places(int) if case[1] != ("guerdon",)], ids=label)
def test_number_out_of_range_is_named(example: str, path: Path) -> None:
    """One below the least, one above the most and far beyond are refused by their path."""
    field = field_of(example, path)
    low, high = RANGES[field]
    for number in (low - 1, high + 1, -1, -MAX_INTEGER, 2**53, 2**63, 2**64, 10**30, -(10**30)):
        if low <= number <= high:
            continue
        error = refuse(write(replaced(example, path, number)))
        assert (error.code, error.path) == ("MALFORMED", named(path)), number
    if field in BOUND_BY_OTHERS:
        return
    for number in (bound for bound in (low, high) if bound != DEFAULTS.get(field)):
        data = write(replaced(example, path, number))
        assert encode_operation(decode_operation(data)) == data


@pytest.mark.parametrize(("example", "path"), places(int), ids=label)
def test_number_with_very_many_digits_is_refused(example: str, path: Path) -> None:
    """Thousands of digits are malformed, not a crash."""
    marker = "98765432123456789"
    data = write(replaced(example, path, int(marker)))
    for digits in (400, 4_300, 4_301, 50_000):
        assert refuse(data.replace(marker.encode(), b"9" * digits)).code == "MALFORMED"


@pytest.mark.parametrize(("example", "path"), places(list), ids=label)
def test_list_of_another_length_is_named(example: str, path: Path) -> None:
    """Fewer items than the least and more than the most are refused by the list's path."""
    low, high = LENGTHS[field_of(example, path)]
    item = value_at(example, path)[0]
    for count in {high + 1, max(low - 1, 0), 0} - ({0} if low == 0 else set()):
        error = refuse(write(replaced(example, path, [item] * count)))
        assert (error.code, error.path) == ("MALFORMED", named(path))
    if low:
        return
    data = write(replaced(example, path, []))
    if field_of(example, path) in DEFAULTS:
        assert refuse(data).code == "NOT_CANONICAL"  # an empty list is left out
    else:
        assert encode_operation(decode_operation(data)) == data


@pytest.mark.parametrize(("example", "path"), places(str), ids=label)
def test_text_of_another_form_is_named(example: str, path: Path) -> None:
    """Every text has a closed form: anything else is refused by its path, and a newline at its end always."""
    name = dotted(path).split(".")[-1]
    right = value_at(example, path)
    newline = [] if name in FREE_TEXTS else [right + "\n", "\n" + right, right + " ", right + "\0"]
    for text in [*BAD_TEXTS[name], *newline]:
        error = refuse(write(replaced(example, path, text)))
        assert error.code == "MALFORMED"
        assert error.path == named(path), (text, error.message)


ALIASES = {
    name: form
    for name, form in vars(terms).items()
    if get_origin(form) is Annotated and any(getattr(meta, "pattern", None) for meta in form.__metadata__)
}
"""Every named type of text that has a pattern."""


def test_every_pattern_has_a_sentence() -> None:
    """Nobody is told a regular expression because somebody forgot a line of the table."""
    assert set(ALIASES.values()) == set(FORMS)
    assert len(set(FORMS.values())) == len(FORMS)


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_example_of_a_form_is_of_that_form(name: str) -> None:
    """What a refusal recommends is not refused."""
    _, _, example = FORMS[ALIASES[name]].partition(" such as ")
    if example:
        assert msgspec.convert(example, ALIASES[name]) == example


# One place for each named type; every one of these texts has the length its type asks for.
MISFITS: dict[str, tuple[str, str, str]] = {
    "Origin": ("transfer", "ledger", "Ledger.Example"),
    "AccountRef": ("transfer", "actor", "mem_" + "A" * 26),
    "AssetCode": ("transfer", "asset", "star"),
    "CurrencyCode": ("record_purchases", "currency", "usd"),
    "Time": ("transfer", "at", "yesterday"),
    "Date": ("expire", "through", "31.12.2026"),
    "Nonce": ("transfer", "nonce", "random"),
    "KeyText": ("genesis", "keys", "key"),
    "Reference": ("redeem", "reference", "bill 9"),
    "Name": ("define_asset", "name", " Stars"),
    "Label": ("grant", "activity", "Birthday"),
    "HoldRef": ("capture", "hold", "hld_" + "A" * 26),
    "AgreementName": ("end_agreement", "agreement", "STAR to BEAN"),
    "HashText": ("refund redemption", "of.operation", "A" * 64),
}


@pytest.mark.parametrize("name", sorted(MISFITS))
def test_text_of_another_form_is_told_what_its_form_is(name: str) -> None:
    """A person reads a sentence about what a valid value looks like, never a pattern."""
    example, field, text = MISFITS[name]
    path: Path = (field, 0) if field == "keys" else tuple(field.split("."))
    error = refuse(write(replaced(example, path, text)))
    assert (error.message, error.path) == (FORMS[ALIASES[name]], named(path))


def test_signature_of_another_form_is_told_what_its_form_is() -> None:
    """The envelope's fields are spoken of alike."""
    document = b'{"op":' + OP_BYTES + b',"sigs":[{"key":"' + KEYS[0].encode() + b'","sig":"none"}]}'
    with pytest.raises(MalformedError) as caught:
        decode_signed_operation(document, 65_535)
    assert (caught.value.message, caught.value.path) == (FORMS[ALIASES["SignatureText"]], ("sigs[0]", "sig"))
    assert {"SignatureText", *MISFITS} == set(ALIASES)


class Counted(str):
    """Text that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        return str.__hash__(self)


def test_search_for_what_is_there_twice_is_linear() -> None:
    """A thousand purchases cost a thousand steps, also when the last is refused."""
    values: list[str] = [Counted(i) for i in range(1_000)]
    with pytest.raises(MalformedError, match="'999' is there twice"):
        operations._check_unique([*values, Counted(999)], "purchases")
    assert Counted.compared < 5_000


@pytest.mark.parametrize("version", [0, 2, -1, 2**53, 2**64])
def test_other_format_version_is_refused(version: int) -> None:
    """Version 1 is the only one there is."""
    error = refuse(write(replaced("transfer", ("guerdon",), version)))
    assert (error.code, error.path) == ("MALFORMED", ("guerdon",))


@pytest.mark.parametrize(
    ("example", "path"),
    [
        (example, path)
        for example, path in places()
        if isinstance(path[-1], str) and field_of(example, path) in DEFAULTS
    ],
    ids=label,
)
def test_default_that_is_spelled_out_is_refused(example: str, path: Path) -> None:
    """What means the same as leaving a field out would be a second spelling, and another id."""
    assert refuse(write(replaced(example, path, DEFAULTS[field_of(example, path)]))).code == "NOT_CANONICAL"


OPENINGS: dict[str, tuple[dict[str, Any], str | None]] = {
    "member with a key of their own": ({"role": "member", "keys": KEYS[:1]}, None),
    "member in custody": ({"role": "member", "actor": MERCHANT}, None),
    "member vouched for, with a key": ({"role": "member", "actor": MERCHANT, "keys": KEYS[:1]}, None),
    "member without key or custodian": ({"role": "member"}, "keys"),
    "member with a name": ({"role": "member", "keys": KEYS[:1], "name": "Ann"}, "name"),
    "merchant": ({"role": "merchant", "actor": OPERATOR, "keys": KEYS[:1], "name": "Shop"}, None),
    "merchant without a name": ({"role": "merchant", "actor": OPERATOR, "keys": KEYS[:1]}, "name"),
    "beneficiary without a key": ({"role": "beneficiary", "actor": OPERATOR, "name": "School"}, "keys"),
    "auditor nobody vouches for": ({"role": "auditor", "keys": KEYS[:1], "name": "Auditor"}, "actor"),
    "threshold above the keys": ({"role": "member", "keys": KEYS[:2], "threshold": 3}, "threshold"),
    "threshold without keys": ({"role": "member", "actor": MERCHANT, "threshold": 2}, "threshold"),
    "all keys needed": ({"role": "member", "keys": KEYS[:8], "threshold": 8}, None),
    "more keys for approval": (
        {"role": "member", "keys": KEYS[:8], "threshold": 7, "approval_threshold": 8},
        None,
    ),
    "approval by the threshold": (
        {"role": "member", "keys": KEYS[:3], "threshold": 2, "approval_threshold": 2},
        "approval_threshold",
    ),
    "approval by more keys than there are": (
        {"role": "member", "keys": KEYS[:2], "approval_threshold": 3},
        "approval_threshold",
    ),
    "approval of a member in custody": (
        {"role": "member", "actor": MERCHANT, "approval_threshold": 2},
        "approval_threshold",
    ),
    "key twice": ({"role": "member", "keys": [KEYS[0], KEYS[1], KEYS[0]]}, "keys"),
    "key of small order": ({"role": "member", "keys": [KEYS[0], encode_base64url(bytes(32))]}, "keys[1]"),
    "key that is not reduced": ({"role": "member", "keys": [encode_base64url(b"\xff" * 32)]}, "keys[0]"),
}


@pytest.mark.parametrize("name", OPENINGS)
def test_account_opening_fits_its_role(name: str) -> None:
    """A member has a key or a custodian and no name; others have a key, a name and someone who vouches."""
    fields, wrong = OPENINGS[name]
    document = {**COMMON, "kind": "open_account", **fields}
    if wrong is None:
        assert encode_operation(build_operation(document)) == write(document)
    else:
        error = refuse(write(document))
        assert (error.code, error.path) == ("MALFORMED", (wrong,))


def program_with(**fields: Any) -> dict[str, Any]:
    """The program of the table with other parts; without those that are ``None``."""
    program = {**DOCUMENTS["publish_program"]["program"], **fields}
    return replaced("publish_program", ("program",), {name: part for name, part in program.items() if part is not None})


def tiers_with(**fields: Any) -> dict[str, Any]:
    return program_with(tiers={**DOCUMENTS["publish_program"]["program"]["tiers"], **fields})


def reward(name: str, **fields: Any) -> dict[str, Any]:
    return {"price": 100, "reward": name, **fields}


def levels(*starts: int) -> list[dict[str, Any]]:
    """Tiers that begin at these counts, among them those that the program asks for."""
    return [{"from": start, "tier": name} for start, name in zip(starts, ("silver", "gold", "black"), strict=False)]


WHEN_OF_MULTIPLIER = ("program", "multipliers[0]", "when")


def multiplier_when(**fields: Any) -> dict[str, Any]:
    times = {"denominator": 1, "numerator": 2}
    return program_with(multipliers=[{"multiplier": "double", "times": times, "when": fields}])


def band(start: int) -> dict[str, int]:
    return {"from": start, "per": 1, "points": 1}


def terms_with(way: str, **fields: Any) -> dict[str, Any]:
    return replaced(f"agree {way}", ("terms",), {**DOCUMENTS[f"agree {way}"]["terms"], **fields})


def postpaid(**fields: Any) -> dict[str, Any]:
    """An agreement on earning that is paid afterwards, with nothing else but these terms."""
    return replaced("agree earning", ("terms",), {"asset": "STAR", "billing": "postpaid", "type": "earning", **fields})


# Documents beside the contradictions below, as close to them as can be, that are well formed.
AGREEING: dict[str, dict[str, Any]] = {
    "paid afterwards by the one who gives": postpaid(claim=CLAIM),
    "maximum as the minimum": terms_with("exchange", maximum=100),
    "transfer's maximum as its minimum": replaced("define_asset", ("transfer_terms", "maximum"), 100),
    "issuer pays for what is retired": terms_with("exchange", claim={**CLAIM, "debtor": MERCHANT}),
    "issuer pays for a block bought from it": terms_with("earning", claim={**CLAIM, "debtor": MERCHANT}),
    "partner keeps the fee": terms_with("exchange", fee={**FEE, "kept_by": OTHER_MERCHANT}),
    "points given": replaced("correct", ("amount",), 1),
    "payment back": replaced("net", ("payments", 1), {"amount": 1, "creditor": OTHER_MERCHANT, "debtor": MERCHANT}),
    "acceptance by a beneficiary": replaced("end_agreement", ("agreement",), f"STAR@ben_{'a' * 26}"),
    "acceptance by a merchant": replaced("end_agreement", ("agreement",), f"STAR@{MERCHANT}"),
    "earning": replaced("end_agreement", ("agreement",), f"STAR+{MERCHANT}"),
    "grant of no points": removed("grant", ("amount",)),
    "activity that is its own reward": program_with(birthday=None, grants=[{"activity": "a", "max_points": 0}]),
    "tier for everybody": tiers_with(levels=levels(0, 1)),
    "as many periods as can be": tiers_with(window=117, kept=1),
    "several ways to a benefit": program_with(benefits=[{"benefit": "gift"}, {"benefit": "gift"}]),
    "campaign of one day": multiplier_when(from_day="2026-12-01", through_day="2026-12-01"),
    "multiplier for everything": program_with(
        multipliers=[{"multiplier": "double", "times": {"denominator": 1, "numerator": 0}}]
    ),
    "reward for new members": program_with(rewards=[reward("gift", when={"invited": True, "within_days": 30})]),
    "the same line in two orders": replaced("vest", ("purchases", 1, "merchant"), THIRD_MERCHANT),
    "lines of nothing": replaced(
        "record_purchases", ("purchases", 1, "lines"), [{"amount": 0}, {"amount": 0, "product": "A"}]
    ),
    "asset nobody may transfer": removed("define_asset", ("transfer_terms",)) | {"transferable": False},
}


@pytest.mark.parametrize("name", AGREEING)
def test_document_that_agrees_with_itself_is_read(name: str) -> None:
    """The checks of whole documents refuse no more than they say."""
    data = write(AGREEING[name])
    assert encode_operation(decode_operation(data)) == data


CONTRADICTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "currency twice": (
        replaced("genesis", ("currencies",), [{"code": "USD", "scale": 2}, {"code": "USD", "scale": 0}]),
        ("currencies",),
    ),
    "operator's key twice": (replaced("genesis", ("keys",), [KEYS[0], KEYS[0]]), ("keys",)),
    "operator's threshold": (replaced("genesis", ("threshold",), 4), ("threshold",)),
    "bands fall": (program_with(bands=[band(2), band(1)]), ("program", "bands")),
    "bands stand still": (program_with(bands=[band(0), band(5), band(5)]), ("program", "bands")),
    "activity twice": (
        program_with(birthday=None, grants=[{"activity": "a", "max_points": 1}, {"activity": "a", "max_points": 2}]),
        ("program", "grants"),
    ),
    "ends as it starts": (replaced("publish_program", ("ends",), AT), ("ends",)),
    "ends before it starts": (replaced("publish_program", ("starts",), "2028-01-01T00:00:00.000Z"), ("ends",)),
    "order twice": (
        replaced("record_purchases", ("purchases", 1, "order"), "2026-000017"),
        ("purchases",),
    ),
    "recipient twice": (replaced("transfer", ("recipients", 1, "to"), OTHER_MEMBER), ("recipients",)),
    "transfer to oneself": (replaced("transfer", ("recipients", 1, "to"), MEMBER), ("recipients[1]", "to")),
    "transfer of too much in all": (replaced("transfer", ("recipients", 0, "amount"), MAX_INTEGER), ("recipients",)),
    "delay that goes without saying": (
        replaced("genesis", ("recovery_delay_ms",), 604_800_000),
        ("recovery_delay_ms",),
    ),
    "new key twice": (replaced("replace_keys", ("keys",), [*KEYS[:2], KEYS[0]]), ("keys",)),
    "new key of small order": (replaced("replace_keys", ("keys", 1), encode_base64url(bytes(32))), ("keys[1]",)),
    "threshold above the new keys": (replaced("replace_keys", ("threshold",), 4), ("threshold",)),
    "recovery's key twice": (replaced("recover_keys", ("keys",), [KEYS[0], KEYS[0]]), ("keys",)),
    "recovery's threshold": (replaced("recover_keys", ("threshold",), 4), ("threshold",)),
    "approval by the threshold": (
        replaced("replace_keys", ("approval_threshold",), 2),
        ("approval_threshold",),
    ),
    "approval by more keys than there are": (
        replaced("recover_keys", ("approval_threshold",), 4),
        ("approval_threshold",),
    ),
    "transfer terms of what is not transferable": (
        replaced("define_asset", ("transferable",), False),
        ("transfer_terms",),
    ),
    "transfer terms that say nothing": (replaced("define_asset", ("transfer_terms",), {}), ("transfer_terms",)),
    "transfer's maximum below its minimum": (
        replaced("define_asset", ("transfer_terms", "maximum"), 99),
        ("transfer_terms", "maximum"),
    ),
    "correction of nothing": (replaced("correct", ("amount",), 0), ("amount",)),
    "exchange into itself": (replaced("exchange", ("into",), "STAR"), ("into",)),
    "agreement ends as it starts": (replaced("agree earning", ("ends",), AT), ("ends",)),
    "agreement with oneself": (replaced("agree acceptance", ("partner",), MERCHANT), ("partner",)),
    "third one owes": (
        replaced("agree acceptance", ("terms", "claim", "debtor"), THIRD_MERCHANT),
        ("terms", "claim", "debtor"),
    ),
    "third one owes for what is given": (
        replaced("agree earning", ("terms", "claim", "debtor"), THIRD_MERCHANT),
        ("terms", "claim", "debtor"),
    ),
    "exchange's maximum below its minimum": (
        replaced("agree exchange", ("terms", "maximum"), 99),
        ("terms", "maximum"),
    ),
    "acceptance's maximum below its minimum": (
        replaced("agree acceptance", ("terms", "maximum"), 99),
        ("terms", "maximum"),
    ),
    "issuer pays for what is kept": (
        replaced("agree acceptance", ("terms", "claim", "debtor"), MERCHANT),
        ("terms", "claim", "debtor"),
    ),
    "issuer pays for what is exchanged and kept": (
        terms_with("exchange", received="kept", claim={**CLAIM, "debtor": MERCHANT}),
        ("terms", "claim", "debtor"),
    ),
    "agreement on an exchange into itself": (replaced("agree exchange", ("terms", "into"), "STAR"), ("terms", "into")),
    "third one keeps the fee": (
        replaced("agree exchange", ("terms", "fee", "kept_by"), THIRD_MERCHANT),
        ("terms", "fee", "kept_by"),
    ),
    "paid afterwards, and nothing owed": (postpaid(), ("terms", "claim")),
    "paid afterwards by the issuer": (
        postpaid(claim={**CLAIM, "debtor": MERCHANT}),
        ("terms", "claim", "debtor"),
    ),
    "paid afterwards, and running low": (postpaid(claim=CLAIM, alert_below=5_000), ("terms", "alert_below")),
    "points allotted to oneself": (replaced("allot", ("partner",), MERCHANT), ("partner",)),
    "merchant twice": (replaced("net", ("merchants", 2), MERCHANT), ("merchants",)),
    "stranger is paid": (replaced("net", ("payments", 1, "creditor"), MEMBER), ("payments[1]", "creditor")),
    "stranger pays": (replaced("net", ("payments", 1, "debtor"), MEMBER), ("payments[1]", "debtor")),
    "payment to oneself": (replaced("net", ("payments", 1, "debtor"), MERCHANT), ("payments[1]", "creditor")),
    "payment twice": (replaced("net", ("payments", 1, "debtor"), OTHER_MERCHANT), ("payments",)),
    "settlement with oneself": (replaced("settle", ("debtor",), MERCHANT), ("debtor",)),
    "formula's bands fall": (
        program_with(formulas=[{"bands": [band(2), band(1)], "formula": "miles"}]),
        ("program", "formulas[0]", "bands"),
    ),
    **{
        f"{part} twice": (program_with(**{part: [item, item]}), ("program", part))
        for part, item in {
            "bonuses": {"bonus": "a", "points": 1},
            "excluded_categories": "tax",
            "formulas": {"bands": [band(0)], "formula": "a"},
            "multipliers": {"multiplier": "a", "times": {"denominator": 1, "numerator": 2}},
            "rewards": reward("a"),
        }.items()
    },
    "plan twice": (
        program_with(multipliers=None, stacking=None, plans=[{"days": 1, "plan": "a", "price": 1}] * 2),
        ("program", "plans"),
    ),
    "tier twice": (tiers_with(levels=[*levels(1, 2), {"from": 3, "tier": "gold"}]), ("program", "tiers", "levels")),
    "tiers fall": (tiers_with(levels=levels(2, 1)), ("program", "tiers", "levels[1]", "from")),
    "tiers stand still": (tiers_with(levels=levels(1, 2, 2)), ("program", "tiers", "levels[2]", "from")),
    "too many periods": (tiers_with(window=118, kept=1), ("program", "tiers", "window")),
    "nothing is asked": (multiplier_when(), WHEN_OF_MULTIPLIER),
    "tender asked twice": (multiplier_when(tenders=["card", "card"]), (*WHEN_OF_MULTIPLIER, "tenders")),
    "weekday asked twice": (multiplier_when(weekdays=["mon", "mon"]), (*WHEN_OF_MULTIPLIER, "weekdays")),
    "unknown tier is asked": (multiplier_when(tiers=["gold", "tin"]), (*WHEN_OF_MULTIPLIER, "tiers")),
    "unknown plan is asked": (multiplier_when(plans=["basic"]), (*WHEN_OF_MULTIPLIER, "plans")),
    "campaign ends before it begins": (
        multiplier_when(from_day="2026-12-02", through_day="2026-12-01"),
        (*WHEN_OF_MULTIPLIER, "through_day"),
    ),
    **{
        f"reward asks for {name}": (
            program_with(rewards=[reward("gift", when={name: value})]),
            ("program", "rewards[0]", "when", name),
        )
        for name, value in {
            "categories": ["coffee"],
            "channels": ["app"],
            "first_purchase": True,
            "from_amount": 1,
            "merchants": [MERCHANT],
            "products": ["A"],
            "tenders": ["card"],
        }.items()
    },
    "two automatic rewards": (
        program_with(rewards=[reward(name, automatic=True) for name in "ab"]),
        ("program", "rewards[1]", "automatic"),
    ),
    "stacking of nothing": (program_with(multipliers=None), ("program", "stacking")),
    "no reminders": (program_with(reminders={}), ("program", "reminders")),
    "reminded twice of a day": (
        program_with(reminders={"expiring_days": [7, 7]}),
        ("program", "reminders", "expiring_days"),
    ),
    "birthday nobody grants": (
        program_with(birthday={"activity": "party", "points": 1}),
        ("program", "birthday", "activity"),
    ),
    "birthday to prove": (
        program_with(birthday={"activity": "survey", "points": 1}),
        ("program", "birthday", "activity"),
    ),
    "birthday above its most": (
        program_with(birthday={"activity": "birthday", "points": 251}),
        ("program", "birthday", "points"),
    ),
    "status points of the asset itself": (program_with(status_asset="STAR"), ("program", "status_asset")),
    "lines of another amount": (
        replaced("record_purchases", ("purchases", 0, "amount"), 12_074),
        ("purchases[0]", "lines"),
    ),
    "quantity twice": (
        replaced("record_purchases", ("purchases", 0, "quantities"), [{"name": "km", "quantity": 1}] * 2),
        ("purchases[0]", "quantities"),
    ),
    "lines refunded of another amount": (replaced("refund purchase", ("of", "amount"), 12_051), ("of", "lines")),
    "line refunded twice": (replaced("refund purchase", ("of", "lines", 1, "line"), 0), ("of", "lines")),
    "invited by oneself": (replaced("enroll", ("invited_by",), MEMBER), ("invited_by",)),
    "purchase vests twice": (replaced("vest", ("purchases", 1, "merchant"), MERCHANT), ("purchases",)),
    "member reviewed twice": (replaced("review_tiers", ("members", 1), MEMBER), ("members",)),
    "member reminded twice": (replaced("remind", ("members", 1), MEMBER), ("members",)),
    "pool with oneself": (replaced("form_pool", ("members",), [OTHER_MEMBER, MEMBER]), ("members",)),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_document_that_contradicts_itself_is_refused(name: str) -> None:
    """What types cannot say: calendar, order and uniqueness inside one document."""
    document, path = CONTRADICTIONS[name]
    error = refuse(write(document))
    assert (error.code, error.path) == ("MALFORMED", path)


@pytest.mark.parametrize(
    ("after", "most"),
    [("days", 36_500), ("months", 1_200), ("year_end", 100), ("months_end", 1_200), ("membership_year_end", 100)],
    ids=str,
)
def test_expiry_has_a_longest_count(after: str, most: int) -> None:
    """Every way to expire bounds its count, so that the last day stays a date."""
    document = program_with(expiry={"after": after, "count": most})
    assert encode_operation(build_operation(document)) == write(document)
    for count in (most + 1, -1):
        error = refuse(write(program_with(expiry={"after": after, "count": count})))
        assert (error.code, error.path) == ("MALFORMED", ("program", "expiry", "count"))


def test_points_that_never_expire_have_no_count() -> None:
    """The rule `never` stands alone."""
    document = program_with(expiry={"after": "never"})
    assert encode_operation(build_operation(document)) == write(document)
    error = refuse(write(program_with(expiry={"after": "never", "count": 0})))
    assert (error.code, error.path) == ("MALFORMED", ("program", "expiry", "count"))


def test_time_zones_come_from_the_pinned_database_alone() -> None:
    """Reading operations does not consult the machine's own zones, whatever else was imported."""
    program = "import zoneinfo, ledger.operations; assert zoneinfo.TZPATH == (), zoneinfo.TZPATH"
    subprocess.run([sys.executable, "-c", program], check=True)


REWRITINGS: dict[str, Callable[[bytes], bytes]] = {
    "blank after a colon": lambda data: data.replace(b":", b": ", 1),
    "newline at the end": lambda data: data + b"\n",
    "indented": lambda data: json.dumps(json.loads(data), indent=1, sort_keys=True).encode(),
    "needless escape": lambda data: data.replace(b"STAR", b"\\u0053TAR"),
    "escaped slash": lambda data: data.replace(b"/coalition", b"\\/coalition"),
    "field twice": lambda data: data.replace(b'"asset":"STAR"', b'"asset":"STAR","asset":"STAR"'),
    "field twice, first wins": lambda data: data.replace(b'"asset":"STAR"', b'"asset":"STAR","asset":"MOON"'),
    "kind twice": lambda data: data.replace(b'"kind":"transfer"', b'"kind":"transfer","kind":"transfer"'),
    "kind first": lambda data: b'{"kind":"transfer",' + data.replace(b'"kind":"transfer",', b"")[1:],
    "absence spelled out": lambda data: data.replace(f'"{LATER}"'.encode(), b"null"),
}


@pytest.mark.parametrize("name", REWRITINGS)
def test_other_spelling_is_refused(name: str) -> None:
    """The same meaning in other bytes would have another id: refused, with the byte where it differs."""
    data = write(DOCUMENTS["transfer"])
    changed = REWRITINGS[name](data)
    assert changed != data
    error = refuse(changed)
    assert error.code == "NOT_CANONICAL"
    assert "at byte" in error.message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nope",
        b"\xff\xfe",
        b'{"kind":"transfer"',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"null",
        b"1",
        b'"transfer"',
        b"[]",
        b"{}",
        pytest.param(b"[" * 500 + b"]" * 500, id="nested"),
        pytest.param(b"[" * 100_000, id="nested lists without end"),
        pytest.param(b'{"kind":' * 100_000, id="nested objects without end"),
    ],
)
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    """Broken JSON, broken UTF-8, other JSON and endless nesting are malformed, not a crash."""
    assert refuse(data).code == "MALFORMED"
    with pytest.raises(MalformedError):
        decode_signed_operation(b'{"op":' + data + b',"sigs":[]}', 10**7)


@settings(max_examples=300)
@given(st.sampled_from(sorted(DOCUMENTS)), st.data())
def test_changed_bytes_are_refused_or_another_operation(example: str, data: st.DataObject) -> None:
    """Any part of a document replaced by any bytes: refused, or a document with exactly these bytes and another id."""
    right = write(DOCUMENTS[example])
    start = data.draw(st.integers(0, len(right)))
    end = data.draw(st.integers(start, min(start + 8, len(right))))
    changed = right[:start] + data.draw(st.binary(max_size=8)) + right[end:]
    try:
        op = decode_operation(changed)
    except MalformedError:
        return
    assert encode_operation(op) == changed


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(st.sampled_from(places()), JSON)
def test_any_value_in_any_field_is_read_or_refused(place: tuple[str, Path], value: Any) -> None:
    """Whatever JSON a field holds, building the operation raises nothing but MalformedError."""
    document = replaced(*place, value)
    try:
        op = build_operation(document)
    except MalformedError:
        return
    assert json.loads(encode_operation(op)) == document


def test_plain_data_nested_too_deep_is_refused() -> None:
    """Building from plain data raises MalformedError, however deep the data is."""
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    with pytest.raises(MalformedError):
        build_operation(replaced("transfer", ("recipients",), value))


OP_BYTES = write(DOCUMENTS["transfer"])
SIGNATURES = tuple(Signature(key=key, sig=encode_base64url(bytes(64))) for key in KEYS)
ENVELOPE = encode_signed_operation(OP_BYTES, SIGNATURES[:2])


def test_signed_document_is_read_back() -> None:
    """Operation and signatures survive the way through the submitted bytes, the operation byte for byte."""
    signed = decode_signed_operation(ENVELOPE, len(ENVELOPE))
    assert signed.op_bytes == OP_BYTES
    assert signed.op_id == hashlib.sha256(OP_BYTES).digest()
    assert signed.op == decode_operation(OP_BYTES)
    assert signed.sigs == SIGNATURES[:2]
    sigs = [{"key": signature.key, "sig": signature.sig} for signature in SIGNATURES[:2]]
    assert write({"op": DOCUMENTS["transfer"], "sigs": sigs}) == ENVELOPE


def test_oversized_document_is_refused_before_it_is_read() -> None:
    """One byte above the bound is too large, whatever the bytes are."""
    with pytest.raises(MalformedError) as caught:
        decode_signed_operation(ENVELOPE, len(ENVELOPE) - 1)
    assert caught.value.code == "TOO_LARGE"
    with pytest.raises(MalformedError) as caught:
        decode_signed_operation(b"\xff" * 100, 99)
    assert caught.value.code == "TOO_LARGE"


def test_same_key_cannot_sign_twice() -> None:
    """Two signatures of one key are one authority: the document is refused."""
    twice = (SIGNATURES[0], Signature(key=KEYS[0], sig=encode_base64url(b"\1" * 64)))
    with pytest.raises(MalformedError) as caught:
        sign_with(OP_BYTES, twice)
    assert (caught.value.code, caught.value.path) == ("MALFORMED", ("sigs",))
    with pytest.raises(MalformedError) as caught:
        decode_signed_operation(encode_signed_operation(OP_BYTES, twice), 65_535)
    assert (caught.value.code, caught.value.path) == ("MALFORMED", ("sigs",))


def test_signatures_are_bounded_in_number() -> None:
    """Sixteen may sign; the seventeenth is refused."""
    most = encode_signed_operation(OP_BYTES, SIGNATURES[:MAX_SIGNATURES])
    assert len(decode_signed_operation(most, 65_535).sigs) == MAX_SIGNATURES == 16
    with pytest.raises(MalformedError) as caught:
        decode_signed_operation(encode_signed_operation(OP_BYTES, SIGNATURES[:17]), 65_535)
    assert (caught.value.code, caught.value.path) == ("MALFORMED", ("sigs",))


SIG = SIGNATURES[0]
BAD_ENVELOPES: dict[str, tuple[bytes, tuple[str, ...] | None]] = {
    "no operation": (b'{"sigs":[]}', ("op",)),
    "no signatures": (b'{"op":' + OP_BYTES + b"}", ("sigs",)),
    "unknown field": (ENVELOPE[:-1] + b',"time":1}', ("time",)),
    "signature without key": (ENVELOPE.replace(f'"key":"{SIG.key}",'.encode(), b""), ("sigs[0]", "key")),
    "signature with more": (ENVELOPE.replace(b'"key":', b'"alg":1,"key":', 1), ("sigs[0]", "alg")),
    "key too short": (ENVELOPE.replace(SIG.key.encode(), SIG.key[:-1].encode()), ("sigs[0]", "key")),
    "key and newline": (ENVELOPE.replace(SIG.key.encode(), SIG.key.encode() + b"\\n"), ("sigs[0]", "key")),
    "signature and newline": (ENVELOPE.replace(b'A"}', b'A\\n"}', 1), ("sigs[0]", "sig")),
    "signature of a float": (ENVELOPE.replace(f'"{SIG.sig}"'.encode(), b"1.5", 1), ("sigs[0]", "sig")),
    "signatures null": (b'{"op":' + OP_BYTES + b',"sigs":null}', ("sigs",)),
    "operation null": (b'{"op":null,"sigs":[]}', ()),
    "operation twice": (b'{"op":' + OP_BYTES + b"," + ENVELOPE[1:], None),
    "signatures twice": (ENVELOPE[:-1] + b',"sigs":[]}', None),
    "signatures first": (b'{"sigs":[],"op":' + OP_BYTES + b"}", None),
    "blank before the operation": (ENVELOPE.replace(b'"op":', b'"op": '), None),
    "blank after the operation": (ENVELOPE.replace(b',"sigs"', b' ,"sigs"'), None),
    "blank inside the operation": (ENVELOPE.replace(b'"guerdon":', b'"guerdon": '), None),
    "newline at the end": (ENVELOPE + b"\n", None),
}


@pytest.mark.parametrize("name", BAD_ENVELOPES)
def test_envelope_of_another_form_is_refused(name: str) -> None:
    """Exactly an operation and its signatures, in canonical bytes."""
    data, path = BAD_ENVELOPES[name]
    with pytest.raises(MalformedError) as caught:
        decode_signed_operation(data, 65_535)
    if path is None:
        assert caught.value.code == "NOT_CANONICAL"
    else:
        assert (caught.value.code, caught.value.path) == ("MALFORMED", path)


@settings(max_examples=200)
@given(st.data())
def test_changed_envelope_is_refused_or_another(data: st.DataObject) -> None:
    """Any part of a signed document replaced by any bytes: refused, or read as exactly these bytes."""
    start = data.draw(st.integers(0, len(ENVELOPE)))
    end = data.draw(st.integers(start, min(start + 4, len(ENVELOPE))))
    changed = ENVELOPE[:start] + data.draw(st.binary(max_size=4)) + ENVELOPE[end:]
    try:
        signed = decode_signed_operation(changed, 65_535)
    except MalformedError:
        return
    assert encode_signed_operation(signed.op_bytes, signed.sigs) == changed

"""A ledger of programs in which more than the amount counts, told as those of :mod:`tests.stories` are."""

import hashlib
from functools import cache
from typing import Any

from tests.stories import UNKNOWN_MEMBER, Document, Story, _found

PROGRAMS_ORIGIN = "vectors.example/programs"

PROGRAM: Document = {
    "bands": [{"from": 0, "per": 100, "points": 1}, {"from": 10_000, "per": 100, "points": 2}],
    "benefits": [{"benefit": "free_shipping", "when": {"tiers": ["silver", "gold"]}}],
    "birthday": {"activity": "birthday", "points": 25},
    "bonuses": [
        {"bonus": "welcome", "points": 50, "when": {"first_purchase": True, "from_amount": 5_000}},
        {"bonus": "beans", "points": 7, "when": {"products": ["BEANS/1KG"]}},
    ],
    "currency": "EUR",
    "earning_cap": {"period": "month", "points": 600},
    "excluded_categories": ["tax", "gift_cards"],
    "expiry": {"after": "membership_year_end", "count": 0},
    "formulas": [
        {"bands": [{"from": 0, "per": 3, "points": 1}], "formula": "miles", "quantity": "miles"},
        {"bands": [{"from": 0, "per": 200, "points": 3}], "formula": "flat"},
    ],
    "grants": [
        {"activity": "birthday", "max_points": 25},
        {"activity": "badge", "limit": {"count": 1, "period": "ever"}, "max_points": 0},
        {"activity": "recycled", "evidence": True, "max_points": 20},
        {"activity": "survey", "limit": {"count": 1, "period": "month"}, "max_points": 10, "scored": True},
    ],
    "multipliers": [
        {"multiplier": "coffee", "times": {"denominator": 1, "numerator": 2}, "when": {"categories": ["coffee"]}},
        {"multiplier": "silver", "times": {"denominator": 4, "numerator": 5}, "when": {"tiers": ["silver", "gold"]}},
        {"multiplier": "weekend", "times": {"denominator": 2, "numerator": 3}, "when": {"weekdays": ["sat", "sun"]}},
        {"multiplier": "card", "times": {"denominator": 3, "numerator": 4}, "when": {"tenders": ["card"]}},
        {
            "multiplier": "spring",
            "times": {"denominator": 10, "numerator": 11},
            "when": {"channels": ["app"], "from_day": "2026-03-01", "through_day": "2026-05-31"},
        },
        {"multiplier": "newcomer", "times": {"denominator": 5, "numerator": 6}, "when": {"within_days": 7}},
        {"multiplier": "guest", "times": {"denominator": 7, "numerator": 8}, "when": {"invited": True}},
        {"multiplier": "club", "times": {"denominator": 1, "numerator": 3}, "when": {"plans": ["club"]}},
    ],
    "plans": [{"days": 30, "plan": "club", "price": 499}],
    "purchase_within_days": 40,
    "referral": {"limit": {"count": 1, "period": "year"}, "points": 30},
    "refunds": "negative",
    "reminders": {"balance": "month", "expiring_days": [7, 30], "new_tier": True},
    "returned_lot_days": 5,
    "rewards": [
        {
            "limit": {"count": 2, "period": "month"},
            "price": 50,
            "reward": "drink",
            "stock": 3,
            "valid_days": 10,
            "when": {"tiers": ["silver", "gold"]},
            "worth": 300,
        },
        {"price": 100, "reward": "mug"},
    ],
    "round_amount": "none",
    "round_points": "half_up",
    "status_asset": "LEVEL",
    "tiers": {
        "basis": "status",
        "drop": "one_level",
        "grace_days": 14,
        "kept": 1,
        "levels": [
            {"from": 0, "tier": "bronze"},
            {"from": 100, "tier": "silver"},
            {"from": 400, "never_expires": True, "tier": "gold"},
        ],
        "period": "month",
        "window": 2,
    },
    "time_zone": "Europe/Berlin",
}
"""As many parts as go together."""

VESTING: Document = {
    "bands": [{"from": 0, "per": 100, "points": 1}],
    "currency": "EUR",
    "expiry": {"after": "inactivity", "months": 3},
    "grants": [{"activity": "birthday", "max_points": 500}],
    "referral": {"points": 20},
    "refunds": "owe",
    "rewards": [{"automatic": True, "price": 40, "reward": "cup", "worth": 200}],
    "round_amount": "whole_units",
    "round_points": "down",
    "time_zone": "Europe/Berlin",
    "vesting_days": 14,
}
"""Points vest, last as long as something is done, and become vouchers by themselves."""


def evidence(number: int) -> str:
    """The hash of some proof."""
    return hashlib.sha256(b"proof %d" % number).hexdigest()


@cache
def programs_story() -> Story:
    """Programs: what members earn by them, where they stand, what they have for their points."""
    story = Story(PROGRAMS_ORIGIN)
    _found(story)
    operator = story.accounts["operator"]
    time = "2026-01-02T08:00:00.000Z"
    for who in ("shop", "cafe"):
        story.open(who, time, f"operator {who}", "merchant", keys=who, name=who.title(), actor=operator)
    for who in ("ada", "bob", "dora", "gus"):
        story.open(who, time, who, "member", keys=who)
    for who in story.accounts:
        story.show(who, time)
    _publish(story)
    _enroll(story)
    _buy(story)
    _grant(story)
    _refund(story)
    _have_rewards(story)
    _plan(story)
    _vest(story)
    _share(story)
    _review(story)
    _renew(story)
    return story


def _publish(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time = "2026-01-02T09:00:00.000Z"
    fields: Document = {"actor": account["shop"], "name": "Points", "scale": 0, "transferable": True}
    for code in ("LEVEL", "STAR"):
        story.record(time, "define_asset", "shop", asset=code, **fields)
    worth = {"amount": 1, "currency": "EUR", "points": 1}
    story.record(time, "define_asset", "shop", asset="SIP", value=worth, **fields)
    story.record(time, "define_asset", "cafe", asset="MUG", **{**fields, "actor": account["cafe"]})
    kind, starts = "publish_program", "2026-01-01T00:00:00.000Z"
    star: Document = {"actor": account["shop"], "asset": "STAR", "program": PROGRAM, "starts": starts, "version": 1}
    of_none = {**star, "program": {**PROGRAM, "status_asset": "DUST"}}
    refuse("UNKNOWN_ASSET", "a status asset that is none", time, kind, "shop", **of_none)
    others = {**star, "program": {**PROGRAM, "status_asset": "MUG"}}
    refuse("NOT_PERMITTED", "a status asset of another", time, kind, "shop", **others)
    story.record(time, kind, "shop", **star)
    story.record(time, kind, "shop", **{**star, "asset": "SIP", "program": VESTING})
    terms: Document = {"type": "earning", "asset": "STAR", "billing": "postpaid"}
    terms["claim"] = {"amount": 1, "currency": "EUR", "debtor": account["cafe"], "points": 2, "round": "up"}
    deal = {"actor": account["shop"], "partner": account["cafe"], "notice_days": 0, "starts": time, "version": 1}
    story.record(time, "agree", "shop cafe", terms=terms, **deal)


def _enroll(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-01-05T09:00:00.000Z", "enroll"
    ada: Document = {"actor": account["ada"], "asset": "STAR"}
    refuse("NOT_PERMITTED", "a merchant is no member", time, kind, "shop", **{**ada, "actor": account["shop"]})
    refuse("UNKNOWN_ASSET", "enrolled in nothing", time, kind, "ada", **{**ada, "asset": "DUST"})
    refuse("PROGRAM_MISSING", "enrolled without a program", time, kind, "ada", **{**ada, "asset": "MUG"})
    refuse("UNKNOWN_FORMULA", "a formula that is none", time, kind, "ada", **ada, formula="kilometres")
    refuse("UNKNOWN_ACCOUNT", "invited by nobody", time, kind, "ada", **ada, invited_by=UNKNOWN_MEMBER)
    refuse("UNKNOWN_ACCOUNT", "invited by a shop", time, kind, "ada", **ada, invited_by=account["shop"])
    story.record(time, kind, "ada", **ada)
    refuse("ALREADY_ENROLLED", "enrolled again", time, kind, "ada", **ada)
    refuse("", "another formula", time, kind, "ada", **ada, formula="flat")
    story.record(time, kind, "ada", **ada, invited_by=account["bob"])
    refuse("INVITED_TOO_LATE", "invited by another", time, kind, "ada", **ada, invited_by=account["gus"])
    story.record(time, kind, "dora", actor=account["dora"], asset="STAR", formula="miles", invited_by=account["bob"])
    for who in ("ada", "dora"):
        story.record(time, kind, who, actor=account[who], asset="SIP", invited_by=account["bob"])


def _sale(story: Story, order: str, at: str, *lines: tuple[int, str], member: str = "ada", **fields: Any) -> Document:
    """A purchase of lines, each an amount and a category."""
    parts = [{"amount": amount, **({"category": category} if category else {})} for amount, category in lines]
    found = {"amount": sum(amount for amount, _ in lines), "at": at, "lines": parts, "order": order}
    return {**found, "member": story.accounts[member], **fields}


def _sold(story: Story, *purchases: Document, who: str = "shop", asset: str = "STAR") -> Document:
    return {"actor": story.accounts[who], "asset": asset, "currency": "EUR", "purchases": list(purchases)}


def _buy(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-01-15T12:00:00.000Z", "record_purchases"  # a Thursday
    for name, sale in (
        ("nothing but taxes", _sale(story, "A-0", time, (500, "tax"))),
        ("a large first purchase", _sale(story, "A-0", time, (5_000, "food"), (950, "tax"))),
        ("a first purchase that is too small", _sale(story, "A-0", time, (4_999, "food"), (950, "tax"))),
        ("coffee and food", _sale(story, "A-0", time, (3_000, "coffee"), (9_000, "food"))),
        ("what is in no category", _sale(story, "A-0", time, (2_550, ""))),
        ("on a Saturday", _sale(story, "A-0", "2026-01-10T12:00:00.000Z", (2_550, ""))),
        ("within a week of joining", _sale(story, "A-0", "2026-01-11T22:59:59.999Z", (2_550, ""))),
        ("a week after joining", _sale(story, "A-0", "2026-01-11T23:00:00.000Z", (2_550, ""))),
        ("before joining", _sale(story, "A-0", "2026-01-04T12:00:00.000Z", (2_550, ""))),
        ("by card", _sale(story, "A-0", time, (2_550, ""), tender="card")),
        ("in cash, in the app before spring", _sale(story, "A-0", time, (2_550, ""), channel="app", tender="cash")),
        ("more than the cap has room for", _sale(story, "A-0", time, (60_000, "coffee"))),
        ("a newcomer nobody invited", _sale(story, "A-0", time, (2_550, ""), member="gus")),
    ):
        refuse("", name, time, kind, "shop", **_sold(story, sale))
    beans = _sale(story, "A-0", time, (1_200, "coffee"), (800, ""))
    beans["lines"][1]["product"] = "BEANS/1KG"
    refuse("", "a product with a bonus", time, kind, "shop", **_sold(story, beans))
    old = "2025-12-06T12:00:00.000Z"
    early = _sold(story, _sale(story, "A-0", old, (100, "")))
    refuse("PROGRAM_MISSING", "before the program", time, kind, "shop", **early)
    miles = [{"name": "miles", "quantity": 700}, {"name": "legs", "quantity": 2}]
    flown: Any = {"member": "dora", "quantities": miles}
    for name, sale in (
        ("points for miles", _sale(story, "D-0", time, (20_000, ""), **flown)),
        ("points for miles that cost nothing", _sale(story, "D-0", time, (0, ""), **flown)),
        ("points for miles that only taxes were paid for", _sale(story, "D-0", time, (2_000, "tax"), **flown)),
        ("no miles", _sale(story, "D-0", time, (20_000, ""), member="dora")),
    ):
        refuse("", name, time, kind, "shop", **_sold(story, sale))
    far = _sale(story, "D-0", time, (1, ""), member="dora", quantities=[{"name": "miles", "quantity": 2**53 - 1}])
    refuse("", "more miles than the cap", time, kind, "shop", **_sold(story, far))
    first = _sale(story, "A-1", time, (3_000, "coffee"), (9_000, "food"), (950, "tax"))
    second = _sale(story, "A-2", time, (4_000, "food"), tender="card")
    story.record(time, kind, "shop", **_sold(story, first, second))
    by_dora = _sale(story, "D-1", time, (20_000, ""), (1_000, "tax"), **flown)
    story.record(time, kind, "shop", **_sold(story, by_dora))
    late = "2026-02-25T12:00:00.000Z"
    old_sale = _sold(story, _sale(story, "A-9", time, (100, "")))
    refuse("PURCHASE_TOO_OLD", "bought 41 days ago", late, kind, "shop", **old_sale)
    refuse("", "bought 40 days ago", "2026-02-24T12:00:00.000Z", kind, "shop", **old_sale)
    at_cafe = _sale(story, "C-1", time, (2_000, "coffee"), member="gus")
    refuse("", "a first purchase at a partner", time, kind, "cafe", **_sold(story, at_cafe, who="cafe"))
    story.record(time, kind, "cafe", **_sold(story, at_cafe, who="cafe"))
    invited = {"actor": account["gus"], "asset": "STAR", "invited_by": account["ada"]}
    refuse("INVITED_TOO_LATE", "invited after buying", time, "enroll", "gus", **invited)


def _grant(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-01-16T12:00:00.000Z", "grant"
    base: Document = {"actor": account["shop"], "asset": "STAR", "member": account["ada"]}
    badge = {**base, "activity": "badge", "reference": "B-1"}
    refuse("GRANT_TOO_LARGE", "points for a badge", time, kind, "shop", **badge, amount=1)
    refuse("EVIDENCE_UNEXPECTED", "a badge with a proof", time, kind, "shop", **badge, evidence=evidence(1))
    refuse("SCORE_UNEXPECTED", "a badge with an answer", time, kind, "shop", **badge, score=3)
    story.record(time, kind, "shop", **badge)
    refuse("LIMIT_REACHED", "a badge twice", time, kind, "shop", **{**badge, "reference": "B-2"})
    recycled = {**base, "activity": "recycled", "amount": 20, "reference": "R-1"}
    refuse("EVIDENCE_MISSING", "recycled, they say", time, kind, "shop", **recycled)
    story.record(time, kind, "shop", **recycled, evidence=evidence(1))
    again = {**recycled, "evidence": evidence(1), "reference": "R-2"}
    refuse("EVIDENCE_USED", "recycled twice", time, kind, "shop", **again)
    by_cafe = {**again, "actor": account["cafe"], "member": account["bob"]}
    refuse("EVIDENCE_USED", "recycled elsewhere too", time, kind, "cafe", **by_cafe)
    survey = {**base, "activity": "survey", "amount": 10, "reference": "S-1"}
    refuse("SCORE_MISSING", "a survey without an answer", time, kind, "shop", **survey)
    story.record(time, kind, "shop", **survey, score=0)
    refuse("LIMIT_REACHED", "a survey twice a month", time, kind, "shop", **{**survey, "reference": "S-2"}, score=9)
    next_month = "2026-02-01T12:00:00.000Z"
    refuse("", "a survey in the next month", next_month, kind, "shop", **{**survey, "reference": "S-2"}, score=9)


def _refund(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-01-17T12:00:00.000Z", "refund"

    def back(order: str, amount: int, *lines: tuple[int, int], number: str = "G-1", who: str = "shop") -> Document:
        of: Document = {"amount": amount, "order": order, "type": "purchase"}
        if lines:
            of["lines"] = [{"amount": of_line, "line": line} for line, of_line in lines]
        return {"actor": account[who], "asset": "STAR", "of": of, "reference": number}

    for name, document in (
        ("from the last line back", back("A-1", 1_000)),
        ("of one line", back("A-1", 1_000, (0, 1_000))),
        ("of taxes", back("A-1", 950, (2, 950))),
        ("of two lines", back("A-1", 4_000, (1, 3_000), (0, 1_000))),
        ("of the whole", back("A-1", 12_950)),
        ("of half of what was flown", back("D-1", 10_000, (0, 10_000))),
    ):
        refuse("", f"a refund {name}", time, kind, "shop", **document)
    refuse("UNKNOWN_LINE", "a line that is none", time, kind, "shop", **back("A-1", 10, (3, 10)))
    refuse("REFUND_TOO_LARGE", "more than the line", time, kind, "shop", **back("A-1", 951, (2, 951)))
    refuse("REFUND_TOO_LARGE", "more than the lines", time, kind, "shop", **back("A-1", 12_951))
    story.record(time, kind, "shop", **back("A-1", 3_000, (0, 3_000)))
    refuse("REFUND_TOO_LARGE", "a line again", time, kind, "shop", **back("A-1", 1, (0, 1), number="G-2"))
    story.record(time, kind, "shop", **back("A-1", 9_950, number="G-2"))
    story.record(time, kind, "cafe", **back("C-1", 500, who="cafe", number="G-3"))


def _have_rewards(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-02-16T12:00:00.000Z", "redeem"  # a Monday
    miles = [{"name": "miles", "quantity": 1_200}]
    sale = _sale(story, "D-2", time, (90_000, "coffee"), member="dora", quantities=miles)
    story.record(time, "record_purchases", "shop", **_sold(story, sale))
    fields: Document = {"asset": "STAR", "merchant": account["shop"]}
    drink: Document = {"actor": account["dora"], "amount": 50, "reward": "drink", **fields}
    refuse("UNKNOWN_REWARD", "a reward that is none", time, kind, "dora", **{**drink, "reward": "cake"})
    refuse("NOT_ACCEPTED", "a reward at a partner", time, kind, "dora", **{**drink, "merchant": account["cafe"]})
    by_bob = {**drink, "actor": account["bob"]}
    refuse("REWARD_UNAVAILABLE", "a reward for silver", time, kind, "bob", **by_bob)
    refuse("PRICE_MISMATCH", "a reward at another price", time, kind, "dora", **{**drink, "amount": 51})
    refuse("PRICE_MISMATCH", "101 rewards", time, kind, "dora", **{**drink, "amount": 10_100, "reward": "mug"})
    refuse("LIMIT_REACHED", "three drinks a month", time, kind, "dora", **{**drink, "amount": 150})
    two = story.record(time, kind, "dora", **{**drink, "amount": 100})
    of: Document = {"amount": 100, "operation": two, "type": "redemption"}
    undo: Document = {"actor": account["shop"], "asset": "STAR", "of": of, "reference": "G-4"}
    half = {**undo, "of": {**of, "amount": 50}}
    refuse("PRICE_MISMATCH", "one of two drinks given back", time, "refund", "shop", **half)
    story.record(time, "refund", "shop", **undo)
    closed = {"actor": account["shop"], "voucher": {"index": 0, "seq": len(story.data) - 2}}
    refuse("VOUCHER_CLOSED", "a voucher given back", time, "use_voucher", "shop", **closed)
    two = story.record(time, kind, "dora", **{**drink, "amount": 100})
    voucher = {"index": 1, "seq": len(story.data) - 1}
    use: Document = {"actor": account["shop"], "voucher": voucher}
    refuse("UNKNOWN_VOUCHER", "a voucher elsewhere", time, "use_voucher", "cafe", **{**use, "actor": account["cafe"]})
    third = {**use, "voucher": {**voucher, "index": 2}}
    refuse("UNKNOWN_VOUCHER", "a third of two vouchers", time, "use_voucher", "shop", **third)
    for day, code in (("2026-02-26", ""), ("2026-02-27", "VOUCHER_EXPIRED")):
        refuse(code, f"a voucher on {day}", f"{day}T12:00:00.000Z", "use_voucher", "shop", **use)
    story.record(time, "use_voucher", "shop", reference="bill-1", **use)
    refuse("VOUCHER_CLOSED", "a voucher twice", time, "use_voucher", "shop", **use)
    used = {**undo, "of": {**of, "operation": two}, "reference": "G-5"}
    refuse("VOUCHER_CLOSED", "a drink that was had given back", time, "refund", "shop", **used)
    frozen: Document = {"account": account["dora"], "actor": account["operator"]}
    story.record(time, "freeze", "operator", reason="dispute", **frozen)
    other = {**use, "voucher": {**voucher, "index": 0}}
    refuse("ACCOUNT_FROZEN", "a voucher of a frozen account", time, "use_voucher", "shop", **other)
    story.record(time, "unfreeze", "operator", reason="resolved", **frozen)
    march = "2026-03-02T12:00:00.000Z"
    refuse("", "the last drink, in March", march, kind, "dora", **drink)
    refuse("OUT_OF_STOCK", "more drinks than there are", march, kind, "dora", **{**drink, "amount": 100})


def _plan(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time = "2026-03-03T12:00:00.000Z"
    ada: Document = {"asset": "STAR", "member": account["ada"]}
    start: Document = {"actor": account["shop"], "plan": "club", "reference": "P-1", **ada}
    kind = "start_plan"
    refuse("NOT_PERMITTED", "a plan by a partner", time, kind, "cafe", **{**start, "actor": account["cafe"]})
    refuse("UNKNOWN_ACCOUNT", "a plan of a shop", time, kind, "shop", **{**start, "member": account["cafe"]})
    refuse("UNKNOWN_PLAN", "a plan that is none", time, kind, "shop", **{**start, "plan": "prime"})
    end: Document = {"actor": account["shop"], "reason": "refunded", **ada}
    refuse("NO_PLAN", "the end of no plan", time, "end_plan", "shop", **end)
    story.record(time, kind, "shop", **start)
    refuse("REFERENCE_EXISTS", "a plan that was paid for once", time, kind, "shop", **start)
    for day in ("2026-04-01", "2026-04-02"):
        sale = _sale(story, "A-3", f"{day}T12:00:00.000Z", (1_000, ""), channel="app")
        refuse("", f"bought on {day}", f"{day}T12:00:00.000Z", "record_purchases", "shop", **_sold(story, sale))
    story.record(time, kind, "shop", **{**start, "reference": "P-2"})
    refuse("NO_PLAN", "the end of a plan that ended", "2026-05-02T12:00:00.000Z", "end_plan", "shop", **end)
    story.record("2026-03-04T12:00:00.000Z", "end_plan", "shop", **end)


def _vest(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-03-10T12:00:00.000Z", "record_purchases"
    sales = [_sale(story, f"V-{i}", time, (5_050, ""), member=who) for i, who in enumerate(("ada", "dora", "ada"))]
    story.record(time, kind, "shop", **_sold(story, *sales, asset="SIP"))
    shop, operator = account["shop"], account["operator"]
    orders = [{"merchant": shop, "order": f"V-{i}"} for i in (0, 1)]
    vest: Document = {"actor": operator, "asset": "SIP", "purchases": orders}
    part: Document = {"type": "purchase", "amount": 1_000, "order": "V-2"}
    back: Document = {"actor": shop, "asset": "SIP", "of": part, "reference": "G-6"}
    story.record("2026-03-11T12:00:00.000Z", "refund", "shop", **back)
    refuse("NOTHING_DUE", "a day too early", "2026-03-23T12:00:00.000Z", "vest", "operator", **vest)
    due = "2026-03-24T04:00:00.000Z"
    refuse("NOT_PERMITTED", "vested by a partner", due, "vest", "cafe", **{**vest, "actor": account["cafe"]})
    refuse("UNKNOWN_ASSET", "vested of nothing", due, "vest", "operator", **{**vest, "asset": "DUST"})
    refuse("NOTHING_DUE", "vested of another asset", due, "vest", "operator", **{**vest, "asset": "STAR"})
    story.record(due, "vest", "operator", **vest)
    refuse("NOTHING_DUE", "vested twice", due, "vest", "operator", **vest)
    rest = {**vest, "actor": shop, "purchases": [*orders, {"merchant": shop, "order": "V-2"}]}
    story.record(due, "vest", "shop", **rest)
    whole = {**back, "of": {**part, "amount": 5_050, "order": "V-0"}, "reference": "G-7"}
    refuse("", "what vested given back, with what it gave for an invitation", due, "refund", "shop", **whole)
    gift: Document = {"activity": "birthday", "actor": shop, "asset": "SIP", "member": account["gus"]}
    story.record(due, "grant", "shop", **gift, amount=35, reference="1")
    later = "2026-04-20T12:00:00.000Z"
    refuse("", "a gift that others last longer by", later, "grant", "shop", **gift, amount=4, reference="2")
    refuse("", "a gift that pays for a voucher", later, "grant", "shop", **gift, amount=5, reference="2")
    send: Document = {"asset": "SIP", "recipients": [{"amount": 10, "to": account["ada"]}]}
    refuse("", "who gives is active", later, "transfer", "gus", actor=account["gus"], **send)
    until = "2026-04-21T12:00:00.000Z"
    held: Document = {"actor": account["gus"], "amount": 5, "asset": "SIP", "merchant": shop, "until": until}
    refuse("", "who sets aside is active", later, "hold", "gus", **held)
    error: Document = {"actor": shop, "asset": "SIP", "member": account["gus"], "reason": "error", "reference": "1"}
    refuse("", "who is corrected is not", later, "correct", "shop", **error, amount=-5)
    refuse("", "points by hand have a last day", later, "correct", "shop", **error, amount=5)
    spent: Document = {"actor": account["gus"], "amount": 5, "asset": "SIP", "merchant": shop}
    story.record(later, "redeem", "gus", **spent)


def _share(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time, kind = "2026-04-21T12:00:00.000Z", "form_pool"
    others = [account["ada"], account["gus"]]
    pool: Document = {"actor": account["dora"], "asset": "SIP", "members": others}
    refuse("SIGNATURE_MISSING", "a pool of which one knows nothing", time, kind, "dora ada", **pool)
    refuse("SIGNATURE_UNEXPECTED", "a pool with a stranger", time, kind, "dora ada gus bob", **pool)
    shop: Document = {**pool, "members": [account["shop"]]}
    refuse("UNKNOWN_ACCOUNT", "a pool with a shop", time, kind, "dora shop", **shop)
    shops = {**pool, "actor": account["shop"], "members": [account["ada"]]}
    refuse("NOT_PERMITTED", "a pool of a shop", time, kind, "shop ada", **shops)
    refuse("UNKNOWN_ASSET", "a pool of nothing", time, kind, "dora ada gus", **{**pool, "asset": "DUST"})
    spend: Document = {"amount": 20, "asset": "SIP", "from_pool": True, "merchant": account["shop"]}
    refuse("NO_POOL", "a pool that is none", time, "redeem", "ada", actor=account["ada"], **spend)
    story.record(time, kind, "dora ada gus", **pool)
    again = {**pool, "actor": account["bob"], "members": [account["gus"]]}
    refuse("ALREADY_POOLED", "in two pools", time, kind, "bob gus", **again)
    refuse("", "in a pool of another asset", time, kind, "bob gus", **{**again, "asset": "STAR"})
    for amount, code in ((1, ""), (7, ""), (10_000, "INSUFFICIENT_POINTS")):
        refuse(code, f"{amount} of a pool", time, "redeem", "gus", actor=account["gus"], **{**spend, "amount": amount})
    done = story.record(time, "redeem", "ada", actor=account["ada"], **spend)
    of: Document = {"type": "redemption", "amount": 15, "operation": done}
    undo: Document = {"actor": account["shop"], "asset": "SIP", "of": of, "reference": "G-8"}
    story.record(time, "refund", "shop", **undo)
    leave: Document = {"asset": "SIP"}
    refuse("NO_POOL", "left without being in it", time, "leave_pool", "bob", actor=account["bob"], **leave)
    refuse("UNKNOWN_ASSET", "left a pool of nothing", time, "leave_pool", "ada", actor=account["ada"], asset="DUST")
    for who in ("ada", "gus"):
        story.record(time, "leave_pool", who, actor=account[who], **leave)
    refuse("NO_POOL", "a pool of one", time, "leave_pool", "dora", actor=account["dora"], **leave)


def _review(story: Story) -> None:
    refuse, account = story.refuse, story.accounts
    time = "2026-04-22T04:00:00.000Z"
    operator: Document = {"actor": account["operator"], "asset": "STAR"}
    members = [account[who] for who in ("ada", "dora", "bob")]
    review: Document = {**operator, "members": members}
    refuse("NOT_PERMITTED", "a review by a member", time, "review_tiers", "ada", **{**review, "actor": account["ada"]})
    for about, code in (("balance", ""), ("expiry", "NOTHING_DUE"), ("tier", "")):
        refuse(code, f"reminded of {about}", time, "remind", "operator", **review, about=about)
    christmas = "2026-12-24T12:00:00.000Z"
    refuse("", "reminded of points that expire soon", christmas, "remind", "operator", **review, about="expiry")
    story.record(time, "remind", "operator", **review, about="balance")
    refuse("NOTHING_DUE", "reminded again", time, "remind", "operator", **review, about="balance")
    may = "2026-05-01T12:00:00.000Z"
    refuse("", "reminded next month", may, "remind", "operator", **review, about="balance")
    other = {**review, "asset": "SIP"}
    refuse("NOTHING_DUE", "no reminders", time, "remind", "operator", **other, about="balance")
    refuse("UNKNOWN_ASSET", "a review of nothing", time, "review_tiers", "operator", **{**review, "asset": "DUST"})
    story.record("2026-06-15T04:00:00.000Z", "review_tiers", "operator", **review)
    refuse("NOTHING_DUE", "a review of nothing new", "2026-06-15T04:00:00.000Z", "review_tiers", "operator", **review)


def _renew(story: Story) -> None:
    """Other versions of the program, by which multipliers go together."""
    refuse, account = story.refuse, story.accounts
    shop: Document = {"actor": account["shop"], "asset": "STAR"}
    time, kind = "2026-06-20T09:00:00.000Z", "publish_program"
    for version, stacking in ((2, "sum"), (3, "product")):
        program = {**PROGRAM, "stacking": stacking, "expiry": {"after": "months_end", "count": 1}}
        del program["earning_cap"]
        story.record(time, kind, "shop", **shop, program=program, starts=time, version=version)
        sale = _sale(story, "N-1", time, (3_000, "coffee"), (9_000, "food"), tender="card")
        refuse("", f"multipliers as a {stacking}", time, "record_purchases", "shop", **_sold(story, sale))
        most = _sale(story, "N-1", time, (2**53 - 1, "coffee"), tender="card")
        refuse("", f"very many points by a {stacking}", time, "record_purchases", "shop", **_sold(story, most))
    plain = {name: PROGRAM[name] for name in ("bands", "currency", "round_amount", "round_points", "time_zone")}
    plain["expiry"] = {"after": "never"}
    over: Document = {"ends": "2026-07-01T00:00:00.000Z", "program": plain, "starts": time, "version": 4}
    story.record(time, kind, "shop", **shop, **over)
    sale = _sale(story, "N-2", time, (3_000, "coffee"), (950, "tax"))
    story.record(time, "record_purchases", "shop", **_sold(story, sale))
    lines: Document = {"type": "purchase", "amount": 950, "lines": [{"amount": 950, "line": 1}], "order": "N-2"}
    story.record(time, "refund", "shop", **shop, of=lines, reference="G-9")
    july = "2026-07-01T00:00:00.000Z"
    enroll: Document = {"actor": account["bob"], "asset": "STAR", "invited_by": account["ada"]}
    refuse("PROGRAM_CLOSED", "enrolled when it is over", july, "enroll", "bob", **enroll)
    mug: Document = {"actor": account["dora"], "amount": 100, "asset": "STAR", "merchant": account["shop"]}
    refuse("UNKNOWN_REWARD", "a reward when it is over", july, "redeem", "dora", **mug, reward="mug")
    plan: Document = {"member": account["ada"], "plan": "club", "reference": "P-9"}
    refuse("UNKNOWN_PLAN", "a plan when it is over", july, "start_plan", "shop", **shop, **plan)

"""Agreements: who makes them, when they are in force, that no loop of them pays, and what points become by them."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise, permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger.agreements import (
    MAX_PATHS,
    Path,
    best_paths,
    best_rate,
    effective_rate,
    given_of,
    in_force,
    outcome,
    quote,
    valid_until,
)
from ledger.encoding import MAX_INTEGER
from ledger.movements import fee_for
from ledger.operations import MalformedError
from ledger.state import Admission, Agreement, Code, Rejection
from ledger.terms import Bonus, Cap, ClaimTerms, ExchangeTerms, KeptFee, Rate
from tests.rulebook import Book, acceptance, claim, earning, exchange

NOBODY = "mer_" + "z" * 26


class Coalition(Book):
    """Merchants that issue an asset each, by its code."""

    def __init__(self, *codes: str) -> None:
        super().__init__()
        self.issuers = {code: self.merchant(code) for code in codes}
        for code, merchant in self.issuers.items():
            self.asset(merchant, code)

    def fields(self, asset: str, into: str, **fields: Any) -> dict[str, Any]:
        """The fields of an agreement to exchange, in force from now on unless another time is given."""
        known: dict[str, Any] = {"notice_days": 0, "starts": self.time, "version": self.next_version(f"{asset}>{into}")}
        changes: dict[str, Any] = {
            name: fields.pop(name) for name in ("ends", "notice_days", "starts", "version") if name in fields
        }
        parties = {"actor": self.issuers[asset], "partner": self.issuers[into]}
        return {**known, **changes, **parties, "terms": exchange(asset, into, **fields)}

    def next_version(self, name: str) -> int:
        return len(self.state.agreements.group(name)) + 1

    def exchange(self, asset: str, into: str, **fields: Any) -> None:
        """Record an agreement to exchange one asset into another."""
        self.do("agree", **self.fields(asset, into, **fields))

    def refuse(self, asset: str, into: str, **fields: Any) -> Rejection:
        """Why such an agreement is refused."""
        return self.refused("agree", **self.fields(asset, into, **fields))


def terms_of(**fields: Any) -> ExchangeTerms:
    known: dict[str, Any] = {"asset": "STAR", "into": "BEAN", "received": "retired"}
    return ExchangeTerms(**known | {"rate": Rate(get=fields.pop("get", 1), give=fields.pop("give", 1))} | fields)


# Making agreements


def test_refusals_of_agree_come_in_their_order() -> None:
    """A document that is wrong in every way, put right one thing at a time."""
    book = Coalition("STAR", "BEAN", "LEAF")
    shop, bakery, stranger = book.issuers.values()
    school, alice = book.beneficiary(), book.member()
    book.exchange("BEAN", "STAR")
    facts: dict[str, Any] = {"actor": school, "partner": alice, "asset": "NOPE", "into": "NADA", "get": 2}
    facts |= {"fee": "XXX", "claim": "XXX", "version": 9, "starts": book.later(ms=-30_001)}

    def ask() -> Any:
        actor, partner = facts["actor"], facts["partner"]
        fee = {"amount": 1, "currency": facts["fee"], "kept_by": actor, "points": 100, "round": "up"}
        more = {"get": facts["get"], "fee": fee, "claim": claim(partner, currency=facts["claim"])}
        terms = exchange(facts["asset"], facts["into"], **more)
        fields = {"notice_days": 30, "starts": facts["starts"], "terms": terms, "version": facts["version"]}
        return book.ask("agree", actor=actor, partner=partner, **fields)

    put_right: list[tuple[dict[str, Any], Code, tuple[str, ...]]] = [
        ({}, Code.NOT_PERMITTED, ("actor",)),
        ({"actor": shop}, Code.UNKNOWN_ACCOUNT, ("partner",)),
        ({"partner": school}, Code.UNKNOWN_ACCOUNT, ("partner",)),
        ({"partner": stranger}, Code.UNKNOWN_ASSET, ("terms", "asset")),
        ({"asset": "BEAN"}, Code.NOT_PERMITTED, ("actor",)),
        ({"asset": "STAR"}, Code.UNKNOWN_ASSET, ("terms", "into")),
        ({"into": "BEAN"}, Code.NOT_PERMITTED, ("partner",)),
        ({"partner": bakery}, Code.UNKNOWN_CURRENCY, ("terms", "fee", "currency")),
        ({"fee": "USD"}, Code.UNKNOWN_CURRENCY, ("terms", "claim", "currency")),
        ({"claim": "EUR"}, Code.VERSION_CONFLICT, ("version",)),
        ({"version": 1}, Code.STARTS_IN_PAST, ("starts",)),
        ({"starts": book.later(ms=-30_000)}, Code.PAYING_LOOP, ("terms", "rate")),
    ]
    for right, code, path in put_right:
        facts |= right
        refusal = ask()
        assert isinstance(refusal, Rejection)
        assert (refusal.code, refusal.path) == (code, path)
    facts |= {"get": 1}
    assert isinstance(ask(), Admission)


@pytest.mark.parametrize(
    "terms",
    [
        lambda owed: exchange("STAR", "BEAN", received="kept", claim=owed),
        lambda owed: acceptance("STAR", received="kept", claim=owed),
        lambda owed: earning("STAR", "postpaid", claim=owed),
    ],
    ids=["exchange", "acceptance", "earning"],
)
def test_issuer_pays_for_no_points_that_come_again(terms: Callable[[Any], dict[str, Any]]) -> None:
    """The partner would present what it kept to itself, or give points away: each time for money."""
    book = Coalition("STAR", "BEAN")
    shop, bakery = book.issuers.values()
    fields: dict[str, Any] = {"actor": shop, "notice_days": 0, "partner": bakery, "starts": book.time, "version": 1}
    book.do("agree", terms=terms(claim(bakery)), **fields)
    with pytest.raises(MalformedError) as caught:
        book.build("agree", terms=terms(claim(shop)), **fields)
    assert caught.value.path == ("terms", "claim", "debtor")


def test_agreement_is_recorded_with_its_terms_and_concerns_the_partner() -> None:
    """It has no postings."""
    book = Coalition("STAR", "BEAN")
    shop, bakery = book.issuers.values()
    fields = book.fields("STAR", "BEAN", get=3, give=5, notice_days=30, ends=book.later(days=90))
    admission = book.do("agree", **fields)
    assert (admission.postings, admission.parties) == ((), (bakery,))
    found = in_force(book.state, "STAR>BEAN", book.time)
    assert found is not None
    assert (found.issuer, found.partner, found.version, found.notice_days) == (shop, bakery, 1, 30)
    assert (found.starts, found.ends, found.seq) == (book.time, book.later(days=90), book.seq)
    assert found.terms == terms_of(get=3, give=5)


@pytest.mark.parametrize(("terms", "sign"), [(acceptance("STAR"), "@"), (earning("STAR"), "+")])
def test_other_agreements_are_named_after_asset_and_partner(terms: dict[str, Any], sign: str) -> None:
    """Each partner has its own versions."""
    book = Coalition("STAR", "BEAN", "LEAF")
    shop, bakery, grocer = book.issuers.values()
    assert book.agree(shop, bakery, terms) == f"STAR{sign}{bakery}"
    assert book.agree(shop, grocer, terms) == f"STAR{sign}{grocer}"
    assert book.agree(shop, bakery, terms) == f"STAR{sign}{bakery}"
    assert [version.version for version in book.state.agreements.group(f"STAR{sign}{bakery}")] == [1, 2]


def test_beneficiary_can_accept_points_and_nothing_else() -> None:
    """It takes donations; giving or exchanging points is a merchant's business."""
    book = Coalition("STAR")
    school, member, shop = book.beneficiary(), book.member(), book.issuers["STAR"]
    assert book.agree(shop, school, acceptance("STAR", received="kept")) == f"STAR@{school}"
    fields: dict[str, Any] = {"actor": shop, "notice_days": 0, "starts": book.time, "version": 1}
    for partner, terms in ((school, earning("STAR")), (member, acceptance("STAR")), (NOBODY, acceptance("STAR"))):
        refusal = book.refused("agree", partner=partner, terms=terms, **fields)
        assert (refusal.code, refusal.path) == (Code.UNKNOWN_ACCOUNT, ("partner",))


def test_both_parties_sign_an_agreement() -> None:
    """Either signature alone binds nobody, and a stranger's is not wanted."""
    book = Coalition("STAR", "BEAN", "LEAF")
    (one,), (other,), (stranger,) = (book.keys[merchant] for merchant in book.issuers.values())
    fields = book.fields("STAR", "BEAN")
    assert isinstance(book.ask("agree", signers=[one, other], **fields), Admission)
    for signers, code in (
        ([one], Code.SIGNATURE_MISSING),
        ([other], Code.SIGNATURE_MISSING),
        ([one, other, stranger], Code.SIGNATURE_UNEXPECTED),
    ):
        refusal = book.refused("agree", signers=signers, **fields)
        assert (refusal.code, refusal.path) == (code, ("sigs",))


@pytest.mark.parametrize("careful", ["issuer", "partner"])
def test_agreement_needs_the_approval_of_both_parties(careful: str) -> None:
    """With fewer keys than either wants for approval it is refused."""
    book = Book()
    shop = book.merchant("Shop", count=2 if careful == "issuer" else 1, **_approval(careful == "issuer"))
    bakery = book.merchant("Bakery", count=2 if careful == "partner" else 1, **_approval(careful == "partner"))
    book.asset(shop, "STAR")
    fields = {"actor": shop, "notice_days": 0, "partner": bakery, "starts": book.time, "version": 1}
    few = [book.keys[shop][0], book.keys[bakery][0]]
    refusal = book.refused("agree", signers=few, terms=acceptance("STAR"), **fields)
    assert (refusal.code, refusal.path) == (Code.APPROVAL_MISSING, ("sigs",))
    everyone = [*book.keys[shop], *book.keys[bakery]]
    assert isinstance(book.ask("agree", signers=everyone, terms=acceptance("STAR"), **fields), Admission)


def _approval(wanted: bool) -> dict[str, int]:
    return {"approval_threshold": 2} if wanted else {}


@pytest.mark.parametrize("frozen", ["actor", "partner"])
def test_frozen_party_agrees_to_nothing(frozen: str) -> None:
    """Neither as the issuer nor as the partner, who signs too."""
    book = Coalition("STAR", "BEAN")
    fields = book.fields("STAR", "BEAN")
    book.do("freeze", account=fields[frozen], actor=book.operator, reason="fraud")
    refusal = book.refused("agree", **fields)
    assert (refusal.code, refusal.path) == (Code.ACCOUNT_FROZEN, (frozen,))


# In force


def test_last_version_that_has_started_is_in_force() -> None:
    """Also when it starts before one that was published earlier, which then never comes into force."""
    book = Coalition("STAR", "BEAN")
    book.exchange("STAR", "BEAN", starts=book.later(days=10))
    assert in_force(book.state, "STAR>BEAN", book.later(days=9)) is None
    book.exchange("STAR", "BEAN", starts=book.later(days=5), ends=book.later(days=20))
    versions = {days: in_force(book.state, "STAR>BEAN", book.later(days=days)) for days in (4, 5, 10, 19, 20)}
    assert {days: found and found.version for days, found in versions.items()} == {
        4: None,
        5: 2,
        10: 2,
        19: 2,
        20: None,
    }


def test_version_that_ends_brings_no_earlier_one_back() -> None:
    """Terms that were replaced stay replaced."""
    book = Coalition("STAR", "BEAN")
    book.exchange("STAR", "BEAN")
    book.exchange("STAR", "BEAN", ends=book.later(days=1))
    assert in_force(book.state, "STAR>BEAN", book.later(days=2)) is None


def test_terms_are_valid_until_they_end_or_are_replaced() -> None:
    """The earlier of both; nothing is promised when neither is recorded."""
    book = Coalition("STAR", "BEAN")
    book.exchange("STAR", "BEAN")
    (first,) = book.state.agreements.group("STAR>BEAN")
    assert valid_until(book.state, first) is None
    book.exchange("STAR", "BEAN", starts=book.later(days=8))
    assert valid_until(book.state, first) == book.later(days=8)
    book.do("end_agreement", actor=first.issuer, agreement="STAR>BEAN", ends=book.later(days=6))
    first, _ = book.state.agreements.group("STAR>BEAN")
    assert valid_until(book.state, first) == book.later(days=6)
    book.exchange("STAR", "BEAN", starts=book.later(days=4))
    assert valid_until(book.state, first) == book.later(days=4)


# Ending agreements


def test_refusals_of_end_agreement_come_in_their_order() -> None:
    """A stranger, no notice, no effect."""
    book = Coalition("STAR", "BEAN", "LEAF")
    shop, bakery, stranger = book.issuers.values()
    book.exchange("STAR", "BEAN", notice_days=10, ends=book.later(days=5))
    fields: dict[str, Any] = {"actor": stranger, "agreement": "STAR>LEAF", "ends": book.later(days=10, ms=-1)}
    for right, code, path in (
        ({}, Code.UNKNOWN_AGREEMENT, ("agreement",)),
        ({"agreement": "STAR>BEAN"}, Code.UNKNOWN_AGREEMENT, ("agreement",)),
        ({"actor": bakery}, Code.NOTICE_TOO_SHORT, ("ends",)),
        ({"ends": book.later(days=10)}, Code.AGREEMENT_ENDED, ("ends",)),
    ):
        fields |= right
        refusal = book.refused("end_agreement", **fields)
        assert (refusal.code, refusal.path) == (code, path)
    assert book.refused("end_agreement", **fields | {"ends": book.time}).details == {
        "earliest_end": book.later(days=10)
    }
    assert book.refused("end_agreement", **fields | {"actor": shop}).code is Code.AGREEMENT_ENDED


def test_agreement_is_ended_at_a_time_once() -> None:
    """Only an earlier end would change anything."""
    book = Coalition("STAR", "BEAN")
    book.exchange("STAR", "BEAN")
    fields = {"actor": book.issuers["BEAN"], "agreement": "STAR>BEAN"}
    book.do("end_agreement", ends=book.later(days=9), **fields)
    assert book.refused("end_agreement", ends=book.later(days=9), **fields).code is Code.AGREEMENT_ENDED
    book.do("end_agreement", ends=book.later(days=9, ms=-1), **fields)


@pytest.mark.parametrize("who", ["issuer", "partner"])
def test_either_party_ends_every_version_that_lasts_longer(who: str) -> None:
    """A version still to come as well; one that ends earlier keeps its end."""
    book = Coalition("STAR", "BEAN")
    book.exchange("STAR", "BEAN", ends=book.later(days=3))
    book.exchange("STAR", "BEAN")
    book.exchange("STAR", "BEAN", starts=book.later(days=9), ends=book.later(days=20))
    first, _, _ = book.state.agreements.group("STAR>BEAN")
    actor, other = (first.issuer, first.partner) if who == "issuer" else (first.partner, first.issuer)
    admission = book.do("end_agreement", actor=actor, agreement="STAR>BEAN", ends=book.later(days=10))
    assert (admission.postings, admission.parties) == ((), (other,))
    ends = [version.ends for version in book.state.agreements.group("STAR>BEAN")]
    assert ends == [book.later(days=3), book.later(days=10), book.later(days=10)]


def test_notice_is_that_of_the_version_in_force() -> None:
    """Whatever a version still to come says; before any is in force the last one counts."""
    book = Coalition("STAR", "BEAN")
    book.exchange("STAR", "BEAN", notice_days=10, starts=book.later(days=1))
    book.exchange("STAR", "BEAN", notice_days=30, starts=book.later(days=40))
    fields = {"actor": book.issuers["STAR"], "agreement": "STAR>BEAN"}
    refusal = book.refused("end_agreement", ends=book.later(days=29), **fields)
    assert refusal.details == {"earliest_end": book.later(days=30)}
    book.advance(days=2)
    refusal = book.refused("end_agreement", ends=book.later(days=9), **fields)
    assert refusal.details == {"earliest_end": book.later(days=10)}
    book.do("end_agreement", ends=book.later(days=10), **fields)


# Points bought in advance


def test_refusals_of_allot_come_in_their_order() -> None:
    """An asset nobody has, one that is not the actor's, no agreement, a used reference, too many points or money."""
    book = Coalition("STAR", "BEAN", "LEAF")
    shop, bakery, _ = book.issuers.values()
    book.agree(shop, bakery, earning("STAR", claim=claim(bakery, amount=2)))
    block: dict[str, Any] = {"asset": "STAR", "partner": bakery, "reference": "block-1"}
    book.do("allot", actor=shop, points=MAX_INTEGER // 2, **block)
    fields: dict[str, Any] = {"actor": shop, "points": MAX_INTEGER, **block, "asset": "NOPE", "partner": book.member()}
    steps: list[tuple[dict[str, Any], Code, tuple[str, ...]]] = [
        ({}, Code.UNKNOWN_ASSET, ("asset",)),
        ({"asset": "BEAN"}, Code.NOT_PERMITTED, ("actor",)),
        ({"asset": "STAR"}, Code.NO_AGREEMENT, ("partner",)),
        ({"partner": bakery}, Code.REFERENCE_EXISTS, ("reference",)),
        ({"reference": "block-2"}, Code.POINTS_OVERFLOW, ("points",)),
        ({"points": MAX_INTEGER // 2}, Code.AMOUNT_OVERFLOW, ()),
    ]
    for right, code, path in steps:
        fields |= right
        refusal = book.refused("allot", **fields)
        assert (refusal.code, refusal.path) == (code, path)


def test_allotted_points_add_up_and_are_owed_for() -> None:
    """The claim is for each block; what is left counts on, over versions of the agreement too."""
    book = Coalition("STAR", "BEAN")
    shop, bakery = book.issuers.values()
    name = book.agree(shop, bakery, earning("STAR", claim=claim(bakery, amount=5, points=10)))
    first = book.do("allot", actor=shop, asset="STAR", partner=bakery, points=1_000, reference="block-1")
    assert [(leg.account, leg.amount, leg.asset) for leg in first.postings] == [
        (bakery, -500, "USD"),
        (shop, 500, "USD"),
    ]
    book.agree(shop, bakery, earning("STAR"))
    second = book.do("allot", actor=shop, asset="STAR", partner=bakery, points=50, reference="block-2")
    assert (second.postings, second.parties) == ((), (bakery,))
    found = book.state.allotments.get(name)
    assert found is not None
    assert (found.allotted, found.remaining) == (1_050, 1_050)
    assert (book.owed(bakery, shop), book.balance(shop, "USD"), book.balance(bakery, "USD")) == (500, 500, -500)


def test_as_many_points_can_be_left_as_an_amount_can_be() -> None:
    """And not one more."""
    book = Coalition("STAR", "BEAN")
    shop, bakery = book.issuers.values()
    book.agree(shop, bakery, earning("STAR"))
    fields = {"actor": shop, "asset": "STAR", "partner": bakery}
    book.do("allot", points=MAX_INTEGER - 1, reference="block-1", **fields)
    assert book.refused("allot", points=2, reference="block-2", **fields).code is Code.POINTS_OVERFLOW
    book.do("allot", points=1, reference="block-2", **fields)


@pytest.mark.parametrize(
    ("terms", "days"), [("postpaid", 0), ("prepaid", 3)], ids=["billed afterwards", "not in force any more"]
)
def test_only_a_prepaid_agreement_in_force_takes_points_in_advance(terms: str, days: int) -> None:
    """Otherwise nothing could be given out of them."""
    book = Coalition("STAR", "BEAN")
    shop, bakery = book.issuers.values()
    book.agree(shop, bakery, earning("STAR", terms, claim=claim(bakery)), ends=book.later(days=3))
    book.advance(days=days)
    refusal = book.refused("allot", actor=shop, asset="STAR", partner=bakery, points=1, reference="block-1")
    assert refusal.code is Code.NO_AGREEMENT


# Loops


def test_agreement_that_opens_a_paying_loop_is_refused_with_the_loop_named() -> None:
    """Three exchanges round, of which none alone shows it."""
    book = Coalition("STAR", "BEAN", "LEAF")
    book.exchange("STAR", "BEAN", give=2, get=3)
    book.exchange("BEAN", "LEAF", give=5, get=4)
    refusal = book.refuse("LEAF", "STAR", give=6, get=5 + 1)
    assert refusal.details == {"loop": "LEAF>STAR>BEAN>LEAF"}
    assert "LEAF>STAR>BEAN>LEAF" in refusal.message
    assert "5 points become 6" in refusal.message
    book.exchange("LEAF", "STAR", give=6, get=5)


def test_loop_that_gives_back_exactly_what_it_took_is_fine() -> None:
    """Rates that floating point would not multiply to 1."""
    book = Coalition("STAR", "BEAN")
    book.exchange("STAR", "BEAN", give=10, get=49)
    book.exchange("BEAN", "STAR", give=49, get=10)
    assert book.refuse("BEAN", "STAR", give=49 * 10**12, get=10 * 10**12 + 1).code is Code.PAYING_LOOP


def test_bonus_counts_as_if_every_point_got_it() -> None:
    """3 : 1 with 5,000 for each 60,000 is 5 : 12 at best."""
    book = Coalition("STAR", "BEAN")
    book.exchange("STAR", "BEAN", give=3, get=1, bonus={"block": 60_000, "points": 5_000})
    assert book.refuse("BEAN", "STAR", give=5, get=13).code is Code.PAYING_LOOP
    book.exchange("BEAN", "STAR", give=5, get=12)


def test_better_rate_in_a_later_version_opens_a_loop_too() -> None:
    """What was agreed before does not matter."""
    book = Coalition("STAR", "BEAN")
    book.exchange("STAR", "BEAN")
    book.exchange("BEAN", "STAR")
    assert book.refuse("STAR", "BEAN", give=9, get=10).details == {"loop": "STAR>BEAN>STAR"}
    assert book.refuse("STAR", "BEAN", give=9, get=10, starts=book.later(days=1)).code is Code.PAYING_LOOP
    book.exchange("STAR", "BEAN", give=10, get=9)


def test_loop_that_pays_only_later_is_refused_now() -> None:
    """When a version that is recorded already starts."""
    book = Coalition("STAR", "BEAN")
    book.exchange("STAR", "BEAN", starts=book.later(days=30), give=1, get=2)
    refusal = book.refuse("BEAN", "STAR")
    assert book.later(days=30) in refusal.message
    assert book.refuse("BEAN", "STAR", ends=book.later(days=30, ms=1)).code is Code.PAYING_LOOP
    book.exchange("BEAN", "STAR", ends=book.later(days=30))


def test_terms_that_are_replaced_or_ended_make_no_loop() -> None:
    """What counts is what is in force at the same time."""
    book = Coalition("STAR", "BEAN")
    book.exchange("STAR", "BEAN", give=1, get=2)
    assert book.refuse("BEAN", "STAR").code is Code.PAYING_LOOP
    book.exchange("STAR", "BEAN", starts=book.later(days=1))
    assert book.refuse("BEAN", "STAR").code is Code.PAYING_LOOP
    book.exchange("BEAN", "STAR", starts=book.later(days=1))
    book.do("end_agreement", actor=book.issuers["BEAN"], agreement="BEAN>STAR", ends=book.later(days=9))
    book.exchange("STAR", "BEAN", starts=book.later(days=9), give=1, get=7)


def test_other_agreements_open_no_loop() -> None:
    """Only exchanges turn one asset into another."""
    book = Coalition("STAR", "BEAN")
    shop, bakery = book.issuers.values()
    book.exchange("STAR", "BEAN", give=1, get=100)
    book.agree(bakery, shop, acceptance("BEAN"))
    book.agree(bakery, shop, earning("BEAN"))


CODES = ("STAR", "BEAN", "LEAF", "MOON")
Times = st.integers(0, 6)
Proposal = st.tuples(
    st.sampled_from(list(permutations(CODES, 2))),
    st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 3), (3, 2)]),
    st.booleans(),
    Times,
    st.none() | Times,
)


def naive_in_force(book: Coalition, day: int) -> dict[tuple[str, str], Fraction]:
    """Best rates in force on a day, by what they turn into what."""
    rates: dict[tuple[str, str], Fraction] = {}
    for asset, into in permutations(CODES, 2):
        at = book.later(days=day)
        versions = [version for version in book.state.agreements if version.agreement == f"{asset}>{into}"]
        started = sorted((v.version, v) for v in versions if v.starts <= at)
        if started and (started[-1][1].ends is None or started[-1][1].ends > at):
            terms = started[-1][1].terms
            assert isinstance(terms, ExchangeTerms)
            rates[asset, into] = Fraction(terms.rate.get, terms.rate.give)
            if terms.bonus is not None:
                rates[asset, into] += Fraction(terms.bonus.points, terms.bonus.block)
    return rates


def naive_loops(rates: dict[tuple[str, str], Fraction]) -> set[str]:
    """Every loop whose rates multiply to more than 1."""
    found = set()
    for length in range(2, len(CODES) + 1):
        for loop in permutations(CODES, length):
            steps = list(zip(loop, (*loop[1:], loop[0]), strict=True))
            product = Fraction(1)
            for step in steps:
                product *= rates.get(step, 0)
            if product > 1:
                found.add(">".join((*loop, loop[0])))
    return found


@settings(max_examples=25)
@given(st.lists(Proposal, min_size=1, max_size=12))
def test_no_loop_of_agreements_ever_pays_and_only_those_that_would_are_refused(proposals: list[Any]) -> None:
    """Whatever is proposed for whatever time, against every loop and day, one by one."""
    book = Coalition(*CODES)
    for (asset, into), (give, get), bonus, starts, ends in proposals:
        more: dict[str, Any] = {"bonus": {"block": 4, "points": 1}} if bonus else {}
        if ends is not None:
            more["ends"] = book.later(days=starts + 1 + ends)
        fields = book.fields(asset, into, give=give, get=get, starts=book.later(days=starts), **more)
        signed = book.build("agree", **fields)
        decision = book.decide(signed)
        book.record(signed, decision if isinstance(decision, Admission) else _as_if_admitted(book, fields))
        paying: set[str] = set().union(*(naive_loops(naive_in_force(book, day)) for day in range(14)))
        if isinstance(decision, Admission):
            assert not paying
            continue
        assert decision.code is Code.PAYING_LOOP
        assert decision.details["loop"] in paying
        book.state.agreements.change((f"{asset}>{into}", fields["version"]), None)


def _as_if_admitted(book: Coalition, fields: dict[str, Any]) -> Admission:
    terms = book.build("agree", **fields).op.terms  # type: ignore[union-attr]
    parties = {"issuer": fields["actor"], "partner": fields["partner"]}
    known = {name: fields.get(name) for name in ("version", "starts", "ends", "notice_days")}
    name = f"{terms.asset}>{terms.into}"  # type: ignore[union-attr]
    agreement = Agreement(agreement=name, terms=terms, seq=0, **parties, **known)  # type: ignore[arg-type]
    return Admission(changes=(("agreements", (name, fields["version"]), agreement),))


# What an amount becomes


def fee(amount: int, points: int, **more: Any) -> KeptFee:
    return KeptFee(amount=amount, currency="USD", kept_by=NOBODY, points=points, round="half_up", **more)


def test_published_terms_come_out_as_published() -> None:
    """Rates, fees and bonuses of programs that exist, to the point and the cent."""
    even = terms_of(give=1_000, get=1_000, step=1_000, fee=fee(6, 100, maximum=9_900))
    assert (outcome(even, 10_000), fee_for(even.fee, 10_000)) == (10_000, 600)
    assert fee_for(even.fee, 164_000) == 9_840
    assert fee_for(even.fee, 165_000) == fee_for(even.fee, 10**9) == 9_900
    assert outcome(terms_of(give=20, get=15), 10_000) == 7_500
    assert outcome(terms_of(give=5, get=3), 1_000) == 600
    block = terms_of(give=3, get=1, minimum=3_000, bonus=Bonus(block=60_000, points=5_000))
    assert outcome(block, 60_000) == 25_000
    assert outcome(block, 59_999) == 19_999


def test_effective_rate_is_what_an_amount_really_gets() -> None:
    """Rounding, steps and blocks included, in lowest terms."""
    block = terms_of(give=3, get=1, bonus=Bonus(block=60_000, points=5_000))
    assert effective_rate(block, 60_000) == (5, 12)
    assert effective_rate(block, 30_000) == (1, 3)
    assert effective_rate(block, 59_999) == (19_999, 59_999)
    assert effective_rate(block, 1) == (0, 1)
    down = terms_of(give=3, get=1, step=1_000, off_step="down")
    assert (given_of(down, 1_999), effective_rate(down, 1_999)) == (1_000, (333, 1_000))
    assert (given_of(down, 999), effective_rate(down, 999)) == (0, None)


Small = st.integers(1, 40)


@st.composite
def exchange_terms(draw: st.DrawFn, into: str = "BEAN") -> ExchangeTerms:
    """Any terms on small numbers."""
    minimum = draw(st.integers(1, 20))
    step = draw(st.integers(1, 8))
    caps = st.none() | st.builds(Cap, period=st.just("day"), points=st.integers(1, 200))
    return terms_of(
        into=into,
        give=draw(Small),
        get=draw(Small),
        bonus=draw(st.none() | st.builds(Bonus, block=Small, points=Small)),
        fee=draw(st.none() | st.builds(fee, st.integers(0, 9), Small, fixed=st.integers(0, 3))),
        minimum=minimum,
        maximum=draw(st.none() | st.integers(minimum, 300)),
        step=step,
        off_step=draw(st.sampled_from(["refuse", "down"])) if step > 1 else "refuse",
        holder_cap=draw(caps),
        total_cap=draw(caps),
    )


@given(exchange_terms(), st.integers(1, 400))
def test_nothing_becomes_more_than_its_best_rate(terms: ExchangeTerms, amount: int) -> None:
    """So a loop whose best rates do not pay does not pay at all."""
    assert outcome(terms, amount) <= amount * best_rate(terms)


@settings(max_examples=60)
@given(exchange_terms(), st.lists(st.integers(1, 250), min_size=1, max_size=4))
def test_quote_says_what_the_exchange_then_does(terms: ExchangeTerms, amounts: list[int]) -> None:
    """The same points, fee and claim, or the same refusal, also when earlier exchanges have used up a cap."""
    book = Coalition("STAR", "BEAN")
    shop, bakery = book.issuers.values()
    kept = terms.fee and replace(terms.fee, kept_by=shop)
    owed = ClaimTerms(amount=3, currency="EUR", debtor=bakery, points=7, round="up")
    book.agree(shop, bakery, replace(terms, fee=kept, claim=owed))
    alice = book.member()
    book.give(alice, "STAR", 10_000)
    for amount in amounts:
        told = quote(book.state, "STAR", "BEAN", amount, book.time, account=alice)
        limits: dict[str, Any] = {"minimum_out": told.out or 1, "maximum_fee": told.fee_amount or None}
        signed = book.build("exchange", actor=alice, amount=amount, asset="STAR", into="BEAN", **limits)
        decision = book.decide(signed)
        if told.refusal is not None:
            assert isinstance(decision, Rejection)
            assert (decision.code, decision.path) == (told.refusal.code, told.refusal.path)
            continue
        assert isinstance(decision, Admission), decision
        moved = {(leg.account, leg.asset): leg.amount for leg in decision.postings}
        assert (moved[alice, "STAR"], moved[alice, "BEAN"]) == (-told.given, told.out)
        assert moved.get((alice, "USD"), 0) == -told.fee_amount
        assert moved[bakery, "EUR"] == -told.claim_amount
        book.record(signed, decision)


def test_quote_names_the_version_and_how_long_it_holds() -> None:
    """And the currencies of what is owed."""
    book = Coalition("STAR", "BEAN")
    shop, bakery = book.issuers.values()
    cost = replace(fee(6, 100), kept_by=shop)
    book.exchange("STAR", "BEAN", give=9, get=1)
    book.exchange("STAR", "BEAN", give=3, get=1, fee=cost, claim=claim(bakery, currency="EUR"))
    book.exchange("STAR", "BEAN", starts=book.later(days=30))
    told = quote(book.state, "STAR", "BEAN", 1_000, book.time)
    assert (told.agreement, told.version, told.valid_until) == ("STAR>BEAN", 2, book.later(days=30))
    assert (told.given, told.out, told.refusal) == (1_000, 333, None)
    assert (told.fee_amount, told.fee_currency, told.claim_amount, told.claim_currency) == (60, "USD", 1_000, "EUR")


def test_quote_tells_why_an_exchange_is_not_possible() -> None:
    """In the order of the exchange itself."""
    book = Coalition("STAR", "BEAN")
    shop, bakery = book.issuers.values()
    cap = {"period": "day", "points": 50}
    huge = {"amount": MAX_INTEGER, "currency": "USD", "kept_by": shop, "points": 1, "round": "up"}
    terms: dict[str, dict[str, Any]] = {
        "BOUND": {"give": 10, "maximum": 100, "minimum": 20, "step": 5, "total_cap": cap},
        "MINE": {"holder_cap": cap},
        "DEAR": {"fee": huge},
        "OWED": {"claim": claim(bakery, MAX_INTEGER)},
        "RARE": {},
    }
    for code, fields in terms.items():
        book.asset(bakery, code, None, supply_cap=10 if code == "RARE" else None)
        book.agree(shop, bakery, exchange("STAR", code, **fields))

    def why(into: str, amount: int, asset: str = "STAR", account: str | None = None) -> Code | None:
        refusal = quote(book.state, asset, into, amount, book.time, account=account).refusal
        return None if refusal is None else refusal.code

    assert why("BEAN", 1, asset="NOPE") is Code.UNKNOWN_ASSET
    assert why("NOPE", 1) is Code.UNKNOWN_ASSET
    assert why("BEAN", 1) is Code.NO_AGREEMENT
    assert [why("BOUND", amount) for amount in (21, 15, 105, 55, 50)] == [
        Code.OFF_STEP,
        Code.BELOW_MINIMUM,
        Code.ABOVE_MAXIMUM,
        Code.CAP_EXCEEDED,
        None,
    ]
    assert (why("MINE", 51), why("MINE", 51, account=NOBODY)) == (None, Code.CAP_EXCEEDED)
    assert (why("DEAR", 1), why("DEAR", 2)) == (None, Code.FEE_ABOVE_LIMIT)
    assert (why("OWED", 1), why("OWED", 2)) == (None, Code.AMOUNT_OVERFLOW)
    assert (why("RARE", 10), why("RARE", 11)) == (None, Code.SUPPLY_EXCEEDED)
    book.agree(shop, bakery, exchange("STAR", "MINE", give=10))
    assert (why("MINE", 9), why("MINE", 10)) == (Code.OUTCOME_TOO_SMALL, None)
    book.do("freeze", account=bakery, actor=book.operator, reason="fraud")
    frozen = quote(book.state, "STAR", "RARE", 11, book.time).refusal
    assert frozen is not None
    assert (frozen.code, frozen.path) == (Code.ACCOUNT_FROZEN, ("into",))
    book.do("freeze", account=shop, actor=book.operator, reason="fraud")
    frozen = quote(book.state, "STAR", "RARE", 11, book.time).refusal
    assert frozen is not None
    assert (frozen.code, frozen.path) == (Code.ACCOUNT_FROZEN, ("asset",))


def names(paths: tuple[Path, ...]) -> list[tuple[str, int]]:
    """Each path as its assets, and what comes out."""
    return [(">".join([path.hops[0].asset, *(hop.into for hop in path.hops)]), path.out) for path in paths]


def test_best_path_may_be_the_longer_one() -> None:
    """What each exchange gives is what the next takes; rounding, steps and fees of each are shown."""
    book = Coalition("STAR", "BEAN", "LEAF")
    shop = book.issuers["STAR"]
    book.exchange("STAR", "LEAF", give=5, get=1, ends=book.later(days=9))
    cost = {"amount": 1, "currency": "USD", "kept_by": shop, "points": 10, "round": "up"}
    book.exchange("STAR", "BEAN", give=3, get=2, fee=cost, ends=book.later(days=20))
    book.exchange("BEAN", "LEAF", give=2, get=1, step=10, off_step="down", ends=book.later(days=10))
    found = best_paths(book.state, "STAR", "LEAF", 100, book.time)
    assert found.complete
    assert names(found.paths) == [("STAR>BEAN>LEAF", 30), ("STAR>LEAF", 20)]
    first, second = found.paths[0].hops
    assert (first.given, first.out, first.fee_amount, second.amount, second.given) == (100, 66, 10, 66, 60)
    assert [path.valid_until for path in found.paths] == [book.later(days=10), book.later(days=9)]
    assert names(best_paths(book.state, "STAR", "LEAF", 100, book.time, max_hops=1).paths) == [("STAR>LEAF", 20)]


def test_path_takes_what_is_on_a_step_and_leaves_the_rest() -> None:
    """Also where an exchange of another amount is refused: each one of a path is signed for the points it takes."""
    book = Coalition("STAR", "BEAN", "LEAF")
    book.exchange("STAR", "BEAN", give=5, get=3, step=5)
    book.exchange("BEAN", "LEAF", give=10, get=1, step=10, minimum=600)
    found = best_paths(book.state, "STAR", None, 1_004, book.time).paths
    assert names(found) == [("STAR>BEAN", 600), ("STAR>BEAN>LEAF", 60)]
    assert [(hop.amount, hop.given) for hop in found[1].hops] == [(1_004, 1_000), (600, 600)]
    assert names(best_paths(book.state, "STAR", None, 999, book.time).paths) == [("STAR>BEAN", 597)]
    assert not best_paths(book.state, "STAR", None, 4, book.time).paths


def test_all_that_points_can_become_is_found() -> None:
    """By asset, best first; nothing leads back, and what is refused for the amount leads nowhere."""
    book = Coalition("STAR", "BEAN", "LEAF", "MOON")
    book.exchange("STAR", "BEAN")
    book.exchange("BEAN", "STAR")
    book.exchange("BEAN", "LEAF", minimum=50)
    book.exchange("STAR", "LEAF", give=2, get=1)
    book.exchange("LEAF", "MOON", starts=book.later(days=1))
    many = best_paths(book.state, "STAR", None, 50, book.time)
    assert names(many.paths) == [("STAR>BEAN", 50), ("STAR>BEAN>LEAF", 50), ("STAR>LEAF", 25)]
    few = best_paths(book.state, "STAR", None, 49, book.time)
    assert names(few.paths) == [("STAR>BEAN", 49), ("STAR>LEAF", 24)]
    assert not best_paths(book.state, "MOON", None, 50, book.time).paths
    assert not best_paths(book.state, "STAR", "MOON", 50, book.time).paths
    book.advance(days=1)
    assert names(best_paths(book.state, "STAR", "MOON", 50, book.time).paths)[0] == ("STAR>BEAN>LEAF>MOON", 50)


@settings(max_examples=40)
@given(st.dictionaries(st.sampled_from(list(permutations(CODES, 2))), exchange_terms()), st.integers(1, 300))
def test_paths_are_those_of_trying_everything(terms: dict[tuple[str, str], ExchangeTerms], amount: int) -> None:
    """Every order of assets, one exchange after the other."""
    book = Coalition(*CODES)
    for (asset, into), some in terms.items():
        plain = replace(some, asset=asset, into=into, fee=None)
        agreement = Agreement(
            agreement=f"{asset}>{into}",
            version=1,
            issuer=book.issuers[asset],
            partner=book.issuers[into],
            starts=book.time,
            ends=None,
            notice_days=0,
            terms=plain,
            seq=0,
        )
        book.state.agreements.load(agreement)
    expected: dict[str, int] = {}
    for length in range(2, len(CODES) + 1):
        for way in permutations(CODES, length):
            points: int | None = amount
            for asset, into in pairwise(way):
                step = terms[asset, into].step if (asset, into) in terms else 1
                points = points - points % step if points else None
                told = quote(book.state, asset, into, points, book.time) if points else None
                points = told.out if told is not None and told.refusal is None else None
            if points and way[0] == "STAR":
                expected[">".join(way)] = points
    found = best_paths(book.state, "STAR", None, amount, book.time)
    assert dict(names(found.paths)) == expected
    for goal in CODES[1:]:
        outs = [path.out for path in best_paths(book.state, "STAR", goal, amount, book.time).paths]
        assert outs == sorted((out for way, out in expected.items() if way.endswith(goal)), reverse=True)


def test_search_for_paths_is_bounded() -> None:
    """Among very many agreements the short paths are tried, and the answer says that there were more."""
    book = Coalition("STAR", "BEAN")
    shop, bakery = book.issuers.values()
    codes = ["STAR", "BEAN", *(book.asset(bakery, f"SAME{i}", None) for i in range(38))]
    for asset, into in permutations(codes, 2):
        terms = terms_of(asset=asset, into=into)
        fields: dict[str, Any] = {"issuer": shop, "partner": bakery, "starts": book.time, "ends": None}
        fields |= {"version": 1, "notice_days": 0, "seq": 0}
        book.state.agreements.load(Agreement(agreement=f"{asset}>{into}", terms=terms, **fields))
    found = best_paths(book.state, "STAR", None, 100, book.time)
    assert not found.complete
    assert len(found.paths) == MAX_PATHS
    assert {path.into for path in found.paths if len(path.hops) == 1} == set(codes) - {"STAR"}
    two_hops = best_paths(book.state, "STAR", "BEAN", 100, book.time, max_hops=2)
    assert two_hops.complete
    assert len(two_hops.paths) == len(codes) - 1


@pytest.mark.parametrize("hops", [0, 6])
def test_path_has_one_to_five_exchanges(hops: int) -> None:
    """Asking for more is a mistake of the caller's."""
    with pytest.raises(ValueError, match="1 to 5"):
        best_paths(Book().state, "STAR", None, 1, "2026-03-02T12:00:00.000Z", max_hops=hops)

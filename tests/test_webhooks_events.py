"""Events: which entries an account is told of, as what, and how much of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.webhook_events import EVENTS, Event, Reader, event_at, events_from, reader_of
from ledger.checkpoint import encode_verifier_key
from ledger.keys import encode_public_key
from ledger.operations import (
    KINDS,
    CancelRecovery,
    Expire,
    OpenAccount,
    RecordPurchases,
    Redeem,
    Remind,
    ReplaceLogKey,
    Transfer,
)
from ledger.program_terms import ExpiresAfterDays, Reminders
from ledger.sequencer import account_opened_by
from ledger.terms import Purchase, Recipient
from ledger.wallet import Wallet
from tests.partners import trade
from tests.worlds import START, World, make_program, pay

PARTNERS_KINDS = {"correct", "exchange", "hold", "capture", "release", "refund", "agree", "end_agreement", "allot"}
PROGRAMS_KINDS = {"enroll", "vest", "review_tiers", "start_plan", "end_plan", "form_pool", "leave_pool", "use_voucher"}
PROGRAMS_KINDS |= {"remind"}
PARTNERS_KINDS |= {"net", "settle", "dispute", "resolve_dispute", "freeze", "unfreeze"}
"""Kinds that only the stories of partners and of programs have."""


class Fair:
    """Two merchants, of whom the first has a member in custody and receives a transfer of the other's points."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.star, self.mile = world.add_merchant("Star shop"), world.add_merchant("Mile shop")
        world.add_asset(self.star, "STAR", make_program(expiry=ExpiresAfterDays(count=1)))
        world.add_asset(self.mile, "MILE")
        self.alice, self.bob = world.add_members(2)
        key = world.make_key()
        opening = {"role": "auditor", "name": "Auditor", "keys": (encode_public_key(key),)}
        (opened,) = world.record(world.operator.sign(OpenAccount, co_signers=[key], **opening))
        self.auditor = world.wallet(account_opened_by(opened), key)
        (opened,) = world.record(self.star.sign(OpenAccount, role="member"))
        self.dave = world.wallet(account_opened_by(opened), *self.star.keys)
        self.bought = self.buy(self.star, "STAR", (self.alice, 500), (self.bob, 20))
        self.granted = world.grant(self.star, "STAR", self.alice, 100).seq
        self.granted_elsewhere = world.grant(self.mile, "MILE", self.bob, 50).seq
        self.paid = self.record(pay(self.alice, "STAR", 10, self.bob))
        recipients = tuple(
            Recipient(amount=amount, to=str(to.account)) for to, amount in ((self.star, 3), (self.alice, 4))
        )
        self.shared = self.record(self.bob.sign(Transfer, asset="MILE", recipients=recipients))
        self.passed_on = self.record(pay(self.star, "MILE", 2, self.bob))
        self.spent = self.record(
            self.alice.sign(Redeem, asset="STAR", amount=7, merchant=self.star.account, reference="bill-1")
        )
        self.recovery = self.record(world.recover(self.dave, world.make_key()))
        self.cancelled = self.record(self.dave.sign(CancelRecovery, account=self.dave.account))
        self.others_recovery = self.record(world.recover(self.bob, world.make_key()))
        self.rotated = self.record(self.mile.replace_keys([world.make_key()]))
        world.restart(world.log_key, key := world.make_key())
        log_key = encode_verifier_key(world.origin, key)
        self.log_key = self.record(world.operator.sign(ReplaceLogKey, log_key=log_key))
        world.clock.advance(days=3)
        through = "2026-03-03"
        self.expired = self.record(self.star.sign(Expire, asset="STAR", through=through, limit=100))

    def record(self, operation: Any) -> int:
        (recorded,) = self.world.record(operation)
        return recorded.seq

    def buy(self, merchant: Wallet, asset: str, *bought: tuple[Wallet, int]) -> int:
        purchases = tuple(
            Purchase(amount=amount, at=START, member=str(who.account), order=f"order-{i}")
            for i, (who, amount) in enumerate(bought)
        )
        return self.record(merchant.sign(RecordPurchases, asset=asset, currency="USD", purchases=purchases))

    def reader(self, wallet: Wallet) -> Reader:
        with self.world.store.read() as connection:
            (account,) = self.world.store.accounts(connection, [str(wallet.account)])
            return reader_of(self.world.store, connection, account)

    def events(self, wallet: Wallet, types: list[str] | None = None, limit: int = 1_000) -> list[Event]:
        """All events of an account, gathered a few entries at a time."""
        found: list[Event] = []
        first = 0
        with self.world.store.read() as connection:
            size = self.world.store.head(connection).size
            while first < size:
                events, following = events_from(
                    self.world.store, connection, self.reader(wallet), types, first_seq=first, limit=limit
                )
                assert following > first
                assert all(first <= event.seq < following for event in events)
                found, first = found + events, following
        assert first == size
        return found

    def told(self, wallet: Wallet, seq: int) -> Any:
        """The contents of the message about an entry."""
        (event,) = [event for event in self.events(wallet) if event.seq == seq]
        message = json.loads(event.body)
        assert message["type"] == event.type
        assert message["data"]["seq"] == seq
        return message

    def types(self, wallet: Wallet) -> dict[int, str]:
        return {event.seq: event.type for event in self.events(wallet)}


@pytest.fixture(scope="module")
def fair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fair]:
    """Once: nothing here changes it."""
    with World(f"sqlite:///{tmp_path_factory.mktemp('fair') / 'ledger.sqlite'}") as world:
        yield Fair(world)


def test_merchant_is_told_of_what_concerns_it(fair: Fair) -> None:
    """What it does, takes part in or issues, and what is done about an account in its custody."""
    types = fair.types(fair.star)
    opened = min(types)
    assert types.pop(opened) == "account.opened"
    assert [types.pop(seq) for seq in sorted(types)[:2]] == ["asset.defined", "program.published"]
    assert [types.pop(seq) for seq in sorted(types)[:1]] == ["account.opened"]  # the member in its custody
    assert types == {
        fair.bought: "purchases.recorded",
        fair.granted: "points.granted",
        fair.paid: "transfer.recorded",
        fair.shared: "transfer.received",
        fair.passed_on: "transfer.sent",
        fair.spent: "points.redeemed",
        fair.recovery: "recovery.started",
        fair.cancelled: "recovery.cancelled",
        fair.log_key: "log_key.replaced",
        fair.expired: "points.expired",
    }


def test_merchant_is_not_told_of_anothers_business(fair: Fair) -> None:
    """Its own asset, its own keys, and the log's."""
    types = fair.types(fair.mile)
    assert set(types.values()) == {
        "account.opened",
        "asset.defined",
        "program.published",
        "points.granted",
        "transfer.recorded",
        "keys.replaced",
        "log_key.replaced",
    }
    assert fair.granted not in types
    assert fair.recovery not in types


@pytest.mark.parametrize("who", ["auditor", "operator"])
def test_those_who_see_everything_are_told_everything(fair: Fair, who: str) -> None:
    wallet = fair.auditor if who == "auditor" else fair.world.operator
    events = fair.events(wallet)
    with fair.world.store.read() as connection:
        assert [event.seq for event in events] == list(range(fair.world.store.head(connection).size))
    assert {EVENTS[event.type] for event in events} == set(KINDS) - PARTNERS_KINDS - PROGRAMS_KINDS
    assert all(json.loads(event.body)["data"]["operation"] is not None for event in events)
    assert events[0].type == "ledger.founded"


def test_message_is_what_the_documentation_says(fair: Fair) -> None:
    """Ids, integers, the legs that are told, and the signed document."""
    message = fair.told(fair.star, fair.spent)
    data = message["data"]
    with fair.world.store.read() as connection:
        stored = fair.world.store.entry_data(connection, [fair.spent])[fair.spent]
    entry = json.loads(stored)
    assert message["type"] == "points.redeemed"
    assert message["timestamp"] == entry["time"]
    assert list(message) == ["type", "timestamp", "data"]
    assert data.pop("hash")
    assert data.pop("operationId")
    assert data == {
        "ledger": fair.world.origin,
        "accountId": fair.star.account,
        "entryId": f"ent_{fair.spent}",
        "seq": fair.spent,
        "kind": "redeem",
        "at": entry["op"]["at"],
        "actorId": fair.alice.account,
        "asset": "STAR",
        "amount": 7,
        "postings": [
            {
                "accountId": leg["account"],
                "asset": leg["asset"],
                "amount": leg["amount"],
                "lastDay": leg.get("lot"),
            }
            for leg in entry["postings"]
        ],
        "operation": entry["op"],
    }


def test_recipient_is_told_only_its_own_part(fair: Fair) -> None:
    """Not what another recipient got, nor the document that says so."""
    data = fair.told(fair.star, fair.shared)["data"]
    assert data["postings"] == [{"accountId": fair.star.account, "asset": "MILE", "amount": 3, "lastDay": None}]
    assert (data["amount"], data["operation"], data["actorId"]) == (3, None, fair.bob.account)
    assert str(fair.alice.account) not in json.dumps(data)


def test_amount_is_what_moved(fair: Fair) -> None:
    amounts = {seq: fair.told(fair.star, seq)["data"]["amount"] for seq in fair.types(fair.star)}
    assert amounts[fair.bought] == 5
    assert amounts[fair.granted] == 100
    assert amounts[fair.paid] == 10
    assert amounts[fair.passed_on] == 2
    assert amounts[fair.expired] == 98
    assert amounts[fair.log_key] is None
    assert fair.told(fair.mile, fair.shared)["data"]["amount"] == 7


def test_custodian_is_told_all_of_a_recovery(fair: Fair) -> None:
    """It has to judge whether to object."""
    data = fair.told(fair.star, fair.recovery)["data"]
    assert data["operation"]["account"] == fair.dave.account
    assert fair.others_recovery not in fair.types(fair.star)


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize("who", ["star", "mile", "auditor"])
def test_events_are_the_same_however_they_are_gathered(fair: Fair, who: str, limit: int) -> None:
    """A few entries at a time, with nothing left out or told twice."""
    wallet = getattr(fair, who)
    assert fair.events(wallet, limit=limit) == fair.events(wallet)


@pytest.mark.parametrize("limit", [1, 5, 1_000])
@pytest.mark.parametrize("who", ["star", "mile", "auditor"])
@pytest.mark.parametrize("types", [[each] for each in EVENTS] + [["transfer.sent", "recovery.started"]], ids=",".join)
def test_events_of_some_types_are_those_of_all(fair: Fair, who: str, types: list[str], limit: int) -> None:
    """Whichever way they are looked for."""
    wallet = getattr(fair, who)
    assert fair.events(wallet, types, limit) == [each for each in fair.events(wallet) if each.type in types]


@pytest.mark.parametrize("who", ["star", "mile", "auditor"])
def test_message_is_the_same_each_time(fair: Fair, who: str) -> None:
    """Byte for byte, also when it is made for another attempt."""
    reader = fair.reader(getattr(fair, who))
    with fair.world.store.read() as connection:
        for event in fair.events(getattr(fair, who)):
            again = event_at(fair.world.store, connection, reader, event.seq, event.type)
            assert again == event
        assert event_at(fair.world.store, connection, reader, 10**6, "transfer.sent") is None


def test_claimed_account_is_no_longer_its_custodians_business(tmp_path: Path) -> None:
    """Once its member holds its keys, a recovery is told to others."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        shop = world.add_merchant()
        (opened,) = world.record(shop.sign(OpenAccount, role="member"))
        member = world.wallet(account_opened_by(opened), *shop.keys)
        key = world.make_key()
        world.record(member.replace_keys([key]))
        member = world.wallet(str(member.account), key)
        (begun,) = world.record(world.recover(member, world.make_key()))
        with world.store.read() as connection:
            (account,) = world.store.accounts(connection, [str(shop.account)])
            reader = reader_of(world.store, connection, account)
            events, _ = events_from(world.store, connection, reader, None, first_seq=0, limit=1_000)
        assert begun.seq not in {event.seq for event in events}


class Partners(Fair):
    """The story of a mint and a bakery, told to the two, to the operator and to a member of neither."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = trade(world)
        self.mint, self.bakery = (world.wallet(self.names[who]) for who in ("mint", "bakery"))


@pytest.fixture(scope="module")
def partners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Partners]:
    """Once: nothing here changes it."""
    with World(f"sqlite:///{tmp_path_factory.mktemp('partners') / 'ledger.sqlite'}") as world:
        yield Partners(world)


def test_partners_are_told_of_what_concerns_them(partners: Partners) -> None:
    """Both of what binds both; the one whose points they are, and the one at which they are spent."""
    both = {"agree": "agreement.made", "exchange": "points.exchanged", "allot": "allotment.sold"}
    both |= {"alert": "allotment.low", "refund_purchase": "points.refunded", "net": "claims.netted"}
    both |= {"dispute": "claim.disputed", "settle": "claim.settled", "end_agreement": "agreement.ended"}
    both |= {"redeem_kept": "points.redeemed", "refund": "points.refunded", "hold": "hold.placed"}
    both |= {"capture": "hold.captured"}
    for wallet in (partners.mint, partners.bakery):
        types = partners.types(wallet)
        assert {name: types.get(partners.names[name]) for name in both} == both
    types = partners.types(partners.mint)
    assert types[partners.names["correct"]] == "points.corrected"
    assert partners.names["correct"] not in partners.types(partners.bakery)
    assert partners.names["freeze"] not in partners.types(partners.bakery)


def test_operator_is_told_all_that_partners_do(partners: Partners) -> None:
    kinds = {EVENTS[event.type] for event in partners.events(partners.world.operator)}
    assert kinds >= PARTNERS_KINDS


def test_low_allotment_is_told_as_what_is_asked_for(partners: Partners) -> None:
    """As an alert with what is left to whoever wants alerts, and as the purchases it is to whoever does not."""
    seq = partners.names["alert"]
    told = {types: partners.events(partners.bakery, [types]) for types in ("allotment.low", "purchases.recorded")}
    (alert, *_) = told["allotment.low"]
    data = json.loads(alert.body)["data"]
    assert (alert.seq, data["kind"]) == (seq, "record_purchases")
    assert data["allotment"] == {"agreement": f"COIN+{partners.bakery.account}", "remaining": 40}
    (plain,) = [event for event in told["purchases.recorded"] if event.seq == seq]
    assert "allotment" not in json.loads(plain.body)["data"]
    with partners.world.store.read() as connection:
        reader = partners.reader(partners.bakery)
        assert event_at(partners.world.store, connection, reader, seq, "allotment.low") == alert
        assert event_at(partners.world.store, connection, reader, seq, "purchases.recorded") == plain


def test_message_of_an_exchange_has_both_assets(partners: Partners) -> None:
    """The amount is what was given; postings and document say what came out and what is owed."""
    data = partners.told(partners.bakery, partners.names["exchange"])["data"]
    assert (data["asset"], data["amount"]) == ("COIN", 100)
    assert {leg["asset"] for leg in data["postings"]} == {"COIN", "BEAN", "USD"}
    assert data["operation"]["into"] == "BEAN"


def test_capture_says_of_which_asset_it_is(partners: Partners) -> None:
    """Its document names a hold only."""
    data = partners.told(partners.bakery, partners.names["capture"])["data"]
    assert (data["asset"], data["amount"]) == ("COIN", 15)


class Reminded(Fair):
    """Alice and Bob are told of points that expire, Bob of twice as many; Carl and a tea house are not."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.star, self.tea = world.add_merchant("Star shop"), world.add_merchant("Tea house")
        program = make_program(
            expiry=ExpiresAfterDays(count=5), reminders=Reminders(balance="month", expiring_days=(7,))
        )
        world.add_asset(self.star, "STAR", program)
        self.alice, self.bob, self.carl = world.add_members(3)
        self.buy(self.star, "STAR", (self.alice, 500), (self.bob, 1_000))
        members = tuple(sorted(str(each.account) for each in (self.alice, self.bob, self.carl)))
        self.about = {
            about: self.record(by.sign(Remind, asset="STAR", about=about, members=members))
            for about, by in (("expiry", world.operator), ("balance", self.star))
        }


@pytest.fixture(scope="module")
def reminded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reminded]:
    """Once: nothing here changes it."""
    with World(f"sqlite:///{tmp_path_factory.mktemp('reminded') / 'ledger.sqlite'}") as world:
        yield Reminded(world)


@pytest.mark.parametrize("about", ["expiry", "balance"])
def test_issuer_is_told_what_its_members_were_reminded_of(reminded: Reminded, about: str) -> None:
    """Whoever did it, the operator or the issuer: those who were told, and what."""
    seq, day = reminded.about[about], "2026-03-07" if about == "expiry" else None
    expected = [
        {"accountId": who.account, "asset": "STAR", "about": about, "points": points, "day": day, "tier": None}
        for who, points in ((reminded.alice, 5), (reminded.bob, 10))
    ]
    for wallet in (reminded.star, reminded.world.operator):
        message = reminded.told(wallet, seq)
        assert message["type"] == "members.reminded"
        assert message["data"]["reminders"] == sorted(expected, key=lambda each: str(each["accountId"]))
        assert message["data"]["operation"]["about"] == about
    assert not {reminded.about[about]} & reminded.types(reminded.tea).keys()


def test_member_is_told_its_own_reminders_only(reminded: Reminded) -> None:
    """Not those of others in the same entry, nor who they are; who was passed over is told nothing."""
    for wallet, points in ((reminded.alice, 5), (reminded.bob, 10)):
        data = reminded.told(wallet, reminded.about["expiry"])["data"]
        assert [(each["accountId"], each["points"]) for each in data["reminders"]] == [(wallet.account, points)]
        assert data["operation"] is None
    assert str(reminded.bob.account) not in json.dumps(reminded.told(reminded.alice, reminded.about["expiry"]))
    assert "members.reminded" not in reminded.types(reminded.carl).values()


def test_reminders_are_the_same_each_time_they_are_told(reminded: Reminded) -> None:
    """Byte for byte: among all types, alone, and when they are made for another attempt."""
    events = reminded.events(reminded.star, ["members.reminded"])
    assert [event.seq for event in events] == list(reminded.about.values())
    assert events == [each for each in reminded.events(reminded.star) if each.type == "members.reminded"]
    reader = reminded.reader(reminded.star)
    with reminded.world.store.read() as connection:
        again = [event_at(reminded.world.store, connection, reader, each.seq, each.type) for each in events]
    assert again == events
    assert all("reminders" not in json.loads(each.body)["data"] for each in reminded.events(reminded.star)[:-2])

"""Reading what partners have with each other: against a walk over all records and entries, on both databases."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ledger import partner_queries, queries
from ledger.agreements import best_paths, in_force, quote
from ledger.encoding import format_time
from ledger.entries import Entry, decode_entry
from ledger.movements import has_lapsed
from ledger.operations import Hold, RecordPurchases, Redeem, Refund, ResolveDispute
from ledger.partner_queries import AgreementFilter, ClaimFilter, HoldFilter, ObligationFilter
from ledger.program_terms import ExpiresAfterDays
from ledger.queries import ALL, BETWEEN_FEW, EntryFilter, Page, Sight
from ledger.sequencer import Recorded
from ledger.state import NOT_NETTED, RECORDS, Claim, State, Touches
from ledger.tables import PARTY
from ledger.terms import ClaimRef, ExchangeTerms, Rate, RefundedPurchase
from ledger.wallet import Wallet
from tests.partners import HOLD_MS, agree, buy, net, trade
from tests.postgres import fresh_database
from tests.worlds import World, make_program


class Coalition:
    """A mint and a bakery that did everything partners can, and a grocer who takes the bakery's points for its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = trade(world)
        self.mint, self.bakery, self.ann, self.ben = (self._wallet(name) for name in ("mint", "bakery", "ann", "ben"))
        self.grocer = world.add_merchant("Grocer")
        world.add_asset(self.grocer, "LEAF")
        terms = ExchangeTerms(asset="BEAN", into="LEAF", rate=Rate(get=3, give=1), received="retired")
        world.record(agree(world, self.bakery, self.grocer, terms=terms))
        (held,) = world.record(self._hold(5))
        self.open_hold = held.seq
        self.now = format_time(world.clock.now_ms)

    def _wallet(self, name: str) -> Wallet:
        return self.world.wallet(self.names[name], *self.names[f"{name}_keys"])

    def _hold(self, amount: int) -> Any:
        until = format_time(self.world.clock.now_ms + HOLD_MS)
        return self.ann.sign(Hold, amount=amount, asset="COIN", merchant=self.mint.account, until=until)

    def sights(self) -> list[Sight]:
        """The operator's, merchants' and members'."""
        mint, bakery, grocer, ann, ben = map(str, (w.account for w in self.wallets()))
        merchants = [
            Sight(account=mint, assets=("COIN",)),
            Sight(account=bakery, assets=("BEAN",), partnered=("COIN",)),
            Sight(account=grocer, assets=("LEAF",), partnered=("BEAN",)),
        ]
        return [ALL, *merchants, Sight(account=ann), Sight(account=ben)]

    def wallets(self) -> list[Wallet]:
        return [self.mint, self.bakery, self.grocer, self.ann, self.ben]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def coalition(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coalition]:
    """Read by all tests of this file."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path_factory.mktemp('partners') / 'ledger.sqlite'}"
        else:
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres_url")))
        yield Coalition(stack.enter_context(World(url)))


@pytest.fixture
def connection(coalition: Coalition) -> Iterator[Connection]:
    with coalition.world.store.read() as connection:
        yield connection


@pytest.fixture
def state(coalition: Coalition, connection: Connection) -> State:
    """All records there are."""
    needs = Touches.none()
    needs.groups.update((name, ()) for name in RECORDS)
    needs.assets.update(("BEAN", "COIN", "LEAF"))
    needs.accounts.update(str(wallet.account) for wallet in coalition.wallets())
    needs.balances.update(
        (account, asset) for account in ("sys_issued", "sys_spent", "sys_expired") for asset in needs.assets
    )
    return coalition.world.store.load_state(connection, needs)


def walk(question: Callable[[Page], list[Any]], key: Callable[[Any], Any], limit: int = 2) -> list[Any]:
    """All of a list, page by page, forwards; from the end it must be the same."""
    forwards: list[Any] = []
    while page := question(Page(limit=limit, after=key(forwards[-1]) if forwards else None)):
        forwards += page
    backwards: list[Any] = []
    while page := question(Page(limit=limit, before=key(backwards[0]) if backwards else None, from_end=True)):
        backwards = page + backwards
    assert backwards == forwards
    return forwards


# Entries


def parties_of(coalition: Coalition, connection: Connection) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for row in connection.execute(PARTY.select().where(PARTY.c.ledger_id == coalition.world.store.ledger_id)):
        found.setdefault(row.seq, set()).add(row.account)
    return found


def all_entries(coalition: Coalition, connection: Connection) -> list[Entry]:
    store = coalition.world.store
    data = store.entry_data(connection, range(store.head(connection).size))
    return [decode_entry(bytes(data[seq])) for seq in sorted(data)]


def touched(entry: Entry, parties: dict[int, set[str]], opened: dict[str, int]) -> set[str]:
    """Accounts that an entry is about."""
    found = {leg.account for leg in entry.postings} | parties.get(entry.seq, set())
    found |= {str(getattr(entry.op, name, None)) for name in ("actor", "account")}
    found |= {account for account, seq in opened.items() if seq == entry.seq}
    return found | ({p.member for p in entry.op.purchases} if isinstance(entry.op, RecordPurchases) else set())


def test_lists_of_entries_are_what_a_walk_finds(coalition: Coalition, connection: Connection) -> None:
    """Every filter with every sight: what moved its points, what it did, and what it has a part in."""
    store, entries, parties = coalition.world.store, all_entries(coalition, connection), None
    parties = parties_of(coalition, connection)
    accounts = [str(wallet.account) for wallet in coalition.wallets()]
    opened = {str(found.id): found.seq for found in store.accounts(connection, accounts)}
    about = {entry.seq: touched(entry, parties, opened) for entry in entries}
    defining = {"define_asset", "publish_program"}

    def visible(entry: Entry, sight: Sight) -> bool:
        moved = any(leg.asset in sight.assets for leg in entry.postings)
        return sight.everything or moved or not about[entry.seq].isdisjoint(sight.accounts)

    def told(entry: Entry, account: str, sight: Sight) -> bool:
        if sight.everything or account == sight.account or any(leg.asset in sight.assets for leg in entry.postings):
            return True
        if sight.account.startswith("mer") and entry.op.KIND in BETWEEN_FEW:
            return True
        return getattr(entry.op, "actor", None) in {account, sight.account}

    for sight, account, asset in itertools.product(
        [sight for sight in coalition.sights() if sight.account not in {accounts[2], accounts[4]}],
        (None, *accounts[:2], *accounts[3:]),
        (None, "COIN", "USD"),
    ):
        expected = [
            entry.seq
            for entry in entries
            if visible(entry, sight)
            and (account is None or (account in about[entry.seq] and told(entry, account, sight)))
            and (
                asset is None
                or any(leg.asset == asset for leg in entry.postings)
                or (entry.op.KIND in defining and getattr(entry.op, "asset", None) == asset)
            )
        ]
        wanted = EntryFilter(account=account, asset=asset)

        def page_of(page: Page, wanted: EntryFilter = wanted, sight: Sight = sight) -> list[int]:
            return [stored.seq for stored in queries.entries(store, connection, wanted, sight, page)]

        assert page_of(Page(limit=100)) == expected, (sight, wanted)
        if asset is None and account in {None, accounts[0]}:
            assert walk(page_of, lambda seq: seq, 7) == expected, (sight, wanted)


def test_entry_says_whom_it_concerns_beyond_its_bytes(coalition: Coalition, connection: Connection) -> None:
    """To those who do not see everything; the others have no use for it."""
    store, names = coalition.world.store, coalition.names
    own = Sight(account=str(coalition.bakery.account), partnered=("COIN",))
    found = {each.seq: each for each in queries.entries(store, connection, EntryFilter(), own, Page(limit=100))}
    assert found[names["agree"]].concerned == (str(coalition.bakery.account),)
    assert set(found[names["net"]].concerned) == {str(coalition.bakery.account), str(coalition.mint.account)}
    by_seq = queries.entry_by(store, connection, queries.EntryKey(seq=names["hold"]))
    assert by_seq is not None
    assert by_seq.concerned == (str(coalition.bakery.account),)
    (stored,) = queries.entries(store, connection, EntryFilter(kind="net"), ALL, Page(limit=1))
    assert stored.concerned == ()


def test_who_may_be_concerned_is_never_too_few(coalition: Coalition, connection: Connection) -> None:
    """A follower that is told it need not look at an entry misses nothing of its own."""
    store, parties = coalition.world.store, parties_of(coalition, connection)
    known = 0
    for entry in all_entries(coalition, connection):
        found = queries.concerned(store, connection, entry.seq, entry.seq + 1)
        known += found is not None
        assets = {leg.asset for leg in entry.postings}
        assert found is None or (touched(entry, parties, {}) - {"None"} | assets) <= found, entry
    assert known > 30


# Balances


def test_balance_is_what_can_be_spent(database_url: str) -> None:
    """A hold takes points away until its time has passed; then they are back, though no entry says so."""
    with World(database_url) as world:
        shop, (member,) = world.add_merchant(), world.add_members(1)
        world.add_asset(shop)
        world.grant(shop, "STAR", member, 100)
        until = format_time(world.clock.now_ms + HOLD_MS)
        fields: dict[str, Any] = {"asset": "STAR", "merchant": shop.account}
        world.record(member.sign(Hold, amount=60, until=until, **fields))

        def balance() -> queries.Balance:
            with world.store.read() as connection:
                now = format_time(world.clock.now_ms)
                (found,) = queries.balances(world.store, connection, str(member.account), now)
                return found

        before = balance()
        assert (before.total, before.spendable, before.held, before.debt) == (40, 40, 60, 0)
        world.clock.advance(ms=HOLD_MS + 1)
        after = balance()
        assert (after.total, after.spendable, after.held) == (100, 100, 0)
        assert sum(lot.points for lot in after.lots) == 100
        refused, recorded = world.submit(
            member.sign(Redeem, amount=101, **fields), member.sign(Redeem, amount=100, **fields)
        )
        assert not isinstance(refused, Recorded)
        assert isinstance(recorded, Recorded)


def test_debt_is_told_apart_from_lots(tmp_path: Any) -> None:
    """What a refund took and the member had spent: no lot is negative, and what is earned next repays it."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        shop, (member,) = world.add_merchant(), world.add_members(1)
        world.add_asset(shop, "STAR", make_program(expiry=ExpiresAfterDays(count=9), refunds="negative"))
        refund = shop.sign(Refund, asset="STAR", of=RefundedPurchase(amount=5_000, order="o"), reference="back")
        world.record(
            buy(shop, "STAR", member, "o", 10_000),
            member.sign(Redeem, amount=80, asset="STAR", merchant=shop.account),
            refund,
        )

        def balance() -> tuple[int, int, int, list[int]]:
            with world.store.read() as connection:
                now = format_time(world.clock.now_ms)
                (found,) = queries.balances(world.store, connection, str(member.account), now)
                return found.total, found.spendable, found.debt, [lot.points for lot in found.lots]

        assert balance() == (-30, 0, 30, [])
        world.grant(shop, "STAR", member, 50)
        assert balance() == (20, 20, 0, [20])


def test_balances_are_points_and_positions_are_money(coalition: Coalition, connection: Connection) -> None:
    """What merchants owe each other is among neither's points, and what is on hold still circulates."""
    store, now = coalition.world.store, coalition.now
    accounts = [str(wallet.account) for wallet in coalition.wallets()]
    held = queries.balances_of(store, connection, accounts, now)
    assert {balance.asset for found in held for balance in found} <= {"BEAN", "COIN", "LEAF"}
    for code in ("BEAN", "COIN"):
        points = sum(b.total + b.held for found in held for b in found if b.asset == code)
        assert queries.supply(store, connection, code).circulating == points
    mint, bakery, *_ = partner_queries.owings_of(store, connection, accounts)
    (of_mint,), (of_bakery,) = mint, bakery
    assert (
        of_mint.net
        == of_mint.owed - of_mint.owes
        == -of_bakery.net
        - sum(each.net for found in partner_queries.owings_of(store, connection, accounts[3:]) for each in found)
    )
    assert queries.points_after(store, connection, accounts[0], -1).keys() <= {"BEAN", "COIN", "LEAF"}


# Agreements


def test_agreements_are_found_by_what_they_are_about(
    coalition: Coalition, connection: Connection, state: State
) -> None:
    """Each filter against all there are; a version in force is the one the rules take."""
    store = coalition.world.store
    bakery, grocer = str(coalition.bakery.account), str(coalition.grocer.account)
    every = sorted(state.agreements, key=lambda each: (each.agreement, each.version))
    types = {"exchange": ">", "acceptance": "@", "earning": "+"}
    moments = (coalition.now, "2999-01-01T00:00:00.000Z")
    fields = itertools.product((None, "COIN", "COI"), (None, "BEAN"), (None, bakery), (None, grocer), (None, *types))
    for asset, into, partner, party, kind in fields:
        for time in (None, *moments):
            wanted = AgreementFilter(asset=asset, into=into, partner=partner, party=party, type=kind, in_force_at=time)

            def page_of(page: Page, wanted: AgreementFilter = wanted) -> list[Any]:
                return partner_queries.agreements_page(store, connection, wanted, page)

            expected = [
                each
                for each in every
                if (asset is None or each.terms.asset == asset)
                and (into is None or getattr(each.terms, "into", None) == into)
                and (partner is None or each.partner == partner)
                and (party is None or party in {each.issuer, each.partner})
                and (kind is None or types[kind] in each.agreement)
                and (time is None or in_force(state, each.agreement, time) is each)
            ]
            assert page_of(Page(limit=100)) == expected, wanted
    assert walk(lambda page: partner_queries.agreements_page(store, connection, AgreementFilter(), page), _version) == [
        *every
    ]


def _version(agreement: Any) -> tuple[str, int]:
    return agreement.agreement, agreement.version


def test_versions_in_force_and_started_are_read_for_many_at_once(coalition: Coalition, connection: Connection) -> None:
    """A name without one is left out."""
    store = coalition.world.store
    names = ["COIN>BEAN", "BEAN>LEAF", "LEAF>COIN"]
    assert partner_queries.agreements_in_force(store, connection, names, coalition.now).keys() == set(names[:2])
    assert partner_queries.started_versions(store, connection, names, coalition.now) == {names[0]: 1, names[1]: 1}
    assert partner_queries.started_versions(store, connection, names, "2000-01-01T00:00:00.000Z") == {}


def test_directory_has_what_quotes_and_paths_need(coalition: Coalition, connection: Connection, state: State) -> None:
    """They are what they are by all records, caps used up included."""
    store, ann = coalition.world.store, str(coalition.ann.account)
    known = partner_queries.directory(store, connection, coalition.now, account=ann)
    for amount in (1, 100, 9_950, 10**9):
        by_all = best_paths(state, "COIN", None, amount, coalition.now, account=ann)
        assert best_paths(known, "COIN", None, amount, coalition.now, account=ann) == by_all
        one = partner_queries.directory(store, connection, coalition.now, names=["COIN>BEAN"], account=ann)
        quoted = quote(one, "COIN", "BEAN", amount, coalition.now, account=ann)
        assert quoted == quote(state, "COIN", "BEAN", amount, coalition.now, account=ann)
    assert [path.into for path in best_paths(known, "COIN", None, 100, coalition.now).paths] == ["BEAN", "LEAF"]


# Holds


def test_holds_are_those_a_reader_may_see(coalition: Coalition, connection: Connection) -> None:
    """The holder, the merchant and the asset's issuer; a hold whose time has passed has lapsed."""
    store = coalition.world.store
    accounts = [str(wallet.account) for wallet in coalition.wallets()]
    later = format_time(coalition.world.clock.now_ms + HOLD_MS + 1)
    every = _all_holds(coalition, connection)
    whose: list[tuple[str | None, str | None]] = [(account, None) for account in accounts]
    whose += [(None, accounts[0]), (None, accounts[1]), (accounts[3], accounts[0])]
    statuses = (None, "open", "captured", "released", "lapsed")
    for sight, (account, merchant), status in itertools.product(coalition.sights(), whose, statuses):
        time = later if status == "lapsed" else coalition.now
        wanted = HoldFilter(account=account, merchant=merchant, status=status)

        def page_of(page: Page, wanted: HoldFilter = wanted, sight: Sight = sight, time: str = time) -> list[Any]:
            return partner_queries.holds_page(store, connection, wanted, sight, page, time=time)

        expected = [
            hold
            for hold in every
            if (account is None or hold.account == account)
            and (merchant is None or hold.merchant == merchant)
            and (status is None or ("lapsed" if has_lapsed(hold, time) else hold.status) == status)
            and (sight.everything or hold.asset in sight.assets or sight.account in {hold.account, hold.merchant})
        ]
        assert page_of(Page(limit=9)) == expected, (sight, wanted, time)
        if sight.everything and status is None:
            assert walk(page_of, lambda hold: hold.seq) == expected


def _all_holds(coalition: Coalition, connection: Connection) -> list[Any]:
    wanted = HoldFilter(account=str(coalition.ann.account))
    page = Page(limit=100)
    found = partner_queries.holds_page(coalition.world.store, connection, wanted, ALL, page, time=coalition.now)
    assert len(found) == 5
    return found


# Claims


def test_claims_are_an_accounts_in_every_role(coalition: Coalition, connection: Connection, state: State) -> None:
    """As debtor and creditor, with one other or all, in the order they arose."""
    store = coalition.world.store
    every = sorted(state.claims, key=lambda claim: (claim.seq, claim.index))
    accounts = [str(wallet.account) for wallet in coalition.wallets()]
    for account, other, status in itertools.product((None, *accounts), (None, *accounts), (None, "open", "disputed")):
        if account is None and other is not None:
            continue
        wanted = ClaimFilter(account=account, counterparty=other, currencies=("EUR", "USD"), status=status)

        def page_of(page: Page, wanted: ClaimFilter = wanted) -> list[Any]:
            return partner_queries.claims_page(store, connection, wanted, page)

        expected = [
            claim
            for claim in every
            if (account is None or account in {claim.debtor, claim.creditor})
            and (other is None or {account, other} == {claim.debtor, claim.creditor})
            and (status is None or claim.status == status)
        ]
        assert page_of(Page(limit=100)) == expected, wanted
        if other is None and status is None:
            assert walk(page_of, lambda claim: (claim.seq, claim.index), 5) == expected, wanted
    euros = ClaimFilter(account=accounts[0], currencies=("EUR",))
    assert partner_queries.claims_page(store, connection, euros, Page(limit=9)) == []


def test_what_is_owed_is_listed_and_summed(coalition: Coalition, connection: Connection, state: State) -> None:
    """By debtor and creditor; and what is left of a day, by which a claim counts as closed."""
    store = coalition.world.store
    every = sorted(state.obligations, key=state.obligations.key_of)
    for account in (None, *(str(wallet.account) for wallet in coalition.wallets())):

        def page_of(page: Page, account: str | None = account) -> list[Any]:
            wanted = ObligationFilter(account=account, currency="USD")
            return partner_queries.obligations_page(store, connection, wanted, page)

        expected = [owed for owed in every if account is None or account in {owed.debtor, owed.creditor}]
        assert walk(page_of, state.obligations.key_of) == expected
    debts = [(owed.currency, owed.debtor, owed.creditor, owed.day) for owed in every]
    left = partner_queries.unnetted(store, connection, [*debts, ("USD", "mer_x", "mer_y", "2026-01-01")])
    assert left == {
        (owed.currency, owed.debtor, owed.creditor, owed.day): owed.amount
        for owed in every
        if owed.netting == NOT_NETTED
    }


def test_nettings_tell_what_is_unpaid(coalition: Coalition, connection: Connection) -> None:
    """The payments are the document's; the creditor has confirmed all but one cent."""
    store, names = coalition.world.store, coalition.names
    (found,) = partner_queries.nettings_page(store, connection, None, "USD", Page(limit=9))
    assert found.netting.seq == names["net"]
    (payment,) = found.payments
    assert payment.creditor == names["creditor"]
    assert found.left == (1,)
    assert partner_queries.nettings_page(store, connection, [names["bakery"]], None, Page(limit=9)) == [found]
    assert partner_queries.nettings_page(store, connection, [names["ann"]], None, Page(limit=9)) == []
    assert partner_queries.nettings_page(store, connection, None, "EUR", Page(limit=9)) == []


def claim_at(world: World, seq: int) -> Claim:
    with world.store.read() as connection:
        found = partner_queries.claim(world.store, connection, seq, 0)
    assert found is not None
    return found


def netted_by(world: World, claim: Claim) -> int | None:
    with world.store.read() as connection:
        return partner_queries.nettings_of(world.store, connection, [claim]).get((claim.seq, claim.index))


def test_claim_is_netted_by_the_first_netting_that_found_it_undisputed(tmp_path: Any) -> None:
    """One that stood again before is; one in dispute is not, until it stands and there is another netting."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        names = trade(world)
        mint = world.wallet(names["mint"], *names["mint_keys"])
        bakery = world.wallet(names["bakery"], *names["bakery_keys"])
        stood, cancelled = claim_at(world, names["exchange"]), claim_at(world, names["redeem_kept"])
        assert netted_by(world, stood) == names["net"]
        assert netted_by(world, cancelled) is None
        disputed = claim_at(world, names["open_dispute"])
        assert netted_by(world, disputed) is None
        ref = ClaimRef(index=0, seq=disputed.seq)
        world.record(world.operator.sign(ResolveDispute, claim=ref, outcome="stands"))
        stands = claim_at(world, disputed.seq)
        assert netted_by(world, stands) is None
        (again,) = world.record(net(world, mint, bakery))
        assert netted_by(world, stands) == again.seq
        assert netted_by(world, stood) == names["net"]


def test_sums_to_be_netted_are_those_of_the_records(coalition: Coalition, connection: Connection, state: State) -> None:
    """Only what is not netted, through the day, between those who are named."""
    store = coalition.world.store
    mint, bakery, *_ = (str(wallet.account) for wallet in coalition.wallets())
    for merchants in (None, [mint, bakery], [mint]):
        for day in ("1999-01-01", coalition.now[:10]):
            sums: dict[tuple[str, str], int] = {}
            for owed in state.obligations:
                named = merchants is None or {owed.debtor, owed.creditor} <= set(merchants)
                if owed.netting == NOT_NETTED and owed.day <= day and named:
                    pair = (owed.debtor, owed.creditor)
                    sums[pair] = sums.get(pair, 0) + owed.amount
            found = partner_queries.unnetted_through(store, connection, "USD", merchants, day)
            assert {(owed.debtor, owed.creditor): owed.amount for owed in found} == sums


# Allotments and refunds


def test_allotments_are_the_two_parties_to_see(coalition: Coalition, connection: Connection) -> None:
    """And all of them for who sees everything; the alert is that of the entry that left few points."""
    store, names = coalition.world.store, coalition.names
    name = f"COIN+{names['bakery']}"
    for sight in coalition.sights():
        found = partner_queries.allotments_page(store, connection, sight, Page(limit=9), asset=None, partner=None)
        told = sight.everything or sight.account in {names["mint"], names["bakery"]}
        assert [each.agreement for each in found] == ([name] if told else [])
    for asset, partner, count in (("COIN", names["bakery"], 1), ("BEAN", None, 0), (None, names["mint"], 0)):
        found = partner_queries.allotments_page(store, connection, ALL, Page(limit=9), asset=asset, partner=partner)
        assert len(found) == count
    alerts = partner_queries.alerts_page(store, connection, name, Page(limit=9))
    assert alerts[0].seq == names["alert"]
    assert alerts[0].remaining < 50


def test_what_was_refunded_is_known_of_originals(coalition: Coalition, connection: Connection) -> None:
    """Of a purchase by its order, of what was spent by its operation."""
    store, names = coalition.world.store, coalition.names
    bought = partner_queries.purchase(store, connection, names["bakery"], "b-1")
    assert bought is not None
    assert (bought.asset, bought.seq, bought.earning.amount) == ("COIN", names["alert"], 6_000)
    assert bought.refund is not None
    assert (bought.refund.amount, bought.refund.points) == (1_000, 10)
    assert partner_queries.purchase(store, connection, names["mint"], "b-1") is None
    whole = partner_queries.purchase(store, connection, names["mint"], "c-1")
    assert whole is not None
    assert whole.refund is None
    spent = partner_queries.spending(store, connection, names["spent"])
    assert spent is not None
    assert (spent.kind, spent.amount, spent.refunded) == ("redeem", 80, 30)
    assert partner_queries.spending(store, connection, "00" * 32) is None


def test_lists_use_the_indexes_made_for_them(coalition: Coalition, connection: Connection) -> None:
    """An account's claims and debts on either side, a till's open holds, the operator's disputes: no whole table."""
    if coalition.world.store.is_postgres:
        return  # which walks small tables whatever indexes they have
    store, mint, page = coalition.world.store, str(coalition.mint.account), Page(limit=21, after=(5, 0))
    asked: list[tuple[str, Any]] = []
    listened = (connection, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    sa.event.listen(*listened)
    partner_queries.claims_page(store, connection, ClaimFilter(account=mint, currencies=("USD",)), page)
    partner_queries.claims_page(store, connection, ClaimFilter(currencies=("USD",), status="disputed"), page)
    wanted = HoldFilter(merchant=mint, status="open")
    partner_queries.holds_page(store, connection, wanted, ALL, Page(limit=21), time=coalition.now)
    partner_queries.obligations_page(store, connection, ObligationFilter(account=mint), Page(limit=21))
    for codes in (None, ["COIN"]):
        queries._open_holds(store, connection, [str(coalition.ann.account)], codes)
    sa.event.remove(*listened)
    plans = [
        "\n".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values))
        for text, values in asked
    ]
    indexes = [
        {"claim_creditor", "claim_debtor"},
        {"claim_disputed"},
        {"hold_merchant_open"},
        {"obligation_creditor", "obligation_debtor"},
        {"hold_open"},
        {"hold_open"},
    ]
    for plan, names in zip(plans, indexes, strict=True):
        assert all(f"INDEX {name}" in plan for name in names), plan
        assert not [line for line in plan.splitlines() if line.startswith("SCAN") and "anon" not in line], plan

"""The journal in beancount's language: what `bean-check` says of it, and that its balances are the ledger's."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.journal import account_name, commodity, write_journal
from ledger.journal import (
    OTHERS,
    Journal,
    JournalAccount,
    JournalBalance,
    JournalEntry,
    JournalLeg,
    JournalScope,
    Unit,
    journal,
)
from ledger.operations import Expire, Redeem
from ledger.program_terms import ExpiresAfterDays
from ledger.store import StoreError
from ledger.tables import CLAIM, LOT
from tests.clearing import Simulation, make_march, make_three
from tests.worlds import World, make_program, pay

A, B = "mer_" + "a" * 26, "mer_" + "b" * 26
MEMBER = "mem_" + "m" * 26
EVERYTHING = JournalScope()


def bean_check(text: str, folder: Path) -> str:
    """What beancount's own program finds wrong with a journal; nothing if it is right."""
    file = folder / "journal.beancount"
    file.write_text(text, encoding="utf-8")
    program = Path(sys.executable).with_name("bean-check")
    done = subprocess.run([program, "--no-cache", file], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode == 0) == (not done.stderr), done.stderr
    return done.stderr


def written(world: World, scope: JournalScope = EVERYTHING) -> str:
    file = io.StringIO()
    with world.store.read() as connection:
        write_journal(journal(world.store, connection, scope), file)
    return file.getvalue()


def make_journal(**changes: object) -> str:
    """A journal of one claim, as text."""
    fields: dict[str, object] = {
        "origin": "ledger.example/test",
        "size": 8,
        "scope": "everything",
        "first_day": "2026-03-01",
        "last_day": "2026-03-02",
        "units": (Unit(code="USD", name="USD", scale=2, is_money=True),),
        "accounts": [
            JournalAccount(account=A, name="A", holds_points=False, owes_money=True),
            JournalAccount(account=B, name="B", holds_points=False, owes_money=True),
        ],
        "entries": [
            JournalEntry(
                seq=7,
                leaf_hash=bytes(32),
                time="2026-03-02T12:00:00.000Z",
                kind="redeem",
                legs=(
                    JournalLeg(account=A, amount=1_250, asset="USD", side="receivable", counterparty=B),
                    JournalLeg(account=B, amount=-1_250, asset="USD", side="payable", counterparty=A),
                ),
            )
        ],
        "balances": [
            JournalBalance(account=A, asset="USD", amount=1_250),
            JournalBalance(account=A, asset="USD", amount=1_250, side="receivable"),
            JournalBalance(account=A, asset="USD", amount=0, side="payable"),
            JournalBalance(account=B, asset="USD", amount=-1_250),
        ],
    }
    file = io.StringIO()
    write_journal(Journal(**fields | changes), file)  # type: ignore[arg-type]
    return file.getvalue()


def test_journal_reads_as_the_manual_of_beancount_says() -> None:
    a, b = f"Assets:Clearing:Mer-{'a' * 26}", f"Assets:Clearing:Mer-{'b' * 26}"
    assert make_journal() == (
        "; Ledger ledger.example/test, entries 0 to 7: everything.\n"
        'option "title" "ledger.example/test"\n'
        'option "tolerance_multiplier" "0"\n'
        'option "operating_currency" "USD"\n'
        '2026-03-01 commodity USD\n  name: "USD"\n'
        f'2026-03-01 open {a}\n  name: "A"\n'
        f'2026-03-01 open {a}:Receivable\n  name: "A"\n'
        f'2026-03-01 open {a}:Payable\n  name: "A"\n'
        f'2026-03-01 open {b}\n  name: "B"\n'
        f'2026-03-01 open {b}:Receivable\n  name: "B"\n'
        f'2026-03-01 open {b}:Payable\n  name: "B"\n'
        '\n2026-03-02 * "redeem"\n'
        f'  seq: 7\n  leaf: "{"0" * 64}"\n  time: "2026-03-02T12:00:00.000Z"\n'
        f'  {a}:Receivable  12.50 USD\n    counterparty: "{B}"\n'
        f'  {b}:Payable  -12.50 USD\n    counterparty: "{A}"\n'
        "\n"
        f"2026-03-03 balance {a}  12.50 ~ 0 USD\n"
        f"2026-03-03 balance {a}:Receivable  12.50 ~ 0 USD\n"
        f"2026-03-03 balance {a}:Payable  0.00 ~ 0 USD\n"
        f"2026-03-03 balance {b}  -12.50 ~ 0 USD\n"
    )


def test_bean_check_accepts_claims_and_finds_a_cent_too_much(tmp_path: Path) -> None:
    """Beancount forgives half of a last digit in balances by default; nothing is forgiven here."""
    assert bean_check(make_journal(), tmp_path) == ""
    text = make_journal(balances=[JournalBalance(account=A, asset="USD", amount=1_251)])
    assert "0.01 too little" in bean_check(text, tmp_path)


def test_codes_and_names_that_mean_something_to_beancount_are_written_safely(tmp_path: Path) -> None:
    """Assets may be called TRUE, FALSE and NULL, and merchants have quotes in their names; amounts go to 2^53-1."""
    most = 2**53 - 1
    names = ['École "Süd" \\ & Co', "; no comment", "“€” \U0001f600"]
    codes = ["TRUE", "NULL", "A1"]
    units = tuple(Unit(code=code, name=name, scale=2, is_money=False) for code, name in zip(codes, names, strict=True))
    legs = [
        JournalLeg(account=account, amount=amount, asset=code, lot="2999-12-31" if amount > 0 else None)
        for code in codes
        for account, amount in ((MEMBER, most), ("sys_issued", -most))
    ]
    entry = JournalEntry(seq=most, leaf_hash=bytes(32), time="2999-12-30T23:59:59.999Z", kind="grant", legs=tuple(legs))
    text = make_journal(
        last_day="2999-12-30",
        units=units,
        accounts=[
            JournalAccount(account=MEMBER, name=None, holds_points=True, owes_money=False),
            JournalAccount(account="sys_issued", name=None, holds_points=True, owes_money=False),
            *(
                JournalAccount(account=f"ben_{n * 26}", name=name, holds_points=True, owes_money=False)
                for n, name in zip("abc", names, strict=True)
            ),
        ],
        entries=[entry],
        balances=[JournalBalance(account=MEMBER, asset=code, amount=most) for code in codes],
    )
    assert bean_check(text, tmp_path) == ""
    assert "90071992547409.91 TRUE-POINTS" in text
    assert bean_check(text.replace("TRUE-POINTS", "TRUE"), tmp_path) != ""


def test_account_names_tell_the_role_and_nothing_of_a_person() -> None:
    assert account_name(MEMBER) == f"Assets:Members:Mem-{'m' * 26}"
    assert account_name(A) == f"Assets:Merchants:Mer-{'a' * 26}"
    assert account_name(A, "payable") == f"Assets:Clearing:Mer-{'a' * 26}:Payable"
    assert {account_name(system) for system in ("sys_issued", "sys_spent", "sys_expired", "sys_held", OTHERS)} == {
        "Equity:Issued",
        "Equity:Spent",
        "Equity:Expired",
        "Assets:OnHold",
        "Equity:Others",
    }
    assert [commodity(code) for code in ("STAR", "FALSE")] == ["STAR", "FALSE-POINTS"]


def make_points(world: World) -> list[str]:
    """Points of two assets that are given, sent, spent and expire; the accounts of both shops and three members."""
    shop, other = world.add_merchant("Shop “A” & \\Söhne"), world.add_merchant("Other")
    world.add_asset(shop, program=make_program(expiry=ExpiresAfterDays(count=10)), scale=2)
    world.add_asset(other, "BEAN")
    alice, bob, carl = world.add_members(3)
    world.grant(shop, "STAR", alice, 500)
    world.grant(shop, "STAR", carl, 50)
    world.grant(other, "BEAN", bob, 70)
    world.clock.advance(days=1)
    world.record(
        pay(alice, "STAR", 200, bob),
        pay(bob, "BEAN", 7, shop),
        bob.sign(Redeem, asset="STAR", amount=80, merchant=shop.account, reference="bill-1"),
    )
    world.clock.advance(days=20)
    world.record(shop.sign(Expire, asset="STAR", through="2026-03-12", limit=10))
    return [str(wallet.account) for wallet in (shop, other, alice, bob, carl)]


def test_balances_of_a_ledger_are_those_of_its_journal(world: World, tmp_path: Path) -> None:
    """Every account's, as the lots have them, and also where nothing is left."""
    shop, _, alice, bob, _ = make_points(world)
    text = written(world)
    assert bean_check(text, tmp_path) == ""
    lines = text.splitlines()
    assert f"2026-03-24 balance {account_name(alice)}  0.00 ~ 0 STAR" in lines
    assert f"2026-03-24 balance {account_name(bob)}  63 ~ 0 BEAN" in lines
    assert f"2026-03-24 balance {account_name(shop)}  7 ~ 0 BEAN" in lines
    assert "2026-03-24 balance Equity:Spent  0.80 ~ 0 STAR" in lines
    assert "2026-03-24 balance Equity:Expired  4.70 ~ 0 STAR" in lines
    assert "2026-03-24 balance Equity:Issued  -5.50 ~ 0 STAR" in lines
    assert '  name: "Shop “A” & \\\\Söhne"' in lines


def test_every_entry_that_moves_something_is_there_with_its_hash(world: World) -> None:
    """In order; entries without postings are not."""
    make_points(world)
    with world.store.read() as connection:
        size = world.store.head(connection).size
        hashes = [leaf.hex() for leaf in world.store.leaf_hashes(connection, 0, size)]
        entries = list(journal(world.store, connection, EVERYTHING).entries)
    assert [hashes[entry.seq] for entry in entries] == [entry.leaf_hash.hex() for entry in entries]
    assert [entry.kind for entry in entries] == ["grant", "grant", "grant", "transfer", "transfer", "redeem", "expire"]
    assert [leg.lot for leg in entries[3].legs] == ["2026-03-12", "2026-03-12"]
    assert [leg.lot for leg in entries[4].legs] == [None, None]


@pytest.mark.parametrize("changed", [{"points": LOT.c.points + 1}, None], ids=["changed", "missing"])
def test_bean_check_finds_lots_that_entries_do_not_give(tmp_path: Path, changed: dict[str, object] | None) -> None:
    """The assertions at the end are read from the table of lots: one point more, or a row less, is found."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        _, _, _, bob, _ = make_points(world)
        with world.engine.begin() as connection:
            its = (LOT.c.account == bob, LOT.c.asset == "BEAN")
            statement = sa.update(LOT).values(**changed) if changed else sa.delete(LOT)
            connection.execute(statement.where(*its))
        assert f"Balance failed for '{account_name(bob)}'" in bean_check(written(world), tmp_path)


def test_journal_of_an_asset_has_that_alone(tmp_path: Path) -> None:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        make_points(world)
        text = written(world, JournalScope(codes=frozenset({"BEAN"})))
        assert bean_check(text, tmp_path) == ""
        assert " STAR" not in text
        assert text.count(' * "') == 2


def test_journal_of_a_merchant_tells_nothing_of_others(tmp_path: Path) -> None:
    """Of its own asset it has all, of others its own legs; whose points it received is not in it."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        shop, other, alice, bob, carl = make_points(world)
        its = written(world, JournalScope(merchant=shop))
        assert bean_check(its, tmp_path) == ""
        assert all(account_name(account) in its for account in (shop, alice, bob, carl))
        assert f"{account_name(bob)}  -7 BEAN" not in its
        assert "  Equity:Others  -7 BEAN" in its
        theirs = written(world, JournalScope(merchant=other))
        assert bean_check(theirs, tmp_path) == ""
        assert alice.removeprefix("mem_") not in theirs
        assert " STAR\n" not in theirs.replace("commodity STAR\n", "")


def test_empty_ledger_has_a_journal(tmp_path: Path) -> None:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        assert bean_check(written(world), tmp_path) == ""


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        (JournalScope(codes=frozenset({"STAR"})), "no asset and no currency STAR"),
        (JournalScope(merchant=A), "no account mer_aa"),
    ],
    ids=["asset", "merchant"],
)
def test_journal_of_what_is_not_there_is_refused(tmp_path: Path, scope: JournalScope, message: str) -> None:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world, pytest.raises(StoreError, match=message):
        written(world, scope)


# Money


def test_claims_nettings_and_payments_balance(world: World, tmp_path: Path) -> None:
    """Receivables and payables are those that the ledger's table of what is due has, and together they are the lots."""
    three = make_three(world)
    make_march(three)
    text = written(world)
    assert bean_check(text, tmp_path) == ""
    first, second, third = (account_name(three.account(number), "") for number in range(3))
    lines = [line.partition(" balance ")[2] for line in text.splitlines() if " balance " in line]
    assert [line for line in lines if line.startswith(second)] == [
        f"{second}  0.37 ~ 0 USD",
        f"{second}:Receivable  0.37 ~ 0 USD",
        f"{second}:Payable  0.00 ~ 0 USD",
    ]
    assert f"{first}:Payable  -1.30 ~ 0 USD" in lines
    assert f"{third}:Receivable  1.00 ~ 0 USD" in lines
    netting = text[text.index('* "net"') :].split("\n\n")[0]
    assert f"{second}:Receivable  -5.00 USD" in netting
    assert f"{second}:Receivable  2.00 USD" in netting


@pytest.mark.parametrize("currency", ["EUR", "USD"])
def test_a_netting_is_written_in_its_own_currency(tmp_path: Path, currency: str) -> None:
    """Whichever of the ledger's currencies that is."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        make_march(make_three(world, currency=currency))
        assert bean_check(written(world), tmp_path) == ""


@pytest.mark.parametrize("seed", range(2))
def test_journal_of_any_history_of_clearing_is_accepted(tmp_path: Path, seed: int) -> None:
    """The whole, a merchant's and a currency's: what nettings took the place of is found from the entries alone."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}", seed=seed) as world:
        three = make_three(world)
        Simulation(three, seed).run(60)
        for scope in (
            EVERYTHING,
            JournalScope(merchant=three.account(1)),
            JournalScope(codes=frozenset({"USD"})),
            JournalScope(codes=frozenset({"USD", "STAR"}), merchant=three.account(2)),
        ):
            assert bean_check(written(world, scope), tmp_path) == "", f"seed {seed}"


def test_bean_check_finds_claims_that_the_ledger_does_not_give(tmp_path: Path) -> None:
    """A claim that says another amount than its postings, and one that is gone."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        three = make_three(world)
        claim = three.redeem(0, 1, 500)
        three.redeem(1, 2, 30)
        with world.engine.begin() as connection:
            connection.execute(sa.update(CLAIM).values(amount=499).where(CLAIM.c.seq == claim.seq))
        assert f"Balance failed for '{account_name(three.account(1), '')}'" in bean_check(written(world), tmp_path)
        with world.engine.begin() as connection:
            connection.execute(sa.delete(CLAIM).where(CLAIM.c.seq == claim.seq))
        assert f"Balance failed for '{account_name(three.account(0), '')}'" in bean_check(written(world), tmp_path)


def test_journal_of_a_merchant_names_partners_and_no_members(tmp_path: Path) -> None:
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        three = make_three(world)
        make_march(three)
        text = written(world, JournalScope(codes=frozenset({"USD"}), merchant=three.account(2)))
        assert f'counterparty: "{three.account(1)}"' in text
        assert three.account(1).removeprefix("mer_") not in text.replace(f'"{three.account(1)}"', "")
        assert "mem_" not in text
        assert "Mem-" not in text

"""A ledger as a journal in beancount's language, which its ``bean-check`` verifies and other tools of accounting read.

::

    2026-03-02 * "redeem"
      seq: 41
      leaf: "8ef1…"
      time: "2026-03-02T12:00:00.000Z"
      Assets:Members:Mem-l5vqe…  -150 STAR
        lot: 2027-12-31
      Equity:Spent  150 STAR

Points are commodities and have the signs of the ledger; what accounts owe each other is in ``Receivable`` and
``Payable`` below ``Assets:Clearing``, in the settlement currencies, with the other side as ``counterparty``. Each entry
that moves something is a transaction. A netting is one too, though the ledger posts none: debts that were replaced by
its payments leave these accounts. At the end every balance is asserted with no tolerance, as the ledger keeps it in
tables of its own, so that ``bean-check`` fails where these differ from the sum of the entries.

Accounts are named by their ids, which say nothing of a person; merchants have their public names as metadata.
"""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import TextIO

from ledger.amounts import format_amount
from ledger.journal import OTHERS, Journal, JournalAccount, JournalBalance, JournalEntry, JournalLeg, Side, Unit
from ledger.state import SYS_EXPIRED, SYS_HELD, SYS_ISSUED, SYS_SPENT

_SYSTEM = {
    SYS_ISSUED: "Equity:Issued",
    SYS_SPENT: "Equity:Spent",
    SYS_EXPIRED: "Equity:Expired",
    SYS_HELD: "Assets:OnHold",
    OTHERS: "Equity:Others",
}
_ROLES = {"mem": "Members", "mer": "Merchants", "ben": "Beneficiaries"}
_SIDES: dict[Side, str] = {"receivable": ":Receivable", "payable": ":Payable", "": ""}

_LITERALS = frozenset({"TRUE", "FALSE", "NULL"})
"""Codes of assets that beancount reads as something else than a commodity."""


def write_journal(journal: Journal, file: TextIO) -> None:
    """Write a journal as it is read: nothing but the line at hand is kept."""
    units = {unit.code: unit for unit in journal.units}
    file.writelines(_head(journal))
    for account in journal.accounts:
        file.writelines(_opening(account, journal.first_day))
    for entry in journal.entries:
        file.writelines(_transaction(entry, units))
    after = (date.fromisoformat(journal.last_day) + timedelta(days=1)).isoformat()
    file.writelines(_assertions(journal.balances, units, after))


def commodity(code: str) -> str:
    """The commodity of an asset or currency. No code has a hyphen, so what is changed is no other's name."""
    return f"{code}-POINTS" if code in _LITERALS else code


def account_name(account: str, side: Side | None = None) -> str:
    """The name of an account for its points; with a ``side`` for what it is owed or owes, ``""`` for both together."""
    if account in _SYSTEM:
        return _SYSTEM[account]
    prefix, _, rest = account.partition("_")
    leaf = f"{prefix.capitalize()}-{rest}"
    return f"Assets:{_ROLES[prefix]}:{leaf}" if side is None else f"Assets:Clearing:{leaf}{_SIDES[side]}"


def _head(journal: Journal) -> Iterable[str]:
    yield f"; Ledger {journal.origin}, entries 0 to {journal.size - 1}: {journal.scope}.\n"
    yield f'option "title" {_text(journal.origin)}\n'
    # Amounts are exact: the half of a last digit that beancount forgives by default is forgiven nowhere.
    yield 'option "tolerance_multiplier" "0"\n'
    yield from (f'option "operating_currency" "{unit.code}"\n' for unit in journal.units if unit.is_money)
    for unit in journal.units:
        yield f"{journal.first_day} commodity {commodity(unit.code)}\n  name: {_text(unit.name)}\n"


def _opening(account: JournalAccount, day: str) -> Iterable[str]:
    names = [account_name(account.account)] if account.holds_points else []
    if account.owes_money:
        sides: tuple[Side, ...] = ("", "receivable", "payable") if account.account != OTHERS else ("",)
        names += [account_name(account.account, side) for side in sides]
    for name in dict.fromkeys(names):
        yield f"{day} open {name}\n"
        if account.name is not None:
            yield f"  name: {_text(account.name)}\n"


def _transaction(entry: JournalEntry, units: dict[str, Unit]) -> Iterable[str]:
    yield f'\n{entry.time[:10]} * "{entry.kind}"\n'
    yield f'  seq: {entry.seq}\n  leaf: "{entry.leaf_hash.hex()}"\n  time: "{entry.time}"\n'
    for leg in entry.legs:
        yield _posting(leg, units[leg.asset])


def _posting(leg: JournalLeg, unit: Unit) -> str:
    name = account_name(leg.account, leg.side if unit.is_money else None)
    line = f"  {name}  {format_amount(leg.amount, unit.scale)} {commodity(unit.code)}\n"
    if leg.counterparty is not None:
        line += f'    counterparty: "{leg.counterparty}"\n'
    return f"{line}    lot: {leg.lot}\n" if leg.lot is not None else line


def _assertions(balances: Iterable[JournalBalance], units: dict[str, Unit], day: str) -> Iterable[str]:
    yield "\n"
    for balance in balances:
        unit = units[balance.asset]
        name = account_name(balance.account, balance.side if unit.is_money else None)
        yield f"{day} balance {name}  {format_amount(balance.amount, unit.scale)} ~ 0 {commodity(unit.code)}\n"


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

"""Who may read what (design: a member its own, a merchant also its assets' holders, auditors and the operator all).

Who holds an account in custody sees it as its own, until the account has keys. An entry may hold the business of many:
one that touches a reader is its to see, but only the reader's part of it, unless the reader acted or issues what was
moved, nobody else is concerned, or it is a merchant and the entry is what few have to do with each other, such as
points spent at a partner (:func:`sees_whole`). A member that has not signed those is told its own part, when merchants
have claims in it. That the keys of an account are about to change is told to who could object, and to who sees
everything (:func:`sees_recovery`).

What merchants owe each other is told to the two of them and to who sees everything (:func:`is_concerned`).

Two answers tell a reader no, and which one is used is part of the API:

* asking for one thing that is not there, or not for this reader's eyes, is answered with null, the same for both, so
  that nobody learns what exists;
* asking a list, a statement or a report that this reader may not have is an error: UNAUTHENTICATED without a session,
  FORBIDDEN with one.
"""

from collections.abc import Collection, Iterable

from msgspec import structs
from sqlalchemy.engine import Connection

from api.errors import ForbiddenError, UnauthenticatedError
from api.sessions import Viewer
from ledger import queries
from ledger.encoding import AccountId
from ledger.entries import Entry, EntryOutline
from ledger.operations import CancelRecovery, Net, RecordPurchases, RecoverKeys
from ledger.queries import ALL, BETWEEN_FEW, Sight
from ledger.state import SYSTEM_ACCOUNTS, Account
from ledger.store import Store

_SEE_EVERYTHING = frozenset({"auditor", "operator"})
_PARTNERS = frozenset({"merchant", "beneficiary"})


def require_session(viewer: Viewer | None) -> Viewer:
    """The viewer; raise :class:`UnauthenticatedError` when nobody is signed in."""
    if viewer is None:
        raise UnauthenticatedError
    return viewer


def require_auditor(viewer: Viewer | None) -> None:
    """Refuse whoever may not see everything: entries come in bundles, whole."""
    if require_session(viewer).role not in _SEE_EVERYTHING:
        raise ForbiddenError("bundles of entries are for auditors and the operator")


def sight_of(store: Store, connection: Connection, viewer: Viewer, accounts: Iterable[str] = ()) -> Sight:
    """What a viewer may see: an auditor or the operator everything, a merchant also what touches its assets.

    Of the ``accounts`` that a question is about, it sees as its own those that it holds in custody.
    """
    sight = sight_of_role(store, connection, viewer.account, viewer.role)
    if viewer.role == "merchant":
        held = queries.in_custody(store, connection, viewer.account, accounts, viewer.time)
        return structs.replace(sight, in_custody=held)
    return sight


def sight_of_role(store: Store, connection: Connection, account: str, role: str) -> Sight:
    """What an account of a role may see, but for what it holds in custody."""
    if role in _SEE_EVERYTHING:
        return ALL
    if role not in _PARTNERS:
        return Sight(account=account)
    issued = tuple(asset.code for asset in queries.assets(store, connection, issuer=account))
    partnered = tuple(queries.partnered_assets(store, connection, account))
    return Sight(account=account, assets=issued, partnered=partnered)


def is_concerned(viewer: Viewer | None, *accounts: str) -> bool:
    """Whether a viewer is told what accounts have with each other alone: it is one of them, or sees everything."""
    return viewer is not None and (viewer.role in _SEE_EVERYTHING or viewer.account in accounts)


def parties(entry: Entry, concerned: Collection[str] = ()) -> set[str]:
    """The accounts an entry touches beside the one that acted.

    ``concerned`` are those of which its bytes do not tell: :attr:`ledger.queries.StoredEntry.concerned`.
    """
    accounts = {leg.account for leg in entry.postings} | set(concerned)
    match entry.op:
        case RecordPurchases():
            accounts.update(purchase.member for purchase in entry.op.purchases)
        case RecoverKeys() | CancelRecovery():
            accounts.add(AccountId(entry.op.account))
    return accounts.difference(SYSTEM_ACCOUNTS, {getattr(entry.op, "actor", None)})


def may_see_entry(sight: Sight, entry: Entry, opened_seq: int | None, concerned: Collection[str] = ()) -> bool:
    """Whether an entry touches what a reader may see; ``opened_seq`` is the entry that opened its account."""
    if sees_as_its_own(sight, entry) or entry.seq == opened_seq:
        return True
    return not parties(entry, concerned).isdisjoint(sight.accounts)


def sees_whole(sight: Sight, entry: Entry, concerned: Collection[str] = ()) -> bool:
    """Whether a reader who may see an entry may see all of it: no part of it is between others."""
    if sees_as_its_own(sight, entry):
        return True
    touched = parties(entry, concerned)
    if touched.issubset(sight.accounts):
        return True
    return sight.is_organisation and sight.account in touched and _is_between_few(entry)


def _is_between_few(entry: Entry) -> bool:
    """Whether an entry is the business of all whom it touches. A netting is, between two."""
    return entry.op.KIND in BETWEEN_FEW or (isinstance(entry.op, Net) and len(entry.op.merchants) == 2)


def sees_as_its_own(sight: Sight, entry: Entry | EntryOutline) -> bool:
    """Whether a reader sees everything, issues points that were moved, or acted."""
    if sight.everything or getattr(entry.op, "actor", None) in sight.accounts:
        return True
    return bool(sight.assets) and any(leg.asset in sight.assets for leg in entry.postings)


def visible_assets(store: Store, connection: Connection, sight: Sight, account: Account) -> tuple[str, ...] | None:
    """Assets in which a reader may see an account's balances: all (``None``), some, or none and not the account."""
    if sees_recovery(sight, account):
        return None
    if sight.assets and queries.holds_any(store, connection, account.id, sight.assets):
        return sight.assets
    return ()


def sees_recovery(sight: Sight, account: Account) -> bool:
    """Whether a reader may know of an account's pending recovery: its holder, its custodian, and who sees all."""
    return sight.everything or sight.account in {account.id, account.custodian}


def require_points_of(sight: Sight, asset: str, account: str | None) -> None:
    """Refuse the statement or earnings of an account, or of all (``None``), that a reader may not have."""
    if sight.everything or asset in sight.assets or account in sight.accounts:
        return
    raise ForbiddenError(
        "this session may read its own points, and a merchant those in the assets it issues and in its custody"
    )


def require_money_of(sight: Sight, account: str) -> None:
    """Refuse what an account is owed and owes to whoever it is not, nor has it in custody."""
    if not sight.everything and account not in sight.accounts:
        raise ForbiddenError("this session may read what its own account, and those in its custody, owe and are owed")

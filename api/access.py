"""Who may read what (design: a member its own, a merchant also its assets' holders, auditors and the operator all).

Two answers tell a reader no, and which one is used is part of the API:

* asking for one thing that is not there, or not for this reader's eyes, is answered with null, the same for both, so
  that nobody learns what exists;
* asking a list, a statement or a report that this reader may not have is an error: UNAUTHENTICATED without a session,
  FORBIDDEN with one.
"""

from sqlalchemy.engine import Connection

from api.errors import ForbiddenError, UnauthenticatedError
from api.sessions import Viewer
from ledger import queries
from ledger.entries import Entry
from ledger.queries import ALL, Sight
from ledger.rules import Account
from ledger.store import Store

_SEE_EVERYTHING = frozenset({"auditor", "operator"})


def require_session(viewer: Viewer | None) -> Viewer:
    """The viewer; raise :class:`UnauthenticatedError` when nobody is signed in."""
    if viewer is None:
        raise UnauthenticatedError
    return viewer


def sight_of(store: Store, connection: Connection, viewer: Viewer) -> Sight:
    """What a viewer may see: an auditor or the operator everything, a merchant also what touches its assets."""
    if viewer.role in _SEE_EVERYTHING:
        return ALL
    issued: tuple[str, ...] = ()
    if viewer.role == "merchant":
        issued = tuple(asset.code for asset in queries.assets(store, connection, issuer=viewer.account))
    return Sight(account=viewer.account, assets=issued)


def authority_for(store: Store, connection: Connection, account_id: str) -> tuple[Account | None, Account | None]:
    """An account and the account whose keys act for it: itself, or its custodian while it has no key of its own."""
    account = queries.account(store, connection, account_id)
    if account is None or account.keys or account.custodian is None:
        return account, account
    return account, queries.account(store, connection, account.custodian)


def may_see_entry(sight: Sight, entry: Entry, opened_seq: int | None) -> bool:
    """Whether an entry touches what a reader may see; ``opened_seq`` is the entry that opened its account."""
    if sight.everything or getattr(entry.op, "actor", None) == sight.account or entry.seq == opened_seq:
        return True
    if getattr(entry.op, "asset", None) in sight.assets:
        return True
    return any(leg.account == sight.account or leg.asset in sight.assets for leg in entry.postings)


def visible_assets(store: Store, connection: Connection, sight: Sight, account: Account) -> tuple[str, ...] | None:
    """Assets in which a reader may see an account's balances: all (``None``), some, or none and not the account."""
    if sight.everything or sight.account in {account.id, account.custodian}:
        return None
    if sight.assets and queries.holds_any(store, connection, account.id, sight.assets):
        return sight.assets
    return ()


def require_points_of(sight: Sight, asset: str, account: str | None) -> None:
    """Refuse the statement or earnings of an account, or of all (``None``), that a reader may not have."""
    if sight.everything or asset in sight.assets or (account is not None and account == sight.account):
        return
    raise ForbiddenError("this session may read its own points, and a merchant those in the assets it issues")

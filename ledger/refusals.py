"""Refusals that several kinds of operations share, in the same words."""

from ledger.encoding import format_time, parse_time
from ledger.programs import ProgramVersion
from ledger.state import Account, Code, Rejection, Request, State

HOLDER_ROLES = frozenset({"member", "merchant", "beneficiary"})
"""Roles whose accounts can hold points."""


def check_holder(actor: Account) -> Rejection | None:
    """Why an account cannot spend points."""
    if actor.role in HOLDER_ROLES:
        return None
    return Rejection(Code.NOT_PERMITTED, f"the role {actor.role} holds no points", ("actor",))


def check_member(actor: Account) -> Rejection | None:
    """Why an account takes part in no program."""
    if actor.role == "member":
        return None
    return Rejection(Code.NOT_PERMITTED, f"only a member does this, not a {actor.role}", ("actor",))


def check_issuer(state: State, code: str, actor: Account) -> Rejection | None:
    """Why an account does not issue an asset."""
    asset = state.assets.get(code)
    if asset is None:
        return unknown_asset(code)
    if asset.issuer != actor.id:
        return Rejection(Code.NOT_PERMITTED, f"only its issuer {asset.issuer} does this for {code}", ("actor",))
    return None


def check_issuer_or_operator(state: State, code: str, actor: Account, what: str) -> Rejection | None:
    """Why an account may not do what the issuer of an asset does, or the operator for it."""
    asset = state.assets.get(code)
    if asset is None:
        return unknown_asset(code)
    if actor.role == "operator" or actor.id == asset.issuer:
        return None
    return Rejection(Code.NOT_PERMITTED, f"only the operator or {asset.issuer} {what} {code}", ("actor",))


def check_operator(actor: Account, what: str) -> Rejection | None:
    """Why an account may not do what only the operator does."""
    if actor.role == "operator":
        return None
    return Rejection(Code.NOT_PERMITTED, f"only the operator {what}", ("actor",))


def check_reference(ask: Request, scope: str, reference: str, path: tuple[str, ...]) -> Rejection | None:  # type: ignore[type-arg]
    """Why the actor cannot use a reference: it has been used."""
    used = ask.state.references.get((ask.actor.id, scope, reference))
    if used is None:
        return None
    return Rejection(Code.REFERENCE_EXISTS, f"{reference} was used already, in entry {used}", path, {"seq": used})


def earliest_start(state: State, time: str) -> str:
    """The earliest ``starts`` of terms that may not start in the past: the clock tolerance before their recording."""
    assert state.parameters is not None
    return format_time(parse_time(time) - state.parameters.clock_tolerance_ms)


def check_not_frozen(state: State, account: str, path: tuple[str, ...]) -> Rejection | None:
    """Why nothing is done with an account: it is frozen."""
    found = state.accounts.get(account)
    if found is None or found.frozen_seq is None:
        return None
    message = f"{account} is frozen since entry {found.frozen_seq}: the operator must unfreeze it first"
    return Rejection(Code.ACCOUNT_FROZEN, message, path)


def approval_missing(actor: Account) -> Rejection:
    """Too few of the keys that act for an account have signed what needs approval."""
    message = f"this needs approval: more of the keys that act for {actor.id} must sign"
    return Rejection(Code.APPROVAL_MISSING, message, ("sigs",))


def unknown_asset(code: str, path: tuple[str, ...] = ("asset",)) -> Rejection:
    """There is no such asset."""
    return Rejection(Code.UNKNOWN_ASSET, f"there is no asset {code}", path)


def unknown_account(account: str, path: tuple[str, ...]) -> Rejection:
    """There is no such account."""
    return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no account {account}", path)


def unknown_member(account: str, path: tuple[str, ...]) -> Rejection:
    """There is no such member."""
    return Rejection(Code.UNKNOWN_ACCOUNT, f"there is no member {account}: open the account first", path)


def check_member_account(state: State, account: str, path: tuple[str, ...]) -> Rejection | None:
    """Why an account is no member's."""
    found = state.accounts.get(account)
    return None if found is not None and found.role == "member" else unknown_member(account, path)


def unknown_currency(state: State, code: str, path: tuple[str, ...]) -> Rejection:
    """The ledger has no such settlement currency."""
    assert state.parameters is not None
    known = ", ".join(sorted(state.parameters.units))
    return Rejection(Code.UNKNOWN_CURRENCY, f"{code} is not a settlement currency of this ledger ({known})", path)


def program_in_force(state: State, asset: str, time: str) -> ProgramVersion | Rejection:
    """The version of an asset's program that is in force at a time; one that has ended is not."""
    version = state.program_at(asset, time)
    if version is None or (version.ends is not None and time >= version.ends):
        return no_program_then(asset, version, time, ("asset",))
    return version


def no_program_then(asset: str, version: ProgramVersion | None, at: str, path: tuple[str, ...]) -> Rejection:
    """No version of the program was in force at a time; ``version`` is the one that had ended."""
    if version is None:
        return Rejection(Code.PROGRAM_MISSING, f"no program of {asset} was in force at {at}", path)
    message = f"version {version.version} of the program of {asset} ended at {version.ends}"
    return Rejection(Code.PROGRAM_CLOSED, message, path)

"""What an audit leaves for the next one: where it stood, the checkpoint it verified, and the state it replayed.

The next audit reads it, proves that the log still begins with what was verified, and replays only what is new. The
file is the auditor's own: whoever can write it can make the next audit believe anything of the past, so it is readable
and writable by its owner only. It is written whole or not at all. It holds a line that names the shape of what is
kept, SHA-256 of what follows, and that: a msgpack document.
"""

import hashlib
import os
import stat
from pathlib import Path

import msgspec
from msgspec import Struct

from ledger.encoding import OpId
from ledger.programs import ProgramVersion
from ledger.replay import Position
from ledger.state import (
    RECORDS,
    Account,
    Agreement,
    Allotment,
    AllotmentAlert,
    Asset,
    Claim,
    Earning,
    Membership,
    Netting,
    Obligation,
    Parameters,
    Pending,
    PointsHold,
    Pool,
    Progress,
    PurchaseRefund,
    Reminded,
    Reminder,
    Spending,
    State,
    Usage,
    Voucher,
)

_OWNER_ONLY = 0o600
_ID_SIZE = 32


class AuditStateError(RuntimeError):
    """A file that is no audit state, or not of this audit; the message says what to do."""


class AuditState(Struct, frozen=True, kw_only=True):
    """Where an audit stood, after how many entries, and what it knew there.

    ``checkpoints`` are the signed notes that the next audit is held to: the one that was verified, of ``position.size``
    entries; or, where an audit was interrupted, those it was held to and had not reached. ``log_keys`` are those known
    from elsewhere that were found to stand for the ledger. ``light`` tells which of the two replays it was; one does
    not go on as the other.
    """

    origin: str
    light: bool
    checkpoints: tuple[str, ...]
    log_keys: tuple[str, ...]
    position: Position
    state: "SavedState"


class SavedState(Struct, frozen=True, kw_only=True):
    """The contents of a :class:`~ledger.state.State`.

    ``recorded`` has the ids of operations, ``recorded_in`` their entries; where these are all, in order, it is absent.
    ``earnings`` have the entry and the asset of each; ``references`` are those of no earnings.
    """

    parameters: Parameters | None
    log_keys: tuple[tuple[int, str], ...]
    accounts: tuple[Account, ...]
    assets: tuple[Asset, ...]
    programs: tuple[tuple[str, tuple[ProgramVersion, ...]], ...]
    lots: tuple[tuple[str, str, dict[str, int]], ...]
    references: tuple[tuple[str, str, str, int], ...]
    earnings: tuple[tuple[int, str, Earning], ...]
    recorded: bytes
    recorded_in: tuple[int, ...] | None
    size: int
    agreements: tuple[Agreement, ...]
    holds: tuple[PointsHold, ...]
    spendings: tuple[Spending, ...]
    purchase_refunds: tuple[PurchaseRefund, ...]
    claims: tuple[Claim, ...]
    obligations: tuple[Obligation, ...]
    nettings: tuple[Netting, ...]
    allotments: tuple[Allotment, ...]
    allotment_alerts: tuple[AllotmentAlert, ...]
    usages: tuple[Usage, ...]
    memberships: tuple[Membership, ...]
    progress: tuple[Progress, ...]
    pending: tuple[Pending, ...]
    vouchers: tuple[Voucher, ...]
    pools: tuple[Pool, ...]
    reminders: tuple[Reminder, ...]
    reminded: tuple[Reminded, ...]


def save_state(state: State) -> SavedState:
    """The contents of a state."""
    seqs = tuple(state.recorded.values())
    return SavedState(
        parameters=state.parameters,
        log_keys=state.log_keys,
        accounts=tuple(state.accounts.values()),
        assets=tuple(state.assets.values()),
        programs=tuple(state.programs.items()),
        lots=tuple((account, asset, lots) for (account, asset), lots in state.lots.items() if lots),
        references=tuple((*key, seq) for key, seq in state.references.items() if key not in state.earnings),
        earnings=tuple((state.references[key], asset, earning) for key, (asset, earning) in state.earnings.items()),
        recorded=b"".join(state.recorded),
        recorded_in=None if seqs == tuple(range(len(seqs))) else seqs,
        size=state.size,
        **{name: tuple(state.records(name)) for name in RECORDS},
    )


def restore_state(origin: str, saved: SavedState) -> State:
    """A state with these contents."""
    state = State(origin)
    state.parameters = saved.parameters
    state.log_keys = saved.log_keys
    state.accounts = {account.id: account for account in saved.accounts}
    state.assets = {asset.code: asset for asset in saved.assets}
    state.programs = dict(saved.programs)
    for account, asset, lots in saved.lots:
        for day, points in lots.items():
            state.add_lot(account, asset, day, points)
    state.references = {(merchant, scope, reference): seq for merchant, scope, reference, seq in saved.references}
    for seq, asset, earning in saved.earnings:
        key = (earning.merchant, earning.scope, earning.reference)
        state.references[key], state.earnings[key] = seq, (asset, earning)
    ids = [OpId(saved.recorded[i : i + _ID_SIZE]) for i in range(0, len(saved.recorded), _ID_SIZE)]
    seqs = range(len(ids)) if saved.recorded_in is None else saved.recorded_in
    state.recorded = dict(zip(ids, seqs, strict=True))
    state.size = saved.size
    for name in RECORDS:
        records = state.records(name)
        for record in getattr(saved, name):
            records.load(record)
    return state


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AuditState)

_SHAPE = hashlib.sha256(repr(sorted(msgspec.json.schema(AuditState)["$defs"].items())).encode()).hexdigest()
_VERSION_LINE = f"guerdon audit state {_SHAPE}\n".encode()
"""Names the shape of what is kept: a version with other fields, or other meanings of them, does not read it."""


def write_audit_state(path: Path, state: AuditState) -> None:
    """Keep a state in a file, in place of an earlier one."""
    payload = _encoder.encode(state)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as file:
        file.write(_VERSION_LINE + hashlib.sha256(payload).digest())
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def read_audit_state(path: Path) -> AuditState | None:
    """Read what :func:`write_audit_state` kept; ``None`` when there is no file."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read()
    except FileNotFoundError:
        return None
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022 or status.st_uid not in {0, os.geteuid()}:
        raise AuditStateError(f"{path} can be changed by others (mode {mode:04o}): audit anew, into another file")
    head = len(_VERSION_LINE)
    digest, payload = data[head : head + 32], data[head + 32 :]
    if data[:head] != _VERSION_LINE or hashlib.sha256(payload).digest() != digest:
        raise AuditStateError(f"{path} is no audit state of this version, or damaged: audit anew, into another file")
    try:
        return _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise AuditStateError(f"{path} is no audit state: {error}; audit anew, into another file") from error

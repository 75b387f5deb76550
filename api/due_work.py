"""The server's scheduler: a thread that does due work, beside the server's own.

Every so often it looks for what is due and does all of it (:mod:`ledger.due`), with the key that the settings name, in
operations that go through the server's sequencer like those of any client. Of several server processes on one database
one does it (:class:`ledger.turns.Turn`); when it ends, another goes on.
"""

import logging
import threading
from collections.abc import Callable

from api.opening import key_passphrase
from api.settings import Settings, SettingsError
from api.steps import Steps
from ledger.due import DueReport, DueRun, Submit, due_filter
from ledger.entries import decode_entry
from ledger.keyring import load_private_key
from ledger.operations import Genesis, encode_operation, operation_id
from ledger.profiles import Profiles
from ledger.rules import operator_account
from ledger.store import Store, StoreError
from ledger.turns import Turn
from ledger.wallet import Wallet

logger = logging.getLogger("guerdon.due")


def operator_of(store: Store) -> str:
    """The operator's account, which entry 0 opens."""
    with store.read() as connection:
        genesis = decode_entry(store.entry_data(connection, [0])[0]).op
    assert isinstance(genesis, Genesis)
    return operator_account(genesis, operation_id(encode_operation(genesis))).id


def due_wallet(settings: Settings, store: Store, clock: Callable[[], int]) -> Wallet | None:
    """Who does due work in this server, if anybody; raise an error that says what to do when that cannot be.

    Whether the keys are the account's is not asked here: it may have others tomorrow, and then, too, the rest of the
    server has its work to do.
    """
    if not settings.due_key_files or not settings.due_interval_s:
        return None
    passphrase = key_passphrase(settings)
    keys = [load_private_key(file, passphrase) for file in settings.due_key_files]
    account = settings.due_account or operator_of(store)
    try:
        with store.read() as connection:
            due_filter(store, connection, account)
    except StoreError as error:
        raise SettingsError(f"GUERDON_DUE_ACCOUNT: {error}") from error
    return Wallet(store.origin, account, keys, clock)


class DueScheduler:
    """The thread that does due work every ``interval_ms``, the first time at once.

    ``close`` ends it when the submission under way is answered, so the sequencer must still be there.
    """

    def __init__(
        self,
        store: Store,
        submit: Submit,
        wallet: Wallet,
        clock: Callable[[], int],
        *,
        interval_ms: int,
        profiles: Profiles | None = None,
    ) -> None:
        self._store = store
        self._submit = submit
        self._wallet = wallet
        self._clock = clock
        self._interval_ms = interval_ms
        self._profiles = profiles
        self._turn = Turn(store, "due")
        self._stopping = threading.Event()
        self._steps = Steps(logger, "not all that is due is done")
        self._thread = threading.Thread(target=self._run, name="guerdon-due", daemon=True)

    def start(self) -> "DueScheduler":
        """Begin, if it is this process's turn."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Leave what is not done to another process, or for later."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                self._steps.take(self._round)
                if self._stopping.wait(self._interval_ms / 1000):
                    return
        finally:
            self._turn.release()

    def _round(self) -> None:
        if not self._turn.take():
            return
        with self._store.read() as connection:
            wanted = due_filter(self._store, connection, str(self._wallet.account))
        run = DueRun(
            self._store,
            self._submit,
            self._wallet,
            self._clock,
            wanted,
            goes_on=lambda: not self._stopping.is_set(),
            profiles=self._profiles,
        )
        report = run.run()
        tell(report)
        if report.trouble is not None:
            raise StoreError(report.trouble)


def tell(report: DueReport) -> None:
    """Say in the log what a run did, a line for each asset."""
    for done in report.assets:
        logger.info(
            "due work in %s: %d lots of %d points expired, %d lapsed holds of %d points released, "
            "%d points of %d purchases vested, %d tiers reviewed, %d members reminded, %d birthdays",
            done.asset,
            done.lots,
            done.points,
            done.holds,
            done.held_points,
            done.vesting_points,
            done.vesting,
            done.members,
            done.reminded,
            done.birthdays,
        )

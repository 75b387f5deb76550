"""A small world for tests: a ledger in a fresh database, with its operator, merchants, members and their wallets.

Everything in it follows from a seed: keys and nonces come from one seeded generator, and the clock stands still until
a test moves it. ::

    with World(database_url) as world:
        shop = world.add_merchant()
        world.add_asset(shop, "STAR")
        alice, bob = world.add_members(2)
        world.grant(shop, "STAR", alice, 500)
        (recorded,) = world.record(pay(alice, "STAR", 200, bob))
"""

import random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.checkpoint import encode_verifier_key
from ledger.encoding import parse_time
from ledger.keys import encode_public_key
from ledger.operations import (
    DefineAsset,
    Genesis,
    Grant,
    OpenAccount,
    PublishProgram,
    RecoverKeys,
    SignedOperation,
    Transfer,
)
from ledger.program_terms import Band, GrantRule, NeverExpires, Program
from ledger.sequencer import Outcome, Recorded, Sequencer, account_opened_by, create_ledger
from ledger.state import Rejection
from ledger.store import Store, open_engine
from ledger.terms import Currency, Recipient
from ledger.wallet import Wallet
from tests.migrated import make_tables

ORIGIN = "ledger.example/test"
START = "2026-03-02T12:00:00.000Z"
DAY_MS = 86_400_000
ANSWER_LIMIT_S = 120


class Clock:
    """A clock that stands still until it is moved, in either direction."""

    def __init__(self, start: str = START) -> None:
        self.now_ms = parse_time(start)

    def __call__(self) -> int:
        return self.now_ms

    def advance(self, *, days: int = 0, ms: int = 0) -> None:
        """Move the clock; negative values move it back."""
        self.now_ms += days * DAY_MS + ms


class World:
    """A ledger on ``url`` and the people who use it. A context manager; ``close`` lets go of the database.

    The tables are made if they are missing, so several worlds can share a database under different origins.
    ``log_keys`` are those the world's own sequencer signs with; see :meth:`restart`.
    """

    def __init__(
        self,
        url: str,
        *,
        origin: str = ORIGIN,
        seed: int = 0,
        clock: Clock | None = None,
        recovery_delay_ms: int | None = None,
    ) -> None:
        self.url = url
        self.origin = origin
        self.random = random.Random(seed)
        self.clock = clock or Clock()
        self.engine = open_engine(url)
        make_tables(self.engine)
        self.store = Store(self.engine, origin)
        self.log_key = self.make_key()
        self.log_keys = [self.log_key]
        operator_key = self.make_key()
        genesis = self._sign_genesis(operator_key, recovery_delay_ms)
        self.genesis = create_ledger(self.store, genesis, self.log_key, self.clock)
        self.operator = self.wallet(account_opened_by(self.genesis), operator_key)
        self._sequencer: Sequencer | None = None
        self._references = 0

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the world's own sequencer and drop its connections."""
        if self._sequencer is not None:
            self._sequencer.close()
        self.engine.dispose()

    @property
    def sequencer(self) -> Sequencer:
        """The world's own running sequencer, started when first asked for."""
        if self._sequencer is None:
            self._sequencer = self.make_sequencer().start()
        return self._sequencer

    def restart(self, *log_keys: Ed25519PrivateKey) -> None:
        """Stop the world's own sequencer; the next one signs with these keys, or with the same if there are none."""
        if self._sequencer is not None:
            self._sequencer.close()
        self._sequencer = None
        self.log_keys = list(log_keys) or self.log_keys

    def make_sequencer(self, *log_keys: Ed25519PrivateKey, **options: Any) -> Sequencer:
        """Another sequencer of the same ledger, not started yet, with the world's log keys unless others are given."""
        return Sequencer(self.store, list(log_keys) or self.log_keys, self.clock, **options)

    def make_key(self) -> Ed25519PrivateKey:
        """The next private key of the seed."""
        return Ed25519PrivateKey.from_private_bytes(self.random.randbytes(32))

    def wallet(self, account: str | None, *keys: Ed25519PrivateKey) -> Wallet:
        """A wallet with this world's origin, clock and randomness."""
        return Wallet(self.origin, account, keys, self.clock, self.random.randbytes)

    def submit(self, *items: SignedOperation | Rejection) -> list[Outcome]:
        """Hand in operations together and wait for what became of each."""
        return self.sequencer.submit(items).result(ANSWER_LIMIT_S)

    def record(self, *items: SignedOperation) -> list[Recorded]:
        """Hand in operations all of which must be recorded."""
        recorded = []
        for outcome in self.submit(*items):
            assert isinstance(outcome, Recorded), outcome
            recorded.append(outcome)
        return recorded

    def add_merchant(self, name: str = "Shop") -> Wallet:
        """Open a merchant's account, vouched for by the operator."""
        key = self.make_key()
        keys = (encode_public_key(key),)
        (opened,) = self.record(
            self.operator.sign(OpenAccount, co_signers=[key], role="merchant", name=name, keys=keys)
        )
        return self.wallet(account_opened_by(opened), key)

    def add_members(self, count: int) -> list[Wallet]:
        """Open accounts of members who hold their own keys."""
        keys = [self.make_key() for _ in range(count)]
        opened = self.record(*(self.open_member(key) for key in keys))
        return [self.wallet(account_opened_by(entry), key) for entry, key in zip(opened, keys, strict=True)]

    def add_member(self) -> Wallet:
        """Open the account of one member."""
        return self.add_members(1)[0]

    def open_member(self, key: Ed25519PrivateKey) -> SignedOperation:
        """The signed operation that opens a member's account with a key."""
        return self.wallet(None, key).sign(OpenAccount, role="member", keys=(encode_public_key(key),))

    def add_asset(self, merchant: Wallet, code: str = "STAR", program: Program | None = None, **fields: Any) -> None:
        """Define an asset and publish version 1 of its program, in force since 1997."""
        fields = {"name": code.title(), "scale": 0, "transferable": True, **fields}
        self.record(
            merchant.sign(DefineAsset, asset=code, **fields),
            merchant.sign(
                PublishProgram,
                asset=code,
                version=1,
                starts="1997-01-01T00:00:00.000Z",
                program=program or make_program(),
            ),
        )

    def grant(self, merchant: Wallet, asset: str, member: Wallet, amount: int) -> Recorded:
        """Give a member points, under a reference of their own."""
        self._references += 1
        reference = f"grant-{self._references}"
        (recorded,) = self.record(
            merchant.sign(
                Grant, asset=asset, member=member.account, amount=amount, activity="goodwill", reference=reference
            )
        )
        return recorded

    def recover(self, member: Wallet, *keys: Ed25519PrivateKey, **fields: Any) -> SignedOperation:
        """The operator's signed operation that gives an account keys, in a while."""
        public = tuple(encode_public_key(key) for key in keys)
        return self.operator.sign(RecoverKeys, co_signers=keys, account=member.account, keys=public, **fields)

    def _sign_genesis(self, operator_key: Ed25519PrivateKey, recovery_delay_ms: int | None = None) -> SignedOperation:
        return self.wallet(None, operator_key).sign(
            Genesis,
            clock_tolerance_ms=30_000,
            currencies=(Currency(code="EUR", scale=2), Currency(code="USD", scale=2)),
            keys=(encode_public_key(operator_key),),
            log_key=encode_verifier_key(self.origin, self.log_key),
            name="Operator",
            recovery_delay_ms=recovery_delay_ms,
        )


def make_program(**changes: Any) -> Program:
    """A program that gives 1 point per whole unit of USD and whose points never expire, unless changed."""
    fields: dict[str, Any] = {
        "bands": (Band(from_amount=0, points=1, per=100),),
        "currency": "USD",
        "expiry": NeverExpires(),
        "grants": (GrantRule(activity="goodwill", max_points=10**9),),
        "round_amount": "whole_units",
        "round_points": "down",
        "time_zone": "UTC",
    }
    return Program(**fields | changes)


def pay(payer: Wallet, asset: str, amount: int, payee: Wallet, **fields: Any) -> SignedOperation:
    """A signed transfer to one account."""
    recipients = (Recipient(amount=amount, to=str(payee.account)),)
    return payer.sign(Transfer, asset=asset, recipients=recipients, **fields)

"""What resolvers work with: the service, which lives as long as the process, and the context of one request."""

import asyncio
import functools
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from msgspec import Struct
from sqlalchemy.engine import Connection
from strawberry.dataloader import DataLoader

from api.due_work import DueScheduler
from api.sessions import Sessions, Viewer
from api.streams import Streams
from api.submitter import Submitter
from api.webhook_delivery import Webhooks
from api.witnessing import Witnessing
from ledger import partner_queries, program_queries, queries
from ledger.checkpoint import WitnessPolicy
from ledger.encoding import AccountId, format_time
from ledger.operations import Genesis
from ledger.partner_queries import Debt, Owing
from ledger.profiles import Profiles
from ledger.program_queries import Event, ExplainedEvent, TierStanding
from ledger.programs import ProgramVersion
from ledger.queries import Balance, Supply
from ledger.sequencer import Clock, Sequencer
from ledger.state import Agreement, Claim, Membership, Pool
from ledger.store import Store, WriteTransaction
from ledger.tail import Tail

P = ParamSpec("P")
T = TypeVar("T")


class Service(Struct, frozen=True, kw_only=True):
    """One ledger being served. ``readers`` are the threads in which the database is read.

    ``policy`` says which checkpoints count as witnessed, ``witnessing`` has them cosigned; there is none without
    witnesses, and no ``profiles`` without a key for them. ``due`` does due work, where the settings name a key for it.
    ``tail`` tells ``streams``, which are the subscriptions, that the ledger has grown.
    """

    store: Store
    sequencer: Sequencer
    submitter: Submitter
    sessions: Sessions
    genesis: Genesis
    operator: str
    clock: Clock
    readers: ThreadPoolExecutor
    policy: WitnessPolicy
    witnessing: Witnessing | None
    webhooks: Webhooks
    profiles: Profiles | None
    due: DueScheduler | None
    tail: Tail
    streams: Streams
    random_bytes: Callable[[int], bytes] = secrets.token_bytes


Holding = tuple[str, tuple[str, ...] | None]
"""An account, and the assets in which its balances are wanted; ``None`` for all."""

PoolMembers = tuple[str, tuple[str, ...]]
"""The asset of a pool, and its members."""


class Context:
    """One request: who asks, from where, under which id errors are logged, and whether it is all ``in_url``."""

    def __init__(
        self, service: Service, viewer: Viewer | None, request_id: str, address: str = "", *, in_url: bool = False
    ) -> None:
        self.service = service
        self.viewer = viewer
        self.request_id = request_id
        self.address = address
        self.in_url = in_url

    async def read(
        self, question: Callable[Concatenate[Store, Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Put a question to a snapshot of its own, in a reader's thread: resolvers run concurrently."""
        call = functools.partial(_ask, self.service.store, question, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.service.readers, call)

    async def write(
        self, change: Callable[Concatenate[WriteTransaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Make a change of what is the service's, in a transaction of its own. Entries are the sequencer's to write."""
        call = functools.partial(_change, self.service.store, change, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self.service.readers, call)

    def now(self) -> str:
        """The time of the server's clock."""
        return format_time(self.service.clock())

    @property
    def scales(self) -> dict[str, int]:
        """The decimal places of each settlement currency."""
        return {currency.code: currency.scale for currency in self.service.genesis.currencies}

    @functools.cached_property
    def loaders(self) -> "Loaders":
        """What this request reads for many objects at once; never shared with another request."""
        return Loaders(self)


class Loaders:
    """Fields of many objects of one request, each read in one question for all of them.

    What is asked for while the event loop handles one round of resolvers is put together. Nothing is remembered: after
    a mutation of the same request it is read anew.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.name = DataLoader(self._names, cache=False)
        self.supply = DataLoader(self._supplies, cache=False)
        self.program = DataLoader(self._programs, cache=False)
        self.balances = DataLoader(self._balances, cache=False)
        self.owings = DataLoader(self._owings, cache=False)
        self.started_version = DataLoader(self._started_versions, cache=False)
        self.agreement_in_force = DataLoader(self._agreements_in_force, cache=False)
        self.unnetted = DataLoader(self._unnetted, cache=False)
        self.netting = DataLoader(self._nettings, cache=False)
        self.today = DataLoader(self._todays, cache=False)
        self.is_own = DataLoader(self._are_own, cache=False)
        self.standing = DataLoader(self._standings, cache=False)
        self.pool = DataLoader(self._pools, cache=False)
        self.pool_points = DataLoader(self._pool_points, cache=False)
        self.events_behind = DataLoader(self._events_behind, cache=False)
        self.explained = DataLoader(self._explained, cache=False)

    async def _names(self, accounts: list[str]) -> Sequence[str | None]:
        found = await self._context.read(Store.accounts, accounts)
        names = {account.id: account.name for account in found}
        return [names.get(AccountId(account)) for account in accounts]

    async def _supplies(self, codes: list[str]) -> Sequence[Supply]:
        return await self._context.read(queries.supplies, codes)

    async def _programs(self, codes: list[str]) -> Sequence[ProgramVersion | None]:
        return await self._context.read(queries.programs_at, codes, self._context.now())

    async def _balances(self, holdings: list[Holding]) -> Sequence[list[Balance]]:
        return await self._context.read(_balances, holdings, self._context.now())

    async def _owings(self, accounts: list[str]) -> Sequence[list[Owing]]:
        return await self._context.read(partner_queries.owings_of, accounts)

    async def _started_versions(self, names: list[str]) -> Sequence[int | None]:
        found = await self._context.read(partner_queries.started_versions, names, self._context.now())
        return [found.get(name) for name in names]

    async def _agreements_in_force(self, names: list[str]) -> Sequence[Agreement | None]:
        found = await self._context.read(partner_queries.agreements_in_force, names, self._context.now())
        return [found.get(name) for name in names]

    async def _unnetted(self, debts: list[Debt]) -> Sequence[int]:
        found = await self._context.read(partner_queries.unnetted, debts)
        return [found.get(debt, 0) for debt in debts]

    async def _nettings(self, claims: list[Claim]) -> Sequence[int | None]:
        found = await self._context.read(partner_queries.nettings_of, claims)
        return [found.get((claim.seq, claim.index)) for claim in claims]

    async def _todays(self, codes: list[str]) -> Sequence[str]:
        found = await self._context.read(program_queries.todays, codes, self._context.now())
        return [found[code] for code in codes]

    async def _are_own(self, accounts: list[str]) -> Sequence[bool]:
        """Whether accounts are the viewer's own, or in its custody."""
        viewer = self._context.viewer
        if viewer is None:
            return [False] * len(accounts)
        held = await self._context.read(queries.in_custody, viewer.account, accounts, viewer.time)
        return [account == viewer.account or account in held for account in accounts]

    async def _standings(self, memberships: list[Membership]) -> Sequence[TierStanding | None]:
        return await self._context.read(program_queries.standings, memberships, self._context.now())

    async def _pools(self, names: list[str]) -> Sequence[Pool | None]:
        found = await self._context.read(program_queries.pools, names)
        return [found.get(name) for name in names]

    async def _pool_points(self, pools: list[PoolMembers]) -> Sequence[int]:
        return await self._context.read(program_queries.pools_points, pools, self._context.now())

    async def _events_behind(self, lines: list[tuple[int, str]]) -> Sequence[list[Event]]:
        found = await self._context.read(program_queries.events_behind, lines)
        return [found[line] for line in lines]

    async def _explained(self, events: list[Event]) -> Sequence[ExplainedEvent]:
        return await self._context.read(program_queries.explain, events, self._context.scales)


def _balances(store: Store, connection: Connection, holdings: Sequence[Holding], time: str) -> list[list[Balance]]:
    """Balances of several accounts, by one question for each set of assets wanted: of a list it is the same."""
    accounts_of: dict[tuple[str, ...] | None, list[str]] = {}
    for account, codes in holdings:
        accounts_of.setdefault(codes, []).append(account)
    found: dict[Holding, list[Balance]] = {}
    for codes, accounts in accounts_of.items():
        for account, held in zip(accounts, queries.balances_of(store, connection, accounts, time, codes), strict=True):
            found[(account, codes)] = held
    return [found[holding] for holding in holdings]


def _ask(
    store: Store, question: Callable[Concatenate[Store, Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    with store.read() as connection:
        return question(store, connection, *args, **kwargs)


def _change(
    store: Store, change: Callable[Concatenate[WriteTransaction, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    with store.write() as transaction:
        return change(transaction, *args, **kwargs)

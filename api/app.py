"""The service as an ASGI application: ``uvicorn api.app:from_environment --factory``.

Routes: ``/graphql`` (the API, over HTTP and for subscriptions over WebSockets, and GraphiQL for browsers), ``/log/…``
(checkpoint and tiles), ``/statements/…`` (settlement statements as files), ``/program.schema.json`` (the JSON Schema
of programs), ``/healthz`` (the process lives), ``/readyz`` (the ledger can be read), ``/wallet`` (an example),
``/static/…`` (files of both pages). Starting costs the same however long the chain is.
"""

import asyncio
import gc
import importlib.metadata
import importlib.util
import logging
import os
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import program_schema
from api.context import Service
from api.documents import Documents, PersistedDocuments, read_listed
from api.due_work import DueScheduler, due_wallet
from api.feed import Feed
from api.graphql_view import GraphQLView, Timeouts
from api.limits import Limits
from api.opening import load_log_keys, open_profiles, open_store, system_clock
from api.rate_limits import ADDRESS_FACTOR, Addresses, RateLimits, steady_clock
from api.schema import schema
from api.sessions import Sessions
from api.settings import Settings
from api.statement_files import StatementFiles
from api.streams import News, StreamLimits, Streams, stopped_by_signals
from api.submitter import Submitter
from api.webhook_client import WebhookClient
from api.webhook_delivery import Webhooks
from api.webhook_secrets import SecretBox
from api.websocket import WebSocketView
from api.witnessing import Witnessing, policy_of
from ledger.checkpoint import WitnessPolicy
from ledger.entries import decode_entry
from ledger.operations import Genesis
from ledger.profiles import Profiles
from ledger.queries import concerned
from ledger.sequencer import Clock, Sequencer
from ledger.store import Store
from ledger.tail import Tail
from ledger.wallet import Wallet

logger = logging.getLogger("guerdon.api")

GC_THRESHOLD = 20_000
"""Objects made since the last collection that start the next; a batch of a thousand operations makes as many."""

CONSOLE = Path(__file__).parent / "console"
GRAPHIQL = "graphene_django_graphiql_static"
"""The wheel that carries GraphiQL's and React's files; it is found without being imported."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")

_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
            b"font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
)


def from_environment() -> Starlette:
    """The application as the environment variables set it up."""
    return create_app(Settings.from_environment(os.environ))


def create_app(settings: Settings, clock: Clock = system_clock, steady: Clock = steady_clock) -> Starlette:
    """The application of one ledger. Nothing is opened before it starts.

    ``clock`` stamps entries and ends sessions, ``steady`` measures how fast clients ask.
    """
    running: list[Service] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service = await run_in_threadpool(open_service, settings, clock)
        running.append(service)
        # What was made to start the server stays to its end: the collector need not look at it again with every batch.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        try:
            with stopped_by_signals(service.streams.stop):
                yield
        finally:
            await service.streams.news.close()
            running.clear()
            await run_in_threadpool(close_service, service)

    view = graphql_view(settings, lambda: running[0], steady)
    routes: list[BaseRoute] = [
        Route("/graphql", view),
        WebSocketRoute("/graphql", WebSocketView(view, lambda: running[0])),
        Route("/", lambda _: RedirectResponse("/graphql")),
        Route(program_schema.PATH, lambda _: program_schema_file()),
        Route("/healthz", lambda _: JSONResponse({"status": "ok"})),
        Route("/readyz", readiness(lambda: running[0])),
        *Feed(lambda: running[0], public_entries=settings.public_entries).routes(),
        *StatementFiles(view, lambda: running[0]).routes(),
    ]
    if settings.graphiql:
        routes += static_routes()
    return Starlette(routes=routes, lifespan=lifespan, middleware=[Middleware(RequestGuard)])


def graphql_view(settings: Settings, service: Callable[[], Service], steady: Clock) -> GraphQLView:
    """The endpoint, with the limits that the settings say; raise :class:`SettingsError` for a bad list of documents."""
    documents, persisted = open_documents(settings)
    return GraphQLView(
        schema,
        service,
        documents=documents,
        persisted=persisted,
        rates=RateLimits(cost=settings.rate_cost, operations=settings.rate_operations, clock=steady),
        addresses=Addresses(settings.trusted_proxies),
        timeouts=Timeouts(body_s=settings.body_timeout_s, query_s=settings.query_timeout_s),
        max_body_bytes=settings.max_body_bytes,
        page=graphiql_page() if settings.graphiql else None,
    )


def open_documents(settings: Settings) -> tuple[Documents, PersistedDocuments]:
    """What prepares documents, and those that are listed; raise :class:`SettingsError` for a bad list."""
    limits = Limits(
        max_tokens=settings.max_tokens,
        max_depth=settings.max_depth,
        max_aliases=settings.max_aliases,
        max_directives=settings.max_directives,
        max_root_fields=settings.max_root_fields,
        max_cost=settings.max_cost,
    )
    documents = Documents(schema, limits, introspection=settings.introspection)
    listed = read_listed(settings.documents_file, documents)
    return documents, PersistedDocuments(listed, only_listed=settings.only_listed_documents)


def open_service(settings: Settings, clock: Clock) -> Service:
    """Open the ledger and start its sequencer; raise an error that says what to do when that cannot be."""
    log_keys = load_log_keys(settings)
    store = open_store(settings, read_timeout_ms=settings.query_timeout_s * 1000)
    try:
        with store.read() as connection:
            genesis = decode_entry(store.entry_data(connection, [0])[0]).op
        assert isinstance(genesis, Genesis)
        policy = policy_of(settings, store)
        profiles = open_profiles(settings, store)
        tail = Tail(store)
        # One more asks whom new entries concern (News), one question at a time.
        readers = ThreadPoolExecutor(settings.readers + 1, thread_name_prefix="guerdon-read")
        wallet = due_wallet(settings, store, clock)
        sequencer = Sequencer(store, log_keys, clock, recorded=tail.learn).start()
        assert sequencer.parameters is not None
        return Service(
            store=store,
            sequencer=sequencer,
            submitter=Submitter(sequencer),
            sessions=Sessions(store.origin, log_keys[0]),
            genesis=genesis,
            operator=sequencer.parameters.operator,
            clock=clock,
            readers=readers,
            policy=policy,
            witnessing=start_witnessing(settings, store, policy),
            webhooks=start_webhooks(settings, store, log_keys, clock),
            profiles=profiles,
            due=start_due_work(settings, sequencer, wallet, profiles),
            tail=tail.start(),
            streams=Streams(News(tail, asker(store, readers)), stream_limits(settings), settings.readers),
        )
    except BaseException:
        store.engine.dispose()
        raise


def asker(store: Store, readers: ThreadPoolExecutor) -> Callable[[int, int], Awaitable[frozenset[str] | None]]:
    """What finds out whom the entries of a span concern."""

    def ask(first: int, end: int) -> frozenset[str] | None:
        with store.read() as connection:
            return concerned(store, connection, first, end)

    return lambda first, end: asyncio.get_running_loop().run_in_executor(readers, ask, first, end)


def stream_limits(settings: Settings) -> StreamLimits:
    """The limits of subscriptions that the settings say."""
    return StreamLimits(
        total=settings.max_subscriptions,
        per_account=settings.max_subscriptions_per_account,
        per_address=settings.max_subscriptions_per_account * ADDRESS_FACTOR,
        ping_s=settings.stream_ping_s,
        send_s=settings.stream_timeout_s,
        init_s=min(settings.stream_timeout_s, 10),
    )


def start_witnessing(settings: Settings, store: Store, policy: WitnessPolicy) -> Witnessing | None:
    """Begin to ask the witnesses, if there are any."""
    if not settings.witnesses:
        return None
    return Witnessing(store, settings.witnesses, policy, interval_ms=settings.witness_interval_s * 1000).start()


def start_webhooks(settings: Settings, store: Store, log_keys: Sequence[Ed25519PrivateKey], clock: Clock) -> Webhooks:
    """Begin to tell webhooks of what is recorded."""
    return Webhooks(
        store,
        SecretBox(store.origin, log_keys, secrets.token_bytes),
        WebhookClient(settings.webhook_networks, allow_http=settings.webhook_http),
        clock=clock,
        jitter=secrets.randbelow,
        disable_after_ms=settings.webhook_disable_after_days * 86_400_000,
    ).start()


def start_due_work(
    settings: Settings, sequencer: Sequencer, wallet: Wallet | None, profiles: Profiles | None = None
) -> DueScheduler | None:
    """Begin to do due work, if there is somebody to sign it."""
    if wallet is None:
        return None
    interval_ms = settings.due_interval_s * 1000
    store, clock = sequencer.store, sequencer.clock
    return DueScheduler(store, sequencer.submit, wallet, clock, interval_ms=interval_ms, profiles=profiles).start()


def close_service(service: Service) -> None:
    """Record what is waiting, then let go of threads and connections."""
    if service.due is not None:
        service.due.close()
    service.webhooks.close()
    if service.witnessing is not None:
        service.witnessing.close()
    service.tail.close()
    service.sequencer.close()
    service.readers.shutdown()
    service.store.engine.dispose()


def program_schema_file() -> Response:
    """The JSON Schema of the program language, which is public and the same until the next release."""
    headers = {"Cache-Control": "public, max-age=3600", "Access-Control-Allow-Origin": "*"}
    return Response(program_schema.program_schema(), media_type=program_schema.MEDIA_TYPE, headers=headers)


def readiness(service: Callable[[], Service]) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint that answers 200 while the ledger can be read, 503 otherwise."""

    async def ready(_: Request) -> Response:
        try:
            await run_in_threadpool(_read_head, service().store)
        except Exception:
            logger.exception("the ledger cannot be read")
            return JSONResponse({"status": "unavailable"}, status_code=503, headers={"Retry-After": "5"})
        return JSONResponse({"status": "ok"})

    return ready


def _read_head(store: Store) -> None:
    with store.read() as connection:
        store.head(connection)


class RequestGuard:
    """The outermost layer: gives each request an id, each answer its headers, and an answer to what nobody caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *_SECURITY_HEADERS, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            logger.exception("request %s failed", request_id)
            if started:
                raise
            await _internal_error(request_id)(scope, receive, send_with_headers)


def _request_id(scope: Scope) -> str:
    """The id the client or proxy gave in X-Request-Id, if it is fit for a log, or a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return os.urandom(12).hex()


def _internal_error(request_id: str) -> Response:
    extensions = {"code": "INTERNAL_ERROR", "requestId": request_id}
    return JSONResponse({"errors": [{"message": "Internal error", "extensions": extensions}]}, status_code=500)


def graphiql_page() -> bytes:
    """GraphiQL's page, whose scripts and styles are all served from here."""
    page = (CONSOLE / "graphiql.html").read_text(encoding="utf-8")
    return page.replace("{version}", importlib.metadata.version("graphene-django-graphiql-static")).encode()


def static_routes() -> list[BaseRoute]:
    """GraphiQL's files, under a path with their version, the console's own, and the example wallet."""
    spec = importlib.util.find_spec(GRAPHIQL)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "static" / GRAPHIQL
    version = importlib.metadata.version("graphene-django-graphiql-static")
    return [
        Mount(f"/static/graphiql/{version}", CachedFiles(folder, "public, max-age=31536000, immutable")),
        Mount("/static/console", CachedFiles(CONSOLE, "no-cache")),
        Route("/wallet", lambda _: FileResponse(CONSOLE / "wallet.html", headers={"Cache-Control": "no-cache"})),
    ]


class CachedFiles(StaticFiles):
    """Static files with one rule of caching."""

    def __init__(self, folder: Path, cache_control: str) -> None:
        super().__init__(directory=folder)
        self._cache_control = cache_control

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, with the rule."""
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = self._cache_control
        return response

"""The log as plain resources under ``/log/``, which any client of transparency logs can read (C2SP tlog-tiles).

    /log/checkpoint
    /log/tile/<L>/<N>[.p/<W>]            hashes
    /log/tile/entries/<N>[.p/<W>]        entries

The checkpoint and the hashes are public. Entries are for auditors and the operator, with the bearer token of their
session, unless the operator makes them public. A tile never changes, so it may be kept for ever by whoever may see it;
what is not there now may be later, so no refusal is kept. Refusals are told as those of ``/graphql`` are.

Of a ledger with witnesses the checkpoint is the newest that enough of them have cosigned, with their lines; the tiles
of larger sizes are there already.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping

import orjson
from msgspec import Struct
from sqlalchemy.engine import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.access import require_auditor
from api.context import Context, Service
from api.errors import ForbiddenError, HttpError, UnauthenticatedError
from api.graphql_view import viewer_of
from ledger import log
from ledger.checkpoint import WitnessPolicy
from ledger.cosignatures import read_cosignatures
from ledger.store import Store, UnavailableError
from ledger.tiles import Tile, TileError, encode_bundle, parse_path, width_at

PREFIX = "/log"
CHECKPOINT_MAX_AGE_S = 5
"""How long a cache may answer with a checkpoint without asking: it is true for ever, but soon not the newest."""

_FOR_EVER = "max-age=31536000, immutable"


class Resource(Struct, frozen=True, kw_only=True):
    """A resource to answer with."""

    body: bytes
    media_type: str
    cache_control: str
    vary: str | None = None


class Feed:
    """The routes below ``/log/``. ``service`` gives the ledger once the server has started."""

    def __init__(self, service: Callable[[], Service], *, public_entries: bool) -> None:
        self._service = service
        self._public_entries = public_entries

    def routes(self) -> list[BaseRoute]:
        """Routes for GET and HEAD; another method is answered with 405."""
        return [
            Route(f"{PREFIX}/checkpoint", self.checkpoint, methods=["GET"]),
            Route(f"{PREFIX}/tile/{{name:path}}", self.tile, methods=["GET"]),
        ]

    async def checkpoint(self, request: Request) -> Response:
        """The newest checkpoint; with witnesses, the newest that enough of them have cosigned, once there is one."""
        return await self._answer(request, self._read_checkpoint)

    async def tile(self, request: Request) -> Response:
        """A tile of hashes, or a bundle of entries."""
        return await self._answer(request, self._read_tile)

    async def _answer(self, request: Request, read: Callable[[Request], Awaitable[Resource]]) -> Response:
        return await answered(request, lambda: self._respond(request, read))

    async def _respond(self, request: Request, read: Callable[[Request], Awaitable[Resource]]) -> Response:
        return _response(request, await read(request))

    async def _read_checkpoint(self, _: Request) -> Resource:
        note = await self._context().read(_published_note, self._service().policy)
        return Resource(
            body=note.encode(),
            media_type="text/plain; charset=utf-8",
            cache_control=f"public, max-age={CHECKPOINT_MAX_AGE_S}",
        )

    async def _read_tile(self, request: Request) -> Resource:
        tile, entries = _named(request)
        cache_control, vary = f"public, {_FOR_EVER}", None
        if entries and not self._public_entries:
            await self._require_auditor(request)
            cache_control, vary = f"private, {_FOR_EVER}", "Authorization"
        body = await self._context().read(_tile_bytes, tile, entries=entries)
        if body is None:
            raise HttpError(404, "NOT_FOUND", f"there is no tile {tile.path(entries=entries)} yet")
        return Resource(body=body, media_type="application/octet-stream", cache_control=cache_control, vary=vary)

    async def _require_auditor(self, request: Request) -> None:
        authorization, viewer = request.headers.get("authorization"), None
        if authorization is not None:
            viewer = await viewer_of(self._service(), authorization.encode("latin-1"))
        require_auditor(viewer)

    def _context(self) -> Context:
        return Context(self._service(), None, "")


def _named(request: Request) -> tuple[Tile, bool]:
    name = request.path_params["name"]
    try:
        # One spelling for each tile, in the bytes of the request too: a cache in front holds it once.
        if b"%" in request.scope.get("raw_path", b""):
            raise TileError(f"{name!r} does not name a tile")
        return parse_path(name)
    except TileError as error:
        raise HttpError(404, "NOT_FOUND", str(error)) from error


def _published_note(store: Store, connection: Connection, policy: WitnessPolicy) -> str:
    """Clients that ask for witnesses can use no other; for all others it is a few seconds old."""
    witnessed = read_cosignatures(store, connection, policy).witnessed()
    return witnessed.note if witnessed is not None else store.head(connection).checkpoint


def _tile_bytes(store: Store, connection: Connection, tile: Tile, *, entries: bool) -> bytes | None:
    """A tile as it is served; ``None`` while the ledger has not as many hashes. A smaller partial one stays there."""
    if width_at(tile.level, tile.index, store.head(connection).size) < tile.width:
        return None
    if entries:
        return encode_bundle(log.read_bundle(store, connection, tile))
    return b"".join(log.read_tiles(store, connection, [tile])[tile])


def _response(request: Request, resource: Resource) -> Response:
    etag = f'"{hashlib.sha256(resource.body).hexdigest()[:32]}"'
    headers = {"cache-control": resource.cache_control, "etag": etag}
    if resource.vary is not None:
        headers["vary"] = resource.vary
    if _has_it(request, etag):
        return Response(status_code=304, headers=headers)
    headers["content-type"] = resource.media_type
    if request.method == "HEAD":
        return Response(headers={**headers, "content-length": str(len(resource.body))})
    return Response(resource.body, headers=headers)


def _has_it(request: Request, etag: str) -> bool:
    """Whether the client says that it has this version already (RFC 9110 section 13.1.2)."""
    stated = request.headers.get("if-none-match", "")
    known = {part.strip().removeprefix("W/") for part in stated.split(",")}
    return "*" in known or etag in known


async def answered(request: Request, respond: Callable[[], Awaitable[Response]]) -> Response:
    """The response to a request for a plain resource; why there is none is told as ``/graphql`` tells it."""
    try:
        return await respond()
    except HttpError as error:
        return _refusal(request, error.status, error.code, str(error), dict(error.headers))
    except UnauthenticatedError as error:
        return _refusal(request, 401, error.CODE, error.message, {b"www-authenticate": b"Bearer"})
    except ForbiddenError as error:
        return _refusal(request, 403, error.CODE, error.message)
    except UnavailableError:
        message = "the ledger cannot be read now: try again"
        return _refusal(request, 503, "UNAVAILABLE", message, {b"retry-after": b"5"})


def _refusal(
    request: Request, status: int, code: str, message: str, headers: Mapping[bytes, bytes] | None = None
) -> Response:
    extensions = {"code": code, "requestId": request.scope["state"]["request_id"]}
    body = orjson.dumps({"errors": [{"message": message, "extensions": extensions}]})
    given = {name.decode(): value.decode() for name, value in (headers or {}).items()}
    return Response(body, status, {"cache-control": "no-store", **given}, "application/json; charset=utf-8")

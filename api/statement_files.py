"""Statements as files, for bookkeepers' programs and for members: what :mod:`api.statements` writes, over HTTP.

    GET /statements/mer_…/USD/2026-11-01_2026-11-30.csv
    GET /statements/mer_…/USD/2026-11-01_2026-11-30.pdf
    GET /statements/mem_…/STAR/2026-11-01_2026-11-30.csv

In a settlement currency it is a settlement statement, of UTC days; in an asset one of points, of local dates, with why
each purchase gave what it gave (:mod:`api.points_files`).

With the bearer token of a session, as GraphQL is read; a browser lends such a request nothing. Refusals are told as
those of ``/graphql`` are, and count against the same quota, of which a file uses much: it is read and set whole.
"""

import asyncio
import io
import re
from collections.abc import Callable, Mapping

from sqlalchemy.engine import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from api.access import require_points_of, require_session, sight_of
from api.accounting import STATEMENTS, Form, readable_clearing
from api.context import Context, Service
from api.errors import BadInputError, HttpError
from api.feed import answered
from api.graphql_view import GraphQLView, viewer_in
from api.ids import ACCOUNT_ID, ASSET_CODE
from api.paper import TooLongError
from api.points_files import write_points_csv, write_points_pdf
from api.sessions import Viewer
from api.statements import write_csv, write_pdf
from ledger.encoding import EncodingError, parse_date
from ledger.points_statements import PointsKey, PointsStatement, TooManyPointsLinesError, points_statement
from ledger.settlement import SettlementKey, SettlementStatement, TooManyLinesError
from ledger.store import Store

CSV_COST, PDF_COST = 10_000, 50_000
"""What a file counts in the quota of costs, where a field of GraphQL counts 1."""

Drawn = SettlementStatement | PointsStatement

_NAME = re.compile(r"([0-9-]{10})_([0-9-]{10})\.(csv|pdf)")
_MEDIA_TYPES: dict[str, str] = {"csv": "text/csv; charset=utf-8; header=present", "pdf": "application/pdf"}


class StatementFiles:
    """The routes below ``/statements/``. ``service`` gives the ledger once the server has started."""

    def __init__(self, view: GraphQLView, service: Callable[[], Service]) -> None:
        self._view = view
        self._service = service
        self._setting = asyncio.Lock()

    def routes(self) -> list[BaseRoute]:
        """The route for GET and HEAD; another method is answered with 405."""
        return [Route(f"{STATEMENTS}/{{account}}/{{currency}}/{{name}}", self.statement, methods=["GET"])]

    async def statement(self, request: Request) -> Response:
        """A statement."""
        return await answered(request, lambda: self._respond(request))

    async def _respond(self, request: Request) -> Response:
        headers: dict[bytes, bytes] = dict(request.scope["headers"])
        client, session = self._view.admit(request.scope, headers, 0)
        viewer = require_session(await viewer_in(self._service(), session) if session is not None else None)
        key, form = _asked(request)
        self._view.charge(client, PDF_COST if form == "pdf" else CSV_COST)
        context = Context(self._service(), viewer, "")
        try:
            drawn = await context.read(_drawn, viewer, key, context.scales)
            body = await self._written(drawn, form)
        except (BadInputError, TooManyLinesError, TooManyPointsLinesError, TooLongError) as error:
            raise HttpError(400, BadInputError.CODE, str(error)) from None
        return _file(request, body, key, form)

    async def _written(self, drawn: Drawn, form: Form) -> bytes:
        run = asyncio.get_running_loop().run_in_executor
        if form == "csv":
            return await run(self._service().readers, _csv, drawn)
        # Pages are set one statement at a time: it is all work of this process's one interpreter, and those who wait
        # here take no reader's thread.
        async with self._setting:
            return await run(self._service().readers, _pdf, drawn)


def _asked(request: Request) -> tuple[SettlementKey, Form]:
    """Which statement a path names: in the one spelling of :func:`~api.accounting.statement_path`."""
    params = request.path_params
    name = _NAME.fullmatch(params["name"])
    if name is None or not ACCOUNT_ID.fullmatch(params["account"]) or b"%" in request.scope.get("raw_path", b""):
        raise HttpError(
            404, "NOT_FOUND", f"a statement is {STATEMENTS}/ACCOUNT/CURRENCY/FIRST-DAY_LAST-DAY.csv, or .pdf"
        )
    try:
        start, through = parse_date(name[1]), parse_date(name[2])
    except EncodingError as error:
        raise HttpError(400, BadInputError.CODE, str(error)) from None
    if through < start:
        raise HttpError(400, BadInputError.CODE, "the last day lies before the first")
    key = SettlementKey(account=params["account"], currency=params["currency"], start=start, through=through)
    return key, "pdf" if name[3] == "pdf" else "csv"


def _drawn(
    store: Store, connection: Connection, viewer: Viewer, key: SettlementKey, scales: Mapping[str, int]
) -> Drawn:
    if key.currency in scales or not ASSET_CODE.fullmatch(key.currency):
        return readable_clearing(store, connection, viewer, key).statement()
    require_points_of(sight_of(store, connection, viewer, [key.account]), key.currency, key.account)
    asked = PointsKey(account=key.account, asset=key.currency, start=key.start, through=key.through)
    drawn = points_statement(store, connection, asked, scales)
    if drawn is None:
        raise BadInputError("this is neither a settlement currency nor an asset of the ledger")
    return drawn


def _csv(drawn: Drawn) -> bytes:
    file = io.StringIO()
    if isinstance(drawn, PointsStatement):
        write_points_csv(drawn, file)
    else:
        write_csv(drawn, file)
    return file.getvalue().encode()


def _pdf(drawn: Drawn) -> bytes:
    file = io.BytesIO()
    if isinstance(drawn, PointsStatement):
        write_points_pdf(drawn, file)
    else:
        write_pdf(drawn, file)
    return file.getvalue()


def _file(request: Request, body: bytes, key: SettlementKey, form: Form) -> Response:
    name = f"statement_{key.account}_{key.currency}_{key.start}_{key.through}.{form}"
    headers = {
        "cache-control": "private, no-store",
        "content-disposition": f'attachment; filename="{name}"',
        "content-type": _MEDIA_TYPES[form],
        "vary": "Authorization",
    }
    if request.method == "HEAD":
        return Response(headers={**headers, "content-length": str(len(body))})
    return Response(body, headers=headers)

"""A witness as an ASGI application: ``POST /add-checkpoint`` (C2SP tlog-witness), and ``/healthz`` (the process lives).

What a request means is decided in :mod:`ledger.witness`; ``guerdon witness serve`` runs it (:mod:`api.witness_cli`).
"""

import logging

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ledger.store import StoreError
from ledger.witness import Witness

logger = logging.getLogger("guerdon.witness")

MAX_BODY_BYTES = 65_536
"""A proof of 63 hashes is under 3 KB; the rest is for a checkpoint with signatures of many witnesses."""


def create_witness_app(witness: Witness, prefix: str = "") -> Starlette:
    """The application of one witness, whose submission prefix ends with ``prefix``."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            body = await _read_body(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        if body is None:
            return PlainTextResponse(f"a request has at most {MAX_BODY_BYTES} bytes\n", 413)
        try:
            # In a thread: the answer waits until what is cosigned is on disk.
            answer = await run_in_threadpool(witness.add_checkpoint, body)
        except StoreError:
            logger.exception("nothing can be cosigned")
            return PlainTextResponse("try again later\n", 503, {"Retry-After": "5"})
        if answer.contradicted is not None:
            # Two notes the log signed that cannot both be true: what a witness is there to find. Keep them.
            logger.error("SPLIT VIEW\n%s\ncontradicts\n%s", body.decode(), answer.contradicted)
        return Response(answer.body, answer.status, {"Content-Type": answer.content_type})

    return Starlette(
        routes=[
            Route(f"{prefix}/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/healthz", lambda _: PlainTextResponse("ok\n")),
        ]
    )


async def _read_body(request: Request) -> bytes | None:
    """The body, or ``None`` as soon as it is too large."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            return None
    return body

"""The client's side: auditing a server's log over HTTP, signing in for it, and what a server may answer."""

import http.server
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api import log_client
from api.client import ServiceError, open_session
from api.log_client import LogClient
from ledger.audit import AuditReport, Terms
from ledger.audit_state import AuditState
from ledger.keys import encode_public_key
from ledger.operations import OpenAccount
from ledger.published_log import LogError, MissingFileError, audit_published_log
from ledger.sequencer import account_opened_by
from ledger.wallet import Wallet
from tests.service import serving
from tests.worlds import World


def add_auditor(world: World) -> Wallet:
    """An auditor's account and key."""
    key = world.make_key()
    opening = world.operator.sign(
        OpenAccount, co_signers=[key], role="auditor", name="Eye", keys=(encode_public_key(key),)
    )
    (opened,) = world.record(opening)
    return world.wallet(account_opened_by(opened), key)


def audit_url(url: str, sign_in: Callable[[], str] | None = None, **options: Any) -> AuditReport:
    return audit_published_log(LogClient(f"{url}/log/", sign_in), Terms(), **{"processes": 0} | options)


@pytest.mark.parametrize("light", [False, True])
def test_server_is_audited_from_outside(world: World, tmp_path: Path, light: bool) -> None:
    """By anyone where entries are public; what was audited before is not fetched again."""
    world.add_members(600)
    kept: list[AuditState] = []
    with serving(world, tmp_path, public_entries=True) as url:
        report = audit_url(url, light=light, keep=kept.append)
        assert report.failures == ()
        assert report.size == 601
        world.add_members(10)
        again = audit_url(url, light=light, resume=kept[0])
        assert (again.failures, again.first, again.size) == ((), 601, 611)


def test_auditor_signs_in_where_entries_are_not_public(world: World, tmp_path: Path) -> None:
    """And signs in again when the session has ended; others are told what it takes."""
    auditor = add_auditor(world)
    member = world.add_member()
    world.add_members(600)
    opened: list[str] = []
    with serving(world, tmp_path) as url:

        def sign_in() -> str:
            opened.append(open_session(f"{url}/graphql", str(auditor.account), auditor.keys))
            return opened[-1]

        log = LogClient(f"{url}/log/", sign_in)
        assert audit_published_log(log, Terms(), processes=0).ok
        assert len(opened) == 1
        world.clock.advance(days=1)
        assert audit_published_log(log, Terms(), processes=0).ok
        assert len(opened) == 2
        with pytest.raises(ServiceError, match="is for auditors: sign in with --account and --key"):
            audit_url(url)
        with pytest.raises(ServiceError, match="is for auditors"):
            audit_url(url, lambda: open_session(f"{url}/graphql", str(member.account), member.keys))
        with pytest.raises(ServiceError, match="NOT_PERMITTED"):
            audit_url(url, lambda: open_session(f"{url}/graphql", str(auditor.account), member.keys))


class Answers:
    """A web server that answers as it is told to."""

    def __init__(self, answer: Callable[[str, int], tuple[int, dict[str, str], bytes]]) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """Answer, and note who asked what."""
                outer.asked.append(self.path)
                status, headers, body = answer(self.path, outer.asked.count(self.path))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> "Answers":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join(30)
        self.server.server_close()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_cannot_be_had_now_is_asked_for_again(status: int) -> None:
    """As late as the server says."""

    def answer(_: str, times: int) -> tuple[int, dict[str, str], bytes]:
        return (200, {}, b"there") if times == 3 else (status, {"Retry-After": "0"}, b"")

    with Answers(answer) as server:
        assert LogClient(server.url)("checkpoint") == b"there"
        assert server.asked == ["/checkpoint"] * 3


def test_server_that_never_has_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a number of attempts, with what it said."""
    monkeypatch.setattr(log_client, "ATTEMPTS", 3)
    with Answers(lambda *_: (503, {"Retry-After": "0"}, b"")) as server:
        with pytest.raises(ServiceError, match="/log/checkpoint answers with status 503"):
            audit_url(server.url)
        assert len(server.asked) == 3


def test_redirect_is_not_followed() -> None:
    """What another server has is not this log, and a token is not for others."""
    with (
        Answers(lambda *_: (200, {}, b"elsewhere")) as other,
        Answers(lambda *_: (302, {"Location": f"{other.url}/checkpoint"}, b"")) as server,
    ):
        with pytest.raises(ServiceError, match="answers with status 302"):
            LogClient(server.url)("checkpoint")
        assert other.asked == []


def test_file_that_is_too_large_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log's files have a bound; nobody fills an auditor's memory."""
    monkeypatch.setattr(log_client, "MAX_FILE_BYTES", 1_000)
    too_large = "larger than any file of a log: 1000 bytes"
    with Answers(lambda *_: (200, {}, bytes(1_001))) as server, pytest.raises(ServiceError, match=too_large):
        LogClient(server.url)("checkpoint")
    with Answers(lambda *_: (200, {}, bytes(1_000))) as server:
        assert len(LogClient(server.url)("checkpoint")) == 1_000


def test_server_that_is_not_there_or_is_no_log() -> None:
    """Each is told in words of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(ServiceError, match="does not answer"):
        LogClient(f"http://127.0.0.1:{port}")("checkpoint")
    with Answers(lambda *_: (404, {}, b"")) as server:
        with pytest.raises(MissingFileError):
            LogClient(server.url)("checkpoint")
        with pytest.raises(LogError, match="it has no checkpoint"):
            audit_url(server.url)
    with Answers(lambda *_: (200, {}, b"<html>")) as server, pytest.raises(LogError, match="called checkpoint is none"):
        audit_url(server.url)
    with Answers(lambda *_: (200, {}, b"{}")) as server, pytest.raises(ServiceError, match="status 501"):
        open_session(f"{server.url}/graphql", "aud_x", [])

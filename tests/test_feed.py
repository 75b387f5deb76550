"""The log under /log/, over real HTTP: what a client of transparency logs finds there, and what it does not."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from api.app import create_app
from api.settings import Settings
from ledger.keyring import save_private_key
from ledger.keys import encode_public_key
from ledger.operations import OpenAccount
from ledger.sequencer import account_opened_by
from ledger.store import Store, UnavailableError
from ledger.wallet import Wallet
from tests.naive import tile_name
from tests.service import Service, running
from tests.tile_client import TileClient
from tests.worlds import World

FOR_EVER = "max-age=31536000, immutable"
MEMBERS = 600


class Answer:
    """What came back over the wire."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def code(self) -> str:
        """The code of the only error told."""
        (error,) = json.loads(self.body)["errors"]
        assert error["message"]
        assert error["extensions"]["requestId"] == self.headers["x-request-id"]
        assert self.headers["cache-control"] == "no-store"
        return str(error["extensions"]["code"])


class Server:
    """A world's ledger behind uvicorn on a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, method: str = "GET", token: str | None = None, **headers: str) -> Answer:
        """One request, sent as it is: no client normalises the path."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, headers=given)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def client(self, world: World, token: str | None = None) -> TileClient:
        """A tile client of the log."""

        def fetch(name: str) -> bytes:
            answer = self.ask(f"/log/{name}", token=token)
            assert answer.status == 200, (name, answer.body)
            return answer.body

        return TileClient(fetch, log_key(world))


@contextmanager
def serving(world: World, folder: Path, **settings: Any) -> Iterator[Server]:
    """Serve a world over HTTP until the block ends."""
    key_file = folder / "log.pem"
    if not key_file.exists():
        save_private_key(key_file, world.log_key, None)
    given = Settings(data=folder, database_url=world.url, log_key_file=key_file, **settings)
    config = uvicorn.Config(create_app(given, world.clock), log_level="warning", lifespan="on", access_log=False)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            give_up_at = time.monotonic() + 60
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() < give_up_at
                time.sleep(0.01)
            yield Server(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(60)


def log_key(world: World) -> str:
    """The verifier key in the genesis entry."""
    return str(json.loads(world.genesis.data)["op"]["log_key"])


def add_auditor(world: World) -> Wallet:
    """Open an auditor's account, vouched for by the operator."""
    key = world.make_key()
    keys = (encode_public_key(key),)
    (opened,) = world.record(world.operator.sign(OpenAccount, co_signers=[key], role="auditor", name="Eye", keys=keys))
    return world.wallet(account_opened_by(opened), key)


def sign_in(world: World, folder: Path, *wallets: Wallet) -> list[str]:
    """Bearer tokens, which every server process of a ledger accepts."""
    with running(world, folder) as service:
        return [service.sign_in(wallet) for wallet in wallets]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    """A ledger of a few entries on SQLite: nothing asked of it depends on the database."""
    with World(f"sqlite:///{tmp_path / 'small.sqlite'}") as world:
        world.add_members(3)
        yield world


def test_a_naive_client_rebuilds_the_log(world: World, tmp_path: Path) -> None:
    """With nothing but HTTP and the log's key: tiles lead to the signed root, bundles to the tiles, while it grows."""
    auditor = add_auditor(world)
    world.add_members(MEMBERS)
    (token,) = sign_in(world, tmp_path, auditor)
    with serving(world, tmp_path) as server:
        public, trusted = server.client(world), server.client(world, token)
        size, _ = public.checkpoint()
        assert size == MEMBERS + 2
        leaves = public.check(entries=False)
        entries = trusted.check()
        assert [json.loads(entry)["seq"] for entry in entries] == list(range(size))
        # A client that saw the smaller log goes on with the tiles it knew, and with those of the larger one.
        world.add_members(200)
        assert public.hashes(0, size) == leaves
        assert public.check(entries=False)[:size] == leaves
        assert trusted.entries(size) == entries
        assert public.checkpoint()[0] == size + 200


def test_log_is_whole_while_it_grows(world: World, tmp_path: Path) -> None:
    """Whenever a client begins, all tiles of the checkpoint it got are there, however much is recorded meanwhile."""
    growing = threading.Thread(target=lambda: [world.add_members(40) for _ in range(15)])
    with serving(world, tmp_path, public_entries=True) as server:
        client = server.client(world)
        assert len(world.add_members(1)) == 1
        growing.start()
        sizes = []
        while growing.is_alive():
            sizes.append(len(client.check()))
        growing.join()
        assert len(client.check()) == 602
    assert sizes == sorted(sizes)


def test_tiles_are_served_as_the_specification_says(world: World, tmp_path: Path) -> None:
    """Types, caching, and which tiles there are: full ones, and partial ones up to what is present."""
    world.add_members(MEMBERS)
    with serving(world, tmp_path, public_entries=True) as server:
        checkpoint = server.ask("/log/checkpoint")
        assert checkpoint.status == 200
        assert checkpoint.headers["content-type"] == "text/plain; charset=utf-8"
        assert checkpoint.headers["cache-control"] == "public, max-age=5"
        size = MEMBERS + 1
        edge = size % 256
        there: list[tuple[int | str, int, int]] = [
            (0, 0, 256),
            (0, 1, 256),
            (0, 2, edge),
            (0, 2, 1),
            (0, 0, 1),
            (0, 1, 255),
            (1, 0, 2),
            (1, 0, 1),
        ]
        there += [("entries", 0, 256), ("entries", 2, edge), ("entries", 1, 7)]
        for level, index, width in there:
            answer = server.ask(f"/log/{tile_name(level, index, width)}")
            assert answer.status == 200, (level, index, width)
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["cache-control"] == f"public, {FOR_EVER}"
            assert int(answer.headers["content-length"]) == len(answer.body)
            assert level == "entries" or len(answer.body) == 32 * width
            assert "vary" not in answer.headers
        absent: list[tuple[int | str, int, int]] = [
            (0, 2, 256),
            (0, 2, edge + 1),
            (0, 3, 1),
            (0, 3, 256),
            (1, 0, 3),
            (1, 0, 256),
            (1, 1, 1),
            (2, 0, 1),
        ]
        absent += [("entries", 2, 256), ("entries", 2, edge + 1), ("entries", 3, 1), (63, 0, 1), (0, 10**40, 256)]
        for level, index, width in absent:
            answer = server.ask(f"/log/{tile_name(level, index, width)}")
            assert (answer.status, answer.code) == (404, "NOT_FOUND"), (level, index, width)


@pytest.mark.parametrize(
    "name",
    [
        "0/0",
        "0/0000",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/01",
        "0/000.p",
        "00/000",
        "64/000",
        "-1/000",
        "0/x000/000",
        "0/%30%30%30",
        "%30/000",
        "entries",
        "entries/",
        "data/000",
        "0/000/",
        "",
        "../checkpoint",
        "0/%D9%A0%D9%A0%D9%A0",
        "0/000%0A",
        "0/" + "x001/" * 2_000 + "000",
    ],
)
def test_what_names_no_tile_is_not_found(name: str, small: World, tmp_path: Path) -> None:
    """Each tile has one spelling."""
    with serving(small, tmp_path) as server:
        assert server.ask("/log/tile/0/000.p/4").status == 200
        answer = server.ask(f"/log/tile/{name}")
        assert (answer.status, answer.code) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "path", ["/log", "/log/", "/log/Checkpoint", "/log/checkpoint/", "/log/tile", "/log/tiles/0/000"]
)
def test_nothing_else_is_there(path: str, small: World, tmp_path: Path) -> None:
    """The log has a checkpoint and tiles."""
    with serving(small, tmp_path) as server:
        assert server.ask(path).status in {404, 307}
        assert server.ask(path).body.find(b"ledger.example") == -1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/log/checkpoint", "/log/tile/0/000.p/4", "/log/tile/entries/000.p/4"])
def test_the_log_is_only_read(method: str, path: str, small: World, tmp_path: Path) -> None:
    """GET and HEAD alone."""
    with serving(small, tmp_path) as server:
        answer = server.ask(path, method)
        assert answer.status == 405
        assert set(answer.headers["allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}


def test_head_tells_what_get_would(small: World, tmp_path: Path) -> None:
    """The same status and headers, without a body; also for refusals."""
    with serving(small, tmp_path) as server:
        for path in ("/log/checkpoint", "/log/tile/0/000.p/4", "/log/tile/0/000", "/log/tile/entries/000.p/4"):
            got, head = server.ask(path), server.ask(path, "HEAD")
            assert head.body == b""
            assert head.status == got.status
            names = {"content-type", "content-length", "cache-control", "etag"}
            assert {n: head.headers.get(n) for n in names} == {n: got.headers.get(n) for n in names}


def test_what_the_client_has_is_not_sent_again(small: World, tmp_path: Path) -> None:
    """An entity tag stands for the bytes: the checkpoint's changes with the ledger, a tile's never does."""
    with serving(small, tmp_path) as server:
        for path in ("/log/checkpoint", "/log/tile/0/000.p/4"):
            first = server.ask(path)
            etag = first.headers["etag"]
            for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
                again = server.ask(path, if_none_match=known)
                assert (again.status, again.body) == (304, b"")
                assert again.headers["etag"] == etag
                assert again.headers["cache-control"] == first.headers["cache-control"]
            assert server.ask(path, if_none_match='"other"').body == first.body
        before = server.ask("/log/checkpoint").headers["etag"], server.ask("/log/tile/0/000.p/4").headers["etag"]
        small.add_member()
        assert server.ask("/log/checkpoint", if_none_match=before[0]).status == 200
        assert server.ask("/log/tile/0/000.p/4", if_none_match=before[1]).status == 304


def test_entries_are_for_auditors_and_the_operator(small: World, tmp_path: Path) -> None:
    """401 without a session or with a bad one, 403 with another's; hashes and checkpoint need none."""
    auditor, shop, member = add_auditor(small), small.add_merchant(), small.add_member()
    tokens = sign_in(small, tmp_path, auditor, small.operator, shop, member)
    with serving(small, tmp_path) as server:
        bundle = "/log/tile/entries/000.p/4"
        for path in ("/log/checkpoint", "/log/tile/0/000.p/4"):
            assert server.ask(path).status == 200
        for token in tokens[:2]:
            answer = server.ask(bundle, token=token)
            assert answer.status == 200
            assert answer.headers["cache-control"] == f"private, {FOR_EVER}"
            assert answer.headers["vary"] == "Authorization"
            assert answer.headers["content-type"] == "application/octet-stream"
        for token in tokens[2:]:
            for name in (bundle, "/log/tile/entries/999", "/log/tile/entries/000.p/255"):
                refused = server.ask(name, token=token)
                assert (refused.status, refused.code) == (403, "FORBIDDEN")
        for authorization in (None, "Bearer x", "Basic eDp5", "Bearer"):
            headers = {"authorization": authorization} if authorization is not None else {}
            refused = server.ask(bundle, **headers)
            assert (refused.status, refused.code) == (401, "UNAUTHENTICATED")
            assert refused.headers["www-authenticate"].startswith("Bearer")
            assert server.ask(bundle, **headers, if_none_match="*").status == 401
        small.clock.advance(ms=900_001)
        assert server.ask(bundle, token=tokens[0]).status == 401


def test_entries_can_be_public(small: World, tmp_path: Path) -> None:
    """Then everybody may have and keep them, and nobody is asked who it is."""
    with serving(small, tmp_path, public_entries=True) as server:
        answer = server.ask("/log/tile/entries/000.p/4")
        assert (answer.status, answer.headers["cache-control"]) == (200, f"public, {FOR_EVER}")
        assert server.ask("/log/tile/entries/000.p/4", token="x").status == 200
        server.client(small).check()


def test_a_database_that_does_not_answer_is_told(small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, to be tried again; nothing of it is kept."""
    with running(small, tmp_path) as service:
        assert get(service, "/log/checkpoint").status_code == 200

        def fail(*_: object) -> None:
            raise UnavailableError("the database did not answer: secret words")

        monkeypatch.setattr(Store, "head", fail)
        response = get(service, "/log/tile/0/000.p/1")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "5"
        assert "secret" not in response.text
        (error,) = response.json()["errors"]
        assert error["extensions"]["code"] == "UNAVAILABLE"


def get(service: Service, path: str) -> Any:
    return service.client.get(path)

"""Limits of one request: cost with variables, directives, fields of the root, and time."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from api.errors import HttpError
from api.graphql_view import read_body
from api.opening import open_store
from api.settings import Settings
from ledger.store import Store, UnavailableError, open_engine
from tests.service import Service, key_file, running
from tests.test_feed import Server, serving
from tests.worlds import World, pay


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    """On SQLite alone: nothing here depends on the database."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield world


@pytest.fixture
def service(small: World, tmp_path: Path) -> Iterator[Service]:
    with running(small, tmp_path) as service:
        yield service


def cost(service: Service, query: str, variables: dict[str, Any] | None = None) -> int:
    """What an answer says that a query cost."""
    extensions = service.ask(query, variables)["extensions"]
    assert set(extensions) == {"cost"}
    assert extensions["cost"]["limit"] == 10_000
    return int(extensions["cost"]["requested"])


def test_answers_tell_what_they_cost(service: Service) -> None:
    """Each field once for every item of the pages around it; the same when the document is known already."""
    for _ in range(2):
        assert cost(service, "{ __typename }") == 1
        assert cost(service, "{ ledger { size origin } }") == 3
        assert cost(service, "{ assets { nodes { code } } }") == 1 + 20 * 2
        assert cost(service, "{ assets(first: 3) { nodes { code supply { issued } } } }") == 1 + 3 * 4
        assert cost(service, "{ __schema { queryType { name } } }") == 2_000
        assert cost(service, "mutation { __typename }") == 1
        assert cost(service, '{ viewer { id } nodes(ids: ["ent_0", "ent_1"]) { id } }') == 2 + 3


def test_cost_is_told_beside_errors_of_execution(service: Service) -> None:
    answer = service.ask("{ entries { nodes { seq } } }")
    assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    assert answer["extensions"] == {"cost": {"requested": 41, "limit": 10_000}}


PAGE = "query($n: Int) { assets(first: $n) { nodes { code } } }"
DEFAULT = "query($n: Int = 5) { assets(first: $n) { nodes { code } } }"
IN_A_FRAGMENT = "query($n: Int) { ...f ...f } fragment f on Query { assets(first: $n) { nodes { code } } }"
NODES = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"


@pytest.mark.parametrize(
    ("query", "variables", "expected"),
    [
        (PAGE, {}, 41),
        (PAGE, {"n": None}, 41),
        (PAGE, {"n": 1}, 3),
        (PAGE, {"n": 100}, 201),
        (PAGE, {"n": -5}, 3),
        (PAGE, {"n": 2**53}, 1 + 2 * 9_999),
        (PAGE, {"n": "100"}, 201),
        (PAGE, {"n": True}, 3),
        (PAGE, {"n": 1.5}, 201),
        (PAGE, {"n": {}}, 201),
        (DEFAULT, {}, 11),
        (DEFAULT, {"n": None}, 41),
        (DEFAULT, {"n": 7}, 15),
        (IN_A_FRAGMENT, {"n": 7}, 30),
        (NODES, {"ids": ["ent_0"] * 7}, 8),
        (NODES, {"ids": []}, 1),
        (NODES, {"ids": "ent_0"}, 101),
    ],
    ids=str,
)
def test_page_sizes_in_variables_count(
    query: str, variables: dict[str, Any], expected: int, small: World, tmp_path: Path
) -> None:
    """By the request's own value, the default of the operation, or that of the field; refused before it is executed."""
    with running(small, tmp_path, max_cost=expected) as service:
        answer = service.ask(query, variables)
        assert answer["extensions"]["cost"]["requested"] == expected
    with running(small, tmp_path, max_cost=expected - 1) as service:
        (error,) = service.ask(query, variables)["errors"]
        assert error["extensions"]["code"] == "MAX_COST_EXCEEDED"
        assert (error["extensions"]["cost"], error["extensions"]["maxCost"]) == (expected, expected - 1)


def test_each_operation_of_a_document_has_its_own_cost(service: Service) -> None:
    document = "query A { ledger { size } } query B($n: Int) { assets(first: $n) { nodes { code } } }"
    for name, variables, expected in (("A", {}, 2), ("B", {"n": 2}, 5), ("B", {"n": 3}, 7)):
        answer = service.post({"query": document, "operationName": name, "variables": variables}).json()
        assert answer["extensions"]["cost"]["requested"] == expected


def test_directives_are_bounded(service: Service) -> None:
    """30 in a document, 4 in one place; one error, however many there are."""
    fields = " ".join(f"a{i}: __typename @include(if: true)" for i in range(29))
    assert "errors" not in service.ask(f"{{ {fields} ledger {{ size @skip(if: false) }} }}")
    (error,) = service.ask(f"{{ {fields} ledger @skip(if: false) {{ size @skip(if: false) }} }}")["errors"]
    assert "more than 30 directives" in error["message"]
    for place in (
        "query { __typename @aa@aa@aa@aa@aa }",
        "query @aa@aa@aa@aa@aa { __typename }",
        "{ ...f @aa@aa@aa@aa@aa } fragment f on Query { __typename }",
        "{ ... @aa@aa@aa@aa@aa { __typename } }",
        "{ ...f } fragment f on Query @aa@aa@aa@aa@aa { __typename }",
        "query($a: Int @aa@aa@aa@aa@aa) { __typename }",
    ):
        (error,) = service.ask(place)["errors"]
        assert "5 directives in one place, at most 4" in error["message"], place


def test_fields_of_the_root_are_bounded(small: World, tmp_path: Path) -> None:
    """Each of a mutation is a submission of its own. Fragments are counted wherever they are spread."""
    with running(small, tmp_path, max_root_fields=3) as service:
        assert "errors" not in service.ask("{ a: __typename ledger { size name origin } b: __typename }")
        for document in (
            "mutation { a: __typename b: __typename c: __typename d: __typename }",
            "{ ...f ...f } fragment f on Query { a: __typename ... { b: __typename } }",
        ):
            (error,) = service.ask(document)["errors"]
            assert "4 fields of the root, at most 3" in error["message"]


@pytest.mark.timeout(120)
def test_slow_body_is_given_up(small: World, tmp_path: Path) -> None:
    """408 and the end of the connection, while others are answered."""
    with (
        serving(small, tmp_path, body_timeout_s=1) as server,
        socket.create_connection(("127.0.0.1", server.port)) as slow,
    ):
        head = b"POST /graphql HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
        slow.sendall(head + b'{"query":')
        assert ask(server, "{ ledger { size } }")[0] == 200
        answer = read_all(slow)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()
    (error,) = json.loads(answer.partition(b"\r\n\r\n")[2])["errors"]
    assert (error["extensions"]["code"], error["extensions"]["retryable"]) == ("REQUEST_TIMEOUT", True)


@pytest.mark.parametrize("rest", [b"", b'{"query":', b"0\r\n", b"zz\r\n", b"5\r\n{}"])
def test_client_that_goes_in_the_middle_of_a_body_is_no_fault_of_ours(
    rest: bytes, small: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is executed and no error is logged; others are answered."""
    with serving(small, tmp_path) as server:
        for framing in (b"content-length: 100", b"transfer-encoding: chunked"):
            head = b"POST /graphql HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n" + framing + b"\r\n\r\n"
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(head + rest)
        assert ask(server, "{ ledger { size } }")[0] == 200
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side ends the connection."""
    parts = []
    while part := connection.recv(65_536):
        parts.append(part)
    return b"".join(parts)


def ask(server: Server, query: str) -> tuple[int, Any]:
    """Status and answer of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        headers = {"content-type": "application/json", "accept": "application/graphql-response+json"}
        connection.request("POST", "/graphql", json.dumps({"query": query}), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


async def never() -> Any:
    raise AssertionError("nothing is received of a body that says it is too large")


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def endless(_store: Store, connection: Connection, *_: Any) -> Any:
    """A question that the database works on for ever."""
    connection.exec_driver_sql(ENDLESS).scalar()
    raise AssertionError("the question was answered")


def timed_store(world: World, folder: Path, timeout_ms: int) -> Store:
    settings = Settings(data=folder, database_url=world.url, log_key_file=key_file(folder, world.log_key))
    return open_store(settings, read_timeout_ms=timeout_ms)


def test_statement_that_reads_is_ended(world: World, tmp_path: Path) -> None:
    """On each database; the connection is good for the next one, and for long writes."""
    store = timed_store(world, tmp_path, 200)
    try:
        for _ in range(3):
            with pytest.raises(UnavailableError, match="the database did not answer"), store.read() as connection:
                endless(store, connection)
            with store.read() as connection:
                assert store.head(connection).size == 1
    finally:
        store.engine.dispose()


def test_statement_that_writes_is_not_ended(world: World, tmp_path: Path) -> None:
    """A writer waits for its turn, however long that takes."""
    store = timed_store(world, tmp_path, 100)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with world.store.write() as transaction:
            transaction.lock_head()
            held.set()
            time.sleep(0.5)

    def write() -> None:
        with store.write() as transaction:
            transaction.lock_head()
        done.set()

    threads = [threading.Thread(target=hold), threading.Thread(target=write)]
    try:
        threads[0].start()
        assert held.wait(30)
        threads[1].start()
        for thread in threads:
            thread.join(30)
        assert done.is_set()
    finally:
        store.engine.dispose()


def test_command_reads_as_long_as_it_likes(world: World) -> None:
    """An audit's questions are long ones."""
    engine = open_engine(world.url)
    try:
        with engine.connect() as connection:
            assert connection.get_execution_options().get("guerdon_read_timeout_ms") is None
            if engine.dialect.name == "postgresql":
                assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "0"
    finally:
        engine.dispose()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("question", ["assets_page", "supplies"])
def test_query_that_takes_too_long_is_answered_with_504(
    question: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Typed, retryable and telling nothing of the database; the readers are free again soon after."""
    world.add_asset(world.add_merchant(), "STAR")
    monkeypatch.setattr(f"ledger.queries.{question}", endless)
    query = "{ assets { nodes { code supply { issued } } } }"
    with running(world, tmp_path, query_timeout_s=1, readers=1) as service:
        response = service.post({"query": query}, accept="application/graphql-response+json")
        assert (response.status_code, response.headers["retry-after"]) == (504, "5")
        (error,) = response.json()["errors"]
        assert error["extensions"] == {
            "code": "TIMEOUT",
            "retryable": True,
            "requestId": response.headers["x-request-id"],
        }
        assert "data" not in response.json()
        assert service.query("{ ledger { name } }") == {"ledger": {"name": "Operator"}}
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_database_that_does_not_answer_is_told_as_unavailable(
    small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 when nothing could be read, in any type; beside what could be read otherwise. Never an internal error."""

    def fail(*_: Any) -> Any:
        raise UnavailableError("the database did not answer: secret.example")

    with running(small, tmp_path) as service:
        token = service.sign_in(small.operator)
        monkeypatch.setattr("ledger.queries.assets_page", fail)
        for accept in ("application/json", "application/graphql-response+json"):
            response = service.post({"query": "{ assets { nodes { code } } }"}, accept=accept)
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")
            (error,) = response.json()["errors"]
            assert (error["extensions"]["code"], error["extensions"]["retryable"]) == ("UNAVAILABLE", True)
            assert error["path"] == ["assets"]
            assert "secret" not in response.text
        answer = service.post({"query": "{ viewer { id } assets { nodes { code } } }"}, token=token)
        assert answer.status_code in {200, 503}
        monkeypatch.setattr(Store, "read", fail)
        response = service.post({"query": "{ viewer { id } }"}, token=token)
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")


@pytest.mark.timeout(120)
def test_mutation_is_never_left_half_known(small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is recorded is answered, however long it takes."""
    shop = small.add_merchant()
    small.add_asset(shop, "STAR")
    alice, bob = small.add_members(2)
    small.grant(shop, "STAR", alice, 100)
    write = Store.write

    def slowly(store: Store) -> Any:
        time.sleep(1.5)
        return write(store)

    monkeypatch.setattr(Store, "write", slowly)
    with running(small, tmp_path, query_timeout_s=1) as service:
        assert service.submit(pay(alice, "STAR", 1, bob))["userErrors"] == []


def test_large_body_is_refused_before_it_is_received() -> None:
    """By what it says of itself."""
    with pytest.raises(HttpError) as refused:
        asyncio.run(read_body({b"content-length": b"1001"}, never, 1_000, 1.0))
    assert refused.value.status == 413

"""Documents: persisted automatically, listed by the operator, kept within bounds, weighed once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import get_introspection_query

from api.documents import (
    MAX_CACHED_CHARACTERS,
    MAX_CACHED_DOCUMENT,
    MAX_CACHED_DOCUMENTS,
    MAX_PERSISTED_CHARACTERS,
    Documents,
    Recent,
    sha256_of,
)
from api.limits import Limits
from api.schema import schema
from api.settings import SettingsError
from tests.service import Service, running
from tests.worlds import World

SIZE = "{ ledger { size } }"
ORIGIN = "query Origin { ledger { origin } }"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """On SQLite alone: nothing here depends on the database."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield world


@pytest.fixture
def service(world: World, tmp_path: Path) -> Iterator[Service]:
    with running(world, tmp_path) as service:
        yield service


def persisted(text: str | None = None, *, sha256: Any = None, version: Any = 1) -> dict[str, Any]:
    """The extensions of Apollo's clients."""
    return {"persistedQuery": {"version": version, "sha256Hash": sha256 or sha256_of(text or SIZE)}}


def code(response: httpx.Response) -> str:
    (error,) = response.json()["errors"]
    assert error["extensions"]["requestId"] == response.headers["x-request-id"]
    assert response.headers["cache-control"] == "no-store"
    return str(error["extensions"]["code"])


GRAPHQL = "application/graphql-response+json"


def test_document_is_persisted_once_it_was_sent_with_its_hash(service: Service) -> None:
    """The handshake of Apollo's clients: the hash alone, then both, then the hash alone."""
    unknown = service.post({"extensions": persisted()})
    assert (unknown.status_code, code(unknown)) == (200, "PERSISTED_QUERY_NOT_FOUND")
    assert unknown.json()["errors"][0]["message"] == "PersistedQueryNotFound"
    assert "data" not in unknown.json()
    unknown = service.post({"extensions": persisted()}, accept=GRAPHQL)
    assert (unknown.status_code, code(unknown)) == (400, "PERSISTED_QUERY_NOT_FOUND")
    expected = {"ledger": {"size": 1}}
    assert service.post({"query": SIZE, "extensions": persisted()}).json()["data"] == expected
    assert service.post({"extensions": persisted()}).json()["data"] == expected
    parameters = {"extensions": json.dumps(persisted())}
    assert service.client.get("/graphql", params=parameters).json()["data"] == expected
    for name in (sha256_of(SIZE), f"sha256:{sha256_of(SIZE)}"):
        assert service.post({"documentId": name}).json()["data"] == expected
        assert service.client.get("/graphql", params={"documentId": name}).json()["data"] == expected


def test_document_sent_without_its_hash_is_not_persisted(service: Service) -> None:
    """Nobody learns by a hash what others ask."""
    assert "errors" not in service.ask(SIZE)
    assert code(service.post({"extensions": persisted()})) == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize(
    "text", ["{ nothing }", "{", "{ " + "__typename " * 500 + "}", f"{SIZE} # {'x' * MAX_CACHED_DOCUMENT}"]
)
def test_only_valid_documents_of_usual_length_are_persisted(text: str, service: Service) -> None:
    service.post({"query": text, "extensions": persisted(text)})
    assert code(service.post({"extensions": persisted(text)})) == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize(
    "body",
    [
        {"query": SIZE, "extensions": persisted(ORIGIN)},
        {"query": SIZE, "extensions": persisted(version=2)},
        {"query": SIZE, "extensions": persisted(version=None)},
        {"query": SIZE, "extensions": {"persistedQuery": "x"}},
        {"query": SIZE, "extensions": {"persistedQuery": {}}},
        {"extensions": persisted(sha256=sha256_of(SIZE).upper())},
        {"extensions": persisted(sha256="../etc/passwd")},
        {"extensions": persisted(sha256=1)},
        {"query": SIZE, "documentId": sha256_of(SIZE)},
        {"documentId": ""},
        {"documentId": 1},
        {"documentId": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("accept", ["application/json", GRAPHQL])
def test_malformed_reference_is_a_bad_request(body: dict[str, Any], accept: str, service: Service) -> None:
    """400 in either type: the request itself is not well formed."""
    response = service.post(body, accept=accept)
    assert (response.status_code, code(response)) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("name", ["sha256:" + "0" * 64, "sha256:x", "x-mine:1", "no-such-id", "\x00", "a" * 5_000])
def test_unknown_document_id_is_told_as_such(name: str, service: Service) -> None:
    assert code(service.post({"documentId": name})) == "PERSISTED_QUERY_NOT_FOUND"


def test_persisted_mutation_is_still_not_for_get(service: Service) -> None:
    mutation = "mutation { operationsSubmit(input: { operations: [] }) { results { seq } } }"
    assert "errors" not in service.post({"query": mutation, "extensions": persisted(mutation)}).json()
    response = service.client.get("/graphql", params={"extensions": json.dumps(persisted(mutation))})
    assert (response.status_code, response.headers["allow"], code(response)) == (405, "POST", "METHOD_NOT_ALLOWED")


def test_browser_that_names_a_document_gets_its_answer(service: Service) -> None:
    """And not GraphiQL's page."""
    service.post({"query": SIZE, "extensions": persisted()})
    headers = {"accept": "text/html,*/*;q=0.8"}
    response = service.client.get("/graphql", params={"documentId": sha256_of(SIZE)}, headers=headers)
    assert response.json()["data"] == {"ledger": {"size": 1}}


def write_list(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def lists(folder: Path) -> dict[str, tuple[Path, str]]:
    """The same two documents in each form of a list, and how the list calls the second."""
    documents = folder / "documents"
    (documents / "more").mkdir(parents=True)
    (documents / "size.graphql").write_text(SIZE, encoding="utf-8")
    (documents / "more" / "origin.graphql").write_text(ORIGIN, encoding="utf-8")
    operations = [
        {"id": sha256_of(SIZE), "name": "", "type": "query", "body": SIZE},
        {"id": "origin-7", "name": "Origin", "type": "query", "body": ORIGIN},
    ]
    manifest = {"format": "apollo-persisted-query-manifest", "version": 1, "operations": operations}
    relay = {f"sha256:{sha256_of(SIZE)}": SIZE, "d41d8cd98f00b204e9800998ecf8427e": ORIGIN}
    return {
        "folder": (documents, "more/origin.graphql"),
        "Apollo's manifest": (write_list(folder / "manifest.json", manifest), "origin-7"),
        "Relay's map": (write_list(folder / "relay.json", relay), "d41d8cd98f00b204e9800998ecf8427e"),
    }


@pytest.mark.parametrize("form", ["folder", "Apollo's manifest", "Relay's map"])
def test_listed_documents_are_known_from_the_beginning(form: str, world: World, tmp_path: Path) -> None:
    """By their hash, and as the list calls them."""
    path, name = lists(tmp_path)[form]
    with running(world, tmp_path, documents_file=path) as service:
        origin = {"ledger": {"origin": world.origin}}
        assert service.post({"documentId": name}).json()["data"] == origin
        assert service.post({"documentId": f"sha256:{sha256_of(ORIGIN)}"}).json()["data"] == origin
        assert service.post({"extensions": persisted(SIZE)}).json()["data"] == {"ledger": {"size": 1}}
        assert service.query("{ ledger { name } }")


def test_only_listed_documents_are_executed_when_others_are_not_allowed(world: World, tmp_path: Path) -> None:
    """However one names another; it cannot be persisted either."""
    path, name = lists(tmp_path)["folder"]
    with running(world, tmp_path, documents_file=path, only_listed_documents=True) as service:
        for body in (
            {"query": SIZE},
            {"query": SIZE, "extensions": persisted(SIZE)},
            {"extensions": persisted(SIZE)},
            {"documentId": sha256_of(SIZE)},
            {"query": ORIGIN},
            {"documentId": name},
        ):
            assert "errors" not in service.post(body).json()
        other = "{ ledger { name } }"
        for body, expected in (
            ({"query": other}, "QUERY_NOT_IN_SAFELIST"),
            ({"query": SIZE + " "}, "QUERY_NOT_IN_SAFELIST"),
            ({"query": get_introspection_query()}, "QUERY_NOT_IN_SAFELIST"),
            ({"query": "{"}, "QUERY_NOT_IN_SAFELIST"),
            ({"query": other, "extensions": persisted(other)}, "QUERY_NOT_IN_SAFELIST"),
            ({"extensions": persisted(other)}, "PERSISTED_QUERY_NOT_IN_LIST"),
            ({"documentId": "other"}, "PERSISTED_QUERY_NOT_IN_LIST"),
        ):
            response = service.post(body)
            assert (response.status_code, code(response)) == (403, expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"a": "{ nothing }"}, r"a in .* cannot be executed: Cannot query field 'nothing'"),
        ({"a": "{"}, "cannot be executed: Syntax Error"),
        ({"a": "{ " + "ledger { size } " * 30 + "}"}, "cannot be executed: 30 times ledger"),
        ({"a": 1}, "is no list of documents"),
        ([], "is no list of documents"),
        ("x", "is no list of documents"),
        ({"operations": [{"id": "a"}]}, "is no list of documents"),
        ({"a": SIZE, "sha256:a": ORIGIN}, "two documents with the id a"),
        ({sha256_of(SIZE): ORIGIN, "b": SIZE}, "two documents with the id"),
    ],
)
def test_server_does_not_start_with_a_bad_list(content: Any, said: str, world: World, tmp_path: Path) -> None:
    """The setting is named, and the document."""
    path = write_list(tmp_path / "list.json", content)
    with (
        pytest.raises(SettingsError, match=rf"^GUERDON_DOCUMENTS_FILE: .*{said}"),
        running(world, tmp_path, documents_file=path),
    ):
        pass


@pytest.mark.parametrize("name", ["missing.json", "broken.json"])
def test_server_does_not_start_without_its_list(name: str, world: World, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_bytes(b"{")
    with (
        pytest.raises(SettingsError, match=rf"^GUERDON_DOCUMENTS_FILE: .*{name} is no list of documents"),
        running(world, tmp_path, documents_file=tmp_path / name),
    ):
        pass


def test_introspection_can_be_turned_off(world: World, tmp_path: Path) -> None:
    """Every way to it; the name of a type in an answer is none."""
    with running(world, tmp_path, introspection=False) as service:
        for query in (
            get_introspection_query(),
            '{ __type(name: "Query") { name } }',
            "{ ...f } fragment f on Query { __schema { types { name } } }",
        ):
            answer = service.ask(query)
            assert answer["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
            assert "introspection has been disabled" in answer["errors"][0]["message"]
            assert "data" not in answer
        assert service.query("{ __typename ledger { __typename } }") == {
            "__typename": "Query",
            "ledger": {"__typename": "Ledger"},
        }


def test_what_was_not_used_for_longest_goes_first() -> None:
    """Bounded in number and in characters together; keeping anew replaces."""
    recent: Recent[int] = Recent(3, 100)
    for i in range(3):
        recent.keep(str(i), i, 10)
    assert recent.get("0") == 0
    recent.keep("3", 3, 10)
    assert [recent.get(str(i)) for i in range(4)] == [0, None, 2, 3]
    recent.keep("0", 7, 80)
    assert [recent.get(str(i)) for i in range(4)] == [7, None, 2, 3]
    recent.keep("4", 4, 15)
    assert [recent.get(str(i)) for i in range(5)] == [None, None, 2, 3, 4]
    recent.keep("5", 5, 1_000)
    assert len(recent) == 0
    recent.keep("6", 6, 100)
    assert recent.get("6") == 6


LIMITS = Limits(max_tokens=2_000, max_depth=15, max_aliases=30, max_directives=30, max_root_fields=30, max_cost=10_000)


def test_documents_are_parsed_and_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With their errors; until others were used since, and never when they are longer than usual."""
    documents = Documents(schema, LIMITS)
    for text in (SIZE, "{ nothing }", "{"):
        assert documents.known(text) is None
        prepared = documents.prepare(text)
        assert documents.known(text) is prepared
    long = SIZE + " " * MAX_CACHED_DOCUMENT
    documents.prepare(long)
    assert documents.known(long) is None
    for i in range(MAX_CACHED_DOCUMENTS):
        documents.prepare(f"{{ n{i} }}")
    assert documents.known(SIZE) is None
    assert MAX_CACHED_CHARACTERS >= 10 * MAX_CACHED_DOCUMENT
    assert MAX_PERSISTED_CHARACTERS >= 10 * MAX_CACHED_DOCUMENT

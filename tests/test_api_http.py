"""GraphQL over HTTP: media types, status codes, malformed bodies, limits, masking."""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
import sqlalchemy as sa
from graphql import get_introspection_query
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from api.limits import too_long
from ledger.store import Store
from tests.service import Service, running
from tests.worlds import World

SIZE = "{ ledger { size } }"
JSON = "application/json; charset=utf-8"
RESPONSE = "application/graphql-response+json; charset=utf-8"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """On SQLite alone: nothing here depends on the database."""
    with World(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as world:
        yield world


@pytest.fixture
def service(world: World, tmp_path: Path) -> Iterator[Service]:
    with running(world, tmp_path, max_body_bytes=4096) as service:
        yield service


def code(response: Any) -> str:
    (error,) = response.json()["errors"]
    assert error["extensions"]["requestId"] == response.headers["x-request-id"]
    return str(error["extensions"]["code"])


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json", JSON),
        ("application/json; charset=utf-8", JSON),
        ("application/graphql-response+json", RESPONSE),
        ("application/graphql-response+json; charset=utf-8, application/json; charset=utf-8", RESPONSE),
        ("application/graphql-response+json;q=0.5, application/json", JSON),
        ("text/html, application/graphql-response+json;q=0.9, */*;q=0.1", RESPONSE),
    ],
)
def test_answer_is_in_the_type_asked_for(accept: str | None, content_type: str, service: Service) -> None:
    """The better of the two types; JSON when the client does not say."""
    headers = {"accept": accept} if accept is not None else {}
    response = service.post({"query": SIZE}, **headers)
    assert (response.status_code, response.headers["content-type"]) == (200, content_type)
    assert response.json()["data"]["ledger"]["size"] == 1


@pytest.mark.parametrize(
    "accept", ["text/plain", "image/png", "application/json;q=0", "application/json;charset=latin1"]
)
def test_other_types_are_not_acceptable(accept: str, service: Service) -> None:
    response = service.post({"query": SIZE}, accept=accept)
    assert response.status_code == 406
    assert code(response) == "NOT_ACCEPTABLE"


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json; charset=latin1"],
)
def test_other_bodies_are_not_taken(content_type: str, service: Service) -> None:
    """What a foreign page can send without asking is no GraphQL request."""
    response = service.client.post(
        "/graphql", content=b'{"query":"{ ledger { size } }"}', headers={"content-type": content_type}
    )
    assert response.status_code == 415
    assert code(response) == "UNSUPPORTED_MEDIA_TYPE"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b'"x"',
        b"1",
        b"true",
        b"[]",
        b'[{"query":"{ ledger { size } }"}]',
        b"{",
        b"{}",
        b"\xff",
        b'{"query":null}',
        b'{"query":""}',
        b'{"query":1}',
        b'{"query":"{ ledger { size } }","variables":[]}',
        b'{"query":"{ ledger { size } }","variables":"x"}',
        b'{"query":"{ ledger { size } }","operationName":1}',
        b'{"query":"{ ledger { size } }","extensions":[]}',
        b'{"query":"\\ud800"}',
        b"[" * 4000,
    ],
)
@pytest.mark.parametrize("accept", ["application/json", "application/graphql-response+json"])
def test_malformed_body_is_a_bad_request(body: bytes, accept: str, service: Service) -> None:
    """400 with a typed error, never a 500."""
    response = service.post(body, accept=accept)
    assert response.status_code == 400
    assert code(response) == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{" * 1500, "GRAPHQL_PARSE_FAILED"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ ledger }", "GRAPHQL_VALIDATION_FAILED"),
        ("{ account { id } }", "GRAPHQL_VALIDATION_FAILED"),
        ("fragment f on Query { ledger { size } }", "GRAPHQL_VALIDATION_FAILED"),
        ("type A { b: Int }", "GRAPHQL_VALIDATION_FAILED"),
        ("query($n: Int!) { entries(first: $n) { nodes { id } } }", "BAD_USER_INPUT"),
    ],
)
def test_document_that_cannot_run_is_told(query: str, expected: str, service: Service) -> None:
    """400 in GraphQL's own type, 200 for clients that know only JSON; no data."""
    response = service.post({"query": query}, accept="application/graphql-response+json")
    assert response.status_code == 400
    assert "data" not in response.json()
    assert response.json()["errors"][0]["extensions"]["code"] == expected
    assert service.post({"query": query}, accept="application/json").status_code == 200


def test_suggestions_are_off(service: Service) -> None:
    """An error does not spell the schema out."""
    text = service.post({"query": "{ ledgr { size } account(idd: 1) { rolle } }"}).text
    assert "Did you mean" not in text
    variables: Any = {"input": {"operation": []}}
    document = "mutation($input: OperationsSubmitInput!) { operationsSubmit(input: $input) { results { seq } } }"
    assert "Did you mean" not in service.post({"query": document, "variables": variables}).text


def test_one_of_several_operations_is_named(service: Service) -> None:
    """Which one to run is never guessed."""
    document = "query A { ledger { size } } query B { ledger { name } }"
    assert service.ask(document)["errors"][0]["extensions"]["code"] == "OPERATION_NAME_REQUIRED"
    response = service.post({"query": document, "operationName": "B"})
    assert response.json()["data"] == {"ledger": {"name": "Operator"}}
    wrong = service.post({"query": document, "operationName": "C"}, accept="application/graphql-response+json")
    assert (wrong.status_code, code(wrong)) == (400, "OPERATION_NAME_REQUIRED")


def test_get_is_for_queries(service: Service) -> None:
    """With variables and operation name in the query string; a mutation is refused with what to use."""
    document = "query A($n: Int) { assets(first: $n) { nodes { code } } } query B { ledger { size } }"
    params = {"query": document, "variables": '{"n": 1}', "operationName": "A"}
    assert service.client.get("/graphql", params=params).json()["data"] == {"assets": {"nodes": []}}
    mutation = "mutation { operationsSubmit(input: { operations: [] }) { results { seq } } }"
    response = service.client.get("/graphql", params={"query": mutation})
    assert (response.status_code, response.headers["allow"], code(response)) == (405, "POST", "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize(
    "query_string", ["", "query=", "query={ledger{size}}&variables=x", "query={ledger{size}}&variables=[]", "query=%ff"]
)
def test_malformed_query_string_is_a_bad_request(query_string: str, service: Service) -> None:
    response = service.client.get(f"/graphql?{query_string}", headers={"accept": "application/json"})
    assert response.status_code == 400
    assert code(response) == "BAD_REQUEST"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_not_allowed(method: str, service: Service) -> None:
    response = service.client.request(method, "/graphql")
    assert (response.status_code, response.headers["allow"], code(response)) == (405, "GET, POST", "METHOD_NOT_ALLOWED")


def chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // 1000):
        yield b" " * 1000


def test_body_is_bounded(service: Service) -> None:
    """By what it says it is, and by what it turns out to be."""
    for body in (b" " * 5000, chunks(5000)):
        response = service.client.post("/graphql", content=body, headers={"content-type": "application/json"})
        assert (response.status_code, code(response)) == (413, "BODY_TOO_LARGE")
    assert service.post({"query": SIZE + " " * 3000}).status_code == 200


def test_depth_is_bounded(world: World, tmp_path: Path) -> None:
    """Fields are counted through fragments; introspection has a bound of its own."""
    with running(world, tmp_path, max_depth=5) as service:
        assert "errors" not in service.ask("{ assets { nodes { program { expiry { after } } } } }")
        plain = "{ assets { edges { node { program { expiry { after } } } } } }"
        fragment = "fragment a on Asset { program { expiry { after } } }"
        for deep in (plain, f"{{ assets {{ edges {{ node {{ ...a }} }} }} }} {fragment}"):
            assert "6 fields deep, at most 5" in service.ask(deep)["errors"][0]["message"]
        assert "errors" not in service.ask(get_introspection_query(input_value_deprecation=True))


def test_aliases_are_bounded(service: Service) -> None:
    """30 in a document by default, fragments counted wherever they are spread."""
    fields = " ".join(f"a{i}: ledger {{ size }}" for i in range(30))
    assert "errors" not in service.ask(f"{{ {fields} }}")
    answer = service.ask(f"{{ {fields} b: ledger {{ size }} }}")
    assert "31 aliases, at most 30" in answer["errors"][0]["message"]


def test_fragments_cannot_make_the_check_expensive(service: Service) -> None:
    """Fragments that spread each other twice, forty levels deep, and fragments in a circle."""
    levels = " ".join(f"fragment f{i} on Query {{ ...f{i + 1} ...f{i + 1} }}" for i in range(40))
    answer = service.ask(f"{{ ...f0 }} {levels} fragment f40 on Query {{ a: ledger {{ size }} }}")
    assert "errors" in answer or answer["data"]["a"]["size"] == 1
    circle = "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }"
    assert service.ask(circle)["errors"][0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"


def test_tokens_are_bounded(world: World, tmp_path: Path) -> None:
    """A long document is refused while it is read."""
    with running(world, tmp_path) as service:
        answer = service.ask("{" + " ledger { size }" * 600 + "}")
        assert answer["errors"][0]["extensions"]["code"] == "GRAPHQL_PARSE_FAILED"


@pytest.mark.parametrize(
    ("page", "cost"),
    [("", 161), ("(first: 100)", 801), ("(last: 3)", 25), ("(first: null)", 161), ("(first: -1)", 9)],
)
def test_cost_is_bounded(page: str, cost: int, world: World, tmp_path: Path) -> None:
    """Fields count once for every item of the pages around them; the refusal names cost and limit."""
    document = f"{{ entries{page} {{ nodes {{ seq kind postings {{ accountId asset amount lastDay }} }} }} }}"
    with running(world, tmp_path, max_cost=cost) as service:
        assert service.error_code(document) in {"UNAUTHENTICATED", "BAD_USER_INPUT"}
    with running(world, tmp_path, max_cost=cost - 1) as service:
        assert f"costs {cost}, at most {cost - 1}" in service.ask(document)["errors"][0]["message"]


def test_cost_leaves_room_for_a_page_of_everything(world: World, tmp_path: Path) -> None:
    """A hundred entries with all their fields are asked for at once; pages of pages of pages are not."""
    everything = "seq hash prev time at kind actorId operationId signatures { key sig } document "
    everything += "postings { accountId asset amount lastDay }"
    supply = "supply { issued } programs { nodes { id } }"
    costly = [
        "{ " + " ".join(f"a{i}: assets(first: 100) {{ nodes {{ {supply} }} }}" for i in range(30)) + " }",
        "query($n: Int = 100) { assets(first: $n) { nodes { programs(first: $n) { nodes { id } } } } }",
        "{ " + " ".join(f"a{i}: __schema {{ types {{ name }} }}" for i in range(6)) + " }",
        "{ ...a } fragment a on Query { assets(first: 100) { nodes { programs(first: 100) { nodes { id } } } } }",
    ]
    with running(world, tmp_path) as service:
        page = f"{{ entries(first: 100) {{ edges {{ cursor node {{ {everything} }} }} nodes {{ {everything} }} }} }}"
        assert service.error_code(page) == "UNAUTHENTICATED"
        for document in costly:
            assert "at most 10000" in service.ask(document)["errors"][0]["message"], document


def test_fields_of_one_name_are_bounded_before_they_are_compared(service: Service) -> None:
    """GraphQL compares each with each, on every level: 490 of them took a second."""
    documents = {
        "side by side": "{ledger{" + "origin " * 200 + "}}",
        "one below another": "{" + ("ledger{" + "checkpoint{size size size}" * 10 + "}") * 10 + "}",
        "in fragments": "{" + "...f " * 30 + "} fragment f on Query { ledger { origin } }",
        "in a fragment nobody spreads": "{ledger{size}} fragment f on Query {" + "ledger{origin}" * 200 + "}",
    }
    for name, document in documents.items():
        started = time.perf_counter()
        answer = service.ask(document)
        assert "each is compared with each" in answer["errors"][0]["message"], name
        assert time.perf_counter() - started < 0.5, name
    assert "errors" not in service.ask("{" + "ledger{origin}" * 20 + "}")


def test_lists_are_bounded(service: Service) -> None:
    """In variables before they are looked at, and in a document before it is validated."""
    document = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    with_lists = [{"ids": ["x"] * 1001}, {"ids": [["x"] * 600] * 600}, {"other": {"deep": [{"list": [0] * 1001}]}}]
    for variables in with_lists:
        assert too_long(variables) is not None
    assert too_long({"ids": ["x"] * 1000}) is None
    response = service.post({"query": document, "variables": {"ids": [1] * 1001}})
    assert (response.status_code, code(response)) == (413, "VARIABLES_TOO_LARGE")
    assert "1001 items, at most 1000" in response.json()["errors"][0]["message"]
    literal = f"{{ nodes(ids: [{'1 ' * 1001}]) {{ id }} }}"
    assert "a list of 1001 items, at most 1000" in service.ask(literal)["errors"][0]["message"]


def test_fields_of_many_objects_are_read_together(world: World, tmp_path: Path) -> None:
    """One question for the supplies, programs or balances of a page, whatever its length; none is kept."""
    shop = world.add_merchant()
    for i in range(30):
        world.add_asset(shop, f"COIN{i}")
    members = world.add_members(10)
    for i, member in enumerate(members):
        world.grant(shop, f"COIN{i}", member, 10 + i)
    begun: list[object] = []

    def note(connection: object) -> None:
        begun.append(connection)

    assets = "{ assets(first: 30) { nodes { code supply { issued } program { version } } } }"
    balances = 'balances { asset total } b: balances(asset: "COIN3") { total }'
    with running(world, tmp_path) as service:
        token = service.sign_in(world.operator)
        sa.event.listen(Engine, "begin", note)
        try:
            found = service.query(assets)["assets"]["nodes"]
            assert len(begun) == 3
            begun.clear()
            held = service.query(f"{{ accounts(role: MEMBER) {{ nodes {{ {balances} }} }} }}", token=token)
            assert len(begun) == 3  # the session's keys, the accounts, their balances
        finally:
            sa.event.remove(Engine, "begin", note)
    supplies = {node["code"]: (node["supply"]["issued"], node["program"]["version"]) for node in found}
    assert supplies == {f"COIN{i}": (10 + i if i < 10 else 0, 1) for i in range(30)}
    assert [node["balances"] for node in held["accounts"]["nodes"]] == [
        [{"asset": f"COIN{i}", "total": 10 + i}] for i in range(10)
    ]
    assert [node["b"] for node in held["accounts"]["nodes"]] == [[{"total": 13}] if i == 3 else [] for i in range(10)]


def test_answer_that_is_no_json_is_masked(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Text that cannot be written in UTF-8 is a fault of ours: logged whole, told as an internal error."""
    monkeypatch.setattr("api.queries.ledger_of", lambda *_: {"name": "\ud800 secret"})
    with caplog.at_level(logging.ERROR, "guerdon.api"):
        response = service.post({"query": "{ ledger { name } }"}, x_request_id="request-43")
    assert response.status_code == 200
    assert response.json()["data"] is None
    assert code(response) == "INTERNAL_ERROR"
    assert "secret" not in response.text
    assert "request-43" in caplog.text


def test_unexpected_is_masked_and_logged(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client hears the request id, under which the log has the traceback; never the text of the exception."""

    def fail(*_: object) -> None:
        raise RuntimeError("the secret of the database")

    monkeypatch.setattr(Store, "head", fail)
    with caplog.at_level(logging.ERROR, "guerdon.api"):
        response = service.post({"query": "{ ledger { size } }"}, x_request_id="request-42")
    assert response.status_code == 200
    (error,) = response.json()["errors"]
    assert error["message"] == "Internal error"
    assert error["path"] == ["ledger"]
    assert error["extensions"] == {"code": "INTERNAL_ERROR", "requestId": "request-42"}
    assert "secret" not in response.text
    assert "request-42" in caplog.text
    assert "the secret of the database" in caplog.text


def test_failure_outside_of_graphql_is_masked_too(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A 500 that says nothing but the request id."""

    def fail(*_: object) -> None:
        raise RuntimeError("the secret of the parser")

    monkeypatch.setattr("api.graphql_view.request_of", fail)
    response = service.post({"query": SIZE})
    assert response.status_code == 500
    assert code(response) == "INTERNAL_ERROR"
    assert "secret" not in response.text
    assert "the secret of the parser" in caplog.text


def test_validation_errors_are_not_masked(service: Service) -> None:
    """They are what a client needs."""
    answer = service.ask("{ ledger { sise } }")
    assert "sise" in answer["errors"][0]["message"]
    assert answer["errors"][0]["locations"] == [{"line": 1, "column": 12}]


def test_errors_of_one_document_are_not_shared_by_requests(service: Service) -> None:
    """The cached document's errors carry each request's own id."""
    answers = [service.post({"query": "{ nothing }"}, x_request_id=f"request-{i}") for i in range(2)]
    ids = [answer.json()["errors"][0]["extensions"]["requestId"] for answer in answers]
    assert ids == ["request-0", "request-1"]


def test_request_id_is_taken_if_it_is_fit_for_a_log(service: Service) -> None:
    """Else a new one is made; each answer has one."""
    assert service.post({"query": SIZE}, x_request_id="trace-0123.ab").headers["x-request-id"] == "trace-0123.ab"
    for unfit in ("x", "a b c d e f", "a" * 65, "<script>alert</script>"):
        assert service.post({"query": SIZE}, x_request_id=unfit).headers["x-request-id"] != unfit
    assert len(service.client.get("/healthz").headers["x-request-id"]) == 24


def test_answers_carry_security_headers(service: Service) -> None:
    """Nothing is guessed, framed or loaded from elsewhere."""
    headers = service.post({"query": SIZE}).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "script-src 'self';" in headers["content-security-policy"]


def test_health_and_readiness(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process lives; the ledger can be read, or 503 says that it cannot."""
    assert service.client.get("/healthz").json() == {"status": "ok"}
    assert service.client.get("/readyz").json() == {"status": "ok"}

    def fail(*_: object) -> None:
        raise OSError("gone")

    monkeypatch.setattr(Store, "head", fail)
    response = service.client.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"status": "unavailable"})
    assert service.client.get("/healthz").status_code == 200


def test_root_leads_to_the_api(service: Service) -> None:
    response = service.client.get("/", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (307, "/graphql")


def test_browser_is_given_graphiql(service: Service) -> None:
    """A page that loads only from here, and its files under a path with their version."""
    response = service.client.get("/graphql", headers={"accept": "text/html,*/*;q=0.8"})
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "http:" not in response.text
    assert "https:" not in response.text
    for line in response.text.splitlines():
        for attribute in ('src="', 'href="/'):
            if attribute in line:
                path = line.split(attribute.rstrip("/"), 1)[1].split('"', 1)[0]
                file = service.client.get(path)
                assert file.status_code == 200, path
                immutable = "immutable" in file.headers["cache-control"]
                assert immutable == path.startswith("/static/graphiql/")
    assert service.client.get("/static/graphiql/0/../../app.py").status_code == 404


def test_browser_is_given_the_example_wallet(service: Service) -> None:
    """Its page and everything that the page names come from this server, under the strict policy."""
    page = service.client.get("/wallet")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self';" in page.headers["content-security-policy"]
    named = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert {path.rpartition("/")[2] for path in named} >= {"wallet.css", "wallet.js"}
    for path in named:
        assert path.startswith(("/static/console/", "data:"))
        if path.startswith("/"):
            assert service.client.get(path).status_code == 200
    assert "<script>" not in page.text


def test_graphiql_can_be_turned_off(world: World, tmp_path: Path) -> None:
    """Then a browser is answered as any client."""
    with running(world, tmp_path, graphiql=False) as service:
        response = service.client.get("/graphql", headers={"accept": "text/html"})
        assert response.status_code == 406
        assert service.client.get("/static/console/graphiql.js").status_code == 404
        assert service.client.get("/wallet").status_code == 404


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**63), 2**63 - 1)
            | st.floats(allow_nan=False)
            | st.text(st.characters(codec="utf-8")),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["query", "variables", "operationName", "extensions", "x"]), inner, max_size=4
                )
            ),
            max_leaves=8,
        ).map(orjson.dumps),
    )
)
def test_no_body_is_an_internal_error(body: bytes, service: Service) -> None:
    """Whatever is sent, the answer is an answer or a typed refusal."""
    response = service.post(body)
    assert response.status_code in {200, 400, 413}
    assert "INTERNAL_ERROR" not in response.text


HEADERS = {
    "accept": ["*/*", "application/json", "application/graphql-response+json", "text/html", "text/event-stream", ""],
    "content-type": ["application/json", "application/json; charset=utf-8", "text/plain", "multipart/form-data", ""],
    "authorization": ["Bearer", "Bearer x", "Bearer a.b.c", "Basic eDp5", "Bearer eyJhbGciOiJub25lIn0.e30."],
    "x-request-id": ["request-42", "x", "%00"],
    "x-forwarded-for": ["198.51.100.1", ",", "x, 1", "[::1"],
}
PARAMETERS = ["query", "variables", "operationName", "extensions", "documentId", "x"]
PIECES = [SIZE, "{ledger{size}}", "{", "null", "[]", '{"n":1}', '"x"', '{"persistedQuery":1}', "mutation{__typename}"]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE"]),
    headers=st.fixed_dictionaries(
        {},
        optional={
            name: st.sampled_from(values) | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
            for name, values in HEADERS.items()
        },
    ),
    query=st.one_of(
        st.lists(
            st.tuples(st.sampled_from(PARAMETERS), st.sampled_from(PIECES) | st.text(max_size=20)), max_size=4
        ).map(lambda pairs: urlencode(pairs, errors="replace")),
        st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=60),
    ),
    body=st.binary(max_size=60) | st.sampled_from(PIECES).map(lambda piece: orjson.dumps({"query": piece})),
)
def test_no_request_is_an_internal_error(
    method: str, headers: dict[str, str], query: str, body: bytes, service: Service
) -> None:
    """Whatever stands in method, header fields, address and body: an answer or a typed refusal, and told as JSON."""
    response = service.client.request(method, f"/graphql?{query}", headers=headers, content=body)
    assert response.status_code in {200, 400, 401, 405, 406, 413, 415}, response.text
    assert "INTERNAL_ERROR" not in response.text
    assert "Traceback" not in response.text
    if method != "HEAD" and response.headers["content-type"] in {JSON, RESPONSE}:
        assert set(response.json()) <= {"data", "errors", "extensions"}

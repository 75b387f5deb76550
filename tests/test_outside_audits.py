"""Audits that nobody here wrote, against the real server: graphql-http's, Schemathesis's, and graphql-cop's list."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from graphql import get_introspection_query
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.graphql import nodes
from schemathesis.schemas import APIOperation

from tests.npm import npm_packages, run_node
from tests.service import Service, running
from tests.test_feed import serving
from tests.worlds import World

SCHEMA = Path(__file__).parent.parent / "schema.graphql"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A ledger with something in it, on SQLite alone: nothing here depends on the database."""
    folder = tmp_path_factory.mktemp("audits")
    with World(f"sqlite:///{folder / 'ledger.sqlite'}") as world:
        shop = world.add_merchant()
        world.add_asset(shop, "STAR")
        (alice,) = world.add_members(1)
        world.grant(shop, "STAR", alice, 100)
        yield world


GRAPHQL_HTTP = """
import { serverAudits } from 'graphql-http';
const results = [];
for (const { id, name, fn } of serverAudits({ url: process.argv[2], fetchFn: fetch })) {
  const { status, reason } = await fn();
  results.push({ id, name, status, reason });
}
console.log(JSON.stringify(results));
"""


@pytest.mark.timeout(600)
def test_every_audit_of_graphql_http_is_ok(world: World, tmp_path: Path) -> None:
    """GraphQL over HTTP, as its specification's own reference implementation audits servers."""
    folder = npm_packages("graphql-http@1.23.1", "graphql@16.15.0")
    with serving(world, tmp_path) as server:
        results = json.loads(run_node(folder, GRAPHQL_HTTP, f"http://127.0.0.1:{server.port}/graphql"))
    assert len(results) == 61
    assert [result for result in results if result["status"] != "ok"] == []


def texts(*examples: str) -> st.SearchStrategy[Any]:
    """Values of a scalar that is text: mostly some that fit, since one that does not ends the whole document."""
    fitting = st.sampled_from(examples)
    return st.one_of(*[fitting] * 7, st.text(st.characters(codec="utf-8"), max_size=20)).map(nodes.String)


def numbers() -> st.SearchStrategy[Any]:
    """Values of a scalar that is a whole number."""
    fitting = st.sampled_from([0, 1, 100, 2**53 - 1])
    return st.one_of(*[fitting] * 7, st.integers(-(2**70), 2**70)).map(nodes.Int)


SCALARS = {
    "Points": numbers(),
    "MinorUnits": numbers(),
    "UInt53": numbers(),
    "Time": texts("2026-03-02T12:00:00.000Z", "2999-12-31T23:59:59.999Z"),
    "Date": texts("2026-03-02", "9999-12-31"),
    "Hash": texts("0" * 64, "f" * 64),
    "SignedOperation": texts('{"op":{},"sigs":[]}', "{}"),
}
for name, strategy in SCALARS.items():
    schemathesis.graphql.scalar(name, strategy)


def operations() -> list[APIOperation[Any, Any, Any, Any]]:
    """Every field of the roots of queries and mutations; a subscription does not end."""
    loaded = schemathesis.graphql.from_path(SCHEMA)
    results: list[Any] = list(loaded.get_all_operations())
    found = [result.ok() for result in results]
    return [operation for operation in found if not operation.label.startswith("Subscription.")]


@pytest.fixture(scope="module")
def generous(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server whose limits refuse little, so that what is generated is executed."""
    limits: dict[str, Any] = {"max_tokens": 100_000, "max_depth": 100, "max_aliases": 10_000, "max_cost": 10_000_000}
    with running(world, tmp_path_factory.mktemp("generous"), **limits, rate_cost=0) as service:
        yield service


@pytest.mark.slow
@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.label)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(data=st.data())
def test_no_generated_document_is_an_internal_error(
    operation: APIOperation[Any, Any, Any, Any], data: st.DataObject, generous: Service
) -> None:
    """Schemathesis in GraphQL mode: any field of any depth, with any arguments, to the operator and to nobody."""
    body: Any = data.draw(operation.as_strategy()).body
    document = body if isinstance(body, str) else body["query"]
    token = data.draw(st.sampled_from([None, "operator"]))
    if token is not None:
        token = generous.sign_in(generous.world.operator)
    response = generous.post({"query": document}, token=token, accept="application/graphql-response+json")
    assert response.status_code in {200, 400}, (document, response.text)
    for error in response.json().get("errors", ()):
        assert error["extensions"]["code"] != "INTERNAL_ERROR", (document, response.text)
        assert "Traceback" not in error["message"]
        # Arguments are literals here, which validation refuses; so this would be about a value of ours.
        is_of_output = error["extensions"]["code"] == "BAD_USER_INPUT" and "cannot represent" in error["message"]
        assert not is_of_output, (document, response.text)


class Cop:
    """A server as graphql-cop sees it."""

    def __init__(self, service: Service) -> None:
        self._client = service.client

    def ask(self, query: str, **parameters: Any) -> httpx.Response:
        """A query, or with ``params`` in the address."""
        response: httpx.Response = self._client.post("/graphql", json={"query": query}, **parameters)
        return response

    def get(self, path: str = "/graphql", **parameters: Any) -> httpx.Response:
        """What GET is answered with."""
        response: httpx.Response = self._client.get(path, **parameters)
        return response

    def post(self, **parameters: Any) -> httpx.Response:
        """What POST of something else is answered with."""
        response: httpx.Response = self._client.post("/graphql", **parameters)
        return response


@pytest.fixture(scope="module")
def cop(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cop]:
    """A server as in production: without introspection and GraphiQL."""
    folder = tmp_path_factory.mktemp("cop")
    with running(world, folder, introspection=False, graphiql=False) as service:
        yield Cop(service)


@pytest.fixture(scope="module")
def open_cop(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cop]:
    """A server as it is without settings."""
    with running(world, tmp_path_factory.mktemp("open")) as service:
        yield Cop(service)


@pytest.fixture(params=["production", "default"])
def either(request: pytest.FixtureRequest) -> Cop:
    """Either of them."""
    found: Cop = request.getfixturevalue("cop" if request.param == "production" else "open_cop")
    return found


def refused(response: httpx.Response) -> bool:
    """Whether there is no data in an answer."""
    return "errors" in response.json() and "data" not in response.json()


def test_cop_alias_overloading(either: Cop) -> None:
    """101 aliases."""
    assert refused(either.ask("query cop { " + " ".join(f"alias{i}:__typename" for i in range(101)) + " }"))


def test_cop_batch_queries(either: Cop) -> None:
    """10 operations in an array: one request is one operation."""
    response = either.post(json=[{"query": "query cop { __typename }"}] * 10)
    assert response.status_code == 400
    assert isinstance(response.json(), dict)
    assert refused(response)


def test_cop_directive_overloading(either: Cop) -> None:
    """10 directives on a field: one error and not ten."""
    response = either.ask("query cop { __typename @aa@aa@aa@aa@aa@aa@aa@aa@aa@aa }")
    assert refused(response)
    assert len(response.json()["errors"]) == 1


def test_cop_field_duplication(either: Cop) -> None:
    """A field 500 times."""
    assert refused(either.ask("query cop { " + "__typename \n" * 500 + "}"))


CIRCLES = "__schema { types { " + "fields { type { " * 4 + "name" + " } }" * 4 + " } }"


def test_cop_circular_query_by_introspection(either: Cop) -> None:
    """Types of fields of types of fields, four times over."""
    assert refused(either.ask(f"query cop {{ {CIRCLES} }}"))


def test_cop_circular_fragment(either: Cop) -> None:
    """Fragments that spread each other."""
    fragments = "fragment A on __Schema { __typename ...B } fragment B on __Schema { ...A }"
    assert refused(either.ask(f"query {{ __schema {{ ...A }} }} {fragments}"))


def test_cop_field_suggestions(either: Cop) -> None:
    """No error spells out what there is, of introspection neither."""
    for query in ("query cop { __schema { directive } }", "{ ledgr { size } }", "{ ledger(a: 1) { siz } }"):
        response = either.ask(query)
        assert refused(response)
        assert "Did you mean" not in response.text


def test_cop_introspection(cop: Cop) -> None:
    """Off by setting."""
    assert refused(cop.ask(get_introspection_query()))
    assert refused(cop.ask("query cop { __schema { types { name fields { name } } } }"))


def test_cop_ide(cop: Cop) -> None:
    """Off by setting, wherever one might look for it."""
    words = ("graphiql.min.css", "GraphQL Playground", "GraphiQL", "graphql-playground")
    for path in ("/graphiql", "/playground", "/console", "/graphql"):
        text = cop.get(path, headers={"accept": "text/html"}).text
        assert not any(word in text for word in words), path


def test_cop_mutation_over_get(either: Cop) -> None:
    """Refused, and with what to use."""
    response = either.get(params={"query": "mutation cop {__typename}"})
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert refused(response)


def test_cop_urlencoded_post(either: Cop) -> None:
    """What a form of another site can send is no request: neither in the body nor in the address."""
    for parameters in (
        {"data": {"query": "query cop {__typename}"}},
        {"params": {"query": "query cop {__typename}"}},
        {"files": {"query": (None, "query cop {__typename}")}},
        {"content": '{"query":"query cop {__typename}"}', "headers": {"content-type": "text/plain"}},
    ):
        response = either.post(**parameters)
        assert response.status_code == 415
        assert refused(response)


def test_cop_query_over_get(either: Cop) -> None:
    """There, as the specification wants it; but a browser lends it no authority, and no other site may read it."""
    evil = {"cookie": "session=1", "origin": "https://evil.example"}
    response = either.get(params={"query": "{ viewer { id } }"}, headers=evil)
    assert response.json()["data"] == {"viewer": None}
    assert not any(name.startswith("access-control-") for name in response.headers)
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
    assert "set-cookie" not in response.headers


def test_cop_tracing(either: Cop) -> None:
    """No answer tells how it was made, asked or not."""
    for headers in ({}, {"x-apollo-tracing": "1", "apollo-federation-include-trace": "ftv1"}):
        answer = either.ask("query cop { __typename }", headers=headers).json()
        assert set(answer["extensions"]) == {"cost"}
        assert "trac" not in json.dumps(answer).lower()


def test_cop_unhandled_errors(either: Cop) -> None:
    """No error tells where in the program it was raised."""
    for query in ("qwerty cop { abc }", "{ a(b: $c) }", "{", "\x00", "query ($a: Nothing) { __typename }"):
        response = either.ask(query)
        assert refused(response)
        for error in response.json()["errors"]:
            assert set(error["extensions"]) <= {"code", "requestId"}
            assert not re.search(r"exception|stacktrace|traceback|\.py", json.dumps(error), re.IGNORECASE)

"""Properties: whatever value stands in a typed input, the answer is an answer or a typed refusal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    is_required_argument,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.schema import schema
from ledger.encoding import MAX_INTEGER
from ledger.operations import Grant, Redeem, SignedOperation
from tests.service import MUTATIONS, Service, running, typed_input
from tests.worlds import World, pay

TIMES = ["2026-03-02T12:00:00.000Z", "2026-02-30T12:00:00.000Z", "2026-03-02T12:00:00Z", "2999-12-31T23:59:59.999Z"]
TEXTS = ["", "STAR", "mem_" + "a" * 26, "A" * 22, "A" * 43, "A" * 86, "USD", "UTC", "../../etc", "\x00", "é", "a" * 300]
BAD_AMOUNTS = [0, -1, 1.0, 0.5, 1e300, True, "1", None, MAX_INTEGER + 1, -MAX_INTEGER - 1, 2**63 - 1, [], {}]


class Held:
    """A running service with alice, who holds 100 points, and bob. Nothing in these tests changes that."""

    def __init__(self, world: World, service: Service) -> None:
        self.world = world
        self.service = service
        self.merchant = world.add_merchant()
        world.add_asset(self.merchant, "STAR")
        self.alice, self.bob = world.add_members(2)
        world.grant(self.merchant, "STAR", self.alice, 100)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    folder: Path = tmp_path_factory.mktemp("properties")
    with World(f"sqlite:///{folder / 'ledger.sqlite'}") as world, running(world, folder) as service:
        yield Held(world, service)


def expected(answer: Any) -> bool:
    """Whether an answer has nothing unexpected in it."""
    return all(error["extensions"]["code"] != "INTERNAL_ERROR" for error in answer.get("errors", ()))


def anything() -> st.SearchStrategy[Any]:
    """Any JSON value that may stand where another is meant."""
    scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
    text = st.sampled_from(TEXTS + TIMES) | st.text(st.characters(codec="utf-8"), max_size=30)
    return scalars | text | st.lists(scalars, max_size=2) | st.dictionaries(text, scalars, max_size=2)


def values_of(kind: GraphQLInputType, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of an input type: mostly of its shape, with anything now and then, and unknown or missing fields."""
    if isinstance(kind, GraphQLNonNull):
        return values_of(kind.of_type, depth)
    if isinstance(kind, GraphQLList):
        return st.lists(values_of(kind.of_type, depth), max_size=3) | anything()
    if isinstance(kind, GraphQLInputObjectType):
        required: dict[str, st.SearchStrategy[Any]] = {}
        optional: dict[str, st.SearchStrategy[Any]] = {}
        for name, field in kind.fields.items():
            into = required if isinstance(field.type, GraphQLNonNull) and depth < 3 else optional
            into[name] = values_of(field.type, depth + 1)
        shaped = st.fixed_dictionaries(required, optional=optional | {"unknown": anything()})
        return st.one_of(st.fixed_dictionaries(required, optional=optional), shaped)
    if isinstance(kind, GraphQLEnumType):
        return st.sampled_from(list(kind.values)) | anything()
    if kind.name in {"Points", "MinorUnits", "UInt53", "Int"}:
        return st.sampled_from([1, 100, MAX_INTEGER]) | st.sampled_from(BAD_AMOUNTS)
    return st.sampled_from(TEXTS + TIMES) | anything()


@pytest.mark.parametrize("mutation", [mutation for mutation, _ in MUTATIONS.values()])
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_input_is_an_internal_error(mutation: str, data: st.DataObject, held: Held) -> None:
    """Every typed mutation, with values from its own type in the schema."""
    mutations = schema._schema.mutation_type
    assert mutations is not None
    kind = mutations.fields[mutation].args["input"].type
    given_input = data.draw(values_of(kind))
    document = (
        f"mutation($input: {kind}) {{ {mutation}(input: $input) {{ replayed userErrors {{ code path message }} }} }}"
    )
    response = held.service.post({"query": document, "variables": {"input": given_input}})
    assert response.status_code == 200
    answer = response.json()
    assert expected(answer), answer
    if "errors" not in answer:
        assert answer["data"][mutation]["userErrors"]


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_preview_is_an_internal_error(data: st.DataObject, held: Held) -> None:
    """The same for what is not signed yet."""
    query = schema._schema.query_type
    assert query is not None
    kind = query.fields["operationPreview"].args["input"].type
    assert isinstance(kind, GraphQLNonNull)
    fields = kind.of_type.fields
    name = data.draw(st.sampled_from(list(fields)))
    given_input = {name: data.draw(values_of(fields[name].type))}
    document = (
        "query($input: OperationPreviewInput!) { operationPreview(input: $input) { document userErrors { code } } }"
    )
    answer = held.service.post({"query": document, "variables": {"input": given_input}}).json()
    assert expected(answer), answer


def signed(held: Held) -> dict[str, tuple[SignedOperation, tuple[str | int, ...]]]:
    """Operations that would be recorded, and where their amount stands in the input."""
    grant = held.merchant.sign(
        Grant, asset="STAR", member=held.bob.account, amount=1, activity="goodwill", reference="r"
    )
    redeem = held.alice.sign(Redeem, asset="STAR", amount=1, merchant=held.merchant.account)
    return {
        "transferSubmit": (pay(held.alice, "STAR", 1, held.bob), ("recipients", 0, "amount")),
        "grantSubmit": (grant, ("amount",)),
        "redemptionSubmit": (redeem, ("amount",)),
    }


# A grant of nothing is an achievement.
@pytest.mark.parametrize(
    ("mutation", "amount"),
    [(mutation, amount) for mutation in ("transferSubmit", "redemptionSubmit") for amount in BAD_AMOUNTS]
    + [("grantSubmit", amount) for amount in BAD_AMOUNTS if amount is not None and amount != 0],
    ids=repr,
)
def test_bad_amount_is_refused(mutation: str, amount: Any, held: Held) -> None:
    """By the scalar (errors) or by the format (user errors); nothing is recorded either way."""
    operation, place = signed(held)[mutation]
    given_input = typed_input(operation)
    target: Any = given_input
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = amount
    kind = mutation[0].upper() + mutation[1:] + "Input"
    document = f"mutation($input: {kind}!) {{ {mutation}(input: $input) {{ replayed userErrors {{ code path }} }} }}"
    size = held.service.query("{ ledger { size } }")
    answer = held.service.ask(document, {"input": given_input})
    if "errors" in answer:
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_USER_INPUT"]
    else:
        (error,) = answer["data"][mutation]["userErrors"]
        assert error == {"code": "MALFORMED", "path": ["input", *(str(part) for part in place)]}
    assert held.service.query("{ ledger { size } }") == size


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    text=st.text(st.characters(codec="utf-8"), max_size=200) | st.sampled_from(['{"op":{},"sigs":[]}', "[]", "null"])
)
def test_no_signed_operation_is_an_internal_error(text: str, held: Held) -> None:
    """Each unreadable document of a bulk is a typed refusal of its own."""
    (result,) = held.service.submit_all([text])["results"]
    assert result["userErrors"][0]["code"] in {"MALFORMED", "NOT_CANONICAL", "TOO_LARGE"}


def arguments() -> list[tuple[str, str, GraphQLInputType]]:
    """Every argument of every query."""
    query = schema._schema.query_type
    assert query is not None
    return [
        (name, argument, found.type)
        for name, field in query.fields.items()
        for argument, found in field.args.items()
        if name != "operationPreview"
    ]


@pytest.mark.parametrize(("query", "argument", "kind"), arguments(), ids=str)
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_argument_is_an_internal_error(
    query: str, argument: str, kind: GraphQLInputType, data: st.DataObject, held: Held
) -> None:
    """Every argument of every query, signed in as the operator; the other arguments have values that fit."""
    fields = schema._schema.query_type
    assert fields is not None
    share = {"numerator": 95, "denominator": 100}
    by: dict[str, Any] = {"program": {"version": 1}, "refundable": {"operationId": "0" * 64}}
    needed_of: dict[str, Any] = {
        "account": str(held.alice.account),
        "amount": 1,
        "asset": "STAR",
        "by": by.get(query, {"seq": 0}),
        "code": "STAR",
        "currency": "USD",
        "from": "2026-03-01",
        "fromSize": 1,
        "id": "ent_0",
        "ids": ["ent_0"],
        "into": "STAR",
        "kind": "CARD",
        "name": "STAR>BEAN",
        "program": {
            "bands": [{"from": 0, "per": 100, "points": 1}],
            "currency": "USD",
            "expiry": {"never": True},
            "roundAmount": "NONE",
            "roundPoints": "DOWN",
            "timeZone": "UTC",
        },
        "periods": [{"through": "2026-03-01", "expectedRedemption": share}],
        "seq": 0,
        "standAlonePrice": {"amount": 1, "points": 1},
        "through": "2026-03-01",
        "value": "6001 2345",
    }
    variables = {
        name: needed_of[name] for name, found in fields.fields[query].args.items() if is_required_argument(found)
    }
    variables[argument] = data.draw(values_of(kind))
    declared = ", ".join(f"${name}: {fields.fields[query].args[name].type}" for name in variables)
    passed = ", ".join(f"{name}: ${name}" for name in variables)
    document = f"query({declared}) {{ {query}({passed}) {{ __typename }} }}"
    token = held.service.sign_in(held.world.operator)
    response = held.service.post({"query": document, "variables": variables}, token=token)
    assert response.status_code == 200
    assert expected(response.json()), response.json()

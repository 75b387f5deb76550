"""What a client is told of errors at execution: what it can act on as it is, a fault of ours masked."""

import logging
from enum import Enum
from typing import Any

import pytest
import strawberry
from graphql import GraphQLError, execute, parse
from strawberry.schema.config import StrawberryConfig

from api.answers import told_at_execution
from api.errors import ValueOutOfRangeError
from api.plain_lists import PlainListExecutor
from api.scalars import SCALARS, Points, UInt53


@strawberry.enum
class Colour(Enum):
    RED = "red"


def unfit(value: Any) -> Any:
    """What no resolver ought to return."""
    return value


@strawberry.type
class Query:
    @strawberry.field
    def count(self) -> int:
        return 5_000_000_000

    @strawberry.field
    def colour(self) -> Colour:
        return unfit("the secret of the cellar")  # type: ignore[no-any-return]

    @strawberry.field
    def colours(self) -> list[Colour]:
        return unfit(["the secret of the cellar"])  # type: ignore[no-any-return]

    @strawberry.field
    def points(self) -> Points:
        return Points(2**60)

    @strawberry.field
    def double(self, of: UInt53) -> UInt53:
        return UInt53(of * 2)


SCHEMA = strawberry.Schema(Query, config=StrawberryConfig(scalar_map=SCALARS))


class _Context:
    request_id = "request-1"


def told(query: str, **variables: Any) -> dict[str, Any]:
    """The only error of an answer, as a client is told it."""
    result: Any = execute(
        SCHEMA._schema,
        parse(query),
        root_value=Query(),
        context_value=_Context(),
        variable_values=variables,
        executor_class=PlainListExecutor,
    )
    (error,) = result.errors
    return told_at_execution(error, _Context())  # type: ignore[arg-type]


@pytest.mark.parametrize("query", ["{ count }", "{ colour }", "{ colours }"])
def test_value_that_cannot_be_told_is_a_fault_of_ours(query: str, caplog: pytest.LogCaptureFixture) -> None:
    """GraphQL's own error repeats the value: it goes into the log alone."""
    with caplog.at_level(logging.ERROR):
        error = told(query)
    assert error["message"] == "Internal error"
    assert error["extensions"] == {"code": "INTERNAL_ERROR", "requestId": "request-1"}
    assert error["path"][0] == query.strip("{ }")
    assert "cannot represent" in caplog.text
    assert "request-1" in caplog.text


def test_value_beyond_what_clients_read_exactly_is_told() -> None:
    """With what to do about it."""
    error = told("{ points }")
    assert error["extensions"]["code"] == ValueOutOfRangeError.CODE
    assert error["message"].startswith("this is beyond 2^53-1")


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("query($of: UInt53!) { double(of: $of) }", {"of": -1}),
        ("query($of: UInt53!) { double(of: $of) }", {"of": "1"}),
        ("query($of: UInt53 = 1) { double(of: $of) }", {"of": None}),
        ("{ double }", {}),
    ],
)
def test_argument_that_does_not_fit_is_the_clients_to_mend(
    query: str, variables: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong with a literal has been refused by validation."""
    error = told(query, **variables)
    assert error["extensions"]["code"] == "BAD_USER_INPUT"
    assert error["message"] != "Internal error"
    assert caplog.text == ""


def test_error_without_an_original_is_told_as_it_is() -> None:
    """Those that GraphQL raises before anything is executed."""
    told_so = told_at_execution(GraphQLError("no operation of that name"), _Context())  # type: ignore[arg-type]
    assert (told_so["message"], told_so["extensions"]["code"]) == ("no operation of that name", "BAD_USER_INPUT")

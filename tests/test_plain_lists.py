"""Lists completed in one go: the same answer as the executor gives field by field, errors and all."""

import enum
from typing import Any

import pytest
import strawberry
from graphql import execute_sync, parse, validate
from hypothesis import given, settings
from hypothesis import strategies as st
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from api import plain_lists
from api.plain_lists import PlainListExecutor


@strawberry.enum
class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@strawberry.type
class Leg:
    account: strawberry.ID
    amount: int
    lot: str | None


@strawberry.type
class Item:
    name: str
    count: int
    note: str | None
    colour: Colour | None
    legs: list[Leg]
    maybe_legs: list[Leg | None] | None
    first: Leg | None
    matrix: list[list[int]]

    @strawberry.field
    def shouted(self) -> str:
        return str(self.name).upper()

    @strawberry.field
    def repeated(self, times: int = 2) -> str:
        return str(self.name) * times


@strawberry.type
class Query:
    items: list[Item]
    maybe_items: list[Item | None] | None


SCHEMA = strawberry.Schema(Query)._schema

LEG_FIELDS = ["account", "amount", "lot", "l: lot", "__typename", "amount @include(if: $yes)", "lot @skip(if: $yes)"]
LEAF_FIELDS = ["name", "count", "note", "colour", "n: name", "t: __typename", "__typename", "matrix", "...part"]
LEAF_FIELDS += ["count @skip(if: $yes)", "... on Item { note }", "name @include(if: $no)"]
RESOLVED = ["shouted", "repeated", "repeated(times: 3)", "r: repeated(times: $times)"]


class Thing:
    """An object with some attributes, perhaps not all that its type has."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


WRONG = st.sampled_from([None, "text", 5, 2**40, 1.5, [], object(), ValueError("kept in a field")])


def value(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value that fits, mostly."""
    return st.one_of(right, right, right, right, right, right, WRONG)


def things(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects with these fields, of which one may be missing; now and then something else altogether."""
    whole = st.fixed_dictionaries(fields)
    some = st.tuples(whole, st.sampled_from(sorted(fields))).map(lambda x: {k: v for k, v in x[0].items() if k != x[1]})
    made = st.one_of(whole, whole, whole, whole, some)
    return made.map(lambda values: Thing(**values))


LEGS = things(
    account=value(st.text(max_size=3)),
    amount=value(st.integers(-(2**33), 2**33)),
    lot=value(st.none() | st.text(max_size=3)),
)
ITEMS = things(
    name=value(st.text(max_size=3)),
    count=value(st.integers(0, 9)),
    note=value(st.none() | st.text(max_size=3)),
    colour=value(st.none() | st.sampled_from(list(Colour))),
    legs=value(st.lists(LEGS, max_size=6)),
    maybe_legs=value(st.none() | st.lists(st.none() | LEGS, max_size=6)),
    first=value(st.none() | LEGS),
    matrix=value(st.lists(st.lists(st.integers(0, 3), max_size=2).map(tuple), max_size=2)),
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A document that asks for some fields of the items, sometimes for some that are not plain."""

    def legs() -> str:
        return "{ " + " ".join(draw(st.lists(st.sampled_from(LEG_FIELDS), min_size=1, max_size=4))) + " }"

    fields = draw(st.lists(st.sampled_from(LEAF_FIELDS), min_size=1, max_size=6))
    fields += [f"{name} {legs()}" for name in ("legs", "maybeLegs", "first", "again: legs") if draw(st.booleans())]
    fields += draw(st.lists(st.sampled_from(RESOLVED), max_size=draw(st.sampled_from([0, 0, 0, 1]))))
    body = " ".join(draw(st.permutations(fields)))
    lists = draw(st.sampled_from(["items", "maybeItems", "items maybeItems"])).split()
    selections = " ".join(f"{name} {{ {body} }}" for name in lists)
    variables = "($yes: Boolean = true, $no: Boolean = false, $times: Int = 1)"
    return f"query Q{variables} {{ {selections} }} fragment part on Item {{ name legs {legs()} }}"


def answer(document: str, root: Any, executor: type[StrawberryGraphQLCoreExecutionContext]) -> Any:
    result = execute_sync(SCHEMA, parse(document), root, executor_class=executor)
    return result.data, [error.formatted for error in result.errors or []]


@settings(max_examples=400, deadline=None)
@given(documents(), st.lists(ITEMS, max_size=8), st.none() | st.lists(st.none() | ITEMS, max_size=8))
def test_answer_is_the_executors(document: str, items: list[Any], maybe_items: Any) -> None:
    """Whatever is asked for, and whatever is wrong with what is there."""
    used = document if "...part" in document else document.partition(" fragment ")[0]
    if validate(SCHEMA, parse(used)):
        return  # two of the drawn fields contradict each other
    root = Thing(items=items, maybe_items=maybe_items)
    assert answer(used, root, PlainListExecutor) == answer(used, root, StrawberryGraphQLCoreExecutionContext)


def item(**changes: Any) -> Item:
    leg = Leg(account=strawberry.ID("a"), amount=1, lot=None)
    fields: dict[str, Any] = {"name": "x", "count": 1, "note": None, "colour": Colour.RED, "legs": [leg, leg]}
    fields |= {"maybe_legs": None, "first": leg, "matrix": [[1]]}
    return Item(**fields | changes)


class Counting(PlainListExecutor):
    """Counts the fields that are executed one by one."""

    executed = 0

    def execute_field(self, *arguments: Any) -> Any:
        """Count, and execute."""
        Counting.executed += 1
        return super().execute_field(*arguments)


PLAIN = "{ items { __typename name legs { amount account } first { lot } colour } }"


@pytest.mark.parametrize(
    ("document", "items", "executed"),
    [
        (PLAIN, [item()] * 50, 1),
        (PLAIN, [item()] * (plain_lists.LEAST_ITEMS - 1), 31),
        ("{ items { name shouted } }", [item()] * 50, 101),
        ("{ items { name repeated } }", [item()] * 50, 101),
    ],
    ids=["plain", "too few", "with a resolver", "with arguments"],
)
def test_fields_of_plain_lists_are_not_executed(document: str, items: list[Item], executed: int) -> None:
    """Only the list's own field is; of a short list, or one with a resolver in it, every one."""
    Counting.executed = 0
    data, errors = answer(document, Thing(items=items), Counting)
    assert errors == []
    assert len(data["items"]) == len(items)
    assert Counting.executed == executed


def test_null_where_none_may_be_is_told_at_its_place() -> None:
    """With the path of the item, and the nearest null that may be."""
    items = [item(), item(), item(legs=[Leg(account=strawberry.ID("a"), amount=None, lot=None)]), item()]  # type: ignore[arg-type]
    data, (error,) = answer(PLAIN.replace("items", "maybeItems"), Thing(maybe_items=items), PlainListExecutor)
    assert error["path"] == ["maybeItems", 2, "legs", 0, "amount"]
    assert data["maybeItems"][2] is None
    assert data["maybeItems"][3]["name"] == "x"

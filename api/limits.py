"""Limits of a document, checked before the rules of GraphQL and before any of it is executed.

The rules of GraphQL compare fields of one name with each other, and execution reads a page for every field around it:
both can be made expensive by a short document. So what is counted here is counted first, and a document that passes a
limit goes no further. Fragments are counted wherever they are spread. Introspection is left out of the depth, since
tools nest it deeply and graphql-core bounds it by a rule of its own.
"""

from collections.abc import Iterable
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    Visitor,
    is_interface_type,
    is_object_type,
    visit,
)
from msgspec import Struct

from api.paging import DEFAULT_PAGE, MAX_PAGE

MAX_LIST = 1_000
"""Items of one list, in variables or in a document: as many as operations in one ``operationsSubmit``."""

MAX_VALUES = 20_000
"""Values of all variables together: each is looked at before anything is refused by its type."""

MAX_FIELDS = 2_000
"""Fields and spreads of a document, with fragments counted wherever they are spread."""

MAX_SAME = 20
"""Fields with one response name in one place: GraphQL compares each with each of the others."""

_INTROSPECTION = {"__schema": 2_000, "__type": 200}
"""Fields of introspection and what each costs, whatever is asked of it."""


class Limits(Struct, frozen=True, kw_only=True):
    """What a document may be: how many tokens, how deeply nested, with how many aliases, how costly."""

    max_tokens: int
    max_depth: int
    max_aliases: int
    max_cost: int


def paged_fields(schema: GraphQLSchema) -> frozenset[str]:
    """Names of the fields that answer with a page."""
    found: set[str] = set()
    for kind in schema.type_map.values():
        if is_object_type(kind) or is_interface_type(kind):
            found.update(name for name, field in kind.fields.items() if "first" in field.args)
    return frozenset(found)


def limit_error(document: DocumentNode, limits: Limits, paged: frozenset[str]) -> GraphQLError | None:
    """The first limit that a document passes; ``paged`` are the fields that answer with pages."""
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    measure = _Measure(fragments, paged)
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode) and (text := _passed(measure.of(node.selection_set), limits)):
            return GraphQLError(f"{text}: ask in several requests", node)
    try:
        visit(document, _ShortLists())
        overlap = _Overlap(fragments)
        for node in document.definitions:
            if isinstance(node, OperationDefinitionNode | FragmentDefinitionNode):
                overlap.count([node.selection_set], frozenset())
    except GraphQLError as error:
        return error
    return None


class _Size(Struct, frozen=True):
    depth: int = 0
    aliases: int = 0
    cost: int = 0


def _passed(size: _Size, limits: Limits) -> str | None:
    if size.depth > limits.max_depth:
        return f"{size.depth} fields deep, at most {limits.max_depth}"
    if size.aliases > limits.max_aliases:
        return f"{size.aliases} aliases, at most {limits.max_aliases}"
    if size.cost > limits.max_cost:
        return (
            f"this costs {size.cost}, at most {limits.max_cost}, where each field counts once for every item of the "
            f"pages around it ({DEFAULT_PAGE} without first or last, {MAX_PAGE} for a variable)"
        )
    return None


class _Measure:
    """Depth, aliases and cost of selection sets, remembering those of fragments."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode], paged: frozenset[str]) -> None:
        self._fragments = fragments
        self._paged = paged
        self._known: dict[str, _Size] = {}

    def of(self, selections: SelectionSetNode | None) -> _Size:
        """Depth in fields, aliases, and cost of a selection set."""
        depth = aliases = cost = 0
        for node in selections.selections if selections is not None else ():
            if isinstance(node, FragmentSpreadNode):
                size = self._of_fragment(node.name.value)
            elif isinstance(node, FieldNode):
                size = self._of_field(node)
            else:
                size = self.of(getattr(node, "selection_set", None))
            depth, aliases, cost = max(depth, size.depth), aliases + size.aliases, cost + size.cost
        return _Size(depth, aliases, cost)

    def _of_field(self, node: FieldNode) -> _Size:
        below = self.of(node.selection_set)
        aliases = below.aliases + (node.alias is not None)
        if node.name.value in _INTROSPECTION:
            return _Size(0, aliases, _INTROSPECTION[node.name.value])
        return _Size(below.depth + 1, aliases, 1 + self._items(node) * below.cost)

    def _items(self, node: FieldNode) -> int:
        """How many items a field may answer with, as far as the document says; what a variable says is not known."""
        stated = [_stated_size(argument.value) for argument in node.arguments or () if argument.name.value in _SIZES]
        otherwise = DEFAULT_PAGE if node.name.value in self._paged else 1
        return max((size for size in stated if size is not None), default=otherwise)

    def _of_fragment(self, name: str) -> _Size:
        if name not in self._known:
            self._known[name] = _Size()  # a cycle ends here; a rule of GraphQL reports it
            fragment = self._fragments.get(name)
            self._known[name] = self.of(fragment.selection_set if fragment is not None else None)
        return self._known[name]


_SIZES = frozenset({"first", "last", "ids"})
"""Arguments that say how many items are asked for."""


def _stated_size(value: ValueNode) -> int | None:
    if isinstance(value, NullValueNode):
        return None
    if isinstance(value, ListValueNode):
        return len(value.values)
    if isinstance(value, IntValueNode) and len(value.value) <= 4:
        return max(int(value.value), 1)
    return MAX_PAGE


class _ShortLists(Visitor):
    """Refuses a document with a longer list in it."""

    def enter_list_value(self, node: ListValueNode, *_: Any) -> None:
        """Count one list."""
        if len(node.values) > MAX_LIST:
            raise GraphQLError(f"a list of {len(node.values)} items, at most {MAX_LIST}: send fewer at a time", node)


class _Overlap:
    """Counts fields as they fall together in an answer, where GraphQL compares each with each.

    Stopped as soon as there are too many: fragments that spread fragments stand for more fields than can be counted.
    """

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._counted = 0

    def count(self, sets: Iterable[SelectionSetNode], inside: frozenset[str]) -> None:
        """Count the fields of selection sets that fall together; raise :class:`GraphQLError` past a limit."""
        together: dict[str, list[tuple[FieldNode, frozenset[str]]]] = {}
        for selections in sets:
            self._gather(selections, inside, together)
        for name, fields in together.items():
            if len(fields) > MAX_SAME:
                text = f"{len(fields)} times {name} in one place, at most {MAX_SAME}: each is compared with each"
                raise GraphQLError(text, fields[0][0])
            spread = frozenset[str]().union(*(names for _, names in fields))
            below = [node.selection_set for node, _ in fields if node.selection_set is not None]
            if below:
                self.count(below, spread)

    def _gather(
        self,
        selections: SelectionSetNode,
        inside: frozenset[str],
        together: dict[str, list[tuple[FieldNode, frozenset[str]]]],
    ) -> None:
        for node in selections.selections:
            self._counted += 1
            if self._counted > MAX_FIELDS:
                text = f"more than {MAX_FIELDS} fields, with fragments counted wherever they are spread"
                raise GraphQLError(f"{text}: ask in several requests", node)
            if isinstance(node, FieldNode):
                name = node.alias.value if node.alias is not None else node.name.value
                together.setdefault(name, []).append((node, inside))
            elif isinstance(node, FragmentSpreadNode):
                fragment = self._fragments.get(node.name.value)
                if fragment is not None and node.name.value not in inside:  # a cycle ends here
                    self._gather(fragment.selection_set, inside | {node.name.value}, together)
            else:
                self._gather(node.selection_set, inside, together)  # type: ignore[attr-defined]


def too_long(variables: Any) -> str | None:
    """Why variables are too large to be looked at one by one; ``None`` when they are not.

    GraphQL coerces every item before anything can refuse the list, on the loop that serves everyone.
    """
    left = MAX_VALUES
    waiting = [variables]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            value = value.values()
        elif not isinstance(value, list):
            continue
        elif len(value) > MAX_LIST:
            return f"a list of {len(value)} items, at most {MAX_LIST}: send fewer at a time"
        left -= len(value)
        if left < 0:
            return f"more than {MAX_VALUES} values in variables: send fewer at a time"
        waiting.extend(value)
    return None

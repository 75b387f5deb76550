"""Limits of a document, checked before the rules of GraphQL and before any of it is executed.

The rules of GraphQL compare fields of one name with each other, and execution reads a page for every field around it:
both can be made expensive by a short document. So what is counted here is counted first, and a document that passes a
limit goes no further. Fragments are counted wherever they are spread. Introspection is left out of the depth, since
tools nest it deeply and graphql-core bounds it by a rule of its own.

An operation's cost is counted once for a document, unless a variable says how long a page is: then it is counted anew
with each request's variables, in time that grows with the document and not with the answer.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from graphql import (
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValueNode,
    VariableNode,
    Visitor,
    get_named_type,
    is_input_object_type,
    is_interface_type,
    is_object_type,
    value_from_ast_untyped,
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

MAX_DIRECTIVES_OF_ONE = 4
"""Directives on one field, fragment or operation: there are ``@skip`` and ``@include``, each good once."""

_INTROSPECTION = {"__schema": 2_000, "__type": 200}
"""Fields of introspection and what each costs, whatever is asked of it."""


class Limits(Struct, frozen=True, kw_only=True):
    """What a document may be: its tokens, depth in fields, aliases, directives, fields of the root, and cost."""

    max_tokens: int
    max_depth: int
    max_aliases: int
    max_directives: int
    max_root_fields: int
    max_cost: int


class Weight(Struct, frozen=True, kw_only=True):
    """What an operation of a document weighs; ``None`` is what only the variables tell.

    ``cost`` is that of its answer, ``writes`` how many signed operations a mutation hands in.
    """

    cost: int | None
    writes: int | None


class CostError(GraphQLError):
    """An operation that costs too much."""

    def __init__(self, cost: int, max_cost: int, node: OperationDefinitionNode) -> None:
        text = (
            f"this costs {cost}, at most {max_cost}, where each field counts once for every item of the pages around "
            f"it ({DEFAULT_PAGE} without first or last): ask in several requests"
        )
        super().__init__(text, node, extensions={"code": "MAX_COST_EXCEEDED", "cost": cost, "maxCost": max_cost})


class Scales:
    """Weighs the documents of a schema, and says which limit one passes."""

    def __init__(self, schema: GraphQLSchema, limits: Limits) -> None:
        self._limits = limits
        self._paged = paged_fields(schema)
        self._bulk = bulk_fields(schema)

    @property
    def max_cost(self) -> int:
        """What an operation may cost."""
        return self._limits.max_cost

    def refusal(self, document: DocumentNode) -> GraphQLError | None:
        """The first limit that a document passes, whatever its variables are."""
        fragments = _fragments(document)
        measure = _Measure(fragments, self._paged)
        try:
            for node in document.definitions:
                if isinstance(node, OperationDefinitionNode):
                    self._check(node, measure)
            visit(document, _Listings(self._limits.max_directives))
            overlap = _Overlap(fragments)
            for node in document.definitions:
                if isinstance(node, OperationDefinitionNode | FragmentDefinitionNode):
                    overlap.count([node.selection_set], frozenset())
        except GraphQLError as error:
            return error
        return None

    def _check(self, node: OperationDefinitionNode, measure: "_Measure") -> None:
        measure.uses_variables = False
        size, limits = measure.of(node.selection_set), self._limits
        for name, found, most in (
            ("fields deep", size.depth, limits.max_depth),
            ("aliases", size.aliases, limits.max_aliases),
            ("fields of the root", size.fields, limits.max_root_fields),
        ):
            if found > most:
                raise GraphQLError(f"{found} {name}, at most {most}: ask in several requests", node)
        if size.cost > limits.max_cost and not measure.uses_variables:
            raise CostError(size.cost, limits.max_cost, node)

    def weigh(self, document: DocumentNode, operation: OperationDefinitionNode) -> Weight:
        """What an operation weighs, as far as the document says. For documents that pass no limit."""
        fragments = _fragments(document)
        measure = _Measure(fragments, self._paged)
        cost = measure.of(operation.selection_set).cost
        writes: int | None = 0
        for field in _root_fields(operation.selection_set, fragments):
            if writes is not None:
                count = self._documents_in(field, None)
                writes = writes + count if count is not None else None
        return Weight(cost=None if measure.uses_variables else cost, writes=writes)

    def cost(self, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> int:
        """What an operation costs with its variables; raise :class:`CostError` when that is too much."""
        values = _defaults(operation) | dict(variables)
        cost = _Measure(_fragments(document), self._paged, values).of(operation.selection_set).cost
        if cost > self._limits.max_cost:
            raise CostError(cost, self._limits.max_cost, operation)
        return cost

    def writes(self, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any]) -> int:
        """How many signed operations a mutation hands in with its variables."""
        values = _defaults(operation) | dict(variables)
        fields = _root_fields(operation.selection_set, _fragments(document))
        return sum(self._documents_in(field, values) or 1 for field in fields)

    def _documents_in(self, field: FieldNode, values: Mapping[str, Any] | None) -> int | None:
        """How many signed operations a field of a mutation hands in; ``None`` when variables tell and are not given."""
        if field.name.value not in self._bulk:
            return 1
        given = next((argument.value for argument in field.arguments or () if argument.name.value == "input"), None)
        if isinstance(given, ObjectValueNode):
            given = next((part.value for part in given.fields if part.name.value == _DOCUMENTS), None)
            if isinstance(given, VariableNode):
                return _length(values.get(given.name.value)) if values is not None else None
        elif isinstance(given, VariableNode):
            if values is None:
                return None
            value = values.get(given.name.value)
            return _length(value.get(_DOCUMENTS)) if isinstance(value, dict) else 1
        return len(given.values) if isinstance(given, ListValueNode) else 1


_DOCUMENTS = "operations"
"""The field of an input that holds signed documents."""


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 1


def paged_fields(schema: GraphQLSchema) -> frozenset[str]:
    """Names of the fields that answer with a page."""
    found: set[str] = set()
    for kind in schema.type_map.values():
        if is_object_type(kind) or is_interface_type(kind):
            found.update(name for name, field in kind.fields.items() if "first" in field.args)
    return frozenset(found)


def bulk_fields(schema: GraphQLSchema) -> frozenset[str]:
    """Names of the mutations that take many signed documents at once."""
    found: set[str] = set()
    for name, field in schema.mutation_type.fields.items() if schema.mutation_type is not None else ():
        kind = get_named_type(field.args["input"].type) if "input" in field.args else None
        if is_input_object_type(kind) and _DOCUMENTS in kind.fields:
            found.add(name)
    return frozenset(found)


def _fragments(document: DocumentNode) -> dict[str, FragmentDefinitionNode]:
    return {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}


def _root_fields(
    selections: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], inside: frozenset[str] = frozenset()
) -> Iterator[FieldNode]:
    """The fields of a selection set, with those of fragments wherever they are spread."""
    for node in selections.selections:
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, FragmentSpreadNode):
            name = node.name.value
            if name in fragments and name not in inside:  # a cycle ends here
                yield from _root_fields(fragments[name].selection_set, fragments, inside | {name})
        else:
            yield from _root_fields(node.selection_set, fragments, inside)  # type: ignore[attr-defined]


def _defaults(operation: OperationDefinitionNode) -> dict[str, Any]:
    """What variables are when a request does not give them."""
    return {
        definition.variable.name.value: value_from_ast_untyped(definition.default_value)
        for definition in operation.variable_definitions or ()
        if definition.default_value is not None
    }


class _Size(Struct, frozen=True):
    fields: int = 0
    depth: int = 0
    aliases: int = 0
    cost: int = 0


class _Measure:
    """Fields, depth, aliases and cost of selection sets, remembering those of fragments.

    Without ``values`` a page whose size is a variable counts as the largest, and ``uses_variables`` says that there
    was one.
    """

    def __init__(
        self,
        fragments: dict[str, FragmentDefinitionNode],
        paged: frozenset[str],
        values: Mapping[str, Any] | None = None,
    ) -> None:
        self._fragments = fragments
        self._paged = paged
        self._values = values
        self._known: dict[str, tuple[_Size, bool]] = {}
        self.uses_variables = False

    def of(self, selections: SelectionSetNode | None) -> _Size:
        """Fields side by side, depth in fields, aliases, and cost of a selection set."""
        fields = depth = aliases = cost = 0
        for node in selections.selections if selections is not None else ():
            if isinstance(node, FragmentSpreadNode):
                size = self._of_fragment(node.name.value)
            elif isinstance(node, FieldNode):
                size = self._of_field(node)
            else:
                size = self.of(getattr(node, "selection_set", None))
            fields, depth = fields + size.fields, max(depth, size.depth)
            aliases, cost = aliases + size.aliases, cost + size.cost
        return _Size(fields, depth, aliases, cost)

    def _of_field(self, node: FieldNode) -> _Size:
        below = self.of(node.selection_set)
        aliases = below.aliases + (node.alias is not None)
        if node.name.value in _INTROSPECTION:
            return _Size(1, 0, aliases, _INTROSPECTION[node.name.value])
        own = _COSTLY.get(node.name.value, 1)
        return _Size(1, below.depth + 1, aliases, own + self._items(node) * below.cost)

    def _items(self, node: FieldNode) -> int:
        """How many items a field may answer with, as far as it is known."""
        stated = [self._stated(argument.value) for argument in node.arguments or () if argument.name.value in _SIZES]
        otherwise = DEFAULT_PAGE if node.name.value in self._paged else 1
        return max((size for size in stated if size is not None), default=otherwise)

    def _stated(self, value: ValueNode) -> int | None:
        if not isinstance(value, VariableNode):
            return _stated_size(value)
        self.uses_variables = True
        return _given_size(self._values.get(value.name.value)) if self._values is not None else MAX_PAGE

    def _of_fragment(self, name: str) -> _Size:
        if name not in self._known:
            self._known[name] = (_Size(), False)  # a cycle ends here; a rule of GraphQL reports it
            before, self.uses_variables = self.uses_variables, False
            fragment = self._fragments.get(name)
            size = self.of(fragment.selection_set if fragment is not None else None)
            self._known[name] = (size, self.uses_variables)
            self.uses_variables = before
        size, uses_variables = self._known[name]
        self.uses_variables |= uses_variables
        return size


_COSTLY = {"accountByIdentifier": 1_000, "identifierAdd": 1_000, "voucherByCode": 1_000, "programSimulate": 5_000}
"""Fields that count for more than one: whoever tries phone numbers in a row is soon stopped, and who simulates."""

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


def _given_size(value: Any) -> int | None:
    """How many items a variable asks for. What is no size is refused when variables are looked at."""
    if value is None:
        return None
    if isinstance(value, list):
        return len(value)
    return min(max(value, 1), _LARGEST_STATED) if isinstance(value, int) else MAX_PAGE


_LARGEST_STATED = 9_999


class _Listings(Visitor):
    """Refuses a document with a longer list in it, or with more directives."""

    def __init__(self, max_directives: int) -> None:
        super().__init__()
        self._max_directives = max_directives
        self._directives = 0

    def enter_list_value(self, node: ListValueNode, *_: Any) -> None:
        """Count one list."""
        if len(node.values) > MAX_LIST:
            raise GraphQLError(f"a list of {len(node.values)} items, at most {MAX_LIST}: send fewer at a time", node)

    def enter_directive(self, node: DirectiveNode, _key: Any, beside: Any, *_: Any) -> None:
        """Count one directive, among all and among those beside it."""
        if len(beside) > MAX_DIRECTIVES_OF_ONE:
            raise GraphQLError(f"{len(beside)} directives in one place, at most {MAX_DIRECTIVES_OF_ONE}", node)
        self._directives += 1
        if self._directives > self._max_directives:
            raise GraphQLError(f"more than {self._max_directives} directives: ask in several requests", node)


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

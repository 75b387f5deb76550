"""Limits of a document, checked while it is validated and before any of it is executed: depth and aliases.

Fragments are counted wherever they are spread, each measured once: a document cannot make the check itself expensive.
Introspection is left out of the depth, since tools nest it deeply and graphql-core bounds it by a rule of its own.
"""

from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
)
from msgspec import Struct

_INTROSPECTION = frozenset({"__schema", "__type"})


class Limits(Struct, frozen=True, kw_only=True):
    """What a document may be: how many tokens, how deeply nested, with how many aliases."""

    max_tokens: int
    max_depth: int
    max_aliases: int


class _Measure:
    """Depth and number of aliases of selection sets, remembering those of fragments."""

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._known: dict[str, tuple[int, int]] = {}

    def of(self, selections: SelectionSetNode | None) -> tuple[int, int]:
        """Depth in fields, and aliases, of a selection set."""
        depth = aliases = 0
        for node in selections.selections if selections is not None else ():
            if isinstance(node, FragmentSpreadNode):
                below, more = self._of_fragment(node.name.value)
            elif isinstance(node, FieldNode):
                below, more = self.of(node.selection_set)
                below = 0 if node.name.value in _INTROSPECTION else below + 1
                more += node.alias is not None
            else:
                below, more = self.of(getattr(node, "selection_set", None))
            depth, aliases = max(depth, below), aliases + more
        return depth, aliases

    def _of_fragment(self, name: str) -> tuple[int, int]:
        if name not in self._known:
            self._known[name] = (0, 0)  # a cycle ends here; another rule reports it
            fragment = self._fragments.get(name)
            self._known[name] = self.of(fragment.selection_set if fragment is not None else None)
        return self._known[name]


def limits_rule(limits: Limits) -> type[ValidationRule]:
    """The validation rule of some limits. It is made once: a new class for each request would defeat every cache."""

    class LimitsRule(ValidationRule):
        """Reports an operation that passes the limits."""

        def __init__(self, context: ValidationContext) -> None:
            super().__init__(context)
            self._measure = _Measure(context.document)

        def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
            """Measure one operation."""
            depth, aliases = self._measure.of(node.selection_set)
            if depth > limits.max_depth:
                text = f"{depth} fields deep, at most {limits.max_depth}: ask in several requests"
                self.report_error(GraphQLError(text, node))
            if aliases > limits.max_aliases:
                text = f"{aliases} aliases, at most {limits.max_aliases}: ask in several requests"
                self.report_error(GraphQLError(text, node))

    return LimitsRule

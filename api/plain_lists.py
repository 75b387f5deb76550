"""Lists of objects that are only read, completed in one go.

A page of a hundred entries has some two thousand fields, and executing one costs a few microseconds: its path, its
resolver's arguments, a look at whether the value is awaitable, the type it has to be completed to. Where a field is
*plain* (no resolver of its own, no arguments, no permissions: an attribute and nothing else) all of that is the same
for every item of the list. So it is done once: the fields asked for become a function from an object to a ``dict``.

What this gives up on is left to the executor, which does the whole list as always: a field that is not plain, an
attribute that is missing, a value that its type does not take, a null where none may be. So errors, their paths and
what they make null are the specification's (GraphQL, section 6.4).
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLID,
    GraphQLLeafType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLString,
    Undefined,
    is_leaf_type,
)
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.field import StrawberryField

_TEXT = (GraphQLString, GraphQLID)
"""Scalars that take every string as it is, as do those that say nothing of what they write."""

LEAST_ITEMS = 4
"""A shorter list is not worth the preparation."""

Complete = Callable[[Any], Any]
"""Completes a value to what JSON says of it; raises anything for what it does not take."""


class _NotPlainError(Exception):
    """Something in a selection takes the executor."""


class PlainListExecutor(StrawberryGraphQLCoreExecutionContext):
    """Strawberry's executor, but for lists of objects of which only plain fields are asked for."""

    def complete_list_value(  # noqa: PLR0917 - as the executor calls it
        self,
        return_type: GraphQLList[Any],
        field_details_list: Any,
        info: GraphQLResolveInfo[Any],
        path: Any,
        result: Any,
        position_context: Any,
    ) -> Any:
        """Complete a list, in one go if that can be done."""
        if isinstance(result, list | tuple) and len(result) >= LEAST_ITEMS and _is_of_objects(return_type):
            try:
                return self._completer(return_type, field_details_list, info, nullable=False)(result)
            except Exception:  # noqa: S110 - whatever it is, the executor meets it again and tells it properly
                pass
        return super().complete_list_value(return_type, field_details_list, info, path, result, position_context)

    def _completer(
        self, of: GraphQLOutputType, details: Any, info: GraphQLResolveInfo[Any], *, nullable: bool = True
    ) -> Complete:
        """The function that completes values of a type, as far as this field's selection asks for them."""
        if isinstance(of, GraphQLNonNull):
            return self._completer(of.of_type, details, info, nullable=False)
        if is_leaf_type(of):
            complete = _leaf(of)
        elif isinstance(of, GraphQLList):
            complete = _list(self._completer(of.of_type, details, info))
        elif isinstance(of, GraphQLObjectType):
            complete = self._object_completer(of, details, info)
        else:
            raise _NotPlainError
        return _or_null(complete) if nullable else complete

    def _object_completer(self, of: GraphQLObjectType, details: Any, info: GraphQLResolveInfo[Any]) -> Complete:
        collected = self.collect_subfields(of, details)
        if collected.new_defer_usages:
            raise _NotPlainError
        names: list[str] = []
        attributes: list[str] = []
        completers: list[Complete] = []
        constants: dict[str, str] = {}
        for name, field_details in collected.grouped_field_set.items():
            if field_details[0].node.name.value == "__typename":
                constants[name] = of.name
                continue
            field = of.fields[field_details[0].node.name.value]
            names.append(name)
            attributes.append(_attribute(field))
            completers.append(self._completer(field.type, field_details, info))
        is_type_of = of.is_type_of
        order = list(collected.grouped_field_set)
        values_of = _values(attributes)

        def complete(value: Any) -> dict[str, Any]:
            if is_type_of is not None and is_type_of(value, info) is not True:
                raise _NotPlainError
            parts = values_of(value)
            done = {name: each(part) for name, each, part in zip(names, completers, parts, strict=True)}
            return {name: done[name] if name in done else constants[name] for name in order} if constants else done

        return complete


def _is_of_objects(of: GraphQLList[Any]) -> bool:
    inner = of.of_type
    while isinstance(inner, GraphQLNonNull | GraphQLList):
        inner = inner.of_type
    return isinstance(inner, GraphQLObjectType)


def _attribute(field: GraphQLField) -> str:
    """The attribute behind a plain field."""
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    if not isinstance(definition, StrawberryField) or not definition.is_basic_field or field.args:
        raise _NotPlainError
    return definition.python_name


def _values(attributes: Sequence[str]) -> Callable[[Any], Sequence[Any]]:
    if not attributes:
        return lambda _value: ()
    get = attrgetter(*attributes)
    return get if len(attributes) > 1 else lambda value: (get(value),)


def _or_null(complete: Complete) -> Complete:
    return lambda value: None if value is None or value is Undefined else complete(value)


def _leaf(of: GraphQLLeafType) -> Complete:
    coerce = of.coerce_output_value

    def complete(value: Any) -> Any:
        done = coerce(value)
        if done is None or done is Undefined:
            raise _NotPlainError
        return done

    def complete_text(value: Any) -> Any:
        return value if type(value) is str else complete(value)

    return complete_text if of in _TEXT or coerce is GraphQLScalarType.serialize else complete


def _list(complete: Complete) -> Complete:
    def completed(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise _NotPlainError
        return [complete(item) for item in value]

    return completed

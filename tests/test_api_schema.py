"""The schema as a document: up to date, described, and in step with the core."""

import re
from enum import Enum
from pathlib import Path
from typing import get_args

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    build_schema,
    is_introspection_type,
    is_specified_scalar_type,
)

import api.inputs
from api.client import USER_ERRORS
from api.input_parts import AccountRole, AmountRounding, PointsRounding
from api.inputs import KIND_OF
from api.profiles import IdentifierAddedBy, MemberIdentifierKind
from api.rejections import SERVICE_CODES, USER_ERROR_TYPES, UserErrorCode
from api.schema import build_schema as build
from api.schema import print_sdl, schema
from api.types import OperationKind
from api.webhook_events import EVENTS
from api.webhooks import WebhookDeliveryStatus, WebhookDisabledReason, WebhookEventType
from ledger.operations import KINDS
from ledger.personal_data import IdentifierKind
from ledger.profiles import AddedBy
from ledger.state import Code
from ledger.terms import ROLE_PREFIXES
from ledger.webhooks import Reason, Status

FILE = Path(__file__).parent.parent / "schema.graphql"


def test_exported_schema_is_up_to_date() -> None:
    """After a change: `python -m api.schema > schema.graphql`, and read the difference."""
    assert FILE.read_text("utf-8") == print_sdl()


def test_exported_schema_is_a_schema() -> None:
    """Other tools can read it."""
    assert build_schema(FILE.read_text("utf-8")).query_type is not None


def test_everything_is_described() -> None:
    """Every type, field, argument, input field and value says what it means."""
    missing = []
    for name, kind in schema._schema.type_map.items():
        if is_introspection_type(kind) or is_specified_scalar_type(kind):
            continue
        if not kind.description and name not in {"Query", "Mutation"}:
            missing.append(name)
        if isinstance(kind, GraphQLEnumType):
            missing += [f"{name}.{value}" for value, found in kind.values.items() if not found.description]
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
            for field_name, field in kind.fields.items():
                if not field.description:
                    missing.append(f"{name}.{field_name}")
                arguments = getattr(field, "args", {})
                missing += [f"{name}.{field_name}({a})" for a, found in arguments.items() if not found.description]
    assert missing == []


def values_of(enumeration: type[Enum]) -> set[str]:
    return {str(member.value) for member in enumeration}


def test_enumerations_are_those_of_the_core() -> None:
    """Nothing the core says lacks a value."""
    assert values_of(UserErrorCode) == {str(code) for code in Code} | SERVICE_CODES
    assert values_of(WebhookEventType) == set(EVENTS)
    assert values_of(WebhookDisabledReason) == set(get_args(Reason))
    assert values_of(WebhookDeliveryStatus) == set(get_args(Status))
    assert values_of(MemberIdentifierKind) == set(get_args(IdentifierKind))
    assert values_of(IdentifierAddedBy) == set(get_args(AddedBy))
    assert values_of(OperationKind) == set(KINDS)
    assert values_of(AccountRole) == set(ROLE_PREFIXES)
    assert values_of(PointsRounding) == {"down", "half_up", "half_even", "up"}
    assert values_of(AmountRounding) == {"none", "whole_units"}


def test_client_asks_for_every_detail_of_a_refusal() -> None:
    """Each kind of user error that has more than all have is asked for it by name."""
    more = re.findall(r"\.\.\. on (\w+) \{ ([\w ]+) \}", USER_ERRORS)
    asked = {name: set(fields.split()) for name, fields in more}
    common, told = {"code", "message", "path", "retryable"}, {}
    for kind in USER_ERROR_TYPES:
        found = schema._schema.type_map[kind.__name__]
        assert isinstance(found, GraphQLObjectType)
        told[kind.__name__] = found.fields.keys() - common
    assert asked == {name: fields for name, fields in told.items() if fields}


def test_mutations_are_noun_verb_with_one_input() -> None:
    """`transferSubmit(input:)`, and a payload with user errors."""
    mutation = schema._schema.mutation_type
    assert mutation is not None
    for name, field in mutation.fields.items():
        verbs = ("Submit", "Open", "Create", "Update", "Delete", "Rotate", "Replay", "Test", "Erase", "Add", "Remove")
        assert name.endswith(verbs)
        assert list(field.args) == ["input"]
        input_type = getattr(api.inputs, field.args["input"].type.of_type.name, None)
        assert (input_type is None) == name.startswith(("webhook", "profile", "identifier"))
        kind = KIND_OF.get(input_type.__mro__[1]) if input_type is not None else None
        assert kind is None or f"`{kind}` document" in str(field.description)
        payload = field.type.of_type
        assert payload.name == name[0].upper() + name[1:] + "Payload"
        assert "userErrors" in payload.fields


def test_positions_and_counts_are_not_points() -> None:
    """A sequence number is no amount of an asset's units, and cannot be negative."""
    counted = {"seq", "size", "purchases", "members"}
    for name, kind in schema._schema.type_map.items():
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for field_name in counted & kind.fields.keys():
                assert str(kind.fields[field_name].type).rstrip("!") == "UInt53", f"{name}.{field_name}"


def test_a_second_schema_can_be_built() -> None:
    """Nothing is registered twice in a process."""
    assert build().as_str() == schema.as_str()

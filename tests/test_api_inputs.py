"""Inputs of the mutations: field for field what documents have, and back to the document that was signed."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLScalarType,
    coerce_input_value,
)
from msgspec import inspect
from strawberry.types import get_object_definition

from api import inputs
from api.inputs import ABSENT, ABSENT_OF, KIND_OF, TAGS, Signed, as_given, signed_document
from api.rejections import user_error
from api.schema import schema
from ledger.operations import KINDS, build_operation
from ledger.state import Code, Rejection
from tests.service import MUTATIONS, camel, typed_document

ORIGIN = "ledger.example/test"
MER, BEAN, MEM = "mer_" + "a" * 26, "mer_" + "b" * 26, "mem_" + "c" * 26
COMMON = {"guerdon": 1, "ledger": ORIGIN, "at": "2026-03-02T12:00:00.000Z", "nonce": "A" * 22}
SIGNATURES = [{"key": "k", "sig": "s"}]
ENVELOPE = {"guerdon", "kind", "ledger", "at", "nonce", "expires"}
SCALARS: dict[Any, set[str]] = {
    inspect.IntType: {"Points", "MinorUnits", "UInt53", "Int"},
    inspect.StrType: {"String", "ID", "Time", "Date", "Hash"},
    inspect.BoolType: {"Boolean"},
}


def input_type(kind: str) -> GraphQLInputObjectType:
    """The input of the mutation of a kind, in the schema."""
    found = schema._schema.type_map[MUTATIONS[kind][1]]
    assert isinstance(found, GraphQLInputObjectType)
    return found


def differences(place: str, said: Any, given: Any) -> Iterator[str]:
    """Where an input's type does not stand for a part of a document."""
    if isinstance(given, GraphQLNonNull):
        given = given.of_type
    if isinstance(said, inspect.UnionType):
        structs = [kind for kind in said.types if isinstance(kind, inspect.StructType)]
        if len(structs) > 1:
            yield from ways(place, structs, given)
            return
        (said,) = [kind for kind in said.types if not isinstance(kind, inspect.NoneType)]
    if isinstance(said, inspect.StructType):
        yield from fields(place, said, given)
    elif isinstance(said, inspect.VarTupleType):
        if not isinstance(given, GraphQLList) or not isinstance(given.of_type, GraphQLNonNull):
            yield f"{place}: {given} is no list of values"
        else:
            yield from differences(place, said.item_type, given.of_type)
    elif isinstance(said, inspect.LiteralType):
        values = set(given.values) if isinstance(given, GraphQLEnumType) else set()
        words = {str(value).upper() for value in said.values}
        if values != words | ({"OPERATOR"} if place == "open_account.role" else set()):
            yield f"{place}: {given} has {sorted(values)}, not {sorted(words)}"
    elif not isinstance(given, GraphQLScalarType) or given.name not in SCALARS[type(said)]:
        yield f"{place}: {given} for {type(said).__name__}"
    elif given.name == "Int" and said.le > 2**31 - 1:
        yield f"{place}: an Int is too small"


def fields(place: str, said: inspect.StructType, given: Any) -> Iterator[str]:
    """Differences between the fields of a part and those of the input that stands for it."""
    if not isinstance(given, GraphQLInputObjectType):
        yield f"{place}: {given} for {said.cls.__name__}"
        return
    ours = {camel(field.encode_name): field for field in said.fields if field.encode_name not in ENVELOPE}
    theirs = {name: found for name, found in given.fields.items() if name not in ENVELOPE | {"signatures"}}
    if ours.keys() != theirs.keys():
        yield f"{place}: {sorted(ours.keys() ^ theirs.keys())} stand on one side only"
    for name in ours.keys() & theirs.keys():
        inside = f"{place}.{ours[name].encode_name}"
        if isinstance(theirs[name].type, GraphQLNonNull) != ours[name].required:
            yield f"{inside}: required on one side only"
        yield from differences(inside, ours[name].type, theirs[name].type)


def ways(place: str, said: list[inspect.StructType], given: Any) -> Iterator[str]:
    """Differences between the parts of a union and the ways of a @oneOf input."""
    tagged = {camel(str(part.tag)): part for part in said}
    if not given.extensions["strawberry-definition"].is_one_of or tagged.keys() != given.fields.keys():
        yield f"{place}: {given} does not have the ways {sorted(tagged)}"
        return
    for way, part in tagged.items():
        chosen = given.fields[way].type
        if not isinstance(chosen, GraphQLScalarType):  # an expiry's ways are their counts
            yield from fields(f"{place}.{way}", part, chosen)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"genesis"}))
def test_input_has_the_fields_of_its_document(kind: str) -> None:
    """Names, what may be left out, lists, enumerations, and ranges that fit, all the way down."""
    said = inspect.type_info(KINDS[kind])
    assert list(differences(kind, said, input_type(kind))) == []


def parts(info: Any, seen: dict[Any, inspect.StructType]) -> None:
    """Collect the structs that a type is made of."""
    if isinstance(info, inspect.StructType):
        seen[info.cls] = info
        for field in info.fields:
            parts(field.type, seen)
    elif isinstance(info, inspect.VarTupleType):
        parts(info.item_type, seen)
    elif isinstance(info, inspect.UnionType):
        for kind in info.types:
            parts(kind, seen)


def test_absence_means_the_same_in_inputs_and_documents() -> None:
    """Every default of the core, wherever it stands, and no other; a name means one thing."""
    seen: dict[Any, inspect.StructType] = {}
    for kind in set(KINDS) - {"genesis"}:
        parts(inspect.type_info(KINDS[kind]), seen)
    defaults = {
        (field.encode_name, msgspec.to_builtins(field.default))
        if not isinstance(field.default, tuple)
        else (field.encode_name, ())
        for info in seen.values()
        for field in info.fields
        if field.default not in (None, msgspec.NODEFAULT)
    }
    said = {**ABSENT, **{name: value for fields in ABSENT_OF.values() for name, value in fields.items()}}
    assert defaults == {(name, tuple(value) if value == [] else value) for name, value in said.items()}


TERMS: dict[str, dict[str, Any]] = {
    "exchange": {
        "asset": "STAR",
        "bonus": {"block": 60_000, "points": 5_000},
        "claim": {"amount": 1, "currency": "USD", "debtor": MER, "points": 2, "round": "half_even"},
        "fee": {
            "amount": 6,
            "currency": "USD",
            "fixed": 30,
            "kept_by": BEAN,
            "maximum": 9_900,
            "points": 100,
            "round": "up",
        },
        "holder_cap": {"period": "year", "points": 10},
        "into": "BEAN",
        "maximum": 9,
        "minimum": 3,
        "off_step": "down",
        "rate": {"get": 1, "give": 3},
        "received": "retired",
        "step": 3,
        "total_cap": {"period": "ever", "points": 100},
        "type": "exchange",
    },
    "acceptance": {"asset": "STAR", "received": "kept", "type": "acceptance"},
    "earning": {"alert_below": 50, "asset": "STAR", "billing": "prepaid", "type": "earning"},
}


def agree(way: str) -> dict[str, Any]:
    more = {"notice_days": 30, "partner": BEAN, "starts": "2026-04-01T00:00:00.000Z", "version": 1}
    return {**COMMON, "actor": MER, "kind": "agree", "terms": TERMS[way], **more}


def refund(of: dict[str, Any]) -> dict[str, Any]:
    return {**COMMON, "actor": MER, "asset": "STAR", "kind": "refund", "of": of, "reference": "r1"}


DOCUMENTS = {
    **{f"agree {way}": agree(way) for way in TERMS},
    "refund purchase": refund({"amount": 5, "order": "o1", "type": "purchase"}),
    "refund redemption": refund({"amount": 5, "operation": "0" * 64, "type": "redemption"}),
    "refund exchange": refund({"amount": 5, "operation": "0" * 64, "type": "exchange"}),
    "correct": {
        **COMMON,
        "actor": MER,
        "amount": -5,
        "asset": "STAR",
        "kind": "correct",
        "member": MEM,
        "reason": "fraud",
        "reference": "c1",
    },
    "define_asset": {
        **COMMON,
        "actor": MER,
        "asset": "STAR",
        "kind": "define_asset",
        "name": "Stars",
        "scale": 0,
        "transfer_terms": {
            "fee": {"amount": 1, "currency": "USD", "points": 1, "round": "down"},
            "in_cap": {"period": "year", "points": 300_000},
            "maximum": 30_000,
            "minimum": 2,
            "out_cap": {"period": "year", "points": 150_000},
            "step": 1_000,
        },
        "transferable": True,
    },
}


def given(kind: str, document: dict[str, Any], **changes: Any) -> Signed:
    """What a mutation is given for a document, coerced as GraphQL does."""
    fields = {**typed_document(document), "signatures": SIGNATURES, **changes}
    coerced = coerce_input_value(fields, input_type(kind))
    made_of = getattr(inputs, MUTATIONS[kind][1])
    make: Any = get_object_definition(made_of, strict=True).from_input
    made: Signed = make(made_of, coerced, None)
    return made


@pytest.mark.parametrize("name", DOCUMENTS)
def test_input_is_turned_back_into_its_document(name: str) -> None:
    """Which is well formed, so that what is compared is what can be signed."""
    document = DOCUMENTS[name]
    build_operation(document)
    rebuilt, signatures = signed_document(given(document["kind"], document), ORIGIN)
    assert (rebuilt, signatures) == (document, SIGNATURES)


CAPTURE = {**COMMON, "actor": MER, "amount": 5, "hold": "hld_" + "a" * 26, "kind": "capture"}
OPENING = {**COMMON, "actor": MER, "kind": "open_account", "role": "member"}


@pytest.mark.parametrize(
    ("document", "changes"),
    [
        (CAPTURE, {"final": False}),
        (CAPTURE, {"final": None, "reference": None}),
        (OPENING, {"keys": [], "threshold": 1}),
        (
            DOCUMENTS["agree acceptance"],
            {
                "terms": {
                    "acceptance": {"asset": "STAR", "received": "KEPT", "minimum": 1, "step": 1, "maximum": None},
                }
            },
        ),
    ],
    ids=["default", "null", "empty list", "inside a way"],
)
def test_absence_may_be_spelled_out(document: dict[str, Any], changes: dict[str, Any]) -> None:
    """A form sends `false` and 1 where nothing was chosen; the document that was signed leaves them out."""
    assert signed_document(given(document["kind"], document, **changes), ORIGIN)[0] == document


def test_nothing_is_an_amount_where_it_has_to_be_said() -> None:
    """A grant leaves an amount of 0 out; a purchase of 0, and its lines, say so."""
    line = {"amount": 0, "category": "gift"}
    bought = {"amount": 0, "at": COMMON["at"], "lines": [line], "member": MEM, "order": "o1"}
    purchases = {**COMMON, "actor": MER, "asset": "STAR", "currency": "USD", "kind": "record_purchases"}
    document = purchases | {"purchases": [bought]}
    build_operation(document)
    assert signed_document(given("record_purchases", document), ORIGIN)[0] == document
    grant = {**COMMON, "activity": "photo", "actor": MER, "asset": "STAR", "kind": "grant", "member": MEM}
    grant |= {"reference": "r1", "score": 0}
    build_operation(grant)
    assert signed_document(given("grant", grant, amount=0), ORIGIN)[0] == grant


@pytest.mark.parametrize(
    ("name", "path", "place"),
    [
        ("agree exchange", ("terms", "into"), ["terms", "exchange", "into"]),
        ("agree exchange", ("terms", "fee", "kept_by"), ["terms", "exchange", "fee", "keptBy"]),
        ("agree earning", ("terms",), ["terms", "earning"]),
        ("agree earning", ("notice_days",), ["noticeDays"]),
        ("refund purchase", ("of", "amount"), ["of", "purchase", "amount"]),
        ("refund redemption", ("of", "operation"), ["of", "redemption", "operation"]),
        ("refund redemption", ("sigs[1]", "key"), ["signatures", "1", "key"]),
    ],
)
def test_path_of_a_refusal_leads_through_the_way_that_was_chosen(
    name: str, path: tuple[str, ...], place: list[str]
) -> None:
    """A document tells by its tag what the input tells by one more step."""
    document = DOCUMENTS[name]
    refusal = as_given(Rejection(Code.MALFORMED, "so", path), given(document["kind"], document))
    assert user_error(refusal, camel=True).path == place


def test_path_of_an_expiry_is_the_way_that_has_the_count() -> None:
    """`program.expiry.count` of the document is `program.expiry.yearEnd` of the input."""
    program = {
        "bands": [{"from": 0, "per": 1, "points": 1}],
        "currency": "USD",
        "expiry": {"after": "year_end", "count": 101},
        "round_amount": "none",
        "round_points": "down",
        "time_zone": "UTC",
    }
    document = {
        **COMMON,
        "actor": MER,
        "asset": "STAR",
        "kind": "publish_program",
        "program": program,
        "starts": "2026-04-01T00:00:00.000Z",
        "version": 1,
    }
    refusal = Rejection(Code.MALFORMED, "so", ("program", "expiry", "count"))
    found = as_given(refusal, given("publish_program", document))
    assert user_error(found, camel=True).path == ["program", "expiry", "yearEnd"]


def test_every_kind_has_inputs() -> None:
    """To be submitted and to be previewed; all kinds but genesis, which founds the ledger."""
    assert set(KIND_OF.values()) == set(KINDS) - {"genesis"}
    for fields_type in KIND_OF:
        name = fields_type.__name__.removesuffix("Fields")
        assert {f"{name}SubmitInput", f"{name}PreviewInput"} <= {kind.__name__ for kind in fields_type.__subclasses__()}
    previews = schema._schema.type_map["OperationPreviewInput"]
    assert isinstance(previews, GraphQLInputObjectType)
    typed = {found.type.name for name, found in previews.fields.items() if name != "document"}
    assert typed == {f"{kind.__name__.removesuffix('Fields')}PreviewInput" for kind in KIND_OF}


def test_tags_are_those_of_the_unions_in_documents() -> None:
    """No union of documents is without its @oneOf."""
    seen: dict[Any, inspect.StructType] = {}
    for operation in KINDS.values():
        parts(inspect.type_info(operation), seen)
    found = {
        field.encode_name: str(part.tag_field)
        for info in seen.values()
        for field in info.fields
        if isinstance(field.type, inspect.UnionType)
        for part in field.type.types
        if isinstance(part, inspect.StructType) and part.tag is not None
    }
    assert found == TAGS

"""The JSON Schema of the program language, made from the types that decode programs and from what says what they mean.

It is draft 2020-12, and what ``GET /program.schema.json`` and ``guerdon program schema`` give, for editors and forms.
Types, ranges and names are all in it; rules between parts (bands that rise, tiers that exist) are not: those
:func:`ledger.program_terms.check_program` knows, and ``guerdon program check`` says where one is broken.
"""

import re
from functools import cache
from typing import Any

import msgspec
from strawberry.types import get_object_definition

from api.input_parts import CapInput
from api.program_inputs import ExpiryInput, ProgramRulesInput
from ledger.program_terms import Program
from ledger.terms import FORMS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MEDIA_TYPE = "application/schema+json"
PATH = "/program.schema.json"

_WAYS = {"never": "NeverExpires", "days": "ExpiresAfterDays", "months": "ExpiresAfterMonths"}
_WAYS |= {"year_end": "ExpiresAtYearEnd", "months_end": "ExpiresAtMonthEnd"}
_WAYS |= {"membership_year_end": "ExpiresAtMembershipYearEnd", "inactivity": "ExpiresAfterInactivity"}
"""The definition that each way of the input for an expiry stands for."""

_SENTENCES = {form.__metadata__[0].pattern: sentence for form, sentence in FORMS.items()}


@cache
def program_schema() -> bytes:
    """The schema of :class:`ledger.program_terms.Program`, as indented JSON; the same bytes each time."""
    (reference,), definitions = msgspec.json.schema_components([Program], ref_template="#/$defs/{name}")
    told = _descriptions()
    for name, definition in definitions.items():
        definition["description"] = _plain(definition["description"])
        for field, found in definition.get("properties", {}).items():
            if (description := told.get((name, field))) is not None:
                found["description"] = description
    schema = {
        "$schema": DIALECT,
        "title": "A Guerdon program",
        **reference,
        "$defs": {name: _portable(definition) for name, definition in sorted(definitions.items())},
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"


def _portable(value: Any) -> Any:
    """A schema without what only some validators know, and without null: a document leaves out what is absent."""
    if isinstance(value, list):
        return [_portable(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: _portable(item) for name, item in value.items() if name != "discriminator"}
    if found.get("default", found) is None:
        del found["default"]
    kinds = found.get("anyOf")
    if isinstance(kinds, list):
        found["anyOf"] = [kind for kind in kinds if kind != {"type": "null"}]
        if len(found["anyOf"]) == 1:
            (only,) = found.pop("anyOf")
            found = {**only, **found}
    if isinstance(found.get("enum"), list):
        found["enum"] = [word for word in found["enum"] if word is not None]
    if isinstance(pattern := found.get("pattern"), str):
        if pattern in _SENTENCES:
            found.setdefault("description", _SENTENCES[pattern])
        found["pattern"] = pattern.replace(r"\Z", "$")  # of Python; JSON Schema has regular expressions of ECMA-262
    return found


def _descriptions() -> dict[tuple[str, str], str]:
    """What each field means, by the definition it is in and its name in documents: as the API's inputs say."""
    told: dict[tuple[str, str], str] = {}
    kinds: list[Any] = [ProgramRulesInput, CapInput]
    for kind in kinds:
        definition = get_object_definition(kind, strict=True)
        name = definition.name.removesuffix("Input")
        part = {"ProgramRules": "Program", "Factor": "Ratio"}.get(name, name)
        for field in definition.fields:
            told[part, field.graphql_name or field.python_name] = _plain(field.description or "")
            inner = field.type
            while hasattr(inner, "of_type"):
                inner = inner.of_type
            if get_object_definition(inner) is not None and inner not in kinds:
                kinds.append(inner)
    for field in get_object_definition(ExpiryInput, strict=True).fields:
        way = _WAYS[field.python_name]
        told[way, "months" if field.python_name == "inactivity" else "count"] = _plain(field.description or "")
    return told


def _plain(text: str) -> str:
    """A docstring or description as a person reads it in an editor: documents spell values in small letters."""
    text = re.sub(r"``([^`]+)``", r"`\1`", " ".join(text.split()))
    return re.sub(r"`([A-Z][A-Z_]+)`", lambda found: f"`{found[1].lower()}`", text)

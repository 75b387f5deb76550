"""Documents: from the text of a request to something that can be executed, or to what is wrong with it.

A document is parsed, held against the limits, validated and weighed once; what came of it is remembered by its text,
errors included. The rules are built once, too.

A client need not send the text each time. It may name a document by its SHA-256: automatically, after having sent text
and hash together once (Apollo's ``extensions.persistedQuery``), or with ``documentId`` (appendix A of GraphQL over
HTTP). The operator may list documents of its own clients, which are known from the beginning; and may allow no others.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
from graphql import (
    DocumentNode,
    GraphQLError,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    parse,
    specified_rules,
    validate,
)
from msgspec import Struct
from strawberry import Schema
from strawberry.schema.validation_rules.one_of import OneOfInputValidationRule

from api.errors import HttpError, PersistedQueryNotFoundError, told
from api.limits import Limits, Scales
from api.settings import SettingsError

MAX_CACHED_DOCUMENTS = 256
MAX_CACHED_DOCUMENT = 16_384
"""Longer documents, in characters, are parsed and validated anew each time, and not persisted."""

MAX_CACHED_CHARACTERS = 262_144
"""Of the documents that are kept ready: as a tree, a document takes some 200 times the memory of its text."""

MAX_PERSISTED_DOCUMENTS = 4_096
MAX_PERSISTED_CHARACTERS = 4_194_304
"""Of the documents that clients had kept by their hash, which are kept as text."""

MAX_ERRORS = 20
"""Errors told about one document; validation stops there."""

_TOO_DEEP = "the document is nested too deeply"

V = TypeVar("V")


class Recent(Generic[V]):
    """What was used last, by key: at most ``most`` values, of at most ``characters`` together."""

    def __init__(self, most: int, characters: int) -> None:
        self._most = most
        self._left = characters
        self._kept: OrderedDict[str, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> V | None:
        """The value of a key, which is now the one used last."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def keep(self, key: str, value: V, characters: int) -> None:
        """Keep a value of so many characters; what was not used for longest goes."""
        self._left -= characters
        if key in self._kept:
            self._left += self._kept.pop(key)[1]
        self._kept[key] = (value, characters)
        while self._left < 0 or len(self._kept) > self._most:
            self._left += self._kept.popitem(last=False)[1][1]


class Operation(Struct, frozen=True, kw_only=True):
    """An operation of a document, and what it weighs: see :class:`api.limits.Weight`."""

    node: OperationDefinitionNode
    kind: OperationType
    cost: int | None
    writes: int | None


class Prepared(Struct, frozen=True, kw_only=True):
    """A document ready to execute, or the errors that it has, as the client is told them."""

    document: DocumentNode | None
    operations: dict[str | None, Operation]
    errors: list[dict[str, Any]]

    def operation(self, name: str | None) -> Operation | None:
        """The operation to run: the named one, or the only one."""
        if name is not None:
            return self.operations.get(name)
        return next(iter(self.operations.values())) if len(self.operations) == 1 else None


class Documents:
    """Parses, checks, validates and weighs documents; remembers those seen last, by their text."""

    def __init__(self, schema: Schema, limits: Limits, *, introspection: bool = True) -> None:
        self._schema = schema._schema
        self._max_tokens = limits.max_tokens
        self.scales = Scales(self._schema, limits)
        hidden = () if introspection else (NoSchemaIntrospectionCustomRule,)
        self._rules = (*specified_rules, OneOfInputValidationRule, *hidden)
        self._ready: Recent[Prepared] = Recent(MAX_CACHED_DOCUMENTS, MAX_CACHED_CHARACTERS)

    def known(self, text: str) -> Prepared | None:
        """What came of a text before, if it is remembered."""
        return self._ready.get(text)

    def prepare(self, text: str) -> Prepared:
        """What comes of a text."""
        prepared = self._prepare(text)
        if len(text) <= MAX_CACHED_DOCUMENT:
            self._ready.keep(text, prepared, len(text))
        return prepared

    def _prepare(self, text: str) -> Prepared:
        try:
            document = parse(text, max_tokens=self._max_tokens)
        except GraphQLError as error:
            return _unprepared(error, "GRAPHQL_PARSE_FAILED")
        except RecursionError:
            return _unprepared(GraphQLError(_TOO_DEEP), "GRAPHQL_PARSE_FAILED")
        try:
            if (passed := self.scales.refusal(document)) is not None:
                return _unprepared(passed, "GRAPHQL_VALIDATION_FAILED")
            errors = validate(self._schema, document, self._rules, max_errors=MAX_ERRORS, hide_suggestions=True)
            found = [told(error, "GRAPHQL_VALIDATION_FAILED") for error in errors]
            operations = self._operations(document) if not found else {}
        except RecursionError:
            return _unprepared(GraphQLError(_TOO_DEEP), "GRAPHQL_VALIDATION_FAILED")
        return Prepared(document=document if not found else None, operations=operations, errors=found)

    def _operations(self, document: DocumentNode) -> dict[str | None, Operation]:
        operations: dict[str | None, Operation] = {}
        for node in document.definitions:
            if isinstance(node, OperationDefinitionNode):
                weight = self.scales.weigh(document, node)
                name = node.name.value if node.name else None
                operations[name] = Operation(node=node, kind=node.operation, cost=weight.cost, writes=weight.writes)
        return operations


def _unprepared(error: GraphQLError, code: str) -> Prepared:
    return Prepared(document=None, operations={}, errors=[told(error, code)])


class Reference(Struct, frozen=True, kw_only=True):
    """How a request says which document it means: its text, its id, its hash, or text and hash. Never nothing."""

    text: str | None = None
    document_id: str | None = None
    sha256: str | None = None


_SHA256 = re.compile(r"[0-9a-f]{64}")


class PersistedDocuments:
    """Documents that can be named instead of sent. ``listed`` are the operator's own, by hash and by other ids.

    With ``only_listed`` no others are executed; else clients may have theirs kept by sending text and hash together.
    """

    def __init__(self, listed: Mapping[str, str], *, only_listed: bool) -> None:
        self._listed = dict(listed)
        self._allowed = frozenset(listed.values()) if only_listed else None
        self._kept: Recent[str] = Recent(MAX_PERSISTED_DOCUMENTS, MAX_PERSISTED_CHARACTERS)

    def text(self, reference: Reference) -> str:
        """The document that is meant.

        Raise :class:`HttpError` when it is not allowed, :class:`PersistedQueryNotFoundError` when it is not known.
        """
        text = reference.text
        if text is None:
            return self._named(reference)
        if reference.document_id is not None:
            raise HttpError(400, "BAD_REQUEST", "give the document or its documentId, not both")
        if self._allowed is not None and text not in self._allowed:
            message = "this server runs only documents that its operator has listed"
            raise HttpError(403, "QUERY_NOT_IN_SAFELIST", message)
        if reference.sha256 is not None and sha256_of(text) != reference.sha256:
            raise HttpError(400, "BAD_REQUEST", "provided sha does not match query")
        return text

    def _named(self, reference: Reference) -> str:
        name = reference.sha256
        if reference.document_id is not None:
            name = reference.document_id.removeprefix("sha256:")
        assert name is not None
        text = self._listed.get(name) or self._kept.get(name)
        if text is not None:
            return text
        if self._allowed is not None:
            message = "this server runs only documents that its operator has listed"
            raise HttpError(403, "PERSISTED_QUERY_NOT_IN_LIST", message)
        raise PersistedQueryNotFoundError

    def keep(self, reference: Reference) -> None:
        """Keep a valid document that was sent with its hash."""
        text, sha256 = reference.text, reference.sha256
        if text is None or sha256 is None or self._allowed is not None or len(text) > MAX_CACHED_DOCUMENT:
            return
        self._kept.keep(sha256, text, len(text))


def reference_of(data: Mapping[str, Any]) -> Reference:
    """Which document the parameters of a request mean; raise :class:`HttpError` for what is none."""
    text, document_id = data.get("query"), data.get("documentId")
    if text is not None and (not isinstance(text, str) or not text):
        raise HttpError(400, "BAD_REQUEST", "query is a string with the GraphQL document")
    if document_id is not None and (not isinstance(document_id, str) or not document_id):
        raise HttpError(400, "BAD_REQUEST", "documentId is a string that names a document")
    extensions = data.get("extensions")
    persisted = extensions.get("persistedQuery") if extensions else None
    sha256 = _hash_in(persisted) if persisted is not None else None
    if text is None and document_id is None and sha256 is None:
        raise HttpError(400, "BAD_REQUEST", "query is a string with the GraphQL document")
    return Reference(text=text, document_id=document_id, sha256=sha256)


def _hash_in(persisted: Any) -> str:
    if not isinstance(persisted, dict) or persisted.get("version") != 1:
        raise HttpError(400, "BAD_REQUEST", "Unsupported persisted query version")
    sha256 = persisted.get("sha256Hash")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise HttpError(400, "BAD_REQUEST", "sha256Hash is the document's SHA-256 in 64 lower-case hexadecimal digits")
    return sha256


def sha256_of(text: str) -> str:
    """The SHA-256 of a document's text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_listed(path: Path | None, documents: Documents) -> dict[str, str]:
    """The documents an operator lists, by hash and by the ids of the list; raise :class:`SettingsError` for a bad one.

    A folder of ``.graphql`` files, a JSON object from ids to documents, or Apollo's manifest of persisted queries.
    """
    if path is None:
        return {}
    try:
        entries = _entries(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SettingsError(f"GUERDON_DOCUMENTS_FILE: {path} is no list of documents ({error})") from error
    listed: dict[str, str] = {}
    for name, text in entries:
        prepared = documents.prepare(text)
        if prepared.errors:
            problem = prepared.errors[0]["message"]
            raise SettingsError(f"GUERDON_DOCUMENTS_FILE: {name} in {path} cannot be executed: {problem}")
        for key in (name, sha256_of(text)):
            if listed.setdefault(key, text) != text:
                raise SettingsError(f"GUERDON_DOCUMENTS_FILE: {path} has two documents with the id {key}")
    return listed


def _entries(path: Path) -> list[tuple[str, str]]:
    if path.is_dir():
        files = sorted(path.rglob("*.graphql"))
        return [(str(file.relative_to(path)), file.read_text(encoding="utf-8")) for file in files]
    data = orjson.loads(path.read_bytes())
    if "operations" in data and not isinstance(data["operations"], str):
        entries = [(operation["id"], operation["body"]) for operation in data["operations"]]
    else:
        entries = list(data.items())
    if not all(isinstance(part, str) for entry in entries for part in entry):
        raise TypeError("ids and documents are strings")
    return [(name.removeprefix("sha256:"), text) for name, text in entries]

"""Keyset connections: pages that cost the same wherever they lie, with cursors that know which list they are of.

A cursor is opaque to clients: base64url of JSON ``[version, list and filters, key…]``. Used on another list, or with
other filters, it is refused (BAD_CURSOR) instead of answering from the wrong place. Pages have 20 items by default and
at most 100.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import strawberry

from api.errors import BadCursorError, BadInputError
from ledger.encoding import MAX_INTEGER, encode_base64url
from ledger.queries import Page

DEFAULT_PAGE = 20
MAX_PAGE = 100
MAX_CURSOR = 256
CURSOR_VERSION = 1

N = TypeVar("N")

First = Annotated[
    int | None, strawberry.argument(description=f"How many from the beginning, or after `after`: 1 to {MAX_PAGE}.")
]
After = Annotated[str | None, strawberry.argument(description="A cursor: what comes after it.")]
Last = Annotated[
    int | None, strawberry.argument(description=f"How many from the end, or before `before`: 1 to {MAX_PAGE}.")
]
Before = Annotated[str | None, strawberry.argument(description="A cursor: what comes before it.")]


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    """Relay's page information."""

    has_next_page: bool = strawberry.field(description="Whether there is more after this page.")
    has_previous_page: bool = strawberry.field(description="Whether there is more before this page.")
    start_cursor: str | None = strawberry.field(description="Cursor of the first item.")
    end_cursor: str | None = strawberry.field(description="Cursor of the last item.")


@strawberry.type(description="An item of a page.")
class Edge(Generic[N]):
    """Relay's edge."""

    cursor: str = strawberry.field(description="Where the item stands, for `after` and `before`.")
    node: N = strawberry.field(description="The item.")


@strawberry.type(description="A page of a list.")
class Connection(Generic[N]):
    """Relay's connection, with the items themselves beside their edges."""

    edges: list[Edge[N]] = strawberry.field(description="The items with their cursors.")
    nodes: list[N] = strawberry.field(description="The items.")
    page_info: PageInfo = strawberry.field(description="Where the page lies.")


class _LazyConnection(Connection[N]):
    """A connection whose edges are made when they are asked for: most ask for the items alone."""

    def __init__(self, nodes: list[N], page_info: PageInfo, cursors: Callable[[], list[str]]) -> None:
        self.nodes = nodes
        self.page_info = page_info
        self._cursors = cursors

    def __getattr__(self, name: str) -> Any:
        if name != "edges":
            raise AttributeError(name)
        pairs = zip(self._cursors(), self.nodes, strict=True)
        self.edges = [Edge(cursor=cursor, node=node) for cursor, node in pairs]
        return self.edges


class Window:
    """A page as asked for: what to fetch, and how to make a connection of what was fetched.

    ``name`` and ``filters`` say which list it is; ``shape`` gives the types of a key's parts, all ``int`` or ``str``.
    One row more than asked for is fetched, which tells whether there is more.
    """

    def __init__(
        self,
        name: str,
        filters: Sequence[Any],
        shape: tuple[type, ...],
        *,
        first: int | None,
        after: str | None,
        last: int | None,
        before: str | None,
    ) -> None:
        if first is not None and last is not None:
            raise BadInputError("give first or last, not both")
        self.size = _size("last", last) if last is not None else _size("first", first)
        self._list = hashlib.sha256(json.dumps([name, *filters]).encode()).hexdigest()[:12]
        self._shape = shape
        self._after, self._before = after, before
        self._from_end = last is not None
        self.page = Page(limit=self.size + 1, after=self._key(after), before=self._key(before), from_end=self._from_end)

    def connection(self, keys: Sequence[Any], nodes: Sequence[N]) -> Connection[N]:
        """The connection of the rows that :attr:`page` fetched, in ascending order, and their keys."""
        more = len(keys) > self.size
        if more:
            kept = slice(1, None) if self._from_end else slice(self.size)
            keys, nodes = keys[kept], nodes[kept]
        info = PageInfo(
            has_next_page=self._before is not None if self._from_end else more,
            has_previous_page=more if self._from_end else self._after is not None,
            start_cursor=self._cursor(keys[0]) if keys else None,
            end_cursor=self._cursor(keys[-1]) if keys else None,
        )
        return _LazyConnection(list(nodes), info, lambda: [self._cursor(key) for key in keys])

    def _cursor(self, key: Any) -> str:
        parts = key if isinstance(key, tuple) else (key,)
        return encode_base64url(json.dumps([CURSOR_VERSION, self._list, *parts], separators=(",", ":")).encode())

    def _key(self, cursor: str | None) -> Any:
        if cursor is None:
            return None
        if len(cursor) > MAX_CURSOR:
            raise BadCursorError
        try:
            version, name, *parts = json.loads(_decode(cursor))
        except (ValueError, TypeError, RecursionError):
            raise BadCursorError from None
        if version != CURSOR_VERSION or name != self._list or tuple(map(type, parts)) != self._shape:
            raise BadCursorError
        if not all(_can_be_key(part) for part in parts):
            raise BadCursorError
        return tuple(parts) if len(parts) > 1 else parts[0]


def _can_be_key(part: int | str) -> bool:
    """Whether a part of a key can be given to a database: no text with NUL or half a surrogate pair."""
    return part.isascii() and part.isprintable() if isinstance(part, str) else abs(part) <= MAX_INTEGER


def _decode(cursor: str) -> str:
    return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()


def _size(name: str, wanted: int | None) -> int:
    if wanted is None:
        return DEFAULT_PAGE
    if not 1 <= wanted <= MAX_PAGE:
        raise BadInputError(f"{name} is from 1 to {MAX_PAGE}")
    return wanted

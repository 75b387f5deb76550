"""What the schema's types are made of: fields, arguments and nodes, each with what it means."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import strawberry
from strawberry import Info

from api.context import Context

ApiInfo = Info[Context, None]
F = TypeVar("F", bound=Callable[..., Any])


def field(description: str) -> Any:
    """A plain attribute, with what it means."""
    return strawberry.field(description=description)


def resolved(description: str) -> Callable[[F], F]:
    """A field with a resolver, and what it means."""
    return cast("Callable[[F], F]", strawberry.field(description=description))


def argument(description: str) -> Any:
    """What an argument means, for ``Annotated``."""
    return strawberry.argument(description=description)


@strawberry.interface(description="Something with an id that says its type: `mem_…`, `ent_41`, `ast_STAR`.")
class Node:
    """Relay's node."""

    id: strawberry.ID = field("Identifies it in this ledger, for ever.")

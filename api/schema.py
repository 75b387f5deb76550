"""The GraphQL schema, assembled. ``python -m api.schema`` prints it as schema.graphql holds it."""

import sys

from strawberry import Schema
from strawberry.schema.config import StrawberryConfig

from api.mutations import Mutation
from api.partner_types import AGREEMENT_TERMS
from api.queries import Query
from api.rejections import USER_ERROR_TYPES
from api.scalars import SCALARS
from api.subscriptions import Subscription


def build_schema() -> Schema:
    """A schema of its own; the service has one."""
    config = StrawberryConfig(scalar_map=SCALARS)
    types = (*USER_ERROR_TYPES, *AGREEMENT_TERMS)
    return Schema(query=Query, mutation=Mutation, subscription=Subscription, types=types, config=config)


schema = build_schema()


def print_sdl() -> str:
    """The schema in the schema definition language, with a final newline."""
    return schema.as_str() + "\n"


if __name__ == "__main__":
    sys.stdout.write(print_sdl())

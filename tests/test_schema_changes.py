"""The schema changes as api/CHANGELOG.md says: nothing breaks unsaid, and every addition and deprecation is listed.

What is compared is the schema now with `api/released.graphql`, that of the newest release. A failure names what the
section "Unreleased" lacks.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    find_breaking_changes,
)

from api.schema import print_sdl

ROOT = Path(__file__).parent.parent
CHANGELOG = (ROOT / "api" / "CHANGELOG.md").read_text("utf-8")
RELEASED = (ROOT / "api" / "released.graphql").read_text("utf-8")

COORDINATE = re.compile(r"^- `([A-Za-z_]\w*(?:\.\w+(?:\(\w+:\))?)?)`", re.MULTILINE)
REASON = re.compile(r"Use .+\. Goes after [0-9]{4}-[0-9]{2}-[0-9]{2}\.", re.DOTALL)
ROOTS = {"Query", "Mutation", "Subscription"}


def section(text: str, heading: str, level: int) -> str:
    """What stands under a heading of a level, until the next one of that level or a higher one; '' without it."""
    begin, end = rf"^{'#' * level} {re.escape(heading)}\n", rf"(?=^#{{1,{level}}} |\Z)"
    found = re.search(f"{begin}(.*?){end}", text, re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def listed(changelog: str, heading: str) -> set[str]:
    """The coordinates listed under a heading of what is not released yet."""
    return set(COORDINATE.findall(section(section(changelog, "Unreleased", 2), heading, 3)))


def coordinates(schema: GraphQLSchema) -> Iterator[tuple[str, str | None]]:
    """All that can be asked for or given, each with why it is deprecated, if it is."""
    for name, kind in schema.type_map.items():
        if name.startswith("__"):
            continue
        if isinstance(kind, GraphQLEnumType):
            yield from ((f"{name}.{value}", found.deprecation_reason) for value, found in kind.values.items())
        if isinstance(kind, GraphQLInputObjectType):
            yield from ((f"{name}.{given}", found.deprecation_reason) for given, found in kind.fields.items())
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for field_name, field in kind.fields.items():
                yield f"{name}.{field_name}", field.deprecation_reason
                for argument, given in field.args.items():
                    yield f"{name}.{field_name}({argument}:)", given.deprecation_reason


def is_noted(coordinate: str, new: set[str], schema: GraphQLSchema) -> bool:
    """Whether an addition is told by another one: by a new field its arguments, by an interface those who have it."""
    if coordinate.partition("(")[0] in new - {coordinate}:
        return True
    name, _, member = coordinate.partition(".")
    kind = schema.type_map[name]
    interfaces = getattr(kind, "interfaces", ())
    return any(f"{interface.name}.{member}" in new for interface in interfaces)


def additions(released: GraphQLSchema, now: GraphQLSchema) -> set[str]:
    """What is new in types that were there, and in the roots; a new type is told by the field that leads to it."""
    before = {coordinate for coordinate, _ in coordinates(released)}
    known = {*released.type_map, *ROOTS}
    new = {coordinate for coordinate, _ in coordinates(now) if coordinate not in before}
    new = {coordinate for coordinate in new if coordinate.partition(".")[0] in known}
    return {coordinate for coordinate in new if not is_noted(coordinate, new, now)}


def problems(released_sdl: str, sdl: str, changelog: str) -> list[str]:
    """What is wrong with a changelog, line by line."""
    released, now = build_schema(released_sdl), build_schema(sdl)
    found = []
    breaking = section(section(changelog, "Unreleased", 2), "Breaking", 3)
    for change in find_breaking_changes(released, now):
        if not re.search(rf"^- {re.escape(change.description)} \S", breaking, re.MULTILINE):
            found.append(f"Breaking lacks, and what clients are to do: - {change.description} …")
    new = additions(released, now)
    found += [f"Added lacks: - `{coordinate}`: …" for coordinate in sorted(new - listed(changelog, "Added"))]
    found += [f"Added has what is not new: {coordinate}" for coordinate in sorted(listed(changelog, "Added") - new)]
    before, reasons = dict(coordinates(released)), dict(coordinates(now))
    deprecated = {coordinate for coordinate, reason in reasons.items() if reason is not None}
    newly = {coordinate for coordinate in deprecated if before.get(coordinate) is None}
    found += [f"Deprecated lacks: - `{c}`: …" for c in sorted(newly - listed(changelog, "Deprecated"))]
    found += [f"Deprecated has what is not: {c}" for c in sorted(listed(changelog, "Deprecated") - newly)]
    found += [
        f"the deprecation of {c} does not say 'Use …. Goes after YYYY-MM-DD.'"
        for c in sorted(deprecated)
        if not REASON.search(str(reasons[c]))
    ]
    return found


def test_changelog_tells_every_change_of_the_schema() -> None:
    """The message has the lines to write; the rest of each line is for people."""
    assert problems(RELEASED, print_sdl(), CHANGELOG) == []


def test_newest_release_is_the_packages_version() -> None:
    """With a release, what was not released moves under its version, and the schema is copied."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    version = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    headings = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
    assert version is not None
    assert headings.index("Unreleased") + 1 == headings.index(next(h for h in headings if h.startswith(version[1])))


# The check itself


BEFORE = """
interface Node { id: ID! }
type Thing implements Node { id: ID! size: Int colour: Colour }
enum Colour { RED GREEN }
input ThingInput { size: Int }
type Query { thing(id: ID!): Thing node(id: ID!): Node }
"""


def changed(*replacements: tuple[str, str]) -> str:
    now = BEFORE
    for before, after in replacements:
        assert now.count(before) == 1
        now = now.replace(before, after)
    return now


def changelog(**sections: str) -> str:
    parts = [f"### {heading}\n\n{text}\n" for heading, text in sections.items()]
    return "## Unreleased\n\n" + "\n".join(parts) + "\n## 1.0.0\n\n### Added\n\n- `Query.old`: not looked at.\n"


OLD = '@deprecated(reason: "Use `node`. Goes after 2027-06-01.")'
CHANGES = {
    "Breaking: - Field Thing.size was removed. Ask for another.": [(" size: Int colour", " colour")],
    "Breaking: - Field ThingInput.size changed type from Int to Int!. Give it.": [
        ("put { size: Int", "put { size: Int!")
    ],
    "Added: - `Thing.weight`: so.": [("colour: Colour", "colour: Colour weight: Int")],
    "Added: - `Colour.BLUE`: so.": [("RED GREEN", "RED GREEN BLUE")],
    "Added: - `ThingInput.more`: so.": [("ThingInput { size", "ThingInput { more: Int size")],
    "Added: - `Query.node(deep:)`: so.": [("node(id: ID!)", "node(id: ID!, deep: Boolean)")],
    "Added: - `Subscription.news`: so.": [
        ("type Query", "type Subscription { news(after: Int): News } type News { text: String } type Query")
    ],
    "Added: - `Node.at`: so.": [
        ("Node { id: ID! }", "Node { id: ID! at: Int }"),
        ("{ id: ID! size", "{ id: ID! at: Int size"),
    ],
    "Deprecated: - `Query.thing`: so.": [("thing(id: ID!): Thing", f"thing(id: ID!): Thing {OLD}")],
}


@pytest.mark.parametrize("entry", CHANGES)
def test_change_that_is_not_listed_is_found(entry: str) -> None:
    """In one line, whose beginning is what to write; and it is no problem once it is listed."""
    now = changed(*CHANGES[entry])
    heading, line = entry.split(": ", 1)
    (found,) = problems(BEFORE, now, changelog())
    assert found.startswith(f"{heading} lacks")
    assert line.startswith(found.partition(": - ")[2].partition("`:")[0].removesuffix("…").strip(), 2)
    assert problems(BEFORE, now, changelog(**{heading: line})) == []
    if heading == "Breaking":  # what clients are to do is missing
        assert problems(BEFORE, now, changelog(Breaking=line.rpartition(". ")[0] + ".")) == [found]


def test_entry_for_nothing_is_found() -> None:
    """What is listed and is not so: added or deprecated before, or never."""
    entries = changelog(Added="- `Thing.size`: so.", Deprecated="- `Query.thing`: so.")
    assert problems(BEFORE, BEFORE, entries) == [
        "Added has what is not new: Thing.size",
        "Deprecated has what is not: Query.thing",
    ]


@pytest.mark.parametrize("reason", ["", "Use `node`.", "Goes after 2027-06-01."])
def test_deprecation_says_what_to_use_and_until_when_it_works(reason: str) -> None:
    now = changed(("thing(id: ID!): Thing", f'thing(id: ID!): Thing @deprecated(reason: "{reason}")'))
    (found,) = problems(BEFORE, now, changelog(Deprecated="- `Query.thing`: so."))
    assert found.startswith("the deprecation of Query.thing does not say")

"""Documents broken on purpose: that each way has its refusal, and that refusals come in one order.

case = Case("leave_pool", {"actor": alice, "asset": "STAR"}, [Break(Code.NO_POOL, ("asset",), {"actor": bob})])
check(book, case)
"""

import itertools
from typing import Any, NamedTuple

from ledger.state import Admission, Code, Rejection
from tests.rulebook import Book


class Break(NamedTuple):
    """One way to break a good document: the refusal it gets, its path, and the fields changed for it."""

    code: Code
    path: tuple[str, ...]
    changes: dict[str, Any]


class Case(NamedTuple):
    """A good document of a kind, and the ways to break it, in the order of their refusals."""

    kind: str
    fields: dict[str, Any]
    breaks: list[Break]


def check(book: Book, case: Case) -> None:
    """The document is admitted; broken once it is refused for that, broken twice for what comes first."""
    decision = book.ask(case.kind, **case.fields)
    assert isinstance(decision, Admission), decision
    for broken in case.breaks:
        rejection = book.refused(case.kind, **case.fields | broken.changes)
        assert (rejection.code, rejection.path) == (broken.code, broken.path), rejection
        assert rejection.message
    for first, second in itertools.combinations(case.breaks, 2):
        if all(first.changes[name] == second.changes[name] for name in first.changes.keys() & second.changes.keys()):
            rejection = book.refused(case.kind, **case.fields | second.changes | first.changes)
            assert isinstance(rejection, Rejection)
            assert (rejection.code, rejection.path) == (first.code, first.path), (first, second)

"""Setting documents on paper: text in a font that has many letters, tables over pages, pages that are numbered.

What a font lacks, or does not show, is written as its number in Unicode: nothing disappears. One document has the same
bytes each time it is set.
"""

import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import Any, BinaryIO

MAX_LINES = 10_000
"""Lines of a document, some 300 pages, which take a second or two to set. Whoever has more wants the CSV."""

_FONT = "NotoSans"
_INVISIBLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


class TooLongError(ValueError):
    """A document with more lines than its form can have."""


def check_length(lines: int) -> None:
    """Raise :class:`TooLongError` for more lines than :data:`MAX_LINES`."""
    if lines > MAX_LINES:
        message = f"{lines:,} lines are too many for paper, at most {MAX_LINES:,}: take CSV"
        raise TooLongError(f"{message}, or a shorter period")


def set_pages(file: BinaryIO, story: list[Any], footer: str, **properties: str) -> None:
    """Set what :func:`table` and its like made on pages of A4, with a footer and the properties of the document."""
    from reportlab.lib.pagesizes import A4  # type: ignore[import-untyped] # noqa: PLC0415 - only who asks for a PDF
    from reportlab.platypus import SimpleDocTemplate  # type: ignore[import-untyped] # noqa: PLC0415

    font()
    document = SimpleDocTemplate(
        file,
        pagesize=A4,
        leftMargin=mm(15),
        rightMargin=mm(15),
        topMargin=mm(15),
        bottomMargin=mm(18),
        invariant=1,  # no date of making and no random id: the same statement has the same bytes
        lang="en",
        **properties,
    )
    document.build(story, canvasmaker=_numbered(footer))


def space(height: float) -> Any:
    """An empty space so many millimetres high."""
    from reportlab.platypus import Spacer  # noqa: PLC0415

    return Spacer(0, mm(height))


@cache
def font() -> Any:
    """Noto Sans, known to the library that sets the pages from then on."""
    from reportlab.pdfbase import pdfmetrics  # type: ignore[import-untyped] # noqa: PLC0415 - only who asks for a PDF
    from reportlab.pdfbase.ttfonts import TTFont  # type: ignore[import-untyped] # noqa: PLC0415

    with resources.as_file(resources.files("fontpkg_noto_sans") / "files" / "NotoSans[wdth,wght].ttf") as path:
        font = TTFont(_FONT, str(path))
    pdfmetrics.registerFont(font)
    return font


def printable(name: str, has: Callable[[str], bool] = lambda _: True) -> str:
    """A text of which everything shows: what does not, or is not in a font, as its number in Unicode."""
    composed = unicodedata.normalize("NFC", name)
    return "".join(
        char if unicodedata.category(char) not in _INVISIBLE and has(char) else f"[U+{ord(char):04X}]"
        for char in composed
    )


def fits(text: str, width: float, size: float = 8) -> str:
    """A text in as many lines as it takes to stay within a width, every character of it shown."""
    from reportlab.lib.utils import simpleSplit  # type: ignore[import-untyped] # noqa: PLC0415

    glyphs = font().face.charToGlyph
    lines = simpleSplit(printable(text, lambda char: ord(char) in glyphs), _FONT, size, width)
    return "\n".join(part for line in lines for part in _broken(line, width, size))


def _broken(line: str, width: float, size: float) -> Iterator[str]:
    """A line in parts that are no wider than a width, also where it has no space to break at."""
    from reportlab.pdfbase.pdfmetrics import stringWidth  # type: ignore[import-untyped] # noqa: PLC0415

    start = 0
    for end in range(1, len(line) + 1):
        if end - start > 1 and stringWidth(line[start:end], _FONT, size) > width:
            yield line[start : end - 1]
            start = end - 1
    yield line[start:]


def table(cells: list[Any], widths: list[float], style: list[Any], repeated: int = 0) -> Any:
    """A table that goes on over pages, each of which repeats its first ``repeated`` rows."""
    from reportlab.platypus import LongTable  # noqa: PLC0415

    plain = [("FONT", (0, 0), (-1, -1), _FONT, 8), ("VALIGN", (0, 0), (-1, -1), "TOP")]
    tight = [("TOPPADDING", (0, 0), (-1, -1), 1.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5)]
    edges = [("LEFTPADDING", (0, 0), (-1, -1), 3), ("RIGHTPADDING", (0, 0), (-1, -1), 3)]
    return LongTable(cells, widths, repeatRows=repeated, hAlign="LEFT", style=[*plain, *tight, *edges, *style])


def mm(length: float) -> float:
    """Millimetres in points of 1/72 inch."""
    return length * 72 / 25.4


def _numbered(footer: str) -> type[Any]:
    """A canvas that writes below each page whose it is and which of how many, once it is known how many there are."""
    from reportlab.pdfgen.canvas import Canvas  # type: ignore[import-untyped] # noqa: PLC0415

    class NumberedCanvas(Canvas):  # type: ignore[misc] # the library has no types
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._pages: list[dict[str, Any]] = []

        def showPage(self) -> None:  # noqa: N802 - the library's name
            self._pages.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, page in enumerate(self._pages, start=1):
                self.__dict__.update(page)
                self.setFont(_FONT, 7)
                self.drawString(mm(15), mm(10), footer)
                self.drawRightString(mm(195), mm(10), f"page {number} of {len(self._pages)}")
                super().showPage()
            super().save()

    return NumberedCanvas

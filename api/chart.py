"""Column charts as SVG: groups of columns side by side, one of each series, with the numbers on the axis."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

_WIDTH, _HEIGHT = 960, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 20, 56, 56
_COLOURS = (0x4477AA, 0xEE6677)
"""Of the colour-blind safe scheme "bright" by Paul Tol."""

_FONT = "Helvetica"
_LABELS = 12
"""Names of groups that have room side by side; of more they stand upright."""


class Columns(Struct, frozen=True, kw_only=True):
    """A chart: ``values[i][j]`` is the column of ``series[i]`` in ``groups[j]``."""

    title: str
    groups: tuple[str, ...]
    series: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


def draw(charts: Sequence[Columns]) -> bytes:
    """Charts below each other, as one SVG document; the same charts are the same bytes."""
    from reportlab.graphics import renderSVG  # type: ignore[import-untyped] # noqa: PLC0415 - only who wants a chart
    from reportlab.graphics.shapes import Drawing, Rect  # type: ignore[import-untyped] # noqa: PLC0415
    from reportlab.lib.colors import HexColor  # type: ignore[import-untyped] # noqa: PLC0415

    height = _HEIGHT * len(charts)
    drawing = Drawing(_WIDTH, height)
    drawing.add(Rect(0, 0, _WIDTH, height, fillColor=HexColor(0xFFFFFF), strokeColor=None))
    for number, chart in enumerate(charts):
        _add(drawing, chart, height - _HEIGHT * (number + 1))
    text = renderSVG.drawToString(drawing)
    return (text if isinstance(text, str) else text.decode()).encode()


def _add(drawing: Any, chart: Columns, bottom: int) -> None:
    from reportlab.graphics.shapes import Rect, String  # noqa: PLC0415
    from reportlab.lib.colors import HexColor  # noqa: PLC0415

    top = bottom + _HEIGHT
    drawing.add(String(_LEFT, top - 26, chart.title, fontName=_FONT, fontSize=15))
    if chart.groups:
        drawing.add(_bars(chart, bottom))
    left = _LEFT
    for number, name in enumerate(chart.series):
        drawing.add(Rect(left, top - 46, 10, 10, fillColor=HexColor(_COLOURS[number]), strokeColor=None))
        drawing.add(String(left + 15, top - 45, name, fontName=_FONT, fontSize=11))
        left += 30 + 7 * len(name)


def _bars(chart: Columns, bottom: int) -> Any:
    from reportlab.graphics.charts.barcharts import VerticalBarChart  # type: ignore[import-untyped] # noqa: PLC0415
    from reportlab.lib.colors import HexColor  # noqa: PLC0415

    bars = VerticalBarChart()
    bars.x, bars.y = _LEFT, bottom + _BOTTOM
    bars.width, bars.height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    bars.data = [list(series) for series in chart.values]
    bars.groupSpacing, bars.barSpacing = 6, 0
    for number in range(len(chart.series)):
        bars.bars[number].fillColor = HexColor(_COLOURS[number])
        bars.bars[number].strokeColor = None
    bars.categoryAxis.categoryNames = list(chart.groups)
    labels = bars.categoryAxis.labels
    labels.fontName, labels.fontSize = _FONT, 10
    if len(chart.groups) > _LABELS:
        labels.angle, labels.boxAnchor, labels.dx, labels.dy = 60, "e", 2, -4
    else:
        labels.boxAnchor, labels.dy = "n", -4
    axis = bars.valueAxis
    lowest = min(0, *(value for series in chart.values for value in series), 0)
    axis.valueMin, axis.rangeRound = lowest, "both"
    if not any(value for series in chart.values for value in series):
        axis.valueMax = 1  # an axis of nothing has no scale
    axis.labels.fontName, axis.labels.fontSize = _FONT, 10
    axis.labelTextFormat = _number
    axis.visibleGrid, axis.gridStrokeColor, axis.gridStrokeWidth = True, HexColor(0xDDDDDD), 0.5
    return bars


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,}"

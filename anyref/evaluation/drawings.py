"""Small drawings for the pages, as SVG inside the HTML: numbers with intervals, distributions, curves over time, and colours of a heat map.

Colours come from the page's style (classes `dot`, `whisker`, `axis`, `grey`, `line-0` ...), so that light and dark pages both work.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

import numpy as np

_ROW = 22
_LABEL = 190
_NUMBER = 150


@dataclass(frozen=True)
class Dot:
    """One line of a chart: a number and its interval; `grey` for what was not measured here. `series` chooses the colour."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    grey: bool = False
    series: int = 0


@dataclass(frozen=True)
class Curve:
    """Scores of one video over its frames; None leaves a gap."""

    label: str
    frames: tuple[int, ...]
    values: tuple[float | None, ...]
    series: int = 0


def number(value: float | None, digits: int = 3) -> str:
    """As it stands in tables: 0.123, or a dash where there is none."""
    return "-" if value is None or not isfinite(value) else f"{value:.{digits}f}"


def with_interval(value: float | None, low: float | None, high: float | None, digits: int = 3) -> str:
    """0.123 [0.100, 0.140]; the brackets only where there are bounds."""
    if value is None or low is None or high is None:
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]"


def dots(rows: Sequence[Dot], zero: float | None = None, width: int = 640) -> str:
    """Dots with whiskers, one line each; a vertical line at `zero`. Empty text where no row has a number."""
    known = [x for row in rows for x in (row.value, row.low, row.high) if x is not None and isfinite(x)]
    if not known:
        return ""
    ticks = nice_ticks(
        min([*known, *([] if zero is None else [zero])]), max([*known, *([] if zero is None else [zero])])
    )
    left, right, height = _LABEL, width - _NUMBER, _ROW * len(rows) + 24

    def at(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left)

    parts = [_open(width, height, "chart")]
    for tick in ticks:
        parts.append(
            f'<line class="axis" x1="{at(tick):.1f}" x2="{at(tick):.1f}" y1="0" y2="{height - 20}"/>'
        )
        parts.append(
            f'<text class="tick" x="{at(tick):.1f}" y="{height - 6}" text-anchor="middle">{tick:g}</text>'
        )
    if zero is not None:
        parts.append(
            f'<line class="zero" x1="{at(zero):.1f}" x2="{at(zero):.1f}" y1="0" y2="{height - 20}"/>'
        )
    for index, row in enumerate(rows):
        y = _ROW * index + _ROW / 2
        style = "grey" if row.grey else f"series-{row.series % 6}"
        parts.append(
            f'<g class="{style}"><text x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(_short(row.label, 27))}</text>'
        )
        if row.value is not None and isfinite(row.value):
            if row.low is not None and row.high is not None:
                parts.append(
                    f'<line class="whisker" x1="{at(row.low):.1f}" x2="{at(row.high):.1f}" y1="{y}" y2="{y}"/>'
                )
            parts.append(f'<circle class="dot" cx="{at(row.value):.1f}" cy="{y}" r="4.5"/>')
        text = with_interval(row.value, row.low, row.high) if row.value is not None else "none"
        parts.append(f'<text class="value" x="{width}" y="{y + 4}" text-anchor="end">{text}</text></g>')
    return "".join([*parts, "</svg>"])


def histogram(series: Sequence[Sequence[float]], bins: int = 20, width: int = 260, height: int = 84) -> str:
    """How the scores of each series are spread, as outlined steps over one axis; empty text where there are none."""
    everything = (
        np.concatenate([np.asarray(values, dtype=float) for values in series]) if series else np.zeros(0)
    )
    if len(everything) == 0:
        return ""
    ticks = nice_ticks(float(everything.min()), float(everything.max()))
    edges = np.linspace(ticks[0], ticks[-1], bins + 1)
    counts = [np.histogram(values, edges)[0] / max(1, len(values)) for values in series]
    tallest = max(float(count.max()) for count in counts) or 1.0
    base = height - 16
    parts = [_open(width, height, "chart histogram")]
    parts.append(f'<line class="axis" x1="0" x2="{width}" y1="{base}" y2="{base}"/>')
    for index, count in enumerate(counts):
        path, x = f"M0 {base}", 0.0
        for share in count:
            y = base - share / tallest * (base - 4)
            path += f"L{x:.1f} {y:.1f}"
            x += width / bins
            path += f"L{x:.1f} {y:.1f}"
        parts.append(f'<path class="steps series-{index % 6}" d="{path}L{width} {base}"/>')
    parts.append(f'<text class="tick" x="0" y="{height - 3}">{ticks[0]:g}</text>')
    parts.append(
        f'<text class="tick" x="{width}" y="{height - 3}" text-anchor="end">{ticks[-1]:g}</text></svg>'
    )
    return "".join(parts)


def curves(drawn: Sequence[Curve], num_frames: int, width: int = 300, height: int = 78) -> str:
    """Scores over the frames of a video; gaps where a frame has none. Empty text where nothing has two points."""
    known = [value for curve in drawn for value in curve.values if value is not None]
    if len(known) < 2:
        return ""
    ticks = nice_ticks(min(known), max(known))
    base = height - 14

    def point(frame: int, value: float) -> str:
        x = 34 + frame / max(1, num_frames - 1) * (width - 40)
        y = 6 + (ticks[-1] - value) / (ticks[-1] - ticks[0]) * (base - 6)
        return f"{x:.1f} {y:.1f}"

    parts = [_open(width, height, "chart curve")]
    for tick in (ticks[0], ticks[-1]):
        y = 6 + (ticks[-1] - tick) / (ticks[-1] - ticks[0]) * (base - 6)
        parts.append(f'<line class="axis" x1="34" x2="{width - 6}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="30" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<text class="tick" x="34" y="{height - 2}">0</text>')
    parts.append(
        f'<text class="tick" x="{width - 6}" y="{height - 2}" text-anchor="end">frame {num_frames - 1}</text>'
    )
    for curve in drawn:
        path, pen = "", "M"
        for frame, value in zip(curve.frames, curve.values, strict=True):
            if value is None:
                pen = "M"
                continue
            # A point alone is drawn as a dot: a stroke of no length with round ends.
            path += f"{pen}{point(frame, value)}" + ("l0 0" if pen == "M" else "")
            pen = "L"
        parts.append(
            f'<path class="line series-{curve.series % 6}" d="{path}"><title>{escape(curve.label)}</title></path>'
        )
    return "".join([*parts, "</svg>"])


def heat(value: float | None, low: float, high: float, higher_is_better: bool = True) -> str:
    """Background of a cell: from orange, worst of its column, over none to blue, best; both are told apart by the colour-blind."""
    if value is None or not isfinite(value) or high <= low:
        return ""
    share = (value - low) / (high - low)
    signed = 2 * (share if higher_is_better else 1 - share) - 1
    colour = "60, 120, 200" if signed > 0 else "226, 120, 40"
    return f"background:rgba({colour}, {min(1.0, abs(signed)) * 0.55:.2f})"


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about `count` steps apart; two at least, never the same."""
    if high - low < 1e-9 * max(1.0, abs(low), abs(high)):
        spread = max(abs(low) * 0.1, 0.05)
        low, high = low - spread, high + spread
    raw = (high - low) / count
    power = 10.0 ** floor(log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = floor(low / step + 1e-9), -floor(-high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def _open(width: int, height: float, name: str) -> str:
    return f'<svg class="{name}" viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}" role="img">'


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."

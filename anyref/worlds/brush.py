"""A brush over a skia canvas: filled shapes in colours that are tinted by the light, or a part's silhouette.

Shapes take coordinates in the canvas's current units. Every drawing function of the world draws through a brush, so that the same code
gives the picture, a picture under another light, and the mask of one part ("hat") with everything else in front of it as occluder.
"""

from collections.abc import Sequence
from functools import lru_cache

import skia

Colour = tuple[int, int, int]
Point = tuple[float, float]

INK: Colour = (44, 38, 52)
WHITE: Colour = (252, 250, 246)
BLUSH: Colour = (255, 120, 130)


@lru_cache(maxsize=8192)
def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`first` with `share` (0..1) of `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def darker(colour: Colour, share: float = 0.22) -> Colour:
    """The colour in shade: mixed with a warm dark violet."""
    return mix(colour, (40, 20, 60), share)


def lighter(colour: Colour, share: float = 0.4) -> Colour:
    """The colour mixed with white."""
    return mix(colour, (255, 255, 255), share)


@lru_cache(maxsize=8192)
def _paint(colour: Colour, alpha: float, tint: tuple[float, float, float], stroke: float) -> skia.Paint:
    red, green, blue = (min(255, round(c * t)) for c, t in zip(colour, tint, strict=True))
    paint = skia.Paint(AntiAlias=True, Color=skia.Color(red, green, blue, round(255 * alpha)))
    if stroke > 0:
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(stroke)
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        paint.setStrokeJoin(skia.Paint.kRound_Join)
    return paint


def polygon(points: Sequence[Point]) -> skia.Path:
    """A closed path with straight edges."""
    path = skia.Path()
    path.moveTo(*points[0])
    for point in points[1:]:
        path.lineTo(*point)
    path.close()
    return path


def blob(points: Sequence[Point], closed: bool = True) -> skia.Path:
    """A smooth path through the points (Catmull-Rom as cubics)."""
    count = len(points)
    path = skia.Path()
    path.moveTo(*points[0])
    for i in range(count if closed else count - 1):
        before, start, end, after = (
            points[k % count] if closed else points[min(max(k, 0), count - 1)]
            for k in (i - 1, i, i + 1, i + 2)
        )
        path.cubicTo(
            start[0] + (end[0] - before[0]) / 6,
            start[1] + (end[1] - before[1]) / 6,
            end[0] - (after[0] - start[0]) / 6,
            end[1] - (after[1] - start[1]) / 6,
            end[0],
            end[1],
        )
    if closed:
        path.close()
    return path


class Brush:
    """Draws tinted shapes; with `highlight`, draws the named part white and all else black."""

    def __init__(
        self,
        canvas: skia.Canvas,
        tint: tuple[float, float, float] = (1.0, 1.0, 1.0),
        highlight: str | None = None,
    ) -> None:
        self.canvas = canvas
        self.tint = tint
        self.highlight = highlight
        self._part = ""
        self._paints: dict[tuple[Colour, float, float], skia.Paint] = {}

    def part(self, name: str) -> None:
        """Shapes drawn from now on belong to the named part ("" for none)."""
        self._part = name

    def paint(self, colour: Colour, alpha: float = 1.0, stroke: float = 0.0) -> skia.Paint:
        """The paint of a colour under this brush's light."""
        key = colour, alpha, stroke
        found = self._paints.get(key)
        if found is not None:
            return found
        if self.highlight is not None:
            level = 255 if self._part == self.highlight else 0
            return _paint((level, level, level), 1.0 if alpha > 0.9 else 0.0, (1.0, 1.0, 1.0), stroke)
        paint = self._paints[key] = _paint(colour, alpha, self.tint, stroke)
        return paint

    def oval(
        self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour, alpha: float = 1.0
    ) -> None:
        """An ellipse around (x, y)."""
        rect = skia.Rect(x - radius_x, y - radius_y, x + radius_x, y + radius_y)
        self.canvas.drawOval(rect, self.paint(colour, alpha))

    def circle(self, x: float, y: float, radius: float, colour: Colour, alpha: float = 1.0) -> None:
        """A disc around (x, y)."""
        self.canvas.drawCircle(x, y, radius, self.paint(colour, alpha))

    def box(
        self, left: float, top: float, right: float, bottom: float, colour: Colour, radius: float = 0.0
    ) -> None:
        """A rectangle with round corners."""
        self.canvas.drawRoundRect(skia.Rect(left, top, right, bottom), radius, radius, self.paint(colour))

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour) -> None:
        """A thick line with round ends."""
        self.canvas.drawLine(x0, y0, x1, y1, self.paint(colour, 1.0, width))

    def path(self, path: skia.Path, colour: Colour, stroke: float = 0.0, alpha: float = 1.0) -> None:
        """A path, filled, or stroked when `stroke` is positive."""
        self.canvas.drawPath(path, self.paint(colour, alpha, stroke))

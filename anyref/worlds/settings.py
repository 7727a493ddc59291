"""Draws settings: smooth skies and grounds with a few large shapes, by day and by night.

Coordinates are frame heights: y from 0 (top) to 1, x from 0 to the frame's aspect; settings extend by MARGIN beyond both sides, so that the
camera can pan and a reference can show another crop.
"""

import math
from collections.abc import Callable
from random import Random

import skia

from anyref.worlds.brush import Brush, Colour, blob, lighter, mix
from anyref.worlds.identities import Setting

MARGIN = 0.3
HORIZON = 0.62
NIGHT_TINT = (0.74, 0.78, 0.96)
"""Light on subjects at night."""

_SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((132, 198, 244), (222, 242, 252)),
    ((250, 186, 150), (255, 232, 190)),
    ((150, 222, 208), (230, 250, 232)),
    ((190, 176, 240), (244, 226, 248)),
    ((250, 218, 130), (255, 246, 210)),
    ((168, 196, 214), (214, 224, 230)),
)
_NIGHT = ((26, 34, 84), (70, 78, 140))
_Ground = tuple[Colour, Colour, Colour]
_GROUNDS: dict[str, _Ground] = {
    "beach": ((244, 220, 166), (238, 200, 150), (250, 232, 200)),
    "meadow": ((150, 206, 112), (184, 214, 104), (118, 186, 130)),
    "forest": ((126, 170, 104), (170, 168, 100), (100, 152, 124)),
    "street": ((150, 150, 162), (176, 160, 150), (126, 134, 156)),
    "desert": ((240, 196, 124), (232, 166, 110), (246, 214, 158)),
    "snow": ((238, 244, 252), (222, 232, 248), (246, 240, 244)),
    "room": ((204, 160, 118), (176, 132, 104), (214, 188, 156)),
    "stage": ((196, 140, 90), (170, 112, 92), (214, 172, 120)),
    "sea": ((224, 206, 158), (196, 196, 168), (232, 190, 160)),
    "space": ((176, 172, 190), (196, 160, 150), (150, 170, 190)),
    "mountains": ((160, 196, 120), (190, 192, 122), (136, 180, 142)),
}
_FEATURES: dict[str, tuple[Colour, Colour, Colour, Colour]] = {
    "beach": ((64, 166, 206), (92, 190, 190), (98, 140, 210), (120, 200, 220)),
    "meadow": ((112, 178, 92), (140, 190, 84), (96, 160, 120), (160, 196, 120)),
    "forest": ((76, 136, 84), (132, 150, 70), (70, 126, 116), (190, 140, 76)),
    "street": ((216, 150, 130), (170, 180, 210), (226, 198, 140), (160, 190, 170)),
    "desert": ((226, 166, 100), (214, 140, 96), (234, 186, 130), (200, 150, 120)),
    "snow": ((120, 168, 150), (140, 170, 200), (106, 150, 120), (160, 180, 210)),
    "room": ((190, 216, 190), (240, 200, 190), (190, 206, 234), (246, 224, 170)),
    "stage": ((196, 70, 80), (120, 80, 170), (60, 120, 170), (70, 140, 110)),
    "sea": ((238, 140, 130), (120, 190, 140), (200, 140, 200), (246, 190, 110)),
    "space": ((236, 180, 110), (220, 130, 140), (130, 190, 200), (180, 150, 220)),
    "mountains": ((140, 160, 196), (170, 150, 180), (130, 170, 180), (180, 170, 160)),
}


class _Scenery:
    """What the drawing of one setting needs: brush, colours, arrangement, extent."""

    def __init__(self, brush: Brush, look: Setting, night: bool, right: float) -> None:
        self.brush = brush
        self.night = night
        self.left, self.right = -MARGIN, right + MARGIN
        self.rng = Random(f"{look.label}/{look.layout}")
        sky_top, sky_bottom = _SKIES[int(look.sky)]
        self.sky = (
            (mix(_NIGHT[0], sky_top, 0.1), mix(_NIGHT[1], sky_bottom, 0.14))
            if night
            else (sky_top, sky_bottom)
        )
        self.bright_sky = (sky_top, sky_bottom)
        self.ground = self.lit(_GROUNDS[look.label][int(look.ground)])
        self.feature = self.lit(_FEATURES[look.label][int(look.feature)])

    def lit(self, colour: Colour) -> Colour:
        """A colour of the daytime under this light."""
        if not self.night:
            return colour
        red, green, blue = colour
        return mix((round(red * 0.46), round(green * 0.5), round(blue * 0.72)), (40, 46, 110), 0.15)

    def band(self, top: float, bottom: float, first: Colour, last: Colour) -> None:
        """A vertical gradient over the whole width."""
        colours = [skia.Color(*first), skia.Color(*last)]
        shader = skia.GradientShader.MakeLinear([skia.Point(0, top), skia.Point(0, bottom)], colours)
        paint = skia.Paint(Shader=shader)
        if self.brush.tint != (1.0, 1.0, 1.0):
            tinted = [
                tuple(min(255, round(c * t)) for c, t in zip(k, self.brush.tint, strict=True))
                for k in (first, last)
            ]
            paint = skia.Paint(
                Shader=skia.GradientShader.MakeLinear(
                    [skia.Point(0, top), skia.Point(0, bottom)], [skia.Color(*k) for k in tinted]
                )
            )
        self.brush.canvas.drawRect(skia.Rect(self.left, top, self.right, bottom), paint)

    def open_air(self, horizon: float = HORIZON) -> None:
        """Sky with sun or moon, clouds or stars, and ground."""
        brush, rng = self.brush, self.rng
        self.band(0, horizon + 0.02, *self.sky)
        light_x = rng.choice((0.16, 0.5, 0.84)) * (self.right - MARGIN)
        if self.night:
            self.stars(7)
            brush.circle(light_x, 0.15, 0.1, (250, 244, 206))
            brush.circle(light_x + 0.045, 0.13, 0.085, mix(self.sky[0], self.sky[1], 0.2))
        else:
            brush.circle(light_x, 0.15, 0.14, (255, 246, 200), 0.5)
            brush.circle(light_x, 0.15, 0.095, (255, 226, 110))
            for _ in range(2):
                self.cloud(
                    rng.uniform(self.left + 0.2, self.right - 0.2),
                    rng.uniform(0.1, 0.32),
                    rng.uniform(0.8, 1.2),
                )
        self.band(horizon, 1.0, lighter(self.ground, 0.12), mix(self.ground, (60, 40, 70), 0.12))

    def stars(self, count: int) -> None:
        """A few large stars."""
        for _ in range(count):
            x, y = self.rng.uniform(self.left, self.right), self.rng.uniform(0.04, 0.45)
            self.brush.circle(x, y, self.rng.choice((0.016, 0.022)), (255, 250, 220))

    def cloud(self, x: float, y: float, size: float) -> None:
        """A soft cloud of three puffs."""
        white = lighter(self.bright_sky[1], 0.7)
        for offset, height, radius in ((-0.12, 0.02, 0.07), (0.0, 0.0, 0.1), (0.13, 0.025, 0.065)):
            self.brush.oval(
                x + offset * size, y + height * size, radius * 1.3 * size, radius * 0.8 * size, white
            )

    def hills(self, base: float, height: float, colour: Colour, step: float = 0.55) -> None:
        """Overlapping round hills along the horizon."""
        x = self.left - self.rng.uniform(0.0, step)
        while x < self.right + step:
            tall = height * self.rng.uniform(0.7, 1.2)
            self.brush.oval(x, base, step * 0.75, tall, colour)
            x += step


def _beach(s: _Scenery) -> None:
    s.open_air(0.5)
    s.band(0.48, 0.7, s.feature, lighter(s.feature, 0.35))
    s.brush.oval(s.rng.uniform(0, 1.5), 0.9, 2.2, 0.22, s.ground)
    s.band(0.72, 1.0, s.ground, mix(s.ground, (60, 40, 70), 0.12))
    x = s.rng.choice((0.1, 1.4))
    trunk = s.lit((150, 104, 70))
    s.brush.path(blob([(x, 0.74), (x + 0.03, 0.5), (x + 0.1, 0.28)], closed=False), trunk, 0.055)
    for angle in (-150, -100, -30, 20, 165):
        end = (
            x + 0.1 + 0.2 * math.cos(math.radians(angle)),
            0.28 + 0.12 * math.sin(math.radians(angle)) + 0.04,
        )
        s.brush.line(x + 0.1, 0.27, *end, 0.06, s.lit((84, 160, 96)))


def _meadow(s: _Scenery) -> None:
    s.open_air()
    s.hills(HORIZON + 0.03, 0.17, s.feature)
    s.band(HORIZON + 0.02, 1.0, lighter(s.ground, 0.1), mix(s.ground, (40, 60, 60), 0.14))
    for _ in range(7):
        colour = s.lit(s.rng.choice(((255, 250, 240), (255, 224, 120), (250, 170, 190))))
        s.brush.circle(s.rng.uniform(s.left, s.right), s.rng.uniform(0.7, 0.97), 0.022, colour)


def _forest(s: _Scenery) -> None:
    s.open_air()
    s.hills(HORIZON + 0.02, 0.26, mix(s.feature, s.sky[1], 0.45), 0.4)
    trunk = s.lit((120, 88, 66))
    for step in range(6):
        x = s.left + 0.15 + step * (s.right - s.left) / 6 + s.rng.uniform(-0.07, 0.07)
        base = HORIZON + s.rng.uniform(0.02, 0.1)
        s.brush.box(x - 0.035, base - 0.22, x + 0.035, base, trunk)
        s.brush.oval(x, base - 0.36, 0.15, 0.24, mix(s.feature, s.ground, s.rng.choice((0.0, 0.25))))


def _street(s: _Scenery) -> None:
    s.open_air()
    x = s.left
    while x < s.right:
        width, height = s.rng.uniform(0.3, 0.46), s.rng.uniform(0.24, 0.5)
        colour = mix(s.feature, s.rng.choice((s.sky[1], s.lit((150, 140, 170)))), s.rng.choice((0.1, 0.4)))
        s.brush.box(x, HORIZON - height, x + width - 0.02, HORIZON + 0.05, colour, 0.02)
        window = (255, 226, 140) if s.night else lighter(colour, 0.5)
        for row in range(int(height / 0.16)):
            for column in (0.28, 0.68):
                left, top = x + width * column - 0.045, HORIZON - height + 0.06 + 0.16 * row
                s.brush.box(left, top, left + 0.08, top + 0.085, window, 0.01)
        x += width
    s.band(HORIZON + 0.03, 0.72, lighter(s.ground, 0.45), lighter(s.ground, 0.35))
    s.band(0.72, 1.0, s.ground, mix(s.ground, (40, 40, 70), 0.15))


def _desert(s: _Scenery) -> None:
    s.open_air()
    s.hills(HORIZON + 0.04, 0.16, s.feature, 0.8)
    s.band(HORIZON + 0.03, 1.0, lighter(s.ground, 0.1), mix(s.ground, (90, 40, 50), 0.12))
    green = s.lit((98, 158, 100))
    for x in s.rng.sample((0.08, 0.55, 1.0, 1.42), 2):
        s.brush.line(x, 0.7, x, 0.4, 0.075, green)
        s.brush.path(blob([(x, 0.58), (x + 0.1, 0.57), (x + 0.11, 0.46)], closed=False), green, 0.055)


def _snow(s: _Scenery) -> None:
    s.open_air()
    s.hills(HORIZON + 0.05, 0.14, mix(s.ground, s.lit((150, 180, 220)), 0.3), 0.7)
    s.band(HORIZON + 0.04, 1.0, s.ground, mix(s.ground, s.lit((120, 150, 210)), 0.3))
    for x in s.rng.sample((0.0, 0.3, 0.7, 1.1, 1.5), 3):
        base = 0.68
        for level in range(3):
            top, half = base - 0.2 - 0.1 * level, 0.15 - 0.035 * level
            path = skia.Path()
            path.addPoly(
                [
                    skia.Point(x - half, top + 0.14),
                    skia.Point(x, top - 0.06),
                    skia.Point(x + half, top + 0.14),
                ],
                True,
            )
            s.brush.path(path, s.feature)
        s.brush.oval(x, base - 0.43, 0.05, 0.035, s.lit((252, 252, 255)))


def _room(s: _Scenery) -> None:
    s.band(0, 0.72, lighter(s.feature, 0.2), s.feature)
    s.band(0.72, 1.0, lighter(s.ground, 0.1), mix(s.ground, (60, 40, 50), 0.15))
    s.band(0.69, 0.735, lighter(s.feature, 0.7), lighter(s.feature, 0.6))
    x = s.rng.choice((0.2, 0.6, 1.0))
    frame = s.lit((250, 246, 240))
    s.brush.box(x, 0.1, x + 0.42, 0.5, frame, 0.03)
    s.brush.box(x + 0.035, 0.135, x + 0.385, 0.465, s.sky[0])
    s.brush.circle(x + 0.28, 0.22, 0.05, (250, 244, 206) if s.night else (255, 226, 110))
    s.brush.box(x + 0.195, 0.12, x + 0.225, 0.48, frame)
    picture = x + 0.7 if x < 0.7 else x - 0.62
    s.brush.box(picture, 0.16, picture + 0.34, 0.42, s.lit((150, 104, 80)), 0.02)
    s.brush.box(picture + 0.04, 0.2, picture + 0.3, 0.38, s.lit(s.bright_sky[0]))
    s.brush.oval(s.rng.uniform(0.5, 1.0), 0.88, 0.5, 0.07, mix(s.lit(s.bright_sky[0]), s.ground, 0.3))


def _stage(s: _Scenery) -> None:
    s.band(0, 0.72, mix(s.feature, s.lit((60, 40, 80)), 0.45), mix(s.feature, s.lit((255, 230, 190)), 0.25))
    s.band(0.72, 1.0, lighter(s.ground, 0.15), mix(s.ground, (60, 30, 40), 0.2))
    middle = (s.left + s.right) / 2
    s.brush.oval(middle + s.rng.choice((-0.25, 0.0, 0.25)), 0.86, 0.6, 0.1, lighter(s.ground, 0.4))
    for step in range(3):
        for side in (-1, 1):
            x = middle + side * (0.98 - 0.14 * step)
            shade = mix(s.feature, (40, 10, 40), 0.1 + 0.12 * (step % 2))
            s.brush.box(x - 0.16, -0.1, x + 0.16, 0.8 - 0.03 * step, shade, 0.06)
    for step in range(8):
        x = s.left + step * (s.right - s.left) / 7
        s.brush.oval(x, 0.0, 0.18, 0.13, mix(s.feature, s.lit((250, 220, 130)), 0.25))


def _sea(s: _Scenery) -> None:
    top, bottom = s.bright_sky[0], s.bright_sky[1]
    s.band(
        0, 1.0, mix(s.lit((120, 206, 226)), s.lit(top), 0.3), mix(s.lit((36, 110, 176)), s.lit(bottom), 0.16)
    )
    s.brush.oval(s.rng.uniform(0.2, 1.3), 0.98, 1.3, 0.24, mix(s.ground, s.lit((60, 130, 180)), 0.3))
    s.band(0.84, 1.0, mix(s.ground, s.lit((60, 130, 180)), 0.15), mix(s.ground, s.lit((40, 90, 150)), 0.3))
    for x in s.rng.sample((-0.05, 0.25, 0.75, 1.2, 1.5), 3):
        for offset, height in ((-0.07, 0.2), (0.0, 0.3), (0.08, 0.17)):
            s.brush.line(x, 0.86, x + offset, 0.86 - height, 0.055, s.feature)
    for _ in range(4):
        x, y = s.rng.uniform(s.left, s.right), s.rng.uniform(0.08, 0.5)
        s.brush.circle(x, y, s.rng.choice((0.03, 0.042)), s.lit((210, 240, 250)), 0.7)


def _space(s: _Scenery) -> None:
    deep = (34, 26, 70) if s.night else (70, 60, 130)
    s.band(0, 1.0, mix(deep, s.bright_sky[0], 0.14), mix(deep, s.bright_sky[0], 0.42 if not s.night else 0.2))
    s.stars(9)
    x = s.rng.choice((0.25, 0.75, 1.25))
    s.brush.oval(x, 0.24, 0.26, 0.055, lighter(s.feature, 0.4))
    s.brush.circle(x, 0.24, 0.15, s.feature)
    s.brush.oval(x, 0.275, 0.15, 0.035, lighter(s.feature, 0.3))
    s.brush.oval((s.left + s.right) / 2, 1.06, 1.5, 0.38, s.ground)
    for _ in range(4):
        s.brush.oval(
            s.rng.uniform(s.left + 0.2, s.right - 0.2),
            s.rng.uniform(0.8, 0.96),
            0.1,
            0.03,
            mix(s.ground, (40, 40, 70), 0.2),
        )


def _mountains(s: _Scenery) -> None:
    s.open_air()
    for x in (-0.1, 0.45, 1.0, 1.55):
        peak_x, peak = x + s.rng.uniform(-0.1, 0.1), s.rng.uniform(0.16, 0.32)
        path = skia.Path()
        path.addPoly(
            [skia.Point(peak_x - 0.45, 0.7), skia.Point(peak_x, peak), skia.Point(peak_x + 0.45, 0.7)], True
        )
        s.brush.path(path, mix(s.feature, s.sky[1], s.rng.choice((0.0, 0.22))))
        cap = skia.Path()
        cap.addPoly(
            [
                skia.Point(peak_x - 0.11, peak + 0.12),
                skia.Point(peak_x, peak),
                skia.Point(peak_x + 0.11, peak + 0.12),
            ],
            True,
        )
        s.brush.path(cap, s.lit((250, 250, 255)))
    s.hills(HORIZON + 0.06, 0.1, mix(s.ground, s.feature, 0.3), 0.6)
    s.band(HORIZON + 0.05, 1.0, s.ground, mix(s.ground, (40, 60, 60), 0.14))


_DRAWINGS: dict[str, Callable[[_Scenery], None]] = {
    "beach": _beach, "meadow": _meadow, "forest": _forest, "street": _street, "desert": _desert, "snow": _snow,
    "room": _room, "stage": _stage, "sea": _sea, "space": _space, "mountains": _mountains,
}  # fmt: skip


def draw_setting(brush: Brush, look: Setting, night: bool, aspect: float) -> None:
    """The whole setting, from x = -MARGIN to aspect + MARGIN; the canvas's unit must be one frame height."""
    _DRAWINGS[look.label](_Scenery(brush, look, night, aspect))

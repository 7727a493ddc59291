"""Outlines of random shapes: ellipse, Fourier blob, convex and concave polygon.

Every outline is star-shaped around its centre, so that its copies at growing scale lie within one another: the
area grows with the scale ("each shape defines a continuous scale parameter") and can be searched for.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from anyref.masks.settings import Shape

_CURVE_VERTICES = 96
"""An ellipse as wide as the frame is then everywhere within a third of a pixel."""
_HARMONICS = 6
_MAX_ASPECT = 2.0


def draw_outline(shape: Shape, rng: np.random.Generator) -> NDArray[np.float64]:
    """Vertices (x, y) [V, 2] around the origin, closed: the first one again at the end.

    Turned, stretched up to 2:1 and turned again, under which lines through the centre stay such.
    """
    outline_V2 = _OUTLINES[shape](rng)
    first, second = (rotation(angle) for angle in rng.uniform(0, 2 * np.pi, 2))
    stretch = math.exp(rng.uniform(0, math.log(_MAX_ASPECT)) / 2)
    matrix = first @ np.diag([stretch, 1 / stretch]) @ second
    return np.asarray(np.concatenate([outline_V2, outline_V2[:1]]) @ matrix.T)


def rotation(angle: float) -> NDArray[np.float64]:
    """The 2x2 matrix that turns by an angle in radians."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _ellipse(rng: np.random.Generator) -> NDArray[np.float64]:  # noqa: ARG001 - stretched like every other shape
    return _polar(2 * np.pi * np.arange(_CURVE_VERTICES) / _CURVE_VERTICES, np.ones(_CURVE_VERTICES))


def _fourier(rng: np.random.Generator) -> NDArray[np.float64]:
    """log radius = sum of a_k cos(k angle + phase_k), a_k ~ N(0, 0.35 / k): never negative, smoother where finer."""
    angle = 2 * np.pi * np.arange(_CURVE_VERTICES) / _CURVE_VERTICES
    order = np.arange(1, _HARMONICS + 1)
    amplitude = rng.normal(0, 0.35, _HARMONICS) / order
    phase = rng.uniform(0, 2 * np.pi, _HARMONICS)
    return _polar(angle, np.exp(amplitude @ np.cos(np.outer(order, angle) + phase[:, None])))


def _convex(rng: np.random.Generator) -> NDArray[np.float64]:
    """3 to 8 points of a circle, around their mean, which lies inside."""
    vertices = _polar(_spread_angles(int(rng.integers(3, 9)), rng), 1.0)
    return vertices - vertices.mean(axis=0)


def _concave(rng: np.random.Generator) -> NDArray[np.float64]:
    """6 to 12 points at radii in [0.35, 1], drawn until one vertex points inwards."""
    while True:
        angle = _spread_angles(int(rng.integers(6, 13)), rng)
        vertices = _polar(angle, rng.uniform(0.35, 1.0, len(angle)))
        edge = np.roll(vertices, -1, axis=0) - vertices
        following = np.roll(edge, -1, axis=0)
        if (edge[:, 0] * following[:, 1] < edge[:, 1] * following[:, 0]).any():
            return vertices


_OUTLINES: dict[Shape, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "ellipse": _ellipse, "fourier": _fourier, "convex": _convex, "concave": _concave,
}  # fmt: skip


def _polar(angle_V: NDArray[np.float64], radius: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return np.stack([radius * np.cos(angle_V), radius * np.sin(angle_V)], axis=-1)


def _spread_angles(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Growing angles, no two neighbours more than 1.6 even steps apart: below 180 degrees from four on."""
    return 2 * np.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count

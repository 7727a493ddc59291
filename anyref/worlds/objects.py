"""Draws objects: standing on (0, 0), about one unit tall."""

import math
from collections.abc import Callable

from anyref.worlds.actions import Pose
from anyref.worlds.brush import BLUSH, INK, WHITE, Brush, blob, darker, lighter, polygon
from anyref.worlds.identities import COLOURS, Creature

_GLASS = (190, 228, 246)
_METAL = (196, 202, 214)
_CABIN = blob([(-0.3, -0.4), (-0.22, -0.72), (0.14, -0.72), (0.36, -0.4)])
_HULL = polygon([(-0.58, -0.36), (0.62, -0.36), (0.4, -0.06), (-0.4, -0.06)])
_SAIL = polygon([(0.05, -1.0), (0.52, -0.44), (0.05, -0.44)])
_SMALL_SAIL = polygon([(-0.05, -0.92), (-0.42, -0.44), (-0.05, -0.44)])
_ROOF = polygon([(-0.52, -0.56), (0, -1.0), (0.52, -0.56)])
_NOSE = blob([(-0.2, -0.66), (-0.12, -0.88), (0, -1.02), (0.12, -0.88), (0.2, -0.66)])
_FINS = polygon([(-0.18, -0.42), (-0.4, -0.1), (0.4, -0.1), (0.18, -0.42)])
_FLAME = blob([(-0.12, -0.14), (0.0, 0.04), (0.12, -0.14)])
_MUG = blob([(-0.34, -0.7), (0.34, -0.7), (0.3, -0.14), (0.18, -0.04), (-0.18, -0.04), (-0.3, -0.14)])
_CANOPY = blob([(-0.56, -0.5), (-0.42, -0.82), (0, -0.98), (0.42, -0.82), (0.56, -0.5), (0, -0.56)])
_KNOT = polygon([(-0.05, -0.07), (0.05, -0.07), (0.02, 0.03), (-0.02, 0.03)])


def _face(brush: Brush, x: float, y: float, size: float = 1.0) -> None:
    for side in (-1, 1):
        brush.oval(x + 0.11 * side * size, y, 0.045 * size, 0.056 * size, INK)
        brush.oval(x + 0.19 * side * size, y + 0.09 * size, 0.055 * size, 0.038 * size, BLUSH, 0.7)
    brush.oval(x, y + 0.1 * size, 0.055 * size, 0.036 * size, INK)


def _car(brush: Brush, look: Creature, pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    brush.path(_CABIN, second)
    brush.box(-0.2, -0.63, 0.0, -0.44, _GLASS, 0.04)
    brush.box(0.05, -0.63, 0.2, -0.44, _GLASS, 0.04)
    brush.box(-0.6, -0.46, 0.62, -0.14, main, 0.14)
    brush.circle(0.55, -0.34, 0.06, (255, 240, 170))
    for x in (-0.34, 0.34):
        brush.circle(x, -0.15, 0.15, INK)
        brush.circle(x, -0.15, 0.075, _METAL)
        angle = 6.3 * pose.stride
        brush.circle(x + 0.045 * math.cos(angle), -0.15 + 0.045 * math.sin(angle), 0.03, INK)


def _boat(brush: Brush, look: Creature, _pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    brush.line(0, -0.95, 0, -0.3, 0.06, (120, 80, 50))
    brush.path(_SAIL, second)
    brush.path(_SMALL_SAIL, lighter(second, 0.5))
    brush.path(_HULL, main)
    brush.line(-0.53, -0.33, 0.56, -0.33, 0.07, darker(main, 0.3))


def _ball(brush: Brush, look: Creature, _pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    brush.circle(0, -0.46, 0.46, main)
    brush.oval(0, -0.46, 0.2, 0.46, second)
    brush.line(-0.42, -0.46, 0.42, -0.46, 0.1, WHITE)
    brush.circle(0, -0.46, 0.13, WHITE)


def _balloon(brush: Brush, look: Creature, _pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    brush.line(0, -0.35, 0.04, 0, 0.05, (120, 110, 120))
    brush.canvas.save()
    brush.canvas.translate(0, -0.28)
    brush.canvas.scale(1.4, -1.4)
    brush.path(_KNOT, darker(main, 0.3))
    brush.canvas.restore()
    brush.oval(0, -0.66, 0.33, 0.37, main)
    brush.oval(0, -0.66, 0.13, 0.37, second)
    brush.oval(-0.17, -0.82, 0.06, 0.09, lighter(main, 0.7))


def _house(brush: Brush, look: Creature, _pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    brush.box(0.2, -0.92, 0.34, -0.6, darker(main, 0.3))
    brush.box(-0.42, -0.6, 0.42, 0, main, 0.04)
    brush.path(_ROOF, second)
    brush.box(-0.12, -0.34, 0.12, 0, darker(second, 0.3), 0.08)
    for x in (-0.27, 0.27):
        brush.circle(x, -0.4, 0.095, (255, 240, 180))


def _tree(brush: Brush, look: Creature, _pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    brush.box(-0.1, -0.42, 0.1, 0, (126, 84, 56), 0.05)
    for x, y, radius in ((-0.24, -0.52, 0.22), (0.24, -0.52, 0.22), (0.0, -0.74, 0.28), (0.0, -0.5, 0.24)):
        brush.circle(x, y, radius, main)
    for x, y in ((-0.24, -0.5), (0.2, -0.58), (-0.03, -0.8), (0.02, -0.44)):
        brush.circle(x, y, 0.08, second)


def _rocket(brush: Brush, look: Creature, pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    brush.canvas.save()
    brush.canvas.scale(1.3, 1.0)
    if pose.lift > 0.01:
        brush.path(_FLAME, COLOURS["orange"])
    brush.path(_FINS, second)
    brush.box(-0.2, -0.7, 0.2, -0.12, main, 0.08)
    brush.path(_NOSE, second)
    brush.canvas.restore()
    brush.circle(0, -0.5, 0.15, WHITE)
    brush.circle(0, -0.5, 0.1, (70, 130, 190))


def _cup(brush: Brush, look: Creature, _pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    brush.circle(0.36, -0.42, 0.2, darker(main, 0.15))
    brush.circle(0.36, -0.42, 0.1, lighter(main, 0.75))
    brush.path(_MUG, main)
    brush.oval(0, -0.72, 0.36, 0.09, second)
    brush.box(-0.34, -0.22, 0.34, -0.1, second, 0.05)
    _face(brush, 0, -0.46, 1.15)


def _robot(brush: Brush, look: Creature, pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    for side in (-1, 1):
        brush.box(0.12 * side - 0.08, -0.2, 0.12 * side + 0.08, 0, _METAL, 0.03)
        angle = math.radians(20 + 40 * (pose.arm_left if side < 0 else pose.arm_right))
        brush.line(
            0.24 * side,
            -0.46,
            (0.24 + 0.26 * math.sin(angle)) * side,
            -0.46 + 0.26 * math.cos(angle),
            0.11,
            _METAL,
        )
    brush.line(0, -0.9, 0, -0.98, 0.05, INK)
    brush.circle(0, -0.97, 0.055, second)
    brush.box(-0.25, -0.54, 0.25, -0.14, main, 0.07)
    brush.box(-0.14, -0.44, 0.14, -0.26, second, 0.04)
    brush.box(-0.29, -0.9, 0.29, -0.54, second, 0.09)
    for side in (-1, 1):
        brush.circle(0.125 * side, -0.74, 0.085, WHITE)
        brush.circle(0.125 * side, -0.74, 0.045, INK)
    brush.line(-0.1, -0.61, 0.1, -0.61, 0.045, INK)


def _gift(brush: Brush, look: Creature, _pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    for side in (-1, 1):
        brush.oval(0.16 * side, -0.82, 0.17, 0.12, second)
    brush.box(-0.4, -0.62, 0.4, 0, main, 0.05)
    brush.box(-0.46, -0.74, 0.46, -0.54, darker(main, 0.18), 0.05)
    brush.box(-0.09, -0.74, 0.09, 0, second)
    brush.circle(0, -0.77, 0.085, darker(second, 0.2))


def _flower(brush: Brush, look: Creature, _pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    stem = (70, 150, 80)
    brush.line(0, -0.5, 0, -0.04, 0.09, stem)
    brush.oval(-0.16, -0.16, 0.15, 0.075, stem)
    brush.oval(0.16, -0.22, 0.15, 0.075, stem)
    for step in range(6):
        angle = math.radians(60 * step + 30)
        brush.circle(0.215 * math.cos(angle), -0.68 + 0.215 * math.sin(angle), 0.145, main)
    brush.circle(0, -0.68, 0.18, second)
    _face(brush, 0, -0.7, 0.8)


def _umbrella(brush: Brush, look: Creature, _pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    brush.line(0, -0.9, 0, -0.09, 0.07, (120, 80, 50))
    brush.line(0, -0.06, 0.14, -0.06, 0.08, (120, 80, 50))
    brush.path(_CANOPY, main)
    brush.oval(0, -0.74, 0.19, 0.2, second)


_DRAWINGS: dict[str, Callable[[Brush, Creature, Pose], None]] = {
    "car": _car, "boat": _boat, "ball": _ball, "balloon": _balloon, "house": _house, "tree": _tree, "rocket": _rocket,
    "cup": _cup, "robot": _robot, "gift": _gift, "flower": _flower, "umbrella": _umbrella,
}  # fmt: skip


def draw_object(brush: Brush, look: Creature, pose: Pose) -> None:
    """One object in a pose."""
    _DRAWINGS[look.label](brush, look, pose)

"""Draws animals: feet at (0, 0), about one unit tall; those drawn from the side look right."""

import math
from collections.abc import Callable

from anyref.worlds.actions import Pose
from anyref.worlds.brush import BLUSH, INK, WHITE, Brush, Colour, blob, darker, lighter, polygon
from anyref.worlds.identities import COLOURS, Creature

_CAT_EAR = polygon([(-0.14, 0.05), (0.0, -0.2), (0.14, 0.05)])
_SMILE = blob([(-0.09, 0.0), (0, 0.04), (0.09, 0.0), (0, 0.08)])
_TRUNK = blob([(0.0, -0.1), (0.2, -0.05), (0.26, 0.2), (0.22, 0.42)], closed=False)
_FISH_TAIL = blob([(-0.3, -0.45), (-0.62, -0.78), (-0.56, -0.45), (-0.62, -0.12)])
_FISH_FIN = blob([(-0.18, -0.68), (-0.05, -0.98), (0.2, -0.72)])
_WING = blob([(0.16, 0.0), (0.0, -0.12), (-0.42, -0.06), (-0.3, 0.14), (0.0, 0.16)])
_BIRD_TAIL = blob([(-0.2, -0.42), (-0.6, -0.66), (-0.62, -0.4), (-0.3, -0.26)])
_BEAK = polygon([(0.0, -0.1), (0.26, 0.02), (0.0, 0.12)])
_SHELL = blob([(-0.5, -0.2), (-0.42, -0.55), (0, -0.78), (0.36, -0.55), (0.44, -0.2), (0, -0.15)])
_BELLY_SPOTS = ((-0.11, -0.38), (0.1, -0.3), (-0.06, -0.19))
_SIDE_SPOTS = ((-0.28, -0.46), (-0.04, -0.38), (-0.22, -0.3))


def _eyes(brush: Brush, x: float, y: float, gap: float, size: float = 0.042) -> None:
    for side in (-1, 1):
        brush.oval(x + side * gap, y, size, size * 1.25, INK)


def _cheeks(brush: Brush, x: float, y: float, gap: float) -> None:
    for side in (-1, 1):
        brush.oval(x + side * gap, y, 0.055, 0.04, BLUSH, 0.6)


def _front_pattern(brush: Brush, look: Creature) -> None:
    second = COLOURS[look.second]
    if look.pattern == "belly":
        brush.oval(0, -0.27, 0.155, 0.19, second)
    elif look.pattern == "spots":
        for x, y in _BELLY_SPOTS:
            brush.circle(x, y, 0.065, second)
    else:
        for y, half in ((-0.4, 0.2), (-0.23, 0.23)):
            brush.line(-half + 0.04, y, half - 0.04, y, 0.08, second)


def _side_pattern(brush: Brush, look: Creature, x: float, y: float, size: float = 1.0) -> None:
    second = COLOURS[look.second]
    if look.pattern == "belly":
        brush.oval(x, y + 0.1 * size, 0.25 * size, 0.08 * size, second)
    elif look.pattern == "spots":
        for spot_x, spot_y in _SIDE_SPOTS:
            brush.circle(x + (spot_x + 0.17) * size, y + (spot_y + 0.38) * size, 0.075 * size, second)
    else:
        for offset in (-0.19, 0.0, 0.19):
            brush.line(
                x + offset * size, y - 0.11 * size, x + offset * size, y + 0.1 * size, 0.085 * size, second
            )


def _plush(brush: Brush, look: Creature, pose: Pose, head: Callable[[Brush, Creature], None]) -> None:
    """An upright animal seen from the front, with stubby legs and arms."""
    main = COLOURS[look.main]
    limb = darker(main, 0.14)
    for side in (-1, 1):
        foot_x = 0.13 * side + 0.12 * pose.stride * side
        foot_y = -0.055 - 0.06 * max(0.0, pose.stride * side)
        brush.line(0.11 * side, -0.16, foot_x, foot_y - 0.03, 0.14, limb)
        brush.oval(foot_x + 0.02 * side, foot_y, 0.1, 0.058, limb)
    canvas = brush.canvas
    canvas.save()
    if pose.bow:
        canvas.rotate(pose.bow, 0, -0.15)
    brush.oval(0, -0.32, 0.235, 0.27, main)
    _front_pattern(brush, look)
    for side, raised in ((-1, pose.arm_left), (1, pose.arm_right)):
        angle = math.radians(28 + 125 * raised)
        shoulder = 0.17 * side
        reach = 0.27
        brush.line(
            shoulder,
            -0.46,
            shoulder + reach * math.sin(angle) * side,
            -0.46 + reach * math.cos(angle),
            0.125,
            limb,
        )
    canvas.translate(0, -0.7 + 0.1 * pose.nod)
    if pose.nod:
        canvas.rotate(15 * pose.nod)
    head(brush, look)
    canvas.restore()


def _muzzle(brush: Brush, colour: Colour) -> None:
    brush.oval(0, 0.08, 0.125, 0.095, colour)
    brush.oval(0, 0.035, 0.05, 0.036, INK)
    _eyes(brush, 0, -0.045, 0.125)
    _cheeks(brush, 0, 0.08, 0.195)


def _bear_head(brush: Brush, look: Creature) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    for side in (-1, 1):
        brush.circle(0.21 * side, -0.19, 0.115, main)
        brush.circle(0.21 * side, -0.19, 0.06, second)
    brush.oval(0, 0, 0.29, 0.245, main)
    _muzzle(brush, second)


def _rabbit_head(brush: Brush, look: Creature) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    for side in (-1, 1):
        brush.oval(0.12 * side, -0.33, 0.088, 0.25, main)
        brush.oval(0.12 * side, -0.31, 0.045, 0.17, second)
    brush.oval(0, 0, 0.25, 0.21, main)
    _muzzle(brush, lighter(main, 0.6))


def _cat_head(brush: Brush, look: Creature) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    for side in (-1, 1):
        brush.canvas.save()
        brush.canvas.translate(0.19 * side, -0.17)
        brush.canvas.rotate(16 * side)
        brush.canvas.scale(1.1, 1.15)
        brush.path(_CAT_EAR, main)
        brush.canvas.scale(0.55, 0.6)
        brush.path(_CAT_EAR, second)
        brush.canvas.restore()
    brush.oval(0, 0, 0.31, 0.225, main)
    _muzzle(brush, second)


def _lion_head(brush: Brush, look: Creature) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    for step in range(8):
        angle = math.radians(45 * step + 22.5)
        brush.circle(0.24 * math.cos(angle), 0.22 * math.sin(angle) - 0.01, 0.145, second)
    brush.oval(0, 0, 0.235, 0.21, main)
    _muzzle(brush, lighter(main, 0.6))


def _frog_head(brush: Brush, look: Creature) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    for side in (-1, 1):
        brush.circle(0.18 * side, -0.16, 0.125, main)
        brush.circle(0.18 * side, -0.17, 0.088, WHITE)
        brush.circle(0.17 * side, -0.165, 0.05, INK)
    brush.oval(0, 0.02, 0.33, 0.2, main)
    brush.oval(0, 0.1, 0.23, 0.07, second)
    brush.line(-0.16, 0.075, 0.16, 0.075, 0.045, INK)
    _cheeks(brush, 0, 0.0, 0.24)


def _bear(brush: Brush, look: Creature, pose: Pose) -> None:
    _plush(brush, look, pose, _bear_head)


def _rabbit(brush: Brush, look: Creature, pose: Pose) -> None:
    brush.canvas.scale(0.9, 0.9)
    brush.circle(-0.24, -0.2, 0.09, lighter(COLOURS[look.main], 0.6))
    _plush(brush, look, pose, _rabbit_head)


def _cat(brush: Brush, look: Creature, pose: Pose) -> None:
    brush.line(0.15, -0.14, 0.4, -0.22, 0.09, darker(COLOURS[look.main], 0.14))
    brush.line(0.4, -0.22, 0.43, -0.42, 0.09, COLOURS[look.second])
    _plush(brush, look, pose, _cat_head)


def _lion(brush: Brush, look: Creature, pose: Pose) -> None:
    brush.line(0.15, -0.12, 0.42, -0.16, 0.07, darker(COLOURS[look.main], 0.14))
    brush.circle(0.44, -0.2, 0.085, COLOURS[look.second])
    _plush(brush, look, pose, _lion_head)


def _frog(brush: Brush, look: Creature, pose: Pose) -> None:
    _plush(brush, look, pose, _frog_head)


def _penguin(brush: Brush, look: Creature, pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    beak = COLOURS["orange"] if look.main != "orange" else COLOURS["yellow"]
    for side in (-1, 1):
        foot_x = 0.13 * side + 0.1 * pose.stride * side
        brush.oval(foot_x, -0.045 - 0.05 * max(0.0, pose.stride * side), 0.12, 0.052, beak)
    canvas = brush.canvas
    canvas.save()
    canvas.rotate(pose.bow + 7 * pose.stride, 0, -0.08)
    for side, raised in ((-1, pose.arm_left), (1, pose.arm_right)):
        angle = math.radians(24 + 110 * raised)
        end_x, end_y = 0.22 * side + 0.3 * math.sin(angle) * side, -0.55 + 0.3 * math.cos(angle)
        brush.line(0.22 * side, -0.55, end_x, end_y, 0.13, darker(main, 0.16))
    brush.oval(0, -0.48, 0.31, 0.45, main)
    if look.pattern == "belly":
        brush.oval(0, -0.34, 0.215, 0.27, second)
    else:
        _front_pattern(brush, look)
    canvas.translate(0, 0.11 * pose.nod)
    brush.oval(0, -0.7, 0.22, 0.145, lighter(second, 0.55))
    _eyes(brush, 0, -0.735, 0.105)
    brush.oval(0, -0.64, 0.085, 0.055, beak)
    _cheeks(brush, 0, -0.65, 0.17)
    canvas.restore()


def _legs(brush: Brush, pose: Pose, at: tuple[float, ...], top: float, width: float, colour: Colour) -> None:
    """Four legs of an animal seen from the side, in pairs that swing against each other."""
    for number, x in enumerate(at):
        swing = pose.stride * (0.11 if number % 2 else -0.11)
        raised = pose.arm_right if number == len(at) - 1 else 0.1
        if raised > 0.3:
            angle = math.radians(150 * raised)
            length = 0.36
            brush.line(x, top, x + length * math.sin(angle), top + length * math.cos(angle), width, colour)
        else:
            brush.line(x, top, x + swing, -width / 2, width, colour)


def _lean(brush: Brush, pose: Pose, x: float, y: float) -> None:
    if pose.bow:
        brush.canvas.rotate(0.42 * pose.bow, x, y)


def _dog(brush: Brush, look: Creature, pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    limb = darker(main, 0.16)
    arm = max(pose.arm_right, pose.arm_left)
    _legs(brush, _raised(pose, arm), (-0.3, -0.16, 0.12, 0.24), -0.25, 0.12, limb)
    _lean(brush, pose, -0.3, -0.2)
    brush.line(-0.34, -0.42, -0.5, -0.66, 0.1, second)
    brush.box(-0.42, -0.56, 0.34, -0.2, main, 0.18)
    _side_pattern(brush, look, -0.06, -0.38)
    canvas = brush.canvas
    canvas.translate(0.3, -0.66 + 0.04 * pose.nod)
    canvas.rotate(34 * pose.nod)
    brush.oval(0.2, 0.07, 0.16, 0.11, lighter(main, 0.45))
    brush.circle(0.03, 0, 0.225, main)
    brush.oval(-0.12, 0.03, 0.09, 0.2, second)
    brush.circle(0.34, 0.03, 0.055, INK)
    brush.oval(0.12, -0.06, 0.045, 0.056, INK)
    brush.oval(0.06, 0.1, 0.06, 0.042, BLUSH, 0.6)


def _raised(pose: Pose, arm: float) -> Pose:
    return Pose(pose.x, pose.y, pose.scale, stride=pose.stride, arm_right=arm)


def _elephant(brush: Brush, look: Creature, pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    arm = max(pose.arm_right, pose.arm_left)
    _legs(brush, _raised(pose, 0.1), (-0.34, -0.18, 0.06, 0.2), -0.26, 0.16, darker(main, 0.16))
    _lean(brush, pose, -0.3, -0.2)
    brush.line(-0.5, -0.5, -0.58, -0.28, 0.06, darker(main, 0.16))
    brush.oval(-0.1, -0.5, 0.44, 0.32, main)
    _side_pattern(brush, look, -0.2, -0.5, 1.1)
    canvas = brush.canvas
    canvas.translate(0.3, -0.66)
    canvas.rotate(26 * pose.nod, -0.1, 0)
    canvas.save()
    canvas.translate(0.14, 0.06)
    if arm > 0.3:
        canvas.rotate(-105 * arm)
    brush.path(_TRUNK, main, 0.135)
    canvas.restore()
    brush.circle(0.05, 0, 0.26, main)
    brush.oval(-0.12, 0.0, 0.17, 0.23, second)
    brush.oval(0.15, -0.05, 0.045, 0.056, INK)
    brush.oval(0.13, 0.1, 0.06, 0.042, BLUSH, 0.6)


def _giraffe(brush: Brush, look: Creature, pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    arm = max(pose.arm_right, pose.arm_left)
    _legs(brush, _raised(pose, arm), (-0.24, -0.12, 0.06, 0.16), -0.28, 0.095, darker(main, 0.16))
    _lean(brush, pose, -0.2, -0.25)
    brush.line(-0.28, -0.42, -0.36, -0.24, 0.055, second)
    brush.box(-0.32, -0.54, 0.24, -0.24, main, 0.14)
    _side_pattern(brush, look, -0.06, -0.39, 0.85)
    canvas = brush.canvas
    canvas.save()
    canvas.translate(0.14, -0.46)
    canvas.rotate(30 * pose.nod)
    brush.line(0, 0, 0.1, -0.38, 0.14, main)
    for spot in (0.35, 0.75):
        brush.circle(0.09 * spot, -0.38 * spot, 0.05, second)
    canvas.translate(0.12, -0.42)
    for side in (-0.06, 0.05):
        brush.line(side, -0.08, side - 0.01, -0.19, 0.05, second)
    brush.oval(0.09, 0.02, 0.19, 0.105, main)
    brush.oval(0.22, 0.045, 0.085, 0.075, lighter(main, 0.5))
    brush.oval(0.06, -0.02, 0.04, 0.05, INK)
    brush.oval(0.07, 0.075, 0.05, 0.034, BLUSH, 0.6)
    canvas.restore()


def _bird(brush: Brush, look: Creature, pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    beak = COLOURS["orange"] if look.main != "orange" else COLOURS["yellow"]
    for x in (-0.06, 0.1):
        brush.line(x, -0.2, x + 0.06 * pose.stride, -0.035, 0.06, beak)
    _lean(brush, pose, 0, -0.15)
    brush.path(_BIRD_TAIL, second)
    brush.oval(0, -0.42, 0.34, 0.29, main)
    _side_pattern(brush, look, 0.12, -0.34, 0.8)
    canvas = brush.canvas
    canvas.save()
    canvas.translate(0.2, -0.7 + 0.09 * pose.nod)
    canvas.rotate(32 * pose.nod)
    canvas.save()
    canvas.translate(0.17, 0.03)
    brush.path(_BEAK, beak)
    canvas.restore()
    brush.circle(0, 0, 0.24, main)
    brush.oval(0.09, -0.04, 0.05, 0.062, INK)
    brush.oval(0.04, 0.1, 0.06, 0.042, BLUSH, 0.6)
    canvas.restore()
    canvas.translate(-0.06, -0.48)
    canvas.rotate(20 + 105 * max(pose.arm_left, pose.arm_right))
    brush.path(_WING, second)


def _fish(brush: Brush, look: Creature, pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    _lean(brush, pose, 0, -0.45)
    canvas = brush.canvas
    canvas.rotate(20 * pose.nod, 0, -0.45)
    canvas.save()
    canvas.scale(1 - 0.18 * pose.stride, 1)
    brush.path(_FISH_TAIL, second)
    canvas.restore()
    brush.path(_FISH_FIN, second)
    brush.oval(0.04, -0.45, 0.42, 0.31, main)
    _side_pattern(brush, look, -0.08, -0.42, 1.15)
    canvas.save()
    canvas.translate(0.02, -0.34)
    canvas.rotate(-30 + 140 * max(pose.arm_left, pose.arm_right) - 14)
    brush.oval(-0.13, 0, 0.17, 0.09, darker(second, 0.2))
    canvas.restore()
    brush.circle(0.28, -0.53, 0.085, WHITE)
    brush.circle(0.3, -0.53, 0.052, INK)
    brush.oval(0.25, -0.38, 0.06, 0.042, BLUSH, 0.6)
    brush.line(0.38, -0.37, 0.43, -0.39, 0.045, INK)


def _turtle(brush: Brush, look: Creature, pose: Pose) -> None:
    main, second = COLOURS[look.main], COLOURS[look.second]
    arm = max(pose.arm_right, pose.arm_left)
    _legs(brush, _raised(pose, arm), (-0.36, -0.22, 0.16, 0.3), -0.18, 0.15, darker(main, 0.16))
    _lean(brush, pose, -0.2, -0.15)
    brush.line(-0.42, -0.2, -0.58, -0.16, 0.09, main)
    canvas = brush.canvas
    canvas.save()
    canvas.translate(0.36, -0.3)
    canvas.rotate(36 * pose.nod)
    brush.line(0, 0, 0.16, -0.24, 0.16, main)
    brush.circle(0.2, -0.32, 0.19, main)
    brush.oval(0.26, -0.37, 0.045, 0.056, INK)
    brush.oval(0.2, -0.24, 0.06, 0.042, BLUSH, 0.6)
    canvas.restore()
    brush.path(_SHELL, second)
    if look.pattern == "spots":
        for x, y in ((-0.22, -0.42), (0.02, -0.58), (0.18, -0.36)):
            brush.circle(x, y, 0.085, main)
    elif look.pattern == "stripes":
        for x in (-0.2, 0.12):
            brush.line(x, -0.6, x * 1.3, -0.28, 0.09, main)
    brush.line(-0.46, -0.19, 0.42, -0.19, 0.09, darker(second, 0.25))


_DRAWINGS: dict[str, Callable[[Brush, Creature, Pose], None]] = {
    "dog": _dog, "cat": _cat, "bear": _bear, "rabbit": _rabbit, "lion": _lion, "frog": _frog, "penguin": _penguin,
    "elephant": _elephant, "giraffe": _giraffe, "bird": _bird, "fish": _fish, "turtle": _turtle,
}  # fmt: skip


def draw_animal(brush: Brush, look: Creature, pose: Pose) -> None:
    """One animal in a pose; leaves the canvas's transform changed."""
    _DRAWINGS[look.label](brush, look, pose)

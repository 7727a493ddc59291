"""Draws people: feet at (0, 0), one unit tall to the top of the head, looking at us."""

import math

from anyref.worlds.actions import Pose
from anyref.worlds.brush import BLUSH, INK, WHITE, Brush, Colour, blob, darker, polygon
from anyref.worlds.identities import COLOURS, HAIRS, SKINS, Person

_FRINGE = blob(
    [(-1.06, 0.12), (-0.98, -0.5), (-0.55, -1.02), (0, -1.14), (0.55, -1.02), (0.98, -0.5), (1.06, 0.12),
     (0.82, -0.2), (0.3, -0.5), (-0.3, -0.36), (-0.8, -0.22)]
)  # fmt: skip
_BEARD = blob(
    [(-0.98, 0.0), (-0.86, 0.72), (0, 1.16), (0.86, 0.72), (0.98, 0.0), (0.6, 0.3), (0, 0.36), (-0.6, 0.3)]
)
_SMILE = blob([(-0.32, 0.34), (0, 0.5), (0.32, 0.34), (0, 0.72)])
_DOME = blob([(-1.1, -0.36), (-0.95, -0.95), (0, -1.4), (0.95, -0.95), (1.1, -0.36), (0, -0.5)])
_CONE = polygon([(-0.72, -0.68), (0.02, -2.0), (0.72, -0.68)])
_SKIRT = blob([(-0.14, -0.4), (0.14, -0.4), (0.25, -0.15), (0, -0.12), (-0.25, -0.15)])


def draw_person(brush: Brush, look: Person, pose: Pose) -> None:
    """One person in a pose."""
    child = look.label in ("boy", "girl")
    head_radius = 0.225 if child else 0.19
    head_y = -0.74 if child else -0.78
    hips = -0.26 if child else -0.3
    skin = SKINS[look.skin]
    _legs(brush, look, pose, hips, skin)
    canvas = brush.canvas
    canvas.save()
    if pose.bow:
        canvas.rotate(pose.bow, 0, hips)
    _back_hair(brush, look, head_y, head_radius)
    _torso(brush, look, hips)
    _arm(brush, look, -1, pose.arm_left, skin)
    _arm(brush, look, 1, pose.arm_right, skin)
    canvas.translate(0, head_y + 0.09 * pose.nod)
    canvas.scale(head_radius, head_radius)
    if pose.nod:
        canvas.rotate(14 * pose.nod)
    brush.part("head")
    _head(brush, look, skin, pose.nod)
    brush.part("")
    if look.hat_style != "none":
        brush.part("hat")
        _hat(brush, look.hat_style, COLOURS[look.hat])
        brush.part("")
    canvas.restore()


def _legs(brush: Brush, look: Person, pose: Pose, hips: float, skin: Colour) -> None:
    skirt = look.bottom_style == "skirt"
    bottom = COLOURS[look.bottom]
    for side in (-1, 1):
        foot_x = 0.085 * side + 0.13 * pose.stride * side
        foot_y = -0.035 - 0.05 * max(0.0, pose.stride * side)
        brush.line(
            0.075 * side,
            hips - 0.02,
            foot_x,
            foot_y - 0.03,
            0.1 if skirt else 0.135,
            skin if skirt else bottom,
        )
        brush.oval(foot_x + 0.015 * side, foot_y, 0.085, 0.045, (74, 52, 50))
    if skirt:
        brush.path(_SKIRT, bottom)


def _torso(brush: Brush, look: Person, hips: float) -> None:
    brush.part("shirt")
    shirt = COLOURS[look.shirt]
    brush.box(-0.165, -0.61, 0.165, hips + 0.03, shirt, 0.1)
    accent = WHITE if look.shirt != "white" else COLOURS["red"]
    if look.shirt_style == "striped":
        brush.box(-0.165, -0.47, 0.165, -0.395, accent)
    elif look.shirt_style == "dotted":
        brush.circle(0, -0.44, 0.07, accent)
    brush.part("")


def _arm(brush: Brush, look: Person, side: int, raised: float, skin: Colour) -> None:
    angle = math.radians(18 + 142 * raised)
    shoulder_x, shoulder_y = 0.145 * side, -0.545
    hand_x = shoulder_x + 0.27 * math.sin(angle) * side
    hand_y = shoulder_y + 0.27 * math.cos(angle)
    brush.circle(hand_x, hand_y, 0.066, skin)
    brush.part("shirt")
    elbow = 0.78
    brush.line(
        shoulder_x,
        shoulder_y,
        shoulder_x + (hand_x - shoulder_x) * elbow,
        shoulder_y + (hand_y - shoulder_y) * elbow,
        0.11,
        darker(COLOURS[look.shirt], 0.1),
    )
    brush.part("")


def _back_hair(brush: Brush, look: Person, head_y: float, radius: float) -> None:
    hair = HAIRS[look.hair]
    if look.hair_style == "long":
        brush.box(
            -1.22 * radius,
            head_y - 0.5 * radius,
            1.22 * radius,
            head_y + 1.55 * radius,
            darker(hair, 0.12),
            0.13,
        )
    elif look.hair_style == "pigtails":
        for side in (-1, 1):
            brush.oval(side * 1.35 * radius, head_y + 0.35 * radius, 0.42 * radius, 0.62 * radius, hair)
    elif look.hair_style == "bun":
        brush.circle(0, head_y - 1.25 * radius, 0.5 * radius, hair)
    elif look.hair_style == "curly":
        for side in (-1, 1):
            brush.circle(side * 0.85 * radius, head_y - 0.25 * radius, 0.55 * radius, hair)
            brush.circle(side * 0.5 * radius, head_y - 0.8 * radius, 0.55 * radius, hair)


def _head(brush: Brush, look: Person, skin: Colour, nod: float) -> None:
    hair = HAIRS[look.hair]
    brush.circle(0, 0, 1, skin)
    brush.canvas.save()
    brush.canvas.translate(0, 0.2 * nod)
    if look.hair_style == "beard":
        brush.path(_BEARD, hair)
    for side in (-1, 1):
        brush.oval(0.62 * side, 0.4, 0.24, 0.17, BLUSH, 0.55)
        if look.glasses == "yes":
            brush.circle(0.42 * side, 0.06, 0.4, INK)
            brush.circle(0.42 * side, 0.06, 0.27, WHITE)
        brush.oval(0.4 * side, 0.06, 0.165, 0.22, INK)
    brush.path(_SMILE, (196, 58, 66))
    brush.canvas.restore()
    if look.hair_style == "curly":
        brush.oval(0, -0.82, 0.7, 0.42, hair)
    else:
        brush.path(_FRINGE, hair)


def _hat(brush: Brush, style: str, colour: Colour) -> None:
    shade = darker(colour, 0.28)
    if style == "cap":
        brush.path(_DOME, colour)
        brush.box(0.1, -0.68, 1.6, -0.4, shade, 0.14)
    elif style == "beanie":
        brush.path(_DOME, colour)
        brush.box(-1.12, -0.72, 1.12, -0.32, shade, 0.18)
        brush.circle(0, -1.42, 0.3, shade)
    elif style == "cone":
        brush.path(_CONE, colour)
        brush.circle(0, -1.95, 0.28, shade)
    else:
        brush.box(-0.75, -1.75, 0.75, -0.6, colour, 0.1)
        brush.box(-1.3, -0.75, 1.3, -0.48, shade, 0.12)

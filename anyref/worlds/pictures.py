"""Reference images of what a scene shows: cross-pairs, drawn anew in another pose, light and place, and crops of the clip."""

from dataclasses import replace
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.samples import ReferenceVariant
from anyref.worlds.actions import Pose
from anyref.worlds.brush import Brush, Colour, mix
from anyref.worlds.identities import SETTINGS, STICKER, Garment, Look, Person, Setting, Split, draw_look
from anyref.worlds.render import draw_subject
from anyref.worlds.settings import MARGIN, draw_setting
from anyref.worlds.surfaces import canvas_on, image_of, rgb_of, rgba_of

_LONG_SIDE = (48, 72)
"""Long side of a reference in pixels when a frame is 64 pixels high."""
_PASTELS: tuple[Colour, ...] = (
    (184, 208, 228), (228, 194, 178), (186, 214, 186), (208, 192, 226), (230, 214, 168), (198, 198, 206),
)  # fmt: skip


def cross_reference(
    rng: Random, look: Look, height: int, split: Split, wearer: Person | None = None
) -> ReferenceVariant:
    """A subject drawn in another pose, size and light: cut out (RGBA) or on another simple background.

    `height` is the frame's, in pixels. For a garment, `wearer` wears it; only the garment is shown.
    """
    long_side = rng.uniform(*_LONG_SIDE) * height / 64
    unit = long_side / 1.3
    gain = rng.uniform(0.8, 1.2)
    warmth = rng.uniform(-0.05, 0.05)
    tint = (gain * (1 + warmth), gain, gain * (1 - warmth))
    scale = rng.uniform(0.92, 1.08)
    if isinstance(look, Garment):
        assert wearer is not None
        unit *= 2.2
        cut = _garment(look, wearer, _pose(rng, wearer, 0.85), round(unit), tint)
        scale = 1.0
    else:
        cut = _cut_out(look, _pose(rng, look, scale), round(unit), tint)
    rows, columns = np.flatnonzero(cut[..., 3].any(1)), np.flatnonzero(cut[..., 3].any(0))
    margins = [max(1, round(rng.uniform(0.02, 0.12) * long_side)) for _ in range(4)]
    top, bottom = max(0, rows[0] - margins[0]), min(cut.shape[0], rows[-1] + 1 + margins[1])
    left, right = max(0, columns[0] - margins[2]), min(cut.shape[1], columns[-1] + 1 + margins[3])
    cut = np.ascontiguousarray(cut[top:bottom, left:right])
    if rng.random() < 0.5:
        return ReferenceVariant(rgba_of(cut), "cross")
    background = _simple_background(rng, cut.shape[0], cut.shape[1], gain, split)
    canvas_on(background).drawImage(image_of(cut), 0, 0)
    return ReferenceVariant(rgb_of(background), "cross")


def crop_reference(
    rng: Random, frames_FYX3: NDArray[np.uint8], masks_FYX: NDArray[np.bool_], boxes_F4: NDArray[np.int32]
) -> ReferenceVariant:
    """The subject cut from a frame by its box and a small margin, at the size of a reference."""
    height, width = frames_FYX3.shape[1:3]
    area = np.array([np.count_nonzero(mask_YX) for mask_YX in masks_FYX])
    frame = rng.choice(np.flatnonzero(area >= 0.6 * area.max()).tolist())
    top, left, bottom, right = boxes_F4[frame].tolist()
    margin = rng.uniform(0.04, 0.14) * max(bottom - top, right - left)
    top, left = max(0, int(top - margin)), max(0, int(left - margin))
    bottom, right = min(height, int(bottom + margin) + 1), min(width, int(right + margin) + 1)
    return ReferenceVariant(_resized(rng, frames_FYX3[frame, top:bottom, left:right], height), "crop")


def setting_references(
    rng: Random, look: Setting, night: bool, plate_YX3: NDArray[np.uint8]
) -> tuple[ReferenceVariant, ReferenceVariant]:
    """The setting without subjects: from another place in another light, and cut from the clip's first frame."""
    height, width = plate_YX3.shape[:2]
    cross = cross_setting(rng, look, night, height, width)
    share = rng.uniform(0.8, 1.0)
    top, left = rng.randint(0, int(height * (1 - share))), rng.randint(0, int(width * (1 - share)))
    part = plate_YX3[top : top + int(height * share), left : left + int(width * share)]
    return cross, ReferenceVariant(_resized(rng, part, height), "crop")


def cross_setting(rng: Random, look: Setting, night: bool, height: int, width: int) -> ReferenceVariant:
    """A setting without subjects, from another place and in another light; sizes are the frame's, in pixels."""
    long_side = rng.uniform(60, 72) * height / 64
    aspect = rng.uniform(1.15, 1.6)
    columns, rows = round(long_side), round(long_side / aspect)
    zoom = rng.uniform(1.0, 1.2)
    gain = rng.uniform(0.8, 1.2)
    surface = np.zeros((rows, columns, 4), np.uint8)
    canvas = canvas_on(surface)
    canvas.scale(rows * zoom, rows * zoom)
    furthest = max(width / height + 0.6 * MARGIN - columns / rows / zoom, 0.0)
    canvas.translate(-rng.uniform(-0.6 * MARGIN, furthest), -rng.uniform(0, 1 - 1 / zoom))
    draw_setting(Brush(canvas, (gain, gain, gain)), look, night, width / height)
    return ReferenceVariant(rgb_of(surface), "cross")


def undressed(look: Person, garment: str) -> Person:
    """The person without the garment that is a reference of its own: bareheaded, or in a plain white shirt."""
    if garment == "hat":
        return replace(look, hat_style="none", hat="none")
    return replace(look, shirt_style="plain", shirt="white")


def garment_of(look: Person, garment: str) -> Garment:
    """What the person wears: "hat" or "shirt"."""
    if garment == "hat":
        return Garment("hat", look.hat_style, look.hat)
    return Garment("shirt", look.shirt_style, look.shirt)


def _pose(rng: Random, look: Look, scale: float) -> Pose:
    facing = 1.0 if look.label == STICKER else rng.choice((-1.0, 1.0))
    return Pose(
        x=1.05,
        y=1.32,
        scale=scale,
        facing=facing,
        tilt=rng.uniform(-9, 9),
        stride=rng.choice((-0.8, -0.4, 0.0, 0.5, 0.9)),
        arm_left=rng.choice((0.05, 0.25, 0.5, 0.95)),
        arm_right=rng.choice((0.05, 0.25, 0.5, 0.95)),
        nod=rng.choice((0.0, 0.0, 0.4)),
    )


def _cut_out(
    look: Look, pose: Pose, unit_px: int, tint: tuple[float, float, float], highlight: str | None = None
) -> NDArray[np.uint8]:
    """The subject on transparent ground, premultiplied, 1.5 units high and 2.1 wide."""
    pixels = np.zeros((round(1.5 * unit_px), round(2.1 * unit_px), 4), np.uint8)
    canvas = canvas_on(pixels)
    canvas.scale(unit_px, unit_px)
    draw_subject(Brush(canvas, tint, highlight), look, pose, unit_px)
    return pixels


def _garment(
    garment: Garment, wearer: Person, pose: Pose, unit_px: int, tint: tuple[float, float, float]
) -> NDArray[np.uint8]:
    dressed = _cut_out(wearer, pose, unit_px, tint)
    shown = _cut_out(wearer, pose, unit_px, tint, garment.label)[..., :1].astype(np.uint16)
    return (dressed * shown // 255).astype(np.uint8)


def _simple_background(rng: Random, rows: int, columns: int, gain: float, split: Split) -> NDArray[np.uint8]:
    pixels = np.zeros((rows, columns, 4), np.uint8)
    canvas = canvas_on(pixels)
    brush = Brush(canvas, (min(gain, 1.0),) * 3)
    if rng.random() < 0.35:
        look = draw_look(rng, rng.choice(SETTINGS), split)
        assert isinstance(look, Setting)
        canvas.scale(rows, rows)
        canvas.translate(-rng.uniform(0, 0.3), 0)
        draw_setting(brush, look, False, max(1.0, columns / rows))
        return pixels
    wall = rng.choice(_PASTELS)
    horizon = rng.uniform(0.6, 0.8) * rows
    brush.box(0, 0, columns, rows, wall)
    if rng.random() < 0.6:
        brush.box(0, horizon, columns, rows, mix(wall, (110, 90, 90), rng.uniform(0.15, 0.4)))
    return pixels


def _resized(rng: Random, pixels: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    factor = rng.uniform(*_LONG_SIDE) * height / 64 / max(pixels.shape[:2])
    size = max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor))
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image)

"""Stickers: cut-outs of bundled photographs (see photographs/LICENCES.md) with a white border, in a few windows, tones and outlines."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import skia
from numpy.typing import NDArray
from PIL import Image

from anyref.worlds.brush import Brush, blob, polygon

PHOTOGRAPHS: dict[str, Literal["train", "validation", "test"]] = {
    "dog_running": "train",
    "red_cups": "train",
    "cup_and_ball": "train",
    "sintel_girl": "train",
    "sintel_man": "train",
    "sintel_city": "train",
    "rocket": "train",
    "sheepdog": "train",
    "sheepdog_cat": "train",
    "cat_tabby": "train",
    "school": "train",
    "office": "train",
    "wheelchair": "train",
    "rug": "train",
    "signing_orange": "train",
    "signing_grey": "train",
    "table": "train",
    "plane": "train",
    "blue_mug": "validation",
    "kettle": "validation",
    "office_white": "validation",
    "bottle": "validation",
    "leaf": "validation",
    "deer": "test",
    "cat_face": "test",
    "shepherd": "test",
    "house": "test",
    "coffee": "test",
    "astronaut": "test",
}
"""The split that each photograph belongs to."""

WINDOWS = ("whole", "left", "right", "closer")
TONES = ("plain", "warm", "cool", "bright", "turned")
OUTLINES = ("circle", "square", "star", "blob", "heart")

_FOLDER = Path(__file__).parent / "photographs"
_SIDE_PX = 112
_WINDOW_OFFSETS = {"left": (0.0, 0.5), "right": (1.0, 0.5), "closer": (0.5, 0.4)}


def _outline(name: str) -> skia.Path:
    """The outline around (0, -0.5), within half a unit."""
    path = skia.Path()
    if name == "circle":
        path.addCircle(0, -0.5, 0.47)
    elif name == "square":
        path.addRoundRect(skia.Rect(-0.44, -0.94, 0.44, -0.06), 0.14, 0.14)
    elif name == "star":
        radii = (0.52, 0.36)
        corners = [(radii[i % 2], math.radians(36 * i - 90)) for i in range(10)]
        path = polygon([(r * math.cos(a), r * math.sin(a) - 0.48) for r, a in corners])
    elif name == "blob":
        corners = [(0.4 + 0.07 * math.sin(3 * i + 1), math.radians(45 * i)) for i in range(8)]
        path = blob([(1.12 * r * math.cos(a), r * math.sin(a) - 0.5) for r, a in corners])
    else:
        path = blob([(0, -0.8), (0.26, -0.95), (0.47, -0.72), (0.36, -0.36), (0, -0.04),
                     (-0.36, -0.36), (-0.47, -0.72), (-0.26, -0.95)])  # fmt: skip
    return path


_PATHS = {name: _outline(name) for name in OUTLINES}


def _toned(image: NDArray[np.float32], tone: str) -> NDArray[np.float32]:
    if tone == "turned":
        return np.stack([image[..., 1], image[..., 2], image[..., 0]], axis=-1)
    gains = {"warm": (1.15, 1.0, 0.78), "cool": (0.78, 0.98, 1.2), "bright": (1.25, 1.25, 1.25)}
    return image * np.array(gains.get(tone, (1.0, 1.0, 1.0)), np.float32)


@lru_cache(maxsize=512)
def picture(photograph: str, window: str, mirrored: bool, tone: str) -> NDArray[np.uint8]:
    """The square picture a sticker shows, uint8 [112, 112, 3]."""
    with Image.open(_FOLDER / f"{photograph}.jpg") as opened:
        image = opened.convert("RGB")
    width, height = image.size
    side = min(width, height) * (1.0 if window == "whole" else 0.8 if window != "closer" else 0.68)
    share_x, share_y = _WINDOW_OFFSETS.get(window, (0.5, 0.5))
    left, top = (width - side) * share_x, (height - side) * share_y
    image = image.resize(
        (_SIDE_PX, _SIDE_PX), Image.Resampling.BILINEAR, (left, top, left + side, top + side)
    )
    pixels = np.asarray(image, np.float32)
    if mirrored:
        pixels = pixels[:, ::-1]
    return np.clip(_toned(pixels, tone), 0, 255).astype(np.uint8)


@lru_cache(maxsize=512)
def _sticker_image(
    traits: tuple[str, str, bool, str, str], tint: tuple[float, float, float], size_px: int
) -> skia.Image:
    """The whole sticker, drawn once at `size_px` per unit on a transparent square of 1.2 units."""
    pixels = picture(*traits[:4]).astype(np.float32) * np.array(tint, np.float32)
    opaque = np.full((*pixels.shape[:2], 4), 255, np.uint8)
    opaque[..., :3] = np.clip(pixels, 0, 255)
    surface = skia.Surface(round(1.2 * size_px), round(1.2 * size_px))
    canvas = surface.getCanvas()
    canvas.scale(size_px, size_px)
    canvas.translate(0.6, 1.1)
    brush = Brush(canvas, tint)
    outline = _PATHS[traits[4]]
    brush.path(outline, (255, 255, 255), 0.1)
    canvas.clipPath(outline, skia.ClipOp.kIntersect, True)
    source = skia.Image.fromarray(opaque, skia.ColorType.kRGBA_8888_ColorType)
    sampling = skia.SamplingOptions(skia.FilterMode.kLinear, skia.MipmapMode.kLinear)
    canvas.drawImageRect(source, skia.Rect(-0.53, -1.03, 0.53, 0.03), sampling)
    return surface.makeImageSnapshot()


_SMOOTH = skia.SamplingOptions(skia.FilterMode.kLinear, skia.MipmapMode.kNone)


def draw_sticker(brush: Brush, traits: tuple[str, str, bool, str, str], size_px: int) -> None:
    """One sticker, standing on (0, 0), one unit tall; `traits`: photograph, window, mirrored, tone, outline."""
    image = _sticker_image(traits, brush.tint, size_px)
    brush.canvas.drawImageRect(image, skia.Rect(-0.6, -1.1, 0.6, 0.1), _SMOOTH)

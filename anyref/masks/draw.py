"""Masked frames: a mask of a drawn shape and ratio, the affine warp of frame and mask, and their product."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.masks.outlines import draw_outline, rotation
from anyref.masks.raster import fill_outline
from anyref.masks.settings import MaskConfig, Shape

_CENTRE = (0.2, 0.8)
"""Where the centre of a shape may be, as a part of each side of the frame."""
_WARP_TOLERANCE = 0.05
"""By how much the warped mask's pixels may differ from area times scale^2."""
_WARP_ATTEMPTS = 8


def draw_mask(
    height: int, width: int, rng: np.random.Generator, config: MaskConfig | None = None
) -> NDArray[np.bool_]:
    """M_k [Y, X], before the warp: a shape and a ratio are drawn, then its outline and place."""
    config = config or MaskConfig()
    shape = config.shapes[rng.integers(len(config.shapes))]
    return shape_mask(shape, draw_ratio(rng, config), height, width, rng)


def draw_ratio(rng: np.random.Generator, config: MaskConfig | None = None) -> float:
    """The foreground ratio r in [0, 1]: first the band, then uniform within it."""
    bands = (config or MaskConfig()).ratios
    edges = np.cumsum([band.probability for band in bands[:-1]])
    band = bands[int(np.searchsorted(edges, rng.random(), side="right"))]
    return float(rng.uniform(band.low, band.high))


def shape_mask(
    shape: Shape, ratio: float, height: int, width: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """A mask [Y, X] of one shape of exactly round(ratio * Y * X) pixels, and at least one.

    Paper: binary search over the scale, then single boundary pixels; the shape may overflow the frame and is
    clipped. The outline depends on the generator alone: from equal generators, the mask of a smaller ratio
    lies within that of a larger one, but for the single pixels. Raises ValueError for a ratio outside [0, 1]
    and for a frame without pixels.
    """
    if not 0 <= ratio <= 1 or height < 1 or width < 1:
        raise ValueError(
            f"a mask of ratio {ratio} in a frame of {height}x{width} was asked for; give a ratio from 0 to 1 and a frame of at least one pixel"
        )
    target = max(1, round(ratio * height * width))
    outline_V2 = draw_outline(shape, rng)
    centre = rng.uniform(*_CENTRE, size=2) * (width, height)
    return fill_outline(outline_V2, centre, height, width, target, rng)


def warp(
    image_YX3: NDArray[np.float32],
    mask_YX: NDArray[np.bool_],
    rng: np.random.Generator,
    config: MaskConfig | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """I_bar and M_bar ("Mask Augmentation"): one affine map for both, bilinear for the image, nearest for the
    mask; 0 where the image ends, and beyond the box of the mask, where nothing is sampled.

    The linear part is rotation * shear along x * scale * flip. The whole mask stays inside the frame: the
    scale is uniform in the configured range up to the largest at which the mask's box fits (that largest one
    where the range begins above it: backgrounds), then the place is uniform over all that fit. Drawn again
    where nearest sampling misses area * scale^2 by more than 5 % and one pixel, or leaves nothing; after eight
    such draws, which only masks of a few pixels see, both come back as they were. Raises ValueError for an
    empty mask.
    """
    config = config or MaskConfig()
    if image_YX3.shape != (*mask_YX.shape, 3) or not mask_YX.any():
        raise ValueError(
            f"an image {image_YX3.shape} with a mask {mask_YX.shape} of {mask_YX.sum()} pixels cannot be warped; "
            "give both the same rows and columns and a mask with a subject"
        )
    height, width = mask_YX.shape
    area, corners_2N = np.count_nonzero(mask_YX), _corners(mask_YX)
    mask_image = Image.fromarray(mask_YX.view(np.uint8))
    for _ in range(_WARP_ATTEMPTS):
        affine = _draw_affine(corners_2N, height, width, rng, config)
        inside = _sample(mask_image, affine, Image.Resampling.NEAREST).view(bool)
        count, expected = np.count_nonzero(inside), area * affine.scale**2
        if count and abs(count - expected) <= max(1.0, _WARP_TOLERANCE * expected):
            break
    else:
        return image_YX3, mask_YX
    image, mask = np.zeros_like(image_YX3), np.zeros_like(mask_YX)
    box = np.s_[affine.top : affine.top + affine.height, affine.left : affine.left + affine.width]
    mask[box] = inside
    for channel in range(3):
        source = Image.fromarray(np.ascontiguousarray(image_YX3[..., channel]))
        image[..., channel][box] = _sample(source, affine, Image.Resampling.BILINEAR)
    return image, mask


def masked_reference(
    frame_YX3: NDArray[np.uint8], rng: np.random.Generator, config: MaskConfig | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """I_hat = I_bar * M_bar from a frame of the clip, float32 in [-1, 1], and M_bar.

    Multiplied in [-1, 1]: what is masked out is exactly 0, mid grey, as a cut-out reference's background is
    at inference. Raises ValueError for a frame of another dtype or shape.
    """
    config = config or MaskConfig()
    if frame_YX3.dtype != np.uint8 or frame_YX3.ndim != 3 or frame_YX3.shape[2] != 3:
        raise ValueError(
            f"a frame is {frame_YX3.dtype} {frame_YX3.shape}; it must be uint8 of shape (rows, columns, 3)"
        )
    image = frame_YX3.astype(np.float32) / 127.5 - 1
    mask = draw_mask(frame_YX3.shape[0], frame_YX3.shape[1], rng, config)
    if config.augment:
        image, mask = warp(image, mask, rng, config)
    return image * mask[..., None], mask


def _corners(mask_YX: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[2, N]: (x, y) of the outer corners of each row's first and last pixel, which hold the whole mask."""
    rows = np.flatnonzero(mask_YX.any(axis=1))
    left = mask_YX[rows].argmax(axis=1)
    right = mask_YX.shape[1] - mask_YX[rows, ::-1].argmax(axis=1)
    return np.stack(
        [np.tile(np.concatenate([left, right]), 2), np.repeat([rows, rows + 1], 2, axis=0).ravel()]
    )


class _Affine(NamedTuple):
    """An output pixel's place in the source, as Pillow takes it, from the corner of the warped mask's box."""

    inverse: tuple[float, ...]
    scale: float
    top: int
    left: int
    height: int
    width: int


def _draw_affine(
    corners_2N: NDArray[np.float64], height: int, width: int, rng: np.random.Generator, config: MaskConfig
) -> _Affine:
    turn = rotation(math.radians(rng.uniform(*config.rotation_deg)))
    shear = np.array([[1.0, math.tan(math.radians(rng.uniform(*config.shear_deg)))], [0.0, 1.0]])
    flip = np.diag([-1.0 if rng.random() < config.flip_probability else 1.0, 1.0])
    linear, size = turn @ shear @ flip, np.array([width, height], dtype=float)
    moved = linear @ corners_2N
    low, high = moved.min(axis=1), moved.max(axis=1)
    largest = float((size / (high - low)).min())
    scale = rng.uniform(min(config.scale[0], largest), min(config.scale[1], largest))
    extent = scale * (high - low)
    corner = rng.uniform(0, 1, 2) * np.maximum(size - extent, 0)
    first = np.floor(corner)
    back = np.linalg.inv(scale * linear)
    origin = back @ (first - corner + scale * low)
    inverse = (back[0, 0], back[0, 1], origin[0], back[1, 0], back[1, 1], origin[1])
    box_width, box_height = (np.minimum(np.ceil(corner + extent), size) - first).astype(int).tolist()
    return _Affine(inverse, scale, int(first[1]), int(first[0]), box_height, box_width)


def _sample(image: Image.Image, affine: _Affine, resample: Image.Resampling) -> NDArray[Any]:
    size = (affine.width, affine.height)
    return np.asarray(image.transform(size, Image.Transform.AFFINE, affine.inverse, resample))

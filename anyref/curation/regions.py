"""Masks and boxes of subjects: overlap, clean-up, shape, duplicates, and pictures cut out of frames; pure functions.

Masks are bool [Y, X], True on the subject. Boxes are (top, left, bottom, right) in pixels of the displayed frame, half-open. Pictures are
uint8 RGB [Y, X, 3], cut-outs RGBA.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyref.perception import Box, Picture

Mask = NDArray[np.bool_]
WHITE = (255, 255, 255)


class Shape(NamedTuple):
    """How a mask looks; every number in [0, 1] but `aspect`."""

    area: float
    """Share of the frame."""
    largest_share: float
    """Share of the mask's area in its largest connected piece."""
    solidity: float
    """Area over the area of the convex hull."""
    aspect: float
    """Longer over shorter side of the tight box."""
    border_share: float
    """Share of the outline that lies on the edge of the frame: how much of the subject is likely cut off."""


def iou(first: Mask, second: Mask) -> float:
    """Intersection over union (MAGREF equation 15); 0 for two empty masks."""
    union = int(np.logical_or(first, second).sum())
    return int(np.logical_and(first, second).sum()) / union if union else 0.0


def inside_share(inner: Mask, outer: Mask) -> float:
    """Share of `inner` that lies in `outer`; 0 where `inner` is empty."""
    area = int(inner.sum())
    return int(np.logical_and(inner, outer).sum()) / area if area else 0.0


def box_iou(first: Box, second: Box) -> float:
    """Intersection over union of boxes."""
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    width = min(first.right, second.right) - max(first.left, second.left)
    if height <= 0 or width <= 0:
        return 0.0
    shared = height * width
    return shared / (box_area(first) + box_area(second) - shared)


def box_area(box: Box) -> float:
    """Pixels of a box."""
    return max(0.0, box.bottom - box.top) * max(0.0, box.right - box.left)


def box_of(mask_YX: Mask) -> Box | None:
    """Tight box of a mask; None where it is empty."""
    rows, columns = np.flatnonzero(mask_YX.any(1)), np.flatnonzero(mask_YX.any(0))
    if not len(rows):
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def box_mask(box: Box, height: int, width: int) -> Mask:
    """The box as a mask; parts outside the frame are cut off."""
    mask = np.zeros((height, width), dtype=np.bool_)
    top, left, bottom, right = (max(0, round(side)) for side in box)
    mask[top:bottom, left:right] = True
    return mask


def clean(mask_YX: Mask, share_of_diagonal: float = 0.003) -> Mask:
    """MAGREF equation 13: opening (erosion, dilation) then closing with a disc, so that specks go, gaps close and outlines are smooth.

    The radius is a share of the frame's diagonal, at least one pixel; the paper does not say. A mask that the opening would take away
    whole (a thin thing) is only closed.
    """
    import cv2

    disc = _disc(_radius(mask_YX, share_of_diagonal))
    mask = mask_YX.astype(np.uint8)
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc)
    return cv2.morphologyEx(opened if opened.any() else mask, cv2.MORPH_CLOSE, disc).astype(np.bool_)


def dilate(mask_YX: Mask, share_of_diagonal: float) -> Mask:
    """The mask grown by a share of the frame's diagonal, at least one pixel."""
    import cv2

    disc = _disc(_radius(mask_YX, share_of_diagonal))
    return cv2.dilate(mask_YX.astype(np.uint8), disc).astype(np.bool_)


def shape_of(mask_YX: Mask) -> Shape:
    """What the filters for size and irregular shape (MAGREF equation 14) look at; zeros for an empty mask."""
    import cv2

    area = int(mask_YX.sum())
    box = box_of(mask_YX)
    if box is None:
        return Shape(0.0, 0.0, 0.0, 0.0, 0.0)
    mask = mask_YX.astype(np.uint8)
    _, _, pieces, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate([outline[:, 0] for outline in outlines])
    hull = cv2.fillConvexPoly(np.zeros_like(mask), cv2.convexHull(points), 1)
    height, width = box.bottom - box.top, box.right - box.left
    on_edge = (points == 0) | (points == np.array(mask.shape[::-1]) - 1)
    return Shape(
        area=area / mask.size,
        largest_share=int(pieces[1:, cv2.CC_STAT_AREA].max()) / area,
        solidity=min(1.0, area / int(hull.sum())),
        aspect=max(height, width) / min(height, width),
        border_share=float(on_edge.any(axis=1).mean()),
    )


def keepers(masks: Sequence[Mask], order: Sequence[int], threshold: float) -> list[int]:
    """For each mask the index of the mask that stands for it: itself, or one earlier in `order` that it overlaps by IoU > threshold.

    Class-agnostic non-maximum suppression. Chains do not form: a mask stands for others only if it stands for itself.
    """
    standing: list[int] = []
    keeper = list(range(len(masks)))
    for index in order:
        over = [other for other in standing if iou(masks[index], masks[other]) > threshold]
        if over:
            keeper[index] = over[0]
        else:
            standing.append(index)
    return keeper


def padded(box: Box, margin: float, height: int, width: int) -> Box:
    """The box grown on each side by a share of its longer side, whole pixels, inside the frame."""
    grow = margin * max(box.bottom - box.top, box.right - box.left)
    return Box(
        max(0, int(np.floor(box.top - grow))),
        max(0, int(np.floor(box.left - grow))),
        min(height, int(np.ceil(box.bottom + grow))),
        min(width, int(np.ceil(box.right + grow))),
    )


def crop(picture_YX3: Picture, box: Box, margin: float = 0.0) -> Picture:
    """What is in the box, grown by `margin`; a copy of at least one pixel."""
    height, width = picture_YX3.shape[:2]
    top, left, bottom, right = (int(side) for side in padded(box, margin, height, width))
    top, left = min(top, height - 1), min(left, width - 1)
    return np.ascontiguousarray(picture_YX3[top : max(bottom, top + 1), left : max(right, left + 1)])


def cut_out(picture_YX3: Picture, mask_YX: Mask, box: Box, margin: float = 0.0) -> NDArray[np.uint8]:
    """RGBA of the box: the subject opaque, the rest transparent and white."""
    whole = np.where(mask_YX[..., None], picture_YX3, np.uint8(255))
    alpha = np.where(mask_YX, np.uint8(255), np.uint8(0))
    return crop(np.concatenate([whole, alpha[..., None]], axis=2).astype(np.uint8), box, margin)


def on_plain(cut: NDArray[np.uint8], colour: tuple[int, int, int] = WHITE) -> Picture:
    """An RGBA cut-out laid on one colour: RGB."""
    alpha = cut[..., 3:].astype(np.float32) / 255
    return np.rint(cut[..., :3] * alpha + np.array(colour, np.float32) * (1 - alpha)).astype(np.uint8)


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB or RGBA on white, squeezed to 32 x 32: 3072 values, 0 to 255, by whose mean difference copies are told."""
    import cv2

    rgb = on_plain(picture) if picture.shape[2] == 4 else picture
    small = cv2.resize(rgb, (32, 32), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32).ravel()


def colours(cut: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The colours of an RGBA cut-out: the square root of its smoothed histogram in CIELAB, 8 x 16 x 16 values of unit length.

    The product of two is their Bhattacharyya coefficient: 1 for equal colours in equal shares, 0 for none in common. Zeros for a cut-out
    of nothing.
    """
    import cv2

    lab = cv2.cvtColor(np.ascontiguousarray(cut[..., :3]), cv2.COLOR_RGB2LAB)[cut[..., 3] >= 128]
    # Of a and b the outer quarters hold only the loudest colours; they count as the loudest of the inner ones.
    inner = lab.clip((0, 64, 64), (255, 191, 191))
    counts, _ = np.histogramdd(inner, bins=(8, 16, 16), range=((0, 256), (64, 192), (64, 192)))
    light, colour = _blur(8), _blur(16)
    smooth = np.einsum("ia,jb,kc,abc->ijk", light, colour, colour, counts, optimize=True)
    return np.sqrt(smooth / max(smooth.sum(), 1e-12)).astype(np.float32).ravel()


def _blur(bins: int) -> NDArray[np.float64]:
    """A Gaussian of one bin's deviation, as a matrix over bins."""
    apart = np.arange(bins)[:, None] - np.arange(bins)
    return np.exp(-0.5 * np.square(apart))


def sharpness(picture_YX3: Picture, side: int = 256) -> float:
    """Variance of the Laplacian of luma, with the longer side scaled down to `side` pixels (never up: that would only blur)."""
    import cv2

    luma = cv2.cvtColor(picture_YX3, cv2.COLOR_RGB2GRAY)
    scale = side / max(luma.shape)
    if scale < 1:
        size = (max(1, round(luma.shape[1] * scale)), max(1, round(luma.shape[0] * scale)))
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(luma, cv2.CV_64F).var())


def brightness(picture_YX3: Picture, mask_YX: Mask | None = None) -> float:
    """Mean luma (BT.601), 0 to 255, of the picture or of where the mask is True; 0 where that is nowhere."""
    luma = picture_YX3 @ np.array([0.299, 0.587, 0.114])
    chosen = luma if mask_YX is None else luma[mask_YX]
    return float(chosen.mean()) if chosen.size else 0.0


def composite(
    cut: NDArray[np.uint8], background_YX3: Picture, share: float, rng: np.random.Generator
) -> Picture:
    """A cut-out laid on a background of its own size: scaled to `share` of the background's height or less, at a random place."""
    from PIL import Image

    height, width = background_YX3.shape[:2]
    scale = min(share * height / cut.shape[0], share * width / cut.shape[1])
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
    subject = Image.fromarray(cut).resize(size, Image.Resampling.LANCZOS)
    left = int(rng.integers(0, width - size[0] + 1))
    top = int(
        rng.integers((height - size[1]) // 2, height - size[1] + 1)
    )  # on the ground more than in the sky
    picture = Image.fromarray(background_YX3)
    picture.paste(subject, (left, top), subject)
    return np.asarray(picture)


def _radius(mask_YX: Mask, share_of_diagonal: float) -> int:
    return max(1, round(share_of_diagonal * float(np.hypot(*mask_YX.shape))))


def _disc(radius: int) -> NDArray[np.uint8]:
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (rows**2 + columns**2 <= radius**2 + radius).astype(np.uint8)

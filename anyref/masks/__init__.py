"""Random masks of random shapes, and the warp a frame and its mask go through: references from video alone.

Saber (arXiv 2512.06905), "Masked Frames as References" and "Mask Generator + Mask Augmentation": a frame I_k of
the clip and a mask M_k are warped together, and I_hat = I_bar * M_bar stands in for a reference image. Numpy
and Pillow only; Y, X are pixels, V an outline's vertices as (x, y).
"""

from anyref.masks.draw import draw_mask, draw_ratio, masked_reference, shape_mask, warp
from anyref.masks.settings import SHAPES, MaskConfig, RatioBand, Shape
from anyref.masks.sheet import mask_sheet

__all__ = [
    "SHAPES", "MaskConfig", "RatioBand", "Shape", "draw_mask", "draw_ratio", "mask_sheet", "masked_reference",
    "shape_mask", "warp",
]  # fmt: skip

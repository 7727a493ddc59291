"""A contact sheet of masks and of what they leave of a warped test picture."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from anyref.masks.draw import draw_ratio, shape_mask, warp
from anyref.masks.settings import MaskConfig


def mask_sheet(seed: int = 0, count: int = 24, config: MaskConfig | None = None) -> Image.Image:
    """A contact sheet: `count` masks, each labelled with its shape and ratio, beside what warp and mask leave
    of a test picture.
    """
    config = config or MaskConfig()
    rng, columns, height, width = np.random.default_rng(seed), 3, 120, 208
    picture = _test_picture(height, width)
    cell_width, cell_height = 2 * width + 12, height + 20
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    for index in range(count):
        left, top = index % columns * cell_width + 4, index // columns * cell_height + 16
        shape, ratio = config.shapes[rng.integers(len(config.shapes))], draw_ratio(rng, config)
        mask = shape_mask(shape, ratio, height, width, rng)
        image, warped = warp(picture, mask, rng, config) if config.augment else (picture, mask)
        masked = np.rint((image * warped[..., None] + 1) * 127.5).clip(0, 255).astype(np.uint8)
        sheet.paste(Image.fromarray(mask.astype(np.uint8) * 255), (left, top))
        sheet.paste(Image.fromarray(masked), (left + width + 2, top))
        draw.text((left, top - 14), f"{shape} {ratio:.3f}, warped {warped.mean():.3f}", fill="black")
    return sheet


def _test_picture(height: int, width: int) -> NDArray[np.float32]:
    """Colours that say where a pixel came from, on a chequered ground that shows how it was bent."""
    y, x = np.mgrid[:height, :width]
    chequer = ((y // 12 + x // 12) % 2) * 0.35 + 0.65
    red_green_blue = np.stack([x / width, 1 - y / height, 1 - x / width], axis=-1)
    return (2 * red_green_blue * chequer[..., None] - 1).astype(np.float32)

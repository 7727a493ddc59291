"""A contact sheet and an animated GIF of a world, to look at it, and the measurement of its speed."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from anyref.samples import Sample
from anyref.worlds.dataset import PuppetWorld

_PAPER = (250, 248, 244)
_CHECKER = 6


def write_preview(output: Path, world: PuppetWorld, count: int, scale: int = 2) -> tuple[Path, Path]:
    """Writes `output` (PNG: references, six frames and the caption of `count` clips) and, beside it, a GIF mosaic.

    Returns the two paths. `scale` enlarges pixels.
    """
    if count < 1:
        raise ValueError(f"count is {count}; ask for at least 1 clip.")
    samples = [world.clip(index) for index in range(count)]
    rows = [contact_row(sample, scale) for sample in samples]
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), _PAPER)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(output)
    animation = output.with_suffix(".gif")
    frames = [Image.fromarray(_mosaic(samples, frame, scale)) for frame in range(world.num_frames)]
    frames[0].save(
        animation, save_all=True, append_images=frames[1:], duration=round(1000 / world.fps), loop=0
    )
    return output, animation


def contact_row(sample: Sample, scale: int = 2, num_frames: int = 6) -> Image.Image:
    """References | frames, with the caption below."""
    height, width = sample.frames_FYX3.shape[1:3]
    cell = round(1.15 * height * scale)
    images = [reference.image for subject in sample.subjects for reference in subject.references]
    picks = np.linspace(0, len(sample.frames_FYX3) - 1, num_frames).round().astype(int)
    left = max(6, len(images)) * (cell + 4)
    row = Image.new("RGB", (left + num_frames * (width * scale + 4), cell + 24), _PAPER)
    for number, image in enumerate(images):
        shown = Image.fromarray(on_checkers(image))
        shown = shown.resize((shown.width * scale, shown.height * scale), Image.Resampling.NEAREST)
        shown.thumbnail((cell, cell))
        row.paste(shown, (number * (cell + 4), 0))
    for number, pick in enumerate(picks):
        frame = Image.fromarray(sample.frames_FYX3[pick]).resize(
            (width * scale, height * scale), Image.Resampling.NEAREST
        )
        row.paste(frame, (left + number * (width * scale + 4), 0))
    ImageDraw.Draw(row).text(
        (4, cell + 4), sample.caption, fill=(40, 36, 48), font=ImageFont.load_default(14)
    )
    return row


def on_checkers(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An RGB or RGBA image on a grey checkerboard."""
    if image.shape[2] == 3:
        return image
    rows, columns = np.indices(image.shape[:2]) // _CHECKER
    board = np.where((rows + columns) % 2 == 0, 236, 212)[..., None].astype(np.float32)
    alpha = image[..., 3:].astype(np.float32) / 255
    return (image[..., :3] * alpha + board * (1 - alpha)).astype(np.uint8)


def clips_per_second(world: PuppetWorld, count: int = 200) -> float:
    """How many clips a second this process renders, references included."""
    world.clip(0)
    start = time.perf_counter()
    for index in range(count):
        world.clip(index)
    return count / (time.perf_counter() - start)


def _mosaic(samples: list[Sample], frame: int, scale: int) -> NDArray[np.uint8]:
    columns = max(1, round(len(samples) ** 0.5))
    blank = np.full_like(samples[0].frames_FYX3[0], 255)
    images = [sample.frames_FYX3[frame] for sample in samples]
    images += [blank] * (-len(images) % columns)
    rows = [np.concatenate(images[i : i + columns], 1) for i in range(0, len(images), columns)]
    return np.concatenate(rows, 0).repeat(scale, 0).repeat(scale, 1)

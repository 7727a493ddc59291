"""Pictures inside a Qwen-VL prompt, without the processor of transformers, which cannot be built without torchvision.

A picture becomes patches and a run of image tokens between two marks, one token per 2 x 2 patches. GME and the in-process language model share this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

IMAGE_TOKEN = "<|image_pad|>"
IMAGE_MARK = f"<|vision_start|>{IMAGE_TOKEN}<|vision_end|>"


@dataclass(frozen=True)
class Prompt:
    """What the model reads. The pixels are None for a prompt without pictures."""

    input_ids_1S: Tensor
    attention_1S: Tensor
    image_1S: Tensor
    """True on image tokens."""
    pixels: Tensor | None
    """Patches of all pictures [patches, channels * time * side * side]."""
    grids_R3: Tensor | None
    """(time, rows, columns) of patches, per picture."""


def read(
    text: str, pictures: Sequence[Image.Image], processor: Any, tokenizer: Any, max_tokens: int | None = None
) -> Prompt:
    """The prompt of a text in which `IMAGE_MARK` stands once per picture, in order; cut at `max_tokens`."""
    assert text.count(IMAGE_TOKEN) == len(pictures), "one mark per picture"
    pixels = grids = None
    if pictures:
        prepared = processor(images=list(pictures), return_tensors="pt")
        pixels, grids = prepared["pixel_values"], prepared["image_grid_thw"]
        pieces = text.split(IMAGE_TOKEN)
        text = pieces[0]
        for grid, piece in zip(grids, pieces[1:], strict=True):
            text += IMAGE_TOKEN * (int(grid.prod()) // processor.merge_size**2) + piece
    tokens = tokenizer(text, truncation=max_tokens is not None, max_length=max_tokens, return_tensors="pt")
    image = tokens["input_ids"] == tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    return Prompt(tokens["input_ids"], tokens["attention_mask"], image, pixels, grids)


def resized_to_multiple(picture: Image.Image, factor: int = 28) -> Image.Image:
    """Both sides to the nearest multiple of `factor`, at least one: what GME's own loader does before the processor."""
    width, height = (max(factor, round(side / factor) * factor) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def device_and_type(device: str) -> tuple[torch.device, torch.dtype]:
    """Half precision on an accelerator, as the embedding models were published; float32 on a CPU."""
    place = torch.device(device)
    return place, torch.float32 if place.type == "cpu" else torch.float16

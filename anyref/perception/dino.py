"""DINO and DINOv2: pictures as vectors of what is to be seen, for subject similarity and VBench's subject consistency."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anyref.perception import ModelCard, Picture
from anyref.perception.models import Entry
from anyref.perception.preparation import (
    IMAGENET,
    card,
    check,
    hub_revision,
    normalise,
    pil,
    shorter_side,
    unit,
)

PrepareOne = Callable[[Picture], Tensor]
"""A picture to the pixels [1, 3, Y, X] that the encoder reads; the size may differ from picture to picture."""


class Dino:
    """The class token of the last layer. Pictures go through one by one, since they may keep their proportions."""

    def __init__(
        self, model: Any, prepare: PrepareOne, card: ModelCard, *, interpolate: bool = False
    ) -> None:
        self._model = model.eval()
        self._prepare = prepare
        self._interpolate = interpolate
        """Whether the positions are stretched to the picture's size: needed for DINO's ViT, built into DINOv2."""
        self.card = card

    @torch.no_grad()
    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """See `anyref.perception.ImageEncoder`."""
        check(pictures)
        rows = [np.zeros((0, self._model.config.hidden_size), dtype=np.float32)]
        stretch = {"interpolate_pos_encoding": True} if self._interpolate else {}
        for picture in pictures:
            pixels = self._prepare(picture).to(self._model.device, self._model.dtype)
            rows.append(unit(self._model(pixel_values=pixels, **stretch).last_hidden_state[:, 0]))
        return np.concatenate(rows)


def as_vbench(picture_YX3: Picture) -> Tensor:
    """VBench's `dino_transform`: the shorter side to 224, bilinear, not smoothed, not cropped; ImageNet's colours."""
    return normalise(shorter_side(picture_YX3, 224, "bilinear", smooth=False), IMAGENET)


def with_processor(processor: Any) -> PrepareOne:
    """A picture through a PIL processor of transformers."""

    def prepare(picture_YX3: Picture) -> Tensor:
        pixels: Tensor = processor(images=pil([picture_YX3]), return_tensors="pt")["pixel_values"]
        return pixels

    return prepare


def open_dino_vbench(entry: Entry, device: str) -> Dino:
    """DINO's ViT. transformers stretches positions a little differently from torch.hub: about 1e-3 in a cosine."""
    from transformers import ViTModel

    revision = hub_revision(entry)
    model = ViTModel.from_pretrained(entry.source, revision=revision, add_pooling_layer=False).to(device)
    return Dino(model, as_vbench, card(entry, model), interpolate=True)


def open_dinov2(entry: Entry, device: str) -> Dino:
    """DINOv2 with its own preparation: 256, centre crop 224."""
    from transformers import Dinov2Model
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    revision = hub_revision(entry)
    model = Dinov2Model.from_pretrained(entry.source, revision=revision).to(device)
    processor = BitImageProcessorPil.from_pretrained(entry.source, revision=revision)
    return Dino(model, with_processor(processor), card(entry, model))

"""CLIP: pictures and sentences as vectors of one space; for class checks, S2V consistency, VBench's background and the aesthetic raters."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anyref.perception import ModelCard, Picture
from anyref.perception.models import Entry
from anyref.perception.preparation import card, check, hub_revision, pil, unit, vbench_square

BATCH = 16
Prepare = Callable[[Sequence[Picture]], Tensor]
"""Pictures to the pixels [B, 3, size, size] that the encoder reads."""


class Clip:
    """See the module. Sentences longer than the model reads (77 tokens) are cut, as everywhere."""

    def __init__(self, model: Any, tokenizer: Any, prepare: Prepare, card: ModelCard) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._prepare = prepare
        self.card = card

    @torch.no_grad()
    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """See `anyref.perception.ImageEncoder`: the projected vectors."""
        check(pictures)
        width = self._model.config.projection_dim
        rows = [np.zeros((0, width), dtype=np.float32)]
        for start in range(0, len(pictures), BATCH):
            pixels = self._prepare(pictures[start : start + BATCH]).to(self._model.device, self._model.dtype)
            # Not get_image_features: since transformers 5 what that returns depends on the version.
            pooled = self._model.vision_model(pixel_values=pixels).pooler_output
            rows.append(unit(self._model.visual_projection(pooled)))
        return np.concatenate(rows)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `anyref.perception.ImageTextEncoder`."""
        width = self._model.config.projection_dim
        rows = [np.zeros((0, width), dtype=np.float32)]
        for text in texts:
            tokens = self._tokenizer(
                text,
                truncation=True,
                max_length=self._model.config.text_config.max_position_embeddings,
                return_tensors="pt",
            )
            pooled = self._model.text_model(
                input_ids=tokens["input_ids"].to(self._model.device)
            ).pooler_output
            rows.append(unit(self._model.text_projection(pooled)))
        return np.concatenate(rows)


def with_processor(processor: Any) -> Prepare:
    """Pictures through a PIL processor of transformers."""

    def prepare(pictures: Sequence[Picture]) -> Tensor:
        pixels: Tensor = processor(images=pil(pictures), return_tensors="pt")["pixel_values"]
        return pixels

    return prepare


def as_vbench(size: int) -> Prepare:
    """Pictures as VBench's `clip_transform` makes them."""

    def prepare(pictures: Sequence[Picture]) -> Tensor:
        return torch.cat([vbench_square(picture, size) for picture in pictures])

    return prepare


def open_clip(entry: Entry, device: str) -> Clip:
    """CLIP with OpenAI's own preparation: bicubic and smoothed to 224, centre crop."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil.from_pretrained(entry.source, revision=hub_revision(entry))
    return _open(entry, device, with_processor(processor))


def open_clip_vbench(entry: Entry, device: str) -> Clip:
    """CLIP with VBench's preparation."""
    return _open(entry, device, as_vbench(224))


def _open(entry: Entry, device: str, prepare: Prepare) -> Clip:
    from transformers import CLIPModel, CLIPTokenizer

    revision = hub_revision(entry)
    model = CLIPModel.from_pretrained(entry.source, revision=revision).to(device)
    return Clip(
        model, CLIPTokenizer.from_pretrained(entry.source, revision=revision), prepare, card(entry, model)
    )

"""Grounding DINO: finds things by words, each box tied to its phrase by the phrase's own tokens.

Departures from the released post-processing, whose decoded strings ("##hy", "woman person") are the users' first complaint: a phrase's score
is the highest probability among its own tokens, and a box answers every phrase whose score is above the threshold.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from anyref.perception import Box, Detection, ModelCard, Picture
from anyref.perception.models import Entry
from anyref.perception.preparation import card, hub_revision, pil

THRESHOLD = 0.35
"""curation.md: box .35; OpenS2V uses .25. A token's probability, from 0 to 1."""
_MAX_TOKENS = 256


class _Query(NamedTuple):
    caption: str
    phrases: tuple[int, ...]
    """Indices into the phrases that were asked for."""
    spans: tuple[tuple[int, int], ...]
    """Where each stands in the caption."""


class GroundingDino:
    """See the module. Several captions are asked where all phrases do not fit into one."""

    def __init__(
        self, model: Any, processor: Any, tokenizer: Any, card: ModelCard, threshold: float = THRESHOLD
    ) -> None:
        self._model = model.eval()
        self._processor = processor
        self._tokenizer = tokenizer
        self._threshold = threshold
        self.card = card
        limits = (_MAX_TOKENS, model.config.max_text_len, model.config.text_config.max_position_embeddings)
        self._max_tokens = min(limits)

    def detect(self, picture_YX3: Picture, phrases: Sequence[str]) -> list[Detection]:
        """See `anyref.perception.Detector`. Raises ValueError for an empty phrase and one that is longer than the model reads."""
        picture = pil([picture_YX3])
        if not phrases:
            return []
        pixels = self._processor(images=picture, return_tensors="pt")
        found: list[Detection] = []
        for query in self._queries(phrases):
            found += self._ask(pixels, query, picture_YX3.shape[0], picture_YX3.shape[1])
        # Ties keep the order of phrases, so that the same picture gives the same list.
        return sorted(found, key=lambda detection: (-detection.score, detection.phrase))

    def _queries(self, phrases: Sequence[str]) -> list[_Query]:
        """Captions "phrase. phrase." in lower case, each within the model's tokens, in the order of the phrases."""
        cleaned = [_clean(phrase) for phrase in phrases]
        queries: list[_Query] = []
        group: list[int] = []
        for index in range(len(cleaned)):
            if group and self._length([cleaned[i] for i in [*group, index]]) > self._max_tokens:
                queries.append(_query(group, cleaned))
                group = []
            if self._length([cleaned[index]]) > self._max_tokens:
                raise ValueError(
                    f"the phrase {phrases[index][:60]!r}... is longer than the detector's {self._max_tokens} tokens; name the thing"
                )
            group.append(index)
        return [*queries, _query(group, cleaned)]

    def _length(self, phrases: list[str]) -> int:
        return len(self._tokenizer(_caption(phrases))["input_ids"])

    @torch.no_grad()
    def _ask(self, pixels: Any, query: _Query, height: int, width: int) -> list[Detection]:
        text = self._tokenizer(query.caption, return_tensors="pt", return_offsets_mapping=True)
        offsets = text.pop("offset_mapping")[0].tolist()
        device = self._model.device
        output = self._model(
            pixel_values=pixels["pixel_values"].to(device, self._model.dtype),
            pixel_mask=pixels["pixel_mask"].to(device),
            input_ids=text["input_ids"].to(device),
            attention_mask=text["attention_mask"].to(device),
            token_type_ids=text["token_type_ids"].to(device) if "token_type_ids" in text else None,
        )
        probabilities = output.logits[0].float().sigmoid().cpu().numpy()
        boxes = output.pred_boxes[0].float().cpu().numpy()
        found = []
        for index, (start, end) in zip(query.phrases, query.spans, strict=True):
            own = [n for n, (first, last) in enumerate(offsets) if first < end and last > start]
            # Nothing the tokenizer knows: every word was dropped, so nothing can be found.
            scores = probabilities[:, own].max(axis=1) if own else np.zeros(len(boxes))
            for number in np.flatnonzero(scores > self._threshold):
                box = _corners(boxes[number], height, width)
                found.append(Detection(index, box, float(scores[number])))
        return found


def open_grounding_dino(entry: Entry, device: str) -> GroundingDino:
    """Load the model, its tokenizer and the PIL image processor, which needs no torchvision."""
    from transformers import AutoTokenizer, GroundingDinoForObjectDetection
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
        GroundingDinoImageProcessorPil,
    )

    revision = hub_revision(entry)
    model = GroundingDinoForObjectDetection.from_pretrained(entry.source, revision=revision).to(device)
    processor = GroundingDinoImageProcessorPil.from_pretrained(entry.source, revision=revision)
    tokenizer = AutoTokenizer.from_pretrained(entry.source, revision=revision)
    return GroundingDino(model, processor, tokenizer, card(entry, model))


def _clean(phrase: str) -> str:
    # A full stop ends a phrase for the model, and a question mark too.
    cleaned = " ".join(phrase.lower().replace(".", " ").replace("?", " ").split())
    if not cleaned:
        raise ValueError(f"the phrase {phrase!r} names nothing to look for; give a noun")
    return cleaned


def _caption(phrases: Sequence[str]) -> str:
    return ". ".join(phrases) + "."


def _query(group: list[int], cleaned: list[str]) -> _Query:
    spans, position = [], 0
    for index in group:
        spans.append((position, position + len(cleaned[index])))
        position += len(cleaned[index]) + len(". ")
    return _Query(_caption([cleaned[index] for index in group]), tuple(group), tuple(spans))


def _corners(box_4: NDArray[np.float32], height: int, width: int) -> Box:
    """(centre x, centre y, width, height) in shares of the picture to our boxes, within the picture."""
    x, y, across, down = (float(value) for value in box_4)
    return Box(
        max(0.0, (y - down / 2) * height),
        max(0.0, (x - across / 2) * width),
        min(float(height), (y + down / 2) * height),
        min(float(width), (x + across / 2) * width),
    )

"""GME: pictures and sentences through Qwen2-VL as vectors of one space; MAGREF's and OpenS2V's GmeScore, and the similarity in NexusScore.

The released code embeds the tokens itself and calls the text model without positions, which makes them plain counts and not Qwen's three axes
of time, row and column. The numbers depend on it, so we do the same; `Qwen2VLModel.forward` would give others.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anyref.perception import ModelCard, Picture
from anyref.perception.models import Entry
from anyref.perception.preparation import card, hub_revision, pil, unit
from anyref.perception.qwen import IMAGE_MARK, Prompt, device_and_type, read, resized_to_multiple

INSTRUCTION = "You are a helpful assistant."
QUERY_INSTRUCTION = "Find an image that matches the given text."
MAX_TOKENS = 1800
MIN_PIXELS, MAX_PIXELS = 256 * 28 * 28, 1280 * 28 * 28


class Gme:
    """One prompt at a time: the last token's hidden state of the last layer, at length 1."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        tokenizer: Any,
        card: ModelCard,
        query_instruction: str = QUERY_INSTRUCTION,
    ) -> None:
        self._model = model.eval()
        self._processor = processor
        self._tokenizer = tokenizer
        self._query_instruction = query_instruction
        self.card = card

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """See `anyref.perception.ImageEncoder`; pictures get the default instruction."""
        prompts = []
        for picture in pil(pictures):
            image = resized_to_multiple(picture)
            prompts.append(self._read(_template(INSTRUCTION, IMAGE_MARK), [image]))
        return self._vectors(prompts)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `anyref.perception.ImageTextEncoder`; sentences get the instruction to find a matching image, as GmeScore does."""
        return self._vectors([self._read(_template(self._query_instruction, text), []) for text in texts])

    def _read(self, text: str, images: list[Any]) -> Prompt:
        return read(text, images, self._processor, self._tokenizer, MAX_TOKENS)

    @torch.no_grad()
    def _vectors(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        rows = [np.zeros((0, self._model.config.get_text_config().hidden_size), dtype=np.float32)]
        core, device = self._model.model, self._model.device
        for prompt in prompts:
            embedded = self._model.get_input_embeddings()(prompt.input_ids_1S.to(device))
            if prompt.pixels is not None:
                assert prompt.grids_R3 is not None
                pixels = prompt.pixels.to(device, core.visual.dtype)
                seen = core.visual(pixels, grid_thw=prompt.grids_R3.to(device)).pooler_output
                embedded[prompt.image_1S.to(device)] = seen.to(embedded.dtype)
            hidden = core.language_model(
                inputs_embeds=embedded, attention_mask=prompt.attention_1S.to(device), use_cache=False
            ).last_hidden_state
            rows.append(unit(hidden[:, -1]))
        return np.concatenate(rows)


def open_gme(entry: Entry, device: str) -> Gme:
    """Load as the Qwen2-VL that it is: its own remote code refuses transformers 4.52 and later."""
    from transformers import AutoTokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    revision = hub_revision(entry)
    place, dtype = device_and_type(device)
    config = Qwen2VLConfig.from_pretrained(entry.source, revision=revision)
    model = Qwen2VLForConditionalGeneration.from_pretrained(
        entry.source, revision=revision, config=config, dtype=dtype
    ).to(place)
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    processor = Qwen2VLImageProcessorPil.from_pretrained(entry.source, revision=revision, size=size)
    tokenizer = AutoTokenizer.from_pretrained(entry.source, revision=revision)
    return Gme(model, processor, tokenizer, card(entry, model))


def _template(instruction: str, content: str) -> str:
    return (
        f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{content}<|im_end|>\n"
        "<|im_start|>assistant\n<|endoftext|>"
    )

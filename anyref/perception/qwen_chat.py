"""Qwen2.5-VL in this process, as a language model that sees; for a GPU: on a CPU it takes minutes a clip."""

from collections.abc import Sequence
from typing import Any

import torch

from anyref.perception import ModelCard, Picture
from anyref.perception.endpoint import REPETITION
from anyref.perception.models import Entry
from anyref.perception.preparation import card, hub_revision, pil
from anyref.perception.qwen import IMAGE_MARK, read

MIN_PIXELS, MAX_PIXELS = 4 * 28 * 28, 256 * 28 * 28
"""Of one frame; sixteen of them are at most 4096 tokens."""


SAMPLED: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
"""How a judge's words are drawn: at temperature 1 of all words, as where an address of OpenAI's kind is sent no temperature."""


class QwenChat:
    """Frames go in as pictures, not as a video, which would need torchvision. Without a seed the likeliest word is taken, so answers repeat."""

    def __init__(self, model: Any, processor: Any, tokenizer: Any, card: ModelCard) -> None:
        self._model = model.eval()
        self._processor = processor
        self._tokenizer = tokenizer
        self.card = card

    @torch.no_grad()
    def ask(self, text: str, pictures: Sequence[Picture], max_tokens: int, seed: int | None = None) -> str:
        """See `anyref.perception.language.Chat`."""
        question = (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
            f"{IMAGE_MARK * len(pictures)}{text}<|im_end|>\n<|im_start|>assistant\n"
        )
        prompt = read(question, pil(pictures), self._processor, self._tokenizer)
        device = self._model.device
        seen = {}
        if prompt.pixels is not None and prompt.grids_R3 is not None:
            seen = {
                "pixel_values": prompt.pixels.to(device, self._model.dtype),
                "image_grid_thw": prompt.grids_R3.to(device),
                # Without these the model cannot place pictures in time, rows and columns, and says nothing about it.
                "mm_token_type_ids": prompt.image_1S.int().to(device),
            }
        # transformers draws from the global generator only.
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            output = self._model.generate(
                input_ids=prompt.input_ids_1S.to(device),
                attention_mask=prompt.attention_1S.to(device),
                max_new_tokens=max_tokens,
                **({"do_sample": False} if seed is None else SAMPLED),
                repetition_penalty=REPETITION,
                **seen,
            )
        spoken: str = self._tokenizer.decode(
            output[0, prompt.input_ids_1S.shape[1] :], skip_special_tokens=True
        )
        return spoken.strip()


def open_qwen(entry: Entry, device: str) -> QwenChat:
    """bfloat16 on an accelerator, as published."""
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    revision = hub_revision(entry)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        entry.source, revision=revision, dtype=dtype
    ).to(device)
    size = {"shortest_edge": MIN_PIXELS, "longest_edge": MAX_PIXELS}
    processor = Qwen2VLImageProcessorPil.from_pretrained(entry.source, revision=revision, size=size)
    tokenizer = AutoTokenizer.from_pretrained(entry.source, revision=revision)
    return QwenChat(model, processor, tokenizer, card(entry, model))

"""CLIP's vectors equal those of the whole model of transformers, in both preparations."""

import numpy as np
import pytest
from PIL import Image
from tiny_perception import CARD, clip_tokenizer, picture, tiny_clip
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from anyref.perception import ImageTextEncoder
from anyref.perception.clip import Clip, as_vbench, with_processor

SIZE = 32


@pytest.fixture(scope="module")
def processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})


def test_equals_the_whole_model(processor: CLIPImageProcessorPil) -> None:
    model, tokenizer = tiny_clip(), clip_tokenizer()
    ours = Clip(model, tokenizer, with_processor(processor), CARD)
    assert isinstance(ours, ImageTextEncoder)
    pictures = [picture(40, 70, 1), picture(70, 40, 2)]
    texts = ["a red cat", "dog on grass", "a " * 50 + "car"]
    whole = model(
        **tokenizer(texts, padding=True, truncation=True, max_length=12, return_tensors="pt"),
        pixel_values=processor(images=[Image.fromarray(p) for p in pictures], return_tensors="pt")[
            "pixel_values"
        ],
    )
    assert ours.encode(pictures) == pytest.approx(whole.image_embeds.detach().numpy(), abs=1e-5)
    assert ours.encode_text(texts) == pytest.approx(whole.text_embeds.detach().numpy(), abs=1e-5)
    assert np.linalg.norm(ours.encode(pictures), axis=1) == pytest.approx(1)


def test_batches_do_not_change_vectors_and_nothing_gives_nothing() -> None:
    ours = Clip(tiny_clip(), clip_tokenizer(), as_vbench(SIZE), CARD)
    pictures = [picture(40, 50 + n, n) for n in range(18)]
    assert ours.encode(pictures)[17] == pytest.approx(ours.encode(pictures[17:])[0], abs=1e-5)
    assert ours.encode([]).shape == (0, 24) and ours.encode_text([]).shape == (0, 24)


def test_the_two_preparations_differ(processor: CLIPImageProcessorPil) -> None:
    model = tiny_clip()
    plain = Clip(model, clip_tokenizer(), with_processor(processor), CARD).encode([picture(200, 300)])
    vbench = Clip(model, clip_tokenizer(), as_vbench(SIZE), CARD).encode([picture(200, 300)])
    assert 0 < np.abs(plain - vbench).max() < 0.5

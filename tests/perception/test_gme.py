"""GME at a tiny size: the last token, plain positions, tokens in place of the image; not what Qwen2-VL's own forward would give."""

import numpy as np
import pytest
import torch
from tiny_perception import CARD, picture, qwen_processor, qwen_tokenizer, tiny_qwen2_vl

from anyref.perception import ImageTextEncoder
from anyref.perception.gme import INSTRUCTION, Gme, _template
from anyref.perception.preparation import pil
from anyref.perception.qwen import IMAGE_MARK, read, resized_to_multiple


@pytest.fixture(scope="module")
def gme() -> Gme:
    return Gme(tiny_qwen2_vl(), qwen_processor(), qwen_tokenizer(), CARD)


def unit(vector: torch.Tensor) -> np.ndarray:
    return (vector / vector.norm()).detach().numpy()


def test_vectors_are_unit_and_do_not_depend_on_company(gme: Gme) -> None:
    assert isinstance(gme, ImageTextEncoder)
    pictures = [picture(30, 60, 1), picture(60, 30, 2)]
    vectors = gme.encode(pictures)
    assert vectors.shape == (2, 32) and np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert np.array_equal(gme.encode(pictures[1:])[0], vectors[1])
    texts = gme.encode_text(["a red cat", "a"])
    assert np.array_equal(gme.encode_text(["a"])[0], texts[1])
    assert gme.encode([]).shape == (0, 32) and gme.encode_text([]).shape == (0, 32)


def test_text_equals_the_text_model_on_the_query_template(gme: Gme) -> None:
    model, tokenizer = tiny_qwen2_vl(), qwen_tokenizer()
    text = (
        "<|im_start|>system\nFind an image that matches the given text.<|im_end|>\n<|im_start|>user\na cat<|im_end|>\n"
        "<|im_start|>assistant\n<|endoftext|>"
    )
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    assert ids[0, -1] == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    hidden = model.model.language_model(input_ids=ids).last_hidden_state
    assert gme.encode_text(["a cat"])[0] == pytest.approx(unit(hidden[0, -1]), abs=1e-5)


def test_pictures_have_plain_positions(gme: Gme) -> None:
    model = tiny_qwen2_vl()
    image = picture(56, 56, 1)
    prompt = read(_template(INSTRUCTION, IMAGE_MARK), pil([image]), qwen_processor(), qwen_tokenizer())
    assert int(prompt.image_1S.sum()) == 4  # 56 x 56 pixels: 4 x 4 patches, 2 x 2 tokens
    inputs = {
        "input_ids": prompt.input_ids_1S,
        "attention_mask": prompt.attention_1S,
        "pixel_values": prompt.pixels,
        "image_grid_thw": prompt.grids_R3,
        "mm_token_type_ids": prompt.image_1S.int(),
    }
    plain = torch.arange(prompt.input_ids_1S.shape[1]).expand(3, 1, -1)
    ours = gme.encode([image])[0]
    flat = model.model(**inputs, position_ids=plain).last_hidden_state
    assert ours == pytest.approx(unit(flat[0, -1]), abs=1e-5)
    spatial = model.model(**inputs).last_hidden_state
    assert np.abs(ours - unit(spatial[0, -1])).max() > 1e-4


def test_sides_become_multiples_of_28_first() -> None:
    (image,) = pil([picture(480, 832)])
    assert resized_to_multiple(image).size == (840, 476)
    assert resized_to_multiple(pil([picture(5, 5)])[0]).size == (28, 28)

"""The frozen encoders at toy size: normalisation, folded padding, token spans, the squashed image."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from anyref.encoders import Encoders, clean_prompt, concatenate_text, find_phrase, text_context
from anyref.latents import TextContext


def test_video_there_and_back(encoders: Encoders) -> None:
    video = torch.rand(2, 3, 5, 16, 32) * 2 - 1
    latents = encoders.encode_video(video)
    assert latents.shape == (2, 16, 2, 2, 4)
    assert latents.dtype == torch.float32
    config = encoders.vae.config
    mean = torch.tensor(config.latents_mean).view(1, 16, 1, 1, 1)
    std = torch.tensor(config.latents_std).view(1, 16, 1, 1, 1)
    expected = (encoders.vae.encode(video).latent_dist.mode() - mean) / std
    torch.testing.assert_close(latents, expected)
    decoded = encoders.decode_latents(latents)
    assert decoded.shape == video.shape
    torch.testing.assert_close(decoded, encoders.vae.decode(latents * std + mean).sample)


def test_text_as_the_release_lays_it_out(encoders: Encoders) -> None:
    plain = replace(encoders, fold_padding=False)
    context = plain.encode_text(["a red dog walks", "a cat"])
    assert context.tokens_BSD.shape == (2, 512, 32)
    assert context.bias_BS is None
    inputs = encoders.tokenizer(
        "a red dog walks", padding="max_length", max_length=512, truncation=True, return_tensors="pt"
    )
    expected = encoders.text_encoder(**inputs).last_hidden_state[0]
    torch.testing.assert_close(context.tokens_BSD[0, :5], expected[:5], atol=1e-5, rtol=1e-4)
    assert not context.tokens_BSD[0, 5:].any()
    assert not context.tokens_BSD[1, 3:].any()


def test_folded_padding_attends_the_same(encoders: Encoders) -> None:
    prompts = ["a red dog walks", "a cat"]
    folded, plain = encoders.encode_text(prompts), replace(encoders, fold_padding=False).encode_text(prompts)
    assert folded.bias_BS is not None
    assert folded.tokens_BSD.shape[1] == 6 == encoders.num_text_tokens(prompts)
    np.testing.assert_allclose(folded.bias_BS[0], [0, 0, 0, 0, 0, math.log(507)], rtol=1e-6)
    np.testing.assert_allclose(folded.bias_BS[1], [0, 0, 0, math.log(509), -math.inf, -math.inf], rtol=1e-6)
    query = torch.randn(2, 1, 7, 32)
    weights = torch.randn(32, 32), torch.randn(32, 32)

    def attend(context: TextContext) -> torch.Tensor:
        key, value = (context.tokens_BSD @ weight + 0.3 for weight in weights)
        mask = None if context.bias_BS is None else context.bias_BS[:, None, None]
        return functional.scaled_dot_product_attention(query, key[:, None], value[:, None], attn_mask=mask)

    torch.testing.assert_close(attend(folded), attend(plain), atol=1e-5, rtol=1e-4)


def test_long_prompts_are_cut(encoders: Encoders) -> None:
    short = replace(encoders, max_sequence_length=4)
    context = short.encode_text(["a red dog walks on the beach"])
    assert context.tokens_BSD.shape[1] == 5 == short.num_text_tokens(["a red dog walks on the beach"])
    assert context.bias_BS is not None
    assert context.bias_BS[0, 4] == -math.inf, "no padding is left to stand for"
    assert short.token_span("a red dog walks on the beach", "red dog") == (1, 3)
    with pytest.raises(ValueError, match="past the 4 tokens"):
        short.token_span("a red dog walks on the beach", "beach")


def test_empty_text(encoders: Encoders) -> None:
    context = encoders.encode_text([""])
    assert context.tokens_BSD.shape[1] == 2, "the end token and the padding"


def test_finding_phrases() -> None:
    prompt = " A  Red\n hat and a red\thatch;  another red hat. "
    assert clean_prompt(prompt) == "A Red hat and a red hatch; another red hat."
    assert find_phrase(prompt, "red  HAT") == (2, 9)
    assert find_phrase(prompt, "red hat", 1) == (35, 42)
    assert find_phrase(prompt, "red hat", 2) is None
    assert find_phrase(prompt, "blue hat") is None
    assert find_phrase(prompt, " ") is None
    assert find_phrase("Smith &amp; Sons (the old shop)", "Smith & Sons") == (0, 12)
    assert find_phrase("Smith & Sons (the old shop)", "(the old shop)") == (13, 27)
    assert find_phrase("\u4e00\u53ea\u7ea2\u72d7\u5728\u8dd1", "\u7ea2\u72d7") == (2, 4), (
        "no spaces between words"
    )


def test_token_spans(encoders: Encoders) -> None:
    prompt = "a  man wearing a Red hat, and a dog ."
    assert encoders.token_span(prompt, "man") == (1, 2)
    assert encoders.token_span(prompt, "red hat") == (4, 6)
    assert encoders.token_span(prompt, "a dog") == (8, 10)
    with pytest.raises(ValueError, match="the phrase 'blue hat' is not in the prompt"):
        encoders.token_span(prompt, "blue hat")
    tokens = encoders.tokenizer(clean_prompt(prompt))["input_ids"]
    words = encoders.tokenizer.convert_ids_to_tokens(tokens[9:10])
    assert words == ["dog"]


def test_text_contexts_join() -> None:
    folded = TextContext(torch.ones(1, 3, 4), torch.tensor([[0.0, 0.0, 2.0]]))
    plain = TextContext(torch.ones(2, 5, 4))
    joined = concatenate_text([folded, plain])
    assert joined.tokens_BSD.shape == (3, 5, 4)
    assert joined.bias_BS is not None
    assert joined.bias_BS[0].tolist() == [0, 0, 2, -math.inf, -math.inf]
    assert not joined.bias_BS[1:].any()
    assert concatenate_text([plain, plain]).bias_BS is None
    moved = text_context(torch.ones(1, 2, 4), torch.device("cpu"), torch.bfloat16)
    assert moved.tokens_BSD.dtype == torch.bfloat16


def test_images_are_squashed_not_cropped(encoders: Encoders) -> None:
    image = torch.rand(1, 3, 32, 96) * 2 - 1
    features = encoders.encode_images(image)
    assert features.shape == (1, 5, 32)
    changed = image.clone()
    changed[..., :20] = -changed[..., :20]  # far left: a centre crop would not see it
    assert (encoders.encode_images(changed) - features).abs().max() > 1e-3
    square = functional.interpolate(image, (28, 28), mode="bicubic") * 0.5 + 0.5
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    expected = encoders.image_encoder((square - mean) / std, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(features, expected)

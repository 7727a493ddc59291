"""Tiny random models of the real classes, an offline tokenizer, and reference images, shared by the tests."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from anyref.encoders import Encoders
from anyref.references import Reference
from anyref.transformer import AnyRefTransformer

WORDS = (
    "a the and on in at with to of red blue green small big man woman dog cat hat ball house beach street "
    "walks jumps waves holds wearing sees bright night day blurry static , ."
).split()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_global_seed() -> Iterator[None]:
    # Nothing in the package reads the global generator; the tiny models below are initialised from it.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
    )


def make_vae() -> AutoencoderKLWan:
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=16,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
    )
    return vae.eval().requires_grad_(False)


def make_text_encoder() -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=len(WORDS) + 3, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    return UMT5EncoderModel(config).eval().requires_grad_(False)


def make_image_encoder() -> CLIPVisionModel:
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=28,
        patch_size=14,
    )
    return CLIPVisionModel(config).eval().requires_grad_(False)


def make_transformer(in_channels: int = 36) -> AnyRefTransformer:
    with_image = in_channels == 36
    transformer = AnyRefTransformer(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=in_channels,
        out_channels=16,
        text_dim=32,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        image_dim=32 if with_image else None,
        added_kv_proj_dim=24 if with_image else None,
        rope_max_seq_len=32,
    )
    return transformer.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def encoders() -> Encoders:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return Encoders(make_vae(), make_text_encoder(), make_tokenizer(), make_image_encoder())


@pytest.fixture(scope="session")
def transformer() -> AnyRefTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return make_transformer()


@pytest.fixture
def references() -> list[Reference]:
    """A wide dog and a tall hat, of noise, so that every pixel counts."""
    rng = np.random.default_rng(0)
    dog = Reference(rng.integers(0, 256, (40, 90, 3), dtype=np.uint8), "animal", label="dog", name="dog")
    hat = Reference(rng.integers(0, 256, (70, 30, 4), dtype=np.uint8), "clothing", label="hat", name="hat")
    return [dog, hat]


@pytest.fixture
def make_family() -> Callable[[Path, Any], Path]:
    """Write a family of models that share their parts, as the embedded ones do, and return the folder of its one member."""

    def write(root: Path, pipeline: Any) -> Path:
        for name in ("vae", "text_encoder", "tokenizer", "image_encoder"):
            getattr(pipeline, name).save_pretrained(root / "shared" / name)
        folder = root / "magref"
        pipeline.transformer.save_pretrained(folder / "transformer")
        sampling = {
            "height": 64,
            "width": 96,
            "num_frames": 17,
            "num_inference_steps": 25,
            "guidance_scale": 2.5,
            "fps": 8,
        }
        record = {"method": "magref", "anchor_strength": 0.25, "shared": "../shared", "defaults": sampling}
        (folder / "anyref.json").write_text(json.dumps(record))
        return folder

    return write

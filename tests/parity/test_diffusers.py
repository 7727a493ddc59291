"""Against diffusers itself: state dict, outputs, folders both ways, and its pipelines with our transformer inside."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from anyref.attention import RotaryPositions
from anyref.latents import grid_positions
from anyref.transformer import AnyRefTransformer

T2V = {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "text_dim": 20,
    "freq_dim": 32,
    "ffn_dim": 64,
    "num_layers": 2,
}
I2V = {**T2V, "in_channels": 36, "image_dim": 16, "added_kv_proj_dim": 48}


def pair(config: dict[str, int]) -> tuple[WanTransformer3DModel, AnyRefTransformer]:
    stock, ours = WanTransformer3DModel(**config).eval(), AnyRefTransformer(**config).eval()
    ours.load_state_dict(stock.state_dict(), strict=True)
    return stock.requires_grad_(False), ours.requires_grad_(False)


@pytest.mark.parametrize("config", [T2V, I2V])
def test_state_dict_is_strict_both_ways(config: dict[str, int]) -> None:
    stock, ours = pair(config)
    stock.load_state_dict(ours.state_dict(), strict=True)
    assert list(stock.state_dict()) == list(ours.state_dict())
    private = "_use_default_values"  # a list in any order
    assert {**stock.config, private: 0} == {**ours.config, private: 0}
    assert set(stock.config[private]) == set(ours.config[private])
    assert dict(AnyRefTransformer.from_config(ours.config).config).items() >= config.items()
    assert inspect.signature(AnyRefTransformer.__init__).parameters.keys() == (
        inspect.signature(WanTransformer3DModel.__init__).parameters.keys()
    )


@pytest.mark.parametrize("config", [T2V, I2V])
@pytest.mark.parametrize("per_token", [False, True])
def test_outputs_equal(config: dict[str, int], per_token: bool) -> None:
    stock, ours = pair(config)
    latents = torch.randn(2, config.get("in_channels", 16), 3, 6, 8)
    text = torch.randn(2, 512, 20)
    image = torch.randn(2, 5, 16) if "image_dim" in config else None
    timestep = torch.rand(2, 3 * 3 * 4) * 1000 if per_token else torch.tensor([900.0, 3.5])
    expected = stock(latents, timestep, text, image).sample
    assert (ours(latents, timestep, text, image).sample - expected).abs().max() < 1e-5
    assert ours(latents, timestep, text, image, return_dict=False)[0].shape == expected.shape


def test_bfloat16_stays_as_close_as_rounding() -> None:
    stock, ours = pair(I2V)
    inputs = (
        torch.randn(1, 36, 3, 6, 8),
        torch.tensor([500.0]),
        torch.randn(1, 512, 20),
        torch.randn(1, 5, 16),
    )
    exact = stock(*inputs).sample
    low = [tensor.bfloat16() if tensor.ndim > 1 else tensor for tensor in inputs]
    for model in (stock, ours):
        for name, parameter in model.named_parameters():
            kept = any(part in name for part in ("time_embedder", "scale_shift_table", "norm2"))
            parameter.data = parameter.data if kept else parameter.data.bfloat16()
    error_stock = (stock(*low).sample.float() - exact).norm() / exact.norm()
    error_ours = (ours(*low).sample.float() - exact).norm() / exact.norm()
    assert error_ours < 1.3 * error_stock + 1e-4


def test_folders_load_both_ways(tmp_path: Path) -> None:
    stock, ours = pair(I2V)
    stock.save_pretrained(tmp_path / "stock")
    ours.save_pretrained(tmp_path / "ours", max_shard_size="40KB")
    assert (tmp_path / "ours" / "diffusion_pytorch_model.safetensors.index.json").exists()
    loaded = AnyRefTransformer.from_pretrained(tmp_path / "stock")
    back = WanTransformer3DModel.from_pretrained(tmp_path / "ours")
    inputs = (
        torch.randn(1, 36, 1, 4, 4),
        torch.tensor([500.0]),
        torch.randn(1, 512, 20),
        torch.randn(1, 5, 16),
    )
    for model, saved in ((loaded, ours), (back, stock)):
        for name, tensor in saved.state_dict().items():
            assert torch.equal(model.state_dict()[name], tensor)
        with torch.no_grad():
            # Not bit-equal: weights read from a file are aligned otherwise in memory, and kernels differ by that.
            assert (model(*inputs).sample - saved(*inputs).sample).abs().max() < 1e-6


def test_from_pretrained_in_bfloat16_keeps_the_float32_modules(tmp_path: Path) -> None:
    stock, _ = pair(T2V)
    stock.save_pretrained(tmp_path)
    model = AnyRefTransformer.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert kinds["condition_embedder.time_embedder.linear_1.weight"] == torch.float32
    assert kinds["blocks.1.scale_shift_table"] == torch.float32
    assert kinds["blocks.1.attn1.to_q.weight"] == torch.bfloat16
    with torch.no_grad():
        out = model(
            torch.randn(1, 16, 1, 4, 4).bfloat16(), torch.tensor([1.0]), torch.randn(1, 9, 20).bfloat16()
        )
    assert out.sample.dtype == torch.bfloat16


def test_from_single_file_takes_the_original_names(tmp_path: Path) -> None:
    _, ours = pair(T2V)
    ours.save_config(tmp_path / "transformer")
    original = {
        re.sub(r"^condition_embedder\.text_embedder\.linear_1", "text_embedding.0", name): tensor
        for name, tensor in ours.state_dict().items()
    }
    original |= {"head.modulation": original.pop("scale_shift_table")}
    for name in [name for name in original if ".norm2." in name]:
        original[name.replace("norm2", "norm3")] = original.pop(name)
    save_file(
        {f"model.diffusion_model.{name}": tensor for name, tensor in original.items()},
        tmp_path / "one.safetensors",
    )
    model = AnyRefTransformer.from_single_file(
        str(tmp_path / "one.safetensors"), config=str(tmp_path), subfolder="transformer"
    )
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("head_dim", [12, 24, 32, 64, 128])
def test_rotary_table_is_bit_equal(head_dim: int) -> None:
    cos, sin = WanRotaryPosEmbed(head_dim, (1, 2, 2), 1024)(torch.zeros(1, 1, 21, 60, 104))
    ours = RotaryPositions(head_dim)(grid_positions((21, 30, 52))[None])
    assert torch.equal(ours[..., 0], cos[..., 0::2])
    assert torch.equal(ours[..., 1], sin[..., 1::2])


def make_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1] * 4, num_res_blocks=1, temperal_downsample=[False, True, True]
    ).eval()


def test_drops_into_wan_pipeline() -> None:
    stock, ours = pair(T2V)
    frames = []
    for transformer in (stock, ours):
        pipeline = WanPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=make_vae(),
            scheduler=UniPCMultistepScheduler(
                use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
            ),
            transformer=transformer,
        )
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        embeds = torch.randn(1, 512, 20, generator=generator)
        out = pipeline(
            prompt_embeds=embeds,
            negative_prompt_embeds=-embeds,
            height=32,
            width=48,
            num_frames=5,
            num_inference_steps=2,
            generator=generator,
            output_type="latent",
        )
        frames.append(out.frames)
    assert (frames[0] - frames[1]).abs().max() < 1e-4


def test_drops_into_wan_image_to_video_pipeline() -> None:
    stock, ours = pair(I2V)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    vae, image_encoder = make_vae(), CLIPVisionModel(vision).eval()
    image = Image.fromarray(np.arange(32 * 48 * 3, dtype=np.uint32).reshape(32, 48, 3).astype(np.uint8))
    frames = []
    for transformer in (stock, ours):
        pipeline = WanImageToVideoPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=vae,
            scheduler=UniPCMultistepScheduler(
                use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
            ),
            image_processor=CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=28),
            image_encoder=image_encoder,
            transformer=transformer,
        )
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        embeds = torch.randn(1, 512, 20, generator=generator)
        out = pipeline(
            image=image,
            prompt_embeds=embeds,
            negative_prompt_embeds=-embeds,
            height=32,
            width=48,
            num_frames=5,
            num_inference_steps=2,
            generator=generator,
            output_type="latent",
        )
        frames.append(out.frames)
    assert (frames[0] - frames[1]).abs().max() < 1e-4

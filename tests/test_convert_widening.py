"""Backbones with new input channels: at first they change nothing, and they are trained."""

from pathlib import Path

import pytest
import torch
from conftest import make_transformer
from torch import nn

from anyref.checkpoints.widening import widen_input
from anyref.transformer import AnyRefTransformer

TEXT, TIMESTEP = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([300.0])


def latents(channels: int) -> torch.Tensor:
    return torch.randn(1, channels, 2, 4, 6, generator=torch.Generator().manual_seed(2))


def test_new_channels_change_nothing_at_first() -> None:
    model = make_transformer(16)
    before = model(latents(16), TIMESTEP, TEXT).sample
    widen_input(model, 36)
    with_more = torch.cat([latents(16), 5 * latents(20)], dim=1)
    torch.testing.assert_close(model(with_more, TIMESTEP, TEXT).sample, before, rtol=0, atol=1e-6)


def test_new_channels_are_trained() -> None:
    model = make_transformer(16).requires_grad_(True)
    widen_input(model, 36)
    model(latents(36), TIMESTEP, TEXT).sample.square().mean().backward()
    gradient = model.patch_embedding.weight.grad
    assert gradient is not None
    assert bool((gradient[:, 16:] != 0).any(dim=(0, 2, 3, 4)).all())
    assert "patch_embedding.weight" in dict(model.named_parameters())


def test_a_widened_model_is_saved_and_loaded_as_any_other(tmp_path: Path) -> None:
    model = make_transformer(16).to(torch.bfloat16)
    bias = model.patch_embedding.bias
    widen_input(model, 36)
    assert model.patch_embedding.weight.dtype == torch.bfloat16
    assert model.patch_embedding.bias is bias
    assert not model.patch_embedding.weight.requires_grad
    model.save_pretrained(tmp_path)
    loaded = AnyRefTransformer.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.config.in_channels == 36
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_what_cannot_be_widened() -> None:
    model = make_transformer(36)
    embedding = model.patch_embedding
    widen_input(model, 36)
    assert model.patch_embedding is embedding
    with pytest.raises(ValueError, match="takes 36 input channels and 16 were asked for"):
        widen_input(model, 16)
    model.patch_embedding = nn.Conv3d(36, 24, (1, 2, 2), (1, 2, 2))
    with pytest.raises(ValueError, match="widen the input before adding adapters"):
        widen_input(model, 40)

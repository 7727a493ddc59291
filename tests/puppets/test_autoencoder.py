"""Encoding and decoding a clip at once equals the released chunked code."""

from pathlib import Path

import pytest
import torch

from anyref.latents import VideoShape
from anyref.puppets.autoencoder import decode_sequence, encode_moments, train_decoder
from anyref.puppets.models import build_autoencoder, initialise
from anyref.puppets.tuning import _encoders_of
from anyref.training.loop import FitConfig, every_matrix
from anyref.training.optimizers import OptimizerConfig


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_equal_to_the_chunked_code(frames: int) -> None:
    vae = build_autoencoder().eval()
    video = torch.rand(1, 3, frames, 16, 32) * 2 - 1
    with torch.no_grad():
        moments = encode_moments(vae, video)
        assert torch.allclose(moments, vae.encode(video).latent_dist.parameters, atol=1e-5)
        decoded = decode_sequence(vae, moments[:, :16])
        assert decoded.shape == video.shape
        assert torch.allclose(decoded.clamp(-1, 1), vae.decode(moments[:, :16]).sample, atol=1e-5)


def test_gradients_reach_both_halves() -> None:
    vae = build_autoencoder()
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    decode_sequence(vae, encode_moments(vae, video)[:, :16]).square().mean().backward()
    assert all(
        p.grad is not None and bool(p.grad.abs().sum() > 0)
        for p in (vae.encoder.conv_in.weight, vae.decoder.conv_in.weight)
    )


def test_gains_begin_at_one_and_are_no_matrices() -> None:
    vae = build_autoencoder()
    initialise(vae, 0)
    gains = {name: value for name, value in vae.named_parameters() if name.endswith("gamma")}
    assert len(gains) > 10
    assert all(bool((value == 1).all()) and not every_matrix(name, value) for name, value in gains.items())


def test_the_decoder_alone_is_trained_and_cached_samples_stay_valid(tmp_path: Path) -> None:
    vae = build_autoencoder()
    initialise(vae, 0)
    vae.save_pretrained(tmp_path / "vae")
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    sums = _encoders_of(tmp_path)
    config = FitConfig(tmp_path / "run", 2, optimizer=OptimizerConfig(1e-2), ema_decay=0.0)
    train_decoder(vae, config, VideoShape(17, 16, 32), compiled=False)
    changed = {name for name, value in vae.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith(("decoder.", "post_quant_conv.")) for name in changed)
    vae.save_pretrained(tmp_path / "vae")
    assert _encoders_of(tmp_path) == sums
    with torch.no_grad():
        vae.encoder.conv_in.weight.add_(1e-3)
    vae.save_pretrained(tmp_path / "vae")
    assert _encoders_of(tmp_path) != sums

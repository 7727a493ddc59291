"""Encoding and decoding a clip at once equals the released chunked code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anyref.latents import VideoShape
from anyref.puppets.autoencoder import Phase, decode_sequence, encode_moments, train, training_clips
from anyref.puppets.models import build_autoencoder, initialise
from anyref.puppets.tuning import _encoders_of
from anyref.training.loop import FitConfig, every_matrix
from anyref.training.optimizers import OptimizerConfig
from anyref.worlds import PuppetWorld


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


def test_cached_samples_are_known_by_the_encoder(tmp_path: Path) -> None:
    vae = build_autoencoder()
    initialise(vae, 0)
    vae.save_pretrained(tmp_path / "vae")
    sums = _encoders_of(tmp_path)
    for name, same in (("decoder", True), ("encoder", False)):
        with torch.no_grad():
            getattr(vae, name).conv_in.weight.add_(1e-3)
        vae.save_pretrained(tmp_path / "vae")
        assert (_encoders_of(tmp_path) == sums) == same


def test_windows_hold_a_subject_and_are_cut_from_clip_and_canvas_alike() -> None:
    world = PuppetWorld("train", seed=0, height=64, width=96, num_frames=9)
    for index in range(12):
        whole = training_clips(world, index, 5, np.random.default_rng(index))
        cut = training_clips(world, index, 5, np.random.default_rng(index), window=32)
        places = [
            (top, left)
            for top in range(64 - 32 + 1)
            for left in range(96 - 32 + 1)
            if all(
                np.array_equal(big[:, top : top + 32, left : left + 32], small)
                for big, small in zip(whole, cut, strict=True)
            )
        ]
        assert places, "one window, the same of both"
        sample = world.clip(index)
        seen = np.any([one.masks_FYX for one in sample.subjects if one.kind != "background"], axis=(0, 1))
        assert any(seen[top : top + 32, left : left + 32].any() for top, left in places)


def test_all_of_it_is_trained_on_windows_and_gets_its_statistics(tmp_path: Path) -> None:
    vae = build_autoencoder()
    initialise(vae, 0)
    before = {name: value.clone() for name, value in vae.named_parameters()}
    config = FitConfig(tmp_path / "run", 2, optimizer=OptimizerConfig(1e-2), ema_decay=0.0)
    phases = (Phase(0.5, 5, 2, 16), Phase(1.0, 9, 2))
    train(vae, config, VideoShape(17, 32, 48), phases=phases, compiled=False)
    changed = {name for name, value in vae.named_parameters() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"encoder", "decoder", "quant_conv", "post_quant_conv"}
    assert vae.config.latents_mean != [0.0] * 16

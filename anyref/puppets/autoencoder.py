"""Train the autoencoder: AutoencoderKLWan's own modules over a whole clip at once, on clips and canvases.

The released class works through a video in chunks of 1, 4, 4, ... frames with a feature cache, which is right for long videos and slow for
short ones. Here the same convolutions see all frames at once; the result is the same to float rounding (tests/puppets). Shapes: video
[B, 3, F, Y, X] in [-1, 1]; latents [B, C, T, H, W], not normalised.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKLOutput
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanResample,
    WanResidualBlock,
    patchify,
    unpatchify,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from anyref.latents import VideoShape
from anyref.methods.magref import MagrefMethod, compose
from anyref.samples import Sample
from anyref.training.loop import FitConfig, fit
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import Split

KL_WEIGHT = 2e-4


@dataclass(frozen=True)
class Phase:
    """A part of the training: until this fraction of the steps, so many frames a clip and clips a step."""

    until: float
    frames: int
    clips: int
    window: int | None = None
    """Side in pixels of the square that is cut out around a subject, a multiple of 16; None: the whole frame."""


PHASES = (Phase(0.3, 1, 64), Phase(0.6, 5, 12), Phase(0.85, 9, 8), Phase(1.0, 17, 4))
"""Pictures first, for most of the learning is per frame."""
MOTION_PHASES = (Phase(0.4, 9, 16, 48), Phase(0.9, 17, 8, 48), Phase(1.0, 17, 4))
"""Then what moves: nine tenths of the error lie on a quarter of the area, subjects and their outlines, so most steps see only that."""


def encode_moments(vae: AutoencoderKLWan, video_BCFYX: Tensor) -> Tensor:
    """Mean and log variance of the posterior, stacked on the channel axis. F must be 4k + 1."""
    encoder = vae.encoder
    hidden = patchify(video_BCFYX, vae.config.patch_size) if vae.config.patch_size else video_BCFYX
    # Channels last: norms and convolutions over channels take two thirds of the time on a CPU.
    hidden = _convolve(encoder.conv_in, hidden.contiguous(memory_format=torch.channels_last_3d))
    for block in encoder.down_blocks:
        hidden = _down(block, hidden)
    hidden = _middle(encoder.mid_block, hidden)
    hidden = _convolve(encoder.conv_out, encoder.nonlinearity(encoder.norm_out(hidden)))
    return _convolve(vae.quant_conv, hidden)


def decode_sequence(vae: AutoencoderKLWan, latents_BCTHW: Tensor) -> Tensor:
    """The decoded video, not clamped (so that gradients reach values beyond the range)."""
    decoder = vae.decoder
    hidden = _convolve(decoder.conv_in, _convolve(vae.post_quant_conv, latents_BCTHW))
    hidden = _middle(decoder.mid_block, hidden)
    for block in decoder.up_blocks:
        hidden = _up(block, hidden)
    hidden = _convolve(decoder.conv_out, decoder.nonlinearity(decoder.norm_out(hidden)))
    return unpatchify(hidden, vae.config.patch_size) if vae.config.patch_size else hidden


class WholeClipEncoder(nn.Module):
    """Stands in for the autoencoder where samples are encoded for training: `encode` at once and in bf16, four times as fast."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        super().__init__()
        self.vae = vae
        self.config = vae.config
        self.dtype = torch.float32

    def encode(self, video_BCFYX: Tensor) -> AutoencoderKLOutput:
        """Like AutoencoderKLWan.encode."""
        with torch.no_grad(), torch.autocast(video_BCFYX.device.type, torch.bfloat16):
            moments = encode_moments(self.vae, video_BCFYX)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments.float()))


def _convolve(convolution: WanCausalConv3d, hidden: Tensor) -> Tensor:
    # Only the time axis is padded by hand (causally); the convolution pads the rest without a copy.
    width, _, height, _, frames, _ = convolution._padding
    weight = convolution.weight
    if frames and hidden.shape[2] == 1:
        weight = weight[:, :, -1:]  # the taps before it see padding only
    elif frames:
        hidden = functional.pad(hidden, (0, 0, 0, 0, frames, 0))
    return functional.conv3d(hidden, weight, convolution.bias, convolution.stride, (0, height, width))


def _residual(block: WanResidualBlock, hidden: Tensor) -> Tensor:
    shortcut = block.conv_shortcut
    kept = hidden if isinstance(shortcut, nn.Identity) else _convolve(shortcut, hidden)
    hidden = _convolve(block.conv1, block.nonlinearity(block.norm1(hidden)))
    return kept + _convolve(block.conv2, block.nonlinearity(block.norm2(hidden)))


def _middle(block: Any, hidden: Tensor) -> Tensor:
    hidden = _residual(block.resnets[0], hidden)
    for attention, residual in zip(block.attentions, block.resnets[1:], strict=True):
        hidden = _residual(residual, attention(hidden))
    return hidden


def _spatial(resample: WanResample, hidden: Tensor) -> Tensor:
    batch, _, frames, _, _ = hidden.shape
    flat = hidden.permute(0, 2, 1, 3, 4).flatten(0, 1)
    flat = resample.resample(flat)
    return flat.unflatten(0, (batch, frames)).permute(0, 2, 1, 3, 4)


def _down(block: Any, hidden: Tensor) -> Tensor:
    if isinstance(block, WanResidualBlock):
        return _residual(block, hidden)
    if isinstance(block, WanResample):
        return _downsample(block, hidden)
    kept = hidden
    for residual in block.resnets:
        hidden = _residual(residual, hidden)
    if block.downsampler is not None:
        hidden = _downsample(block.downsampler, hidden)
    result: Tensor = hidden + block.avg_shortcut(kept)
    return result


def _downsample(resample: WanResample, hidden: Tensor) -> Tensor:
    hidden = _spatial(resample, hidden)
    if resample.mode != "downsample3d" or hidden.shape[2] == 1:
        return hidden
    # The first frame passes as it is; then windows (0, 1, 2), (2, 3, 4), ...
    return torch.cat([hidden[:, :, :1], _convolve(resample.time_conv, hidden)], dim=2)


def _up(block: Any, hidden: Tensor) -> Tensor:
    kept = hidden
    for residual in block.resnets:
        hidden = _residual(residual, hidden)
    upsampler = getattr(block, "upsampler", None) or (
        block.upsamplers[0] if getattr(block, "upsamplers", None) else None
    )
    if upsampler is not None:
        hidden = _upsample(upsampler, hidden)
    shortcut = getattr(block, "avg_shortcut", None)
    return hidden if shortcut is None else hidden + shortcut(kept, first_chunk=True)


def _upsample(resample: WanResample, hidden: Tensor) -> Tensor:
    if resample.mode == "upsample3d" and hidden.shape[2] > 1:
        # The first latent frame is one pixel frame; the causal padding of the others starts after it, as in the chunked code.
        doubled = _convolve(resample.time_conv, hidden[:, :, 1:])
        doubled = doubled.unflatten(1, (2, -1)).movedim(1, 3).flatten(2, 3)
        hidden = torch.cat([hidden[:, :, :1], doubled], dim=2)
    return _spatial(resample, hidden)


def training_clips(
    world: PuppetWorld, index: int, num_frames: int, rng: np.random.Generator, window: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two clips [F, Y, X, 3] of what the autoencoder must carry: a piece of a clip, and its canvas followed by the clip or by grey.

    `window`: of both only a square of this side, with a subject in it.
    """
    sample = world.clip(index)
    first = int(rng.integers(0, len(sample.frames_FYX3) - num_frames + 1))
    frames = sample.frames_FYX3[first : first + num_frames]
    _, height, width, _ = frames.shape
    references = MagrefMethod(cross_pair_probability=0.8).training_references(sample, rng)
    canvas = compose(references, height, width).image_YX3[None]
    rest = frames[1:] if rng.random() < 0.8 else np.full_like(frames[1:], 128)
    clip, after_canvas = frames, np.concatenate([canvas, rest])
    if window is None:
        return clip, after_canvas
    rows, columns = _around_a_subject(sample, slice(first, first + num_frames), window, rng)
    return clip[:, rows, columns], after_canvas[:, rows, columns]


def _around_a_subject(
    sample: Sample, frames: slice, side: int, rng: np.random.Generator
) -> tuple[slice, slice]:
    """Rows and columns of a square that holds a random pixel of a random subject in a random frame; anywhere where none is to be seen."""
    masks = [one.masks_FYX[frames] for one in sample.subjects if one.kind != "background"]
    _, height, width, _ = sample.frames_FYX3.shape
    seen = np.argwhere(masks[rng.integers(len(masks))]) if masks else np.empty((0, 3), dtype=np.int64)
    _, y, x = seen[rng.integers(len(seen))] if len(seen) else (0, rng.integers(height), rng.integers(width))
    top, left = (
        int(np.clip(place - rng.integers(side // 4, side - side // 4), 0, size - side))
        for place, size in ((y, height), (x, width))
    )
    return slice(top, top + side), slice(left, left + side)


def to_video(frames: list[NDArray[np.uint8]]) -> Tensor:
    """Clips [F, Y, X, 3] of one length to a float32 batch [B, 3, F, Y, X] in [-1, 1]."""
    return torch.from_numpy(np.stack(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def reconstruction_loss(video: Tensor, moments: Tensor, decoded: Tensor) -> Tensor:
    """L1 + 10 MSE + L1 of the image gradients (stripes and thin lines die first without it) + KL."""
    decoded = decoded.float()
    error = decoded - video
    edges = sum((decoded.diff(dim=axis) - video.diff(dim=axis)).abs().mean() for axis in (3, 4))
    mean, log_variance = moments.float().chunk(2, dim=1)
    log_variance = log_variance.clamp(-30, 20)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return error.abs().mean() + 10 * error.square().mean() + 0.5 * edges + KL_WEIGHT * divergence


def train(
    vae: AutoencoderKLWan,
    config: FitConfig,
    shape: VideoShape,
    *,
    phases: Sequence[Phase] = PHASES,
    compiled: bool,
    batch_scale: int = 1,
) -> None:
    """Train the autoencoder in place and set its latent statistics, so that normalised latents have mean 0 and deviation 1."""
    world = partial(PuppetWorld, "train", seed=config.seed, height=shape.height, width=shape.width)
    device = next(vae.parameters()).device

    def forward(video: Tensor, noise: Tensor) -> Tensor:
        with torch.autocast(video.device.type, torch.bfloat16):
            moments = encode_moments(vae, video)
            mean, log_variance = moments.float().chunk(2, dim=1)
            latents = mean + noise * torch.exp(0.5 * log_variance.clamp(-30, 20))
            decoded = decode_sequence(vae, latents)
        return reconstruction_loss(video, moments, decoded)

    # Each phase has one shape; a graph for any shape takes far longer to compile.
    run: Callable[[Tensor, Tensor], Tensor] = torch.compile(forward, dynamic=False) if compiled else forward

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        phase = next(one for one in phases if step < one.until * config.num_steps)
        video, noise = _draw(phase, step, config.seed, world, batch_scale, generator)
        video, noise = video.to(device), noise.to(device)
        return run(video.contiguous(memory_format=torch.channels_last_3d), noise), {}

    fit(vae, loss, config, validate=lambda _: {"psnr_db": measure_psnr(vae, shape, 24)[0]})
    set_statistics(vae, world(num_frames=shape.num_frames))


def _draw(
    phase: Phase,
    step: int,
    seed: int,
    world: Callable[..., PuppetWorld],
    batch_scale: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A step's clips [B, 3, F, Y, X] and noise for their latents."""
    rng = np.random.default_rng((seed, step))
    drawn = world(num_frames=max(phase.frames, 5))
    pairs = [
        training_clips(drawn, step * 4096 + index, phase.frames, rng, phase.window)
        for index in range(phase.clips * batch_scale // 2)
    ]
    video = to_video([clip for pair in pairs for clip in pair])
    latent = VideoShape(phase.frames, *video.shape[3:]).latent
    return video, torch.randn(len(video), 16, *latent, generator=generator)


@torch.no_grad()
def set_statistics(vae: AutoencoderKLWan, world: PuppetWorld, count: int = 128) -> None:
    """Measure mean and deviation of each latent channel on clips and canvases and write them into the configuration."""
    device = next(vae.parameters()).device
    sums, squares, number = torch.zeros(16, dtype=torch.float64), torch.zeros(16, dtype=torch.float64), 0
    for index in range(count):
        clips = training_clips(world, 10_000_000 + index, 17, np.random.default_rng(index))
        mean = encode_moments(vae, to_video(list(clips)).to(device))[:, :16].double().cpu()
        sums += mean.sum(dim=(0, 2, 3, 4))
        squares += mean.square().sum(dim=(0, 2, 3, 4))
        number += mean[:, 0].numel()
    average = sums / number
    deviation = (squares / number - average.square()).clamp_min(1e-8).sqrt()
    vae.register_to_config(latents_mean=average.tolist(), latents_std=deviation.tolist())


@torch.no_grad()
def measure_psnr(
    vae: AutoencoderKLWan, shape: VideoShape, count: int, split: Split = "validation"
) -> tuple[float, float]:
    """Mean PSNR in dB of reconstructed clips and of reconstructed canvases, over held-out identities; peak 255, clip by clip."""
    world = PuppetWorld(split, seed=0, height=shape.height, width=shape.width, num_frames=shape.num_frames)
    device = next(vae.parameters()).device
    clips: list[float] = []
    canvases: list[float] = []
    for index in range(count):
        sample = world.clip(index)
        references = MagrefMethod().training_references(sample, np.random.default_rng(index))
        canvas = compose(references, shape.height, shape.width).image_YX3[None]
        for frames, scores in ((sample.frames_FYX3, clips), (canvas, canvases)):
            video = to_video([frames]).to(device)
            decoded = decode_sequence(vae, encode_moments(vae, video)[:, :16]).clamp(-1, 1)
            error = ((decoded - video) / 2).square().mean()
            scores.append(float(-10 * torch.log10(error)))
    return float(np.mean(clips)), float(np.mean(canvases))

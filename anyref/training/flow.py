"""Flow matching: draw a noise level, mix, and compare velocities.

x_sigma = (1 - sigma) x0 + sigma noise, velocity = noise - x0, timestep = 1000 sigma (Wan2.1; MAGREF Appendix A writes t = 1 - sigma).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class FlowConfig:
    """How noise levels are drawn and the error is weighed."""

    density: Literal["logit-normal", "uniform"] = "logit-normal"
    """Distribution of u in [0, 1]: sigmoid of a normal, or uniform."""
    mean: float = 0.0
    deviation: float = 1.0
    shift: float | Literal["resolution"] = 3.0
    """sigma = shift u / (1 + (shift - 1) u): larger frames need more noise. "resolution": what Kaleido's release has at the samples' size."""
    first_frame_weight: float = 1.0
    """Factor for latent frame 0, which in MAGREF is the canvas; 0 leaves it out."""
    foreground_weight: float = 0.0
    """Weight added where a subject is. The papers have none (0); small models learn the subjects sooner with 2."""


def draw_sigmas(config: FlowConfig, count: int, generator: torch.Generator) -> Tensor:
    """Noise levels [B] in (0, 1), float32, on the generator's device. The shift must be a number."""
    assert not isinstance(config.shift, str), "the trainer puts the size's shift here"
    if config.density == "uniform":
        drawn = torch.rand(count, generator=generator)
    else:
        drawn = torch.sigmoid(torch.randn(count, generator=generator) * config.deviation + config.mean)
    return config.shift * drawn / (1 + (config.shift - 1) * drawn)


def add_noise(clean_BCTHW: Tensor, noise_BCTHW: Tensor, sigma_B: Tensor) -> Tensor:
    """x_sigma."""
    sigma = sigma_B.view(-1, 1, 1, 1, 1)
    return (1 - sigma) * clean_BCTHW + sigma * noise_BCTHW


def velocity_loss(
    velocity_BCTHW: Tensor, clean_BCTHW: Tensor, noise_BCTHW: Tensor, weight_B1THW: Tensor | None = None
) -> Tensor:
    """Mean squared error of the velocity, each cell weighed, one value per video [B]; weights are normalised to mean 1."""
    error = (velocity_BCTHW.float() - (noise_BCTHW - clean_BCTHW)).square()
    if weight_B1THW is not None:
        error = error * (weight_B1THW / weight_B1THW.mean(dim=(1, 2, 3, 4), keepdim=True))
    return error.mean(dim=(1, 2, 3, 4))

"""Fills a hole in a picture: SDXL or Flux Fill through diffusers, or OpenCV's Telea, which needs no network.

Whatever the model paints elsewhere, pixels outside the hole come back untouched.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from anyref.perception import ModelCard, Picture
from anyref.perception.models import Entry
from anyref.perception.preparation import card, check, hub_revision

_TELEA_RADIUS_PX = 3
_GRID = 16
"""Sides of what diffusion models paint are multiples of this."""


@dataclass(frozen=True)
class Painting:
    """How a diffusion model is asked."""

    side: int = 1024
    """The longer side of the picture that it paints, in pixels."""
    steps: int = 20
    guidance: float = 8.0
    strength: float = 0.99
    """1 would start from nothing but noise; SDXL's card says .99, so that the hole keeps a hint of its surroundings' light."""


class DiffusionInpainter:
    """An inpainting pipeline of diffusers."""

    def __init__(self, pipeline: Any, painting: Painting, card: ModelCard) -> None:
        self._pipeline = pipeline
        self._pipeline.set_progress_bar_config(disable=True)
        self._painting = painting
        self.card = card

    @torch.no_grad()
    def inpaint(self, picture_YX3: Picture, hole_YX: NDArray[np.bool_], prompt: str, seed: int) -> Picture:
        """See `anyref.perception.Inpainter`. The same seed gives the same picture on the same device."""
        check_hole(picture_YX3, hole_YX)
        if not hole_YX.any():
            return picture_YX3.copy()
        width, height = fitting(picture_YX3, self._painting.side)
        image = Image.fromarray(picture_YX3).resize((width, height), Image.Resampling.LANCZOS)
        hole = Image.fromarray(hole_YX.astype(np.uint8) * 255).resize(
            (width, height), Image.Resampling.NEAREST
        )
        painted = self._pipeline(
            prompt=prompt,
            image=image,
            mask_image=hole,
            height=height,
            width=width,
            strength=self._painting.strength,
            num_inference_steps=self._painting.steps,
            guidance_scale=self._painting.guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        back = painted.convert("RGB").resize(
            (picture_YX3.shape[1], picture_YX3.shape[0]), Image.Resampling.LANCZOS
        )
        return np.where(hole_YX[..., None], np.asarray(back), picture_YX3)


class Telea:
    """Smears what surrounds the hole into it; deterministic, so prompt and seed do nothing."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def inpaint(self, picture_YX3: Picture, hole_YX: NDArray[np.bool_], prompt: str, seed: int) -> Picture:  # noqa: ARG002
        """See `anyref.perception.Inpainter`."""
        import cv2

        check_hole(picture_YX3, hole_YX)
        hole = hole_YX.astype(np.uint8)
        filled = cv2.inpaint(np.ascontiguousarray(picture_YX3), hole, _TELEA_RADIUS_PX, cv2.INPAINT_TELEA)
        return np.where(hole_YX[..., None], filled, picture_YX3).astype(np.uint8)


def check_hole(picture_YX3: Picture, hole_YX: NDArray[np.bool_]) -> None:
    """Raise ValueError unless the hole is a mask of the picture's size."""
    check([picture_YX3])
    if hole_YX.dtype != np.bool_ or hole_YX.shape != picture_YX3.shape[:2]:
        raise ValueError(
            f"the hole is {hole_YX.dtype} of shape {hole_YX.shape}; give bool of shape {picture_YX3.shape[:2]}, True in the hole"
        )


def fitting(picture_YX3: Picture, side: int) -> tuple[int, int]:
    """(width, height) with the picture's proportions, the longer `side`, both multiples of 16."""
    height, width = picture_YX3.shape[:2]
    scale = side / max(height, width)
    return max(_GRID, round(width * scale / _GRID) * _GRID), max(_GRID, round(height * scale / _GRID) * _GRID)


def open_sdxl_inpaint(entry: Entry, device: str) -> DiffusionInpainter:
    """SDXL's inpainting model: MAGREF's Bg-Sim. Sampler, steps and prompt are not published; 20 steps of the released sampler."""
    from diffusers import StableDiffusionXLInpaintPipeline

    pipeline = StableDiffusionXLInpaintPipeline.from_pretrained(
        entry.source, revision=hub_revision(entry), torch_dtype=_dtype(device, torch.float16)
    ).to(device)
    return DiffusionInpainter(pipeline, Painting(), card(entry))


def open_flux_fill(entry: Entry, device: str) -> DiffusionInpainter:
    """Flux Fill: Kaleido's background step. Its weights are gated on the hub and not for commercial use."""
    from diffusers import FluxFillPipeline

    pipeline = FluxFillPipeline.from_pretrained(
        entry.source, revision=hub_revision(entry), torch_dtype=_dtype(device, torch.bfloat16)
    ).to(device)
    return DiffusionInpainter(pipeline, Painting(steps=50, guidance=30.0, strength=1.0), card(entry))


def open_telea(entry: Entry, device: str) -> Telea:  # noqa: ARG001 - there is nothing to put on a device
    """OpenCV's."""
    return Telea(card(entry))


def _dtype(device: str, half: torch.dtype) -> torch.dtype:
    return torch.float32 if device == "cpu" else half

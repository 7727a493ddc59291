"""Draws the same subject anew, in another pose and place: Flux Redux (Kaleido's), Flux Kontext, Qwen-Image-Edit; through diffusers.

What comes back is a candidate: curation checks from two sides that it shows the same subject and is not a copy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from anyref.perception import ModelCard, Picture
from anyref.perception.inpainting import fitting
from anyref.perception.models import Entry
from anyref.perception.preparation import card, check, hub_revision


@dataclass(frozen=True)
class Drawing:
    """How a diffusion model is asked."""

    side: int = 1024
    """The longer side of the picture that it draws, in pixels."""
    steps: int = 28
    guidance: float = 2.5
    subject_weight: float = 1.0
    """Redux only: how strongly the subject's tokens count against the prompt's."""


class ReduxVarier:
    """Redux turns the picture into tokens beside the prompt's; Flux draws from them."""

    def __init__(self, prior: Any, pipeline: Any, drawing: Drawing, card: ModelCard) -> None:
        self._prior = prior
        self._pipeline = pipeline
        self._pipeline.set_progress_bar_config(disable=True)
        self._drawing = drawing
        self.card = card

    @torch.no_grad()
    def vary(self, picture_YX3: Picture, prompt: str, seed: int) -> Picture:
        """See `anyref.perception.Varier`; as large as `Drawing.side` says, in the picture's proportions."""
        check([picture_YX3])
        width, height = fitting(picture_YX3, self._drawing.side)
        tokens = self._prior(
            Image.fromarray(picture_YX3), prompt=prompt, prompt_embeds_scale=self._drawing.subject_weight
        )
        drawn = self._pipeline(
            prompt_embeds=tokens.prompt_embeds,
            pooled_prompt_embeds=tokens.pooled_prompt_embeds,
            height=height,
            width=width,
            num_inference_steps=self._drawing.steps,
            guidance_scale=self._drawing.guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        return np.asarray(drawn.convert("RGB"))


class KontextVarier:
    """Flux Kontext edits the picture as the prompt says; its guidance is distilled into it."""

    def __init__(self, pipeline: Any, drawing: Drawing, card: ModelCard) -> None:
        self._pipeline = pipeline
        self._pipeline.set_progress_bar_config(disable=True)
        self._drawing = drawing
        self.card = card

    @torch.no_grad()
    def vary(self, picture_YX3: Picture, prompt: str, seed: int) -> Picture:
        """See `anyref.perception.Varier`; the prompt is an instruction ("the same cup, seen from above, on a table")."""
        check([picture_YX3])
        width, height = fitting(picture_YX3, self._drawing.side)
        drawn = self._pipeline(
            image=Image.fromarray(picture_YX3),
            prompt=prompt,
            height=height,
            width=width,
            # Or it would scale both sides to a million pixels.
            max_area=height * width,
            num_inference_steps=self._drawing.steps,
            guidance_scale=self._drawing.guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        return np.asarray(drawn.convert("RGB"))


class QwenEditVarier:
    """Qwen-Image-Edit edits the picture as the prompt says, with true guidance away from an empty prompt."""

    def __init__(self, pipeline: Any, drawing: Drawing, card: ModelCard) -> None:
        self._pipeline = pipeline
        self._pipeline.set_progress_bar_config(disable=True)
        self._drawing = drawing
        self.card = card

    @torch.no_grad()
    def vary(self, picture_YX3: Picture, prompt: str, seed: int) -> Picture:
        """See `anyref.perception.Varier`; the prompt is an instruction."""
        check([picture_YX3])
        width, height = fitting(picture_YX3, self._drawing.side)
        drawn = self._pipeline(
            image=[Image.fromarray(picture_YX3)],
            prompt=prompt,
            # Without a negative prompt there is no guidance, and diffusers only warns; a space is what the model card says.
            negative_prompt=" ",
            height=height,
            width=width,
            num_inference_steps=self._drawing.steps,
            true_cfg_scale=self._drawing.guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        return np.asarray(drawn.convert("RGB"))


def open_flux_redux(entry: Entry, device: str) -> ReduxVarier:
    """Redux with FLUX.1-dev; both are gated on the hub and not for commercial use."""
    from diffusers import FluxPipeline, FluxPriorReduxPipeline

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    pipeline = FluxPipeline.from_pretrained("black-forest-labs/FLUX.1-dev", torch_dtype=dtype)
    prior = FluxPriorReduxPipeline.from_pretrained(
        entry.source,
        revision=hub_revision(entry),
        text_encoder=pipeline.text_encoder,
        tokenizer=pipeline.tokenizer,
        text_encoder_2=pipeline.text_encoder_2,
        tokenizer_2=pipeline.tokenizer_2,
        torch_dtype=dtype,
    ).to(device)
    return ReduxVarier(prior, pipeline.to(device), Drawing(steps=50), card(entry))


def open_flux_kontext(entry: Entry, device: str) -> KontextVarier:
    """Gated on the hub and not for commercial use."""
    from diffusers import FluxKontextPipeline

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    pipeline = FluxKontextPipeline.from_pretrained(
        entry.source, revision=hub_revision(entry), torch_dtype=dtype
    ).to(device)
    return KontextVarier(pipeline, Drawing(), card(entry))


def open_qwen_image_edit(entry: Entry, device: str) -> QwenEditVarier:
    """Apache-2.0: the default where commercial use matters."""
    from diffusers import QwenImageEditPlusPipeline

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    pipeline = QwenImageEditPlusPipeline.from_pretrained(
        entry.source, revision=hub_revision(entry), torch_dtype=dtype
    ).to(device)
    return QwenEditVarier(pipeline, Drawing(steps=40, guidance=4.0), card(entry))

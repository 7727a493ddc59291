"""Guidance: the sides that the transformer is asked in every step, and how their velocities become one.

Up to three sides: the prompt with the references, the negative prompt with them (the release's two), and the negative prompt without them,
which only guidance by the references needs. All three of a step may be one batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from anyref.conditioning import Conditioning, concatenate
from anyref.encoders import Encoders, concatenate_text, text_context
from anyref.latents import TextContext
from anyref.methods.request import Prompts, Request, Side, repeated
from anyref.sampling import guide
from anyref.transformer import ContextCache

_EMBEDS = {
    "cond": "prompt_embeds",
    "uncond": "negative_prompt_embeds",
    "unreferenced": "negative_prompt_embeds",
    "joined": "prompt_embeds",
}
"""What diffusers' callbacks call the text of each branch."""


@dataclass(frozen=True)
class Branch:
    """One side of guidance, or all `sides` of it as one batch: what the transformer is given beside the video, and what it may keep."""

    name: Side
    text: TextContext
    conditioning: Conditioning
    sides: int = 1
    cache: ContextCache = field(default_factory=ContextCache)


def make_branches(
    request: Request,
    encoders: Encoders,
    prompts: Prompts,
    generator: torch.Generator | None,
    device: torch.device,
    dtype: torch.dtype,
) -> list[Branch]:
    """Encode references and texts, each once per prompt, and repeat them for its videos: a branch for each of `request.sides`."""

    def text(embeds: Tensor | TextContext | None, texts: Sequence[str] | None) -> TextContext:
        given = encoders.encode_text(texts or []) if embeds is None else embeds
        return repeated(text_context(given, device, dtype), request.num_videos)

    def condition(references: Any) -> Conditioning:
        made = request.method.condition(references, request.prompts, request.sampled, encoders, generator)
        return repeated(made, request.num_videos).to(device, dtype)

    conditional = condition(request.references)
    branches = [Branch("cond", text(prompts.positive_embeds, request.prompts), conditional)]
    if len(request.sides) > 1:
        negative = text(prompts.negative_embeds, request.negative_prompts)
        branches.append(Branch("uncond", negative, request.method.unconditional(conditional)))
    if len(request.sides) > 2:
        plain = request.method.unconditional(condition([[] for _ in request.references]))
        branches.append(Branch("unreferenced", negative, plain))
    return branches


def join(branches: Sequence[Branch]) -> Branch:
    """All sides of guidance as one batch."""
    text = concatenate_text([branch.text for branch in branches])
    conditioning = concatenate([branch.conditioning for branch in branches])
    return Branch("joined", text, conditioning, len(branches))


def combine(sides: Sequence[Tensor], scale: float, reference_scale: float = 1.0) -> Tensor:
    """One velocity of those of `Request.sides`, in their order.

    With g = `scale` and r = `reference_scale`: v = v(negative, none) + r (v(negative, references) - v(negative, none))
    + g (v(prompt, references) - v(negative, references)). r = 1 is the releases' guidance by the prompt alone, in which the middle two
    cancel; g of 1 or less is none by the prompt.
    """
    if len(sides) == 1:
        return sides[0]
    velocity = guide(sides[0], sides[1], scale if len(sides) == 2 else max(scale, 1.0))
    if len(sides) > 2:
        velocity = velocity + (reference_scale - 1) * (sides[1] - sides[2])
    return velocity


def texts_of(branches: Sequence[Branch]) -> dict[str, Tensor]:
    """The text tokens by the names that diffusers' callbacks ask for; of one joined batch, all are the prompt's."""
    return {_EMBEDS[branch.name]: branch.text.tokens_BSD for branch in branches}


def with_texts(branches: Sequence[Branch], texts: Mapping[str, Any]) -> list[Branch]:
    """The branches with the text tokens that a callback gave back instead of their own."""

    def renewed(branch: Branch) -> Branch:
        tokens = texts.get(_EMBEDS[branch.name])
        if tokens is None or tokens is branch.text.tokens_BSD:
            return branch
        # A new cache, too: the old one holds keys and values of the old text.
        return replace(branch, text=replace(branch.text, tokens_BSD=tokens), cache=ContextCache())

    return [renewed(branch) for branch in branches]

"""What references become for the transformer: a closed record, and the one function that joins it to the noisy video.

A method fills the fields of Conditioning and nothing else; `assemble` is called by inference, training and evaluation alike.
Letters as in latents.py; in Anchors, L counts the tokens of latent frame 0 and S the text tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from anyref.latents import PATCH, TokenSequence, check_shapes, grid_positions, patchify


@dataclass(frozen=True)
class Anchors:
    """Subject disentanglement (MAGREF eq. 5-6): where each reference lies in latent frame 0, and which words name it.

    `region_BRL` is bool, True where a token of latent frame 0 belongs to the reference. `span_BRS` float32 holds averaging weights
    over text tokens; a row sums to the reference's weight (1 unless given), or is zero for a reference without a phrase.
    `strength` is the paper's alpha; 0 turns it off.
    """

    region_BRL: Tensor
    span_BRS: Tensor
    strength: float

    def __post_init__(self) -> None:
        check_shapes(self)


@dataclass(frozen=True)
class Conditioning:
    """What the references give to the transformer, beside the text. The defaults are no references, plain video.

    `channels_BCTHW` are joined to the noisy video's channels. `tokens_BLP` are clean reference tokens (unembedded patches) at
    `positions_BL3` (integers, token units, any sign); where `visible_BL` is False nobody attends to a token (None: all visible).
    `reference_timestep` modulates reference tokens, in [0, 1000]; None: the video's own. `context_BSD` are image features.
    `references_attend` "references": as queries, reference tokens attend to visible reference tokens only, while the video's attend to
    all that is visible. References then do not depend on the video, and with a `reference_timestep` are computed once a video.
    `after_frames`: the tokens' times count from the end of a video of so many latent frames, and move with it where it is cut; 0: they do not.
    """

    channels_BCTHW: Tensor | None = None
    tokens_BLP: Tensor | None = None
    positions_BL3: Tensor | None = None
    visible_BL: Tensor | None = None
    reference_timestep: float | None = None
    context_BSD: Tensor | None = None
    anchors: Anchors | None = None
    references_attend: Literal["all", "references"] = "all"
    after_frames: int = 0

    def __post_init__(self) -> None:
        check_shapes(self)
        assert (self.tokens_BLP is None) == (self.positions_BL3 is None), (
            "reference tokens and their positions come together"
        )
        assert self.visible_BL is None or self.tokens_BLP is not None, "visibility without reference tokens"

    @property
    def batch(self) -> int | None:
        """How many samples; None if nothing in the record says so."""
        anchored = None if self.anchors is None else self.anchors.region_BRL
        for tensor in (self.channels_BCTHW, self.tokens_BLP, self.context_BSD, anchored):
            if tensor is not None:
                return tensor.shape[0]
        return None

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "Conditioning":
        """A copy on `device`; channels, tokens and context in `dtype`, positions, masks and anchors in their own."""
        anchors = self.anchors
        if anchors is not None:
            anchors = replace(
                anchors, region_BRL=anchors.region_BRL.to(device), span_BRS=anchors.span_BRS.to(device)
            )
        return replace(
            self,
            channels_BCTHW=None if self.channels_BCTHW is None else self.channels_BCTHW.to(device, dtype),
            tokens_BLP=None if self.tokens_BLP is None else self.tokens_BLP.to(device, dtype),
            positions_BL3=None if self.positions_BL3 is None else self.positions_BL3.to(device),
            visible_BL=None if self.visible_BL is None else self.visible_BL.to(device),
            context_BSD=None if self.context_BSD is None else self.context_BSD.to(device, dtype),
            anchors=anchors,
        )


def assemble(noisy_BCTHW: Tensor, timestep_B: Tensor, conditioning: Conditioning) -> TokenSequence:
    """Join the conditioning to a noisy video: its channels, then its tokens, the video first. `timestep_B` lies in [0, 1000].

    At batch 1 invisible reference tokens are dropped (equal to hiding them), so that no attention mask is needed; in larger
    batches they stay, hidden by a key mask. Anchors of strength 0 are left out.
    References that attend to themselves only and have a timestep of their own are marked as fixed: call this with the same record in
    every step, and a ContextCache computes their keys and values once.
    """
    batch, _, frames, height, width = noisy_BCTHW.shape
    timestep_B = timestep_B.float()  # solvers give integers, which would cut off a reference's fractional one
    latents = noisy_BCTHW
    if conditioning.channels_BCTHW is not None:
        latents = torch.cat([noisy_BCTHW, conditioning.channels_BCTHW.to(noisy_BCTHW.dtype)], dim=1)
    grid = (frames // PATCH[0], height // PATCH[1], width // PATCH[2])
    tokens_BLP = patchify(latents)
    positions_BL3 = grid_positions(grid, noisy_BCTHW.device).expand(batch, -1, -1)
    num_video, visible_BL = tokens_BLP.shape[1], None

    if conditioning.tokens_BLP is not None:
        assert conditioning.positions_BL3 is not None
        values, places, seen = conditioning.tokens_BLP, conditioning.positions_BL3, conditioning.visible_BL
        if batch == 1 and seen is not None:
            values, places, seen = values[:, seen[0]], places[:, seen[0]], None
        tokens_BLP = torch.cat([tokens_BLP, values.to(tokens_BLP.dtype)], dim=1)
        positions_BL3 = torch.cat([positions_BL3, places], dim=1)
        if seen is not None:
            visible_BL = torch.cat([seen.new_ones(batch, num_video), seen], dim=1)

    timesteps_BG, group_L = timestep_B[:, None], None
    if conditioning.reference_timestep is not None and tokens_BLP.shape[1] > num_video:
        clean = torch.full_like(timestep_B, conditioning.reference_timestep)
        timesteps_BG = torch.stack([timestep_B, clean], dim=1)
        # Layout, not data: the transformer reads it on the host, so it stays there and nothing waits for the device.
        group_L = (torch.arange(tokens_BLP.shape[1]) >= num_video).long()

    anchors = conditioning.anchors
    if anchors is not None and anchors.strength == 0:
        anchors = None
    apart = conditioning.references_attend == "references" and tokens_BLP.shape[1] > num_video
    return TokenSequence(
        tokens_BLP=tokens_BLP,
        positions_BL3=positions_BL3,
        timesteps_BG=timesteps_BG,
        grid=grid,
        group_L=group_L,
        visible_BL=visible_BL,
        context_BSD=conditioning.context_BSD,
        anchor_region_BRM=None if anchors is None else anchors.region_BRL,
        anchor_span_BRZ=None if anchors is None else anchors.span_BRS,
        anchor_strength=0.0 if anchors is None else anchors.strength,
        references_attend="references" if apart else "all",
        fixed_references=conditioning if apart and conditioning.reference_timestep is not None else None,
    )


def concatenate(parts: Sequence[Conditioning]) -> Conditioning:
    """Conditionings of several samples (or of guidance branches) as one batch, in order.

    Reference tokens, references and spans of different counts are padded: hidden tokens, empty regions, zero weights. A record without
    tensors stands for as many samples as the first that has some. Raises ValueError if some have channels or image context and others
    not, or if reference timesteps, anchor strengths or whom references attend to differ.
    """
    for name in ("channels_BCTHW", "context_BSD"):
        if len({getattr(part, name) is None for part in parts}) > 1:
            raise ValueError(
                f"some conditionings have {name} and some have none; make them all with one method and checkpoint"
            )
    default = next((part.batch for part in parts if part.batch is not None), 1)
    batches = [default if part.batch is None else part.batch for part in parts]
    return replace(
        _concatenate_tokens(parts, batches),
        channels_BCTHW=_concatenate_optional([part.channels_BCTHW for part in parts]),
        context_BSD=_concatenate_optional([part.context_BSD for part in parts]),
        anchors=_concatenate_anchors(parts, batches),
    )


def _concatenate_optional(tensors: list[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present) if present else None


def _concatenate_tokens(parts: Sequence[Conditioning], batches: list[int]) -> Conditioning:
    present = [part for part in parts if part.tokens_BLP is not None]
    if not present:
        return Conditioning()
    timesteps = {part.reference_timestep for part in present}
    if len(timesteps) > 1:
        raise ValueError(
            f"one batch mixes the reference timesteps {sorted(map(str, timesteps))}; run these samples apart"
        )
    if len({part.references_attend for part in present}) > 1:
        raise ValueError(
            "one batch mixes references that attend to all tokens with some that attend to references only; run these samples apart"
        )
    if len({part.after_frames for part in present}) > 1:
        raise ValueError(
            "one batch mixes references that follow videos of different lengths; run these samples apart"
        )
    first = present[0]
    assert first.tokens_BLP is not None
    assert first.positions_BL3 is not None
    length = max(part.tokens_BLP.shape[1] for part in present if part.tokens_BLP is not None)
    tokens, positions, visible = [], [], []
    for part, batch in zip(parts, batches, strict=True):
        values, places, seen = part.tokens_BLP, part.positions_BL3, part.visible_BL
        if values is None or places is None:
            values = first.tokens_BLP.new_zeros(batch, 0, first.tokens_BLP.shape[2])
            places = first.positions_BL3.new_zeros(batch, 0, 3)
        if seen is None:
            seen = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        padding = length - values.shape[1]
        tokens.append(F.pad(values, (0, 0, 0, padding)))
        positions.append(F.pad(places, (0, 0, 0, padding)))
        visible.append(F.pad(seen, (0, padding)))
    # Known without looking at the values, so that nothing waits for the device.
    all_visible = all(
        part.tokens_BLP is not None and part.visible_BL is None and part.tokens_BLP.shape[1] == length
        for part in parts
    )
    return Conditioning(
        tokens_BLP=torch.cat(tokens),
        positions_BL3=torch.cat(positions),
        visible_BL=None if all_visible else torch.cat(visible),
        reference_timestep=first.reference_timestep,
        references_attend=first.references_attend,
        after_frames=first.after_frames,
    )


def _concatenate_anchors(parts: Sequence[Conditioning], batches: list[int]) -> Anchors | None:
    present = [part.anchors for part in parts if part.anchors is not None]
    if not present:
        return None
    strengths = {anchors.strength for anchors in present}
    if len(strengths) > 1:
        raise ValueError(f"one batch mixes the anchor strengths {sorted(strengths)}; run these samples apart")
    references = max(anchors.region_BRL.shape[1] for anchors in present)
    span = max(anchors.span_BRS.shape[2] for anchors in present)
    regions, spans = [], []
    for part, batch in zip(parts, batches, strict=True):
        if part.anchors is None:
            region = present[0].region_BRL.new_zeros(batch, 0, present[0].region_BRL.shape[2])
            weights = present[0].span_BRS.new_zeros(batch, 0, 0)
        else:
            region, weights = part.anchors.region_BRL, part.anchors.span_BRS
        missing = references - region.shape[1]
        regions.append(F.pad(region, (0, 0, 0, missing)))
        spans.append(F.pad(weights, (0, span - weights.shape[2], 0, missing)))
    return Anchors(torch.cat(regions), torch.cat(spans), present[0].strength)

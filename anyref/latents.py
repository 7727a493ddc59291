"""Shapes of a video in pixels, latents and tokens, and the two records the transformer is given.

Legend for the whole package: B batch; C latent channels; T H W latent grid; F Y X pixels (frames, rows, columns); R references;
L tokens, video first; P values per token before embedding; D model width; N, K heads and head width; S context tokens. A digit in
a suffix is that size (`positions_BL3`).

Units: images are uint8 RGB HWC at the edges and float32 in [-1, 1] inside; videos are frames first; boxes are (top, left, bottom, right),
half-open; positions are integers in token units (t, h, w) and may be negative; sigma lies in [0, 1], 1 is noise, and the
transformer's timestep is 1000 * sigma.
"""

import re
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor

PATCH = (1, 2, 2)  # Wan2.1: one token covers 1 x 2 x 2 latents
TEMPORAL_STRIDE = 4  # the causal VAE: frame 0 alone, then four frames a latent
SPATIAL_STRIDE = 8

_SUFFIX = re.compile(r"_([A-Z0-9]+)$")


def check_shapes(record: Any) -> None:
    """Compare every tensor field of a dataclass with the shape letters of its own name, and each letter across fields.

    Raises ValueError, "positions_BL3: axis L is 6, but 5 in tokens_BLP".
    """
    seen: dict[str, tuple[int, str]] = {}
    for field in fields(record):
        value, suffix = getattr(record, field.name), _SUFFIX.search(field.name)
        if not isinstance(value, Tensor) or suffix is None:
            continue
        letters = suffix.group(1)
        if value.ndim != len(letters):
            raise ValueError(
                f"{field.name}: {value.ndim} axes of shape {tuple(value.shape)}, expected {letters}"
            )
        for letter, size in zip(letters, value.shape, strict=True):
            if letter.isdigit():
                if size != int(letter):
                    raise ValueError(f"{field.name}: an axis of size {letter} is {size}")
                continue
            known, where = seen.setdefault(letter, (size, field.name))
            if known != size:
                raise ValueError(f"{field.name}: axis {letter} is {size}, but {known} in {where}")


@dataclass(frozen=True)
class VideoShape:
    """Size of a video in pixels. Height and width are multiples of 16, num_frames is 4k + 1."""

    num_frames: int
    height: int
    width: int

    def __post_init__(self) -> None:
        for name, value in (("height", self.height), ("width", self.width)):
            if value < 16 or value % 16:
                raise ValueError(
                    f"{name} is {value}; it must be a multiple of 16 of at least 16; try {max(16, round(value / 16) * 16)}"
                )
        if self.num_frames < 1 or self.num_frames % TEMPORAL_STRIDE != 1:
            nearest = max(1, round((self.num_frames - 1) / 4) * 4 + 1)
            raise ValueError(
                f"num_frames is {self.num_frames}; it must be 4k + 1 (1, 5, 9, ...); try {nearest}"
            )

    @property
    def latent(self) -> tuple[int, int, int]:
        """(T, H, W) of the latent grid."""
        frames = (self.num_frames - 1) // TEMPORAL_STRIDE + 1
        return frames, self.height // SPATIAL_STRIDE, self.width // SPATIAL_STRIDE

    @property
    def tokens(self) -> tuple[int, int, int]:
        """(T, H/2, W/2): the token grid."""
        frames, height, width = self.latent
        return frames // PATCH[0], height // PATCH[1], width // PATCH[2]


@dataclass(frozen=True)
class TextContext:
    """What the text encoder gives to cross-attention.

    `bias_BS` is added to the attention logits of each token: log(n) lets one padding token stand for n equal ones, -inf hides a token. None
    means no bias, the released layout (512 tokens, zeros past the prompt's end, all of them attended to).
    """

    tokens_BSD: Tensor
    bias_BS: Tensor | None = None

    def __post_init__(self) -> None:
        check_shapes(self)


@dataclass(frozen=True)
class TokenSequence:
    """What the transformer is given: tokens, where they sit, how noisy they are, who may be seen.

    The first `num_video_tokens` tokens are the video's, a grid of `grid` = (t, h, w) tokens; reference tokens follow. `timesteps_BG` holds the
    distinct timesteps, `group_L` says which of them modulates a token (None: all tokens take group 0). `visible_BL` False: nobody attends
    to that token (None: all visible). `context_BSD` are image features for cross-attention. `anchor_region_BRM`,
    `anchor_span_BRZ`, `anchor_strength` are
    the subject anchors (see conditioning.Anchors); region L counts the tokens of latent frame 0 only.
    `references_attend` says to whom reference tokens attend: all visible tokens, or visible reference tokens only (the video's
    attend to all in both). `fixed_references` is the record that the references came from, if everything about them is the same
    in every step, their timestep included; a ContextCache knows them by its identity and computes their keys and values once.
    """

    tokens_BLP: Tensor
    positions_BL3: Tensor
    timesteps_BG: Tensor
    grid: tuple[int, int, int]
    group_L: Tensor | None = None
    visible_BL: Tensor | None = None
    context_BSD: Tensor | None = None
    anchor_region_BRM: Tensor | None = None
    anchor_span_BRZ: Tensor | None = None
    anchor_strength: float = 0.0
    references_attend: Literal["all", "references"] = "all"
    fixed_references: object | None = None

    def __post_init__(self) -> None:
        check_shapes(self)
        assert self.fixed_references is None or self.references_attend == "references", (
            "references that attend to the video change with it"
        )

    @property
    def num_video_tokens(self) -> int:
        """How many of the tokens are the video's."""
        frames, height, width = self.grid
        return frames * height * width

    def video_only(self) -> "TokenSequence":
        """The sequence without its reference tokens, and with the timesteps of the video's tokens only."""
        length, timesteps_BG, group_L = self.num_video_tokens, self.timesteps_BG, self.group_L
        if group_L is not None:
            groups, group_L = group_L[:length].unique(return_inverse=True)
            timesteps_BG = timesteps_BG[:, groups.tolist()]
        return replace(
            self,
            tokens_BLP=self.tokens_BLP[:, :length],
            positions_BL3=self.positions_BL3[:, :length],
            timesteps_BG=timesteps_BG,
            group_L=None if timesteps_BG.shape[1] == 1 else group_L,
            visible_BL=None if self.visible_BL is None else self.visible_BL[:, :length],
            references_attend="all",
            fixed_references=None,
        )

    def modulation_runs(self) -> tuple[Tensor | None, tuple[int, ...] | None]:
        """Timestep groups as runs of tokens: the groups in order of appearance (None: as they are) and the runs' lengths.

        (None, None) where modulation broadcasts: one group, or one for each token in order (Wan2.2's per-token timesteps).
        """
        groups, num_groups = self.group_L, self.timesteps_BG.shape[1]
        if num_groups == 1:
            return None, None
        assert groups is not None, "several timesteps, and no group_L to say which token takes which"
        if num_groups == groups.shape[0]:
            return None, None
        runs = [(group, sum(1 for _ in members)) for group, members in groupby(groups.tolist())]
        order, lengths = [group for group, _ in runs], tuple(length for _, length in runs)
        if order == list(range(num_groups)):
            return None, lengths
        return torch.tensor(order, device=self.timesteps_BG.device), lengths


def patchify(latents_BCTHW: Tensor) -> Tensor:
    """Latents to unembedded tokens [B, L, P], P = (c, pt, ph, pw): the order of the patch embedding's convolution weight."""
    t, h, w = PATCH
    return rearrange(latents_BCTHW, "b c (t pt) (h ph) (w pw) -> b (t h w) (c pt ph pw)", pt=t, ph=h, pw=w)


def unpatchify(values_BLP: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Projected tokens [B, L, P] to latents. P = (pt, ph, pw, c): the order of Wan's output projection, not of its input."""
    t, h, w = PATCH
    frames, height, width = grid
    return rearrange(
        values_BLP,
        "b (t h w) (pt ph pw c) -> b c (t pt) (h ph) (w pw)",
        t=frames, h=height, w=width, pt=t, ph=h, pw=w,
    )  # fmt: skip


def grid_positions(grid: tuple[int, int, int], device: torch.device | None = None) -> Tensor:
    """Positions (t, h, w) of a token grid counted from 0, shape [L, 3], int64, time slowest."""
    axes = [torch.arange(size, device=device) for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def video_sequence(
    latents_BCTHW: Tensor, timestep: Tensor, context_BSD: Tensor | None = None
) -> TokenSequence:
    """A plain video, in diffusers' arguments, as a token sequence: `timestep` is [B], or [B, L] with one for each token."""
    tokens_BLP = patchify(latents_BCTHW)
    frames, height, width = latents_BCTHW.shape[2:]
    grid = (frames // PATCH[0], height // PATCH[1], width // PATCH[2])
    per_token = timestep.ndim == 2
    return TokenSequence(
        tokens_BLP=tokens_BLP,
        positions_BL3=grid_positions(grid, tokens_BLP.device).expand(tokens_BLP.shape[0], -1, -1),
        timesteps_BG=timestep if per_token else timestep[:, None],
        grid=grid,
        group_L=torch.arange(tokens_BLP.shape[1]) if per_token else None,
        context_BSD=context_BSD,
    )

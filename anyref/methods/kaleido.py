"""Kaleido (arXiv 2510.18573): clean reference tokens beside the video's, at positions of their own.

Eq. 3: each reference goes through the VAE alone and its tokens join the video's in one sequence; nothing is
added to the network. Eq. 4 (R-RoPE): the tokens of reference i stand at t = i, and at rows and columns that
begin where no video reaches, so that they are not taken for frames. They are modulated with the video's own
timestep, read the text, and are not in the loss. Without references this is the plain text-to-video backbone.

The variants of Tables 2 and 5 are rows of PLACEMENTS; the channel concatenation of Table 5 has no tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, isqrt
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from anyref.conditioning import Conditioning, concatenate
from anyref.encoders import Encoders
from anyref.latents import PATCH, SPATIAL_STRIDE, TEMPORAL_STRIDE, VideoShape, grid_positions, patchify
from anyref.references import Reference, composite_on, fit
from anyref.samples import Sample, Subject
from anyref.sampling import WAN_NEGATIVE_PROMPT, SamplingDefaults

TokenPositions = Literal[
    "shift-w-h",
    "shift-w",
    "shift-h",
    "unshifted",
    "concat",
    "end-concat",
    "unrotated",
    "shift-w-h-no-overlap",
    "staggered-negative",
    "fixed-negative",
    "future",
]
Positions = Literal[TokenPositions, "channel-concat"]
Offset = Literal["constant", "per-clip"]
Fitting = Literal["canvas", "own"]

TimeRule = Literal["i", "T + i", "T + 1 + i", "i - n", "-1", "0"]
SpaceRule = Literal["0", "S", "S (i + 1)", "none"]


class Placement(NamedTuple):
    """Where the tokens of reference i (of n, from 0) stand: t, and the first row h and column w.

    T is the number of the video's token frames, 0 .. T - 1. S is H_max or W_max of eq. 4 (see `Offset`). "none": all at 0, whatever
    their row or column.
    """

    t: TimeRule
    h: SpaceRule
    w: SpaceRule


PLACEMENTS: Mapping[TokenPositions, Placement] = {
    # Table 2. The release's shipped configuration is the first row.
    "shift-w-h": Placement("i", "S", "S"),
    "shift-w": Placement("i", "0", "S"),
    "shift-h": Placement("i", "S", "0"),
    # What is left of R-RoPE with neither shift: the references stand where the video's first frames do.
    "unshifted": Placement("i", "0", "0"),
    # Paper, A.2: the references are the last frames; eq. 3 has them in front of the video. We follow A.2, as
    # the release's `end_concat` does; in front is "staggered-negative" (only differences of positions count).
    "concat": Placement("T + i", "0", "0"),
    # Switches of the release that the paper does not compare: `end_concat` as coded, which leaves the shifts on; and `shiftT` off,
    # which rotates no reference token.
    "end-concat": Placement("T + i", "S", "S"),
    "unrotated": Placement("0", "none", "none"),
    # Table 5. The paper does not say where in space its three temporal variants stand. We leave space alone,
    # since they are opposed to the spatial ones; under "fixed-negative" all references then coincide.
    "shift-w-h-no-overlap": Placement("i", "S (i + 1)", "S (i + 1)"),
    "staggered-negative": Placement("i - n", "0", "0"),
    "fixed-negative": Placement("-1", "0", "0"),
    # "T = N + 1, N + 2": one free frame after the last, N - 1 (its other reading is "concat").
    "future": Placement("T + 1 + i", "0", "0"),
}

MAX_SIZE = 80
"""H_max = W_max of eq. 4 in tokens: 1280 pixels, the largest side of the training videos.

Paper: "the maximum observed dimensions of the video sequence"; release: this constant for every clip.
"""

# Wan's without "badly drawn face", as the release has it.
NEGATIVE_PROMPT = WAN_NEGATIVE_PROMPT.replace("\u753b\u5f97\u4e0d\u597d\u7684\u8138\u90e8\uff0c", "")

_RELEASE = SamplingDefaults(
    height=512,
    width=896,
    num_frames=81,
    num_inference_steps=50,
    shift=7.0,
    guidance_scale=6.0,
    fps=16,
    solver="euler",
    negative_prompt=NEGATIVE_PROMPT,
    sigmas="uniform",
)


def reference_positions(
    positions: TokenPositions,
    grids: Sequence[tuple[int, int]],
    video: tuple[int, int, int],
    offset: Offset = "constant",
) -> Tensor:
    """Eq. 4: positions [L, 3] (t, h, w), int64, of references of the token grids (rows, columns), one after
    the other, beside a video of `video` = (T, H, W) tokens, whose own positions count from 0.
    """
    time, *space = PLACEMENTS[positions]
    frames, height, width = video
    sizes = (height, width) if offset == "per-clip" else (MAX_SIZE, MAX_SIZE)
    parts = [torch.zeros(0, 3, dtype=torch.int64)]
    for i, grid in enumerate(grids):
        times = {
            "i": i, "T + i": frames + i, "T + 1 + i": frames + 1 + i, "i - n": i - len(grids), "-1": -1, "0": 0,
        }  # fmt: skip
        starts = [
            {"0": 0, "S": size, "S (i + 1)": size * (i + 1), "none": 0}[rule]
            for rule, size in zip(space, sizes, strict=True)
        ]
        within = grid_positions((1, *grid)) * torch.tensor([1, *(rule != "none" for rule in space)])
        parts.append(within + torch.tensor([times[time], *starts]))
    return torch.cat(parts)


def own_grid(reference: Reference, shape: VideoShape) -> tuple[int, int]:
    """(rows, columns) in tokens of a reference that keeps its aspect: the largest with at most as many tokens
    as a frame of the video, the long side rounded to whole tokens.

    Raises ValueError for a picture so long that a single row of tokens would be more than a frame has.
    """
    _, rows, columns = shape.tokens
    height, width = reference.image.shape[:2]
    ratio = max(height, width) / min(height, width)
    if round(ratio) > rows * columns:
        raise ValueError(
            f"{reference.title} is {width} x {height} pixels and would take {round(ratio)} tokens, more than the "
            f"{rows * columns} of a {shape.width} x {shape.height} frame; crop it, or set fit to 'canvas'"
        )
    sides = range(1, isqrt(rows * columns) + 1)
    short = max(side for side in sides if side * round(side * ratio) <= rows * columns)
    long = round(short * ratio)
    return (short, long) if height <= width else (long, short)


def picture(reference: Reference, shape: VideoShape, fitting: Fitting) -> NDArray[np.uint8]:
    """What the VAE sees of a reference, uint8 [Y, X, 3]: fitted to a white canvas of the video's size, or
    scaled to `own_grid`.

    Release: transparency is discarded, and what lies under it shows; we composite on white. A weight below 1
    fades the picture towards white; above 1 it is as at 1.
    """
    image = composite_on(reference)
    if fitting == "canvas":
        scaled, top, left = fit(image, shape.height, shape.width)
        seen = np.full((shape.height, shape.width, 3), 255, dtype=np.uint8)
        seen[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    else:
        rows, columns = own_grid(reference, shape)
        size = (columns * PATCH[2] * SPATIAL_STRIDE, rows * PATCH[1] * SPATIAL_STRIDE)
        seen = np.array(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
    if reference.weight < 1:
        seen = np.rint(255 - reference.weight * (255.0 - seen)).astype(np.uint8)
    return seen


def encode(reference: Reference, shape: VideoShape, fitting: Fitting, encoders: Encoders) -> Tensor:
    """Clean latents [1, C, 1, H, W] of one reference, a video of one frame, encoded alone.

    Release: alone in inference; its trainer encodes all references as the frames of one video, of which the
    causal VAE keeps the first. Alone in both here.
    """
    pixels = torch.from_numpy(picture(reference, shape, fitting)).float() / 127.5 - 1
    return encoders.encode_video(rearrange(pixels, "y x c -> 1 c 1 y x"))


def resolution_shift(shape: VideoShape) -> float:
    """The shift of the noise levels in training, e^mu, linear in the tokens of one frame (release:
    `schedule_shift`): 2.06 at 480 x 832, 2.90 at 720 x 1280. Sampling has its own, 7 at every size.
    """
    _, rows, columns = shape.tokens
    return exp(0.5 + (rows * columns - 256) * (1.15 - 0.5) / (4096 - 256))


@dataclass(frozen=True)
class KaleidoMethod:
    """Kaleido's settings. Those of a checkpoint are in its anyref.json; the defaults are the public weights'."""

    positions: Positions = "shift-w-h"
    """A row of PLACEMENTS, or "channel-concat": no tokens; reference i is joined, by channel, to latent frame
    i of a backbone of 36 input channels.
    """
    offset: Offset = "constant"
    """S of the placements: "constant" (80 tokens; the release), or "per-clip", the video's own height and width."""
    fit: Fitting = "canvas"
    """ "canvas": contained in a white picture of the video's size (the release). "own": a reference keeps its
    aspect, without padding, at about the area of a frame.
    """
    reference_timestep: float | None = None
    """What modulates the reference tokens, 0 to 1000; None: the video's own, although they are clean (release: new_adaln off)."""
    max_references: int = 16
    """More are refused. Release: trained with at most 3, and nothing refuses more."""
    cross_pair_probability: float = 0.4
    """In training, how often a subject's reference is a cross-pair (another picture of it) and not a crop from
    the clip. The paper's mix has inpainting and redux at 3 + 1 of 10, and its Table 4 its best scores at 40 %.
    """
    defaults: SamplingDefaults = _RELEASE

    name: ClassVar[str] = "kaleido"
    cuts_out: ClassVar[bool] = False

    def __post_init__(self) -> None:
        known = (*PLACEMENTS, "channel-concat")
        for field, value, values in (
            ("positions", self.positions, known),
            ("offset", self.offset, get_args(Offset)),
            ("fit", self.fit, get_args(Fitting)),
        ):
            if value not in values:
                raise ValueError(f"{field} is {value!r}; it must be one of {', '.join(values)}")
        if self.positions == "channel-concat" and self.fit != "canvas":
            raise ValueError(
                "positions is 'channel-concat' and fit is 'own'; channels have the video's size, so set fit to 'canvas'"
            )
        if self.reference_timestep is not None and not 0 <= self.reference_timestep <= 1000:
            raise ValueError(
                f"reference_timestep is {self.reference_timestep}; it must lie between 0 and 1000, or be left out for the video's own"
            )
        if self.max_references < 1:
            raise ValueError(f"max_references is {self.max_references}; it must be at least 1")
        if not 0 <= self.cross_pair_probability <= 1:
            raise ValueError(
                f"cross_pair_probability is {self.cross_pair_probability}; it must lie between 0 and 1"
            )

    @property
    def in_channels(self) -> int:
        """16, a text-to-video backbone; with channel concatenation 36: noisy 16, mask 4, references 16."""
        return 36 if self.positions == "channel-concat" else 16

    def official(self) -> "KaleidoMethod":
        """As the release generates: its positions, canvas, size, sampler, guidance and negative prompt.

        Raises ValueError for channel concatenation, whose transformers the release does not have.
        """
        if self.positions == "channel-concat":
            raise ValueError(
                "this checkpoint joins references by channel and the release does not; leave the official settings out"
            )
        return replace(self, positions="shift-w-h", offset="constant", fit="canvas", defaults=_RELEASE)

    def check(self, references: Sequence[Reference], shape: VideoShape) -> None:
        """Raise ValueError: too many references, a video so large that it reaches the references' positions,
        a picture too long to keep its aspect.
        """
        self._check_count(references, shape)
        self._check_reach(shape)
        for reference in references:
            if self.fit == "own":
                own_grid(reference, shape)

    def sampled_shape(self, shape: VideoShape, keep_canvas: bool) -> VideoShape:  # noqa: ARG002 - there is none
        """What is asked for."""
        return shape

    def output_frames(self, frames_FYX3: Any, keep_canvas: bool) -> Any:  # noqa: ARG002 - there is none
        """All of them."""
        return frames_FYX3

    def condition(
        self,
        references: Sequence[Sequence[Reference]],
        prompts: Sequence[str] | None,  # noqa: ARG002 - the text names the subjects, and the network finds them
        shape: VideoShape,
        encoders: Encoders,
        generator: torch.Generator | None = None,  # noqa: ARG002 - nothing is drawn
    ) -> Conditioning:
        """Reference tokens and their positions, of each video's own references; a weight of 0 is as if the
        reference were not given. Rows of fewer tokens end with hidden ones.
        """
        rows = [[reference for reference in row if reference.weight > 0] for row in references]
        if self.positions == "channel-concat":
            return self._channels(rows, shape, encoders)
        return concatenate([self._tokens(row, self.positions, shape, encoders) for row in rows])

    def unconditional(self, conditioning: Conditioning) -> Conditioning:
        """The references stay, as in the release."""
        return conditioning

    def training_references(self, sample: Sample, rng: np.random.Generator) -> list[Reference]:
        """One reference per subject, in random order: the order is their time, and it should mean nothing."""
        chosen = [subject for subject in sample.subjects if subject.references]
        order = rng.permutation(len(chosen))[: self.max_references]
        return [self._training_reference(chosen[index], rng) for index in order]

    def training_frames(self, shape: VideoShape) -> int:
        """All of them."""
        return shape.num_frames

    def training_video(
        self,
        frames_FYX3: NDArray[np.uint8],
        references: Sequence[Reference],  # noqa: ARG002 - the references are no frames of the target
        shape: VideoShape,
    ) -> NDArray[np.uint8]:
        """The clip, cut at its end. Raises ValueError for one that is too short."""
        if len(frames_FYX3) < shape.num_frames:
            raise ValueError(
                f"the clip has {len(frames_FYX3)} frames and {shape.num_frames} are trained on; use longer clips"
            )
        return frames_FYX3[: shape.num_frames]

    def _tokens(
        self, row: Sequence[Reference], positions: TokenPositions, shape: VideoShape, encoders: Encoders
    ) -> Conditioning:
        if not row:
            return Conditioning()
        latents = [encode(reference, shape, self.fit, encoders) for reference in row]
        grids = [(one.shape[3] // PATCH[1], one.shape[4] // PATCH[2]) for one in latents]
        tokens_BLP = torch.cat([patchify(one) for one in latents], dim=1)
        places = reference_positions(positions, grids, shape.tokens, self.offset)
        return Conditioning(
            tokens_BLP=tokens_BLP,
            positions_BL3=places[None].to(tokens_BLP.device),
            reference_timestep=self.reference_timestep,
            after_frames=shape.tokens[0] if PLACEMENTS[positions].t.startswith("T") else 0,
        )

    def _channels(
        self, rows: Sequence[Sequence[Reference]], shape: VideoShape, encoders: Encoders
    ) -> Conditioning:
        # Table 5's Channel-Concat is not in the release and the paper does not describe it. We take the order of
        # the release's image-to-video branch, one reference to a frame, zeros (of the mask, too) in the others.
        channels = torch.zeros(len(rows), TEMPORAL_STRIDE + 16, *shape.latent)
        for video, row in enumerate(rows):
            self._check_count(row, shape)
            for frame, reference in enumerate(row):
                channels[video, :TEMPORAL_STRIDE, frame] = 1
                channels[video, TEMPORAL_STRIDE:, frame] = encode(reference, shape, self.fit, encoders)[
                    0, :, 0
                ]
        return Conditioning(channels_BCTHW=channels)

    def _check_count(self, references: Sequence[Reference], shape: VideoShape) -> None:
        most, why = self.max_references, "Kaleido takes"
        if self.positions == "channel-concat" and shape.latent[0] < most:
            most, why = shape.latent[0], f"{shape.num_frames} frames have channels for"
        if len(references) > most:
            raise ValueError(f"{len(references)} references were given; {why} at most {most}; leave some out")

    def _check_reach(self, shape: VideoShape) -> None:
        if self.positions == "channel-concat" or self.offset == "per-clip":
            return
        _, height, width = shape.tokens
        starts = [0 if rule in {"0", "none"} else MAX_SIZE for rule in PLACEMENTS[self.positions][1:]]
        if any(starts) and starts[0] < height and starts[1] < width:
            side = MAX_SIZE * PATCH[1] * SPATIAL_STRIDE
            raise ValueError(
                f"a video of {shape.width} x {shape.height} reaches the positions of the references, {side} pixels away "
                f"with positions {self.positions!r}; make it smaller, or set offset to 'per-clip'"
            )

    def _training_reference(self, subject: Subject, rng: np.random.Generator) -> Reference:
        wanted = "cross" if rng.random() < self.cross_pair_probability else "crop"
        variants = [one for one in subject.references if one.variant == wanted] or list(subject.references)
        image = variants[rng.integers(len(variants))].image
        return Reference(image, subject.kind, subject.phrase, label=subject.label, name=subject.identity)

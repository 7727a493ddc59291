"""Who a video shows, by the identity encoder that never saw a generated frame: retrieval, retrieval anywhere in the frame, binding.

Each rule takes clips and a video of each, generated or real, and gives one outcome per clip, the share of its subjects that are right; so a
real clip's outcomes are the ceiling of a generated one's. Intervals are percentile bootstraps over clips.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray

from anyref.puppets.held_out import CANDIDATES, line_up, moving, shown_by
from anyref.puppets.identity import IdentityEncoder, prepare, to_tensor
from anyref.samples import Sample
from anyref.worlds import PuppetWorld

Frames = NDArray[np.uint8]
"""A video [F, Y, X, 3] or a picture [Y, X, 3 or 4]."""
NUM_FRAMES = 5
"""Frames of a video that are looked at, spread over it."""
WINDOWS = (1.0, 0.75, 0.5)
"""Sides of the square windows of `found`, in frame heights; they overlap by half at least."""


@dataclass(frozen=True)
class Outcomes:
    """One number per clip. `chance`: their mean where a video tells nothing; None where that means nothing (a loss)."""

    values: tuple[float, ...]
    chance: float | None = None


@dataclass(frozen=True)
class Rate:
    """A mean over clips (a share of them, or a loss) with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float
    trials: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.trials}"


def rate(outcomes: Sequence[float], seed: int = 0, draws: int = 2000) -> Rate:
    """Mean of per-clip outcomes and its interval."""
    values = np.asarray(outcomes, dtype=float)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Rate(float(values.mean()), float(low), float(high), len(values))


def difference(outcomes: Sequence[float], other: Sequence[float]) -> Rate:
    """How much higher the first mean is, on the same clips: a paired bootstrap, which keeps each clip with itself."""
    assert len(outcomes) == len(other), "a paired difference needs the same clips"
    return rate((np.asarray(outcomes, dtype=float) - np.asarray(other, dtype=float)).tolist())


def retrieval(
    judge: IdentityEncoder, world: PuppetWorld, samples: Sequence[Sample], videos: Sequence[Frames]
) -> Outcomes:
    """Whether a video of one subject, whole frames, is nearer to the subject's picture than to seven others of its class."""
    right = []
    for number, (sample, video) in enumerate(zip(samples, videos, strict=True)):
        candidates = embed(judge, line_up(world, sample.subjects[0], number))
        right.append(float((candidates @ embed_video(judge, video)).argmax() == 0))
    return Outcomes(tuple(right), 1 / CANDIDATES)


def found(
    judge: IdentityEncoder, world: PuppetWorld, samples: Sequence[Sample], videos: Sequence[Frames]
) -> Outcomes:
    """The share of a clip's subjects, one or several, each of whom is found somewhere in the video.

    A candidate's score is the similarity of its picture to the window of a frame that is nearest to it, averaged over frames; a subject is
    found if its own picture scores higher than seven others of its class. The windows are a fixed grid and the same for all eight, so
    that looking in many places favours nobody: a video that tells nothing is right one time in eight.
    """
    shares = []
    for number, (sample, video) in enumerate(zip(samples, videos, strict=True)):
        seen_FWD = _embed_windows(judge, video)
        right = []
        for subject in moving(sample):
            candidates = embed(judge, line_up(world, subject, number))
            right.append((seen_FWD @ candidates.T).max(axis=1).mean(axis=0).argmax() == 0)
        shares.append(float(np.mean(right)))
    return Outcomes(tuple(shares), 1 / CANDIDATES)


def binding(
    judge: IdentityEncoder, world: PuppetWorld, samples: Sequence[Sample], videos: Sequence[Frames]
) -> Outcomes:
    """The share of a two-subject video's halves that are nearer to the subject whom the caption puts there than to the other."""
    shares = []
    for number, (sample, video) in enumerate(zip(samples, videos, strict=True)):
        pair = sorted(
            sample.subjects[:2], key=lambda subject: int(subject.boxes_F4[0][1] + subject.boxes_F4[0][3])
        )
        candidates = embed(judge, [shown_by(world, subject, number) for subject in pair])
        middle = video.shape[2] // 2
        sides = [
            embed_video(judge, video, slice(0, middle)),
            embed_video(judge, video, slice(middle, None)),
        ]
        right = [(candidates @ side).argmax() == index for index, side in enumerate(sides)]
        shares.append(float(np.mean(right)))
    return Outcomes(tuple(shares), 0.5)


@torch.no_grad()
def embed(judge: IdentityEncoder, pictures: Sequence[Frames]) -> NDArray[np.float32]:
    """Unit vectors [n, D] of pictures of any size."""
    vectors: NDArray[np.float32] = judge(to_tensor([prepare(picture) for picture in pictures])).numpy()
    return vectors


def embed_video(
    judge: IdentityEncoder, frames_FYX3: Frames, columns: slice = slice(None)
) -> NDArray[np.float32]:
    """Mean vector of five frames spread over a video (or over a part of its width)."""
    seen = [np.ascontiguousarray(frame[:, columns]) for frame in _spread(frames_FYX3)]
    mean: NDArray[np.float32] = embed(judge, seen).mean(axis=0)
    return mean


def windows(height: int, width: int) -> list[tuple[slice, slice]]:
    """(rows, columns) of the whole frame and of squares of the sides WINDOWS, on a grid that covers the frame."""
    places = [(slice(0, height), slice(0, width))]
    for share in WINDOWS:
        side = min(round(share * height), width)
        places += [
            (slice(top, top + side), slice(left, left + side))
            for top in _starts(height, side)
            for left in _starts(width, side)
        ]
    return places


def _starts(length: int, side: int) -> list[int]:
    number = 1 + ceil(2 * (length - side) / side)
    return [round(start) for start in np.linspace(0, length - side, number)]


def _spread(frames_FYX3: Frames) -> Frames:
    """Five frames, without the first and the last."""
    chosen: Frames = frames_FYX3[np.linspace(1, len(frames_FYX3) - 2, NUM_FRAMES).round().astype(int)]
    return chosen


def _embed_windows(judge: IdentityEncoder, frames_FYX3: Frames) -> NDArray[np.float32]:
    """[F, W, D]: the windows of the frames that are looked at."""
    frames = _spread(frames_FYX3)
    places = windows(*frames.shape[1:3])
    seen = [np.ascontiguousarray(frame[place]) for frame in frames for place in places]
    return embed(judge, seen).reshape(len(frames), len(places), -1)

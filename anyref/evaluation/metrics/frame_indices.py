"""Which frames of a video each published metric looks at, to the index.

Every function takes the number of frames, at least 1, and gives indices in [0, num_frames). Where a video is shorter than what is asked for,
indices repeat, as in the released code, so that weights of frames are the release's.
"""

from itertools import pairwise

import numpy as np


def linspace(num_frames: int, count: int = 32) -> tuple[int, ...]:
    """OpenS2V's sampling: `count` places from the first to the last frame, both included, rounded down."""
    assert num_frames >= 1
    return tuple(int(place) for place in np.linspace(0, num_frames - 1, count, dtype=int))


def every(num_frames: int, step: int = 16) -> tuple[int, ...]:
    """MAGREF's sampling for faces (appendix C.3, "every 16th frame"): 0, step, 2 step, ...; 81 frames give 6."""
    assert num_frames >= 1
    return tuple(range(0, num_frames, step))


def middles(num_frames: int, count: int = 8) -> tuple[int, ...]:
    """VBench's sampling for ViCLIP: the middle of each of `count` equal stretches; a short video repeats its last frame."""
    assert num_frames >= 1
    seen = min(count, num_frames)
    edges = np.linspace(0, num_frames, seen + 1).astype(int)
    chosen = [int(first + after - 1) // 2 for first, after in pairwise(edges)]
    return tuple(chosen + [chosen[-1]] * (count - seen))


def strides(num_frames: int, count: int = 16) -> tuple[int, ...]:
    """NaturalScore's sampling: `count` frames at a stride of num_frames // count, so the end of a video is never shown.

    A shorter video gives fewer frames, as the release leaves out what it cannot read.
    """
    assert num_frames >= 1
    stride = max(num_frames // count, 1)
    return tuple(index for index in range(0, count * stride, stride) if index < num_frames)

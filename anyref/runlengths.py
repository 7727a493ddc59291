"""COCO's run-length code for masks, both ways, without pycocotools."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RunLengths:
    """A mask as COCO's compressed run lengths, counted down the columns."""

    size: tuple[int, int]
    """Height, width."""
    counts: str


def encode(subject_mask_YX: NDArray[np.bool_]) -> RunLengths:
    """A bool mask [Y, X], True on the subject, as compressed run lengths; equal to pycocotools' text."""
    height, width = subject_mask_YX.shape
    flat = np.asarray(subject_mask_YX, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], changes, [flat.size]])
    lengths = np.diff(edges).tolist()
    if flat.size and flat[0]:
        lengths = [0, *lengths]  # runs alternate, and begin with one of False
    return RunLengths((height, width), _compressed(lengths))


def decode(runs: RunLengths) -> NDArray[np.bool_]:
    """The inverse: bool [Y, X]. Raises ValueError where the runs do not fill the picture."""
    height, width = runs.size
    lengths = _lengths(runs.counts)
    if sum(lengths) != height * width or min(lengths, default=0) < 0:
        raise ValueError(
            f"a mask's runs cover {sum(lengths)} pixels of {height}x{width}; the mask is damaged, so make it again"
        )
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape((height, width), order="F")


def _compressed(lengths: list[int]) -> str:
    """Numbers in base 32, low digits first, bit 6 set on all but the last, as ASCII from 48 on; from the third on, less the last but one."""
    text = []
    for index, length in enumerate(lengths):
        left = length - lengths[index - 2] if index > 2 else length
        while True:
            digit = left & 31
            left >>= 5
            more = left != -1 if digit & 16 else left != 0
            text.append(chr((digit | 32 if more else digit) + 48))
            if not more:
                break
    return "".join(text)


def _lengths(text: str) -> list[int]:
    lengths: list[int] = []
    value, shift = 0, 0
    for character in text:
        digit = ord(character) - 48
        value |= (digit & 31) << shift
        shift += 5
        if digit & 32:
            continue
        if digit & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value, shift = 0, 0
    return lengths

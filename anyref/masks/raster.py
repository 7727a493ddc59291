"""Outline -> mask with an exact number of pixels that is one piece without holes.

One piece: the foreground is 4-connected. Without holes: the background together with what lies beyond the frame
is 8-connected. Paper ("Mask Generator"): a binary search over the scale, then dilation or erosion by boundary
pixels that keeps the topology.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


def fill_outline(
    closed_V2: NDArray[np.float64],
    centre: NDArray[np.float64],
    height: int,
    width: int,
    target: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """The outline around `centre` (x, y) at the scale at which it holds `target` pixels of the frame: [Y, X].

    It may overflow the frame and is clipped. Star-shaped around its centre, inside the frame, as drawn; a mask
    of pixels can still fall apart where the outline is thinner than one, and is mended then.
    """
    scale = _find_scale(closed_V2, centre, height, width, target)
    runs = _rasterise(centre + scale * closed_V2, height, width)
    mask = _fill(runs, height, width)
    row, column = int(centre[1]), int(centre[0])
    if not _is_disc(runs, row, width):
        mask[row, column] |= not mask.any()
        mask = one_piece(mask)
    return meet_count(mask, target, rng)


def one_piece(mask_YX: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest 4-connected piece, its holes filled: tips thinner than a pixel had come off."""
    runs = _runs(mask_YX)
    pieces = _label(runs, 0, mask_YX.shape[1])
    largest = np.bincount(pieces, weights=runs.end - runs.start).argmax()
    piece = _fill(_Runs(*(field[pieces == largest] for field in runs)), *mask_YX.shape)
    around = np.pad(~piece, 1, constant_values=True)
    runs = _runs(around)
    pieces = _label(runs, 1, around.shape[1])
    outside = _fill(_Runs(*(field[pieces == pieces[0]] for field in runs)), *around.shape)
    return ~outside[1:-1, 1:-1]


def meet_count(mask_YX: NDArray[np.bool_], target: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Dilate or erode by single boundary pixels, anywhere along the boundary, that keep the topology."""
    missing = target - np.count_nonzero(mask_YX)
    if not missing:
        return mask_YX
    grow, padded = missing > 0, np.pad(mask_YX, 1)
    while missing:
        candidates = np.argwhere((padded[1:-1, 1:-1] != grow) & _is_simple(padded))
        assert len(candidates), "a disc that is not the whole frame can grow, one of two pixels shrink"
        for row, column in rng.permutation(candidates).tolist():
            if missing and _is_simple(padded[row : row + 3, column : column + 3]).item():
                padded[row + 1, column + 1] = grow
                missing += -1 if grow else 1
    return np.ascontiguousarray(padded[1:-1, 1:-1])


def _is_simple(padded: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where adding or removing the pixel changes neither pieces nor holes: Yokoi's 4-connectivity number is 1."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    ring = ((1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2), (1, 2))
    around = [padded[y : y + height, x : x + width] for y, x in ring]
    number = np.zeros((height, width), dtype=np.int8)
    for k in (0, 2, 4, 6):
        number += around[k] & ~(around[k + 1] & around[k + 2])
    return number == 1


# Scale: the number of pixels follows from where the outline crosses the rows; nothing is drawn in the search.


class _Crossings(NamedTuple):
    """Where an outline crosses the centre line of a row: the first pixel past it, and +1 down, -1 up."""

    row: NDArray[np.int64]
    column: NDArray[np.float64]
    sign: NDArray[np.int64]


def _cross(closed_V2: NDArray[np.float64], height: int, width: int) -> _Crossings:
    x, y = closed_V2[:, 0], closed_V2[:, 1]
    bound = np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64)
    step = bound[1:] - bound[:-1]
    edge = np.flatnonzero(step)
    step, length = step[edge], np.abs(step[edge])
    first = np.minimum(bound[edge], bound[edge + 1])
    row = np.arange(length.sum()) + np.repeat(first - np.cumsum(length) + length, length)
    slope = (x[edge + 1] - x[edge]) / (y[edge + 1] - y[edge])
    offset = x[edge] - slope * (y[edge] - 0.5) - 0.5
    column = np.ceil(row * np.repeat(slope, length) + np.repeat(offset, length))
    return _Crossings(row, column.clip(0, width), np.repeat(np.sign(step), length))


def _find_scale(
    outline_V2: NDArray[np.float64], centre: NDArray[np.float64], height: int, width: int, target: int
) -> float:
    """Binary search: the scale at which the outline holds `target` pixels, or else just above."""

    def count(scale: float) -> float:
        crossings = _cross(centre + scale * outline_V2, height, width)
        return abs(float(crossings.sign @ crossings.column))

    x, y = outline_V2[:, 0], outline_V2[:, 1]
    area = abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2
    low, high = 0.0, math.sqrt(target / area)  # as if nothing were clipped
    while count(high) < target:
        low, high = high, 1.3 * high
    for _ in range(40):
        middle = (low + high) / 2
        found = count(middle)
        if found == target:
            return middle
        low, high = (middle, high) if found < target else (low, middle)
    return high


# Runs: a mask as its rows' stretches of foreground, sorted; a few hundred numbers decide about the topology.


class _Runs(NamedTuple):
    row: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    def neighbours(
        self, rows_down: int, reach: int, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each run, which runs [first, last) of the row below (1) or above (-1) it touches: those that
        share a column, or with reach 1 a corner.
        """
        stride = width + 3
        there = (self.row + rows_down) * stride
        first = np.searchsorted(self.row * stride + self.end, there + self.start - reach, side="right")
        last = np.searchsorted(self.row * stride + self.start, there + self.end + reach, side="left")
        return first, last


def _rasterise(closed_V2: NDArray[np.float64], height: int, width: int) -> _Runs:
    """The pixels whose centre is inside the outline."""
    crossings = _cross(closed_V2, height, width)
    key = np.sort(crossings.row * (width + 1) + crossings.column.astype(np.int64))
    start, end = key[::2], key[1::2]
    some = end > start
    start, end = start[some], end[some]
    apart = start[1:] > end[:-1]
    start, end = start[np.append(True, apart)[: len(start)]], end[np.append(apart, True)[-len(end) :]]
    return _Runs(start // (width + 1), start % (width + 1), end % (width + 1))


def _fill(runs: _Runs, height: int, width: int) -> NDArray[np.bool_]:
    mask = np.zeros((height, width), dtype=bool)
    for row, start, end in zip(runs.row.tolist(), runs.start.tolist(), runs.end.tolist(), strict=True):
        mask[row, start:end] = True
    return mask


def _is_disc(runs: _Runs, centre_row: int, width: int) -> bool:
    """Whether the runs are certainly one piece without holes: each touches the next row towards the centre's
    row, which has one run (one piece), and runs - contacts = pieces - holes = 1.
    """
    (below, below_end), (above, above_end) = (runs.neighbours(step, 0, width) for step in (1, -1))
    inwards = np.where(runs.row < centre_row, below_end - below, above_end - above)
    at_centre = runs.row == centre_row
    one_piece = at_centre.sum() == 1 and bool((at_centre | (inwards > 0)).all())
    return one_piece and len(runs.row) - int((below_end - below).sum()) == 1


def _runs(mask_YX: NDArray[np.bool_]) -> _Runs:
    change = np.diff(np.pad(mask_YX, ((0, 0), (1, 1))).view(np.int8), axis=1)
    row, start = np.nonzero(change == 1)
    return _Runs(row, start, np.nonzero(change == -1)[1])


def _label(runs: _Runs, reach: int, width: int) -> NDArray[np.int64]:
    """The index of each run's piece: the lowest index of its runs."""
    first, last = runs.neighbours(1, reach, width)
    parent = list(range(len(runs.row)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for index, (begin, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        for other in range(begin, end):
            a, b = root(index), root(other)
            parent[max(a, b)] = min(a, b)
    return np.array([root(index) for index in range(len(parent))])

"""Batches of clips of one size and length, in an order that is a pure function of seed and step, so that a run resumes to the sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from anyref.curation.fitting import Shape


def bucket_of(
    height: float, width: float, num_frames: int, fps: float, buckets: Sequence[Shape]
) -> int | None:
    """The bucket that shows most of a clip: of those it is long enough for, the nearest aspect, then the most frames, then the most pixels.

    None where it is too short for all.
    """
    fitting = [number for number, shape in enumerate(buckets) if num_frames >= shape.needs(fps)]
    if not fitting:
        return None
    aspect = width / height

    def order(number: int) -> tuple[float, int, int, int]:
        shape = buckets[number]
        off = abs(float(np.log(shape.width / shape.height / aspect)))
        return round(off, 6), -shape.num_frames, -shape.height * shape.width, number

    return min(fitting, key=order)


@dataclass(frozen=True)
class Batch:
    """A bucket's number and rows of the set, one per video; `first` counts the samples drawn before it."""

    bucket: int
    rows: tuple[int, ...]
    first: int


@dataclass(frozen=True)
class BatchOrder:
    """Batch after batch, epoch after epoch. Within an epoch each row comes once, and some twice that fill a bucket's last batch."""

    bucket_of_row: tuple[int | None, ...]
    """None: the row is left out."""
    batch_size: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"the batch size is {self.batch_size}; it must be at least 1")
        if all(bucket is None for bucket in self.bucket_of_row):
            raise ValueError(
                "no clip is long enough for any of the sizes that training takes; give shorter ones"
            )

    @cached_property
    def rows(self) -> dict[int, tuple[int, ...]]:
        """Bucket to its rows."""
        found: dict[int, list[int]] = {}
        for row, bucket in enumerate(self.bucket_of_row):
            if bucket is not None:
                found.setdefault(bucket, []).append(row)
        return {bucket: tuple(found[bucket]) for bucket in sorted(found)}

    @property
    def batches_per_epoch(self) -> int:
        """Each bucket's last batch is filled from its beginning."""
        return sum(-(-len(rows) // self.batch_size) for rows in self.rows.values())

    def batch(self, step: int) -> Batch:
        """Batch number `step` >= 0: a run that stopped after `n` batches goes on with `batch(n)`."""
        assert step >= 0
        epoch, place = divmod(step, self.batches_per_epoch)
        number = int(_permutation(self.seed, epoch, -1, self.batches_per_epoch)[place])
        counts = [-(-len(rows) // self.batch_size) for rows in self.rows.values()]
        ends = list(accumulate(counts))
        index = next(index for index, end in enumerate(ends) if number < end)
        bucket, rows = list(self.rows.items())[index]
        order = _permutation(self.seed, epoch, bucket, len(rows))
        start = (number - (ends[index] - counts[index])) * self.batch_size
        chosen = tuple(rows[order[i % len(rows)]] for i in range(start, start + self.batch_size))
        return Batch(bucket, chosen, step * self.batch_size)


@lru_cache(maxsize=64)
def _permutation(seed: int, epoch: int, bucket: int, length: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch, bucket + 1)).permutation(length)

"""Which of several sizes and lengths a clip is trained at."""

from collections.abc import Sequence

import numpy as np

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

"""Optical flow between frames, by OpenCV's Farneback with OpenS2V's settings."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.metrics import Need, VideoUnderTest
from anyref.perception import Picture

_WIDTH = 16
_MISSING = "OpenCV is not installed; run: pip install 'anyref[curation]'"
Flow = NDArray[np.float32]
"""[Y, X, 2]: by how many pixels each pixel of the first frame moves, columns first (x, y), as OpenCV gives it."""


def opencv_need(role: str = "optical flow") -> Need:
    """What a metric that calls `opencv` declares."""
    missing = _MISSING if find_spec("cv2") is None else None
    return Need(role, "OpenCV", "Apache-2.0", commercial=True, missing=missing)


def opencv() -> ModuleType:
    """cv2. Raises ValueError where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise ValueError(_MISSING) from error
    return cv2


def farneback(first_YX: NDArray[np.uint8], second_YX: NDArray[np.uint8]) -> Flow:
    """From one grey picture to the next."""
    flow: Flow = opencv().calcOpticalFlowFarneback(
        first_YX, second_YX, None, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
    )  # fmt: skip
    return flow


def flows(frames: Iterable[Picture]) -> Iterator[Flow]:
    """Between each frame and the next, as a stream. The release weighs red as blue and blue as red when it makes grey; so do we."""
    cv2 = opencv()
    before = None
    for frame in frames:
        grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_BGR2GRAY)
        if before is not None:
            yield farneback(before, grey)
        before = grey


def flow_summary(video: VideoUnderTest) -> NDArray[np.float64]:
    """[F - 1, 2]: of the flow to each frame after the first, the mean of both signed components, and the mean length, in pixels.

    The first is OpenS2V's, which averages the flow to 16 columns before. Kept in the feature cache: half of a minute's work for a long video.
    """
    cv2 = opencv()

    def summarise() -> NDArray[np.float64]:
        rows = []
        for flow in flows(video.frames()):
            height = max(1, int(flow.shape[0] * (_WIDTH / flow.shape[1])))
            small = cv2.resize(flow, (_WIDTH, height), interpolation=cv2.INTER_AREA)
            lengths = np.hypot(flow[..., 0], flow[..., 1])
            rows.append((float(small.mean(dtype=np.float64)), float(lengths.mean(dtype=np.float64))))
        return np.array(rows, np.float64).reshape(-1, 2)

    return video.features.get_or_compute(("farneback-summary", "1"), summarise)

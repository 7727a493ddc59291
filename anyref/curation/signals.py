"""One pass over a film that measures everything shots and quality are judged by, so that no threshold ever asks for another pass.

Shape letters: F frames, S samples (two per second), Y X pixels, N tiles along an axis. Every frame: how much it differs from the one
before, and how bright it is. Every sample: motion since the sample before, sharpness and light by tiles (bars can be cut off later), profiles
of rows and columns, and a hash of the picture.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.footage import Frame, frames

VERSION = 3
SAMPLES_PER_SECOND = 2.0
TILES = 16
CUT_WIDTH = 256
"""Width at which frames are compared: PySceneDetect's. Its thresholds mean these unsmoothed pictures: smoothed ones give other cuts."""
LONG_SIDE = 512
"""Of the picture that sharpness and bars are measured on."""
FLOW_SIDE = 80
"""Short side of the pictures that motion is measured between."""
FLOW_UNIT_SIDE = 256
"""Motion is told in pixels of a picture of this short side."""
DARK, BRIGHT = 5, 250
"""Luma at or beyond which a pixel counts as clipped."""


class Plane(IntEnum):
    """Planes of `tiles_S5NN`, each the mean over a tile."""

    LUMA = 0
    EDGE = 1
    """Laplacian."""
    EDGE_RMS = 2
    """Root of the mean square of the Laplacian."""
    DARK = 3
    BRIGHT = 4


@dataclass(frozen=True)
class Signals:
    """What the pass found."""

    pts_F: NDArray[np.int64]
    time_F: NDArray[np.float64]
    """Seconds from the start of the film."""
    change_F3: NDArray[np.float32]
    """Mean absolute difference of hue, saturation and value from the frame before, 0 to 255; zeros for the first."""
    level_F: NDArray[np.float32]
    """Mean of all channels, 0 to 255."""
    sample_S: NDArray[np.int32]
    """Frame index of each sample."""
    flow_mean_S: NDArray[np.float32]
    """Mean motion since the sample before, in pixels of a picture of short side 256; NaN for the first."""
    flow_p95_S: NDArray[np.float32]
    """The same, 95th percentile over the picture."""
    tiles_S5NN: NDArray[np.float16]
    rows_SY: NDArray[np.uint8]
    """Brightest luma of each row of the picture of long side 512."""
    columns_SX: NDArray[np.uint8]
    hash_S32: NDArray[np.uint8]
    """256 bits: whether each of 16 x 16 cells is darker than its right neighbour."""

    @property
    def num_frames(self) -> int:
        """F."""
        return len(self.pts_F)

    def samples(self, start: int, end: int) -> slice:
        """The samples with start <= frame index < end."""
        first, last = np.searchsorted(self.sample_S, [start, end])
        return slice(int(first), int(last))

    def to_bytes(self) -> bytes:
        """As compressed npz, the same bytes for the same signals."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{f.name: getattr(self, f.name) for f in fields(self)})
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> "Signals":
        """The inverse of `to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return Signals(**{f.name: arrays[f.name] for f in fields(Signals)})


def measure(path: Path) -> Signals:
    """Decode a film once, on one thread. Raises ValueError where it cannot be decoded to its end.

    Memory: about 30 bytes per frame and 3.5 KB per second beside a few frames, so 100 MB for four hours.
    """
    cv2 = opencv()
    pts, times, changes, levels = list[int](), list[float](), list[Any](), list[float]()
    sampler, before, next_s = _Sampler(), None, 0.0
    for frame in frames(path):
        pts.append(frame.pts)
        times.append(frame.time_s)
        small = _small(cv2, frame)
        hsv = cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2HSV))
        changes.append(_change(cv2, hsv, before))
        levels.append(cv2.norm(small, cv2.NORM_L1) / small.size)
        before = hsv
        if frame.time_s >= next_s:
            sampler.add(frame)
            next_s = (int(frame.time_s * SAMPLES_PER_SECOND + 1e-6) + 1) / SAMPLES_PER_SECOND - 1e-6
    return Signals(
        pts_F=np.array(pts, np.int64),
        time_F=np.array(times, np.float64),
        change_F3=np.array(changes, np.float32),
        level_F=np.array(levels, np.float32),
        **sampler.arrays(),
    )


def opencv() -> Any:
    """OpenCV on one thread: workers are what runs side by side. Raises ValueError where it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise ValueError("OpenCV is not installed; run: pip install 'anyref[curation]'") from error
    cv2.setNumThreads(1)
    return cv2


def _small(cv2: Any, frame: Frame) -> NDArray[np.uint8]:
    """The RGB picture that frames are compared on, reduced as PySceneDetect reduces it: linear, unsmoothed, never enlarged.

    It is reduced before it is made RGB where the stored planes allow it: the same to rounding, and a full picture's colours cost as much
    as decoding it.
    """
    planes = frame.planes
    height, width = (frame.image_YX3 if planes is None else planes.luma_YX).shape[:2]
    factor = width / CUT_WIDTH
    if factor <= 1:
        return frame.image_YX3
    size = (CUT_WIDTH, max(1, round(height / factor)))
    small: NDArray[np.uint8]
    if planes is None:
        small = cv2.resize(frame.image_YX3, size, interpolation=cv2.INTER_LINEAR)
        return small
    luma = cv2.resize(planes.luma_YX, size, interpolation=cv2.INTER_LINEAR)
    # A full picture repeats the colour of two by two pixels, so that what is linear there is nearest here.
    blue, red = (
        cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST) for plane in (planes.blue_yx, planes.red_yx)
    )
    shades = planes.shades
    return np.asarray(cv2.transform(cv2.merge([cv2.LUT(luma, shades.luma), red, blue]), shades.to_rgb_34))


def _gray(cv2: Any, frame: Frame, long_side: int) -> NDArray[np.uint8]:
    """Luma, 0 to 255 for black to white, of at most this long side."""
    planes = frame.planes
    if planes is None:
        return _scaled(
            cv2, cv2.cvtColor(frame.image_YX3, cv2.COLOR_RGB2GRAY), long_side / max(frame.image_YX3.shape[:2])
        )
    gray = _scaled(cv2, planes.luma_YX, long_side / max(planes.luma_YX.shape))
    expanded: NDArray[np.uint8] = cv2.LUT(gray, planes.shades.luma)
    return expanded


def _scaled(cv2: Any, gray: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    if factor >= 1:
        return gray
    height, width = (max(2, round(side * factor)) for side in gray.shape)
    # Halves are means of two by two pixels and nearly free; areas of other sizes cost five times as much as this.
    while min(gray.shape[0] / height, gray.shape[1] / width) >= 2:
        rows, columns = (side // 2 for side in gray.shape)
        gray = cv2.resize(gray[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    reduced: NDArray[np.uint8] = cv2.resize(gray, (width, height), interpolation=cv2.INTER_LINEAR)
    return reduced


def _change(
    cv2: Any, hsv: Sequence[NDArray[np.uint8]], before: Sequence[NDArray[np.uint8]] | None
) -> tuple[float, float, float]:
    """Of hue, saturation and value. Norms of planes: a mean over interleaved channels takes three times as long."""
    if before is None or before[0].shape != hsv[0].shape:
        return (0.0, 0.0, 0.0)
    hue, saturation, value = (
        cv2.norm(now, then, cv2.NORM_L1) / now.size for now, then in zip(hsv, before, strict=True)
    )
    return (hue, saturation, value)


class _Sampler:
    """Measures the samples as they come; keeps one small picture."""

    def __init__(self) -> None:
        self._cv2 = opencv()
        self._before: NDArray[np.uint8] | None = None
        self._shape: tuple[int, int] | None = None
        self._rows: dict[str, list[Any]] = {
            f.name: [] for f in fields(Signals) if f.name.rpartition("_")[2].startswith("S")
        }

    def add(self, frame: Frame) -> None:
        """Measure one frame."""
        cv2 = self._cv2
        gray = _gray(cv2, frame, LONG_SIDE)
        if self._shape is not None and gray.shape != self._shape:
            # The film changes its size on the way: profiles keep the first size's.
            gray = cv2.resize(gray, self._shape[::-1], interpolation=cv2.INTER_AREA)
        self._shape = gray.shape
        rows = self._rows
        rows["sample_S"].append(frame.index)
        small = _scaled(cv2, gray, FLOW_SIDE / min(gray.shape))
        mean, p95 = self._flow(small)
        rows["flow_mean_S"].append(mean)
        rows["flow_p95_S"].append(p95)
        rows["tiles_S5NN"].append(self._tiles(gray))
        smooth = cv2.blur(gray, (3, 3))
        rows["rows_SY"].append(cv2.reduce(smooth, 1, cv2.REDUCE_MAX)[:, 0])
        rows["columns_SX"].append(smooth.max(axis=0))
        cells = cv2.resize(small, (17, 16), interpolation=cv2.INTER_AREA)
        rows["hash_S32"].append(np.packbits(cells[:, :-1] < cells[:, 1:]))

    def arrays(self) -> dict[str, Any]:
        """The sampled fields of `Signals`."""
        hints = Signals.__annotations__
        return {name: np.array(values, dtype=_dtype(hints[name])) for name, values in self._rows.items()}

    def _flow(self, gray: NDArray[np.uint8]) -> tuple[float, float]:
        before, self._before = self._before, gray
        if before is None:
            return (float("nan"), float("nan"))
        cv2 = self._cv2
        flow = cv2.calcOpticalFlowFarneback(before, gray, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        speed = cv2.magnitude(*cv2.split(flow)) * (FLOW_UNIT_SIDE / min(gray.shape))
        return (float(speed.mean()), float(np.percentile(speed, 95)))

    def _tiles(self, gray: NDArray[np.uint8]) -> NDArray[np.float32]:
        cv2 = self._cv2
        edges = cv2.Laplacian(gray, cv2.CV_16S)
        planes = (
            gray,
            edges,
            cv2.multiply(edges, edges, dtype=cv2.CV_32F),
            (gray <= DARK).view(np.uint8),
            (gray >= BRIGHT).view(np.uint8),
        )
        size = (TILES, TILES)
        tiles = np.stack(
            [cv2.resize(plane.astype(np.float32), size, interpolation=cv2.INTER_AREA) for plane in planes]
        )
        tiles[Plane.EDGE_RMS] = np.sqrt(tiles[Plane.EDGE_RMS])
        return tiles


def _dtype(hint: Any) -> Any:
    """The element type in NDArray[np.float32]."""
    return hint.__args__[1].__args__[0]

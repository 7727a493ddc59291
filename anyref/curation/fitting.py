"""From a clip as it is kept to one of the training's size, length and frame rate: which frames, which part of them, and masks alike.

Frames are scaled until they cover the size and cut around the middle; time is resampled to the nearest frame. Nothing is stretched.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Shape:
    """What training takes: pixels, frames, frames per second."""

    height: int
    width: int
    num_frames: int
    fps: float

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.num_frames) < 1 or self.fps <= 0:
            raise ValueError(
                f"the shape is {self.num_frames} frames of {self.height} x {self.width} at {self.fps:g} fps; "
                "give at least 1 of each and a positive fps"
            )

    def needs(self, fps: float) -> int:
        """How many frames at `fps` it takes to fill this shape."""
        return int(np.floor((self.num_frames - 1) * fps / self.fps + 0.5)) + 1


def frame_numbers(num_frames: int, fps: float, shape: Shape, place: float) -> list[int]:
    """Which frames of a clip of `num_frames` at `fps` make up the shape; `place` in [0, 1] says where in the slack it begins.

    Ascending; frames repeat where the clip has fewer a second. Raises ValueError for a clip that is too short.
    """
    needed = shape.needs(fps)
    if num_frames < needed:
        raise ValueError(
            f"the clip has {num_frames} frames at {fps:g} fps and {shape.num_frames} at {shape.fps:g} fps need {needed}; "
            "train on fewer frames or curate longer clips"
        )
    first = int(place * (num_frames - needed + 1 - 1e-9))
    steps = np.floor(np.arange(shape.num_frames) * fps / shape.fps + 0.5).astype(int)
    return (first + steps).tolist()


@dataclass(frozen=True)
class Window:
    """The part (top, left, bottom, right) of a picture that is shown, in fractions of its sides, 0 to 1."""

    top: float
    left: float
    bottom: float
    right: float


def covering(height: int, width: int, shape: Shape) -> Window:
    """The largest part around the middle of a picture that has the shape's aspect."""
    aspect = shape.width / shape.height
    share_x = min(1.0, aspect * height / width)
    share_y = min(1.0, width / aspect / height)
    return Window((1 - share_y) / 2, (1 - share_x) / 2, (1 + share_y) / 2, (1 + share_x) / 2)


def fit_pictures(pictures: Sequence[Picture], window: Window, shape: Shape) -> NDArray[np.uint8]:
    """The window of each picture at the shape's size: uint8 [len(pictures), height, width, 3]."""
    return np.stack([_fitted(Image.fromarray(picture), window, shape) for picture in pictures])


def fit_mask(subject_mask_YX: NDArray[np.bool_], window: Window, shape: Shape) -> NDArray[np.bool_]:
    """The window of a mask at the shape's size: True where at least half of a pixel is."""
    grey = Image.fromarray(np.asarray(subject_mask_YX, np.uint8) * 255)
    return np.asarray(_fitted(grey, window, shape, Image.Resampling.BOX) >= 128)


def _fitted(
    image: Image.Image, window: Window, shape: Shape, method: Image.Resampling = Image.Resampling.LANCZOS
) -> NDArray[np.uint8]:
    box = (
        window.left * image.width,
        window.top * image.height,
        window.right * image.width,
        window.bottom * image.height,
    )
    return np.asarray(image.resize((shape.width, shape.height), method, box))

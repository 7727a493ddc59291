"""A training or evaluation sample: a clip, its caption, and who is in it, with reference images of each.

Worlds draw samples, curation writes them, training and evaluation read them. Frames are uint8 RGB [F, Y, X, 3]; boxes are (top, left,
bottom, right) in pixels, half-open.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["face", "person", "animal", "clothing", "object", "background"]
KINDS: tuple[Kind, ...] = ("face", "person", "animal", "clothing", "object", "background")


@dataclass(frozen=True)
class ReferenceVariant:
    """One reference image of a subject: uint8 [Y, X, 3] or, cut out, [Y, X, 4]."""

    image: NDArray[np.uint8]
    variant: Literal["cross", "crop"]
    """"cross": another pose, scale, lighting and background than the clip; "crop": cut from a frame of the clip (copy-paste case)."""


@dataclass(frozen=True)
class Subject:
    """Somebody or something in a clip. `phrase` occurs exactly once in the caption and names this subject only."""

    identity: str
    """Equal for two subjects if and only if they look the same."""
    kind: Kind
    label: str
    """Class noun, "dog"."""
    phrase: str
    masks_FYX: NDArray[np.bool_]
    """True where the subject is visible (after occlusion)."""
    boxes_F4: NDArray[np.int32]
    """Tight box of the visible mask in each frame; zeros where nothing is visible."""
    references: tuple[ReferenceVariant, ...]


@dataclass(frozen=True)
class Sample:
    """A clip with ground truth. `subjects` lists the moving subjects first, then at most one of kind "background"."""

    key: str
    frames_FYX3: NDArray[np.uint8]
    fps: float
    caption: str
    subjects: tuple[Subject, ...]
    actions: tuple[str, ...] = ()
    """One word per moving subject, from the caption's vocabulary."""
    setting: str = ""
    time_of_day: str = ""

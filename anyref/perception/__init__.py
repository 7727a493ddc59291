"""What is asked of models that look at pictures: find, cut out, compare, recognise, describe, rate, fill in. Protocols and records only.

Curation and evaluation speak to these; what answers is a published model, a recording of one, or an embedded model of the puppet world
(`anyref.perception.catalogue` names them all). Pictures are uint8 RGB [Y, X, 3]; boxes are (top, left, bottom, right) in pixels of the
picture as displayed, half-open; vectors are float32 of length 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


class Box(NamedTuple):
    """(top, left, bottom, right), half-open; fractions of a pixel are kept as the model gave them."""

    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True)
class Detection:
    """Something that a detector found. `phrase` is the index of the phrase it answers to, `score` in [0, 1]."""

    phrase: int
    box: Box
    score: float


@dataclass(frozen=True)
class Face:
    """A face. `embedding_D` has length 1; `pose_degrees` is (pitch, yaw, roll); None where the model does not say."""

    box: Box
    score: float
    embedding_D: NDArray[np.float32]
    keypoints_52: NDArray[np.float32] | None = None
    """Eyes, nose, corners of the mouth, as (row, column)."""
    pose_degrees: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Tag:
    """A thing that a caption names: `caption[start:end]` is its phrase. `kind` as in `anyref.samples`, `label` a class noun."""

    start: int
    end: int
    kind: str
    label: str


@dataclass(frozen=True)
class ModelCard:
    """Which model answered: part of every score that is kept."""

    name: str
    """As in the catalogue."""
    source: str
    """Hub id, file name or package."""
    revision: str
    """Commit of the hub repository, hash of the file, or version of the package; "" where a recording does not say."""
    licence: str
    commercial: bool
    """Whether the licence permits commercial use."""

    @property
    def known_by(self) -> str:
        """What tells this model from others of its name: the revision, or where nobody knows one (an address, a name of the hub) the source."""
        return self.revision or self.source


class Model(Protocol):
    """Everything below says what it is."""

    @property
    def card(self) -> ModelCard:
        """Which model answers."""


@runtime_checkable
class Detector(Model, Protocol):
    """Finds things by words."""

    def detect(self, picture_YX3: Picture, phrases: Sequence[str]) -> list[Detection]:
        """Everything found for each phrase, best first; empty where there is nothing."""


@runtime_checkable
class Segmenter(Model, Protocol):
    """Cuts out what a box surrounds."""

    def segment(self, picture_YX3: Picture, boxes: Sequence[Box]) -> NDArray[np.bool_]:
        """bool [len(boxes), Y, X], True on the thing."""


@runtime_checkable
class ImageEncoder(Model, Protocol):
    """Pictures to vectors that are close where the pictures are alike."""

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """[len(pictures), D], each of length 1."""


@runtime_checkable
class ImageTextEncoder(ImageEncoder, Protocol):
    """Pictures and sentences to vectors of one space."""

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[len(texts), D], each of length 1."""


@runtime_checkable
class FaceAnalyser(Model, Protocol):
    """Finds faces and says whose they are."""

    def faces(self, picture_YX3: Picture) -> list[Face]:
        """All faces, largest first; empty where there is none."""


@runtime_checkable
class AestheticPredictor(Model, Protocol):
    """Rates how a picture looks."""

    def rate(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """[len(pictures)], 1 to 10."""


@runtime_checkable
class Captioner(Model, Protocol):
    """Describes a clip."""

    def caption(self, frames: Sequence[Picture]) -> str:
        """One paragraph about what is to be seen in these frames, in their order."""


@runtime_checkable
class Tagger(Model, Protocol):
    """Finds what a caption names."""

    def tags(self, caption: str) -> list[Tag]:
        """In the order of the caption; spans do not overlap."""


@runtime_checkable
class Inpainter(Model, Protocol):
    """Fills a hole in a picture with what could be behind it."""

    def inpaint(self, picture_YX3: Picture, hole_YX: NDArray[np.bool_], prompt: str, seed: int) -> Picture:
        """A picture of the same size, unchanged outside the hole."""


@runtime_checkable
class Varier(Model, Protocol):
    """Draws the same subject anew: another pose, another place."""

    def vary(self, picture_YX3: Picture, prompt: str, seed: int) -> Picture:
        """A picture of the subject of this one."""


@runtime_checkable
class Judge(Model, Protocol):
    """Rates a video as a person would be asked to."""

    def judge(
        self, frames: Sequence[Picture], prompt: str, instructions: str, seed: int = 0
    ) -> dict[str, float]:
        """Criterion to rating, 1 to 5, as the instructions ask. Another seed is another answer, where the model draws its words."""

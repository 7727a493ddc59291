"""Whether a video begins with the canvas of references it was conditioned on: MAGREF's failure when its first frames are not left behind.

MAGREF's model is given the references side by side on white as its first frame, and its first four frames are dropped. Here each slot of that
canvas is compared with the same place of the first frames, by structural similarity (SSIM); as the release deals references to slots at random,
a slot counts by the reference it resembles most.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.structure import similarity_map
from anyref.perception import Model, Picture

MAX_REFERENCES = 8
_SIDE = 128


@dataclass(frozen=True)
class CanvasLeak:
    """Highest SSIM of one of the first `num_frames` frames and the canvas, -1 to 1; lower is better. `strict`: the same, at least 0.

    Not applicable without references, or with more than MAGREF's eight. Videos of other methods have no canvas, and show what the number
    is without one.
    """

    num_frames: int = 4

    name: ClassVar[str] = "anyref.canvas_leak"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = False
    models: ClassVar[Mapping[str, str]] = {}
    defaults: ClassVar[Mapping[str, str]] = {}

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:
        """Where a canvas can be made of the references."""
        return 1 <= len(case.references) <= MAX_REFERENCES

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:  # noqa: ARG002 - pixels only
        """See the class."""
        references = video.references()
        indices = tuple(range(min(self.num_frames, video.num_frames)))
        leaks = [canvas_similarity(picture, references) for picture in video.frames_at(indices)]
        value = max(leaks)
        return Result(value, max(value, 0.0), per_frame=tuple(leaks), frame_indices=indices)


def canvas_similarity(frame_YX3: Picture, references: list[Picture]) -> float:
    """Mean over MAGREF's slots of the SSIM of the frame there and the reference, fitted on white, that it resembles most."""
    from anyref.methods.magref import compose, slots
    from anyref.references import Reference

    height, width = frame_YX3.shape[:2]
    best = []
    for slot in slots(len(references), height, width):
        part = frame_YX3[slot.top : slot.bottom, slot.left : slot.right]
        size = part.shape[:2]
        fitted = [compose([Reference(picture)], *size).image_YX3 for picture in references]
        best.append(max(structural_similarity(part, picture) for picture in fitted))
    return float(np.mean(best))


def structural_similarity(first_YX3: Picture, second_YX3: Picture) -> float:
    """Mean SSIM of the grey pictures, at most 128 pixels on their long side; -1 to 1."""
    return float(similarity_map(_grey(first_YX3), _grey(second_YX3)).mean())


def _grey(picture_YX3: Picture) -> NDArray[np.uint8]:
    image = Image.fromarray(picture_YX3).convert("L")
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(image)

"""How much of a video is the flat grey that references are laid on: Saber's failure when the background of a reference gets through."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.regions import grown
from anyref.perception import Model, Picture

_REACH_PX = 2


@dataclass(frozen=True)
class GreyLeak:
    """`value`: mean over all frames of the share of pixels that are flat mid grey, 0 to 1; lower is better. `strict`: the worst frame's.

    Flat mid grey: every channel of the pixel and of all within two pixels lies within `tolerance` of `level`. A wall or road of just this
    grey counts, too; compare with the same prompt's other videos.
    """

    level: int = 127
    tolerance: int = 6

    name: ClassVar[str] = "anyref.grey_leak"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = False
    models: ClassVar[Mapping[str, str]] = {}
    defaults: ClassVar[Mapping[str, str]] = {}

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:
        """Where there are references to leak."""
        return bool(case.references)

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:  # noqa: ARG002 - pixels only
        """See the class."""
        shares = [grey_share(picture, self.level, self.tolerance) for picture in video.frames()]
        return Result(
            float(np.mean(shares)),
            max(shares),
            per_frame=tuple(shares),
            frame_indices=tuple(range(len(shares))),
        )


def grey_share(picture_YX3: Picture, level: int, tolerance: int) -> float:
    """The share of a picture's pixels that are flat mid grey."""
    other_YX = np.asarray((np.abs(picture_YX3.astype(np.int16) - level) > tolerance).any(axis=-1))
    return 0.0 if other_YX.all() else 1.0 - float(grown(other_YX, _REACH_PX).mean())

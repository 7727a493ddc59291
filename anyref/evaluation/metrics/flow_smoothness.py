"""A smoothness of motion for every machine: VBench's formula, every second frame guessed by optical flow and not by AMT-S.

The values are close to VBench's in meaning and not in digits; the two are never mixed in one column.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Need, Result, VideoUnderTest
from anyref.evaluation.metrics.interpolation_smoothness import smoothness
from anyref.evaluation.metrics.optical_flow import farneback, opencv, opencv_need
from anyref.perception import Model, Picture


@dataclass(frozen=True)
class FlowSmoothness:
    """(255 - mean |frame - guess|) / 255 over the odd frames, 0 to 1; a frozen video scores 1. `strict` is the same."""

    name: ClassVar[str] = "anyref.flow_smoothness"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {}
    defaults: ClassVar[Mapping[str, str]] = {}
    parameters: ClassVar[Mapping[str, JSON]] = {}

    def needs(self) -> tuple[Need, ...]:
        """OpenCV."""
        return (opencv_need(),)

    def applies(self, case: EvaluationCase) -> bool:  # noqa: ARG002 - every video has frames
        """To every case."""
        return True

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:  # noqa: ARG002 - pixels only
        """See the class."""
        if video.num_frames < 3:
            return Result.not_applicable("fewer than three frames have none between two")
        scores = smoothness(video.frames(), between)
        value = float(scores.mean())
        places = tuple(range(1, 2 * len(scores), 2))
        return Result(value, value, per_frame=tuple(scores.tolist()), frame_indices=places)


def between(first_YX3: Picture, second_YX3: Picture) -> Picture:
    """The frame half way: each neighbour moved half of the flow towards the other, and their mean."""
    cv2 = opencv()
    greys = [cv2.cvtColor(np.ascontiguousarray(one), cv2.COLOR_RGB2GRAY) for one in (first_YX3, second_YX3)]
    half = farneback(greys[0], greys[1]) / 2
    rows, columns = np.mgrid[: half.shape[0], : half.shape[1]].astype(np.float32)
    moved = [
        cv2.remap(
            np.ascontiguousarray(one),
            columns + sign * half[..., 0],
            rows + sign * half[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for one, sign in ((first_YX3, -1), (second_YX3, 1))
    ]
    middle: Picture = np.rint((moved[0].astype(np.float32) + moved[1]) / 2).astype(np.uint8)
    return middle

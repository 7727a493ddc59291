"""How much moves: mean length of the optical flow, in frame diagonals a second, so that size and frame rate do not matter."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import hypot
from typing import ClassVar

import numpy as np

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Need, Result, VideoUnderTest
from anyref.evaluation.metrics.optical_flow import flow_summary, opencv_need
from anyref.perception import Model


@dataclass(frozen=True)
class MotionMagnitude:
    """Mean over frames and pixels of |flow| / diagonal x fps, 0 upwards, in both modes: 0.1 crosses the frame in ten seconds.

    More is not better as such; it is the number to read beside consistency and smoothness, which a frozen video maximises.
    """

    name: ClassVar[str] = "anyref.motion_magnitude"
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
        if video.num_frames < 2:
            return Result.not_applicable("one frame has no motion")
        if video.fps <= 0:
            return Result.not_applicable("the file does not say its frame rate")
        diagonal = hypot(*video.frames_at([0])[0].shape[:2])
        speeds = (flow_summary(video)[:, 1] / diagonal * video.fps).tolist()
        value = float(np.mean(speeds))
        return Result(value, value, per_frame=tuple(speeds), frame_indices=tuple(range(1, len(speeds) + 1)))

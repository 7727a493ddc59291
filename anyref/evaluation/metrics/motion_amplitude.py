"""MotionAmplitude of OpenS2V: the mean of all signed flow components, which is net translation and not motion.

OpenS2V v1.1, get_motion_amplitude.py ("motion_fb"). A pan to the right by 2 pixels a frame scores 1; the same pan with as much downward and
upward motion, a zoom, or anything that goes back to where it began scores 0. `anyref.motion_magnitude` measures motion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Need, Result, VideoUnderTest
from anyref.evaluation.metrics.optical_flow import flow_summary, opencv_need
from anyref.perception import Model


@dataclass(frozen=True)
class MotionAmplitude:
    """|mean over time, places and both components| of Farneback flow in pixels a frame, 0 upwards; depends on size and frame rate.

    `strict` is the value, at most 1. A video of one frame is not applicable (the release's mean of nothing is NaN).
    """

    name: ClassVar[str] = "opens2v.motion_amplitude"
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
        means = flow_summary(video)[:, 0].tolist()
        value = abs(float(np.mean(means)))
        return Result(
            value, min(value, 1.0), per_frame=tuple(means), frame_indices=tuple(range(1, len(means) + 1))
        )

"""Imaging Quality of VBench, which Kaleido reports: MUSIQ trained on SPAQ, every frame, over 100."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.vectors import batches, model_key
from anyref.perception import Model


@dataclass(frozen=True)
class ImagingQuality:
    """Mean rating of every frame over 100, 0 to 1, in both modes. VBench's file has 0 to 100 per video and 0 to 1 for the set."""

    name: ClassVar[str] = "vbench.imaging_quality"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"imaging": "imaging-quality"}
    defaults: ClassVar[Mapping[str, str]] = {"imaging": "musiq-spaq"}
    parameters: ClassVar[Mapping[str, JSON]] = {}

    def applies(self, case: EvaluationCase) -> bool:  # noqa: ARG002 - every video has frames
        """To every case."""
        return True

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """`strict` is the same."""
        from anyref.perception.musiq import ImagingQualityPredictor

        predictor = models["imaging"]
        assert isinstance(predictor, ImagingQualityPredictor)

        def rate() -> NDArray[np.float32]:
            return np.concatenate([predictor.rate(batch) for batch in batches(video.frames())])

        key = ("imaging-quality", model_key(predictor), "all")
        ratings = video.features.get_or_compute(key, rate).astype(float) / 100
        value = float(ratings.mean())
        return Result(
            value, value, per_frame=tuple(ratings.tolist()), frame_indices=tuple(range(len(ratings)))
        )

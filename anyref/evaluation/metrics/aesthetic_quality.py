"""Aesthetic Quality of VBench, which Kaleido reports: LAION's first, linear predictor on CLIP ViT-L/14, every frame, over 10.

VBench, aesthetic_quality.py. Another predictor and another scale than MAGREF's aesthetic score; the two do not compare.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.aesthetic import rating_result
from anyref.perception import AestheticPredictor, Model


@dataclass(frozen=True)
class AestheticQuality:
    """Mean rating of every frame over 10, about 0.1 to 1 in both modes."""

    name: ClassVar[str] = "vbench.aesthetic_quality"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"aesthetic": "aesthetic"}
    defaults: ClassVar[Mapping[str, str]] = {"aesthetic": "laion-v1"}
    parameters: ClassVar[Mapping[str, JSON]] = {}

    def applies(self, case: EvaluationCase) -> bool:  # noqa: ARG002 - every video has frames
        """To every case."""
        return True

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """`strict` is the same."""
        predictor = models["aesthetic"]
        assert isinstance(predictor, AestheticPredictor)
        return rating_result(video, predictor, None, 10.0)

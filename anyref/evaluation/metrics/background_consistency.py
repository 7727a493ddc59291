"""Background Consistency of VBench: how alike all frames are to the first and to the one before, by CLIP; reported by Kaleido.

VBench, background_consistency.py. Despite the name no background is masked out: whole frames, of which CLIP's centre crop cuts the sides off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.subject_consistency import consistency_result
from anyref.perception import ImageEncoder, Model


@dataclass(frozen=True)
class BackgroundConsistency:
    """The formula of `SubjectConsistency` on CLIP ViT-B/32's vectors. 0 to 1; a frozen video scores 1."""

    name: ClassVar[str] = "vbench.background_consistency"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"encoder": "image-text-encoder"}
    defaults: ClassVar[Mapping[str, str]] = {"encoder": "clip-b32-vbench"}
    parameters: ClassVar[Mapping[str, JSON]] = {}

    def applies(self, case: EvaluationCase) -> bool:  # noqa: ARG002 - every video has frames
        """To every case."""
        return True

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """`strict` is the same."""
        encoder = models["encoder"]
        assert isinstance(encoder, ImageEncoder)
        return consistency_result(video, encoder)

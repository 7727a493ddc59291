"""GmeScore of OpenS2V and MAGREF: how well 32 frames answer to the prompt, by GME's image and text vectors.

OpenS2V, get_gmescore.py: the mean of raw cosines; the encoder puts "Find an image that matches the given text." before the prompt.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.vectors import frame_vectors, text_vectors
from anyref.perception import ImageTextEncoder, Model


@dataclass(frozen=True)
class GmeScore:
    """Mean cosine of prompt and frame, -1 to 1, typically 0.62 to 0.75 with GME-7B. `strict` is the same."""

    num_frames: int = 32

    name: ClassVar[str] = "opens2v.gme_score"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"encoder": "image-text-encoder"}
    defaults: ClassVar[Mapping[str, str]] = {"encoder": "gme-7b"}

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:
        """Where there is a prompt."""
        return bool(case.prompt.strip())

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        encoder = models["encoder"]
        assert isinstance(encoder, ImageTextEncoder)
        indices = linspace(video.num_frames, self.num_frames)
        text_D = text_vectors(video, encoder, [video.case.prompt])[0].astype(np.float64)
        cosines = frame_vectors(video, encoder, indices).astype(np.float64) @ text_D
        value = float(cosines.mean())
        return Result(value, value, per_frame=tuple(cosines.tolist()), frame_indices=indices)

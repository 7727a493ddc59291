"""How well a video answers to the whole of a long prompt: the ViCLIP score of each sentence, and their mean.

ViCLIP reads 32 tokens and the prompts of OpenS2V have 111 words on average, so the published score is blind to most of them.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import middles
from anyref.evaluation.metrics.overall_consistency import video_text_cosines
from anyref.perception import Model

_END = re.compile(r"(?<=[.!?;\u3002\uff01\uff1f\uff1b])\s*")


@dataclass(frozen=True)
class SentenceConsistency:
    """Mean cosine of the video and each sentence of the prompt, -1 to 1. `strict` is the same. details: "sentences" with their cosines."""

    num_frames: int = 8

    name: ClassVar[str] = "anyref.sentence_consistency"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"video_text": "video-text-encoder"}
    defaults: ClassVar[Mapping[str, str]] = {"video_text": "viclip-l14"}

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:
        """Where there is a prompt."""
        return bool(sentences(case.prompt))

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        texts = sentences(video.case.prompt)
        indices = middles(video.num_frames, self.num_frames)
        cosines = video_text_cosines(video, models["video_text"], texts, indices)
        value = float(cosines.mean())
        pairs: list[JSON] = [[text, float(cosine)] for text, cosine in zip(texts, cosines, strict=True)]
        return Result(value, value, details={"sentences": pairs, "frame_indices": indices})


def sentences(prompt: str) -> list[str]:
    """The sentences of a prompt, split after . ! ? ; and their Chinese forms; those without a letter are left out."""
    return [part for part in _END.split(prompt.strip()) if any(sign.isalnum() for sign in part)]

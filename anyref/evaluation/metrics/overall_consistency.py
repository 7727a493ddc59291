"""ViCLIP score of Kaleido, VBench's overall consistency: cosine of the video and the prompt, by ViCLIP.

VBench, overall_consistency.py: 8 frames, the middles of equal stretches. ViCLIP reads 32 tokens, so of a long prompt the first clause counts;
`anyref.sentence_consistency` scores every sentence.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import middles
from anyref.evaluation.metrics.vectors import frame_vectors, indices_key, model_key
from anyref.perception import ImageTextEncoder, Model


@dataclass(frozen=True)
class OverallConsistency:
    """Cosine, -1 to 1, typically 0.20 to 0.23 with ViCLIP-L/14, sometimes negative. `strict` is the same."""

    num_frames: int = 8

    name: ClassVar[str] = "vbench.overall_consistency"
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
        return bool(case.prompt.strip())

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        indices = middles(video.num_frames, self.num_frames)
        value = float(video_text_cosines(video, models["video_text"], [video.case.prompt], indices)[0])
        return Result(value, value, details={"frame_indices": indices})


def video_text_cosines(
    video: VideoUnderTest, model: Model, texts: list[str], indices: tuple[int, ...]
) -> NDArray[np.float64]:
    """[len(texts)]: cosine of the video at these frames and each sentence.

    An encoder of pictures may stand in for one of videos: the video is then the mean of its frames' vectors, made a unit vector.
    """
    from anyref.perception.viclip import VideoTextEncoder

    if isinstance(model, VideoTextEncoder):
        key = ("video", model_key(model), indices_key(indices))
        video_D = video.features.get_or_compute(key, lambda: model.encode_video(video.frames_at(indices)))
        words_ND = video.features.get_or_compute(
            ("texts", model_key(model), *texts), lambda: model.encode_text(texts)
        )
    else:
        assert isinstance(model, ImageTextEncoder)
        mean_D = frame_vectors(video, model, indices).mean(axis=0)
        video_D = mean_D / max(float(np.linalg.norm(mean_D)), 1e-12)
        words_ND = model.encode_text(texts)
    cosines: NDArray[np.float64] = words_ND.astype(np.float64) @ video_D.astype(np.float64)
    return cosines

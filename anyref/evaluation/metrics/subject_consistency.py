"""Subject Consistency of VBench: how alike all frames are to the first and to the one before, by DINO; reported by Kaleido.

VBench, subject_consistency.py. Whole frames, nothing is masked, so a frozen video scores 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.vectors import all_frame_vectors
from anyref.perception import ImageEncoder, Model


@dataclass(frozen=True)
class SubjectConsistency:
    """Mean over frames after the first of (cosine to the frame before + cosine to the first) / 2, each at least 0. 0 to 1.

    VBench averages over all frames of all videos on one GPU and over videos on several; both modes here are per video, and a suite's mean is
    over videos. A video of one frame is not applicable (VBench divides by 0, or in later versions says 1).
    """

    name: ClassVar[str] = "vbench.subject_consistency"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"encoder": "image-encoder"}
    defaults: ClassVar[Mapping[str, str]] = {"encoder": "dino-b16"}
    parameters: ClassVar[Mapping[str, JSON]] = {}

    def applies(self, case: EvaluationCase) -> bool:  # noqa: ARG002 - every video has frames
        """To every case."""
        return True

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """`strict` is the same."""
        encoder = models["encoder"]
        assert isinstance(encoder, ImageEncoder)
        return consistency_result(video, encoder)


def consistency_result(video: VideoUnderTest, encoder: ImageEncoder) -> Result:
    """The formula on every frame of a video."""
    if video.num_frames < 2:
        return Result.not_applicable("one frame is consistent with nothing")
    per_frame = consistency(all_frame_vectors(video, encoder))
    value = float(per_frame.mean())
    return Result(
        value, value, per_frame=tuple(per_frame.tolist()), frame_indices=tuple(range(1, len(per_frame) + 1))
    )


def consistency(vectors_FD: NDArray[np.float32]) -> NDArray[np.float64]:
    """[F - 1]: VBench's score of each frame after the first, from unit vectors."""
    vectors = vectors_FD.astype(np.float64)
    to_previous = np.maximum(0.0, np.einsum("fd,fd->f", vectors[1:], vectors[:-1]))
    to_first = np.maximum(0.0, vectors[1:] @ vectors[0])
    scores: NDArray[np.float64] = (to_previous + to_first) / 2
    return scores

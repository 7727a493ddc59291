"""Whether a subject stays who it is: the slope over time of its cosine to its reference."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.regions import find_and_encode, finder, label_of, reference_vectors, subjects
from anyref.evaluation.metrics.subj_sim import best_cosines, frame_means
from anyref.perception import ImageEncoder, Model


@dataclass(frozen=True)
class IdentityDrift:
    """Mean over subjects of the least-squares slope of cosine over the video's length: -0.1 loses 0.1 from first frame to last; 0 is steady.

    Frames in which a subject is not found are left out; a subject found in fewer than two frames has no slope. `strict` is -|slope|, as
    becoming more alike is change, too. details: "per_reference", "per_second".
    """

    num_frames: int = 16
    min_score: float = 0.35

    name: ClassVar[str] = "anyref.identity_drift"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {
        "detector": "detector",
        "segmenter": "segmenter",
        "encoder": "image-encoder",
    }
    defaults: ClassVar[Mapping[str, str]] = {
        "detector": "grounding-dino-base",
        "segmenter": "sam2.1-large",
        "encoder": "dinov2-base",
    }

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:
        """Where a reference shows a subject."""
        return bool(subjects(case))

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        if video.num_frames < 2:
            return Result.not_applicable("nothing drifts in one frame")
        by, encoder = finder(models, self.min_score), models["encoder"]
        assert isinstance(encoder, ImageEncoder)
        places = subjects(video.case)
        queries = [label_of(video.case.references[place]) for place in places]
        indices = linspace(video.num_frames, self.num_frames)
        regions = find_and_encode(video, by, encoder, queries, indices)
        cosines_FR = best_cosines(regions, reference_vectors(video, by, encoder, places))
        time_F = np.array(indices) / (video.num_frames - 1)
        slopes = [slope(time_F, column) for column in cosines_FR.T]
        known = [one for one in slopes if one is not None]
        if not known:
            return Result(None, None, "missed", details={"reason": "no subject was found in two frames"})
        duration_s = (video.num_frames - 1) / video.fps if video.fps > 0 else None
        value = float(np.mean(known))
        details: dict[str, JSON] = {
            "per_reference": slopes,
            "references": places,
            "per_second": value / duration_s if duration_s else None,
        }
        return Result(value, -float(np.abs(known).mean()), "ok", frame_means(cosines_FR), indices, details)


def slope(time_F: NDArray[np.float64], cosines_F: NDArray[np.float64]) -> float | None:
    """Least squares over the frames that have a cosine; None where there are fewer than two moments."""
    seen = np.isfinite(cosines_F)
    moments = time_F[seen] - time_F[seen].mean() if seen.any() else time_F[:0]
    spread = float((moments**2).sum())
    if spread == 0:
        return None
    return float((moments * cosines_F[seen]).sum() / spread)

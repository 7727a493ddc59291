"""S2V Consistency of Kaleido: CLIP's cosine of subjects cut out of frames and of the references (section 5.2).

The paper: "for each frame the maximum similarity with reference images is computed and averaged". That maximum over all subjects hides a
subject that is missing altogether as long as another is good; `strict` scores each reference by itself. The paper leaves out CLIP's size, the
crop, the number of frames and misses; ours: ViT-B/32, see `regions` for the crop, 16 frames.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.regions import (
    find_and_encode,
    finder,
    label_of,
    marks,
    reference_vectors,
    subjects,
)
from anyref.evaluation.metrics.subj_sim import best_cosines, matched_cosines
from anyref.perception import ImageEncoder, Model


@dataclass(frozen=True)
class S2VConsistency:
    """-1 to 1, typically 0.63 to 0.72.

    `value`: per frame the highest cosine of any region and any reference; mean over the frames with a region; None where there is none.
    `strict`: per frame and reference the cosine of the region found by that reference's label that is most alike, each thing for one reference at
    most (`matched_cosines`), 0 where there is none; mean of all.
    """

    num_frames: int = 16
    min_score: float = 0.35

    name: ClassVar[str] = "kaleido.s2v_consistency"
    version: ClassVar[int] = 2
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {
        "detector": "detector",
        "segmenter": "segmenter",
        "encoder": "image-text-encoder",
    }
    defaults: ClassVar[Mapping[str, str]] = {
        "detector": "grounding-dino-base",
        "segmenter": "sam2.1-large",
        "encoder": "clip-b32",
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
        by, encoder = finder(models, self.min_score), models["encoder"]
        assert isinstance(encoder, ImageEncoder)
        places = subjects(video.case)
        queries = [label_of(video.case.references[place]) for place in places]
        indices = linspace(video.num_frames, self.num_frames)
        regions = find_and_encode(video, by, encoder, queries, indices)
        shown_RD = reference_vectors(video, by, encoder, places)
        best: list[float | None] = [None] * len(indices)
        for region, vector_D in zip(regions.found, regions.vectors_ND.astype(np.float64), strict=True):
            highest = float((shown_RD @ vector_D).max())
            best[region.frame] = max(highest, best[region.frame] or highest)
        known = [score for score in best if score is not None]
        cosines_FR = best_cosines(regions, shown_RD)
        per_reference = matched_cosines(regions, shown_RD).mean(axis=0)
        details: dict[str, JSON] = {
            "subject_coverage": float(np.isfinite(cosines_FR).mean()),
            "per_reference": [float(score) for score in per_reference],
            "references": places,
        }
        return Result(
            float(np.mean(known)) if known else None,
            float(per_reference.mean()),
            "ok" if known else "missed",
            tuple(best),
            indices,
            details,
            marks(regions.found, indices, places, queries, outlined=True),
        )

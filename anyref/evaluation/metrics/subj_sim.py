"""Subj-Sim of MAGREF: DINO's cosine of the subject in the reference and in equally spaced frames (appendix C.3, eqs. 22 and 23).

The subject is found by GroundingDINO and cut out by SAM2 in both. The paper leaves out which DINO, crop or fill, how many frames, thresholds,
several instances and misses; see `regions` for the crop. Ours: DINOv2-B, 16 frames, of several instances the most alike, people by their
whole figure; references of faces are ID-Sim's.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.faces import match
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.regions import (
    Regions,
    find_and_encode,
    finder,
    label_of,
    marks,
    overlap,
    reference_vectors,
    subjects,
)
from anyref.perception import ImageEncoder, Model


@dataclass(frozen=True)
class SubjSim:
    """Mean over subjects of the mean cosine over frames, -1 to 1, typically 0.31 to 0.50.

    `value` leaves out frames in which a subject is not found, and subjects never found; `strict` counts both 0, and gives each thing in a
    frame to one reference at most: of two men of whom one is there, one is missing. details:
    "subject_coverage", the share of (frame, subject) found; "per_reference".
    """

    num_frames: int = 16
    min_score: float = 0.35

    name: ClassVar[str] = "magref.subj_sim"
    version: ClassVar[int] = 2
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
        """Where a reference shows a subject that is not only a face."""
        return bool(subjects(case, faces=False))

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        by, encoder = finder(models, self.min_score), models["encoder"]
        assert isinstance(encoder, ImageEncoder)
        places = subjects(video.case, faces=False)
        queries = [label_of(video.case.references[place]) for place in places]
        indices = linspace(video.num_frames, self.num_frames)
        regions = find_and_encode(video, by, encoder, queries, indices)
        references_RD = reference_vectors(video, by, encoder, places)
        cosines_FR = best_cosines(regions, references_RD)
        found_FR = np.isfinite(cosines_FR)
        per_reference = [
            float(column[seen].mean()) if seen.any() else None
            for column, seen in zip(cosines_FR.T, found_FR.T, strict=True)
        ]
        details: dict[str, JSON] = {
            "subject_coverage": float(found_FR.mean()),
            "per_reference": per_reference,
            "references": places,
        }
        known = [score for score in per_reference if score is not None]
        return Result(
            float(np.mean(known)) if known else None,
            float(matched_cosines(regions, references_RD).mean()),
            "ok" if known else "missed",
            frame_means(cosines_FR),
            indices,
            details,
            marks(regions.found, indices, places, queries, outlined=True),
        )


def best_cosines(regions: Regions, references_RD: NDArray[np.float32]) -> NDArray[np.float64]:
    """[F, R]: in each frame, the cosine of reference r and the most alike region that answers to query r; NaN where there is none."""
    cosines_FR = np.full((len(regions.indices), len(references_RD)), np.nan)
    for region, vector_D in zip(regions.found, regions.vectors_ND.astype(np.float64), strict=True):
        place = (region.frame, region.query)
        cosines_FR[place] = np.fmax(cosines_FR[place], vector_D @ references_RD[region.query])
    return cosines_FR


SAME = 0.7
"""Overlap of boxes (IoU) from which on regions of one frame are one thing, whichever query found them."""


def matched_cosines(regions: Regions, references_RD: NDArray[np.float32]) -> NDArray[np.float64]:
    """[F, R]: as `best_cosines`, but each thing in a frame answers for one reference at most, so that their sum is highest; 0 for those left over."""
    matched_FR = np.zeros((len(regions.indices), len(references_RD)))
    vectors_ND = regions.vectors_ND.astype(np.float64)
    for frame in range(len(matched_FR)):
        places = [place for place, region in enumerate(regions.found) if region.frame == frame]
        boxes = [regions.found[place].box for place in places]
        things: list[int] = []  # of each region, the first one that it repeats
        for number, box in enumerate(boxes):
            things.append(next((at for at in range(number) if overlap(boxes[at], box) >= SAME), number))
        scores_RT = np.full((len(references_RD), len(places)), -np.inf)
        for place, thing in zip(places, things, strict=True):
            query = regions.found[place].query
            scores_RT[query, thing] = max(scores_RT[query, thing], vectors_ND[place] @ references_RD[query])
        possible_RT = np.isfinite(scores_RT)
        for row, thing in match(np.where(possible_RT, scores_RT, -2.0)):
            if possible_RT[row, thing]:
                matched_FR[frame, row] = scores_RT[row, thing]
    return matched_FR


def frame_means(cosines_FR: NDArray[np.float64]) -> tuple[float | None, ...]:
    """Mean of what was found in each frame; None where nothing was."""
    return tuple(
        float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else None for row in cosines_FR
    )

"""How close a shifted, turned and scaled copy of the reference comes to the subject in the video: 1 is a pasted reference.

Copying is the failure that all three papers describe and none measures. Of two measures tried on puppets, structural similarity after the best
affine alignment tells pasted references from the same subjects drawn anew; the share of SIFT details that one map carries over hardly does.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Need, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.optical_flow import opencv, opencv_need
from anyref.evaluation.metrics.regions import (
    GREY,
    cut_out,
    find,
    finder,
    label_of,
    marks,
    reference_masks,
    subjects,
)
from anyref.evaluation.metrics.structure import similarity_map
from anyref.evaluation.metrics.subj_sim import frame_means
from anyref.perception import Model, Picture

_SIDE = 96


@dataclass(frozen=True)
class CopyPaste:
    """Mean over subjects and frames of the aligned similarity, -1 to 1; lower is better. `strict`: of each subject its worst frame, at least 0.

    Things without joints or views resemble any picture of themselves: compare videos of the same cases. Frames in which a subject is not found
    are left out.
    """

    num_frames: int = 8
    min_score: float = 0.35

    name: ClassVar[str] = "anyref.copy_paste"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = False
    models: ClassVar[Mapping[str, str]] = {"detector": "detector", "segmenter": "segmenter"}
    defaults: ClassVar[Mapping[str, str]] = {"detector": "grounding-dino-base", "segmenter": "sam2.1-large"}

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def needs(self) -> tuple[Need, ...]:
        """OpenCV."""
        return (opencv_need("alignment"),)

    def applies(self, case: EvaluationCase) -> bool:
        """Where a reference shows a subject."""
        return bool(subjects(case))

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        by, places = finder(models, self.min_score), subjects(video.case)
        queries = [label_of(video.case.references[place]) for place in places]
        indices = linspace(video.num_frames, self.num_frames)
        found = find(video, by, queries, indices)
        if not found:
            return Result(None, None, "missed", details={"reason": "no subject was found in any frame"})
        pictures, frames = video.references(), video.frames_at(indices)
        masks = reference_masks(video, by, places, pictures)
        cuts = [cut_out(pictures[place], mask) for place, mask in zip(places, masks, strict=True)]
        copied_FR = np.full((len(indices), len(places)), np.nan)
        for region in found:
            subject = cut_out(frames[region.frame], region.subject_mask)
            place = (region.frame, region.query)
            copied_FR[place] = np.fmax(copied_FR[place], aligned_similarity(cuts[region.query], subject))
        seen_FR = np.isfinite(copied_FR)
        worst = [
            float(column[seen].max()) if seen.any() else None
            for column, seen in zip(copied_FR.T, seen_FR.T, strict=True)
        ]
        details: dict[str, JSON] = {"references": places, "worst": worst}
        return Result(
            float(copied_FR[seen_FR].mean()),
            max(0.0, float(np.mean([one for one in worst if one is not None]))),
            "ok",
            frame_means(copied_FR),
            indices,
            details,
            marks(found, indices, places, queries),
        )


def aligned_similarity(reference_YX3: Picture, region_YX3: Picture) -> float:
    """SSIM of two cut-outs on grey after the affine map that aligns them best (ECC, Evangelidis 2008), over the pixels of either; -1 to 1."""
    cv2 = opencv()
    first, second = (_grey(picture, _SIDE, _SIDE) for picture in (reference_YX3, region_YX3))
    steps = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4)
    alignment = np.eye(2, 3, dtype=np.float32)
    try:
        _, alignment = cv2.findTransformECC(first, second, alignment, cv2.MOTION_AFFINE, steps, None, 5)
    except cv2.error:  # it does not converge: compared as they lie
        alignment = np.eye(2, 3, dtype=np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second, alignment, (_SIDE, _SIDE), flags=flags, borderValue=GREY)
    shown = (first != GREY) | (moved != GREY)
    return float(similarity_map(first, moved)[shown].mean()) if shown.any() else 1.0


def _grey(picture_YX3: Picture, height: int, width: int) -> NDArray[np.uint8]:
    cv2 = opencv()
    grey = cv2.cvtColor(np.ascontiguousarray(picture_YX3), cv2.COLOR_RGB2GRAY)
    smaller = height < grey.shape[0]
    scaled: NDArray[np.uint8] = cv2.resize(
        grey, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )
    return scaled

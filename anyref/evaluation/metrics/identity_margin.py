"""Whether each subject looks like its own reference or like another's: own cosine minus the best other, where the prompt puts it.

Nobody reports this, and it is what MAGREF's subject disentanglement is about: swapped identities and blends score high in ID-Sim and Subj-Sim's
maxima, and at or below 0 here.
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
    marks,
    reference_vectors,
    subjects,
    words_of,
)
from anyref.evaluation.metrics.subj_sim import frame_means
from anyref.perception import ImageEncoder, Model


@dataclass(frozen=True)
class IdentityMargin:
    """Mean over subjects and frames of cos(region, own reference) - max cos(region, another reference), -2 to 2; below 0: swapped.

    A region belongs to the subject whose words find it (phrase in the prompt, else label), best detection first. Subjects with the same
    words are dealt to the regions by Hungarian assignment: then a swap cannot be seen and blends still can. Frames in which a subject is not
    found are left out of `value` and count 0 in `strict`. Not applicable with fewer than two subjects.
    """

    num_frames: int = 16
    min_score: float = 0.35

    name: ClassVar[str] = "anyref.identity_margin"
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
        """Where references show two subjects or more."""
        return len(subjects(case)) >= 2

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        by, encoder = finder(models, self.min_score), models["encoder"]
        assert isinstance(encoder, ImageEncoder)
        places = subjects(video.case)
        queries = [words_of(video.case.references[place]) for place in places]
        indices = linspace(video.num_frames, self.num_frames)
        regions = find_and_encode(video, by, encoder, queries, indices)
        margins_FR = margins(
            regions, queries, reference_vectors(video, by, encoder, places).astype(np.float64)
        )
        seen_FR = np.isfinite(margins_FR)
        per_reference = [
            float(column[seen].mean()) if seen.any() else None
            for column, seen in zip(margins_FR.T, seen_FR.T, strict=True)
        ]
        details: dict[str, JSON] = {
            "subject_coverage": float(seen_FR.mean()),
            "per_reference": per_reference,
            "references": places,
            "swapped_share": float((margins_FR[seen_FR] < 0).mean()) if seen_FR.any() else None,
        }
        return Result(
            float(margins_FR[seen_FR].mean()) if seen_FR.any() else None,
            float(np.nan_to_num(margins_FR, nan=0.0).mean()),
            "ok" if seen_FR.any() else "missed",
            frame_means(margins_FR),
            indices,
            details,
            marks(regions.found, indices, places, queries),
        )


def margins(regions: Regions, queries: list[str], references_RD: NDArray[np.float64]) -> NDArray[np.float64]:
    """[F, R]: the margin of each subject's region in each frame; NaN where it has none."""
    margins_FR = np.full((len(regions.indices), len(queries)), np.nan)
    for frame in range(len(regions.indices)):
        for words in dict.fromkeys(queries):
            group = [place for place, other in enumerate(queries) if other == words]
            instances = regions.of(group[0], frame)
            if len(group) == 1:
                instances = instances[:1]  # its words name one thing: the best detection
            if not instances:
                continue
            cosines_NR = regions.vectors_ND[instances].astype(np.float64) @ references_RD.T
            for row, instance in match(cosines_NR[:, group].T):
                own = cosines_NR[instance, group[row]]
                margins_FR[frame, group[row]] = own - np.delete(cosines_NR[instance], group[row]).max()
    return margins_FR

"""How often the same reference is in a frame several times, the failure of Kaleido's figure 5: more look-alikes than were asked for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.regions import (
    Regions,
    find_and_encode,
    finder,
    label_of,
    marks,
    reference_vectors,
    subjects,
)
from anyref.perception import ImageEncoder, Model


@dataclass(frozen=True)
class DuplicateSubjects:
    """Mean over frames of the number of surplus subjects, 0 upwards; lower is better. `strict` is the share of frames with any.

    A label's surplus is the number of its regions beyond the references with this label, of those that look like such a reference: their
    cosine is at least `alike` times that of the best region of the frame. So a crowd of strangers is no surplus.
    """

    num_frames: int = 16
    min_score: float = 0.35
    alike: float = 0.85

    name: ClassVar[str] = "anyref.duplicate_subjects"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = False
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
        by, encoder = finder(models, self.min_score), models["encoder"]
        assert isinstance(encoder, ImageEncoder)
        places = subjects(video.case)
        queries = [label_of(video.case.references[place]) for place in places]
        indices = linspace(video.num_frames, self.num_frames)
        regions = find_and_encode(video, by, encoder, queries, indices)
        if not regions.found:
            return Result(None, None, "missed", details={"reason": "no subject was found in any frame"})
        shown_RD = reference_vectors(video, by, encoder, places).astype(np.float64)
        surplus_F = np.zeros(len(indices))
        for words in dict.fromkeys(queries):
            surplus_F += self._surplus(regions, words, queries, shown_RD)
        details: dict[str, JSON] = {"most": int(surplus_F.max())}
        return Result(
            float(surplus_F.mean()),
            float((surplus_F > 0).mean()),
            "ok",
            tuple(surplus_F.tolist()),
            indices,
            details,
            marks(regions.found, indices, places, queries),
        )

    def _surplus(
        self,
        regions: Regions,
        words: str,
        queries: list[str],
        shown_RD: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        group = [place for place, other in enumerate(queries) if other == words]
        surplus_F = np.zeros(len(regions.indices))
        for frame in range(len(regions.indices)):
            instances = regions.of(group[0], frame)
            if len(instances) > len(group):
                cosines = (regions.vectors_ND[instances].astype(np.float64) @ shown_RD[group].T).max(axis=1)
                alike = int((cosines >= self.alike * cosines.max()).sum()) if cosines.max() > 0 else 0
                surplus_F[frame] = max(0, alike - len(group))
        return surplus_F

"""Which of the subjects that were asked for are there at all: the share of frames in which a detector finds each by its label."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, Status, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.regions import find, finder, label_of, marks, subjects
from anyref.perception import Model


@dataclass(frozen=True)
class Coverage:
    """Mean over subjects of the share of frames in which they are found, 0 to 1, in both modes.

    Subjects with the same label share what is found: with two women asked for, a frame with one counts for one of them. A case none of
    whose subjects is ever found scores 0 with the status "missed". details: "per_reference", "never_found".
    """

    num_frames: int = 16
    min_score: float = 0.35

    name: ClassVar[str] = "anyref.coverage"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"detector": "detector", "segmenter": "segmenter"}
    defaults: ClassVar[Mapping[str, str]] = {"detector": "grounding-dino-base", "segmenter": "sam2.1-large"}

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:
        """Where a reference shows a subject."""
        return bool(subjects(case))

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        places = subjects(video.case)
        queries = [label_of(video.case.references[place]) for place in places]
        indices = linspace(video.num_frames, self.num_frames)
        found = find(video, finder(models, self.min_score), queries, indices)
        seen_FR = np.zeros((len(indices), len(places)))
        for query, words in enumerate(queries):
            before = queries[:query].count(words)  # how many of this label are served first
            for frame in range(len(indices)):
                instances = sum(region.frame == frame and region.query == query for region in found)
                seen_FR[frame, query] = instances > before
        value = float(seen_FR.mean())
        per_reference = [float(share) for share in seen_FR.mean(axis=0)]
        details: dict[str, JSON] = {
            "per_reference": per_reference,
            "references": places,
            "never_found": [place for place, share in zip(places, per_reference, strict=True) if share == 0],
        }
        per_frame = tuple(float(share) for share in seen_FR.mean(axis=1))
        status: Status = "ok" if value > 0 else "missed"
        return Result(
            value,
            value,
            status,
            per_frame,
            indices,
            details,
            marks(found, indices, places, queries, outlined=True),
        )

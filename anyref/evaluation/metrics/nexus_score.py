"""NexusScore of OpenS2V: how alike to its reference each thing is that a detector finds; in the release, over the number of frames with one.

OpenS2V, get_nexusscore.py. The release divides the mean similarity by the number of frames in which anything was found, so that finding a
subject in more frames lowers the score (32 of 32 frames at 0.70 score 0.437, 16 of 32 score 0.875); samples that score 0 or fail are left out of
the mean. The detector there is YOLO-World's image-prompt adapter, GPL-3.0; here it is any detector by words, so values are not the leaderboard's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Mark, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.regions import overlap, written_label
from anyref.evaluation.metrics.vectors import (
    indices_key,
    model_key,
    picture_vectors,
    text_vectors,
)
from anyref.perception import Box, Detector, ImageTextEncoder, Model, Picture

_PEOPLE = {"man", "woman"}


class Kept(NamedTuple):
    """A box that passed both thresholds: its frame, its reference (places in what was asked), and the cosine of crop and reference."""

    frame: int
    reference: int
    cosine: float


@dataclass(frozen=True)
class NexusScore:
    """`value`: the release's mean cosine / frames with a box, 0 upwards (the suite clips it at 0.05 and divides by that, and drops zeros).

    `strict`: mean over frames and references of the best kept cosine, 0 where none is kept, 0 to 1. In cases of faces, references of men and
    women are skipped, in cases of humans looked for as "human", as in the release; where none is left it is not applicable.
    """

    num_frames: int = 32
    min_detection: float = 0.5
    """Boxes below it do not exist."""
    min_score: float = 0.6
    """Boxes above it are kept."""
    min_text: float = 0.3
    """Cosine of class label and crop above which a box is kept."""
    max_overlap: float = 0.7

    name: ClassVar[str] = "opens2v.nexus_score"
    version: ClassVar[int] = 2
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"detector": "detector", "encoder": "image-text-encoder"}
    defaults: ClassVar[Mapping[str, str]] = {"detector": "grounding-dino-base", "encoder": "gme-7b"}

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:
        """Where a reference is left after the release's rule."""
        return bool(asked(case))

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        detector, encoder = models["detector"], models["encoder"]
        assert isinstance(detector, Detector)
        assert isinstance(encoder, ImageTextEncoder)
        wanted = asked(video.case)
        places, labels = list(wanted), list(wanted.values())
        indices = linspace(video.num_frames, self.num_frames)
        table_N7 = self._boxes(video, detector, [label.lower() for label in labels], indices)
        frames_with_box = len({int(row[0]) for row in table_N7})
        kept = self._kept(video, encoder, table_N7, places, labels, indices)
        best_FR = np.zeros((len(indices), len(places)))
        for one in kept:
            best_FR[one.frame, one.reference] = max(best_FR[one.frame, one.reference], one.cosine)
        boxes = tuple(
            Mark(
                indices[int(row[0])],
                Box(*row[3:].tolist()),
                labels[int(row[1])],
                float(row[2]),
                places[int(row[1])],
            )
            for row in table_N7
        )
        return Result(
            official([one.cosine for one in kept], frames_with_box),
            float(best_FR.mean()),
            "ok" if kept else "missed",
            tuple(best_FR.mean(axis=1).tolist()),
            indices,
            {
                "frames_with_box": frames_with_box,
                "kept": len(kept),
                "boxes": len(table_N7),
                "detector": detector.card.name,
            },
            boxes,
        )

    def _boxes(
        self, video: VideoUnderTest, detector: Detector, labels: Sequence[str], indices: Sequence[int]
    ) -> NDArray[np.float64]:
        """[N, 7]: frame, reference, score, box; each reference's best first, without near doubles."""

        def detect() -> NDArray[np.float64]:
            rows: list[tuple[float, ...]] = []
            for frame, picture in enumerate(video.frames_at(indices)):
                found = sorted(detector.detect(picture, labels), key=lambda one: -one.score)
                for reference in range(len(labels)):
                    of_reference: list[Box] = []
                    for one in found:
                        if one.phrase != reference or one.score <= self.min_detection:
                            continue
                        if all(overlap(one.box, other) <= self.max_overlap for other in of_reference):
                            of_reference.append(one.box)
                            rows.append((frame, reference, one.score, *one.box))
            return np.array(rows, np.float64).reshape(-1, 7)

        thresholds = f"{self.min_detection:g}/{self.max_overlap:g}"
        key = ("nexus-boxes", model_key(detector), thresholds, indices_key(indices), *labels)
        return video.features.get_or_compute(key, detect)

    def _kept(
        self,
        video: VideoUnderTest,
        encoder: ImageTextEncoder,
        table_N7: NDArray[np.float64],
        places: Sequence[int],
        labels: Sequence[str],
        indices: Sequence[int],
    ) -> list[Kept]:
        if not len(table_N7):
            return []
        frames, pictures = video.frames_at(indices), video.references()
        crops = [crop(frames[int(row[0])], Box(*row[3:].tolist())) for row in table_N7]
        crops_ND = picture_vectors(video, encoder, crops).astype(np.float64)
        shown_RD = picture_vectors(video, encoder, [pictures[place] for place in places]).astype(np.float64)
        words_RD = text_vectors(video, encoder, labels).astype(np.float64)
        kept = []
        for row, vector_D in zip(table_N7, crops_ND, strict=True):
            reference = int(row[1])
            cosine = float(vector_D @ shown_RD[reference])
            if (
                row[2] > self.min_score
                and float(vector_D @ words_RD[reference]) > self.min_text
                and cosine != 0
            ):
                kept.append(Kept(int(row[0]), reference, cosine))
        return kept


def official(kept: Sequence[float], frames_with_box: int) -> float:
    """The release's score before its normalisation: mean of the kept cosines over the number of frames with any box; 0 without any kept."""
    return float(np.mean(kept)) / frames_with_box if kept else 0.0


def asked(case: EvaluationCase) -> dict[int, str]:
    """Place of a reference -> its label after the release's rule for cases of faces and of humans, as written: so the encoder reads it.

    Detectors by words are asked for it in lower case.
    """
    labels: dict[int, str] = {}
    for place, reference in enumerate(case.references):
        label = written_label(reference)
        person = label.lower() in _PEOPLE or (reference.role in {"face", "human"} and not reference.label)
        if person and "face" in case.category:
            continue
        labels[place] = "human" if person and "human" in case.category else label
    return labels


def crop(picture_YX3: Picture, box: Box) -> Picture:
    """The pixels of a box, its sides rounded, inside the picture, at least one pixel."""
    height, width = picture_YX3.shape[:2]
    top, left = min(max(0, round(box.top)), height - 1), min(max(0, round(box.left)), width - 1)
    return picture_YX3[top : max(top + 1, round(box.bottom)), left : max(left + 1, round(box.right))]

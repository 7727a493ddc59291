"""ID-Sim of MAGREF: cosine of ArcFace vectors of the reference's face and of the faces in every 16th frame (appendix C.3, eq. 20).

The paper leaves out: the ArcFace pack, whose face is whose with several people, negative cosines, and a video without a face. Ours: buffalo_l;
references and faces matched by Hungarian assignment in each frame; cosines as they are; such a video counts 0, as in OpenS2V.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Mark, Result, Status, VideoUnderTest
from anyref.evaluation.metrics.faces import frame_faces, match, people, reference_face
from anyref.evaluation.metrics.frame_indices import every
from anyref.perception import Face, FaceAnalyser, Model


@dataclass(frozen=True)
class IdSim:
    """Mean over people of the mean cosine over frames, -1 to 1.

    `value` leaves out frames in which the person has no face; a person without any counts 0. `strict` counts such frames 0.
    References without a face are left out; if no reference has one, the metric is not applicable. details: "coverage", the share of
    (frame, person) with a face; "per_reference".
    """

    step: int = 16

    name: ClassVar[str] = "magref.id_sim"
    version: ClassVar[int] = 3
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"faces": "face-analyser"}
    defaults: ClassVar[Mapping[str, str]] = {"faces": "insightface-buffalo-l"}

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:
        """Where a reference shows a person."""
        return bool(people(case))

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        analyser = models["faces"]
        assert isinstance(analyser, FaceAnalyser)
        pictures = video.references()
        shown = {place: reference_face(analyser, pictures[place]) for place in people(video.case)}
        places = [place for place, face in shown.items() if face is not None]
        if not places:
            return Result.not_applicable("no face was found in the references")
        references_RD = np.stack([face.embedding_D for face in shown.values() if face is not None])
        indices = every(video.num_frames, self.step)
        frames = frame_faces(video, analyser, indices, padded=False)
        cosines_FR = np.full((len(indices), len(places)), np.nan)
        marks: list[Mark] = []
        for frame, faces in enumerate(frames):
            for person, face, cosine in matched(references_RD, faces):
                cosines_FR[frame, person] = cosine
                marks.append(Mark(indices[frame], face.box, "face", cosine, places[person]))
        per_reference = [_mean(column) for column in cosines_FR.T]
        details: dict[str, JSON] = {
            "coverage": float(np.isfinite(cosines_FR).mean()),
            "per_reference": per_reference,
            "references": places,
            "without_face": [place for place in shown if place not in places],
        }
        value = float(np.mean([score or 0.0 for score in per_reference]))
        strict = float(np.nan_to_num(cosines_FR, nan=0.0).mean())
        status: Status = "ok" if marks else "missed"
        per_frame = tuple(_mean(row) for row in cosines_FR)
        return Result(value, strict, status, per_frame, indices, details, tuple(marks))


def matched(references_RD: NDArray[np.float32], faces: list[Face]) -> list[tuple[int, Face, float]]:
    """(reference, its face, their cosine) of one frame."""
    if not faces:
        return []
    similarity_RN = references_RD.astype(np.float64) @ np.stack([face.embedding_D for face in faces]).T
    return [(row, faces[column], float(similarity_RN[row, column])) for row, column in match(similarity_RN)]


def _mean(values: NDArray[np.float64]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None

"""FaceSim-Cur of OpenS2V: cosine of CurricularFace vectors of the first person's face and of the largest face in 32 frames.

OpenS2V, get_facesim.py. The release scores four of the seven kinds of cases, all with one person (singlehuman, singleface, humanobj,
faceobj), and leaves out the frames where no face is found and those whose cosine is not positive; ID-Sim is the one for several people.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Mark, Result, VideoUnderTest
from anyref.evaluation.metrics.faces import frame_faces, people, reference_face
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.perception import FaceAnalyser, Model

_SCORED = {"singlehuman", "singleface", "humanobj", "faceobj"}
_NOT_SCORED = {"singleobj", "multiobject", "multiface", "multihuman"}


@dataclass(frozen=True)
class FaceSim:
    """0 to 1. `value`: mean over frames with a positive cosine, 0 where there is none; `strict`: mean over all 32 frames, the others 0.

    Applies to OpenS2V's four kinds; in other case sets, to cases with exactly one person. A reference without a face is not applicable (the
    release skips it). A face that is found only with grey around is cut out of the picture itself, black where that ends, as released.
    """

    num_frames: int = 32

    name: ClassVar[str] = "opens2v.face_sim"
    version: ClassVar[int] = 3
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"faces": "face-analyser"}
    defaults: ClassVar[Mapping[str, str]] = {"faces": "curricularface"}

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:
        """See the class."""
        if case.category in _SCORED | _NOT_SCORED:
            return case.category in _SCORED and bool(people(case))
        return len(people(case)) == 1

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        analyser = models["faces"]
        assert isinstance(analyser, FaceAnalyser)
        place = people(video.case)[0]
        shown = reference_face(analyser, video.references()[place])
        if shown is None:
            return Result.not_applicable("no face was found in the reference")
        indices = linspace(video.num_frames, self.num_frames)
        cosines = np.zeros(len(indices))
        marks: list[Mark] = []
        for frame, faces in enumerate(frame_faces(video, analyser, indices, padded=True)):
            if faces:
                cosine = float(faces[0].embedding_D.astype(np.float64) @ shown.embedding_D)
                cosines[frame] = min(1.0, max(0.0, cosine))
                marks.append(Mark(indices[frame], faces[0].box, "face", cosine, place))
        positive = cosines[cosines > 0]
        value = float(positive.mean()) if len(positive) else 0.0
        return Result(
            value,
            float(cosines.mean()),
            "ok" if marks else "missed",
            tuple(float(cosine) if cosine > 0 else None for cosine in cosines),
            indices,
            {"coverage": len(marks) / len(indices)},
            tuple(marks),
        )

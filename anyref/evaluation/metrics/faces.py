"""Faces of frames and references, and which face is whose: what ID-Sim and FaceSim share."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import VideoUnderTest
from anyref.evaluation.metrics.vectors import indices_key, model_key
from anyref.perception import Box, Face, FaceAnalyser, Picture
from anyref.perception.faces import largest_first, looked_at_twice

_HEAD = 9
"""Columns of a cached face before its vector: frame, box, score, pose."""


def people(case: EvaluationCase) -> list[int]:
    """Places of the references that show a person."""
    return [place for place, one in enumerate(case.references) if one.role in {"face", "human"}]


def frame_faces(
    video: VideoUnderTest, analyser: FaceAnalyser, indices: Sequence[int], padded: bool
) -> list[list[Face]]:
    """The faces of each frame, largest first; `padded`: a frame without one is tried again with a grey border, as the release does."""

    def look() -> NDArray[np.float64]:
        rows = []
        for frame, picture in enumerate(video.frames_at(indices)):
            for face in _found(analyser, picture, padded):
                pose = face.pose_degrees or (np.nan, np.nan, np.nan)
                rows.append(
                    np.array([frame, *face.box, face.score, *pose, *face.embedding_D.tolist()], np.float64)
                )
        return np.stack(rows) if rows else np.zeros((0, _HEAD + 1))

    key = ("faces-3", model_key(analyser), indices_key(indices), f"padded={padded}")
    found: list[list[Face]] = [[] for _ in indices]
    for row in video.features.get_or_compute(key, look):
        pose = None if np.isnan(row[6]) else (float(row[6]), float(row[7]), float(row[8]))
        box = Box(*(float(side) for side in row[1:5]))
        face = Face(box, float(row[5]), row[_HEAD:].astype(np.float32), pose_degrees=pose)
        found[int(row[0])].append(face)
    return found


def reference_face(analyser: FaceAnalyser, picture: Picture) -> Face | None:
    """The largest face, tried again with a grey border of a quarter on each side (ConsisID, OpenS2V); None where there is none."""
    found = _found(analyser, picture, padded=True)
    return found[0] if found else None


def match(similarity_RN: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (reference, face) with the highest sum of similarities, each at most once (Hungarian assignment)."""
    if 0 in similarity_RN.shape:
        return []
    if len(similarity_RN) == 1:
        return [(0, int(similarity_RN[0].argmax()))]
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ValueError("SciPy is not installed; run: pip install 'anyref[evaluation]'") from error
    rows, columns = linear_sum_assignment(1 - similarity_RN)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]


def _found(analyser: FaceAnalyser, picture: Picture, padded: bool) -> list[Face]:
    return looked_at_twice(analyser, picture) if padded else largest_first(analyser.faces(picture))

"""Faces that are found only with grey around: FaceSim's network is shown what the release shows it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_fakes import CARD, case_of

from anyref.evaluation.metrics import VideoUnderTest
from anyref.evaluation.metrics.faces import frame_faces, reference_face
from anyref.perception import Box, Face, Picture
from anyref.perception.curricularface import CurricularFace, CurricularFaceNetwork

SIDE, BORDER = 112, 28
POINTS = np.array([[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]])
LARGE = (((POINTS - 56) * 1.4 + 56)[:, ::-1] * 4).round() / 4
"""(row, column) of a face that is larger than a picture of SIDE."""


class Finder:
    """Sees the face where its points are given for a picture of so many rows."""

    card = CARD

    def __init__(self, points_by_rows: dict[int, np.ndarray]) -> None:
        self.points_by_rows = points_by_rows

    def faces(self, picture: Picture) -> list[Face]:
        points = self.points_by_rows.get(len(picture))
        box = Box(0, 0, len(picture), len(picture))
        return [] if points is None else [Face(box, 0.9, np.ones(1, np.float32), points.astype(np.float32))]


def test_a_face_found_with_padding_is_cut_out_of_the_picture_without_it(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    torch.manual_seed(0)
    network = CurricularFaceNetwork(stages=((8, 1), (16, 1)))
    picture = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    padded = CurricularFace(Finder({SIDE + 2 * BORDER: LARGE + BORDER}), network, CARD)
    released = CurricularFace(Finder({SIDE: LARGE}), network, CARD).faces(picture)[0].embedding_D
    grey = padded.faces(np.pad(picture, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), constant_values=128))
    assert float(grey[0].embedding_D @ released) < 0.9999, "the border is seen"
    video = VideoUnderTest.of_frames(case_of(tmp_path), picture[None])
    ((in_frame,),) = frame_faces(video, padded, [0], padded=True)
    in_reference = reference_face(padded, picture)
    assert in_reference is not None
    for face in (in_frame, in_reference):
        assert face.box == (-BORDER, -BORDER, SIDE + BORDER, SIDE + BORDER)
        assert face.embedding_D == pytest.approx(released, abs=1e-6)

"""Both face packages behind one protocol: channels, coordinates, order, the second look with grey around; and CurricularFace's port."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_perception import CARD, picture

from anyref.perception import Box, Face, FaceAnalyser
from anyref.perception.catalogue import entry_for
from anyref.perception.curricularface import (
    CurricularFace,
    CurricularFaceNetwork,
    align,
    has_two_norms,
    similarity,
)
from anyref.perception.faces import InsightFace, YunetSface, open_insightface, with_padding

POINTS = np.array(
    [[38.3, 51.7], [73.5, 51.5], [56.0, 71.7], [41.5, 92.4], [70.7, 92.2]]
)  # (x, y) of a face of 112


def found(left: float, size: float, **more: Any) -> SimpleNamespace:
    vector = np.zeros(512)
    vector[0] = 1
    box = np.array([left, 10.0, left + size, 10 + size])
    return SimpleNamespace(
        bbox=box, det_score=0.9, normed_embedding=vector, kps=POINTS / 112 * size + [left, 10], **more
    )


class Analysis:
    """An `insightface.app.FaceAnalysis` that answers by the size of the picture."""

    def __init__(self, by_width: dict[int, list[SimpleNamespace]]) -> None:
        self.by_width = by_width
        self.seen: list[np.ndarray] = []

    def get(self, image: np.ndarray) -> list[SimpleNamespace]:
        self.seen.append(image)
        return self.by_width.get(image.shape[1], [])


def test_faces_are_ours_largest_first() -> None:
    analysis = Analysis({80: [found(2, 10), found(30, 40, pose=np.array([1.0, -2.0, 3.0]))]})
    analyser = InsightFace(analysis, CARD)
    assert isinstance(analyser, FaceAnalyser)
    one = picture(60, 80)
    faces = analyser.faces(one)
    assert [face.box for face in faces] == [(10, 30, 50, 70), (10, 2, 20, 12)]
    assert faces[0].pose_degrees == (1, -2, 3) and faces[1].pose_degrees is None
    assert faces[0].keypoints_52 is not None and faces[0].keypoints_52[0] == pytest.approx(
        [10 + 51.7 / 112 * 40, 30 + 38.3 / 112 * 40]
    )
    assert np.array_equal(analysis.seen[0], one[..., ::-1])  # BGR


def test_an_analyser_looks_once() -> None:
    analysis = Analysis({120: [found(30, 40)]})
    assert InsightFace(analysis, CARD).faces(picture(60, 80)) == []
    assert [image.shape for image in analysis.seen] == [(60, 80, 3)]


def test_a_second_look_with_grey_around() -> None:
    # 80 wide, 60 high: a quarter is 20 and 15 on each side.
    analysis = Analysis({120: [found(30, 40)]})
    (face,) = with_padding(InsightFace(analysis, CARD).faces, picture(60, 80))
    assert face.box == (10 - 15, 30 - 20, 50 - 15, 70 - 20)
    assert (analysis.seen[1][:15] == 128).all() and analysis.seen[1].shape == (90, 120, 3)
    assert face.keypoints_52 is not None and face.keypoints_52[0, 1] == pytest.approx(
        30 + 38.3 / 112 * 40 - 20
    )
    nobody = Analysis({})
    assert with_padding(InsightFace(nobody, CARD).faces, picture(60, 80)) == []
    assert [image.shape for image in nobody.seen] == [(60, 80, 3), (90, 120, 3)]  # one border, no more


def test_opening_asks_for_one_detection_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class FaceAnalysis:
        def __init__(self, name: str, allowed_modules: list[str], providers: list[str]) -> None:
            asked.update(name=name, modules=allowed_modules, providers=providers)

        def prepare(self, ctx_id: int, det_size: tuple[int, int]) -> None:
            asked.update(ctx_id=ctx_id, det_size=det_size)

    package, app = ModuleType("insightface"), ModuleType("insightface.app")
    app.FaceAnalysis = FaceAnalysis  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "insightface", package)
    monkeypatch.setitem(sys.modules, "insightface.app", app)
    entry = entry_for("face-analyser", "insightface-buffalo-l")
    assert not open_insightface(entry, "cpu").card.commercial
    assert asked["name"] == "buffalo_l" and asked["det_size"] == (640, 640) and asked["ctx_id"] == -1
    assert "landmark_3d_68" in asked["modules"]  # without it there is no pose
    open_insightface(entry, "cuda:1")
    assert asked["ctx_id"] == 1 and asked["providers"][0] == "CUDAExecutionProvider"


def test_yunet_detects_small_and_reports_large() -> None:
    pytest.importorskip("cv2")

    class Detector:
        size = (0, 0)

        def setInputSize(self, size: tuple[int, int]) -> None:  # noqa: N802
            self.size = size

        def detect(self, image: np.ndarray) -> tuple[int, np.ndarray | None]:
            assert image.shape == (320, 640, 3) and self.size == (640, 320)
            points = (POINTS / 2 + [100, 50]).ravel()
            return 1, np.array([[100, 50, 56, 56, *points, 0.8]], dtype=np.float32)

    class Recogniser:
        def alignCrop(self, image: np.ndarray, row: np.ndarray) -> np.ndarray:  # noqa: N802
            assert image.shape == (640, 1280, 3) and row[:4] == pytest.approx([200, 100, 112, 112])
            return image

        def feature(self, image: np.ndarray) -> np.ndarray:
            return np.array([[3.0, 4.0]], dtype=np.float32)

    analyser = YunetSface(Detector(), Recogniser(), CARD)
    assert isinstance(analyser, FaceAnalyser)
    (face,) = analyser.faces(picture(640, 1280))
    assert face.box == pytest.approx((100, 200, 212, 312)) and face.score == pytest.approx(0.8)
    assert face.embedding_D == pytest.approx([0.6, 0.8])
    assert face.keypoints_52 is not None and face.keypoints_52[2] == pytest.approx([71.7 + 100, 56.0 + 200])


def test_the_classes_of_opencv_are_there() -> None:
    cv2 = pytest.importorskip("cv2")
    assert callable(cv2.FaceDetectorYN.create) and callable(cv2.FaceRecognizerSF.create)


def test_the_similarity_is_found_exactly() -> None:
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = similarity(POINTS, POINTS @ (1.7 * turn).T + [5, -3])
    assert matrix == pytest.approx(np.hstack([1.7 * turn, [[5], [-3]]]))
    mirrored = similarity(POINTS, POINTS * [-1, 1])
    assert np.linalg.det(mirrored[:, :2]) > 0


def test_a_face_is_brought_to_the_template() -> None:
    pytest.importorskip("cv2")
    canvas = np.zeros((300, 300, 3), np.uint8)
    places = (POINTS * 1.2 + [60, 40])[:, ::-1]
    for row, column in places.round().astype(int):
        canvas[row - 3 : row + 4, column - 3 : column + 4] = 255
    aligned = align(canvas, places.astype(np.float32))
    assert aligned.shape == (224, 224, 3)
    for x, y in (POINTS * 2).round().astype(int):
        assert aligned[y, x].min() > 200
    assert (aligned > 100).any(axis=2).mean() < 0.05


@pytest.mark.parametrize("twice", [True, False])
def test_the_network_is_the_released_one(twice: bool) -> None:
    network = CurricularFaceNetwork(twice=twice, stages=((8, 1), (16, 2)))
    assert has_two_norms(network.state_dict()) == twice
    names = set(network.state_dict())
    assert {
        "input_layer.0.weight",
        "body.0.res_layer.0.weight",
        "body.1.shortcut_layer.0.weight",
        "output_layer.3.weight",
    } <= names
    assert not any(
        name.startswith("body.0.shortcut_layer") for name in names
    )  # same width: pooling, no weights
    assert network.eval()(torch.zeros(2, 3, 112, 112)).shape == (2, 512)


@pytest.mark.slow
def test_ir_101_has_its_size() -> None:
    network = CurricularFaceNetwork()
    assert len(network.body) == 49 and network.output_layer[3].weight.shape == (512, 512 * 7 * 7)
    assert sum(value.numel() for value in network.parameters()) == pytest.approx(65.2e6, rel=0.01)


def test_curricularface_keeps_boxes_and_replaces_vectors() -> None:
    pytest.importorskip("cv2")

    class Finder:
        card = CARD

        def faces(self, image: np.ndarray) -> list[Face]:
            points = (POINTS[:, ::-1] + 5).astype(np.float32)
            vector = np.ones(1, np.float32)
            return [Face(Box(5, 5, 117, 117), 0.9, vector, points), Face(Box(0, 0, 9, 9), 0.8, vector)]

    torch.manual_seed(0)
    analyser = CurricularFace(Finder(), CurricularFaceNetwork(stages=((8, 1), (16, 1))), CARD)
    assert isinstance(analyser, FaceAnalyser)
    (face,) = analyser.faces(picture(140, 140))
    assert face.box == (5, 5, 117, 117) and face.embedding_D.shape == (512,)
    assert np.linalg.norm(face.embedding_D) == pytest.approx(1)

"""Faces: InsightFace (SCRFD, ArcFace, pose), whose weights forbid commercial use, and OpenCV's YuNet with SFace, whose weights permit it.

Detectors miss faces that fill the picture; `with_padding` looks once more with a quarter of grey around it (ConsisID, OpenS2V), for who asks.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from anyref.perception import Box, Face, FaceAnalyser, ModelCard, Picture
from anyref.perception.models import Entry
from anyref.perception.preparation import card, check, hub_revision

PADDING = 0.25
GREY = 128
DETECTION_SIDE = 640
_YUNET = "face_detection_yunet_2023mar.onnx"
_SFACE = "face_recognition_sface_2021dec.onnx"
_YUNET_SCORE = 0.6
_YUNET_OVERLAP = 0.3
_YUNET_CANDIDATES = 5000


class InsightFace:
    """An `insightface.app.FaceAnalysis` that is prepared. Pose is there if the pack has the 68-point model in three dimensions."""

    def __init__(self, analysis: Any, card: ModelCard) -> None:
        self._analysis = analysis
        self.card = card

    def faces(self, picture_YX3: Picture) -> list[Face]:
        """See `anyref.perception.FaceAnalyser`."""
        check([picture_YX3])
        # The package reads BGR, as OpenCV does.
        found = self._analysis.get(np.ascontiguousarray(picture_YX3[..., ::-1]))
        faces = []
        for face in found:
            left, top, right, bottom = (float(side) for side in face.bbox)
            pose = getattr(face, "pose", None)
            faces.append(
                Face(
                    box=Box(top, left, bottom, right),
                    score=float(face.det_score),
                    embedding_D=np.asarray(face.normed_embedding, dtype=np.float32),
                    keypoints_52=None
                    if face.kps is None
                    else np.asarray(face.kps, np.float32)[:, ::-1].copy(),
                    pose_degrees=None if pose is None else (float(pose[0]), float(pose[1]), float(pose[2])),
                )
            )
        return largest_first(faces)


class YunetSface:
    """`cv2.FaceDetectorYN` and `cv2.FaceRecognizerSF`. No pose. Vectors have 128 values and cosines that do not compare with ArcFace's."""

    def __init__(self, detector: Any, recogniser: Any, card: ModelCard) -> None:
        self._detector = detector
        self._recogniser = recogniser
        self.card = card

    def faces(self, picture_YX3: Picture) -> list[Face]:
        """See `anyref.perception.FaceAnalyser`."""
        import cv2

        check([picture_YX3])

        bgr = np.ascontiguousarray(picture_YX3[..., ::-1])
        height, width = bgr.shape[:2]
        # YuNet was made for faces of 10 to 300 pixels.
        scale = min(1.0, DETECTION_SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        self._detector.setInputSize(size)
        small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA) if scale < 1 else bgr
        _, rows = self._detector.detect(small)
        faces = []
        for row in [] if rows is None else rows:
            across, down = width / size[0], height / size[1]
            full = np.array(row, dtype=np.float32)
            full[0:14:2] *= across
            full[1:14:2] *= down
            vector = np.array(
                self._recogniser.feature(self._recogniser.alignCrop(bgr, full)), np.float32
            ).ravel()
            left, top, wide, high = (float(value) for value in full[:4])
            faces.append(
                Face(
                    box=Box(top, left, top + high, left + wide),
                    score=float(full[14]),
                    embedding_D=vector / max(float(np.linalg.norm(vector)), 1e-12),
                    keypoints_52=full[4:14].reshape(5, 2)[:, ::-1].copy(),
                )
            )
        return largest_first(faces)


@runtime_checkable
class LooksTwice(Protocol):
    """A face analyser whose vectors after the look with padding are not those of `faces` of the padded picture."""

    def padded_faces(self, picture_YX3: Picture) -> list[Face]:
        """As `with_padding`, with vectors of its own."""


def looked_at_twice(analyser: FaceAnalyser, picture_YX3: Picture) -> list[Face]:
    """The analyser's faces, largest first; where it finds none, those that it finds with padding."""
    if isinstance(analyser, LooksTwice):
        return analyser.padded_faces(picture_YX3)
    return with_padding(analyser.faces, picture_YX3)


def with_padding(find: Callable[[Picture], Sequence[Face]], picture_YX3: Picture) -> list[Face]:
    """What `find` finds, largest first; if nothing, what it finds with a quarter of grey around the picture, in the picture's own pixels."""
    check([picture_YX3])
    found = list(find(picture_YX3))
    if not found:
        rows, columns = (int(side * PADDING) for side in picture_YX3.shape[:2])
        padded = np.pad(picture_YX3, ((rows, rows), (columns, columns), (0, 0)), constant_values=GREY)
        found = [_shifted(face, rows, columns) for face in find(padded)]
    return largest_first(found)


def largest_first(faces: Sequence[Face]) -> list[Face]:
    """As `anyref.perception.FaceAnalyser` has them."""
    return sorted(faces, key=lambda face: -area(face.box))


def area(box: Box) -> float:
    """Square pixels."""
    return max(0.0, box.bottom - box.top) * max(0.0, box.right - box.left)


def open_insightface(entry: Entry, device: str) -> InsightFace:
    """The source is a pack of the package ("buffalo_l") or a folder of .onnx files."""
    from insightface.app import FaceAnalysis  # type: ignore[import-not-found, unused-ignore]

    cuda = device.startswith("cuda")
    analysis = FaceAnalysis(
        name=entry.source,
        allowed_modules=["detection", "recognition", "landmark_3d_68"],
        providers=["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"],
    )
    index = int(device.partition(":")[2] or 0) if cuda else -1
    # Said outright: from version 2 on the package looks at two sizes of its own choice.
    analysis.prepare(ctx_id=index, det_size=(DETECTION_SIDE, DETECTION_SIDE))
    return InsightFace(analysis, card(entry))


def open_yunet_sface(entry: Entry, device: str) -> YunetSface:  # noqa: ARG001 - OpenCV's wheels compute on the CPU
    """The source is two hub repositories joined by "+", or a folder that holds both .onnx files."""
    import cv2

    paths = [_onnx(entry, number, file) for number, file in enumerate((_YUNET, _SFACE))]
    detector = cv2.FaceDetectorYN.create(
        str(paths[0]), "", (DETECTION_SIDE, DETECTION_SIDE), _YUNET_SCORE, _YUNET_OVERLAP, _YUNET_CANDIDATES
    )
    return YunetSface(detector, cv2.FaceRecognizerSF.create(str(paths[1]), ""), card(entry))


def _onnx(entry: Entry, number: int, file: str) -> Path:
    folder = Path(entry.source)
    if folder.is_dir():
        if not (folder / file).is_file():
            raise ValueError(f"there is no {file} in {folder}; fetch it from OpenCV's model zoo")
        return folder / file
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(entry.source.split("+")[number], file, revision=hub_revision(entry, number)))


def _shifted(face: Face, rows: int, columns: int) -> Face:
    box = Box(face.box.top - rows, face.box.left - columns, face.box.bottom - rows, face.box.right - columns)
    points: NDArray[np.float32] | None = None
    if face.keypoints_52 is not None:
        points = (face.keypoints_52 - np.array([rows, columns], dtype=np.float32)).astype(np.float32)
    return Face(box, face.score, face.embedding_D, points, face.pose_degrees)

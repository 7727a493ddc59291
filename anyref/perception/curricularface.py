"""CurricularFace: whose face it is, by the network of OpenS2V's FaceSim-Cur; faces and their five points come from another detector.

Our own port of IR-101 (stem, 3 + 13 + 30 + 3 residual units, 512 values). Two releases differ by one normalisation in each unit; which one a file
is, its own names say.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anyref.perception import Face, FaceAnalyser, ModelCard, Picture
from anyref.perception.faces import with_padding
from anyref.perception.models import Entry
from anyref.perception.preparation import card, unit, weights_file

FILE = "glint360k_curricular_face_r101_backbone.bin"
CROP = 224
"""Pixels of the aligned face, before it is halved for the network."""
SIDE = 112
_TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""ArcFace's: where eyes, nose and corners of the mouth, as (x, y), lie in a face of 112 x 112."""
_STAGES = ((64, 3), (128, 13), (256, 30), (512, 3))


class _Unit(nn.Module):
    """`twice`: whether the first convolution is normalised too."""

    def __init__(self, before: int, after: int, stride: int, *, twice: bool) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if before != after:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Conv2d(before, after, 3, 1, 1, bias=False),
            *([nn.BatchNorm2d(after)] if twice else []),
            nn.PReLU(after),
            nn.Conv2d(after, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return joined


class CurricularFaceNetwork(nn.Module):
    """Faces [B, 3, 112, 112], RGB in [-1, 1], to [B, 512]; not of length 1."""

    def __init__(self, *, twice: bool = True, stages: tuple[tuple[int, int], ...] = _STAGES) -> None:
        super().__init__()
        first, last = stages[0][0], stages[-1][0]
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        units, before = [], first
        for after, number in stages:
            for index in range(number):
                units.append(_Unit(before, after, 2 if index == 0 else 1, twice=twice))
                before = after
        self.body = nn.Sequential(*units)
        side = SIDE // 2 ** len(stages)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(last),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(last * side * side, 512),
            nn.BatchNorm1d(512, affine=False),
        )

    def forward(self, faces_B3YX: Tensor) -> Tensor:
        """See the class."""
        vectors: Tensor = self.output_layer(self.body(self.input_layer(faces_B3YX)))
        return vectors


class CurricularFace:
    """The faces of `finder`, largest first, with this network's vectors; a face without its five points is left out."""

    def __init__(self, finder: FaceAnalyser, network: nn.Module, card: ModelCard) -> None:
        self._finder = finder
        self._network = network.eval()
        self.card = card

    def faces(self, picture_YX3: Picture) -> list[Face]:
        """See `anyref.perception.FaceAnalyser`."""
        return self._recognised(picture_YX3, self._finder.faces(picture_YX3))

    def padded_faces(self, picture_YX3: Picture) -> list[Face]:
        """Release: points that were found with grey around are moved back, and the face is cut out of the picture without it."""
        return self._recognised(picture_YX3, with_padding(self._finder.faces, picture_YX3))

    @torch.no_grad()
    def _recognised(self, picture_YX3: Picture, faces: Sequence[Face]) -> list[Face]:
        import cv2

        device = next(self._network.parameters()).device
        seen = []
        for face in faces:
            if face.keypoints_52 is None:
                continue
            # 224 and then 112, as released.
            aligned = cv2.resize(align(picture_YX3, face.keypoints_52), (SIDE, SIDE))
            pixels = torch.from_numpy(aligned).permute(2, 0, 1)[None].float().to(device) / 127.5 - 1
            vector = unit(self._network(pixels))[0]
            seen.append(Face(face.box, face.score, vector, face.keypoints_52, face.pose_degrees))
        return seen


def align(picture_YX3: Picture, keypoints_52: NDArray[np.float32], size: int = CROP) -> Picture:
    """The face turned, scaled and moved so that its points lie on ArcFace's: [size, size, 3], black where the picture ends."""
    import cv2

    matrix = similarity(keypoints_52[:, ::-1].astype(np.float64), _TEMPLATE * size / SIDE)
    aligned: Picture = cv2.warpAffine(picture_YX3, matrix, (size, size), borderValue=0.0).astype(np.uint8)
    return aligned


def similarity(points_N2: NDArray[np.float64], targets_N2: NDArray[np.float64]) -> NDArray[np.float64]:
    """The turn, scale and shift [2, 3] that bring the points nearest to the targets (Umeyama 1991), without mirroring."""
    mean, goal = points_N2.mean(axis=0), targets_N2.mean(axis=0)
    left, values, right = np.linalg.svd((targets_N2 - goal).T @ (points_N2 - mean) / len(points_N2))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    turn = left * signs @ right
    scale = (values * signs).sum() / points_N2.var(axis=0).sum()
    return np.hstack([scale * turn, (goal - scale * turn @ mean)[:, None]])


def has_two_norms(state: Mapping[str, Any]) -> bool:
    """Which release a file is: where the first convolution of a unit is normalised, that norm has a running mean."""
    return "body.0.res_layer.2.running_mean" in state


def open_curricularface(entry: Entry, device: str) -> CurricularFace:
    """The source is OpenS2V's hub repository, or the file. Faces are found by InsightFace's antelopev2, as OpenS2V's issues say."""
    from anyref.perception.catalogue import entry_for
    from anyref.perception.faces import open_insightface

    state = torch.load(weights_file(entry, FILE), map_location="cpu", weights_only=True)
    network = CurricularFaceNetwork(twice=has_two_norms(state))
    network.load_state_dict(state)
    finder = open_insightface(entry_for("face-analyser", "insightface-antelopev2"), device)
    return CurricularFace(finder, network.to(device), card(entry))

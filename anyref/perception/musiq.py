"""MUSIQ (SPAQ): how good a single frame looks, 0 to 100; VBench's and Kaleido's imaging quality.

Through pyiqa, which has the same weights as VBench. Needs `pip install 'pyiqa>=0.1.16'`, which is PolyForm-Noncommercial.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from anyref.perception import Model, ModelCard, Picture
from anyref.perception.models import Entry
from anyref.perception.preparation import card, check, to_tensor

LONGER_SIDE = 512


@runtime_checkable
class ImagingQualityPredictor(Model, Protocol):
    """Rates noise, blur and exposure of single pictures."""

    def rate(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """[len(pictures)], 0 to 100."""


class Musiq:
    """`metric` takes RGB [1, 3, Y, X] in [0, 1] and gives one number."""

    def __init__(self, metric: Any, card: ModelCard) -> None:
        self._metric = metric
        self.card = card

    @torch.no_grad()
    def rate(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """See `ImagingQualityPredictor`."""
        check(pictures)
        return np.array([float(self._metric(within(picture))) for picture in pictures], dtype=np.float32)


def within(picture_YX3: Picture) -> Tensor:
    """VBench's preparation: the longer side at most 512, bilinear and not smoothed; [1, 3, Y, X] in [0, 1]."""
    height, width = picture_YX3.shape[:2]
    pixels = to_tensor(picture_YX3)
    if max(height, width) > LONGER_SIDE:
        scale = LONGER_SIDE / max(height, width)
        size = (max(1, int(scale * height)), max(1, int(scale * width)))
        pixels = functional.interpolate(pixels, size, mode="bilinear", align_corners=False).round()
    return pixels / 255


def open_musiq(entry: Entry, device: str) -> Musiq:
    """Fetches the weights from pyiqa's release when opened first."""
    import pyiqa  # type: ignore[import-not-found, unused-ignore]

    return Musiq(pyiqa.create_metric(entry.source, device=device), card(entry))

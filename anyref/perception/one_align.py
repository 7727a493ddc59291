"""OneAlign (Q-Align): how good a few frames look as a video; OpenS2V v1.1 and MAGREF count jumps of it as artefacts.

Through pyiqa, whose port runs beside transformers 5; the model's own remote code does not. Needs `pip install 'pyiqa>=0.1.16'`, which is
PolyForm-Noncommercial.
"""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from anyref.perception import Model, ModelCard, Picture
from anyref.perception.models import Entry
from anyref.perception.preparation import card, pil

_LOWEST, _HIGHEST = 1.0, 5.0


@runtime_checkable
class VideoQualityPredictor(Model, Protocol):
    """Rates short runs of frames."""

    def rate_windows(self, windows: Sequence[Sequence[Picture]]) -> NDArray[np.float32]:
        """[len(windows)], 0 (bad) to 1 (excellent)."""


class OneAlign:
    """`scorer` is the inner model of pyiqa's Q-Align. It pads frames to squares with CLIP's mean colour itself."""

    def __init__(self, scorer: Any, card: ModelCard) -> None:
        self._scorer = scorer
        self.card = card

    def rate_windows(self, windows: Sequence[Sequence[Picture]]) -> NDArray[np.float32]:
        """See `VideoQualityPredictor`: one forward a window; the five words weigh 5 to 1 there, 1 to 0 here."""
        scores = np.zeros(len(windows), dtype=np.float32)
        for number, window in enumerate(windows):
            if not window:
                raise ValueError(f"window {number} has no frames; give at least one")
            score = float(self._scorer.score(images=[pil(window)], task_="quality", input_="video"))
            scores[number] = (score - _LOWEST) / (_HIGHEST - _LOWEST)
        return scores


def open_one_align(entry: Entry, device: str) -> OneAlign:
    """Fetches 16 GB when opened first."""
    import pyiqa  # type: ignore[import-not-found, unused-ignore]

    metric = pyiqa.create_metric("qalign", device=device)
    return OneAlign(metric.net.model, card(entry))

"""OneAlign and MUSIQ behind their protocols: scales and preparation."""

from typing import Any

import numpy as np
import pytest
import torch
from tiny_perception import CARD, picture

from anyref.perception.musiq import ImagingQualityPredictor, Musiq, within
from anyref.perception.one_align import OneAlign, VideoQualityPredictor


class Scorer:
    """Rates a run of frames by how many there are."""

    def score(self, images: list[list[Any]], task_: str, input_: str) -> torch.Tensor:
        assert task_ == "quality" and input_ == "video" and len(images) == 1
        return torch.tensor([float(len(images[0]))])


def test_five_words_become_zero_to_one() -> None:
    rater = OneAlign(Scorer(), CARD)
    assert isinstance(rater, VideoQualityPredictor)
    frames = [picture(8, 8)] * 5
    assert rater.rate_windows([frames[:1], frames[:3], frames]) == pytest.approx([0, 0.5, 1])
    with pytest.raises(ValueError, match="no frames"):
        rater.rate_windows([[]])


def test_musiq_sees_at_most_512_and_says_0_to_100() -> None:
    sizes = []

    def metric(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(tuple(pixels.shape))
        assert pixels.min() >= 0 and pixels.max() <= 1
        return pixels.mean() * 100

    rater = Musiq(metric, CARD)
    assert isinstance(rater, ImagingQualityPredictor)
    ratings = rater.rate([np.full((480, 832, 3), 51, np.uint8), np.full((100, 90, 3), 255, np.uint8)])
    assert ratings == pytest.approx([20, 100])
    assert sizes == [(1, 3, 295, 512), (1, 3, 100, 90)]
    assert within(picture(1024, 600)).shape == (1, 3, 512, 300)

"""Preparation equals what is written down about torchvision and VBench."""

import numpy as np
import pytest
import torch
from tiny_perception import picture

from anyref.perception.preparation import (
    CLIP,
    centre,
    check,
    normalise,
    shorter_side,
    square,
    unit,
    vbench_square,
)


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 832), (224, 388)), ((833, 480), (388, 224)), ((224, 224), (224, 224))]
)
def test_the_shorter_side_is_exact_and_the_longer_truncated(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    # 224 * 832 / 480 = 388.27, 224 * 833 / 480 = 388.73: torchvision truncates both.
    resized = shorter_side(picture(*size), 224, "bilinear", smooth=False)
    assert tuple(resized.shape) == (1, 3, *expected)
    assert torch.equal(resized, resized.round()) and resized.min() >= 0 and resized.max() <= 255


def test_without_smoothing_a_shrunk_picture_keeps_single_pixels() -> None:
    stripes = np.zeros((8, 8, 3), dtype=np.uint8)
    stripes[:, 1::2] = 200
    # Halving without smoothing averages the two middle pixels; with it, all four: the same here. At a quarter they part.
    plain = shorter_side(stripes, 2, "bilinear", smooth=False)
    assert torch.equal(plain, torch.full_like(plain, 100.0))
    single = np.zeros((8, 8, 3), dtype=np.uint8)
    single[0, 0] = 255
    assert shorter_side(single, 2, "bilinear", smooth=False).max() == 0  # never looked at
    assert shorter_side(single, 2, "bilinear", smooth=True).max() > 0


def test_centre_and_colours() -> None:
    pixels = torch.arange(5 * 7, dtype=torch.float32).view(1, 1, 5, 7).expand(1, 3, 5, 7)
    assert centre(pixels, 3)[0, 0, 0].tolist() == [9, 10, 11]
    grey = normalise(torch.full((1, 3, 1, 1), 255.0), CLIP)
    assert grey.flatten().tolist() == pytest.approx([1.9303, 2.0749, 2.1459], abs=1e-4)
    assert vbench_square(picture(40, 70), 32).shape == (1, 3, 32, 32)
    assert square(picture(40, 70), 16, CLIP).shape == (1, 3, 16, 16)


def test_vectors_have_length_one() -> None:
    assert np.linalg.norm(unit(torch.randn(3, 5)), axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        check([wrong])

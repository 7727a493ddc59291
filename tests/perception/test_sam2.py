"""Boxes go in at the model's scale, masks come back at the picture's; and the real class at a tiny size."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_perception import CARD, picture, tiny_sam2

from anyref.perception import Box, Segmenter
from anyref.perception.sam2 import Sam2


class FillsBoxes:
    """A model whose mask is its box, at a quarter of its size."""

    device, dtype = torch.device("cpu"), torch.float32
    config = SimpleNamespace(prompt_encoder_config=SimpleNamespace(image_size=128))

    def eval(self) -> "FillsBoxes":
        return self

    def __call__(
        self, pixel_values: Any, input_boxes: torch.Tensor, multimask_output: bool
    ) -> SimpleNamespace:
        assert pixel_values.shape == (1, 3, 128, 128) and not multimask_output
        masks = torch.full((1, input_boxes.shape[1], 1, 32, 32), -1.0)
        for number, (left, top, right, bottom) in enumerate(input_boxes[0].tolist()):
            masks[0, number, 0, round(top / 4) : round(bottom / 4), round(left / 4) : round(right / 4)] = 1.0
        return SimpleNamespace(pred_masks=masks)


def test_masks_lie_where_the_boxes_do() -> None:
    masks = Sam2(FillsBoxes(), CARD).segment(picture(64, 256), [Box(16, 64, 48, 128), Box(0, 0, 64, 256)])
    assert masks.shape == (2, 64, 256) and masks.dtype == np.bool_
    expected = np.zeros((64, 256), dtype=bool)
    expected[16:48, 64:128] = True
    assert (masks[0] != expected).mean() < 0.02 and masks[1].all()


def test_no_boxes_no_masks_and_a_box_needs_an_area() -> None:
    assert Sam2(FillsBoxes(), CARD).segment(picture(8, 9), []).shape == (0, 8, 9)
    with pytest.raises(ValueError, match="no area"):
        Sam2(FillsBoxes(), CARD).segment(picture(8, 9), [Box(4, 4, 4, 8)])


def test_the_real_class_at_a_tiny_size() -> None:
    ours = Sam2(tiny_sam2(), CARD)
    assert isinstance(ours, Segmenter)
    boxes = [Box(5, 5, 40, 60), Box(10, 0, 50, 30)]
    both = ours.segment(picture(60, 100), boxes)
    assert both.shape == (2, 60, 100)
    # A box's mask does not depend on its company.
    assert np.array_equal(ours.segment(picture(60, 100), boxes[1:])[0], both[1])

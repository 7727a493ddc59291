"""DINO keeps proportions, DINOv2 crops; both give the class token at length 1."""

import numpy as np
import pytest
import torch
from tiny_perception import CARD, picture
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from anyref.perception import ImageEncoder
from anyref.perception.dino import Dino, as_vbench, with_processor

SHAPE = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_dino_sees_the_whole_frame() -> None:
    torch.manual_seed(0)
    ours = Dino(
        ViTModel(ViTConfig(image_size=224, patch_size=32, **SHAPE), add_pooling_layer=False),
        as_vbench,
        CARD,
        interpolate=True,
    )
    assert isinstance(ours, ImageEncoder)
    wide = picture(120, 300, 1)
    changed = wide.copy()
    changed[:, :40] = 0  # a crop to the centre would not see this
    vectors = ours.encode([wide, changed, wide])
    assert vectors.shape == (3, 32) and np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert np.array_equal(vectors[0], vectors[2]) and vectors[0] @ vectors[1] < 0.9999
    assert as_vbench(wide).shape == (1, 3, 224, 560)


def test_dinov2_with_its_own_processor() -> None:
    torch.manual_seed(0)
    processor = BitImageProcessorPil(
        size={"shortest_edge": 48}, crop_size={"height": 42, "width": 42}, do_center_crop=True, do_resize=True
    )
    model = Dinov2Model(Dinov2Config(image_size=42, patch_size=14, **SHAPE)).eval()
    ours = Dino(model, with_processor(processor), CARD)
    one = picture(60, 90, 3)
    expected = model(with_processor(processor)(one)).last_hidden_state[0, 0].detach()
    assert ours.encode([one])[0] == pytest.approx((expected / expected.norm()).numpy(), abs=1e-5)
    assert ours.encode([]).shape == (0, 32)

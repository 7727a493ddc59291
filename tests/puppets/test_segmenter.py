"""The embedded segmenter: its examples are right, it learns, resumes, and comes back from its folder."""

from pathlib import Path

import numpy as np
import torch

from anyref.matting import Segmenter, to_pixels
from anyref.puppets import segmenter
from anyref.training.loop import FitConfig
from anyref.worlds import PuppetWorld


def test_examples_show_a_subject_and_where_it_is() -> None:
    world = PuppetWorld("train", seed=0, num_frames=1)
    shares = []
    for index in range(24):
        picture, mask = segmenter.example(world, index, np.random.default_rng(index))
        assert picture.dtype == np.uint8
        assert picture.shape == (*mask.shape, 3)
        assert mask.dtype == bool
        shares.append(mask.mean())
        inside, outside = picture[mask].astype(float), picture[~mask].astype(float)
        assert np.abs(inside.mean(axis=0) - outside.mean(axis=0)).max() > 3
    assert min(shares) > 0.02
    assert max(shares) < 0.95
    again, mask = segmenter.example(world, 3, np.random.default_rng(3))
    first, first_mask = segmenter.example(world, 3, np.random.default_rng(3))
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(mask, first_mask)


def test_labels_lie_on_the_pixels() -> None:
    world = PuppetWorld("train", seed=0, num_frames=1)
    pixels, labels = segmenter.batch(world, range(2), seed=5)
    assert pixels.shape == (2, 3, segmenter.SIZE, segmenter.SIZE)
    picture, mask = segmenter.example(world, 1, np.random.default_rng((5, 1)))
    assert torch.equal(pixels[1:], to_pixels(picture, segmenter.SIZE))
    assert set(labels.unique().tolist()) == {0, 1}
    assert abs(labels[1].float().mean().item() - mask.mean()) < 0.02


def test_two_steps_train_and_save(tmp_path: Path) -> None:
    before = segmenter.build().state_dict()
    model = segmenter.train(FitConfig(tmp_path / "run", num_steps=2, ema_decay=0.5), batch_size=2)
    assert not model.training
    assert sum(parameter.numel() for parameter in model.parameters()) < 500_000
    norm = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert norm.num_batches_tracked == 8, "calibrated on the averaged weights"
    assert norm.running_mean is not None
    assert before.keys() == model.state_dict().keys()
    segmenter.save(model, tmp_path / "matter")
    loaded = segmenter.load(tmp_path / "matter")
    assert isinstance(loaded, Segmenter)
    parameter = next(loaded.model.parameters())
    assert parameter.dtype == torch.float32
    torch.testing.assert_close(parameter, next(model.parameters()), rtol=1e-2, atol=1e-2)
    assert next(model.parameters()).dtype == torch.float32, "saving rounds a copy"
    score = segmenter.mean_iou(loaded, PuppetWorld("validation", seed=0, num_frames=1), 2)
    assert 0 <= score <= 1

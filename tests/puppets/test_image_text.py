"""The image-text encoder: pairs say what they show, equal sentences share their target, it learns, and comes back from its folder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anyref.puppets import image_text
from anyref.puppets.image_text import SORTS, Pair
from anyref.puppets.models import WEIGHTS
from anyref.training.loop import FitConfig
from anyref.worlds import PuppetWorld

TRAINED = WEIGHTS / "shared" / "image_text"


def test_pairs_are_a_frame_and_a_subject_of_one_clip() -> None:
    world = PuppetWorld("train", seed=5)
    sorts = set()
    for index in range(24):
        whole = PuppetWorld("train", seed=5, num_frames=5).clip(index)
        first, second = image_text.pairs(world, index, np.random.default_rng(index))
        sorts |= {first.sort, second.sort}
        assert first.picture.shape == (64, 96, 3)
        assert second.picture.dtype == np.uint8
        if first.sort == "caption":
            assert first.text == whole.caption
        if second.sort == "class":
            words = second.text.replace("picture", "sticker")
            assert any(subject.label in words for subject in whole.subjects)
        again = image_text.pairs(world, index, np.random.default_rng(index))
        np.testing.assert_array_equal(again[1].picture, second.picture)
    assert sorts == set(SORTS)


def test_equal_sentences_are_equally_right_and_sorts_are_not_mixed() -> None:
    nothing = np.zeros((2, 2, 3), np.uint8)
    drawn = [
        Pair(nothing, text, sort)
        for text, sort in (("a", "class"), ("b", "class"), ("a", "class"), ("a", "place"), ("c", "place"))
    ]
    same = torch.tensor([[one.text == other.text for other in drawn] for one in drawn]).float()
    perfect, right = image_text.contrast(50 * same, drawn)
    # Two pictures of "a" share their target, so the best loss is its entropy.
    assert abs(float(perfect) - (2 / 5) * np.log(2)) < 1e-3
    assert right == {"class": 1.0, "place": 1.0}
    wrong, right = image_text.contrast(-50 * same, drawn)
    assert float(wrong) > 10
    assert right["class"] < 0.5


def test_three_steps_train_save_and_measure(tmp_path: Path) -> None:
    towers = image_text.train(FitConfig(tmp_path / "run", num_steps=2, ema_decay=0.5), batch_size=4)
    assert sum(parameter.numel() for parameter in towers.model.parameters()) < 1_000_000
    image_text.save(towers, tmp_path / "towers")
    assert sum(file.stat().st_size for file in (tmp_path / "towers").iterdir()) < 2_000_000
    loaded = image_text.load(tmp_path / "towers")
    texts = ["a dog on the left jumps.", "a cat"]
    torch.testing.assert_close(
        torch.from_numpy(loaded.encode_texts(texts)),
        torch.from_numpy(towers.encode_texts(texts)),
        rtol=0,
        atol=0.02,
    )
    pictures = [np.full((5, 7, 3), 9, np.uint8), np.zeros((90, 20, 3), np.uint8)]
    vectors = loaded.encode_pictures(pictures)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(loaded.encode_texts(texts[1:]), loaded.encode_texts(texts)[1:], atol=1e-5)
    assert loaded.encode_texts(["word " * 500]).shape == (1, 128)
    scores = image_text.measure(loaded, PuppetWorld("validation", seed=0), 9)
    assert set(scores) == {"caption", "frame", "video", "class", "setting", "time"}


@pytest.mark.skipif(not TRAINED.exists(), reason="the image-text encoder is not trained yet")
def test_the_shipped_encoder_retrieves_captions_and_classes_of_test_identities() -> None:
    scores = image_text.measure(image_text.load(TRAINED), PuppetWorld("test", seed=0), 120)
    assert scores["caption"] >= 0.95
    assert scores["setting"] >= 0.95
    assert scores["class"] >= 0.3, "of 29; ten times chance, and far from good (docs/log.md)"

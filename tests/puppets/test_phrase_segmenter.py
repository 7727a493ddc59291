"""The text-prompted segmenter: things are told apart, boxes and phrases are answered at any size, it learns, and comes back from its folder."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from anyref.puppets import phrase_network, phrase_search, phrase_segmenter, phrases
from anyref.puppets.models import WEIGHTS
from anyref.puppets.phrase_network import PhraseSegmenter
from anyref.puppets.phrases import Question, Shown, Thing
from anyref.training.loop import FitConfig
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import LABELS

TRAINED = WEIGHTS / "shared" / "phrase_segmenter"


class _Painted(PhraseSegmenter):
    """Finds red where it is asked for "dog", blue for "cat", and whatever is not black for "this"; cores are without two pixels of border."""

    def forward(self, pictures: Tensor, numbers: Tensor) -> Tensor:
        words = [[self.vocabulary.words[number - 1] for number in row if number] for row in numbers.tolist()]
        maps = []
        for row in words:
            mask = pictures[0].amax(dim=0) > 0.5
            if "dog" in row:
                mask = pictures[0, 0] > 0.5
            elif "cat" in row:
                mask = pictures[0, 2] > 0.5
            core = phrase_segmenter.target_of(Question("", (mask.numpy(),)))[1]
            maps.append(torch.stack([mask, torch.from_numpy(core)]).float() * 20 - 10)
        return torch.stack(maps)


@pytest.fixture(scope="module")
def painted() -> PhraseSegmenter:
    return _Painted(phrase_network.build().vocabulary.words)


def _picture() -> NDArray[np.uint8]:
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[10:30, 10:30, 0] = 255
    picture[20:30, 60:90, 0] = 255
    picture[40:60, 40:60, 2] = 255
    return picture


def test_words_are_read_as_far_as_they_are_known() -> None:
    vocabulary = phrase_network.build().vocabulary
    assert vocabulary.read("Two DOGS, on the left!") == ["dog", "on", "the", "left"]
    assert vocabulary.read("a zeppelin") == ["a"]
    assert vocabulary.numbers(["", "a dog"]).tolist()[0] == [0, 0]


def test_things_are_found_apart_best_first_and_unknown_things_not_at_all(painted: PhraseSegmenter) -> None:
    found = phrase_search.find(painted, _picture(), ["a dog", "the cats", "a zeppelin", "on the left"])
    assert [len(each) for each in found] == [2, 1, 0, 0]
    boxes = sorted(phrases.box_of(thing.mask_YX) for thing in found[0])
    assert boxes == [(10, 10, 30, 30), (20, 60, 30, 90)]
    assert found[0][0].score >= found[0][1].score > 0.99


def test_things_that_touch_are_told_apart_by_their_cores(painted: PhraseSegmenter) -> None:
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[10:40, 10:40, 0] = 255
    picture[24:27, 40:46, 0] = 255  # a bridge without a core
    picture[10:40, 46:76, 0] = 255
    found = phrase_search.find(painted, picture, ["dog"])[0]
    assert len(found) == 2
    union = found[0].mask_YX | found[1].mask_YX
    np.testing.assert_array_equal(union, picture[..., 0] > 0)
    assert not (found[0].mask_YX & found[1].mask_YX).any()


def test_a_small_piece_on_a_thin_stalk_is_the_larger_things(painted: PhraseSegmenter) -> None:
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[6:36, 30:60, 0] = 255
    picture[36:42, 44:46, 0] = 255  # a stalk without a core
    picture[42:52, 36:54, 0] = 255
    (whole,) = phrase_search.find(painted, picture, ["dog"])[0]
    np.testing.assert_array_equal(whole.mask_YX, picture[..., 0] > 0)
    picture[36:42] = 0
    assert len(phrase_search.find(painted, picture, ["dog"])[0]) == 2  # what does not touch it is another's


@pytest.mark.parametrize("size", [(64, 96), (128, 192), (37, 50), (200, 60)])
def test_masks_have_the_size_of_the_picture(painted: PhraseSegmenter, size: tuple[int, int]) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    rows, columns = slice(size[0] // 4, size[0] // 2), slice(size[1] // 4, size[1] // 2)
    picture[rows, columns, 0] = 255
    truth = picture[..., 0] > 0
    found = phrase_search.find(painted, picture, ["dog"])[0]
    assert phrase_search.iou(found[0].mask_YX, truth) > 0.75
    box = tuple(float(side) for side in phrases.box_of(truth))
    masks = phrase_search.cut(painted, picture, [box, (0.0, 0.0, 2.0, 2.0)])  # type: ignore[list-item]
    assert masks.shape == (2, *size)
    assert phrase_search.iou(masks[0], truth) > 0.75
    assert not masks[1].any()


def test_components_are_counted_with_four_neighbours() -> None:
    mask = np.zeros((6, 9), bool)
    mask[0:3, 0] = mask[2, 0:4] = mask[0:3, 3] = True  # a U
    mask[3, 4] = True  # touches its corner only
    mask[5, 6:9] = True
    numbered, count = phrase_search.components(mask)
    assert count == 3
    assert numbered[0, 0] == numbered[0, 3] != numbered[3, 4]
    assert (numbered > 0).sum() == mask.sum()
    assert phrase_search.components(np.zeros((4, 4), bool))[1] == 0


def test_targets_are_unions_and_cores_lie_inside() -> None:
    first, second = np.zeros((2, 64, 96), bool)
    first[10:30, 10:30] = True
    second[10:30, 30:50] = True
    named, core = phrase_segmenter.target_of(Question("dog", (first, second)))
    np.testing.assert_array_equal(named, first | second)
    assert not core[:, 29:31].any(), "the cores are apart where the things touch"
    assert not (core & ~named).any()
    assert not phrase_segmenter.target_of(Question("cat", ())).any()


def test_classes_and_sides_lie_where_their_subjects_are() -> None:
    masks = np.zeros((2, 32, 48), bool)
    masks[0, 8:16, 12:24] = True
    masks[1, 20:28, 30:40] = True
    cat, dog, head = Thing("cat", masks[0]), Thing("dog", masks[1]), Thing("head", ~masks[0], whole=False)
    classes, sides = phrase_segmenter.cells_of(Shown(np.zeros((32, 48, 3), np.uint8), (dog, cat, head)))
    assert classes.shape == sides.shape == (16, 24)
    assert (classes[4:8, 6:12] == 1 + LABELS.index("cat")).all()
    assert (sides[4:8, 6:12] == 1).all()
    assert (sides[10:14, 15:20] == 3).all(), "of two, the right one is on the right and none in the middle"
    assert (classes > 0).sum() == 24 + 20
    alone = phrase_segmenter.cells_of(Shown(np.zeros((32, 48, 3), np.uint8), (cat, head)))[1]
    assert set(alone.ravel().tolist()) == {0, -100}
    model = phrase_network.build()
    logits = model.classify(model.see(torch.zeros(1, 3, 64, 96)))
    assert [tuple(one.shape) for one in logits] == [(1, 1 + len(LABELS), 16, 24), (1, 4, 16, 24)]


def test_three_steps_train_save_and_measure(tmp_path: Path) -> None:
    model = phrase_segmenter.train(FitConfig(tmp_path / "run", num_steps=3, ema_decay=0.5), batch_size=2)
    assert not model.training
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
    phrase_network.save(model, tmp_path / "segmenter")
    assert sum(file.stat().st_size for file in (tmp_path / "segmenter").iterdir()) < 2_000_000
    loaded = phrase_network.load(tmp_path / "segmenter")
    torch.testing.assert_close(loaded.stem.weight, model.stem.weight, rtol=1e-2, atol=1e-2)
    scores = phrase_search.measure(loaded, PuppetWorld("validation", seed=0), 2)
    assert all(0 <= value <= 1 for value in scores.values())
    assert {"mask_iou", "box_mask_iou", "recall"} <= set(scores)


def test_the_loss_falls_on_one_batch() -> None:
    torch.manual_seed(0)
    model = phrase_network.build()
    drawn = phrase_segmenter.batch(PuppetWorld("train", seed=0), range(1), seed=0)
    numbers = model.vocabulary.numbers(drawn.phrases)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    losses = []
    for _ in range(8):
        value, _ = phrase_segmenter.loss_of(model(drawn.pictures, numbers), drawn.maps)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.skipif(not TRAINED.exists(), reason="the phrase segmenter is not trained yet")
def test_the_shipped_segmenter_finds_test_identities() -> None:
    scores = phrase_search.measure(phrase_network.load(TRAINED), PuppetWorld("test", seed=0), 40)
    assert scores["mask_iou"] >= 0.8
    assert scores["box_mask_iou"] >= 0.8

"""Phrases and what they mean in a picture: right masks, sides of the picture at hand, nothing for what is not there."""

from random import Random

import numpy as np
import pytest

from anyref.puppets import phrases
from anyref.puppets.phrases import Shown, Thing
from anyref.worlds import PuppetWorld
from anyref.worlds.actions import pose_at
from anyref.worlds.identities import LABELS, PEOPLE
from anyref.worlds.scene import Wishes, draw_scene


def _two(left: str, right: str) -> Shown:
    picture = np.zeros((32, 48, 3), np.uint8)
    masks = np.zeros((2, 32, 48), bool)
    masks[0, 8:24, 4:16] = True
    masks[1, 8:24, 30:44] = True
    return Shown(picture, (Thing(right, masks[1], ("red",)), Thing(left, masks[0], ("blue",))))


def _asked(shown: Shown, count: int = 400) -> dict[str, tuple[np.ndarray, ...]]:
    asked = phrases.questions(shown, count, np.random.default_rng(0))
    return {question.phrase: question.answers for question in asked}


def test_whole_frames_are_those_of_the_clips() -> None:
    world = PuppetWorld("train", seed=3, num_frames=5)
    for index in range(4):
        sample = world.clip(index)
        scene = draw_scene(Random(f"train/3/{index}"), "train", world.width / world.height, Wishes())
        for number in (0, 4):
            shown = phrases.frame_of(scene, world.height, world.width, number)
            np.testing.assert_array_equal(shown.picture_YX3, sample.frames_FYX3[number])
            wholes = [thing for thing in shown.things if thing.whole]
            seen = [
                one for one in sample.subjects if one.label in LABELS and one.masks_FYX[number].sum() >= 10
            ]
            assert [thing.label for thing in wholes] == [one.label for one in seen]
            for thing, subject in zip(wholes, seen, strict=True):
                np.testing.assert_array_equal(thing.seen_YX, subject.masks_FYX[number])


def test_a_phrase_with_a_side_means_the_thing_on_that_side() -> None:
    shown = _two("dog", "cat")
    asked = _asked(shown)
    for phrase, answers in asked.items():
        if phrase.endswith("dog on the left"):
            np.testing.assert_array_equal(answers[0], shown.things[1].seen_YX)
        if phrase.endswith("cat on the left"):
            assert answers == ()
    assert {"dog on the left", "cat on the left"} <= set(asked)


def test_a_class_means_all_its_things_and_a_colour_only_some() -> None:
    asked = _asked(_two("dog", "dog"))
    assert len(asked["dog"]) == 2
    assert len(asked["red dog"]) == 1
    assert len(asked["the animal"]) == 2
    absent = [answers for phrase, answers in asked.items() if "cat" in phrase or "green dog" in phrase]
    assert absent
    assert not any(absent)


def test_a_head_lies_at_the_top_of_who_stands_and_hats_on_it() -> None:
    checked = 0
    for index in range(40):
        scene = draw_scene(Random(f"test/0/{index}"), "test", 1.5, Wishes(labels=PEOPLE, actions=("stand",)))
        actor = scene.actors[0]
        shown = phrases.frame_of(scene, 64, 96, 0)
        if len(scene.actors) > 1 or not {"head", "hat"} <= {thing.label for thing in shown.things}:
            continue
        person, head, hat = (
            next(thing for thing in shown.things if thing.label == label)
            for label in (actor.look.label, "head", "hat")
        )
        assert not (head.seen_YX & ~person.seen_YX).any()
        assert not (head.seen_YX & hat.seen_YX).any()
        rows = [phrases.box_of(thing.seen_YX) for thing in (hat, head, person)]
        assert rows[0][0] < rows[1][0] < rows[1][2] < (rows[2][0] + rows[2][2]) * 0.6
        np.testing.assert_array_equal(
            phrases.part_mask(actor.look, pose_at(actor.motion, 0.0), person.seen_YX, "head"), head.seen_YX
        )
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize("index", range(6))
def test_pictures_are_reproducible_and_masks_have_their_size(index: int) -> None:
    world = PuppetWorld("train", seed=1)
    shown = phrases.show(world, index, np.random.default_rng(index))
    again = phrases.show(world, index, np.random.default_rng(index))
    np.testing.assert_array_equal(shown.picture_YX3, again.picture_YX3)
    for thing in shown.things:
        assert thing.seen_YX.shape == shown.picture_YX3.shape[:2]
        assert thing.seen_YX.sum() >= 10


def test_a_piece_is_cut_around_its_thing() -> None:
    shown = _two("dog", "cat")
    piece = phrases.cut_around(shown, 0, 0.1)
    assert piece.around == 0
    assert [thing.label for thing in piece.things] == ["cat"], "the dog is outside"
    assert piece.things[0].seen_YX.sum() == shown.things[0].seen_YX.sum()
    assert phrases.questions(piece, 1, np.random.default_rng(0))[0].phrase == phrases.SUBJECT
    assert phrases.window_around((0.0, 0.0, 32.0, 48.0), (32, 48), 0.5) == (slice(0, 32), slice(0, 48))

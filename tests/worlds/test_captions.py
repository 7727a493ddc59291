"""Captions: phrases, sides, words."""

import re
from random import Random

import numpy as np

from anyref.worlds import LABELS, PuppetWorld, unknown_words, vocabulary
from anyref.worlds.captions import write_caption
from anyref.worlds.identities import COLOURS, SPLITS
from anyref.worlds.scene import Wishes, draw_scene


def test_phrases_occur_once_and_words_are_known() -> None:
    words = set(vocabulary())
    coloured = 0
    for index in range(3000):
        rng = Random(index)
        scene = draw_scene(rng, SPLITS[index % 3], 1.5, Wishes())
        caption = write_caption(rng, scene)
        phrases = [*caption.phrases, caption.setting, *([caption.garment] if caption.garment else [])]
        assert len(caption.phrases) == len(scene.actors)
        for phrase in phrases:
            assert len(re.findall(rf"\b{re.escape(phrase)}\b", caption.text)) == 1, (phrase, caption.text)
            assert caption.text.count(phrase) == 1
        assert re.fullmatch(r"[a-z ,.]+", caption.text)
        assert caption.text.endswith(".")
        spoken = re.findall(r"[a-z]+", caption.text)
        assert set(spoken) <= words
        coloured += any(word in COLOURS for word in spoken)
        for actor, phrase in zip(scene.actors, caption.phrases, strict=True):
            assert actor.look.label in phrase or "picture" in phrase
    assert 0.08 < coloured / 3000 < 0.18


def test_sides_are_those_of_the_first_frame() -> None:
    world = PuppetWorld(seed=4)
    for index in range(40):
        sample = world.clip(index, num_subjects=2 + index % 2)
        moving = [subject for subject in sample.subjects if subject.kind not in ("background", "clothing")]
        centres = [np.nonzero(subject.masks_FYX[0])[1].mean() for subject in moving]
        order = [moving[i].phrase for i in np.argsort(centres)]
        sides = ["left", "right"] if len(moving) == 2 else ["left", "middle", "right"]
        for phrase, side in zip(order, sides, strict=True):
            assert phrase.endswith(side), sample.caption


def test_vocabulary_is_small_sorted_and_has_every_label() -> None:
    words = vocabulary()
    assert len(words) <= 350
    assert list(words) == sorted(set(words))
    assert set(LABELS) <= set(words)


def test_unknown_words() -> None:
    assert unknown_words("A dog jumps on the beach.") == ()
    assert unknown_words("a dragon jumps, quickly") == ("dragon", "quickly")

"""Looks and their splits."""

from dataclasses import fields
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

import anyref.worlds
from anyref.worlds import LABELS, SETTINGS
from anyref.worlds.identities import (
    SPLITS,
    Creature,
    Sticker,
    draw_look,
    draw_lookalike,
    kind_of,
    look_of,
    split_of,
)
from anyref.worlds.photographs import PHOTOGRAPHS
from anyref.worlds.scene import Wishes, draw_scene

FOLDER = Path(anyref.worlds.__file__).parent / "photographs"


def test_splits_share_no_identity_and_no_photograph() -> None:
    identities: dict[str, set[str]] = {}
    photographs: dict[str, set[str]] = {}
    for split in SPLITS:
        looks = []
        for index in range(800):
            scene = draw_scene(Random(index), split, 1.5, Wishes())
            looks += [actor.look for actor in scene.actors] + [scene.setting]
        looks += [draw_look(Random(i), label, split) for i in range(100) for label in ("hat", "shirt")]
        assert all(split_of(look) == split for look in looks)
        identities[split] = {look.identity for look in looks}
        photographs[split] = {look.photograph for look in looks if isinstance(look, Sticker)}
        assert {look.label for look in looks} >= {*LABELS, *SETTINGS}
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not identities[first] & identities[second]
        assert not photographs[first] & photographs[second]


@pytest.mark.parametrize("label", [*LABELS, *SETTINGS, "hat", "shirt"])
def test_identity_names_the_look(label: str) -> None:
    rng = Random(label)
    looks = [draw_look(rng, label, "train") for _ in range(30)]
    for look in looks:
        assert look_of(look.identity) == look
    assert len({look.identity for look in looks}) > 5
    assert kind_of(label) in ("person", "animal", "object", "background", "clothing")


def test_unknown_identity() -> None:
    with pytest.raises(ValueError, match="identity"):
        look_of("unicorn/red/blue/spots")


def test_every_photograph_is_there_small_and_licensed() -> None:
    licences = (FOLDER / "LICENCES.md").read_text()
    files = sorted(FOLDER.glob("*.jpg"))
    assert [file.stem for file in files] == sorted(PHOTOGRAPHS)
    assert sum(file.stat().st_size for file in files) < 600_000
    for file in files:
        line = next(line for line in licences.splitlines() if f"| {file.name} |" in line)
        assert f"| {PHOTOGRAPHS[file.stem]} |" in line
        with Image.open(file) as image:
            assert max(image.size) <= 128
            assert np.asarray(image).std() > 5


@pytest.mark.parametrize("label", ["dog", "car", "woman", "boy", "sticker"])
def test_a_lookalike_is_another_of_the_split_and_shares_most_traits(label: str) -> None:
    rng = Random(3)
    labels = set()
    for split in SPLITS:
        for _ in range(40):
            own = draw_look(rng, label, split)
            other = draw_lookalike(rng, own, split)
            assert other.identity != own.identity
            assert split_of(other) == split
            assert look_of(other.identity) == other
            labels.add(other.label)
            if label in ("dog", "car"):
                assert isinstance(own, Creature)
                assert isinstance(other, Creature)
                assert len({other.main, other.second} & {own.main, own.second}) >= 1
            if label in ("woman", "boy"):
                shared = sum(getattr(own, f.name) == getattr(other, f.name) for f in fields(own))
                assert shared >= len(fields(own)) - 3
    assert (len(labels) > 3) == (label != "sticker")

"""The captioner and its reader of actions: tracks say what moves, captions say what was found, and both are measured slot by slot."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anyref.puppets import action_reader, captioning, grammar, image_text, phrase_network, phrase_search
from anyref.puppets.models import WEIGHTS
from anyref.puppets.phrase_search import Found
from anyref.training.loop import FitConfig
from anyref.training.optimizers import OptimizerConfig
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import LABELS, SETTINGS

PARTS = [WEIGHTS / "shared" / name for name in ("phrase_segmenter", "image_text", "actions")]


def test_tracks_are_in_frame_heights_and_zero_where_nothing_is() -> None:
    masks = np.zeros((2, 40, 60), bool)
    masks[1, 10:30, 20:40] = True
    track = action_reader.features(masks)
    assert not track[:, 0].any()
    np.testing.assert_allclose(track[1:6, 1], [19.5 / 40, 29.5 / 40, 19 / 40, 19 / 40, 0.5], atol=1e-6)
    larger = action_reader.features(masks.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_allclose(larger[:, 1], track[:, 1], atol=0.03)


def test_the_reader_learns_and_comes_back(tmp_path: Path) -> None:
    optimizer = OptimizerConfig(learning_rate=3e-3, schedule="constant", weight_decay=0.0)
    config = FitConfig(tmp_path / "run", num_steps=40, optimizer=optimizer, ema_decay=0.5)
    model = action_reader.train(config, batch_size=8)
    held_out = PuppetWorld("validation", seed=0)
    assert action_reader.measure(model, held_out, 60)["action"] > 0.3, "travelling alone is a quarter"
    action_reader.save(model, tmp_path / "actions")
    loaded = action_reader.load(tmp_path / "actions")
    torch.testing.assert_close(loaded.first.weight, model.first.weight, rtol=1e-2, atol=1e-2)
    assert sum(file.stat().st_size for file in (tmp_path / "actions").iterdir()) < 300_000


@dataclass
class _TruthfulTowers:
    """The vectors of the right place."""

    setting: str
    night: bool

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        wanted = image_text.place(self.setting, self.night)
        return np.array([[float(text == wanted), 1.0] for text in texts], np.float32)

    def encode_pictures(self, pictures: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.array([[1.0, 0.0]] * len(pictures), np.float32)


def test_what_is_found_is_said_from_left_to_right(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(_: Any, picture: NDArray[np.uint8], asked: list[str], **__: Any) -> list[list[Found]]:
        colours = {"cat": 100, "dog": 200}
        found = {
            label: Found(picture[..., 0] == value, 0.9)
            for label, value in colours.items()
            if (picture[..., 0] == value).any()
        }
        return [[found[label]] if label in found else [] for label in asked]

    monkeypatch.setattr(phrase_search, "find", find)
    frames = []
    for frame in range(12):
        picture = np.zeros((64, 96, 3), np.uint8)
        picture[20:40, 60:80, 0] = 100
        picture[20:40, 5 + 3 * frame : 20 + 3 * frame, 0] = 200
        frames.append(picture)
    travel = action_reader.ActionReader()
    with torch.no_grad():
        travel.head[-1].weight.zero_()
        travel.head[-1].bias.copy_(torch.eye(len(action_reader.READ))[0])
    captioner = captioning.Captioner(None, _TruthfulTowers("beach", True), travel)  # type: ignore[arg-type]
    told = captioner.describe(frames)
    assert [(seen.label, seen.action, seen.way) for seen in told.subjects] == [
        ("dog", grammar.TRAVEL, "right"),
        ("cat", grammar.TRAVEL, ""),
    ]
    assert (
        told.text
        == "the dog on the left walks to the right and the cat on the right walks on a beach at night."
    )
    with pytest.raises(ValueError, match="at least one"):
        captioner.describe([])
    assert captioner.describe(frames[:1]).subjects[0].label == "dog"


def test_two_of_a_class_keep_to_themselves() -> None:
    def thing(column: int) -> Found:
        mask = np.zeros((20, 60), bool)
        mask[5:15, column : column + 6] = True
        return Found(mask, 0.9)

    seen = [[thing(3 * frame), thing(50 - 3 * frame)] for frame in range(5)]
    masks = captioning._follow(seen, seen[0][0], [seen[0][1]])
    lefts = [int(np.flatnonzero(mask.any(axis=0))[0]) for mask in masks]
    assert lefts == [0, 3, 6, 9, 12]


@pytest.mark.slow
@pytest.mark.skipif(
    not all(part.exists() for part in PARTS), reason="the captioner's models are not trained yet"
)
def test_the_shipped_captioner_describes_test_clips() -> None:
    captioner = captioning.Captioner(
        phrase_network.load(PARTS[0]), image_text.load(PARTS[1]), action_reader.load(PARTS[2])
    )
    scores = captioning.measure(captioner, PuppetWorld("test", seed=0), 60)
    assert scores["subjects"] > 0.8
    assert scores["setting"] > 0.9
    assert len(LABELS) == 29
    assert len(SETTINGS) == 11

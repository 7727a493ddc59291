"""Both LAION heads: released names, known answers, and the trap that they are not each other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_perception import CARD, picture
from torch import nn

from anyref.perception import AestheticPredictor, ModelCard, Picture, aesthetic
from anyref.perception.aesthetic import LaionAesthetic, mlp, v2_weights
from anyref.perception.catalogue import open_model


class MeanColour:
    """768 values that sum to the mean of a picture."""

    card: ModelCard = CARD

    def encode(self, pictures: list[Picture]) -> np.ndarray:
        return np.stack([np.full(768, p.mean() / 768, np.float32) for p in pictures])


def test_the_mlp_has_the_released_names_and_shapes() -> None:
    shapes = {name: tuple(value.shape) for name, value in mlp().state_dict().items()}
    # improved-aesthetic-predictor: layers.0, .2, .4, .6, .7, with dropout between the first four and nothing else.
    assert [name for name in shapes if name.endswith("weight")] == [
        "0.weight",
        "2.weight",
        "4.weight",
        "6.weight",
        "7.weight",
    ]
    assert [shapes[f"{n}.weight"] for n in (0, 2, 4, 6, 7)] == [
        (1024, 768),
        (128, 1024),
        (64, 128),
        (16, 64),
        (1, 16),
    ]


def test_both_spellings_of_the_released_file_load() -> None:
    original, nested, flat = mlp(), mlp(), mlp()
    plain = original.state_dict()
    nested.load_state_dict(v2_weights({f"layers.{name}": value for name, value in plain.items()}))
    flat.load_state_dict(v2_weights(plain))
    vector = torch.linspace(-1, 1, 768)[None]
    for loaded in (nested, flat):
        assert torch.equal(loaded.eval()(vector), original.eval()(vector))


def test_a_linear_head_answers_as_computed_by_hand() -> None:
    head = nn.Linear(768, 1)
    nn.init.ones_(head.weight)
    nn.init.constant_(head.bias, 0.5)
    rater = LaionAesthetic(MeanColour(), head, CARD)
    assert isinstance(rater, AestheticPredictor)
    pictures = [np.full((4, 4, 3), value, np.uint8) for value in (0, 3, 6)]
    assert rater.rate(pictures) == pytest.approx([0.5, 3.5, 6.5], abs=1e-4)


def test_dropout_is_off_and_the_mlp_is_linear() -> None:
    torch.manual_seed(0)
    rater = LaionAesthetic(MeanColour(), mlp(), CARD)
    one, two, middle = (rater.rate([np.full((2, 2, 3), v, np.uint8)])[0] for v in (0, 200, 100))
    assert middle == pytest.approx((one + two) / 2, abs=1e-4)
    assert rater.rate([picture(4, 4)]) == rater.rate([picture(4, 4)])


def test_both_heads_are_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open_clip", "open_clip_vbench"):
        monkeypatch.setattr(aesthetic, name, lambda entry, device: MeanColour())
    torch.save(mlp().state_dict(), tmp_path / "v2.pth")
    torch.save(nn.Linear(768, 1).state_dict(), tmp_path / "v1.pth")
    for version in ("v1", "v2"):
        rater = open_model("aesthetic", f"laion-{version}@{tmp_path / version}.pth")
        assert isinstance(rater, AestheticPredictor) and rater.rate([picture(4, 4)]).shape == (1,)
        assert rater.card.name == f"laion-{version}" and rater.card.revision.startswith("sha256:")

"""Matting: which mask a reference gets, what is refused, and the two kinds of model behind the interface, with stand-ins for the hub."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForImageSegmentation

from anyref.matting import BiRefNet, Segmenter, given_mask, matte
from anyref.puppets import segmenter
from anyref.references import Reference, load_reference


class RedMatter:
    """Cuts out what is red."""

    def cut(self, image_YX3: NDArray[np.uint8]) -> NDArray[np.bool_]:
        assert image_YX3.shape[2] == 3
        return np.asarray((image_YX3[..., 0] > 200) & (image_YX3[..., 1] < 100))


def red_square(channels: int = 3) -> Reference:
    image = np.full((20, 30, channels), 255, np.uint8)
    image[5:15, 10:20, :3] = (250, 10, 10)
    return Reference(image, name="square")


def square() -> NDArray[np.bool_]:
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:20] = True
    return mask


def mask_of(reference: Reference, matter: Any = None) -> NDArray[np.bool_]:
    mask = matte(reference, matter).subject_mask
    assert mask is not None
    return mask


def test_the_order_is_mask_transparency_background_matter() -> None:
    plain, corner = red_square(), np.zeros((20, 30), bool)
    corner[:3, :3] = True
    np.testing.assert_array_equal(mask_of(plain, RedMatter()), square())
    assert mask_of(replace(plain, kind="background"), RedMatter()).all()
    faded = red_square(4)
    faded.image[..., 3] = 127
    faded.image[2:4, 2:9, 3] = 128
    assert np.argwhere(mask_of(faded, RedMatter())).tolist() == [[y, x] for y in (2, 3) for x in range(2, 9)]
    assert mask_of(replace(faded, kind="background")).sum() == 14, "transparency before kind"
    for reference in (plain, faded, replace(plain, kind="background")):
        np.testing.assert_array_equal(mask_of(replace(reference, subject_mask=corner), RedMatter()), corner)
    assert given_mask(red_square(4)) is None, "opaque everywhere: as without alpha"
    np.testing.assert_array_equal(mask_of(red_square(4), RedMatter()), square())


def test_what_a_file_brings_is_used() -> None:
    cut = load_reference(np.dstack([red_square().image, square() * np.uint8(255)]))
    np.testing.assert_array_equal(mask_of(cut), square())


def test_user_mistakes() -> None:
    with pytest.raises(ValueError, match="'square' is not cut out and there is no matting model"):
        matte(red_square())
    blue = Reference(np.full((20, 30, 3), 9, np.uint8), name="sea")
    with pytest.raises(ValueError, match="no subject was found in reference 'sea'"):
        matte(blue, RedMatter())
    masked = replace(red_square(), subject_mask=np.zeros((20, 30), bool))
    with pytest.raises(ValueError, match="nothing of reference 'square' belongs to its subject"):
        matte(masked, RedMatter())
    ghost = red_square(4)
    ghost.image[..., 3] = 100
    with pytest.raises(ValueError, match="nothing of reference 'square' belongs"):
        given_mask(ghost)


class FakeBiRefNet(nn.Module):
    """Logits from the red channel, half as large in its first stage than in its last."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.seen: list[Tensor] = []

    def forward(self, pixels: Tensor) -> list[Tensor]:
        self.seen.append(pixels)
        return [-pixels[:, :1, ::2, ::2], self.gain * (pixels[:, :1] - pixels[:, 1:2] - 1.5)]


def test_birefnet_is_loaded_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    network = FakeBiRefNet()

    def load(name: str, *, revision: str | None, trust_remote_code: bool) -> FakeBiRefNet:
        calls.append((name, revision, trust_remote_code))
        return network

    monkeypatch.setattr(AutoModelForImageSegmentation, "from_pretrained", load)
    matter = BiRefNet(revision="abc", image_size=64)
    assert not calls
    np.testing.assert_array_equal(mask_of(red_square(), matter), square())
    matter.cut(red_square().image)
    assert calls == [("ZhengPeng7/BiRefNet", "abc", True)], "once"
    assert network.seen[0].shape == (1, 3, 64, 64)
    white = network.seen[0][0, :, 0, 0]  # ImageNet's colours
    torch.testing.assert_close(white, torch.tensor([2.2489, 2.4286, 2.6400]), atol=1e-3, rtol=0)
    assert not network.gain.requires_grad


def test_birefnet_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ImportError("This modeling file requires timm.\nRun `pip install timm`.")

    monkeypatch.setattr(AutoModelForImageSegmentation, "from_pretrained", refuse)
    with pytest.raises(
        ValueError, match="'ZhengPeng7/BiRefNet' cannot be loaded \\(This modeling file requires timm\\)"
    ):
        matte(red_square(), BiRefNet())


class Logits(NamedTuple):
    logits: Tensor


class FakeSegmenter(nn.Module):
    """Label 1 where it is red, at a quarter of the size."""

    class config:  # noqa: N801 - the attribute of transformers' models
        image_size = 64

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.ones(()))

    def forward(self, pixel_values: Tensor) -> Logits:
        red = nn.functional.avg_pool2d(pixel_values[:, :1] - pixel_values[:, 1:2], 4)
        return Logits(torch.cat([1.5 - red, red - 1.5], dim=1))


def test_segmenter_stretches_the_labels_to_the_picture() -> None:
    found = Segmenter(FakeSegmenter()).cut(red_square().image)
    assert found.shape == (20, 30)
    assert found[7:13, 12:18].all()
    assert not found[:3].any()
    assert not found[:, :7].any()


def test_segmenter_of_a_folder_cuts_as_before(tmp_path: Path) -> None:
    made = Segmenter(segmenter.build().eval())
    made.save_pretrained(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Segmenter.from_pretrained(tmp_path).cut(picture), made.cut(picture))

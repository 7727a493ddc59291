"""Preparation equals what is written down about torchvision and VBench; weights are those that the table means."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_perception import picture

from anyref.perception.catalogue import entry_for
from anyref.perception.preparation import (
    CLIP,
    centre,
    check,
    hub_revision,
    normalise,
    shorter_side,
    square,
    unit,
    vbench_square,
    weights_file,
)


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 832), (224, 388)), ((833, 480), (388, 224)), ((224, 224), (224, 224))]
)
def test_the_shorter_side_is_exact_and_the_longer_truncated(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    # 224 * 832 / 480 = 388.27, 224 * 833 / 480 = 388.73: torchvision truncates both.
    resized = shorter_side(picture(*size), 224, "bilinear", smooth=False)
    assert tuple(resized.shape) == (1, 3, *expected)
    assert torch.equal(resized, resized.round()) and resized.min() >= 0 and resized.max() <= 255


def test_without_smoothing_a_shrunk_picture_keeps_single_pixels() -> None:
    stripes = np.zeros((8, 8, 3), dtype=np.uint8)
    stripes[:, 1::2] = 200
    # Halving without smoothing averages the two middle pixels; with it, all four: the same here. At a quarter they part.
    plain = shorter_side(stripes, 2, "bilinear", smooth=False)
    assert torch.equal(plain, torch.full_like(plain, 100.0))
    single = np.zeros((8, 8, 3), dtype=np.uint8)
    single[0, 0] = 255
    assert shorter_side(single, 2, "bilinear", smooth=False).max() == 0  # never looked at
    assert shorter_side(single, 2, "bilinear", smooth=True).max() > 0


def test_centre_and_colours() -> None:
    pixels = torch.arange(5 * 7, dtype=torch.float32).view(1, 1, 5, 7).expand(1, 3, 5, 7)
    assert centre(pixels, 3)[0, 0, 0].tolist() == [9, 10, 11]
    grey = normalise(torch.full((1, 3, 1, 1), 255.0), CLIP)
    assert grey.flatten().tolist() == pytest.approx([1.9303, 2.0749, 2.1459], abs=1e-4)
    assert vbench_square(picture(40, 70), 32).shape == (1, 3, 32, 32)
    assert square(picture(40, 70), 16, CLIP).shape == (1, 3, 16, 16)


def test_vectors_have_length_one() -> None:
    assert np.linalg.norm(unit(torch.randn(3, 5)), axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        check([wrong])


def test_a_row_that_knows_its_file_by_content_takes_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = "https://example.org/raw/main/head.pth"
    released = hashlib.sha256(b"released").hexdigest()
    entry = replace(entry_for("aesthetic", "laion-v1"), source=address, revision=f"sha256:{released}")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    fetched = {}

    def download(url: str, place: str, progress: bool) -> None:
        fetched[url] = place
        Path(place).write_bytes(b"released")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        assert weights_file(entry, "unused").read_bytes() == b"released"
    assert list(fetched) == [address]
    Path(fetched[address]).write_bytes(b"another")
    with pytest.raises(
        ValueError, match=r"not the released laion-v1 .*delete it, or name a file of your own: laion-v1@FILE"
    ):
        weights_file(entry, "unused")
    own = replace(entry, source=fetched[address], revision="")  # laion-v1@FILE
    assert weights_file(own, "unused").read_bytes() == b"another"


def test_each_of_two_repositories_has_its_revision() -> None:
    faces = entry_for("face-analyser", "yunet-sface")
    assert [hub_revision(faces, number) for number in (0, 1)] == faces.revision.split("+")
    assert hub_revision(entry_for("face-analyser", "curricularface")) is None  # known by its content
    assert hub_revision(entry_for("image-encoder", "dinov2-base@my/folder")) is None

"""The preview shows clips in a sheet and a GIF."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anyref.worlds import PuppetWorld, write_preview
from anyref.worlds.preview import clips_per_second, on_checkers


def test_write_preview(tmp_path: Path) -> None:
    world = PuppetWorld(num_frames=5)
    sheet, animation = write_preview(tmp_path / "new" / "preview.png", world, 3)
    with Image.open(sheet) as image:
        assert image.width > 6 * 96
        assert np.asarray(image).std() > 10
    with Image.open(animation) as image:
        assert image.n_frames == 5
    with pytest.raises(ValueError, match="at least 1"):
        write_preview(tmp_path / "none.png", world, 0)


def test_on_checkers_leaves_opaque_pixels() -> None:
    image = np.full((8, 8, 4), 200, np.uint8)
    image[..., 3] = 255
    assert (on_checkers(image) == 200).all()


def test_clips_per_second_is_positive() -> None:
    assert clips_per_second(PuppetWorld(num_frames=1), 3) > 0

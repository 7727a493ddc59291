"""Filling holes and drawing subjects anew: rows carry on, prompts name what the generator knows, its frame is cut around the subject."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from anyref.puppets import phrase_search, redrawing
from anyref.puppets.phrase_search import Found
from anyref.worlds import PuppetWorld


def test_a_hole_is_filled_in_a_straight_line_along_each_row() -> None:
    picture = np.zeros((6, 12, 3), np.uint8)
    picture[:] = (np.arange(12) * 20)[None, :, None]
    hole = np.zeros((6, 12), bool)
    hole[1:3, 3:9] = hole[4, 8:] = hole[5] = True
    broken = picture.copy()
    broken[hole] = 255
    filled = redrawing.fill(broken, hole)
    np.testing.assert_array_equal(filled[:4], picture[:4])
    assert (filled[4, 8:] == 140).all(), "from one side only"
    np.testing.assert_array_equal(filled[5], filled[4])
    np.testing.assert_array_equal(filled[~hole], picture[~hole])
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(redrawing.fill(picture, np.zeros((6, 12), bool)), picture)
    with pytest.raises(ValueError, match="whole picture"):
        redrawing.fill(picture, np.ones((6, 12), bool))


def test_the_world_behind_its_subjects_is_met_better_than_by_one_colour() -> None:
    world = PuppetWorld("test", seed=0, num_frames=2)
    errors = []
    for index in range(12):
        sample = world.clip(index, num_subjects=1, actions=("walk", "slide"), background_reference=False)
        first, last = sample.subjects[0].masks_FYX
        wide = np.pad(first, 4)
        hole = np.any([wide[4 + y : 68 + y, 4 + x : 100 + x] for y in (-4, 0, 4) for x in (-4, 0, 4)], axis=0)
        seen = first & ~last  # where the subject has gone, the second frame shows what was behind it
        frame, truth = sample.frames_FYX3[0], sample.frames_FYX3[1].astype(float)
        flat = np.where(hole[..., None], frame[~hole].mean(axis=0), frame)
        errors.append(
            [
                float(np.square(one.astype(float) - truth)[seen].mean())
                for one in (redrawing.fill(frame, hole), flat)
            ]
        )
    ours, flat_error = np.mean(errors, axis=0)
    assert ours < 0.6 * flat_error


def test_prompts_name_a_subject_in_the_worlds_words() -> None:
    assert redrawing.prompt_for("dog", "a dog jumps on a beach.") == "a dog jumps on a beach."
    assert (
        redrawing.prompt_for("dog", "the subject in the woods at night") == "a dog jumps in the woods by day."
    )
    assert redrawing.prompt_for("elephant", "") == "an elephant jumps in a room by day."


def test_the_subject_goes_in_cut_out_and_comes_back_cut_from_the_last_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut(_: Any, picture: NDArray[np.uint8], boxes: list[Any]) -> NDArray[np.bool_]:
        return np.stack([picture[..., 0] > 0 for _ in boxes])

    def find(_: Any, picture: NDArray[np.uint8], asked: list[str]) -> list[list[Found]]:
        mask = picture[..., 0] > 100
        speck = mask.copy()
        mask[:2], speck[2:] = False, False
        return [[Found(speck, 1.0), Found(mask, 0.9)] if one == "dog" else [] for one in asked]

    monkeypatch.setattr(phrase_search, "cut", cut)
    monkeypatch.setattr(phrase_search, "find", find)
    given: dict[str, Any] = {}

    def pipeline(**arguments: Any) -> Any:
        given.update(arguments)
        frames = np.zeros((5, 64, 96, 3))
        frames[-1, 20:40, 30:50, 0] = frames[-1, 0:2, 0:2, 0] = 1.0
        return SimpleNamespace(frames=[frames])

    picture = np.zeros((30, 30, 3), np.uint8)
    picture[5:25, 5:25, 0] = 200
    drawn = redrawing.redraw(pipeline, None, picture, ("a dog jumps.", "dog"), seed=3)  # type: ignore[arg-type]
    assert drawn.shape == (25, 25, 3), "the box of 20 and 2 pixels on each side"
    reference = given["reference_images"][0]
    assert (reference.kind, reference.label) == ("animal", "dog")
    assert reference.image.shape == (30, 30, 4)
    assert (reference.image[..., 3] > 0).sum() == 400
    assert given["generator"].initial_seed() == 3
    whole = redrawing.redraw(pipeline, None, picture, ("a cat jumps.", "cat"), seed=3)  # type: ignore[arg-type]
    assert whole.shape == (64, 96, 3)


def test_without_a_generator_one_sentence_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="anyref puppets train --stages kaleido"):
        redrawing.generator_folder(tmp_path)

"""Films: their truth agrees with their pixels, every flaw is there, and a folder can be written again and again."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from anyref.media import read_video
from anyref.worlds.films import (
    CYCLE,
    DAMAGES,
    FilmPlan,
    draw_film,
    film_name,
    read_masks,
    render_film,
    truth,
    write_film,
    write_films,
)

SMALL = FilmPlan(height=64, width=96, fps=8.0)


def test_a_film_is_a_pure_function_of_plan_and_index() -> None:
    assert draw_film(SMALL, 5) == draw_film(SMALL, 5)
    assert draw_film(SMALL, 5) != draw_film(SMALL, 6)
    assert draw_film(SMALL, 5) != draw_film(FilmPlan(seed=1, height=64, width=96, fps=8.0), 5)


def test_a_dozen_films_hold_every_flaw() -> None:
    films = [draw_film(SMALL, index) for index in range(CYCLE)]
    assert {shot.defect for film in films for shot in film.shots} == {None, "static", "blurred"}
    assert {cut.kind for film in films for cut in film.transitions} == {"cut", "fade"}
    assert any(film.letterbox for film in films)
    assert sum(film.duplicate_of is not None for film in films) == 2
    assert sum(film.damage is not None for film in films) == 1
    damages = [draw_film(SMALL, CYCLE * n + CYCLE - 1).damage for n in range(len(DAMAGES))]
    assert tuple(damages) == DAMAGES


def test_duplicates_repeat_films_that_are_whole_and_no_duplicates() -> None:
    for index in range(3 * CYCLE):
        film = draw_film(SMALL, index)
        if film.duplicate_of is not None:
            original = draw_film(SMALL, int(Path(film.duplicate_of).stem.split("-")[1]))
            assert original.duplicate_of is None
            assert original.damage is None
            assert film.shots == original.shots


def test_two_consecutive_films_share_their_lead() -> None:
    shared = set.intersection(*(_people(draw_film(SMALL, index)) for index in (0, 1)))
    assert len(shared) == 1


def _people(film):  # type: ignore[no-untyped-def]
    looks = [actor.look for shot in film.shots for actor in shot.scene.actors]
    return {look.identity for look in looks if type(look).__name__ == "Person"}


def test_shots_fill_the_film_and_fades_are_dark_in_the_middle() -> None:
    film = next(
        f for f in (draw_film(SMALL, i) for i in range(9)) if any(t.kind == "fade" for t in f.transitions)
    )
    frames = render_film(SMALL, film).frames_FYX3
    assert [shot.first for shot in film.shots] == [0, *(shot.last for shot in film.shots[:-1])]
    assert film.num_frames == film.shots[-1].last == len(frames)
    for transition in film.transitions:
        if transition.kind == "fade":
            levels = frames[transition.first - 1 : transition.last + 1].mean(axis=(1, 2, 3))
            assert levels.min() < 2
            assert levels[0] > 30
            assert levels[-1] > 30
        else:
            before, after = frames[transition.first - 1].astype(int), frames[transition.first].astype(int)
            assert np.abs(after - before).mean() > 5
    for shot in film.shots:
        assert frames[shot.clear_first : shot.clear_last].mean(axis=(1, 2, 3)).min() > 20


def test_static_shots_stand_still_and_others_move() -> None:
    for index in range(8):
        film = draw_film(SMALL, index)
        frames = render_film(SMALL, film).frames_FYX3
        for shot in film.shots:
            clear = frames[shot.clear_first : shot.clear_last].astype(int)
            moved = np.abs(clear - clear[0]).max(axis=(0, 3)) > 30
            assert (moved.mean() > 0.01) == (shot.defect != "static"), (index, shot.caption.text)


def test_letterbox_bars_are_black_and_the_content_box_leaves_them_out() -> None:
    film = draw_film(SMALL, 3)
    drawn = render_film(SMALL, film)
    record = truth(SMALL, film, drawn)
    top, left, bottom, right = record["content_box"]
    assert (bottom - top, right - left) == (64, 96)
    assert drawn.frames_FYX3[:, :top].max() == 0
    assert drawn.frames_FYX3[:, bottom:].max() == 0
    for masks in drawn.masks:
        for mask_FYX in masks:
            assert not mask_FYX[:, :top].any()


def test_the_files_say_what_is_in_them(tmp_path: Path) -> None:
    path = write_film(SMALL, 3, tmp_path)
    record = json.loads(path.with_suffix(".json").read_text())
    frames, fps = read_video(path)
    assert fps == SMALL.fps
    assert len(frames) == record["num_frames"] == record["shots"][-1]["last"]
    assert frames.shape[1:3] == (record["height"], record["width"])
    masks = read_masks(path, record)
    for (shot, subject), mask_FYX in masks.items():
        said = record["shots"][shot]
        top, left, bottom, right = said["subjects"][subject]["boxes"][5]
        rows, columns = np.nonzero(mask_FYX[5])
        assert (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) == (top, left, bottom, right)
        assert said["subjects"][subject]["phrase"] in said["caption"]
    drawn = render_film(SMALL, draw_film(SMALL, 3)).frames_FYX3
    assert np.abs(frames.astype(int) - drawn).mean() < 4


def test_a_copy_has_the_bytes_of_its_original_and_an_encoding_has_not(tmp_path: Path) -> None:
    for original, copy, same in ((4, 7, True), (8, 10, False)):
        files = [write_film(SMALL, index, tmp_path) for index in (original, copy)]
        assert (files[0].read_bytes() == files[1].read_bytes()) == same


@pytest.mark.parametrize("number", range(len(DAMAGES)))
def test_damaged_films_cannot_be_decoded(number: int, tmp_path: Path) -> None:
    path = write_film(SMALL, CYCLE * number + CYCLE - 1, tmp_path)
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["damage"] == DAMAGES[number]
    with pytest.raises(ValueError, match="decoded"):
        read_video(path)


def test_writing_again_keeps_the_files_and_another_plan_is_refused(tmp_path: Path) -> None:
    first = [path.stat().st_mtime_ns for path in write_films(SMALL, 2, tmp_path)]
    assert [path.stat().st_mtime_ns for path in write_films(SMALL, 2, tmp_path)] == first
    with pytest.raises(ValueError, match="belongs to films of another kind"):
        write_film(FilmPlan(seed=3, height=64, width=96, fps=8.0), 0, tmp_path)
    (tmp_path / "film-00001.json").unlink()
    before = read_video(tmp_path / film_name(1)).frames_FYX3
    write_film(SMALL, 1, tmp_path)
    assert np.abs(read_video(tmp_path / film_name(1)).frames_FYX3.astype(int) - before).mean() < 0.5
    assert json.loads((tmp_path / "film-00001.json").read_text())["plan"] == asdict(SMALL)


@pytest.mark.parametrize("wrong", [{"height": 100}, {"width": 32}, {"fps": 0.0}])
def test_plans_that_cannot_be_drawn_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"pass"):
        FilmPlan(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        next(write_films(SMALL, 0, Path()))

"""The rules: intervals cover, a judge that sees the references finds them wherever they are, and an uninformative video is at chance."""

from typing import Any

import numpy as np
import pytest
from mean_colour import MeanColour
from PIL import Image

from anyref.puppets import held_out, identity, judging
from anyref.worlds import PuppetWorld

WORLD = PuppetWorld("test", seed=0)
JUDGE: Any = MeanColour()


def still(picture: judging.Frames) -> judging.Frames:
    return np.repeat(picture[None], 17, axis=0)


def test_interval_covers_the_mean_and_shrinks() -> None:
    few, many = judging.rate([1.0, 0.0] * 10), judging.rate([1.0, 0.0] * 1000)
    assert few.low < 0.5 < few.high
    assert many.high - many.low < few.high - few.low
    assert judging.rate([1.0] * 5) == judging.Rate(1.0, 1.0, 1.0, 5)


def test_a_difference_is_taken_clip_by_clip() -> None:
    ours = [1.0, 0.0] * 20
    assert judging.difference(ours, ours) == judging.Rate(0.0, 0.0, 0.0, 40)
    better = [1.0] * 40
    found = judging.difference(better, ours)
    assert found.value == 0.5
    # Unpaired, the same means would leave it open whether a worse clip is only another clip.
    assert found.low > 0.3
    assert judging.difference(ours, better).high < -0.3


def test_pictures_keep_their_proportions() -> None:
    tall = np.zeros((80, 20, 3), np.uint8)
    square = identity.prepare(tall)
    assert square.shape == (identity.SIZE, identity.SIZE, 3)
    dark = (square < 128).all(axis=2)
    assert dark.any(axis=1).sum() == identity.SIZE
    assert dark.any(axis=0).sum() == identity.SIZE // 4


def test_pieces_contain_the_box() -> None:
    frame = np.full((64, 96, 3), 200, np.uint8)
    frame[20:30, 40:50] = 0
    for seed in range(20):
        cut = identity.piece(frame, np.array([20, 40, 30, 50], np.int32), np.random.default_rng(seed), 1.0)
        assert (cut < 60).any()
        assert cut.shape[0] >= 10
        assert cut.shape[1] >= 10


def test_videos_that_show_the_reference_are_matched_and_others_are_not() -> None:
    samples = held_out.single_clips(WORLD, 12)
    own = [
        still(identity.prepare(held_out.shown_by(WORLD, sample.subjects[0], number)))
        for number, sample in enumerate(samples)
    ]
    assert judging.retrieval(JUDGE, WORLD, samples, own).values == (1.0,) * 12
    assert judging.found(JUDGE, WORLD, samples, own).values == (1.0,) * 12
    swapped = judging.retrieval(JUDGE, WORLD, samples, own[1:] + own[:1])
    assert np.mean(swapped.values) < 0.5


def test_subjects_are_found_in_their_corners_and_only_those_that_are_there() -> None:
    trios = held_out.trio_clips(WORLD, 6)
    full, first_only = [], []
    for number, trio in enumerate(trios):
        frame = np.full((64, 96, 3), 127, np.uint8)
        squares = [identity.prepare(held_out.shown_by(WORLD, one, number)) for one in trio.subjects[:3]]
        pictures = [np.asarray(Image.fromarray(square).resize((32, 32))) for square in squares]
        frame[:32, :32] = pictures[0]
        first_only.append(still(frame))
        frame = frame.copy()
        frame[32:, :32], frame[:32, 64:] = pictures[1], pictures[2]
        full.append(still(frame))
    everybody = judging.found(JUDGE, WORLD, trios, full)
    somebody = judging.found(JUDGE, WORLD, trios, first_only)
    assert set(everybody.values) <= {0.0, 1 / 3, 2 / 3, 1.0}
    assert np.mean(everybody.values) > 0.7
    assert np.mean(somebody.values) < np.mean(everybody.values) - 0.2


@pytest.mark.parametrize("rule", [judging.retrieval, judging.found])
def test_an_uninformative_video_is_right_one_time_in_eight(rule: Any) -> None:
    samples = held_out.single_clips(WORLD, 160)
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, size=(7, 8, 8, 3), dtype=np.uint8) for _ in samples]
    outcomes = rule(JUDGE, WORLD, samples, noise)
    seen = judging.rate(outcomes.values)
    assert outcomes.chance == 0.125
    assert seen.low <= outcomes.chance <= seen.high


def test_binding_tells_the_sides_apart() -> None:
    pairs = held_out.pair_clips(WORLD, 8, same_kind=True)
    videos = []
    for number, pair in enumerate(pairs):
        ordered = sorted(
            pair.subjects[:2], key=lambda subject: int(subject.boxes_F4[0][1] + subject.boxes_F4[0][3])
        )
        sides = [identity.prepare(held_out.shown_by(WORLD, subject, number)) for subject in ordered]
        videos.append(still(np.concatenate(sides, axis=1)))
    assert judging.binding(JUDGE, WORLD, pairs, videos).values == (1.0,) * 8
    mirrored = [video[:, :, ::-1] for video in videos]
    assert judging.binding(JUDGE, WORLD, pairs, mirrored).values == (0.0,) * 8


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (32, 48), (8, 8)])
def test_windows_cover_the_frame_and_stay_inside(size: tuple[int, int]) -> None:
    height, width = size
    places = judging.windows(height, width)
    assert places[0] == (slice(0, height), slice(0, width))
    for share in judging.WINDOWS:
        side = min(round(share * height), width)
        squares = [place for place in places[1:] if place[0].stop - place[0].start == side]
        seen = np.zeros(size, bool)
        for rows, columns in squares:
            assert rows.start >= 0
            assert columns.start >= 0
            assert rows.stop <= height
            assert columns.stop - columns.start == side
            assert columns.stop <= width
            seen[rows, columns] = True
        # Squares of full height cannot reach all of a frame that is higher than wide, but reach across it.
        assert seen.any(axis=0).all()
        assert seen.any(axis=1).all()

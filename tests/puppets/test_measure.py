"""The measures: intervals cover, a judge that sees the references finds them, and swapped videos are noticed."""

import numpy as np
import pytest
import torch

from anyref.puppets import identity, measure
from anyref.worlds import PuppetWorld


def test_interval_covers_the_mean_and_shrinks() -> None:
    few, many = measure.rate([1.0, 0.0] * 10), measure.rate([1.0, 0.0] * 1000)
    assert few.low < 0.5 < few.high
    assert many.high - many.low < few.high - few.low
    assert measure.rate([1.0] * 5) == measure.Rate(1.0, 1.0, 1.0, 5)


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


class MeanColour(torch.nn.Module):
    """A judge that knows one thing: the mean colour."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(pictures.mean(dim=(2, 3)), dim=-1)


def test_videos_that_show_the_reference_are_matched_and_others_are_not() -> None:
    world = PuppetWorld("test", seed=0)
    samples = measure.single_clips(world, 12)
    own = [
        identity.prepare(world.picture(sample.subjects[0], number).image)
        for number, sample in enumerate(samples)
    ]
    still = [np.repeat(picture[None], 17, axis=0) for picture in own]
    judge = MeanColour()
    assert measure.retrieval(judge, world, samples, still).value == 1.0  # type: ignore[arg-type]
    swapped = measure.retrieval(judge, world, samples, still[1:] + still[:1])  # type: ignore[arg-type]
    assert swapped.value < 0.5


def test_binding_tells_the_sides_apart() -> None:
    world = PuppetWorld("test", seed=0)
    pairs = measure.pair_clips(world, 8, same_kind=True)
    videos = []
    for number, pair in enumerate(pairs):
        ordered = sorted(
            pair.subjects[:2], key=lambda subject: int(subject.boxes_F4[0][1] + subject.boxes_F4[0][3])
        )
        sides = [identity.prepare(world.picture(subject, number).image) for subject in ordered]
        videos.append(np.repeat(np.concatenate(sides, axis=1)[None], 17, axis=0))
    assert measure.binding(MeanColour(), world, pairs, videos).value == 1.0  # type: ignore[arg-type]
    mirrored = [video[:, :, ::-1] for video in videos]
    assert measure.binding(MeanColour(), world, pairs, mirrored).value == pytest.approx(0.0)  # type: ignore[arg-type]


def test_pairs_stay_on_their_sides() -> None:
    for pair in measure.pair_clips(PuppetWorld("test", seed=0), 10, same_kind=False):
        first, second = (subject.boxes_F4 for subject in pair.subjects[:2])
        order = np.sign((first[:, 1] + first[:, 3]) - (second[:, 1] + second[:, 3]))
        assert (order == order[0]).all()


def test_an_uninformative_video_is_right_one_time_in_eight() -> None:
    world = PuppetWorld("test", seed=0)
    samples = measure.single_clips(world, 160)
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, size=(17, 8, 8, 3), dtype=np.uint8) for _ in samples]
    found = measure.retrieval(MeanColour(), world, samples, noise)  # type: ignore[arg-type]
    assert found.low <= 0.125 <= found.high


def test_captions_name_no_colour() -> None:
    captions = " ".join(sample.caption for sample in measure.single_clips(PuppetWorld("test", seed=0), 60))
    assert not {"red", "blue", "green", "purple", "yellow"} & set(captions.split())

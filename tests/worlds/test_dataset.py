"""The puppet world's clips: pure, consistent, disjoint over the splits."""

import subprocess
import sys

import numpy as np
import pytest

from anyref.samples import KINDS, Sample
from anyref.worlds import ACTIONS, LABELS, SETTINGS, PuppetWorld
from anyref.worlds.dataset import boxes_of


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    world = PuppetWorld()
    return [world.clip(index) for index in range(150)]


def assert_equal(first: Sample, second: Sample) -> None:
    assert first.key == second.key
    assert first.caption == second.caption
    assert np.array_equal(first.frames_FYX3, second.frames_FYX3)
    assert len(first.subjects) == len(second.subjects)
    for one, other in zip(first.subjects, second.subjects, strict=True):
        assert (one.identity, one.phrase) == (other.identity, other.phrase)
        assert np.array_equal(one.masks_FYX, other.masks_FYX)
        assert np.array_equal(one.boxes_F4, other.boxes_F4)
        for reference, twin in zip(one.references, other.references, strict=True):
            assert np.array_equal(reference.image, twin.image)


def test_a_clip_is_a_pure_function_of_its_index(samples: list[Sample]) -> None:
    world = PuppetWorld()
    for index in (40, 3, 17):  # another order, another object
        assert_equal(world.clip(index), samples[index])


def test_a_clip_is_equal_in_another_process() -> None:
    code = (
        "import zlib; from anyref.worlds import PuppetWorld; s = PuppetWorld('test', 5).clip(9);"
        "print(s.caption, zlib.crc32(s.frames_FYX3.tobytes()),"
        " zlib.crc32(s.subjects[0].references[0].image.tobytes()))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_seed_split_and_index_change_the_clip() -> None:
    base = PuppetWorld().clip(0)
    for other in (PuppetWorld(seed=1).clip(0), PuppetWorld("test").clip(0), PuppetWorld().clip(1)):
        assert not np.array_equal(base.frames_FYX3, other.frames_FYX3)


def test_shapes_and_types(samples: list[Sample]) -> None:
    for sample in samples:
        assert sample.frames_FYX3.shape == (17, 64, 96, 3)
        assert sample.frames_FYX3.dtype == np.uint8
        assert sample.frames_FYX3.flags["C_CONTIGUOUS"]
        assert sample.setting in SETTINGS
        assert sample.time_of_day in ("day", "night")
        moving = [subject for subject in sample.subjects if subject.kind not in ("background", "clothing")]
        assert 1 <= len(moving) <= 3
        assert len(sample.actions) == len(moving)
        assert set(sample.actions) <= set(ACTIONS)
        assert list(sample.subjects[: len(moving)]) == moving
        assert [s.kind for s in sample.subjects].count("background") <= 1
        assert all(subject.kind in KINDS for subject in sample.subjects)


def test_masks_agree_with_boxes_and_exclude_one_another(samples: list[Sample]) -> None:
    for sample in samples:
        total = np.zeros(sample.frames_FYX3.shape[:3], int)
        for subject in sample.subjects:
            assert subject.masks_FYX.any(), (sample.key, subject.label)
            for mask_YX, box in zip(subject.masks_FYX, subject.boxes_F4, strict=True):
                rows, columns = np.nonzero(mask_YX)
                if len(rows):
                    tight = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
                    assert box.tolist() == tight
                else:
                    assert box.tolist() == [0, 0, 0, 0]
            if subject.kind != "clothing":
                total += subject.masks_FYX
            else:
                assert not (subject.masks_FYX & ~sample.subjects[0].masks_FYX).any()
        assert total.max() == 1
        if sample.subjects[-1].kind == "background":
            assert total.min() == 1


def test_boxes_of_empty_frames_are_zero() -> None:
    masks_FYX = np.zeros((2, 16, 16), bool)
    masks_FYX[1, 3:5, 7] = True
    assert boxes_of(masks_FYX).tolist() == [[0, 0, 0, 0], [3, 7, 5, 8]]


def test_pixels_change_where_the_mask_says() -> None:
    world = PuppetWorld()
    for index in range(12):
        lasting = ("walk", "swim", "roll", "drive", "grow", "shrink", "fall", "float")
        sample = world.clip(index, num_subjects=1, actions=lasting)
        changed = (sample.frames_FYX3[0].astype(int) != sample.frames_FYX3[-1]).any(-1)
        either = sample.subjects[0].masks_FYX[[0, -1]].any(0)
        assert changed[either].mean() > 0.3, sample.caption


def test_references(samples: list[Sample]) -> None:
    cut_out, count = 0, 0
    for sample in samples:
        for subject in sample.subjects:
            assert [reference.variant for reference in subject.references] == ["cross", "crop"]
            for reference in subject.references:
                image = reference.image
                assert image.dtype == np.uint8
                assert image.shape[2] in (3, 4)
                assert 36 <= max(image.shape[:2]) <= 96
            if subject.kind != "background":
                cross = subject.references[0].image
                cut_out += cross.shape[2] == 4
                count += 1
                if cross.shape[2] == 4:
                    assert (cross[..., 3] == 0).any()
                    assert (cross[..., 3] == 255).mean() > 0.1
    assert 0.35 < cut_out / count < 0.65


def test_how_often_things_happen(samples: list[Sample]) -> None:
    moving = np.array([len(sample.actions) for sample in samples])
    assert 0.4 < (moving == 1).mean() < 0.7
    assert 0.25 < (moving == 2).mean() < 0.5
    assert (moving == 3).any()
    backgrounds = np.mean([sample.subjects[-1].kind == "background" for sample in samples])
    assert 0.12 < backgrounds < 0.4
    pairs = [sample for sample in samples if len(sample.actions) == 2]
    same = np.mean([sample.subjects[0].label == sample.subjects[1].label for sample in pairs])
    assert 0.15 < same < 0.55


@pytest.mark.parametrize(
    ("height", "width", "frames"), [(128, 192, 5), (64, 64, 21), (96, 160, 1), (32, 48, 9)]
)
def test_any_size(height: int, width: int, frames: int) -> None:
    world = PuppetWorld("validation", 0, height, width, frames)
    for index in range(6):
        sample = world.clip(index)
        assert sample.frames_FYX3.shape == (frames, height, width, 3)
        longest = max(max(r.image.shape[:2]) for s in sample.subjects for r in s.references)
        assert 0.5 * height < longest < 1.5 * height


def test_larger_clips_show_the_same() -> None:
    small, large = PuppetWorld().clip(4), PuppetWorld(height=128, width=192).clip(4)
    assert small.caption == large.caption
    halved = large.frames_FYX3.reshape(17, 64, 2, 96, 2, 3).mean((2, 4))
    assert np.abs(halved - small.frames_FYX3).mean() < 6


def test_filters() -> None:
    world = PuppetWorld()
    for index in range(10):
        assert len(world.clip(index, num_subjects=3).actions) == 3
        same = world.clip(index, num_subjects=2, same_kind=True).subjects
        assert same[0].label == same[1].label
        assert same[0].identity != same[1].identity
        other = world.clip(index, num_subjects=2, same_kind=False).subjects
        assert other[0].label != other[1].label
        assert world.clip(index, background_reference=True).subjects[-1].kind == "background"
        assert world.clip(index, background_reference=False).subjects[-1].kind != "background"
        dressed = world.clip(index, clothing_reference=True, background_reference=False).subjects
        assert [subject.kind for subject in dressed] == ["person", "clothing"]
        assert all(s.kind != "clothing" for s in world.clip(index, clothing_reference=False).subjects)
        assert set(world.clip(index, actions=("jump", "spin")).actions) <= {"jump", "spin"}
        assert world.clip(index, num_subjects=2, actions=("swap",)).actions == ("swap", "swap")
        assert world.clip(index, num_subjects=2, actions=("follow",)).actions[1] == "follow"
        assert {s.label for s in world.clip(index, labels=("dog",), background_reference=False).subjects} == {
            "dog"
        }


@pytest.mark.parametrize(
    "wishes",
    [
        {"num_subjects": 4},
        {"actions": ("teleport",)},
        {"labels": ()},
        {"labels": ("car",), "actions": ("wave",)},
        {"num_subjects": 1, "same_kind": True},
        {"num_subjects": 2, "clothing_reference": True},
        {"num_subjects": 2, "same_kind": False, "labels": ("cat",)},
        {"num_subjects": 1, "actions": ("follow",)},
    ],
)
def test_impossible_wishes(wishes: dict) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        PuppetWorld().clip(0, **wishes)


@pytest.mark.parametrize(
    "sizes", [{"height": 60}, {"width": 0}, {"num_frames": 0}, {"fps": 0}, {"split": "all"}]
)
def test_impossible_worlds(sizes: dict) -> None:
    with pytest.raises(ValueError, match="pass"):
        PuppetWorld(**sizes)


def test_distractors_are_others_that_look_different() -> None:
    world = PuppetWorld("test")
    for index, label in enumerate(LABELS):
        subject = world.clip(index, labels=(label,), num_subjects=1).subjects[0]
        others = world.distractors(subject, 7, index)
        assert len(others) == 7
        assert all(reference.variant == "cross" for reference in others)
        again = world.distractors(subject, 7, index)
        assert all(np.array_equal(a.image, b.image) for a, b in zip(others, again, strict=True))
        images = [subject.references[0].image, *(reference.image for reference in others)]
        assert len({image.tobytes() for image in images}) == 8


def test_distractors_of_settings_and_clothing() -> None:
    world = PuppetWorld("test")
    dressed = world.clip(0, clothing_reference=True, background_reference=True)
    assert len(dressed.subjects) == 3
    for subject in dressed.subjects:
        assert len(world.distractors(subject, 3, 0)) == 3


def test_importing_the_world_does_not_import_torch() -> None:
    code = "import sys, anyref.worlds; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

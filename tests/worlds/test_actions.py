"""Every action is seen in the frames, and moves smoothly."""

import numpy as np
import pytest

from anyref.samples import Subject
from anyref.worlds import ACTIONS, LABELS, PuppetWorld
from anyref.worlds.actions import possible_actions

WORLD = PuppetWorld(seed=2)
ALONE = tuple(action for action in ACTIONS if action not in ("follow", "swap"))
UNHIDDEN = {"background_reference": False, "clothing_reference": False}


def centroids(subject: Subject) -> np.ndarray:
    return np.array([[axis.mean() for axis in np.nonzero(mask_YX)] for mask_YX in subject.masks_FYX])


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))


@pytest.mark.parametrize("action", ALONE)
def test_motion_is_large(action: str) -> None:
    for index in range(5):
        sample = WORLD.clip(index, num_subjects=1, actions=(action,), **UNHIDDEN)
        assert sample.actions == (action,)
        subject = sample.subjects[0]
        path = centroids(subject)
        areas = subject.masks_FYX.sum((1, 2))
        moved = np.ptp(path, axis=0)
        least = min(overlap(subject.masks_FYX[0], mask_YX) for mask_YX in subject.masks_FYX)
        if action == "stand":
            assert least == 1.0
            continue
        if action == "nod":  # the head moves within the silhouette of long hair
            shown = sample.frames_FYX3.astype(int)[:, subject.masks_FYX.any(0)]
            assert (np.abs(shown - shown[0]).max(2) > 30).mean(1).max() > 0.08
            continue
        assert least < 0.93, (sample.caption, least)
        if action in ("walk", "swim", "fly", "roll", "drive", "sail", "slide"):
            assert moved[1] > 30
            to_the_right = path[-1, 1] > path[0, 1]
            assert "to the right" not in sample.caption or to_the_right
            assert "to the left" not in sample.caption or not to_the_right
        elif action == "jump":
            assert moved[0] > 9
        elif action == "float":
            assert path[0, 0] - path[-1, 0] > 8
        elif action == "grow":
            assert areas[-1] > 3 * areas[0]
        elif action == "shrink":
            assert areas[0] > 3 * areas[-1]
        elif action == "fall":
            top = subject.boxes_F4[:, 0]
            assert top[-1] > top[0]
        elif action == "dance":
            assert moved[1] > 8


@pytest.mark.parametrize("action", ALONE)
def test_motion_is_smooth(action: str) -> None:
    sample = WORLD.clip(0, num_subjects=1, actions=(action,), **UNHIDDEN)
    steps = np.abs(np.diff(centroids(sample.subjects[0]), axis=0)).max()
    assert steps < 10


def test_followers_follow_and_others_swap() -> None:
    for index in range(6):
        leader, follower = WORLD.clip(index, num_subjects=2, actions=("follow",), **UNHIDDEN).subjects
        way = np.sign(centroids(leader)[-1, 1] - centroids(leader)[0, 1])
        for frame in (0, -1):
            assert way * (centroids(leader)[frame, 1] - centroids(follower)[frame, 1]) > 5
        first, second = WORLD.clip(index, num_subjects=2, actions=("swap",), **UNHIDDEN).subjects
        before = centroids(first)[0, 1] - centroids(second)[0, 1]
        after = centroids(first)[-1, 1] - centroids(second)[-1, 1]
        assert before * after < 0
        assert min(abs(before), abs(after)) > 20


def test_only_the_living_wave() -> None:
    for label in LABELS:
        living = "wave" in possible_actions(label)
        assert living == ("bow" in possible_actions(label))
        assert len(possible_actions(label)) >= 9
    assert "wave" not in possible_actions("car")
    assert "wave" in possible_actions("penguin")

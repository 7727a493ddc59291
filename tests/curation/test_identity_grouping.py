import tracemalloc

import numpy as np
import pytest

from anyref.curation.across import Member, _faces, _together
from anyref.curation.identities import Pose, Rated, link, pose_from_keypoints, pose_quality, rank, spread


def head(pitch=0.0, yaw=0.0, roll=0.0):
    """Five points of a head in three dimensions, turned and seen from the front: (row, column)."""
    points = np.array(
        [[-0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.05, 0.0, -0.55], [0.5, -0.35, 0.0], [0.5, 0.35, 0.0]]
    )
    rows, columns, depth = points.T
    p, y, r = np.radians([pitch, yaw, roll])
    columns, depth = columns * np.cos(y) - depth * np.sin(y), depth * np.cos(y) + columns * np.sin(y)
    rows, depth = rows * np.cos(p) - depth * np.sin(p), depth * np.cos(p) + rows * np.sin(p)
    rows, columns = rows * np.cos(r) + columns * np.sin(r), columns * np.cos(r) - rows * np.sin(r)
    return (np.stack([rows, columns], axis=1) * 40 + 100).astype(np.float32)


@pytest.mark.parametrize(
    "angles",
    [(0, 0, 0), (0, 30, 0), (0, -30, 0), (20, 0, 0), (-20, 0, 0), (0, 0, 25), (0, 0, -25), (10, 25, 10)],
)
def test_pose_from_points_of_a_turned_head(angles):
    found = pose_from_keypoints(head(*angles))
    assert np.abs(np.array(found) - angles).max() < 10


def test_frontal_first():
    assert pose_quality(Pose(0, 0, 0)) == 1
    assert pose_quality(Pose(0, 90, 0)) < 1e-6
    assert pose_quality(Pose(0, 120, 0)) == 0
    assert rank(0.9, Pose(0, 10, 0)) > rank(0.9, Pose(0, 40, 0)) > rank(0.5, Pose(0, 40, 0))


def test_spread_takes_turns_over_poses_and_over_time():
    frontal = [Rated(i, i, 0.9 - 0.001 * i, 0.0) for i in range(50)]
    sides = [Rated(50 + i, i, 0.5, 50.0) for i in range(3)]
    chosen = spread(frontal + sides, 10)
    assert len(chosen) == len(set(chosen)) == 10
    assert chosen[0] == 0
    assert sum(number >= 50 for number in chosen) == 3
    times = sorted(number for number in chosen if number < 50)
    assert min(np.diff(times)) >= 3  # seven of fifty frames, never neighbours
    assert spread(frontal[:4], 10) == spread(frontal[:4], 10)
    assert spread([], 10) == []


def vectors(groups, noise, rng, dimensions=64):
    centres = rng.normal(size=(max(groups) + 1, dimensions))
    found = np.stack([centres[g] / np.linalg.norm(centres[g]) for g in groups])
    found = found + noise * rng.normal(size=found.shape) / np.sqrt(dimensions)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_link_finds_the_groups():
    rng = np.random.default_rng(0)
    groups = list(rng.integers(0, 9, 80))
    found = link(vectors(groups, 0.6, rng), 0.45)
    names: dict[int, set[int]] = {}
    for true, name in zip(groups, found, strict=True):
        names.setdefault(true, set()).add(name)
    assert all(len(own) == 1 for own in names.values())
    assert len(set(found)) == len(set(groups))
    assert found[0] == 0


def test_link_keeps_apart_what_was_seen_together():
    same = np.ones((3, 4), np.float32) / 2
    assert link(same, 0.5) == [0, 0, 0]
    assert link(same, 0.5, [(0, 1)]) in ([0, 1, 0], [0, 1, 1])
    assert link(same, 0.5, [(0, 1), (1, 2), (0, 2)]) == [0, 1, 2]
    assert link(same[:1], 0.5) == [0]
    assert link(same[:0], 0.5) == []


def test_link_joins_groups_by_their_centres_not_by_a_chain():
    angles = np.radians([0, 25, 50, 75, 100])
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert len(set(link(chain, 0.9))) >= 2


def naive(vectors, similarity, apart):
    """The definition, slowly: join the two groups whose centres are nearest until none are near enough."""
    groups = [[i] for i in range(len(vectors))]
    while True:
        best, pair = similarity, None
        for i, one in enumerate(groups):
            for j, other in enumerate(groups[:i]):
                if any((a, b) in apart or (b, a) in apart for a in one for b in other):
                    continue
                centres = [vectors[group].astype(np.float64).sum(axis=0) for group in (one, other)]
                cosine = float(np.prod([1 / np.linalg.norm(c) for c in centres]) * (centres[0] @ centres[1]))
                if cosine >= best:
                    best, pair = cosine, (i, j)
        if pair is None:
            return {frozenset(group) for group in groups}
        groups[pair[1]] += groups.pop(pair[0])


def dense(vectors_ND, similarity, apart, weights):
    """The same with all cosines in memory: the pair with the largest joins, and what either must stay apart from, both must."""
    share = np.asarray(weights, np.float64)
    sums = vectors_ND.astype(np.float64) * share[:, None]
    group, alive = np.arange(len(sums)), np.ones(len(sums), bool)
    blocked = np.eye(len(sums), dtype=bool)
    for one, other in apart:
        blocked[one, other] = blocked[other, one] = True
    while True:
        centres = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        cosine = np.where(blocked | ~alive | ~alive[:, None], -np.inf, centres @ centres.T)
        first, second = sorted(np.unravel_index(int(cosine.argmax()), cosine.shape))
        if cosine[first, second] < similarity:
            names: dict[int, int] = {}
            return [names.setdefault(int(number), len(names)) for number in group]
        sums[first] += sums[second]
        group[group == second] = first
        blocked[first] |= blocked[second]
        blocked[:, first] |= blocked[:, second]
        alive[second] = False


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("similarity", [0.2, 0.5])
def test_link_without_all_cosines_in_memory_is_the_same(seed, similarity, monkeypatch):
    monkeypatch.setattr("anyref.curation.identities._BLOCK", 7)
    rng = np.random.default_rng(seed)
    found = vectors(list(rng.integers(0, 12, 150)), 1.2, rng, 24)
    apart = {(int(a), int(b)) for a, b in rng.integers(0, 150, (60, 2)) if a != b}
    names = [str(n) if n < 6 else None for n in rng.integers(0, 20, 150)]
    two = {(i, j) for i in range(150) for j in range(i) if names[i] and names[j] and names[i] != names[j]}
    weights = list(rng.integers(1, 9, 150))
    labels = link(found, similarity, sorted(apart), weights, names)
    assert labels == dense(found, similarity, apart | two, weights)
    assert 1 < len(set(labels)) < 150


def test_link_holds_no_square_of_its_vectors():
    rng = np.random.default_rng(0)
    found = vectors(list(rng.integers(0, 800, 3000)), 0.5, rng, 16)
    tracemalloc.start()
    try:
        link(found, 0.7, names=[f"{n}" for n in range(3000)])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 3000 * 3000 * 8 / 2


def test_subjects_of_one_frame_or_with_two_faces_are_told_apart():
    groups = [
        [Member(0, 0, "a", "f", (0, 1), "x"), Member(0, 1, "b", "f", (0, 2))],
        [Member(0, 2, "c", "f", (0, 2))],
        [Member(1, 0, "d", "f", (1, 1), "y")],
    ]
    assert _together(groups) == [(0, 1)]
    assert _faces(groups) == ["x", None, "y"]


@pytest.mark.parametrize("seed", range(6))
def test_link_is_what_it_says(seed):
    rng = np.random.default_rng(seed)
    found = vectors(list(rng.integers(0, 5, 22)), 1.0, rng, 12)
    apart = {(int(a), int(b)) for a, b in rng.integers(0, 22, (6, 2)) if a != b}
    labels = link(found, 0.4, sorted(apart))
    groups = {frozenset(i for i, label in enumerate(labels) if label == name) for name in set(labels)}
    assert groups == naive(found, 0.4, apart)

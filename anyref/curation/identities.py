"""Who is who: the quality of a face's pose, which faces stand for an identity, and which vectors belong to one.

Pure functions. Poses are (pitch, yaw, roll) in degrees, 0 for a face that looks into the camera upright. Vectors have length 1.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

YAW_EDGES = (-35.0, -12.0, 12.0, 35.0)
"""Five bins of yaw: profile and half-profile to both sides, and frontal."""
_NOSE_DEPTH = 0.55
"""How far the tip of the nose stands out, in distances between the eyes; from the mean shape of common 68-point models."""
_NOSE_DOWN = 0.55
"""How far down from the eyes to the mouth the tip of the nose is, in an upright frontal face."""


class Pose(NamedTuple):
    """In degrees. Positive yaw: the nose points to the right of the picture; positive pitch: down; positive roll: clockwise."""

    pitch: float
    yaw: float
    roll: float

    @property
    def extreme(self) -> float:
        """The largest of the three angles' absolute values."""
        return max(abs(self.pitch), abs(self.yaw), abs(self.roll))


class Rated(NamedTuple):
    """A face as the choice of an identity's faces sees it."""

    number: int
    frame: int
    quality: float
    yaw: float | None


def pose_from_keypoints(keypoints_52: NDArray[np.float32]) -> Pose:
    """An estimate of the pose from eyes, nose and corners of the mouth as (row, column), for detectors that give no pose.

    The nose's tip leaves the midline by its depth times the sine of yaw while the eyes draw together by its cosine; likewise for pitch.
    Within about 10 degrees for faces that are not in profile; signs as in `Pose`.
    """
    points = np.asarray(keypoints_52, dtype=np.float64)
    left, right = sorted(points[:2], key=lambda point: float(point[1]))
    roll = float(np.degrees(np.arctan2(right[0] - left[0], max(right[1] - left[1], 1e-6))))
    eyes, mouth = (left + right) / 2, points[3:5].mean(axis=0)
    down = mouth - eyes
    length = max(float(np.hypot(*down)), 1e-6)
    down /= length
    across = np.array([-down[1], down[0]])  # a quarter turn: to the right of the picture for an upright face
    nose = points[2] - eyes
    distance = max(float(np.hypot(*(right - left))), 1e-6)
    yaw = float(np.degrees(np.arctan(float(nose @ across) / distance / _NOSE_DEPTH)))
    pitch = float(np.degrees(np.arctan((float(nose @ down) / length - _NOSE_DOWN) / _NOSE_DEPTH)))
    return Pose(pitch, yaw, roll)


def pose_quality(pose: Pose | None) -> float:
    """How near a pose is to the frontal view, 0 to 1: the product of the angles' cosines, 0 beyond a profile; 0.5 where it is unknown."""
    if pose is None:
        return 0.5
    return float(np.prod([max(0.0, np.cos(np.radians(angle))) for angle in pose]))


def rank(score: float, pose: Pose | None) -> float:
    """MAGREF B.3 ranks by detection confidence and pose quality; how they join is not said. We take the product, 0 to 1."""
    return score * pose_quality(pose)


def spread(faces: Sequence[Rated], count: int = 10) -> list[int]:
    """Up to `count` faces that span poses and qualities (MAGREF B.3: 10 per identity), the best frontal ones first; their numbers.

    Five bins of yaw take turns, the frontal one first. A bin gives its best face first, then the one whose quality and time lie farthest
    from those it gave, so that ten faces are not ten neighbouring frames. Faces without a pose share the frontal bin.
    """
    bins: dict[int, list[Rated]] = {}
    for face in sorted(faces, key=lambda face: (-face.quality, face.frame, face.number)):
        bins.setdefault(0 if face.yaw is None else _bin(face.yaw), []).append(face)
    span = max(1, max((f.frame for f in faces), default=0) - min((f.frame for f in faces), default=0))
    chosen: list[int] = []
    taken: dict[int, list[Rated]] = {number: [] for number in bins}
    while bins and len(chosen) < count:
        for number in sorted(bins):
            if len(chosen) == count:
                break
            rest = bins[number]
            given = taken[number]
            face = rest[0] if not given else max(rest, key=lambda face: _distance(face, given, span))
            rest.remove(face)
            given.append(face)
            chosen.append(face.number)
            if not rest:
                del bins[number]
    return chosen


def link(
    vectors_ND: NDArray[np.float32],
    similarity: float,
    apart: Sequence[tuple[int, int]] = (),
    weights: Sequence[float] | None = None,
    names: Sequence[str | None] | None = None,
) -> list[int]:
    """Group vectors by agglomerative clustering: the two groups with the nearest centroids join while their cosine is >= `similarity`.

    `apart` are pairs that cannot be the same (two faces in one frame): neither they nor their groups ever join; nor do those of two
    `names`, where both have one. `weights` say for how many observations a vector stands. Returns a group number for each vector; groups
    are numbered by their first members. Memory grows with the vectors and the pairs; time with the square of the vectors, because two
    groups that join may come near to one that neither was near to, and that is seen only by comparing with all: 5,000 take seconds.
    """
    count = len(vectors_ND)
    if not count:
        return []
    groups = _Groups(vectors_ND, apart, weights, names)
    group = np.arange(count)
    while groups.best_N[at := int(groups.best_N.argmax())] >= similarity:
        if groups.stale_N[at]:
            groups.refresh(at)
        else:
            first, second = sorted((at, int(groups.nearest_N[at])))
            group[group == second] = first
            groups.join(first, second)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(number), len(numbers)) for number in group]


_BLOCK = 512


class _Groups:
    """Centroids, and of each the nearest other that it may join.

    `best_N` is that one's cosine, -inf where there is none; where `stale_N` says so it is what it was before others joined, which is no
    less than it is now. A group that joins another's lives on under the smaller number.
    """

    def __init__(
        self,
        vectors_ND: NDArray[np.float32],
        apart: Sequence[tuple[int, int]],
        weights: Sequence[float] | None,
        names: Sequence[str | None] | None,
    ) -> None:
        count = len(vectors_ND)
        share = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
        self.sums_ND = vectors_ND.astype(np.float64) * share[:, None]
        self.centres_ND = _unit(self.sums_ND)
        self.gone_N = np.zeros(count, np.bool_)
        self.stale_N = np.zeros(count, np.bool_)
        known: dict[str, int] = {}
        self.name_N = np.array(
            [-1 if n is None else known.setdefault(n, len(known)) for n in names or [None] * count]
        )
        self.apart: dict[int, set[int]] = defaultdict(set)
        for one, other in apart:
            self.apart[one].add(other)
            self.apart[other].add(one)
        self.nearest_N, self.best_N = np.zeros(count, np.int64), np.zeros(count)
        for start in range(0, count, _BLOCK):
            block = self.centres_ND[start : start + _BLOCK] @ self.centres_ND.T
            for number, row in enumerate(block, start):
                self._keep(number, row)

    def refresh(self, number: int) -> None:
        """Find the nearest of a group again."""
        self._keep(number, self.centres_ND @ self.centres_ND[number])
        self.stale_N[number] = False

    def join(self, first: int, second: int) -> None:
        """The second becomes part of the first."""
        self.sums_ND[first] += self.sums_ND[second]
        self.centres_ND[first] = _unit(self.sums_ND[first : first + 1])[0]
        self.gone_N[second] = True
        self.best_N[second] = -np.inf
        self.name_N[first] = max(self.name_N[first], self.name_N[second])
        for other in self.apart.pop(second, ()):
            self.apart[other].discard(second)
            self.apart[other].add(first)
            self.apart[first].add(other)
        row = self.centres_ND @ self.centres_ND[first]
        self._keep(first, row)
        self.stale_N[first] = False
        closer = row > self.best_N
        self.stale_N |= ~closer & np.isin(self.nearest_N, (first, second))
        self.nearest_N[closer], self.best_N[closer] = first, row[closer]
        self.stale_N[closer] = False

    def _keep(self, number: int, row_N: NDArray[np.float64]) -> None:
        """Note the nearest of a group, given its cosines; those of what it may not join become -inf."""
        row_N[self.gone_N] = -np.inf
        row_N[[number, *self.apart.get(number, ())]] = -np.inf
        if self.name_N[number] >= 0:
            row_N[(self.name_N >= 0) & (self.name_N != self.name_N[number])] = -np.inf
        nearest = int(row_N.argmax())
        self.nearest_N[number], self.best_N[number] = nearest, row_N[nearest]


def _bin(yaw: float) -> int:
    """0 frontal, then half-profiles, then profiles: the order in which bins take turns."""
    return (3, 1, 0, 2, 4)[int(np.searchsorted(YAW_EDGES, yaw))]


def _distance(face: Rated, given: Sequence[Rated], span: int) -> tuple[float, float, int]:
    nearest = min(abs(face.quality - other.quality) + abs(face.frame - other.frame) / span for other in given)
    return nearest, face.quality, -face.number


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

"""S8: the faces of a clip, who they are within it, and up to ten views of each (MAGREF B.3)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from anyref import footage
from anyref.curation.clips import (
    ONE_CPU,
    clip_of,
    device_of,
    evenly,
    put_picture,
    put_vectors,
    read_picture,
    unit,
)
from anyref.curation.identities import Pose, Rated, link, pose_from_keypoints, rank, spread
from anyref.curation.records import Clip, FaceRow, FaceView, Rectangle, to_json
from anyref.curation.regions import box_iou, crop, sharpness, thumbnail
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store
from anyref.perception import Box, Face, FaceAnalyser
from anyref.perception.models import Task

SIMILAR_ENOUGH = 0.2
"""Two neighbouring detections are one track only above this cosine: a cut or a crossing is not a movement."""
_TRACK_IOU = 0.3


@dataclass(frozen=True)
class FaceStage:
    """Finds faces in every `every`-th frame of the clip, and in the frames in which objects were looked for.

    MAGREF looks at all frames of the clip and of adjacent segments: `every` 1 is that, and adjacent segments are clips of their own here,
    joined when identities are gathered. Detections become tracks (overlap, then likeness; a gap of up to 5 % of the clip), tracks become
    identities (centroid linkage; two faces of one frame are never one). Ten views of each span its poses and qualities.
    """

    model: str = "insightface-antelopev2"
    """A face analyser of `anyref.perception.catalogue`."""
    every: int = 1
    score_floor: float = 0.3
    keyframes: int = 3
    """As many as the grounding stage's, so that faces and objects meet in the same frames."""
    identity_similarity: float = 0.45
    """Cosine within a clip, for ArcFace; OpenS2V's .1 joins strangers."""
    gap_share: float = 0.05
    """OpenS2V's and ConsisID's tolerance."""
    views: int = 10
    margin: float = 0.25
    """Around a face's box, as a share of its longer side."""
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "faces"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset({"source", "clip"})
    writes: ClassVar[frozenset[str]] = frozenset({"face_candidates", "face_boxes", "face_looks"})

    def models(self) -> dict[Task, str]:
        """See `OpensModels`."""
        return {"face-analyser": self.model}

    def open(self) -> "FaceWorker":
        """See `Stage`."""
        from anyref.perception.catalogue import open_model

        model = open_model("face-analyser", self.model, device_of(self.resources))
        return FaceWorker(self, cast("FaceAnalyser", model))


@dataclass(frozen=True)
class Seen:
    """A face in one frame."""

    frame: int
    face: Face
    pose: Pose | None
    sharpness: float

    @property
    def quality(self) -> float:
        """Detection confidence times pose quality, damped where the crop is soft."""
        return rank(self.face.score, self.pose) * (0.5 + 0.5 * min(1.0, self.sharpness / 60))


@dataclass(frozen=True)
class FaceWorker:
    """See `FaceStage`."""

    stage: FaceStage
    analyser: FaceAnalyser

    def __call__(self, record: Record, store: Store) -> Outcome:
        """Writes `face_candidates` (FaceRow) and `face_boxes`: {frame, box, score, face_id} of all faces in the keyframes; `face_looks`."""
        clip = clip_of(record)
        keyframes = set(evenly(clip, self.stage.keyframes))
        seen = self._seen(record, store, clip, keyframes)
        vectors = unit(np.stack([s.face.embedding_D for s in seen])) if seen else np.zeros((0, 1), np.float32)
        gap = max(2 * self.stage.every, round(self.stage.gap_share * clip.num_frames))
        tracks = tracks_of(seen, vectors, gap)
        identity = self._identities(seen, vectors, tracks)
        chosen = {
            number: self._chosen([index for index, who in enumerate(identity) if who == number], seen)
            for number in sorted(set(identity))
        }
        uris = self._crops(record, store, clip, [seen[i] for members in chosen.values() for i in members])
        rows = []
        for number, members in chosen.items():
            mean = vectors[[index for index, who in enumerate(identity) if who == number]].mean(axis=0)
            views = [
                _view(seen[i], uris[id(seen[i])], put_vectors(store, vectors[i : i + 1])) for i in members
            ]
            rows.append(_row(f"f{number:02d}", views, put_vectors(store, unit(mean[None]))))
        boxes = [
            {
                "frame": s.frame,
                "box": [float(side) for side in s.face.box],
                "score": float(s.face.score),
                "face_id": f"f{who:02d}",
            }
            for s, who in zip(seen, identity, strict=True)
            if s.frame in keyframes
        ]
        looks = [thumbnail(read_picture(store, row.reference.uri)) for row in rows]
        values = {
            "face_candidates": to_json(rows),
            "face_boxes": boxes,
            "face_looks": put_vectors(store, np.stack(looks)) if looks else None,
        }
        return Outcome.ok(record.with_values(values))

    def _seen(self, record: Record, store: Store, clip: Clip, keyframes: set[int]) -> list[Seen]:
        """All faces of the frames that are looked at, in their order; frames are streamed, only crops are kept."""
        seen: list[Seen] = []
        start = footage.Start(clip.start_frame, clip.start_pts)
        with store.film(record["source"]["uri"]) as path:
            for frame in footage.frames(path, first=clip.start_frame, last=clip.end_frame, start=start):
                if (frame.index - clip.start_frame) % self.stage.every and frame.index not in keyframes:
                    continue
                for face in self.analyser.faces(frame.image_YX3):
                    if face.score >= self.stage.score_floor:
                        seen.append(_looked_at(frame.index, face, frame.image_YX3))
        return seen

    def _identities(
        self, seen: Sequence[Seen], vectors: NDArray[np.float32], tracks: Sequence[Sequence[int]]
    ) -> list[int]:
        """The identity of each face; the one seen most comes first."""
        if not tracks:
            return []
        sums = np.stack([vectors[list(track)].mean(axis=0) for track in tracks])
        frames = [{seen[index].frame for index in track} for track in tracks]
        apart = [(i, j) for i in range(len(tracks)) for j in range(i) if frames[i] & frames[j]]
        groups = link(unit(sums), self.stage.identity_similarity, apart, [len(track) for track in tracks])
        sizes = {
            g: sum(len(t) for t, other in zip(tracks, groups, strict=True) if other == g) for g in groups
        }
        names = {g: name for name, g in enumerate(sorted(sizes, key=lambda g: (-sizes[g], g)))}
        identity = [0] * len(seen)
        for track, group in zip(tracks, groups, strict=True):
            for index in track:
                identity[index] = names[group]
        return identity

    def _chosen(self, members: Sequence[int], seen: Sequence[Seen]) -> list[int]:
        """The faces of an identity that are kept."""
        rated = []
        for index in members:
            pose = seen[index].pose
            rated.append(Rated(index, seen[index].frame, seen[index].quality, pose.yaw if pose else None))
        return spread(rated, self.stage.views)

    def _crops(self, record: Record, store: Store, clip: Clip, chosen: Sequence[Seen]) -> dict[int, str]:
        """Names of the pictures of the chosen faces, by `id`; a second pass, so that memory does not grow with the clip."""
        uris: dict[int, str] = {}
        wanted = {s.frame for s in chosen}
        if not wanted:
            return uris
        start = footage.Start(clip.start_frame, clip.start_pts)
        with store.film(record["source"]["uri"]) as path:
            for frame in footage.frames(path, first=min(wanted), last=max(wanted) + 1, start=start):
                for s in chosen:
                    if s.frame == frame.index:
                        picture = crop(frame.image_YX3, Box(*s.face.box), self.stage.margin)
                        uris[id(s)] = put_picture(store, picture)
        return uris


def tracks_of(seen: Sequence[Seen], vectors: NDArray[np.float32], gap: int) -> list[list[int]]:
    """Faces joined over frames: each to the open track whose last box it overlaps most and whose last vector it is like.

    A track stays open for `gap` frames. Returns indices into `seen`, tracks in the order of their first faces.
    """
    tracks: list[list[int]] = []
    for frame in sorted({s.frame for s in seen}):
        new = [index for index, s in enumerate(seen) if s.frame == frame]
        pairs: list[tuple[float, int, int]] = []
        for index in new:
            for number, track in enumerate(tracks):
                last = track[-1]
                near = 0 < frame - seen[last].frame <= gap
                overlap = box_iou(seen[index].face.box, seen[last].face.box) if near else 0.0
                alike = float(vectors[index] @ vectors[last]) if overlap >= _TRACK_IOU else 0.0
                if alike >= SIMILAR_ENOUGH:
                    pairs.append((overlap, number, index))
        taken: set[int] = set()
        extended: set[int] = set()
        for _, number, index in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if number not in extended and index not in taken:
                tracks[number].append(index)
                extended.add(number)
                taken.add(index)
        tracks += [[index] for index in new if index not in taken]
    assert all(seen[a].frame < seen[b].frame for track in tracks for a, b in pairwise(track))
    return tracks


def _looked_at(frame: int, face: Face, picture: NDArray[np.uint8]) -> Seen:
    if face.pose_degrees is not None:
        pose: Pose | None = Pose(*face.pose_degrees)
    elif face.keypoints_52 is not None:
        pose = pose_from_keypoints(face.keypoints_52)
    else:
        pose = None
    return Seen(frame, face, pose, sharpness(crop(picture, Box(*face.box))))


def _row(name: str, views: Sequence[FaceView], mean_uri: str) -> FaceRow:
    """The identity's row. The reference is its best view; its vector is the mean of all that were seen."""
    best = max(views, key=lambda view: (view.quality, -view.frame))
    return FaceRow(
        face_id=name,
        identity_id=name,
        global_identity_id=None,
        start=None,
        end=None,
        reference=replace(best, embedding_uri=mean_uri),
        pool=tuple(views),
    )


def _view(seen: Seen, uri: str, embedding_uri: str) -> FaceView:
    points: Any = seen.face.keypoints_52
    return FaceView(
        uri=uri,
        frame=seen.frame,
        box=Rectangle(*(float(side) for side in seen.face.box)),
        keypoints=None if points is None else tuple(float(value) for value in np.ravel(points)),
        pose_degrees=None if seen.pose is None else (seen.pose.pitch, seen.pose.yaw, seen.pose.roll),
        score=float(seen.face.score),
        quality=float(seen.quality),
        embedding_uri=embedding_uri,
    )

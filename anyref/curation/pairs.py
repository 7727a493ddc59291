"""What of one clip may stand for a subject of another, and places that a subject has never been: steps that see all records at once.

Vectors were computed by the stages before; here they are only compared.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyref.curation.clips import clip_of, read_vectors, unit
from anyref.curation.decisions import DEFAULT_RULES, Rules, reasons, view_values
from anyref.curation.records import FaceRow, ObjectRow, Variant, from_json, to_json
from anyref.curation.stage import Outcome, Record, digest
from anyref.curation.store import Store

Vector: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Donors:
    """Gives every clip backgrounds of unrelated films, to lay its subjects on.

    Kaleido A.1: "segmented subjects are composited with backgrounds or video clips from different, unrelated sources". Unrelated: of another
    group of films. Hashes of groups lie on a ring, each at several points so that all are chosen about equally often, and a clip takes the
    groups that follow its own hash, and of each the clip that does: adding films changes few choices, and time grows with the clips.
    """

    count: int = 2
    points: int = 16
    """Points on the ring for each group."""
    name: ClassVar[str] = "donors"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset({"source", "background"})
    writes: ClassVar[frozenset[str]] = frozenset({"donors"})

    def gather(self, records: Sequence[Record], store: Store) -> list[Outcome]:  # noqa: ARG002 - the protocol's
        """Writes `donors`, names of pictures; see `Gathering`."""
        by_group: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for record in records:
            if record.get("background"):
                place = (digest(record.id), str(record["background"]["uri"]))
                by_group[record["source"]["group_id"]].append(place)
        for clips in by_group.values():
            clips.sort()
        ring = sorted((digest([group, n]), group) for group in by_group for n in range(self.points))
        outcomes = []
        for record in records:
            at, own = digest(record.id), record["source"]["group_id"]
            groups: list[str] = []
            for group in _after(ring, at):
                if len(groups) == self.count:
                    break
                if group != own and group not in groups:
                    groups.append(group)
            chosen = [next(_after(by_group[group], at)) for group in groups]
            outcomes.append(Outcome.ok(record.with_values({"donors": chosen})))
        return outcomes


@dataclass(frozen=True)
class CrossPairs:
    """Gives every subject views of itself in other clips, as variants of kind "crossclip".

    Their likeness is stored, so that both bounds are decisions: alike enough to be the same, unlike enough not to be a copy. OpenS2V's
    released pairs have no upper bound and hold one clip under two names. Only views that `rules` keep are given away.
    """

    rules: Rules = DEFAULT_RULES
    copy_difference: float = 4.0
    """Mean difference, of 255, of two thumbnails below which one is a copy of the other, whatever an encoder says."""
    count: int = 4
    """At most, for each subject, and one of each clip: those of other films first, then the least alike."""
    name: ClassVar[str] = "cross-pairs"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset(
        {
            "source",
            "clip",
            "face_candidates",
            "face_vectors",
            "face_looks",
            "objects",
            "object_vectors",
            "object_looks",
            "object_colours",
        }
    )
    writes: ClassVar[frozenset[str]] = frozenset({"face_candidates", "objects"})

    def gather(self, records: Sequence[Record], store: Store) -> list[Outcome]:
        """See `Gathering`."""
        faces = [[from_json(FaceRow, v) for v in record.get("face_candidates", ())] for record in records]
        objects = [[from_json(ObjectRow, v) for v in record.get("objects", ())] for record in records]
        face_views = Views(self._of_faces(records, faces, store))
        object_views = Views(self._of_objects(records, objects, store))
        outcomes = []
        for record, own_faces, own_objects in zip(records, faces, objects, strict=True):
            new_faces = [
                replace(face, variants=(*face.variants, *self._variants(record, face.face_id, face_views)))
                for face in own_faces
            ]
            new_objects = [
                replace(row, variants=(*row.variants, *self._variants(record, row.object_id, object_views)))
                for row in own_objects
            ]
            values = {"face_candidates": to_json(new_faces), "objects": to_json(new_objects)}
            outcomes.append(Outcome.ok(record.with_values(values)))
        return outcomes

    def _variants(self, record: Record, row_id: str, views: "Views") -> list[Variant]:
        """What other clips have of one subject."""
        own = views.by_key.get(key_of(record, row_id))
        if own is None:
            return []
        others = [view for view in views.by_identity[own.identity] if view.record_id != record.id]
        rated = [(own.likeness("dino", view), view) for view in others]
        rated.sort(key=lambda pair: (pair[1].film == own.film, pair[0] or 0.0, pair[1].key))
        first: dict[str, tuple[float | None, View]] = {}
        for pair in rated:  # frames of one clip look alike: one of them says it all
            first.setdefault(pair[1].record_id, pair)
        return [
            Variant(
                uri=view.uri,
                kind="crossclip",
                source_id=view.key,
                similarity_identity=own.likeness("identity", view),
                similarity_dino=likeness,
                similarity_clip=view.class_margin,
                similarity_colour=own.likeness("colour", view),
                reason=copied,
                accepted=not copied,
            )
            for likeness, view in list(first.values())[: self.count]
            for copied in [own.copied(view, self.copy_difference)]
        ]

    def _of_faces(
        self, records: Sequence[Record], faces: Sequence[Sequence[FaceRow]], store: Store
    ) -> "list[View]":
        found = []
        for record, rows in zip(records, faces, strict=True):
            dino = _stored(record, "face_vectors", store)
            looks = read_vectors(store, record["face_looks"]) if record.get("face_looks") else None
            crop = clip_of(record).crop
            area = (crop.bottom - crop.top) * (crop.right - crop.left)
            for number, face in enumerate(rows):
                kept = not reasons(view_values(face.reference, area), self.rules.of("face"))
                if face.global_identity_id and face.reference.embedding_uri:
                    vectors = {"identity": unit(read_vectors(store, face.reference.embedding_uri)[0])}
                    if dino is not None:
                        vectors["dino"] = dino[number]
                    if looks is not None:
                        vectors["look"] = looks[number]
                    found.append(
                        View.of(
                            record, face.face_id, face.global_identity_id, face.reference.uri, vectors, kept
                        )
                    )
        return found

    def _of_objects(
        self, records: Sequence[Record], objects: Sequence[Sequence[ObjectRow]], store: Store
    ) -> "list[View]":
        found = []
        for record, rows in zip(records, objects, strict=True):
            dino = _stored(record, "object_vectors", store)
            others = {
                name: read_vectors(store, record[of])
                for name, of in (("look", "object_looks"), ("colour", "object_colours"))
                if record.get(of)
            }
            for number, row in enumerate(rows):
                cut = next((variant for variant in row.variants if variant.kind == "segment"), None)
                if row.global_identity_id and cut and dino is not None:
                    kept = not reasons(row.scores, self.rules.of("object"))
                    vectors = {"dino": dino[number], **{name: all_[number] for name, all_ in others.items()}}
                    view = View.of(record, row.object_id, row.global_identity_id, cut.uri, vectors, kept)
                    found.append(replace(view, class_margin=row.scores.get("class_margin")))
        return found


@dataclass(frozen=True)
class View:
    """A picture of a subject, and its vectors by what they tell."""

    record_id: str
    key: str
    film: str
    identity: str
    uri: str
    vectors: Mapping[str, Vector]
    kept: bool
    """Whether other clips may take it."""
    class_margin: float | None = None

    @staticmethod
    def of(
        record: Record, row_id: str, identity: str, uri: str, vectors: Mapping[str, Vector], kept: bool
    ) -> "View":
        """A view of a row of a record."""
        film = str(record["source"]["group_id"])
        return View(record.id, key_of(record, row_id), film, identity, uri, vectors, kept)

    def likeness(self, of: str, other: "View") -> float | None:
        """Cosine of both views' vectors of this name; None where one has none."""
        if of not in self.vectors or of not in other.vectors:
            return None
        return float(self.vectors[of] @ other.vectors[of])

    def copied(self, other: "View", difference: float) -> str:
        """Why one view is a copy of the other; "" where it is not, or thumbnails are missing."""
        if "look" not in self.vectors or "look" not in other.vectors:
            return ""
        found = float(np.abs(self.vectors["look"] - other.vectors["look"]).mean())
        return f"copy: {found:.3g} is below {difference:.3g}" if found < difference else ""


class Views:
    """Views by key, and those that may be taken by identity."""

    def __init__(self, found: Iterable[View]) -> None:
        self.by_key: dict[str, View] = {}
        self.by_identity: dict[str, list[View]] = defaultdict(list)
        for view in found:
            self.by_key[view.key] = view
            if view.kept:
                self.by_identity[view.identity].append(view)


def key_of(record: Record, row_id: str) -> str:
    """Name of a face or an object among all records."""
    return f"{record.id}-{row_id}"


def _after(ring: Sequence[tuple[str, str]], at: str) -> Iterator[str]:
    """What (hash, name) pairs in the order of their hashes name, once around, beginning with the first hash that is not below `at`."""
    first = bisect_left(ring, (at, ""))
    for number in range(len(ring)):
        yield ring[(first + number) % len(ring)][1]


def _stored(record: Record, name: str, store: Store) -> Vector | None:
    stored = record.get(name)
    return unit(read_vectors(store, stored["uri"])) if stored else None

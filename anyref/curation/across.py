"""Who is who across clips and films: a step that sees all records at once.

Vectors were computed by the stages before; here they are only compared. Groups are built within each film first, then between films.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyref.curation.clips import read_vectors, unit
from anyref.curation.identities import link
from anyref.curation.records import FaceRow, ObjectRow, from_json, to_json
from anyref.curation.stage import Outcome, Record
from anyref.curation.store import Store
from anyref.curation.taxonomy import Taxonomy, load_taxonomy


class Member(NamedTuple):
    """A subject as identities see it: a face of a clip, or an object of a frame."""

    record: int
    """Index among the records."""
    row: int
    """Index among the record's faces or objects."""
    key: str
    film: str
    place: tuple[int, int]
    """(record, frame): two members of one place are not the same."""
    face: str | None = None
    """Global identity of the face of a person."""


@dataclass(frozen=True)
class Identities:
    """Gives `global_identity_id` to faces and to objects: equal for two of them if and only if they are taken for the same.

    Faces: cosine of the clips' mean vectors; two identities of one clip stay two. Objects: only of one class of the taxonomy, by the
    vectors of their cut-outs; two objects of one frame stay two, and people with faces of two identities, too. The id is the name of the
    group's first member in the order of ids, so that adding films leaves the others' names as they are, unless a group grows at its front.
    """

    face_similarity: float = 0.55
    """Cosine across clips, for ArcFace."""
    object_similarity: float = 0.7
    """Cosine of DINOv2 vectors of cut-outs on white."""
    duplicate_iou: float = 0.8
    """Objects that are the same mask as a better one are left out."""
    name: ClassVar[str] = "identities"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset(
        {"source", "face_candidates", "objects", "object_vectors", "object_faces"}
    )
    writes: ClassVar[frozenset[str]] = frozenset({"face_candidates", "objects"})

    def gather(self, records: Sequence[Record], store: Store) -> list[Outcome]:
        """See `Gathering`."""
        faces = [[from_json(FaceRow, v) for v in record.get("face_candidates", ())] for record in records]
        objects = [[from_json(ObjectRow, v) for v in record.get("objects", ())] for record in records]
        films = [_film(record) for record in records]
        members, vectors = _face_members(records, faces, films, store)
        for member, name in zip(members, self._names(members, vectors, self.face_similarity), strict=True):
            faces[member.record][member.row] = replace(
                faces[member.record][member.row], global_identity_id=name
            )
        taxonomy = load_taxonomy()
        classes: dict[str, list[tuple[Member, NDArray[np.float32]]]] = defaultdict(list)
        for number, record in enumerate(records):
            stored = record.get("object_vectors")
            rows = objects[number]
            vectors_of = read_vectors(store, stored["uri"]) if stored else ()
            for index, (row, vector) in enumerate(zip(rows, vectors_of, strict=True)):
                if row.scores.get("duplicate_iou", 0.0) <= self.duplicate_iou:
                    at = Member(
                        number,
                        index,
                        f"{record.id}-{row.object_id}",
                        films[number],
                        (number, row.frame),
                        _face_of(row, faces[number], record.get("object_faces", {})),
                    )
                    classes[_root(row, taxonomy)].append((at, vector))
        for label in sorted(classes):
            of_class = [member for member, _ in classes[label]]
            stacked = unit(np.stack([vector for _, vector in classes[label]]))
            for member, name in zip(
                of_class, self._names(of_class, stacked, self.object_similarity), strict=True
            ):
                row = objects[member.record][member.row]
                objects[member.record][member.row] = replace(row, global_identity_id=name)
        return [
            Outcome.ok(
                record.with_values({"face_candidates": to_json(faces[i]), "objects": to_json(objects[i])})
            )
            for i, record in enumerate(records)
        ]

    def _names(self, members: Sequence[Member], vectors: NDArray[np.float32], similarity: float) -> list[str]:
        """Group each film's members, then the films' groups; returns each member's group's name."""
        by_film: dict[str, list[int]] = defaultdict(list)
        for index, member in enumerate(members):
            by_film[member.film].append(index)
        groups: list[list[int]] = []
        for film in sorted(by_film):
            indices = by_film[film]
            alone = [[members[i]] for i in indices]
            numbers = link(vectors[indices], similarity, _together(alone), names=_faces(alone))
            for number in range(max(numbers) + 1):
                groups.append([i for i, n in zip(indices, numbers, strict=True) if n == number])
        if not groups:
            return []
        means = unit(np.stack([vectors[group].mean(axis=0) for group in groups]))
        of_groups = [[members[i] for i in group] for group in groups]
        sizes = [len(group) for group in groups]
        joined = link(means, similarity, _together(of_groups), sizes, _faces(of_groups))
        first: dict[int, str] = {}
        for group, number in zip(groups, joined, strict=True):
            keys = [members[i].key for i in group]
            first[number] = min([*keys, first[number]] if number in first else keys)
        names = [""] * len(members)
        for group, number in zip(groups, joined, strict=True):
            for index in group:
                names[index] = first[number]
        return names


def _face_members(
    records: Sequence[Record], faces: Sequence[Sequence[FaceRow]], films: Sequence[str], store: Store
) -> tuple[list[Member], NDArray[np.float32]]:
    members, vectors = [], []
    for number, record in enumerate(records):
        for index, face in enumerate(faces[number]):
            uri = face.reference.embedding_uri
            assert uri is not None, "faces come with vectors"
            key = f"{record.id}-{face.face_id}"
            members.append(Member(number, index, key, films[number], (number, -1)))
            vectors.append(read_vectors(store, uri)[0])
    return members, np.stack(vectors) if vectors else np.zeros((0, 1), np.float32)


def _together(groups: Sequence[Sequence[Member]]) -> list[tuple[int, int]]:
    """Pairs of groups that cannot be the same because they share a frame (or, for faces, a clip)."""
    at: dict[tuple[int, int], dict[int, None]] = defaultdict(dict)
    for number, group in enumerate(groups):
        for member in group:
            at[member.place][number] = None
    return sorted({pair for there in at.values() for pair in combinations(there, 2)})


def _faces(groups: Sequence[Sequence[Member]]) -> list[str | None]:
    """Whose face each group shows. It is one: people with two faces never came into one group."""
    return [next((member.face for member in group if member.face), None) for group in groups]


def _face_of(row: ObjectRow, faces: Sequence[FaceRow], nearest: Mapping[str, str]) -> str | None:
    """The global identity of the face in a person's mask."""
    if row.kind != "person" or row.scores.get("holds_face", 0.0) < 0.9:
        return None
    return next((f.global_identity_id for f in faces if f.face_id == nearest.get(row.object_id)), None)


def _root(row: ObjectRow, taxonomy: Taxonomy) -> str:
    """What objects must share to be one: their class, of people "person" (captions say "woman" here and "person" there), or their words."""
    if row.class_id is None:
        return row.label.lower()
    return (row.class_id, *taxonomy.ancestors(row.class_id))[-1 if row.kind == "person" else 0]


def _film(record: Record) -> str:
    return str(record["source"]["sha256"])

"""S9: how much objects and faces overlap, and whose face belongs to which person (MAGREF equations 15 and 16)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from anyref.curation.clips import ONE_CPU
from anyref.curation.records import FaceRow, ObjectRow, from_json, to_json
from anyref.curation.regions import Mask, box_mask, inside_share, iou
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store
from anyref.perception import Box
from anyref.runlengths import decode

MOSTLY = 0.9
"""A face of which this share lies in a person's mask is that person's."""


@dataclass(frozen=True)
class SuppressionStage:
    """Measures, for every object, the overlap with each face of the same frame; the rule of equation 16 is a decision over it.

    A face's mask is its box: MAGREF does not say how it gets face masks, and OpenS2V's released pipeline uses boxes. A person's phrase is
    given to the face that lies in its mask.
    """

    resources: Resources = ONE_CPU
    name: ClassVar[str] = "suppression"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"objects", "face_boxes", "face_candidates"})
    writes: ClassVar[frozenset[str]] = frozenset({"objects", "face_candidates", "object_faces"})

    def open(self) -> "SuppressionStage":
        """See `Stage`: there is nothing to load."""
        return self

    def __call__(self, record: Record, store: Store) -> Outcome:  # noqa: ARG002 - the protocol's
        """Writes into `objects` the scores face_iou, inside_face and holds_face; `object_faces`: object to the face that overlaps it most."""
        rows = [from_json(ObjectRow, value) for value in record["objects"]]
        faces = [from_json(FaceRow, value) for value in record["face_candidates"]]
        measured: list[ObjectRow] = []
        owners: dict[str, list[ObjectRow]] = {}
        nearest: dict[str, str] = {}
        for row in rows:
            overlaps = overlaps_of(row, decode(row.mask), record["face_boxes"])
            measured.append(_with_overlaps(row, overlaps))
            most = max(overlaps, key=lambda o: (o["face_iou"], o["holds_face"]), default=None)
            if most is not None and most["face_iou"] > 0:
                nearest[row.object_id] = most["face_id"]
            if row.kind == "person":
                for overlap in overlaps:
                    if overlap["holds_face"] >= MOSTLY:
                        owners.setdefault(overlap["face_id"], []).append(measured[-1])
        named = [_named(face, owners.get(face.face_id, ())) for face in faces]
        values = {
            "objects": to_json(measured),
            "face_candidates": to_json(named),
            "object_faces": nearest,
        }
        return Outcome.ok(record.with_values(values))


def overlaps_of(row: ObjectRow, mask: Mask, face_boxes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For every face of the object's frame: face_id, face_iou, inside_face (share of the object), holds_face (share of the face)."""
    found = []
    for face in face_boxes:
        if face["frame"] != row.frame:
            continue
        face_mask = box_mask(Box(*face["box"]), *mask.shape)
        found.append(
            {
                "face_id": face["face_id"],
                "face_iou": iou(mask, face_mask),
                "inside_face": inside_share(mask, face_mask),
                "holds_face": inside_share(face_mask, mask),
            }
        )
    return found


def _with_overlaps(row: ObjectRow, overlaps: Sequence[dict[str, Any]]) -> ObjectRow:
    scores = {
        name: max((o[name] for o in overlaps), default=0.0)
        for name in ("face_iou", "inside_face", "holds_face")
    }
    return replace(row, scores={**row.scores, **scores})


def _named(face: FaceRow, owners: Sequence[ObjectRow]) -> FaceRow:
    """The face with the words of the caption that the person's mask around it answers to: those of the tightest such mask."""
    if not owners:
        return face
    owner = min(owners, key=lambda row: (row.scores.get("duplicate_iou", 0.0) > 0.8, row.area, row.object_id))
    return replace(face, start=owner.start, end=owner.end)

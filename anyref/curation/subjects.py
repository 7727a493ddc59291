"""Who in a curated clip can be a training subject: the rows of faces, objects and the background, gathered by what the caption calls them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anyref.curation import records as rows
from anyref.runlengths import RunLengths, decode
from anyref.samples import KINDS, Kind

_FACE_VIEWS = 10


@dataclass(frozen=True)
class Candidate:
    """Somebody or something, and the pictures there are. `caption[start:end]` names it."""

    identity: str
    kind: Kind
    label: str
    start: int
    end: int
    variants: tuple[rows.Variant, ...]
    masks: Mapping[int, RunLengths | rows.Rectangle]
    """Frame of the film to where it is there; frames that were not looked at are missing. Empty for the background."""


def candidates(row: rows.Sample) -> list[Candidate]:
    """The subjects of a row, in the order of the caption, the background last.

    What a filter dropped, what a face stands for, and what the caption does not name is left out. Of several that one phrase names, the one
    that was found in most frames is kept: a phrase stands for one subject.
    """
    if row.caption is None:
        return []
    found = [*_faces(row), *_objects(row)]
    found = sorted(found, key=lambda one: (one.start, one.end, one.kind, one.identity))
    return [*found, *_background(row)]


def unique_phrase(caption: str, start: int, end: int) -> str:
    """`caption[start:end]`, grown by whole words, first to the right, until the words stand only once in the caption.

    An empty text where even the whole caption's words do not (which cannot be) or the span is empty.
    """
    if not 0 <= start < end <= len(caption):
        return ""
    words = [(match.start(), match.end()) for match in re.finditer(r"\S+", caption)]
    inside = [number for number, (first, last) in enumerate(words) if first < end and last > start]
    first, last = inside[0], inside[-1]
    phrase = caption[start:end]
    while _count(caption, phrase) > 1 and (first > 0 or last < len(words) - 1):
        if last < len(words) - 1:
            last += 1
        else:
            first -= 1
        phrase = caption[min(start, words[first][0]) : max(end, words[last][1])]
    return phrase


def mask_in(where: RunLengths | rows.Rectangle, height: int, width: int) -> NDArray[np.bool_]:
    """A mask, or a box as one, of a frame of the film: bool [height, width]."""
    if isinstance(where, RunLengths):
        return decode(where)
    filled = np.zeros((height, width), dtype=np.bool_)
    top, left, bottom, right = (max(0, round(side)) for side in where)
    filled[top:bottom, left:right] = True
    return filled


def _count(caption: str, phrase: str) -> int:
    """How often the phrase stands there as whole words."""
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    return len(re.findall(rf"(?<!\w){words}(?!\w)", caption, re.IGNORECASE))


def _faces(row: rows.Sample) -> list[Candidate]:
    found = []
    for face in row.faces:
        if face.start is None or face.end is None:
            continue
        views = [face.reference, *face.pool][: 1 + _FACE_VIEWS]
        own = {view.uri: rows.Variant(view.uri, "crop", face.face_id) for view in views}
        made = {variant.uri: variant for variant in face.variants}
        found.append(
            Candidate(
                identity=face.global_identity_id or f"{row.sample_id}/{face.identity_id}",
                kind="face",
                label="face",
                start=face.start,
                end=face.end,
                variants=tuple({**own, **made}.values()),
                masks={view.frame: view.box for view in reversed(views) if _within(view.frame, row)},
            )
        )
    return found


def _objects(row: rows.Sample) -> list[Candidate]:
    groups: dict[tuple[int, int, str], list[rows.ObjectRow]] = {}
    for one in row.objects:
        if not one.dropped and one.suppressed_by_face is None:
            groups.setdefault((one.start, one.end, one.global_identity_id or ""), []).append(one)
    best: dict[tuple[int, int], list[rows.ObjectRow]] = {}
    for (start, end, _), members in sorted(groups.items()):
        if _weight(members) > _weight(best.get((start, end), [])):
            best[start, end] = members
    return [_gathered(row, sorted(members, key=lambda one: -one.score)) for members in best.values()]


def _weight(members: list[rows.ObjectRow]) -> tuple[int, float]:
    return len({one.frame for one in members}), sum(one.score for one in members)


def _gathered(row: rows.Sample, members: list[rows.ObjectRow]) -> Candidate:
    """One subject of the rows of one phrase, best first."""
    first = members[0]
    variants = {variant.uri: variant for one in members for variant in one.variants}
    return Candidate(
        identity=first.global_identity_id or f"{row.sample_id}/{first.object_id}",
        kind=next((kind for kind in KINDS if kind == first.kind), "object"),
        label=first.class_id or first.label,
        start=first.start,
        end=first.end,
        variants=tuple(variants.values()),
        masks={one.frame: one.mask for one in reversed(members)},
    )


def _background(row: rows.Sample) -> list[Candidate]:
    place = row.background
    named = [tag for tag in row.tags if tag.kind == "background"]
    if place is None or not named:
        return []
    # The clip's own place with its subjects painted out is copied from the clip, as a crop is.
    own = rows.Variant(place.uri, "crop", "background")
    variants = {variant.uri: variant for variant in (own, *place.variants)}
    tag = named[0]
    return [
        Candidate(
            identity=f"{row.sample_id}/background",
            kind="background",
            label=tag.class_id or tag.label,
            start=tag.start,
            end=tag.end,
            variants=tuple(variants.values()),
            masks={},
        )
    ]


def _within(frame: int, row: rows.Sample) -> bool:
    return row.clip.start_frame <= frame < row.clip.end_frame

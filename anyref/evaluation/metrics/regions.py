"""Where the subjects of a case are: found by words in frames and in references, cut out, and compared.

Detections and masks are kept in the video's feature cache, so that seven metrics pay for them once. The papers leave open what a
"subject region" is; ours is the detector's box by class label, the segmenter's mask in it, everything else grey 127, a square crop with a
margin of 5 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase, EvaluationReference
from anyref.evaluation.metrics import JSON, Mark, VideoUnderTest
from anyref.evaluation.metrics.vectors import Vectors, indices_key, model_key, picture_key, picture_vectors
from anyref.perception import Box, Detection, Detector, ImageEncoder, Model, Picture, Segmenter

Mask = NDArray[np.bool_]
GREY = 127
MARGIN = 0.05
MAX_REGIONS = 8
"""Instances of one query in one frame that are looked at, best first."""
OVERLAP = 0.7
"""Boxes of one query that overlap more than this are the same thing; the better one stays."""


_NOUNS: Mapping[str, str] = {
    "face": "face",
    "human": "person",
    "object": "object",
    "background": "background",
}


class Finder(NamedTuple):
    """The two models that find a subject, and the score from which a box counts."""

    detector: Detector
    segmenter: Segmenter
    min_score: float

    @property
    def key(self) -> tuple[str, ...]:
        """For the feature cache."""
        return (model_key(self.detector), model_key(self.segmenter), f"{self.min_score:g}")


@dataclass(frozen=True, eq=False)
class Region:
    """Something that a query was found to be in a frame. `frame` and `query` are places in what was asked, not frame indices."""

    frame: int
    query: int
    score: float
    box: Box
    size: tuple[int, int]
    packed: NDArray[np.uint8]
    """The mask, eight pixels a byte: twelve references in sixteen frames would fill a machine otherwise."""

    @property
    def subject_mask(self) -> Mask:
        """Where it is; its box where the segmenter found nothing in a good box: it was found, only its outline was not."""
        mask = np.unpackbits(self.packed, count=self.size[0] * self.size[1]).astype(bool).reshape(self.size)
        return mask if mask.any() else box_mask(self.box, *self.size)


@dataclass(frozen=True)
class Regions:
    """All regions of the frames at `indices`, and one vector [D] for each."""

    indices: tuple[int, ...]
    found: tuple[Region, ...]
    vectors_ND: Vectors

    def of(self, query: int, frame: int) -> list[int]:
        """Places in `found` of a query in a frame, best first."""
        return [n for n, region in enumerate(self.found) if region.query == query and region.frame == frame]


def finder(models: Mapping[str, Model], min_score: float) -> Finder:
    """Out of what the engine handed over."""
    detector, segmenter = models["detector"], models["segmenter"]
    assert isinstance(detector, Detector)
    assert isinstance(segmenter, Segmenter)
    return Finder(detector, segmenter, min_score)


def subjects(case: EvaluationCase, faces: bool = True) -> list[int]:
    """Places of the references that show somebody or something: not backgrounds and, unless `faces`, not faces."""
    left_out = {"background"} if faces else {"background", "face"}
    return [place for place, reference in enumerate(case.references) if reference.role not in left_out]


def label_of(reference: EvaluationReference) -> str:
    """What a detector is asked for: `written_label` in lower case."""
    return written_label(reference).lower()


def written_label(reference: EvaluationReference) -> str:
    """The class label as the benchmark writes it; without one the phrase, or a word for the role."""
    return reference.label.strip() or (reference.phrase or "").strip() or _NOUNS[reference.role]


def words_of(reference: EvaluationReference) -> str:
    """The words that name this subject and no other, where the case has them; else its label."""
    return (reference.phrase or "").strip().lower() or label_of(reference)


def find(video: VideoUnderTest, by: Finder, queries: Sequence[str], indices: Sequence[int]) -> list[Region]:
    """Every query in the frames at `indices`: by frame, then query, best first. A query that occurs twice is looked for once."""
    assert queries
    unique = list(dict.fromkeys(queries))
    key = (*by.key, indices_key(indices), *unique)

    def detect() -> NDArray[np.float64]:
        rows: list[tuple[float, ...]] = []
        for frame, picture in enumerate(video.frames_at(indices)):
            for one in _kept(by.detector.detect(picture, unique), by.min_score, len(unique)):
                rows.append((frame, one.phrase, one.score, *one.box, *picture.shape[:2]))
        return np.array(rows, np.float64).reshape(-1, 9)

    table_N9 = video.features.get_or_compute(("regions", *key), detect)
    if not len(table_N9):
        return []

    def segment() -> NDArray[np.uint8]:
        packed = []
        for frame, picture in enumerate(video.frames_at(indices)):
            boxes = [Box(*row[3:7]) for row in table_N9[table_N9[:, 0] == frame].tolist()]
            if boxes:
                packed.append(
                    np.packbits(by.segmenter.segment(picture, boxes).reshape(len(boxes), -1), axis=1)
                )
        return np.concatenate(packed)

    packed_NP = video.features.get_or_compute(("region-masks", *key), segment)
    return [
        Region(int(row[0]), query, row[2], Box(*row[3:7]), (int(row[7]), int(row[8])), packed)
        for row, packed in zip(table_N9.tolist(), packed_NP, strict=True)
        for query, words in enumerate(queries)
        if words == unique[int(row[1])]
    ]


def find_and_encode(
    video: VideoUnderTest, by: Finder, encoder: ImageEncoder, queries: Sequence[str], indices: Sequence[int]
) -> Regions:
    """`find`, and the vector of each region cut out on grey."""
    found = find(video, by, queries, indices)
    key = ("region-vectors", model_key(encoder), *by.key, indices_key(indices), *queries)

    def encode() -> NDArray[np.float32]:
        if not found:
            return np.zeros((0, 1), np.float32)
        pictures = video.frames_at(indices)
        vectors = [
            encoder.encode(
                [cut_out(pictures[region.frame], region.subject_mask) for region in found[at : at + 32]]
            )
            for at in range(0, len(found), 32)
        ]
        return np.concatenate(vectors).astype(np.float32)

    vectors_ND = video.features.get_or_compute(key, encode)
    return Regions(tuple(indices), tuple(found), np.asarray(vectors_ND, np.float32))


def reference_masks(
    video: VideoUnderTest, by: Finder | None, places: Sequence[int], pictures: Sequence[Picture]
) -> list[Mask]:
    """Where the subject is in each of these references: its mask file or transparency, else found by its label, else the whole picture."""
    given = video.reference_masks()
    masks = []
    for place in places:
        mask_YX, picture = given[place], pictures[place]
        if mask_YX is not None and mask_YX.shape == picture.shape[:2] and mask_YX.any():
            masks.append(mask_YX)
        elif by is None:
            masks.append(np.ones(picture.shape[:2], bool))
        else:
            masks.append(_found_mask(video, by, label_of(video.case.references[place]), picture))
    return masks


def reference_vectors(
    video: VideoUnderTest, by: Finder | None, encoder: ImageEncoder, places: Sequence[int]
) -> Vectors:
    """[len(places), D] of the subjects of these references, cut out on grey as regions of frames are."""
    pictures = video.references()
    masks = reference_masks(video, by, places, pictures)
    cuts = [cut_out(pictures[place], mask) for place, mask in zip(places, masks, strict=True)]
    return picture_vectors(video, encoder, cuts)


def cut_out(picture_YX3: Picture, mask_YX: Mask, margin: float = MARGIN, fill: int = GREY) -> Picture:
    """What the mask covers, on plain grey, centred in a square with a margin of this share of its side."""
    assert mask_YX.any()
    rows, columns = np.flatnonzero(mask_YX.any(1)), np.flatnonzero(mask_YX.any(0))
    height, width = int(rows[-1] + 1 - rows[0]), int(columns[-1] + 1 - columns[0])
    side = max(height, width) + 2 * round(margin * max(height, width))
    square = np.full((side, side, 3), fill, np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    place = (slice(rows[0], rows[0] + height), slice(columns[0], columns[0] + width))
    square[top : top + height, left : left + width] = np.where(
        mask_YX[place][..., None], picture_YX3[place], fill
    )
    return square


def grown(mask_YX: Mask, reach_px: int) -> Mask:
    """The mask and everything within so many rows and columns of it; `~grown(~mask, reach)` shrinks it, and leaves it at the edges."""
    grown_YX = mask_YX
    for axis in (0, 1):
        sides = [(reach_px + 1, reach_px) if each == axis else (0, 0) for each in (0, 1)]
        counts = np.cumsum(np.pad(grown_YX, sides), axis=axis, dtype=np.int32)
        length = mask_YX.shape[axis]
        behind = counts.take(range(length), axis=axis)
        grown_YX = counts.take(range(2 * reach_px + 1, 2 * reach_px + 1 + length), axis=axis) > behind
    return grown_YX


def box_mask(box: Box, height: int, width: int) -> Mask:
    """The pixels of a box, at least one."""
    mask = np.zeros((height, width), bool)
    top, left = min(max(0, int(box.top)), height - 1), min(max(0, int(box.left)), width - 1)
    mask[top : max(top + 1, int(np.ceil(box.bottom))), left : max(left + 1, int(np.ceil(box.right)))] = True
    return mask


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes."""
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    width = min(first.right, second.right) - max(first.left, second.left)
    if height <= 0 or width <= 0:
        return 0.0
    areas = [(box.bottom - box.top) * (box.right - box.left) for box in (first, second)]
    return height * width / (sum(areas) - height * width)


def marks(
    regions: Sequence[Region],
    indices: Sequence[int],
    places: Sequence[int],
    queries: Sequence[str],
    outlined: bool = False,
) -> tuple[Mark, ...]:
    """For the gallery; `outlined` with their masks, which one metric of a suite should show and not all, as they fill the file of rows."""
    from anyref.runlengths import encode

    found = []
    for one in regions:
        mask: dict[str, JSON] | None = None
        if outlined:
            runs = encode(one.subject_mask)
            mask = {"size": list(runs.size), "counts": str(runs.counts)}
        box = Box(*(round(side, 1) for side in one.box))
        found.append(Mark(indices[one.frame], box, queries[one.query], one.score, places[one.query], mask))
    return tuple(found)


def _kept(detections: Sequence[Detection], min_score: float, num_queries: int) -> list[Detection]:
    """Good enough, not the same thing twice, at most MAX_REGIONS a query; by query, best first."""
    kept: list[Detection] = []
    for query in range(num_queries):
        of_query: list[Detection] = []
        candidates = [one for one in detections if one.phrase == query and one.score >= min_score]
        for one in sorted(candidates, key=lambda each: -each.score):
            if all(overlap(one.box, other.box) <= OVERLAP for other in of_query):
                of_query.append(one)
        kept += of_query[:MAX_REGIONS]
    return kept


def _found_mask(video: VideoUnderTest, by: Finder, label: str, picture: Picture) -> Mask:
    def look() -> NDArray[np.bool_]:
        found = _kept(by.detector.detect(picture, [label]), by.min_score, 1)
        mask = by.segmenter.segment(picture, [found[0].box])[0] if found else None
        return mask if mask is not None and mask.any() else np.ones(picture.shape[:2], bool)

    key = ("reference-mask", *by.key, label, picture_key(picture))
    return video.features.get_or_compute(key, look)

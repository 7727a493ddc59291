"""S7: everything that filters of objects look at: duplicates, parts, class, sharpness, brightness; and a vector of each (Kaleido 3.2 (4))."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from anyref.curation.clips import ONE_CPU, device_of, pictures, put_picture, put_vectors
from anyref.curation.records import ObjectRow, Variant, from_json, to_json
from anyref.curation.regions import (
    Mask,
    box_of,
    brightness,
    colours,
    crop,
    cut_out,
    inside_share,
    iou,
    keepers,
    on_plain,
    thumbnail,
)
from anyref.curation.regions import sharpness as sharpness_of
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store
from anyref.curation.taxonomy import OURS, Taxonomy, load_taxonomy
from anyref.perception import AestheticPredictor, ImageEncoder, ImageTextEncoder, Picture
from anyref.runlengths import decode

CROP_MARGIN = 0.1
"""Around the tight box, as a share of its longer side."""
_TEMPERATURE = 100.0
"""CLIP's own scale of cosines, for its probabilities of classes."""


@dataclass(frozen=True)
class ObjectStage:
    """Scores every object and keeps its two first variants, crop and segment. Throws nothing away: that is for decisions.

    Masks of one frame that overlap by more than `duplicate_iou` are one thing under several names (GroundingDINO finds a person as "woman",
    "individual" and "person"): the most specific name stands, then the best score, and takes the others as aliases. The class check is
    zero-shot classification among the classes that the thing could be mistaken for, not an absolute cosine, which no threshold fits.
    """

    image_text_model: str = "clip-l14"
    image_model: str = "dinov2-base"
    aesthetic_model: str = ""
    """"" rates no objects."""
    class_prompt: str = "a photo of a {}"
    duplicate_iou: float = 0.8
    """OpenS2V's released value; also where aliases are taken over."""
    part_share: float = 0.9
    """A thing of which this share lies in a larger one is part of it."""
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "objects"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset({"source", "clip", "objects"})
    writes: ClassVar[frozenset[str]] = frozenset(
        {"objects", "object_vectors", "object_looks", "object_colours"}
    )

    def files(self) -> tuple[Path, ...]:
        """See `ReadsFiles`."""
        return (OURS,)

    def open(self) -> "ObjectWorker":
        """See `Stage`."""
        from anyref.perception.catalogue import open_model

        device = device_of(self.resources)
        rating = open_model("aesthetic", self.aesthetic_model, device) if self.aesthetic_model else None
        return ObjectWorker(
            self,
            ClassCheck(
                cast("ImageTextEncoder", open_model("image-text-encoder", self.image_text_model, device)),
                load_taxonomy(),
                self.class_prompt,
            ),
            cast("ImageEncoder", open_model("image-encoder", self.image_model, device)),
            cast("AestheticPredictor | None", rating),
        )


class Verdict(NamedTuple):
    """What zero-shot classification says of a picture."""

    margin: float
    """Probability of its own class less that of the likeliest other one, -1 to 1."""
    likeliest: str


class ClassCheck:
    """Zero-shot classification of a picture among its class and the classes it could be mistaken for."""

    def __init__(
        self, encoder: ImageTextEncoder, taxonomy: Taxonomy, prompt: str = "a photo of a {}"
    ) -> None:
        self.encoder, self.taxonomy, self.prompt = encoder, taxonomy, prompt
        self._texts: dict[str, NDArray[np.float32]] = {}

    def verdicts(self, pictures: Sequence[Picture], names: Sequence[str | None]) -> list[Verdict | None]:
        """One for each picture; None for a class that the taxonomy does not know, or that nothing is like."""
        if not pictures:
            return []
        vectors = self.encoder.encode(pictures)
        return [self._verdict(vector, name) for vector, name in zip(vectors, names, strict=True)]

    def _verdict(self, vector: NDArray[np.float32], name: str | None) -> Verdict | None:
        if name is None or name not in self.taxonomy.by_name:
            return None
        candidates = (name, *self.taxonomy.rivals(name))
        if len(candidates) == 1:
            return None
        unknown = [candidate for candidate in candidates if candidate not in self._texts]
        if unknown:
            encoded = self.encoder.encode_text([self.prompt.format(candidate) for candidate in unknown])
            self._texts.update(zip(unknown, encoded, strict=True))
        logits = _TEMPERATURE * np.array([float(self._texts[c] @ vector) for c in candidates])
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        return Verdict(float(shares[0] - shares[1:].max()), candidates[int(shares.argmax())])


@dataclass(frozen=True)
class ObjectWorker:
    """See `ObjectStage`."""

    stage: ObjectStage
    check: ClassCheck
    encoder: ImageEncoder
    rating: AestheticPredictor | None = None

    def __call__(self, record: Record, store: Store) -> Outcome:
        """Writes `objects` with scores, aliases, part_of and variants, and `object_vectors` ({uri, model}, rows as `objects`; or None); and
        `object_looks` and `object_colours`, the names of their thumbnails and of their histograms."""
        rows = [from_json(ObjectRow, value) for value in record["objects"]]
        by_frame: dict[int, list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            by_frame[row.frame].append(index)
        frames = sorted(by_frame)
        crops: dict[int, Picture] = {}
        segments: dict[int, NDArray[np.uint8]] = {}
        for frame, picture in zip(frames, pictures(record, store, frames), strict=True):
            members = by_frame[frame]
            masks = [decode(rows[index].mask) for index in members]
            for index, row in zip(
                members, _related([rows[i] for i in members], masks, self.stage, self.check), strict=True
            ):
                rows[index] = row
            for index, mask in zip(members, masks, strict=True):
                box = box_of(mask)
                assert box is not None
                crops[index] = crop(picture, box, CROP_MARGIN)
                segments[index] = cut_out(picture, mask, box, CROP_MARGIN)
                rows[index] = _with_scores(
                    rows[index],
                    sharpness=sharpness_of(crop(picture, box)),
                    brightness=brightness(picture, mask),
                    height=box.bottom - box.top,
                    width=box.right - box.left,
                )
        rows = self._judged(rows, [crops[index] for index in range(len(rows))])
        rows = [_with_variants(row, crops[i], segments[i], store) for i, row in enumerate(rows)]
        cuts = [segments[index] for index in range(len(rows))]
        vectors = self._vectors(cuts, store)
        values = {
            "objects": to_json(rows),
            "object_vectors": vectors,
            "object_looks": put_vectors(store, np.stack([thumbnail(cut) for cut in cuts])) if cuts else None,
            "object_colours": put_vectors(store, np.stack([colours(cut) for cut in cuts])) if cuts else None,
        }
        return Outcome.ok(record.with_values(values))

    def _judged(self, rows: list[ObjectRow], crops: list[Picture]) -> list[ObjectRow]:
        verdicts = self.check.verdicts(crops, [row.class_id for row in rows])
        ratings = self.rating.rate(crops) if self.rating and crops else [None] * len(rows)
        judged = []
        for row, verdict, rating in zip(rows, verdicts, ratings, strict=True):
            scores: dict[str, float] = {}
            if verdict:
                scores["class_margin"] = verdict.margin
            if rating is not None:
                scores["aesthetic"] = float(rating)
            judged.append(_with_scores(row, **scores))
        return judged

    def _vectors(self, segments: list[NDArray[np.uint8]], store: Store) -> dict[str, Any] | None:
        if not segments:
            return None
        vectors = self.encoder.encode([on_plain(segment) for segment in segments])
        card = self.encoder.card
        return {"uri": put_vectors(store, vectors), "model": f"{card.source}@{card.revision}"}


def _related(
    rows: Sequence[ObjectRow], masks: Sequence[Mask], stage: ObjectStage, check: ClassCheck
) -> list[ObjectRow]:
    """The objects of one frame with `duplicate_iou` (overlap with the best of those that go before it), aliases and `part_of`."""
    depth = [len(check.taxonomy.ancestors(row.class_id)) if row.class_id else -1 for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (-depth[i], -rows[i].score, rows[i].object_id))
    keeper = keepers(masks, order, stage.duplicate_iou)
    related = []
    for index, row in enumerate(rows):
        before = order[: order.index(index)]
        overlap = max((iou(masks[index], masks[other]) for other in before), default=0.0)
        aliases = sorted({rows[i].label for i, k in enumerate(keeper) if k == index != i} - {row.label})
        whole = None if keeper[index] != index else _whole(index, masks, keeper, stage.part_share)
        related.append(
            replace(
                _with_scores(row, duplicate_iou=overlap),
                aliases=tuple(aliases),
                part_of=None if whole is None else rows[whole].object_id,
            )
        )
    return related


def _whole(index: int, masks: Sequence[Mask], keeper: Sequence[int], share: float) -> int | None:
    """The smallest thing that this one is part of; None where it stands alone."""
    area = int(masks[index].sum())
    larger = [
        other
        for other in range(len(masks))
        if other != index
        and keeper[other] == other
        and int(masks[other].sum()) > 1.5 * area
        and inside_share(masks[index], masks[other]) > share
    ]
    return min(larger, key=lambda other: (int(masks[other].sum()), other), default=None)


def _with_scores(row: ObjectRow, **scores: float) -> ObjectRow:
    return replace(row, scores={**row.scores, **{name: float(value) for name, value in scores.items()}})


def _with_variants(row: ObjectRow, picture: Picture, segment: NDArray[np.uint8], store: Store) -> ObjectRow:
    """The row with its crop (background and all) and its segment (cut out), which later variants are made from."""
    height, width = picture.shape[:2]
    kept = (
        Variant(put_picture(store, picture), "crop", row.object_id, height=height, width=width),
        Variant(put_picture(store, segment), "segment", row.object_id, height=height, width=width),
    )
    return replace(row, variants=kept)

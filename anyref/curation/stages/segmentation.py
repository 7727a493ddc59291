"""S6: the mask in every box, cleaned (MAGREF equations 12 and 13)."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from anyref.curation.clips import ONE_CPU, clip_of, device_of, inside, pictures
from anyref.curation.records import ObjectRow, Rectangle, to_json
from anyref.curation.regions import Mask, box_of, clean, shape_of
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store
from anyref.perception import Box, Segmenter
from anyref.perception.models import Task
from anyref.runlengths import encode


@dataclass(frozen=True)
class SegmentationStage:
    """Cuts out what every box surrounds, opens and closes the mask, and measures its shape before anything is thrown away."""

    model: str = "sam2.1-large"
    """A segmenter of `anyref.perception.catalogue`."""
    morphology_radius: float = 0.003
    """Radius of opening and closing, as a share of the frame's diagonal."""
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "segmentation"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"source", "clip", "tags", "detections"})
    writes: ClassVar[frozenset[str]] = frozenset({"objects"})

    def models(self) -> dict[Task, str]:
        """See `OpensModels`."""
        return {"segmenter": self.model}

    def open(self) -> "SegmentationWorker":
        """See `Stage`."""
        from anyref.perception.catalogue import open_model

        model = open_model("segmenter", self.model, device_of(self.resources))
        return SegmentationWorker(self, cast("Segmenter", model))


@dataclass(frozen=True)
class SegmentationWorker:
    """See `SegmentationStage`."""

    stage: SegmentationStage
    segmenter: Segmenter

    def __call__(self, record: Record, store: Store) -> Outcome:
        """Writes `objects`, one for each detection whose mask is not empty, in their order, named o000, o001, ..."""
        by_frame: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for detection in record["detections"]:
            by_frame[detection["frame"]].append(detection)
        frames = sorted(by_frame)
        objects: list[Any] = []
        for frame, picture in zip(frames, pictures(record, store, frames), strict=True):
            found = by_frame[frame]
            masks = self.segmenter.segment(picture, [Box(*row["box"]) for row in found])
            for row, mask in zip(found, masks, strict=True):
                cleaned = clean(mask, self.stage.morphology_radius) if mask.any() else mask
                if cleaned.any():
                    objects.append(to_json(_object(f"o{len(objects):03d}", row, record, cleaned)))
        return Outcome.ok(record.with_values({"objects": objects}))


def _object(name: str, detection: dict[str, Any], record: Record, mask: Mask) -> ObjectRow:
    """The row of a mask. Its shape is measured in the frame without black bars, against whose edges subjects are cut off."""
    tag = record["tags"][detection["tag"]]
    shape = shape_of(cast("Mask", inside(mask, clip_of(record).crop)))
    box = box_of(mask)
    assert box is not None
    return ObjectRow(
        object_id=name,
        label=tag["phrase"],
        class_id=tag["class_id"],
        kind=tag["kind"],
        start=tag["start"],
        end=tag["end"],
        frame=detection["frame"],
        box=Rectangle(*box),
        mask=encode(mask),
        area=shape.area,
        score=detection["score"],
        scores={
            "detection": detection["score"],
            **{name: float(value) for name, value in shape._asdict().items()},
        },
    )

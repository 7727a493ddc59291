"""S5: where in the frames the tags' subjects are (MAGREF B.2 and Kaleido 3.2 (3), both with GroundingDINO)."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from anyref.curation.clips import ONE_CPU, clip_of, device_of, evenly, inside, pictures
from anyref.curation.regions import box_iou
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store
from anyref.curation.taxonomy import split_place
from anyref.perception import Box, Detection, Detector
from anyref.perception.models import Task

_SAME_BOX = 0.7


@dataclass(frozen=True)
class GroundingStage:
    """Detects every tag that is not a background in evenly spaced frames of the clip.

    Black bars are cut off before the detector looks. Boxes, in pixels of the whole frame, are kept from a low score on, with their raw scores:
    the threshold is a decision. Words that say where a subject is ("the dog on
    the left") are not shown to the detector, which would look for a left; they choose among its boxes.
    """

    model: str = "grounding-dino-base"
    """A detector of `anyref.perception.catalogue`."""
    num_frames: int = 3
    score_floor: float = 0.25
    """OpenS2V's released box threshold."""
    max_boxes: int = 8
    """For each tag and frame, best first."""
    whole_phrases: bool = False
    """Show the detector a tag's words of place, too: for detectors that were trained on them."""
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "grounding"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset({"source", "clip", "tags"})
    writes: ClassVar[frozenset[str]] = frozenset({"detections"})

    def models(self) -> dict[Task, str]:
        """See `OpensModels`."""
        return {"detector": self.model}

    def open(self) -> "GroundingWorker":
        """See `Stage`."""
        from anyref.perception.catalogue import open_model

        model = open_model("detector", self.model, device_of(self.resources))
        return GroundingWorker(self, cast("Detector", model))


@dataclass(frozen=True)
class GroundingWorker:
    """See `GroundingStage`."""

    stage: GroundingStage
    detector: Detector

    def __call__(self, record: Record, store: Store) -> Outcome:
        """Writes `detections`: a list of {frame, tag (index into tags), phrase, box, score}, in the order of frame, tag and score."""
        tags = record["tags"]
        wanted = [index for index, tag in enumerate(tags) if tag["kind"] != "background"]
        rows: list[dict[str, Any]] = []
        if wanted:
            parts = [split_place(tags[index]["phrase"]) for index in wanted]
            phrases = [
                tags[index]["phrase"] if self.stage.whole_phrases else part[0]
                for index, part in zip(wanted, parts, strict=True)
            ]
            sides = [part[1] for part in parts]
            clip = clip_of(record)
            frames = evenly(clip, self.stage.num_frames)
            down, right = clip.crop.top, clip.crop.left
            for frame, picture in zip(frames, pictures(record, store, frames), strict=True):
                found = self._detect(np.ascontiguousarray(inside(picture, clip.crop)), phrases, sides)
                rows += [
                    {
                        "frame": frame,
                        "tag": wanted[detection.phrase],
                        "phrase": phrases[detection.phrase],
                        "box": [
                            float(side + shift)
                            for side, shift in zip(detection.box, (down, right) * 2, strict=True)
                        ],
                        "score": float(detection.score),
                    }
                    for detection in found
                ]
        return Outcome.ok(record.with_values({"detections": rows}))

    def _detect(self, picture: Any, phrases: list[str], sides: list[str]) -> list[Detection]:
        """The boxes of one frame, by phrase and score."""
        unique = list(dict.fromkeys(phrases))
        by_text: dict[str, list[Detection]] = defaultdict(list)
        for detection in self.detector.detect(picture, unique):
            if detection.score >= self.stage.score_floor:
                by_text[unique[detection.phrase]].append(detection)
        found: list[Detection] = []
        for text in unique:
            members = [index for index, phrase in enumerate(phrases) if phrase == text]
            boxes = sorted(by_text[text], key=lambda detection: (-detection.score, detection.box))
            found += _shared_out(boxes, members, [sides[index] for index in members], self.stage.max_boxes)
        return sorted(found, key=lambda detection: (detection.phrase, -detection.score, detection.box))


def _shared_out(boxes: list[Detection], members: list[int], sides: list[str], limit: int) -> list[Detection]:
    """The boxes of one noun given to the phrases that share it: all to each, or, where every phrase names a side, by their order."""
    if len(members) == 1 or not all(sides) or len(set(sides)) < len(sides):
        return [Detection(member, box.box, box.score) for member in members for box in boxes[:limit]]
    distinct: list[Detection] = []
    for box in boxes:
        if all(box_iou(Box(*box.box), Box(*other.box)) < _SAME_BOX for other in distinct):
            distinct.append(box)
    distinct = sorted(distinct[: len(members)], key=lambda box: box.box.left + box.box.right)
    order = sorted(range(len(members)), key=lambda i: ("left", "middle", "right").index(sides[i]))
    if len(distinct) < len(members):
        return []  # one of them is not to be seen here: who is who cannot be said
    return [Detection(members[i], box.box, box.score) for i, box in zip(order, distinct, strict=True)]

"""S10: the place without its subjects (MAGREF's background reference)."""

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from anyref.curation.clips import ONE_CPU, clip_of, device_of, inside, pictures, put_picture, seed_of
from anyref.curation.records import Background, to_json
from anyref.curation.regions import Mask, box_mask, dilate
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store
from anyref.perception import Box, Inpainter, Picture
from anyref.perception.models import Task
from anyref.runlengths import RunLengths, decode

PROMPT = "the same place, empty, without people, animals or things in the foreground"


@dataclass(frozen=True)
class BackgroundStage:
    """Fills the subjects of one frame with what could be behind them: of the keyframes in which most were found, the one they cover least.

    Every mask that was found counts, kept or not, grown by a share of the diagonal; so do faces and their surroundings. Black bars are cut off.
    A frame of which subjects cover more than `max_hole` would be painted rather than filled, so the clip gets no background.
    """

    model: str = "flux-fill"
    """An inpainter of `anyref.perception.catalogue`."""
    growth: float = 0.015
    """As a share of the frame's diagonal."""
    max_hole: float = 0.9
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "background"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"source", "clip", "objects", "face_boxes"})
    writes: ClassVar[frozenset[str]] = frozenset({"background", "scores.background_hole"})

    def models(self) -> dict[Task, str]:
        """See `OpensModels`."""
        return {"inpainter": self.model}

    def open(self) -> "BackgroundWorker":
        """See `Stage`."""
        from anyref.perception.catalogue import open_model

        model = open_model("inpainter", self.model, device_of(self.resources))
        return BackgroundWorker(self, cast("Inpainter", model))


@dataclass(frozen=True)
class BackgroundWorker:
    """See `BackgroundStage`."""

    stage: BackgroundStage
    inpainter: Inpainter

    def __call__(self, record: Record, store: Store) -> Outcome:
        """Writes `background` (None where there can be none) and the score background_hole, the share of the frame that was filled."""
        clip = clip_of(record)
        frames = complete_frames(record) or [clip.start_frame]
        whole = pictures(record, store, frames[:1])[0]
        holes = [
            cast("Mask", inside(hole_of(record, frame, whole.shape[:2], self.stage.growth), clip.crop))
            for frame in frames
        ]
        shares = [float(hole.mean()) for hole in holes]
        at = int(np.argmin(shares))
        values: dict[str, Any] = {
            "background": None,
            "scores.background_hole": {"value": shares[at], "method": "share of the frame", "version": 1},
        }
        if shares[at] <= self.stage.max_hole:
            picture = np.ascontiguousarray(inside(pictures(record, store, frames[at : at + 1])[0], clip.crop))
            values["background"] = to_json(
                self._filled(record, cast("Picture", picture), holes[at], frames[at], store)
            )
        return Outcome.ok(record.with_values(values))

    def _filled(self, record: Record, picture: Picture, hole: Mask, frame: int, store: Store) -> Background:
        if not hole.any():
            return Background(put_picture(store, picture), frame, None, "as it is: nothing was found in it")
        filled = self.inpainter.inpaint(picture, hole, PROMPT, seed_of(record.id, "background"))
        mask_uri = put_picture(store, np.where(hole, np.uint8(255), np.uint8(0)))
        card = self.inpainter.card
        return Background(
            put_picture(store, filled), frame, mask_uri, f"{card.source or card.name}@{card.revision}"
        )


def complete_frames(record: Record) -> list[int]:
    """The frames in which most of the named subjects were found: where one was missed, it would stay in the background."""
    named: dict[int, set[tuple[int, int]]] = {}
    for row in record["objects"]:
        named.setdefault(row["frame"], set()).add((row["start"], row["end"]))
    most = max((len(names) for names in named.values()), default=0)
    return sorted(frame for frame, names in named.items() if len(names) == most)


def hole_of(record: Record, frame: int, size: tuple[int, int], growth: float) -> Mask:
    """Where the subjects of a frame are, grown: bool [Y, X]. A face takes a third of its size around it along, for hair and neck."""
    hole = np.zeros(size, dtype=np.bool_)
    for row in record["objects"]:
        if row["frame"] == frame:
            hole |= decode(RunLengths(tuple(row["mask"]["size"]), row["mask"]["counts"]))
    for face in record["face_boxes"]:
        if face["frame"] == frame:
            top, left, bottom, right = face["box"]
            down, across = (bottom - top) / 3, (right - left) / 3
            hole |= box_mask(Box(top - down, left - across, bottom + down, right + across), *size)
    return dilate(hole, growth) if hole.any() else hole

"""Decisions: thresholds over stored scores. Changing one computes no score anew.

A `Bound` is an interval of one score; what lies outside is dropped with a reason that begins with the score's name, so that reports can count
and draw it. A score that was not measured does not drop anything, unless the bound says so. Defaults are those of research into the papers,
their releases and real footage; the papers print only theta_min (no value), IoU .25 and ten faces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from anyref.curation.clips import ONE_CPU
from anyref.curation.records import Clip, FaceRow, FaceView, ObjectRow, Source, Variant, from_json, to_json
from anyref.curation.regions import box_area
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store
from anyref.perception import Box

Level = Literal["clip", "object", "face", "view", "background", "variant"]
LEVELS: tuple[Level, ...] = ("clip", "object", "face", "view", "background", "variant")
_DECIDED = frozenset({"crop", "segment"})
"""Variants that are what the subject is judged by, so they are accepted with it."""


@dataclass(frozen=True)
class Bound:
    """low <= score <= high; None leaves a side open."""

    level: Level
    """What it judges: the clip, an object, the best view of a face, any view of a face, the background, or a variant."""
    name: str
    low: float | None = None
    high: float | None = None
    required: bool = False
    """Drop where the score was not measured."""

    def reason(self, value: float | None) -> str:
        """Why a value is dropped; "" where it is not."""
        if value is None:
            return f"{self.name}: not measured" if self.required else ""
        if self.low is not None and value < self.low:
            return f"{self.name}: {value:.4g} is below {self.low:.4g}"
        if self.high is not None and value > self.high:
            return f"{self.name}: {value:.4g} is above {self.high:.4g}"
        return ""


CLIP_BOUNDS: tuple[Bound, ...] = (
    Bound("clip", "duration_s", 2.0, 10.0),
    Bound("clip", "num_frames", 48),
    Bound("clip", "short_side", 480),
    Bound("clip", "aspect", 9 / 21, 21 / 9),
    Bound("clip", "duplicate", high=0.5),
    # A static camera and a small moving subject have a small mean; the 95th percentile tells them from stills (curation.md 1.3).
    Bound("clip", "flow_p95", 2.5),
    Bound("clip", "flow_mean", high=20),
    Bound("clip", "blur", 40),
    Bound("clip", "brightness", 25, 235),
    Bound("clip", "clipped", high=0.4),
    Bound("clip", "aesthetic", 4.5),
)
OBJECT_BOUNDS: tuple[Bound, ...] = (
    Bound("object", "detection", 0.35),
    Bound("object", "duplicate_iou", high=0.8),
    Bound("object", "area", 1 / 32, 0.8),
    # Sleeves on both sides of a chin, or a top behind long hair, are one garment in two pieces: .9 drops the blue top of OpenS2V's demo.
    Bound("object", "largest_share", 0.65),
    Bound("object", "solidity", 0.35),
    Bound("object", "aspect", high=6),
    Bound("object", "border_share", high=0.5),
    Bound("object", "sharpness", 60),
    Bound("object", "brightness", 10, 245),  # of the thing alone: navy and black clothes lie near 17
    Bound("object", "class_margin", 0.05),
    Bound("object", "aesthetic", 4.5),
    Bound("object", "face_iou", high=0.25),
)
FACE_BOUNDS: tuple[Bound, ...] = (
    Bound("face", "detection", 0.65),
    Bound("face", "short_side", 64),
    Bound("face", "area", 0.015),
    Bound("face", "pitch", high=25),
    Bound("face", "yaw", high=35),
    Bound("face", "roll", high=25),
    Bound("view", "detection", 0.5),
    Bound("view", "pitch", high=40),
    Bound("view", "yaw", high=60),
    Bound("view", "roll", high=40),
)
VARIANT_BOUNDS: tuple[Bound, ...] = (
    Bound("background", "background_hole", high=0.75),
    Bound("variant", "redux.identity", 0.45),
    Bound("variant", "redux.dino", 0.6, 0.97),
    Bound("variant", "redux.clip", 0.05),
    Bound("variant", "inpaint.dino", 0.6, 0.99),
    Bound("variant", "inpaint.clip", 0.05),
    # It shows the subject at half to nine tenths of the picture: what has lost it, or is nothing but it, is no composite.
    Bound("variant", "composite.dino", 0.2, 0.97),
    Bound("variant", "crossclip.identity", 0.55),
    Bound("variant", "crossclip.dino", 0.6, 0.95),
    Bound("variant", "crossclip.clip", 0.05),
    # Open: a photograph's light changes its colours more than one subject's differ from another's. Measured all the same.
    Bound("variant", "crossclip.colour"),
)


@dataclass(frozen=True)
class Rules:
    """All decisions of a curation."""

    bounds: tuple[Bound, ...] = (*CLIP_BOUNDS, *OBJECT_BOUNDS, *FACE_BOUNDS, *VARIANT_BOUNDS)
    min_subjects: int = 1
    """A clip with fewer faces and objects that are kept is dropped; Saber needs none."""
    people_need_face: bool = False
    """Kaleido 3.2 (4): of people, "only instances with valid frontal faces"."""
    face_containment: bool = False
    """Our addition to MAGREF's equation 16: what lies within a face (glasses) is kept as part of it, however large."""

    def of(self, level: Level) -> tuple[Bound, ...]:
        """The bounds of a level."""
        return tuple(bound for bound in self.bounds if bound.level == level)

    def changed(self, settings: Sequence[str]) -> "Rules":
        """With bounds set by texts such as "clip.flow_p95=2.5:20", "object.area=:0.9" or "clip.aesthetic=off".

        Raises ValueError for a bound that is not there, and for what is no number.
        """
        bounds = list(self.bounds)
        for text in settings:
            name, separator, value = text.partition("=")
            at = [i for i, bound in enumerate(bounds) if f"{bound.level}.{bound.name}" == name]
            if not separator or not at:
                known = ", ".join(f"{bound.level}.{bound.name}" for bound in bounds)
                raise ValueError(
                    f"the bound {text!r} is not NAME=LOW:HIGH with a NAME of {known}; write one of these"
                )
            if value == "off":
                del bounds[at[0]]
                continue
            low, _, high = value.partition(":")
            try:
                limits = [float(side) if side else None for side in (low, high)]
            except ValueError as error:
                raise ValueError(
                    f"the bound {text!r} has no number; write {name}=LOW:HIGH, one of them may be left out, or {name}=off"
                ) from error
            bounds[at[0]] = replace(bounds[at[0]], low=limits[0], high=limits[1])
        return replace(self, bounds=tuple(bounds))


DEFAULT_RULES = Rules()


def clip_values(record: Record) -> dict[str, float | None]:
    """All numbers that bounds of clips look at: stored scores, and what follows from the clip's place and size."""
    source, clip = from_json(Source, record["source"]), from_json(Clip, record["clip"])
    height, width = clip.crop.bottom - clip.crop.top, clip.crop.right - clip.crop.left
    values: dict[str, float | None] = {
        name: score["value"] if score else None for name, score in record.get("scores", {}).items()
    }
    duration = values.get("duration")
    if duration is None and source.fps:  # a film's mean frame rate says little of a clip whose own varies
        duration = clip.num_frames / source.fps
    return {
        **values,
        "duplicate": 1.0 if record.get("duplicate_of") else 0.0,
        "duration_s": duration,
        "num_frames": clip.num_frames,
        "short_side": min(height, width),
        "aspect": width / height if height else None,
    }


def view_values(view: FaceView, frame_area: float) -> dict[str, float | None]:
    """All numbers that bounds of faces look at; angles without their signs, None where the pose is not known."""
    height, width = view.box.bottom - view.box.top, view.box.right - view.box.left
    pitch, yaw, roll = (
        (abs(angle) for angle in view.pose_degrees) if view.pose_degrees else (None, None, None)
    )
    return {
        "detection": view.score,
        "short_side": min(height, width),
        "area": height * width / frame_area,
        "quality": view.quality,
        "pitch": pitch,
        "yaw": yaw,
        "roll": roll,
    }


def variant_values(variant: Variant) -> dict[str, float | None]:
    """All numbers that bounds of variants look at, "KIND.SCORE"."""
    return {
        f"{variant.kind}.identity": variant.similarity_identity,
        f"{variant.kind}.dino": variant.similarity_dino,
        f"{variant.kind}.clip": variant.similarity_clip,
        f"{variant.kind}.colour": variant.similarity_colour,
    }


def reasons(values: Mapping[str, float | None], bounds: Sequence[Bound]) -> list[str]:
    """Why these values are dropped, in the order of the bounds; a bound on a score that is not among them is one that was not measured."""
    return [reason for bound in bounds if (reason := bound.reason(values.get(bound.name)))]


@dataclass(frozen=True)
class Gate:
    """Drops clips by their scores before what is dear (captions, models) looks at them."""

    rules: Rules = Rules()
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "gate"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset({"source", "clip", "scores", "duplicate_of"})
    writes: ClassVar[frozenset[str]] = frozenset()

    def open(self) -> "Gate":
        """See `Stage`: there is nothing to load."""
        return self

    def __call__(self, record: Record, store: Store) -> Outcome:  # noqa: ARG002 - the protocol's
        """Passes the record on, or drops it with all reasons."""
        found = reasons(clip_values(record), self.rules.of("clip"))
        return Outcome("dropped", "; ".join(found)) if found else Outcome.ok(record)


@dataclass(frozen=True)
class Select:
    """Names the objects and faces that are worth drawing anew: all that one of several sets of rules keeps.

    The sets are the preset's and the user's, both loosened, so that tightening a threshold draws nothing again, and loosening it only draws
    what comes in. This is a step of its own because what a stage reads decides whether it runs again.
    """

    floors: tuple[Rules, ...] = (DEFAULT_RULES,)
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "select"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset({"clip", "objects", "face_candidates"})
    writes: ClassVar[frozenset[str]] = frozenset({"to_draw", "to_redraw"})

    def open(self) -> "Select":
        """See `Stage`: there is nothing to load."""
        return self

    def __call__(self, record: Record, store: Store) -> Outcome:  # noqa: ARG002 - the protocol's
        """Writes `to_draw`, ids in their order, and `to_redraw`: of the objects among them the best of each phrase, for a model that
        draws is dear and the frames of a clip show one subject."""
        area = box_area(Box(*record["clip"]["crop"]))
        chosen = []
        best: dict[tuple[int, int], ObjectRow] = {}
        for value in record["objects"]:
            row = from_json(ObjectRow, value)
            if any(not reasons(row.scores, floor.of("object")) for floor in self.floors):
                chosen.append(row.object_id)
                phrase = (row.start, row.end)
                if phrase not in best or row.score > best[phrase].score:
                    best[phrase] = row
        for value in record["face_candidates"]:
            face = from_json(FaceRow, value)
            views = [view_values(view, area) for view in face.pool]
            if any(not reasons(view, floor.of("face")) for floor in self.floors for view in views):
                chosen.append(face.face_id)
        redrawn = [row.object_id for row in best.values()]
        return Outcome.ok(record.with_values({"to_draw": chosen, "to_redraw": redrawn}))


@dataclass(frozen=True)
class Decide:
    """The last word on everything in a clip: objects and variants get their reasons, faces their best view, the clip its `drop`.

    Nothing is deleted: what is dropped stays in the record with its reason, and faces in `face_drops`.
    """

    rules: Rules = Rules()
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "decide"
    version: ClassVar[int] = 2
    reads: ClassVar[frozenset[str]] = frozenset(
        {"source", "clip", "scores", "duplicate_of", "face_candidates"}
        | {"objects", "object_faces", "background"}
    )
    writes: ClassVar[frozenset[str]] = frozenset({"faces", "face_drops", "objects", "background", "drop"})

    def open(self) -> "Decide":
        """See `Stage`: there is nothing to load."""
        return self

    def __call__(self, record: Record, store: Store) -> Outcome:  # noqa: ARG002 - the protocol's
        """Writes `faces`, `face_drops` ([{face_id, reason}]), `objects`, `background` and `drop`."""
        frame_area = box_area(Box(*record["clip"]["crop"]))
        faces: list[FaceRow] = []
        face_drops: list[dict[str, str]] = []
        for value in record.get("face_candidates", ()):
            face = from_json(FaceRow, value)
            decided = self._face(face, frame_area)
            if isinstance(decided, str):
                face_drops.append({"face_id": face.face_id, "reason": decided})
            else:
                faces.append(decided)
        kept_faces = {face.face_id for face in faces}
        nearest = record.get("object_faces", {})
        objects = [
            self._object(row, nearest.get(row.object_id), kept_faces)
            for row in (from_json(ObjectRow, value) for value in record.get("objects", ()))
        ]
        found = reasons(clip_values(record), self.rules.of("clip"))
        subjects = len(faces) + sum(not row.dropped for row in objects)
        if subjects < self.rules.min_subjects:
            found.append(f"subjects: {subjects} is below {self.rules.min_subjects}")
        return Outcome.ok(
            record.with_values(
                {
                    "faces": to_json(faces),
                    "face_drops": face_drops,
                    "objects": to_json(objects),
                    "background": self._background(record),
                    "drop": "; ".join(found) or None,
                }
            )
        )

    def _object(self, row: ObjectRow, nearest: str | None, kept_faces: set[str]) -> ObjectRow:
        """The object with its reasons; `nearest` is the face that overlaps it most."""
        found = reasons(row.scores, self.rules.of("object"))
        part_of = row.part_of
        inside = row.scores.get("inside_face", 0.0) > 0.9
        if self.rules.face_containment and inside and nearest:
            found = [reason for reason in found if not reason.startswith("face_iou:")]
            part_of = nearest
        if self.rules.people_need_face and row.kind == "person":
            whose = nearest if row.scores.get("holds_face", 0.0) >= 0.9 else None
            if whose not in kept_faces:
                found.append("frontal_face: the person shows no face that is kept")
        by_face = nearest if any(reason.startswith("face_iou:") for reason in found) else None
        return replace(
            row,
            dropped="; ".join(found),
            part_of=part_of,
            suppressed_by_face=by_face,
            variants=tuple(self._variant(variant) for variant in row.variants),
        )

    def _face(self, face: FaceRow, frame_area: float) -> FaceRow | str:
        """The face with the best of its views that may stand for it, and the views that may vary it; or why there is none."""
        failed: list[str] = []
        good: list[FaceView] = []
        for view in face.pool:
            found = reasons(view_values(view, frame_area), self.rules.of("face"))
            if found:
                failed = failed or found
            else:
                good.append(view)
        if not good:
            return "; ".join(failed) or "views: there is none"
        pool = [v for v in face.pool if not reasons(view_values(v, frame_area), self.rules.of("view"))]
        best = max(good, key=lambda view: (view.quality, -view.frame))
        mean = face.reference.embedding_uri
        variants = tuple(self._variant(variant) for variant in face.variants)
        return replace(face, reference=replace(best, embedding_uri=mean), pool=tuple(pool), variants=variants)

    def _variant(self, variant: Variant) -> Variant:
        if variant.kind in _DECIDED:
            return variant
        found = reasons(
            variant_values(variant),
            [bound for bound in self.rules.of("variant") if bound.name.startswith(f"{variant.kind}.")],
        )
        found += [variant.reason] if variant.reason.startswith("copy:") else []
        return replace(variant, accepted=not found, reason="; ".join(found))

    def _background(self, record: Record) -> dict[str, object] | None:
        background = record.get("background")
        hole = {"background_hole": record.score("background_hole")}
        if not background or reasons(hole, self.rules.of("background")):
            return None
        variants = [self._variant(from_json(Variant, value)) for value in background.get("variants", ())]
        return {**background, "variants": to_json(variants)}


@dataclass(frozen=True)
class Keep:
    """Drops the clips that `Decide` dropped, so that nothing is written for them."""

    resources: Resources = ONE_CPU
    name: ClassVar[str] = "keep"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"drop"})
    writes: ClassVar[frozenset[str]] = frozenset()

    def open(self) -> "Keep":
        """See `Stage`: there is nothing to load."""
        return self

    def __call__(self, record: Record, store: Store) -> Outcome:  # noqa: ARG002 - the protocol's
        """Passes the record on, or drops it with its reasons."""
        return Outcome("dropped", record["drop"]) if record.get("drop") else Outcome.ok(record)

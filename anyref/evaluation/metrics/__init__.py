"""What a metric is, what it is given and what it answers, and the table of them: name -> class.

A metric is a frozen dataclass in a file of its own; its fields are its parameters. It names the models that it needs by role and
task, and the engine opens them once and hands them over. It never stops a run: what does not apply is said with a status, and what it raises
becomes the status "error" of that video.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.features import FeatureCache
from anyref.perception import Box, Model, Picture

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
Status = Literal["ok", "not_applicable", "missed", "error"]


@dataclass(frozen=True)
class Mark:
    """Something that was found in a frame, to be drawn in the gallery. `reference` is its index in the case."""

    frame_index: int
    box: Box
    label: str = ""
    score: float | None = None
    reference: int | None = None
    mask: Mapping[str, JSON] | None = None
    """COCO run lengths: {"size": [rows, columns], "counts": text}."""


@dataclass(frozen=True)
class Result:
    """What a metric says of one video.

    `value` is what the published code gives, in its units, before the suite's clamp and normalisation; `strict` is ours, 0 to 1 unless
    the metric says otherwise. The status says why one is None: "not_applicable" (the case asks for nothing of the kind; both None, never a
    0), "missed" (the subject is not there: `value` None or what the published code makes of it, `strict` 0), "error" (written by the engine).
    """

    value: float | None
    strict: float | None
    status: Status = "ok"
    per_frame: tuple[float | None, ...] = ()
    """Beside `frame_indices`; None where the frame has no score."""
    frame_indices: tuple[int, ...] = ()
    details: Mapping[str, JSON] = field(default_factory=dict)
    boxes: tuple[Mark, ...] = ()

    def __post_init__(self) -> None:
        for number in (self.value, self.strict, *self.per_frame):
            assert number is None or isfinite(number), f"a score is {number}"
        assert len(self.per_frame) in {0, len(self.frame_indices)}, "one score per frame index"
        assert self.status != "ok" or self.value is not None or self.strict is not None, "ok, yet no score"

    @staticmethod
    def not_applicable(reason: str) -> "Result":
        """The case does not ask for what the metric looks at."""
        return Result(None, None, "not_applicable", details={"reason": reason})


class Footage(Protocol):
    """Where frames come from: a file, or memory."""

    def frames_at(self, indices: Sequence[int]) -> list[Picture]:
        """The frames of these indices, in their order; an index may occur twice."""

    def frames(self) -> Iterator[Picture]:
        """All frames, one at a time."""


@dataclass(frozen=True)
class FileFootage:
    """Frames decoded from a file, anew at each call, so that memory stays flat."""

    path: Path

    def frames_at(self, indices: Sequence[int]) -> list[Picture]:
        """Decodes forward once. Raises ValueError for an index past the end."""
        from anyref import footage

        return footage.frames_at(self.path, indices)

    def frames(self) -> Iterator[Picture]:
        """Streamed."""
        from anyref import footage

        return (frame.image_YX3 for frame in footage.frames(self.path))


@dataclass(frozen=True)
class MemoryFootage:
    """Frames that are there already, uint8 RGB [F, Y, X, 3]."""

    frames_FYX3: NDArray[np.uint8]

    def frames_at(self, indices: Sequence[int]) -> list[Picture]:
        """Raises ValueError for an index past the end."""
        if any(not 0 <= index < len(self.frames_FYX3) for index in indices):
            raise ValueError(f"frames {list(indices)} of {len(self.frames_FYX3)} were asked for")
        return [self.frames_FYX3[index] for index in indices]

    def frames(self) -> Iterator[Picture]:
        """In their order."""
        return iter(self.frames_FYX3)


@dataclass(frozen=True)
class VideoUnderTest:
    """A video and what was asked of it. `num_frames` is counted, not read from the header; `fps` is 0 where the file does not say."""

    case: EvaluationCase
    path: Path
    num_frames: int
    fps: float
    footage: Footage
    features: FeatureCache = field(default_factory=lambda: FeatureCache(None))

    @staticmethod
    def of_frames(
        case: EvaluationCase, frames_FYX3: NDArray[np.uint8], fps: float = 16.0
    ) -> "VideoUnderTest":
        """A video in memory."""
        return VideoUnderTest(case, Path(), len(frames_FYX3), fps, MemoryFootage(frames_FYX3))

    def frames_at(self, indices: Sequence[int]) -> list[Picture]:
        """The frames of these indices, uint8 RGB, in their order."""
        return self.footage.frames_at(indices)

    def frames(self) -> Iterator[Picture]:
        """All frames, streamed."""
        return self.footage.frames()

    def references(self) -> list[Picture]:
        """The reference pictures in the order of the case, uint8 RGB; transparent ones on white. Raises ValueError for one that cannot be read."""
        from anyref.references import composite_on, load_reference

        return [composite_on(load_reference(reference.path)) for reference in self.case.references]

    def reference_masks(self) -> list[NDArray[np.bool_] | None]:
        """Where the subject is in each reference, [Y, X]: its mask file, else its transparency; None where there is neither."""
        from anyref.references import load_reference

        masks = []
        for reference in self.case.references:
            if reference.mask_path is None:
                masks.append(load_reference(reference.path).subject_mask)
            else:
                masks.append(load_reference(reference.mask_path).image[..., :3].mean(axis=-1) >= 128)
        return masks


@dataclass(frozen=True)
class Need:
    """A package or program beside the catalogue's models that a metric computes with."""

    role: str
    """What it does for the metric, "optical flow"."""
    name: str
    licence: str
    commercial: bool
    """Whether the licence permits commercial use."""
    missing: str | None = None
    """A sentence that says why it cannot run here, with what installs it; None where it can."""


class Metric(Protocol):
    """Implemented by frozen dataclasses without required fields. One that needs more than models has a method `needs() -> tuple[Need, ...]`."""

    @property
    def name(self) -> str:
        """Its key in METRICS."""

    @property
    def version(self) -> int:
        """Goes up when the same video would get another score."""

    @property
    def higher_is_better(self) -> bool:
        """For the report's arrows and comparisons."""

    @property
    def models(self) -> Mapping[str, str]:
        """Role -> task of the catalogue, `{"detector": "detector", "encoder": "image-encoder"}`; empty for metrics of pixels."""

    @property
    def defaults(self) -> Mapping[str, str]:
        """Role -> name in the catalogue of the model that the published numbers were made with."""

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """All that decides the score beside code, models and video: thresholds, numbers of frames, sizes."""

    def applies(self, case: EvaluationCase) -> bool:
        """Whether the case asks for what the metric looks at. False: its row is "not_applicable", and no frame is decoded."""

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """Score one video with the models of its roles."""


# Name -> "module:class". The prefix says whose definition it is; a paper that uses another's definition has no entry of its own.
METRICS: dict[str, str] = {
    "magref.id_sim": "anyref.evaluation.metrics.id_sim:IdSim",
    "magref.aesthetic": "anyref.evaluation.metrics.aesthetic:MagrefAesthetic",
    "magref.subj_sim": "anyref.evaluation.metrics.subj_sim:SubjSim",
    "magref.bg_sim": "anyref.evaluation.metrics.bg_sim:BgSim",
    "opens2v.aesthetics": "anyref.evaluation.metrics.aesthetic:OpenS2VAesthetics",
    "opens2v.motion_smoothness": "anyref.evaluation.metrics.motion_smoothness:MotionSmoothness",
    "opens2v.motion_amplitude": "anyref.evaluation.metrics.motion_amplitude:MotionAmplitude",
    "opens2v.face_sim": "anyref.evaluation.metrics.face_sim:FaceSim",
    "opens2v.gme_score": "anyref.evaluation.metrics.gme_score:GmeScore",
    "opens2v.nexus_score": "anyref.evaluation.metrics.nexus_score:NexusScore",
    "opens2v.natural_score": "anyref.evaluation.metrics.natural_score:NaturalScore",
    "vbench.subject_consistency": "anyref.evaluation.metrics.subject_consistency:SubjectConsistency",
    "vbench.background_consistency": "anyref.evaluation.metrics.background_consistency:BackgroundConsistency",
    "vbench.motion_smoothness": "anyref.evaluation.metrics.interpolation_smoothness:InterpolationSmoothness",
    "vbench.aesthetic_quality": "anyref.evaluation.metrics.aesthetic_quality:AestheticQuality",
    "vbench.imaging_quality": "anyref.evaluation.metrics.imaging_quality:ImagingQuality",
    "vbench.overall_consistency": "anyref.evaluation.metrics.overall_consistency:OverallConsistency",
    "kaleido.s2v_consistency": "anyref.evaluation.metrics.s2v_consistency:S2VConsistency",
    "kaleido.s2v_decoupling": "anyref.evaluation.metrics.s2v_decoupling:S2VDecoupling",
    "anyref.flow_smoothness": "anyref.evaluation.metrics.flow_smoothness:FlowSmoothness",
    "anyref.motion_magnitude": "anyref.evaluation.metrics.motion_magnitude:MotionMagnitude",
    "anyref.sentence_consistency": "anyref.evaluation.metrics.sentence_consistency:SentenceConsistency",
    "anyref.identity_margin": "anyref.evaluation.metrics.identity_margin:IdentityMargin",
    "anyref.coverage": "anyref.evaluation.metrics.coverage:Coverage",
    "anyref.identity_drift": "anyref.evaluation.metrics.identity_drift:IdentityDrift",
    "anyref.copy_paste": "anyref.evaluation.metrics.copy_paste:CopyPaste",
    "anyref.duplicate_subjects": "anyref.evaluation.metrics.duplicate_subjects:DuplicateSubjects",
    "anyref.canvas_leak": "anyref.evaluation.metrics.canvas_leak:CanvasLeak",
    "anyref.grey_leak": "anyref.evaluation.metrics.grey_leak:GreyLeak",
}


def needs_of(metric: Metric) -> tuple[Need, ...]:
    """What the metric needs beside models, and whether that can run here; empty where it does not say."""
    declared: Callable[[], tuple[Need, ...]] | None = getattr(metric, "needs", None)
    return () if declared is None else declared()


def make_metric(name: str) -> Metric:
    """The metric of this name with its published parameters. Raises ValueError for an unknown one."""
    if name not in METRICS:
        raise ValueError(f"the metric {name!r} is unknown; choose of {', '.join(METRICS)}")
    module, attribute = METRICS[name].split(":")
    made: Any = getattr(import_module(module), attribute)()
    assert made.name == name, f"{METRICS[name]} calls itself {made.name}"
    return made

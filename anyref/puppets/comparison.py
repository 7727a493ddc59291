"""Compare embedded models on the same clips: one table with intervals, and each model's paired difference to the first.

Finished parts stay on disk under the hash of all that decides them (weights, settings, judge, number of clips), so that an interrupted
measurement goes on, and one with another model beside the old ones measures that one only.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from anyref.files import sha256, write_json
from anyref.latents import VideoShape
from anyref.methods.folder import PARTS as FOLDERS
from anyref.methods.folder import ModelFolder, download, read_folder, record_of, resolve_model
from anyref.pipeline import AnyRefPipeline
from anyref.puppets import identity
from anyref.puppets.judging import Outcomes, Rate, difference, rate
from anyref.puppets.measure import PARTS, Bench, Results, Show, measure_real, unseen_world
from anyref.puppets.models import WEIGHTS

VERSION = 1
"""Raised when a rule or a set of clips changes, so that older parts are not mixed with newer ones."""

MEASURES: Mapping[str, Mapping[str, str]] = {
    "Identity": {
        "retrieval": "clips of one subject: the whole frames are nearer to its picture than to seven others of its class",
        "retrieval, another's reference": "the same captions from the next clip's reference",
        "retrieval, cut out by the matter": "those of the clips whose reference is not cut out by the world; a model that cuts out does it",
        "retrieval, cut out by the world": "the same clips from another picture of the subject, which the world cut out without a fault",
        "the world's cut-outs minus the matter's": "what is lost to wrong cuts, clip by clip",
        "no subject found": "share of the pictures in which the matter found none; they were used whole",
        "binding, two classes": "clips of two subjects of two classes: half the frame is nearer to the one whom the caption puts there",
        "binding, same class": "two subjects of the same class",
        "binding, two classes, anchors switched off": "without subject disentanglement, which the weights were trained with",
        "binding, same class, anchors switched off": "without subject disentanglement, which the weights were trained with",
    },
    "By number of references": {
        "1 reference": "the clips of `retrieval`",
        "1 reference, another's": "the same captions from the next clip's reference",
        "2 references": "clips of two subjects of two classes, a picture each",
        "3 references": "clips of three subjects of three classes, a picture each",
        "4 references": "those clips; a picture of the setting is the fourth reference, and the three subjects are looked for",
        "8 references": "those clips; two pictures of each subject and of the setting",
        "4 views": "clips of one subject, four pictures of it under one phrase",
        "8 views": "clips of one subject, eight pictures of it under one phrase",
    },
    "The papers' metrics": {
        "S2V Consistency": "the subject cut out of the frames against its reference, 0 where it is missing",
        "S2V Decoupling": "1 minus the likeness of what lies around the subject in the video and in the reference",
        "GmeScore": "likeness of the frames to the caption",
    },
    "Held-out loss": {
        "held-out loss": "not comparable between methods, whose targets differ",
        "held-out loss, swapped minus right references": "what pictures of others of the same class cost",
        "held-out loss, no references minus right": "what it costs to have none",
    },
}
"""Each measure and what it says, in the order of the tables."""
_RULES = {
    "Identity": "The judge is an identity encoder that never saw a generated frame.",
    "By number of references": (
        "Each subject is looked for everywhere: a fixed grid of windows (the whole frame, squares of 1, 3/4 and 1/2 frame heights) in five "
        "frames; a picture's score is its similarity to the nearest window, averaged over frames; right if the subject's own picture "
        "scores higher than seven others of its class. A clip's outcome is the share of its subjects that are right."
    ),
    "The papers' metrics": "By the embedded judges, of the clips of one subject (docs/evaluation.md).",
    "Held-out loss": "At the same noise for all; the first latent frame is left out where it is not the clip's.",
}


@dataclass(frozen=True)
class Plan:
    """What is measured, with which judge (its file), and where finished parts are kept."""

    judge: Path
    count: int
    kept: Path
    parts: Sequence[str] = tuple(PARTS)
    device: str = "cpu"
    encoded: dict[bytes, Tensor] = field(default_factory=dict)
    """Of `Bench`: give the same one to plans whose models share their autoencoder."""


@dataclass(frozen=True)
class Comparison:
    """Results of the clips themselves and of each model, by name, all on the same clips."""

    real: Results
    models: Mapping[str, Results]

    def differences(self) -> dict[str, dict[str, Rate]]:
        """Each later model's shares minus the first one's, clip by clip."""
        first, *others = self.models
        return {
            name: {
                measure: difference(one.values, self.models[first][measure].values)
                for measure, one in self.models[name].items()
                if one.chance is not None and measure in self.models[first]
            }
            for name in others
        }

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "real": as_record(self.real),
            "models": {name: as_record(results) for name, results in self.models.items()},
            "minus_the_first": {
                name: {measure: asdict(one) for measure, one in found.items()}
                for name, found in self.differences().items()
            },
        }

    def markdown(self) -> str:
        """A table for each group of MEASURES, with what each measure says under it."""
        sections = [self._table(title, measures) for title, measures in MEASURES.items()]
        return "\n\n".join(["# Test identities", *(section for section in sections if section)]) + "\n"

    def _table(self, title: str, measures: Mapping[str, str]) -> str:
        shown = {
            name: text for name, text in measures.items() if any(name in one for one in self.models.values())
        }
        if not shown:
            return ""
        differences = self.differences()
        first = next(iter(self.models))
        heads = [
            "measure",
            "clips",
            "chance",
            "real clips",
            *self.models,
            *(f"{name} minus {first}" for name in differences),
        ]
        rows = []
        for name in shown:
            one = next(results[name] for results in self.models.values() if name in results)
            rows.append(
                [
                    name,
                    str(len(one.values)),
                    "" if one.chance is None else f"{one.chance:.3f}",
                    *(_cell(results.get(name)) for results in (self.real, *self.models.values())),
                    *(_signed(found.get(name)) for found in differences.values()),
                ]
            )
        lines = [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
        notes = [f"* {name}: {text}" for name, text in shown.items()]
        rule = f"{_RULES[title]} In brackets 95 % bootstrap intervals over clips; differences are of the same clips."
        return "\n".join([f"## {title}", "", rule, "", *lines, "", *notes])


def find_model(name: str) -> ModelFolder:
    """A model by its embedded name, folder or hub id. Raises ValueError where there is none."""
    path = Path(resolve_model(name))
    return read_folder(path if path.is_dir() else download(name, None, None, None, local_files_only=False))


def find_judge(model: ModelFolder) -> Path:
    """The judge's weights beside a model, else the embedded ones. Raises ValueError where there are none."""
    places = [model.path.parent / "identity.safetensors", WEIGHTS / "identity.safetensors"]
    judge = next((path for path in places if path.is_file()), None)
    if judge is None:
        raise ValueError(f"the judge's weights {places[0]} are not there; `anyref puppets train` makes them")
    return judge


def compare(
    models: Mapping[str, ModelFolder],
    plan: Plan,
    show: Show = lambda *_: None,
    tell: Callable[[str, str, Rate], None] = lambda *_: None,
) -> Comparison:
    """Measure each model, or read what was measured of it. `tell`: model, measure, value, as soon as it is known.

    Raises ValueError for models that make videos of different sizes: they would be measured on different clips.
    """
    shape = _shape_of(models)
    judge, judged_by = identity.load(plan.judge), {"judge": sha256(plan.judge), "clips": plan.count}
    kept = Kept(plan.kept, {**judged_by, "real": asdict(shape)})
    show("real clips", 0, 1)
    real = kept.take("real", lambda: measure_real(unseen_world(shape), judge, plan.count))
    show("real clips", 1, 1)
    measured: dict[str, Results] = {}
    for name, folder in models.items():
        kept = Kept(plan.kept, {**judged_by, **decided_by(folder)})
        load = cache(partial(_load, name, folder, judge, plan, show))
        measured[name] = {}
        for part in plan.parts:
            results = kept.take(part, partial(_run, part, load))
            measured[name] |= results
            for measure, one in results.items():
                tell(name, measure, rate(one.values))
    return Comparison(real, measured)


@dataclass(frozen=True)
class Kept:
    """Finished parts of one measurement on disk."""

    root: Path
    decided_by: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """Where the parts lie."""
        text = json.dumps({**self.decided_by, "version": VERSION}, sort_keys=True)
        return self.root / hashlib.sha256(text.encode()).hexdigest()[:16]

    def take(self, part: str, make: Callable[[], Results]) -> Results:
        """The results of a part, made unless they are there."""
        path = self.folder / f"{part}.json"
        if path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))["results"]
            return {name: Outcomes(tuple(one["values"]), one["chance"]) for name, one in stored.items()}
        results = make()
        made = {name: asdict(one) for name, one in results.items()}
        write_json(path, {"of": dict(self.decided_by), "results": made})
        return results


def decided_by(folder: ModelFolder) -> dict[str, Any]:
    """What makes a model's videos what they are: the hashes of its parts, the method's settings, the sampling defaults."""
    parts = {name: sha256(path) for name in FOLDERS if (path := folder.part(name)) is not None}
    return {"weights": parts, "method": record_of(folder.method)}


def as_record(results: Results) -> dict[str, dict[str, Any]]:
    """Means and intervals, as JSON has them."""
    return {name: {**asdict(rate(one.values)), "chance": one.chance} for name, one in results.items()}


def _load(name: str, folder: ModelFolder, judge: identity.IdentityEncoder, plan: Plan, show: Show) -> Bench:
    pipeline = AnyRefPipeline.from_pretrained(folder.path, method=folder.method.name).to(plan.device)
    pipeline.method = folder.method  # with the defaults that were asked for
    pipeline.set_progress_bar_config(disable=True)
    return Bench(
        pipeline, judge, plan.count, lambda what, *much: show(f"{name}: {what}", *much), plan.encoded
    )


def _run(part: str, load: Callable[[], Bench]) -> Results:
    return PARTS[part](load())


def _shape_of(models: Mapping[str, ModelFolder]) -> VideoShape:
    shapes = {}
    for name, folder in models.items():
        asked = folder.method.defaults
        shapes[name] = VideoShape(asked.num_frames, asked.height, asked.width)
    first, *others = shapes
    for name in others:
        if shapes[name] != shapes[first]:
            sizes = " and ".join(
                f"{one} makes {shapes[one].num_frames} frames of {shapes[one].height} x {shapes[one].width}"
                for one in (first, name)
            )
            raise ValueError(f"{sizes}; compare models of one video size, or measure them one by one")
    return shapes[first]


def _cell(one: Outcomes | None) -> str:
    if one is None:
        return ""
    mean = rate(one.values)
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def _signed(one: Rate | None) -> str:
    return "" if one is None else f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"

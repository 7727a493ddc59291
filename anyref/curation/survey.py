"""What a curation did, in numbers: the funnel, what every bound looked at, classes, licences, identities, and what training would draw."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from anyref.curation import ledger
from anyref.curation.assemble import SplitSets, sample_of
from anyref.curation.decisions import (
    Bound,
    Decide,
    Level,
    Rules,
    clip_values,
    reasons,
    variant_values,
    view_values,
)
from anyref.curation.draws import Realised, VariantSampling, compensated, draw, realised
from anyref.curation.records import FaceRow, Lineage, ObjectRow, Sample, Variant, from_json, to_json
from anyref.curation.regions import box_area
from anyref.curation.stage import Gathering, Outcome, Record, Stage
from anyref.curation.store import Store
from anyref.curation.subjects import candidates
from anyref.perception import Box

OUTCOMES = ("ok", "dropped", "failed", "quarantined")
FRONTAL_FACE = "frontal_face"
"""Of a person where `Rules.people_need_face`: 1 with a face that is kept, 0 without. No bound asks for it, but reports show it as one."""


class Fate(NamedTuple):
    """What became of a record in one stage."""

    record_id: str
    stage: str
    status: str
    reason: str
    num_records: int = 1
    """How many records it went on as."""


class FunnelRow(NamedTuple):
    """One stage of the funnel."""

    stage: str
    entered: int
    left: int
    dropped: int
    failed: int
    quarantined: int
    reasons: tuple[tuple[str, int], ...]
    """Commonest first; of dropped records the scores, of damaged ones what is wrong."""


@dataclass(frozen=True)
class Judged:
    """Something that bounds looked at: its numbers, and where there is a picture of it."""

    level: Level
    title: str
    values: Mapping[str, float | None]
    reasons: tuple[str, ...]
    uri: str | None = None
    """Of a blob."""
    film: str | None = None
    """Or a frame of a film."""
    frame: int = 0

    def failed(self, bound: Bound) -> bool:
        """Whether this bound is among the reasons."""
        return any(reason.split(":")[0] == bound.name for reason in self.reasons)


@dataclass(frozen=True)
class Survey:
    """A curation. `clips` are all clips, each as the last stage before the decisions left it, for those may be other ones here; `fates` say
    what became of them, in order of stages."""

    fates: tuple[Fate, ...]
    films: tuple[Record, ...]
    clips: tuple[Record, ...]
    rules: Rules
    splitting: SplitSets = field(default_factory=SplitSets)
    """How the set is split; of the clips that are kept, so that other rules may split it otherwise."""

    @cached_property
    def decided(self) -> tuple[Record, ...]:
        """The clips that have gone all the way, with these rules' decisions; nothing is computed anew for it."""
        decide, nowhere = Decide(self.rules), Store("memory://none")
        finished = (clip for clip in self.clips if "caption" in clip)
        return tuple(decide(clip, nowhere).records[0] for clip in finished)

    @property
    def kept(self) -> tuple[Record, ...]:
        """The clips that are in the set."""
        return tuple(clip for clip in self.decided if not clip.get("drop"))

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The rows of the set."""
        return tuple(sample_of(clip) for clip in self.kept)

    def funnel(self) -> list[FunnelRow]:
        """Stages in the order in which they ran, and the final decision."""
        stages: dict[str, list[Fate]] = {}
        for fate in self.fates:
            stages.setdefault(fate.stage, []).append(fate)
        rows = [_funnel_row(stage, found) for stage, found in stages.items()]
        drops = [clip["drop"] for clip in self.decided if clip.get("drop")]
        final = [Fate("", "decision", "dropped", drop, 0) for drop in drops]
        final += [Fate("", "decision", "ok", "")] * len(self.kept)
        return [*rows, _funnel_row("decision", final)]

    def judged(self) -> Iterator[Judged]:
        """Everything that bounds looked at: clips (of all that were scored), objects, faces, backgrounds and variants."""
        bounds = self.rules.of("clip")
        for clip in self.clips:
            if clip.get("scores"):
                values = clip_values(clip)
                middle = (clip["clip"]["start_frame"] + clip["clip"]["end_frame"]) // 2
                found = tuple(reasons(values, bounds))
                yield Judged("clip", clip.id, values, found, film=clip["source"]["uri"], frame=middle)
        for clip in self.decided:
            yield from self._judged_objects(clip)
            yield from self._judged_faces(clip)
        for clip in self.clips:
            if clip.get("background") and "caption" in clip:
                yield self._judged_background(clip)
        for clip in self.decided:
            for value in (clip.get("background") or {}).get("variants", ()):
                yield _judged_variant(f"background, {clip.id}", from_json(Variant, value))

    def counts(self) -> dict[str, Counter[str]]:
        """Of what is in the set: licences (clips), classes, kinds (objects), variants (stored and accepted), identities (clips each)."""
        found: dict[str, Counter[str]] = {
            name: Counter()
            for name in ("licences", "classes", "kinds", "stored", "accepted", "identities", "captions")
        }
        for sample in self.samples:
            found["licences"][sample.source.licence] += 1
            if sample.caption:
                found["captions"][sample.caption.model] += 1
            people = {face.global_identity_id or face.face_id for face in sample.faces}
            kept = [row for row in sample.objects if not row.dropped]
            things = {row.global_identity_id or row.object_id for row in kept}
            found["identities"].update(people | things)
            for row in {(row.class_id or row.label, row.start): row for row in kept}.values():
                found["classes"][row.class_id or row.label] += 1
                found["kinds"][row.kind] += 1
            found["kinds"]["face"] += len(sample.faces)
            for variant in _variants_of(sample, kept):
                found["stored"][variant.kind] += 1
                found["accepted"][variant.kind] += variant.accepted
        return found

    def drawn(self, sampling: VariantSampling, epochs: int = 8, seed: int = 0) -> Realised:
        """The mix and the cross-pair ratio that training realises on this set, by drawing every subject of its split `epochs` times.

        As `dataset.CuratedSource` does, with the ratio compensated for the subjects that have no cross-pair.
        """
        rng = np.random.default_rng(seed)
        split = self.splitting.gather(self.kept, Store("memory://none"))
        subjects = [
            one.variants
            for sample, outcome in zip(self.samples, split, strict=True)
            if outcome.records[0]["split"] == "train"
            for one in candidates(sample)
            if one.kind != "background"
        ]
        sampling = compensated(sampling, subjects)
        return realised((one, draw(one, sampling, rng)) for _ in range(epochs) for one in subjects)

    def _judged_objects(self, clip: Record) -> Iterator[Judged]:
        for value in clip.get("objects", ()):
            row = from_json(ObjectRow, value)
            uri = next((variant.uri for variant in row.variants if variant.kind == "crop"), None)
            found = tuple(reason.strip() for reason in row.dropped.split(";") if reason.strip())
            values: dict[str, float | None] = dict(row.scores)
            if row.kind == "person" and self.rules.people_need_face:
                values[FRONTAL_FACE] = float(not any(one.startswith(f"{FRONTAL_FACE}:") for one in found))
            yield Judged("object", f"{row.label}, {clip.id} {row.object_id}", values, found, uri=uri)
            if not row.dropped:
                for variant in row.variants:
                    if variant.kind not in ("crop", "segment"):
                        yield _judged_variant(f"{row.label}, {clip.id} {row.object_id}", variant)

    def _judged_background(self, clip: Record) -> Judged:
        values = {"background_hole": clip.score("background_hole")}
        found = tuple(reasons(values, self.rules.of("background")))
        return Judged("background", clip.id, values, found, uri=clip["background"]["uri"])

    def _judged_faces(self, clip: Record) -> Iterator[Judged]:
        crop = Box(*clip["clip"]["crop"])
        for value in clip.get("face_candidates", ()):
            face = from_json(FaceRow, value)
            for view in face.pool:
                values = view_values(view, box_area(crop))
                levels: tuple[Level, ...] = ("face", "view")
                for level in levels:
                    found = tuple(reasons(values, self.rules.of(level)))
                    yield Judged(level, f"{clip.id} {face.face_id}", values, found, uri=view.uri)
        for value in clip.get("faces", ()):
            for variant in from_json(FaceRow, value).variants:
                yield _judged_variant(f"{clip.id} {variant.source_id}", variant)


_WRITING = ("keep", "cut", "split")
"""Steps that write the set; what they do is not part of the funnel."""


def walk(stages: Sequence[Stage | Gathering], films: Sequence[Record], store: Store, rules: Rules) -> Survey:
    """A curation as its ledger tells it. Steps that see all records are done again: they only compare what is stored."""
    fates: list[Fate] = []
    clips: dict[str, Record] = {}
    registered: dict[str, Record] = {film.id: film for film in films}
    records = list(films)
    for stage in stages:
        if stage.name in _WRITING:
            break
        made: list[Record] = []
        for record, outcome in _outcomes(stage, records, store):
            fates.append(Fate(record.id, stage.name, outcome.status, outcome.reason, len(outcome.records)))
            for new in outcome.records if not isinstance(stage, Decide) else ():
                (clips if new.kind == "clip" else registered)[new.id] = new
            made += outcome.records
        records = sorted(made, key=lambda record: record.id)
    splitting = next((stage for stage in stages if isinstance(stage, SplitSets)), SplitSets())
    ordered = tuple(clips[name] for name in sorted(clips))
    return Survey(tuple(fates), tuple(registered.values()), ordered, rules, splitting)


def lineages(
    stages: Sequence[Stage | Gathering], films: Sequence[Record], store: Store
) -> dict[str, list[dict[str, object]]]:
    """Record to what was done to it: the values of `records.Lineage` of every stage, those of its film first."""
    history: dict[str, list[dict[str, object]]] = {film.id: [] for film in films}
    records = list(films)
    for stage in stages:
        made: list[Record] = []
        for record, outcome in _outcomes(stage, records, store):
            key = ledger.key_of(stage, record)
            row = Lineage(
                stage.name, stage.version, key.config_hash, key.input_hash, outcome.status, outcome.reason
            )
            before = history[record.id]
            for new in outcome.records:
                history[new.id] = [*before, to_json(row)]
            made += outcome.records
        records = sorted(made, key=lambda record: record.id)
    return history


def _outcomes(
    stage: Stage | Gathering, records: Sequence[Record], store: Store
) -> Iterator[tuple[Record, Outcome]]:
    if isinstance(stage, Gathering):
        yield from zip(records, stage.gather(records, store) if records else (), strict=True)
    else:
        yield from ledger.results(stage, records, ledger.entries(store, stage.name))


def _judged_variant(title: str, variant: Variant) -> Judged:
    found = tuple(reason.strip() for reason in variant.reason.split(";") if reason.strip())
    return Judged("variant", f"{variant.kind} of {title}", variant_values(variant), found, uri=variant.uri)


def _variants_of(sample: Sample, kept: Sequence[ObjectRow]) -> Iterator[Variant]:
    for row in kept:
        yield from row.variants
    for face in sample.faces:
        yield Variant(face.reference.uri, "crop", face.face_id)
        yield from face.variants


def _names_of(fate: Fate) -> list[str]:
    """What a funnel calls the reasons of a record: scores that dropped it, or what is wrong with it without the name of its file."""
    if fate.status == "dropped":
        return [part.split(":")[0].strip()[:60] for part in fate.reason.split(";") if part.strip()]
    sentence = re.sub(r"^\S+\.\w+ ", "", fate.reason.split(";")[0])
    return [re.sub(r"\d+", "N", sentence)[:80]] if sentence else []


def _funnel_row(stage: str, fates: Sequence[Fate]) -> FunnelRow:
    counts = Counter(fate.status for fate in fates)
    named = Counter(name for fate in fates for name in _names_of(fate))
    return FunnelRow(
        stage,
        len(fates),
        sum(fate.num_records for fate in fates if fate.status == "ok"),
        counts["dropped"],
        counts["failed"],
        counts["quarantined"],
        tuple(named.most_common(6)),
    )

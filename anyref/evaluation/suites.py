"""What a benchmark makes of its metrics: weights, clamps and totals as published, and rows to scores.

`aggregate` is a pure function of rows. The same sums over cases, weighted by how often a draw takes each case, are what the bootstrap
recomputes: the whole aggregate, because every metric has a denominator of its own.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.metrics import METRICS
from anyref.evaluation.rows import Row

Mode = Literal["official", "strict"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """What happens to a metric's numbers: each video's is clamped, the mean over videos becomes (mean - offset) / span."""

    low: float = -inf
    high: float = inf
    offset: float = 0.0
    span: float = 1.0
    drops_zeros: bool = False
    """Videos that scored exactly 0 are left out of the mean."""


PLAIN = Scale()


@dataclass(frozen=True)
class Weighted:
    """A metric in a suite. Weight 0: reported, not part of the total."""

    metric: str
    label: str
    """What the benchmark calls its column."""
    weight: float = 0.0
    official: Scale = PLAIN
    strict: Scale = PLAIN
    absent: float | None = 0.0
    """What a case without a video, or with one that cannot be decoded, counts in strict mode; None: nothing, where 0 would not be the worst."""

    def scale(self, mode: Mode) -> Scale:
        """What a mode does to its numbers."""
        return self.official if mode == "official" else self.strict


@dataclass(frozen=True)
class Suite:
    """Metrics, their weights, and which categories of cases count; no category: all of them."""

    name: str
    metrics: tuple[Weighted, ...]
    categories: tuple[str, ...] = ()
    backend: str = "published"
    """Which models answer unless the caller says otherwise: those of the publications, or "puppets"."""
    note: str = ""
    renormalised: bool = False
    """Whether the weight of a metric without any score goes to the others, instead of counting 0."""

    @property
    def has_total(self) -> bool:
        """Whether its publication sums the metrics up."""
        return any(weighted.weight for weighted in self.metrics)

    def takes(self, category: str) -> bool:
        """Whether cases of this category count."""
        return not self.categories or category in self.categories


@dataclass(frozen=True)
class Part:
    """One metric of a scored suite. `value` is normalised, None where no video has a score; `counts` are videos by status."""

    metric: str
    label: str
    weight: float
    value: float | None
    num_scored: int
    """How many videos the mean is over."""
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """A suite's answer. `partial`: a metric of the total has no value; it counts 0, so that the total is a lower bound, unless the suite is
    renormalised."""

    total: float | None
    parts: tuple[Part, ...]
    partial: bool

    def part(self, metric: str) -> Part:
        """The part of one metric."""
        return next(part for part in self.parts if part.metric == metric)


@dataclass(frozen=True)
class Table:
    """Clamped scores summed over the videos of each case (C) for each metric (M) of a suite, and how many they are."""

    suite: Suite
    mode: Mode
    cases: tuple[str, ...]
    categories: tuple[str, ...]
    sums_CM: Floats
    counts_CM: Floats

    def means(self, times_DC: Floats) -> Floats:
        """[D, M]: each metric's normalised mean when draw d takes case c so many times; NaN where it has no score."""
        return self.normalised(times_DC @ self.sums_CM, times_DC @ self.counts_CM)

    def normalised(self, sums_DM: Floats, counts_DM: Floats) -> Floats:
        """[D, M]: means of sums of clamped scores, offset and scaled; NaN where nothing was counted."""
        with np.errstate(invalid="ignore", divide="ignore"):
            raw_DM = sums_DM / counts_DM
        scales = [weighted.scale(self.mode) for weighted in self.suite.metrics]
        offsets, spans = np.array([s.offset for s in scales]), np.array([s.span for s in scales])
        return np.asarray((raw_DM - offsets) / spans)

    def totals(self, means_DM: Floats, observed_M: Floats | None = None) -> Floats:
        """[D]: weighted sums; a metric without score counts 0, or in a renormalised suite gives its weight to the others.

        `observed_M`, the means of the whole table, stands in where a draw of the bootstrap took no case of a metric that the run does have:
        a case that was not drawn is no 0.
        """
        weights = np.array([weighted.weight for weighted in self.suite.metrics])
        if observed_M is not None:
            means_DM = np.where(np.isnan(means_DM), observed_M, means_DM)
        totals = np.nan_to_num(means_DM) @ weights
        if self.suite.renormalised:
            present = (~np.isnan(means_DM)) @ weights
            totals = np.divide(totals, present, out=np.full_like(totals, np.nan), where=present > 0)
            totals = totals * weights.sum()
        return np.asarray(totals)


def tabulate(rows: Iterable[Row], suite: Suite, mode: Mode) -> Table:
    """Rows to a table. Rows of other metrics and other categories are left out; cases are sorted by key."""
    columns = {weighted.metric: number for number, weighted in enumerate(suite.metrics)}
    chosen = [row for row in rows if row.metric in columns and suite.takes(row.category)]
    categories = {row.case: row.category for row in chosen}
    cases = sorted(categories)
    lines = {case: number for number, case in enumerate(cases)}
    sums_CM = np.zeros((len(cases), len(columns)))
    counts_CM = np.zeros_like(sums_CM)
    for row in chosen:
        weighted = suite.metrics[columns[row.metric]]
        scale, score = weighted.scale(mode), counted_score(row, weighted, mode)
        if score is None or (scale.drops_zeros and score == 0):
            continue
        place = lines[row.case], columns[row.metric]
        sums_CM[place] += min(max(score, scale.low), scale.high)
        counts_CM[place] += 1
    return Table(suite, mode, tuple(cases), tuple(categories[case] for case in cases), sums_CM, counts_CM)


def counted_score(row: Row, weighted: Weighted, mode: Mode) -> float | None:
    """What a row counts in the mean, before clamping; None: nothing."""
    if mode == "official":
        return row.value
    return weighted.absent if row.status == "missed" and row.strict is None else row.strict


def aggregate(rows: Sequence[Row], suite: Suite, mode: Mode) -> Scores:
    """The suite's parts and total.

    A metric without any score counts 0 in the total, as in OpenS2V's merge_result.py, and the total is labelled partial; in a renormalised suite
    its weight goes to the others. Videos with the status "error" count in no mean and are in the parts' counts.
    """
    table = tabulate(rows, suite, mode)
    means_1M = table.means(np.ones((1, len(table.cases))))
    counts: dict[str, Counter[str]] = {weighted.metric: Counter() for weighted in suite.metrics}
    for row in rows:
        if row.metric in counts and suite.takes(row.category):
            counts[row.metric][row.status] += 1
    parts = tuple(
        Part(
            weighted.metric,
            weighted.label,
            weighted.weight,
            None if np.isnan(mean) else float(mean),
            int(table.counts_CM[:, number].sum()),
            dict(counts[weighted.metric]),
        )
        for number, (weighted, mean) in enumerate(zip(suite.metrics, means_1M[0], strict=True))
    )
    weighed = [part for part in parts if part.weight]
    partial = any(part.value is None for part in weighed)
    if not any(part.value is not None for part in weighed):
        return Scores(None, parts, partial)
    return Scores(float(table.totals(means_1M)[0]), parts, partial)


def find_suite(name: str) -> Suite:
    """The suite of this name. Raises ValueError for an unknown one."""
    found = SUITES.get(name)
    if found is None:
        raise ValueError(f"the suite {name!r} is unknown; choose one of {', '.join(SUITES)}")
    return found


def narrowed(suite: Suite, metrics: Sequence[str]) -> Suite:
    """The suite with these metrics only, its own and then others at weight 0; none named: all of its own. Raises ValueError for an unknown one."""
    own = [weighted.metric for weighted in suite.metrics]
    unknown = [name for name in metrics if name not in own and name not in METRICS]
    if unknown:
        raise ValueError(
            f"the suite {suite.name} has no metric {', '.join(unknown)}, and neither has any other; choose of {', '.join([*own, *METRICS])}"
        )
    chosen = tuple(weighted for weighted in suite.metrics if not metrics or weighted.metric in metrics)
    return with_beside(replace(suite, metrics=chosen), [name for name in metrics if name not in own])


def renormalised(suite: Suite, wanted: bool) -> Suite:
    """The suite as it is, or renormalised, which its note then says."""
    if not wanted:
        return suite
    told = "Renormalised: the weight of a metric without score goes to the others"
    return replace(suite, renormalised=True, note=". ".join(filter(None, (suite.note, told))))


def with_beside(suite: Suite, metrics: Iterable[str]) -> Suite:
    """The suite and these metrics, at weight 0 and scaled as where they belong; those that it has are left as they are."""
    own = {weighted.metric for weighted in suite.metrics}
    known = {w.metric: w for other in reversed(SUITES.values()) for w in other.metrics}
    added = [
        replace(known.get(name, Weighted(name, name)), weight=0.0)
        for name in dict.fromkeys(metrics)
        if name not in own
    ]
    return replace(suite, metrics=(*suite.metrics, *added))


def beside(suite: Suite) -> list[str]:
    """The metrics that were added to a suite of the table."""
    own = {weighted.metric for weighted in SUITES.get(suite.name, suite).metrics}
    return [weighted.metric for weighted in suite.metrics if weighted.metric not in own]


_AESTHETIC = Scale(4, 7, 4, 3)
_NEXUS = Scale(0, 0.05, 0, 0.05, drops_zeros=True)
_NATURAL = Scale(1, 5, 1, 4)
_CAPPED = Scale(high=1)
_UNIT = Scale(0, 1)


def _opens2v(name: str, categories: tuple[str, ...], weights: Mapping[str, float], note: str) -> Suite:
    rows = {
        "aesthetics": ("Aesthetics", _AESTHETIC, _AESTHETIC),
        "motion_smoothness": ("MotionSmoothness", _UNIT, _UNIT),
        "motion_amplitude": ("MotionAmplitude", _UNIT, _UNIT),
        "face_sim": ("FaceSim", _CAPPED, _CAPPED),
        "gme_score": ("GmeScore", _CAPPED, _CAPPED),
        "nexus_score": ("NexusScore", _NEXUS, _UNIT),
        "natural_score": ("NaturalScore", _NATURAL, _UNIT),
    }
    metrics = tuple(
        Weighted(f"opens2v.{metric}", label, weights[metric], official, strict)
        for metric, (label, official, strict) in rows.items()
        if metric in weights
    )
    return Suite(name, metrics, categories, note=note)


def _weights(*values: float, names: str) -> dict[str, float]:
    return dict(zip(names.split(), values, strict=True))


_ALL = "aesthetics motion_smoothness motion_amplitude face_sim gme_score nexus_score natural_score"
_V10 = "aesthetics motion_amplitude face_sim gme_score nexus_score natural_score"
_HUMAN = ("singlehuman", "singleface")
_SINGLE = (*_HUMAN, "singleobj")
_MULTI = ("multihuman", "multiface", "humanobj", "faceobj")
_OPENS2V = {
    "opens2v-v1.1-open": ((), _weights(0.16, 0.06, 0.02, 0.2, 0.12, 0.2, 0.24, names=_ALL)),
    "opens2v-v1.1-single": (_SINGLE, _weights(0.16, 0.06, 0.02, 0.2, 0.12, 0.2, 0.24, names=_ALL)),
    "opens2v-v1.1-human": (
        _HUMAN,
        _weights(0.18, 0.09, 0.03, 0.25, 0.15, 0.3, names=_ALL.replace("nexus_score ", "")),
    ),
    "opens2v-v1.0-open": ((), _weights(0.12, 0.12, 0.2, 0.12, 0.2, 0.24, names=_V10)),
    "opens2v-v1.0-single": (_SINGLE, _weights(0.12, 0.12, 0.2, 0.12, 0.2, 0.24, names=_V10)),
    "opens2v-v1.0-human": (
        _HUMAN,
        _weights(0.15, 0.15, 0.25, 0.15, 0.3, names=_V10.replace("nexus_score ", "")),
    ),
}


def _magref(weight: float, *, multi: bool, motion: str = "opens2v.motion_smoothness") -> tuple[Weighted, ...]:
    single = (
        Weighted("magref.id_sim", "ID-Sim", weight),
        Weighted("magref.aesthetic", "Aesthetic", weight, _AESTHETIC, _AESTHETIC),
        Weighted(motion, "Motion Smoothness", weight),
        Weighted("opens2v.gme_score", "GmeScore", weight),
    )
    both = (
        Weighted("magref.subj_sim", "Subj-Sim", weight),
        Weighted("magref.bg_sim", "Bg-Sim", weight),
    )
    return (single[0], *both, *single[1:]) if multi else single


_KALEIDO = (
    Weighted("vbench.subject_consistency", "Subject Consistency"),
    Weighted("vbench.background_consistency", "Background Consistency"),
    Weighted("vbench.motion_smoothness", "Motion Smoothness"),
    Weighted("vbench.aesthetic_quality", "Aesthetic Quality"),
    Weighted("vbench.imaging_quality", "Imaging Quality"),
    Weighted("vbench.overall_consistency", "ViCLIP Score"),
    Weighted("anyref.sentence_consistency", "ViCLIP by sentence"),
    Weighted("kaleido.s2v_consistency", "S2V Consistency"),
    Weighted("kaleido.s2v_decoupling", "S2V Decoupling"),
)
DIAGNOSTICS = (
    Weighted("anyref.identity_margin", "Identity margin", absent=None),
    Weighted("anyref.coverage", "Coverage"),
    Weighted("anyref.identity_drift", "Identity drift", absent=None),
    Weighted("anyref.copy_paste", "Copy-paste", absent=None),
    Weighted("anyref.duplicate_subjects", "Duplicate subjects", absent=None),
    Weighted("anyref.canvas_leak", "Canvas leak", absent=None),
    Weighted("anyref.grey_leak", "Grey leak", absent=None),
)
_PIXELS = (
    Weighted("opens2v.motion_amplitude", "Motion amplitude", official=_UNIT, strict=_UNIT),
    Weighted("anyref.motion_magnitude", "Motion magnitude"),
    Weighted("anyref.flow_smoothness", "Flow smoothness"),
)
_PUPPETS_BESIDE = (
    *(w for w in _KALEIDO if w.metric.split(".")[1] in {"subject_consistency", "background_consistency"}),
    *(w for w in _KALEIDO if w.metric.startswith("kaleido.")),
    *_PIXELS[:2],
    *DIAGNOSTICS,
)
_PUPPETS_MULTI = _magref(1 / 6, multi=True, motion="anyref.flow_smoothness")
_PUPPETS_SINGLE = _magref(1 / 4, multi=False, motion="anyref.flow_smoothness")
_PUPPETS_NOTE = (
    "Answered by the embedded models, on their world: comparable with one another, not with a published table"
)

SUITES: dict[str, Suite] = {
    "magref.single": Suite(
        "magref.single", _magref(1 / 4, multi=False), (*_HUMAN, "single"),
        note="MAGREF, Table 1: the cases were not released; OpenS2V's 60 single-ID cases stand in for them",
    ),
    "magref.multi": Suite(
        "magref.multi", _magref(1 / 6, multi=True), (*_MULTI, "multi"),
        note="MAGREF, Table 2: the cases were not released; OpenS2V's 60 cases of several people, or a person and things, stand in for them",
    ),
    "kaleido": Suite("kaleido", _KALEIDO, note="Kaleido, Table 1, which has no total; the cases were not released"),
    **{
        name: _opens2v(name, categories, weights, "OpenS2V-Eval's merge_result.py")
        for name, (categories, weights) in _OPENS2V.items()
    },
    "puppets": Suite("puppets", (*_PUPPETS_MULTI, *_PUPPETS_BESIDE), backend="puppets", note=_PUPPETS_NOTE),
    "puppets.single": Suite(
        "puppets.single", (*_PUPPETS_SINGLE, *_PUPPETS_BESIDE), ("single",), "puppets", _PUPPETS_NOTE
    ),
    "puppets.multi": Suite(
        "puppets.multi", (*_PUPPETS_MULTI, *_PUPPETS_BESIDE), ("multi",), "puppets", _PUPPETS_NOTE
    ),
    "core": Suite("core", _PIXELS, note="Metrics of pixels alone: no model, no download, any machine"),
}  # fmt: skip
"""In the order of the help."""

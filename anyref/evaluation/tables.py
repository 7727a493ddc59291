"""The report's tables out of rows: leaderboard, categories, comparisons, worst cases, who answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

from anyref.evaluation.metrics import METRICS, make_metric
from anyref.evaluation.published import published_rows
from anyref.evaluation.rows import REASON, Row
from anyref.evaluation.runs import REFUSED, EvaluatedRun, cards_of, counted
from anyref.evaluation.statistics import TOTAL, Comparison, Scored, compare, detectable_difference, score
from anyref.evaluation.suites import Mode, Suite, aggregate

MODES: tuple[Mode, ...] = ("official", "strict")
_ALL_PAIRS = 4
"""Up to so many runs, each is compared with each; more are compared with the first only."""
_WORST = 10


@dataclass(frozen=True)
class Cell:
    """A number of a table with its interval, if it has one."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """One row of the leaderboard: a run, or (then `source` says whence) what a publication prints."""

    name: str
    total: Cell
    cells: tuple[Cell, ...]
    partial: bool = False
    num_cases: int | None = None
    source: str | None = None
    detectable: float | None = None
    """The smallest difference in the total that a rival as sure as this run would show; None without total."""


@dataclass(frozen=True)
class Leaderboard:
    """Best total first; where the suite has none, as given. Published rows stand apart: they are not of the same protocol."""

    mode: Mode
    lines: tuple[Line, ...]
    published: tuple[Line, ...]


@dataclass(frozen=True)
class CategoryLine:
    """What a run scores in one category of cases."""

    run: str
    category: str
    num_cases: int
    total: float | None
    values: tuple[float | None, ...]
    partial: bool = False
    """Whether a metric of the total has no score in this category."""


@dataclass(frozen=True)
class Versus:
    """Two runs compared; `problem` says why they cannot be."""

    first: str
    second: str
    mode: Mode
    comparison: Comparison | None
    problem: str = ""


@dataclass(frozen=True)
class Answerer:
    """A model that answered for a metric."""

    metric: str
    role: str
    name: str
    source: str
    revision: str
    licence: str
    commercial: bool


def direction(runs: Sequence[EvaluatedRun], metric: str) -> bool:
    """Whether higher is better, as the run wrote down, or else as the metric says today."""
    for run in runs:
        if "higher_is_better" in run.metric(metric):
            return bool(run.metric(metric)["higher_is_better"])
    return make_metric(metric).higher_is_better if metric in METRICS else True


def leaderboard(
    runs: Sequence[EvaluatedRun], suite: Suite, mode: Mode, published: str, draws: int, seed: int
) -> Leaderboard:
    """Every run with intervals; the rows of the suite `published`, whose numbers are of the official mode, only there."""
    lines = [_line(run.name, score(run.rows, suite, mode, seed=seed, draws=draws), suite) for run in runs]
    greys = []
    for row in published_rows(published) if mode == "official" else ():
        # Variants within a paper belong to its ablation table, not among systems.
        if not row.ablation and any(weighted.metric in row.scores for weighted in suite.metrics):
            cells = tuple(Cell(row.scores.get(weighted.metric)) for weighted in suite.metrics)
            version = f", {row.version}" if row.version else ""
            greys.append(Line(row.name, Cell(row.total), cells, source=f"{row.source}{version}"))
    return Leaderboard(mode, _best_first(lines), _best_first(greys))


def _line(name: str, scored: Scored, suite: Suite) -> Line:
    def cell(metric: str, value: float | None) -> Cell:
        found = scored.intervals.get(metric)
        return Cell(value) if found is None else Cell(value, found.low, found.high)

    scores = scored.scores
    total = scored.intervals.get(TOTAL)
    return Line(
        name,
        cell(TOTAL, scores.total if suite.has_total else None),
        tuple(cell(part.metric, part.value) for part in scores.parts),
        scores.partial and suite.has_total,
        scored.num_cases,
        detectable=detectable_difference(sqrt(2) * total.standard_error)
        if total and suite.has_total
        else None,
    )


def _best_first(lines: Sequence[Line]) -> tuple[Line, ...]:
    return tuple(sorted(lines, key=lambda line: -(line.total.value or 0.0)))


def categories(runs: Sequence[EvaluatedRun], suite: Suite, mode: Mode) -> list[CategoryLine]:
    """Each run in each category of cases."""
    found = []
    for category in sorted({row.category for run in runs for row in run.rows}):
        for run in runs:
            rows = [row for row in run.rows if row.category == category]
            scores = aggregate(rows, suite, mode)
            found.append(
                CategoryLine(
                    run.name,
                    category,
                    len({row.case for row in rows}),
                    scores.total if suite.has_total else None,
                    tuple(part.value for part in scores.parts),
                    scores.partial and suite.has_total,
                )
            )
    return found


def comparisons(
    runs: Sequence[EvaluatedRun], suite: Suite, mode: Mode, draws: int, seed: int
) -> list[Versus]:
    """Each run with each, or with the first where there are many."""
    pairs = list(combinations(runs, 2)) if len(runs) <= _ALL_PAIRS else [(runs[0], run) for run in runs[1:]]
    found = []
    for first, second in pairs:
        try:
            done = compare(first.rows, second.rows, suite, mode, seed=seed, draws=draws)
            found.append(Versus(first.name, second.name, mode, done))
        except ValueError as error:
            found.append(Versus(first.name, second.name, mode, None, str(error)))
    return found


def verdict(low: float | None, high: float | None, p: float, higher_is_better: bool) -> str:
    """A difference in a word: better or worse where p is below 5 %, else open, as without an interval; `p` is the corrected one."""
    if p >= 0.05 or low is None or high is None:
        return "open"
    return "better" if (low + high > 0) == higher_is_better else "worse"


def worst(
    rows: Sequence[tuple[str, Row]], higher_is_better: bool, count: int = _WORST
) -> list[tuple[str, Row]]:
    """The lowest strict scores (highest, where lower is better) of (run, row) pairs, worst first; what was missed, before all others."""
    known = [(name, row) for name, row in rows if row.strict is not None]
    sign = 1 if higher_is_better else -1
    return sorted(
        known,
        key=lambda pair: (pair[1].status != "missed", sign * (pair[1].strict or 0.0), pair[1].place, pair[0]),
    )[:count]


def statuses(runs: Sequence[EvaluatedRun], suite: Suite) -> list[tuple[str, str, Mapping[str, int]]]:
    """(run, metric's label, status -> videos)."""
    found = []
    for run in runs:
        parts = aggregate(run.rows, suite, "strict").parts
        found += [(run.name, part.label, part.counts) for part in parts]
    return found


def problems(runs: Sequence[EvaluatedRun], count: int = 30) -> list[str]:
    """What went wrong, in the words of the error, with how many videos and the first of them."""
    seen: dict[tuple[str, str, str], list[str]] = {}
    for run in runs:
        for row in run.rows:
            if row.status == "error":
                reason = str(row.details.get(REASON, "no reason was recorded"))
                seen.setdefault((run.name, row.metric, reason), []).append(row.case)
    listed = sorted(seen.items(), key=lambda item: -len(item[1]))
    return [
        f"{run}, {metric}: {reason} ({counted(len(cases), 'video')}, {cases[0]} for one)"
        for (run, metric, reason), cases in listed[:count]
    ]


def answerers(runs: Sequence[EvaluatedRun], suite: Suite) -> list[Answerer]:
    """Each model and program once per metric and role, with its licence."""
    found: dict[Answerer, None] = {}
    for run in runs:
        for weighted in suite.metrics:
            if weighted.metric in run.about.get(REFUSED, ()):
                continue
            for role, card in cards_of(run.metric(weighted.metric)).items():
                name, source, revision, licence = (
                    str(card.get(what, "")) for what in ("name", "source", "revision", "licence")
                )
                commercial = bool(card.get("commercial", True))
                found[Answerer(weighted.metric, role, name, source, revision, licence, commercial)] = None
    return list(found)

"""What is measured of a curation against its truth: the measures and their goals, intervals over films, and the table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyref.files import atomic, write_json

_DRAWS = 2000


class Counted(NamedTuple):
    """What one film adds to a share: `right` of `total`."""

    film: str
    right: float
    total: float


@dataclass(frozen=True)
class Measure:
    """What is measured, and the least (or, where `below`, the most) that is asked for; None: no goal."""

    name: str
    about: str
    goal: float | None = None
    below: bool = False


MEASURES: tuple[Measure, ...] = (
    Measure("cut F1", "hard cuts and fades, one detection each", 0.98),
    Measure("hard cut F1", "hard cuts, and detections that are no fade"),
    Measure("fade recall", "fades with a detection in them"),
    Measure("damaged films quarantined", "files that cannot be decoded", 1.0),
    Measure("whole films decoded", "files that can", 1.0),
    Measure("letterbox found", "clips whose crop is within 2 px of the picture", 1.0),
    Measure("static shots dropped", "for their motion", 1.0),
    Measure("blurred shots dropped", "for their blur", 1.0),
    Measure("duplicates dropped", "one of two equal shots, as a duplicate", 1.0),
    Measure("good shots kept", "shots without a defect of which a clip is kept"),
    Measure(
        "subject recall",
        "subjects of kept clips that an object shows with IoU >= 0.5, or a face that is kept",
    ),
    Measure("object precision", "kept objects that show a subject with IoU >= 0.5"),
    Measure("mask IoU", "mean over the objects that show a subject"),
    Measure("identity purity", "objects that are the commonest identity of their cluster"),
    Measure("identity completeness", "objects in the cluster that holds most of their identity"),
    Measure("face purity", "as above, for faces"),
    Measure("face completeness", "as above, for faces"),
    Measure(
        "cross-pairs of the same subject",
        "accepted pictures from other clips that show the same identity",
        0.98,
    ),
    Measure(
        "near-copies",
        "accepted pictures from other clips that repeat one of the clip's own",
        0.01,
        below=True,
    ),
)


@dataclass(frozen=True)
class Measured:
    """A measure's value with its 95 % interval over films; None where there was nothing to measure."""

    measure: Measure
    value: float | None
    low: float | None
    high: float | None
    trials: int

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none, or no value."""
        goal = self.measure.goal
        if goal is None or self.value is None:
            return None
        return self.value <= goal if self.measure.below else self.value >= goal


@dataclass(frozen=True)
class TruthReport:
    """All measures of one curation."""

    measured: tuple[Measured, ...]
    films: int

    def __getitem__(self, name: str) -> Measured:
        return next(one for one in self.measured if one.measure.name == name)

    def record(self) -> dict[str, Any]:
        """As JSON."""
        names = ("value", "low", "high", "trials", "met")
        values = {one.measure.name: {name: getattr(one, name) for name in names} for one in self.measured}
        return {"films": self.films, "measures": values}

    def markdown(self) -> str:
        """A table."""
        lines = ["| measure | value | 95 % interval | of | goal | |", "| --- | --- | --- | --- | --- | --- |"]
        for one in self.measured:
            measure = one.measure
            sign = "at most" if measure.below else "at least"
            goal = "" if measure.goal is None else f"{sign} {measure.goal:.2f}"
            verdict = {None: "", True: "met", False: "missed"}[one.met]
            shown = (
                "not measured | "
                if one.value is None
                else f"{one.value:.3f} | {one.low:.3f} to {one.high:.3f}"
            )
            lines.append(f"| {measure.name}: {measure.about} | {shown} | {one.trials} | {goal} | {verdict} |")
        return "\n".join(lines) + "\n"


def share_of(measure: Measure, counts: Iterable[Counted], films: Sequence[str]) -> Measured:
    """Right by total, over all films."""
    place = {name: number for number, name in enumerate(films)}
    right, total = np.zeros(len(films)), np.zeros(len(films))
    trials = 0.0
    for one in counts:
        right[place[one.film]] += one.right
        total[place[one.film]] += one.total
        trials += one.total
    return _measured(measure, lambda weights: (weights @ right, weights @ total), len(films), round(trials))


def commonest_share(
    measure: Measure, entries: Sequence[tuple[str, str, str]], films: Sequence[str]
) -> Measured:
    """Of (film, group, member): the share of entries that belong to the commonest member of their group."""
    place = {name: number for number, name in enumerate(films)}
    pairs = sorted({(group, member) for _, group, member in entries})
    number = {pair: index for index, pair in enumerate(pairs)}
    table = np.zeros((len(films), len(pairs)))
    for film, group, member in entries:
        table[place[film], number[group, member]] += 1
    groups = [group for group, _ in pairs]
    starts = [0, *(i + 1 for i, (one, other) in enumerate(pairwise(groups)) if one != other)]

    def counts(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if not pairs:
            return weights[..., 0] * 0, weights[..., 0] * 0
        found = weights @ table
        return np.maximum.reduceat(found, starts, axis=-1).sum(axis=-1), found.sum(axis=-1)

    return _measured(measure, counts, len(films), len(entries))


def _measured(
    measure: Measure,
    counts: Callable[[NDArray[np.float64]], tuple[Any, Any]],
    num_films: int,
    trials: int,
) -> Measured:
    right, total = counts(np.ones(num_films))
    if not total:
        return Measured(measure, None, None, None, 0)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(num_films, np.full(num_films, 1 / num_films), size=_DRAWS).astype(np.float64)
    rights, totals = counts(weights)
    drawn = rights[totals > 0] / totals[totals > 0]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Measured(measure, float(right / total), float(low), float(high), trials)


def write_report(report: TruthReport, path: Path) -> None:
    """The record as JSON, and the table beside it as .md."""
    write_json(path, report.record())
    with atomic(path.with_suffix(".md")) as partial:
        partial.write_text(report.markdown(), encoding="utf-8")

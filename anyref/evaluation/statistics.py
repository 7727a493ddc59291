"""How sure the scores are: intervals of a suite's parts and total, paired comparison of two runs, and the smallest difference a set can show.

Everything is recomputed from the rows in each draw, the total included, because each metric has a denominator of its own. A draw takes whole
cases, with all takes of each, and as many of each category as there are. Where it took no case of a rare metric, the metric's observed mean
enters the total. What rests on fewer than two cases has no interval: nothing can be drawn anew from one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.rows import Row
from anyref.evaluation.suites import Floats, Mode, Scores, Suite, Table, aggregate, tabulate

DRAWS = 2000
TOTAL = "total"
"""The name of the total among the metrics."""
MIN_CASES = 2
"""Fewer have no interval."""
_BLOCK = 500


@dataclass(frozen=True)
class Interval:
    """95 % percentile interval of a mean, and the standard deviation of its draws."""

    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class Scored:
    """A suite's scores with intervals by metric and "total"; a metric with a score of fewer than `MIN_CASES` cases has none."""

    scores: Scores
    intervals: dict[str, Interval]
    num_cases: int


@dataclass(frozen=True)
class Difference:
    """How much higher the first run scores than the second on the cases they share."""

    metric: str
    """Or "total"."""
    value: float
    low: float | None
    high: float | None
    """None where fewer than `MIN_CASES` cases have a score in both runs, as is `detectable`."""
    p: float
    """Two-sided, of a randomisation test that swaps the two runs' videos of a case."""
    p_holm: float
    """Corrected for all metrics of the comparison; the total, asked first, is not among them."""
    win_rate: float
    """Share of the cases where the first run's score is higher in number, ties half; says nothing of better where lower is better."""
    num_cases: int
    """Cases where both runs have a score."""
    detectable: float | None
    """The smallest true difference that a set like this one finds with 80 % chance at the 5 % level."""


@dataclass(frozen=True)
class Comparison:
    """Two runs of the same cases. `only_first`, `only_second`: cases that only one of them has, and which are left out."""

    differences: tuple[Difference, ...]
    num_shared: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    def of(self, metric: str) -> Difference:
        """The difference in one metric or "total"."""
        return next(difference for difference in self.differences if difference.metric == metric)


def score(
    rows: Sequence[Row],
    suite: Suite,
    mode: Mode,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Scored:
    """Scores of a run with intervals: a bootstrap over cases, stratified by category. Same seed, same intervals."""
    table = tabulate(rows, suite, mode)
    scores = aggregate(rows, suite, mode)
    intervals: dict[str, Interval] = {}
    if not table.cases:
        return Scored(scores, intervals, 0)
    rng = np.random.default_rng(seed)
    observed_M = table.means(np.ones((1, len(table.cases))))[0]
    means, totals = [], []
    for count in _blocks(draws):
        times_DC = resample(table.categories, count, rng)
        means_DM = table.means(times_DC)
        means.append(means_DM)
        totals.append(table.totals(means_DM, observed_M))
    all_means_DM, all_totals_D = np.concatenate(means), np.concatenate(totals)
    for number, part in enumerate(scores.parts):
        if (table.counts_CM[:, number] > 0).sum() >= MIN_CASES:
            intervals[part.metric] = _interval(all_means_DM[:, number])
    if table.counts_CM[:, _weighed(suite)].any(axis=1).sum() >= MIN_CASES:
        intervals[TOTAL] = _interval(all_totals_D)
    return Scored(scores, intervals, len(table.cases))


def resample(categories: Sequence[str], draws: int, rng: np.random.Generator) -> Floats:
    """[D, C]: how often each draw takes each case; within a category as often as there are cases of it."""
    names = np.array(categories)
    times_DC = np.zeros((draws, len(names)))
    for category in np.unique(names):
        members = np.flatnonzero(names == category)
        times_DC[:, members] = rng.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=draws
        )
    return times_DC


def compare(
    first: Sequence[Row],
    second: Sequence[Row],
    suite: Suite,
    mode: Mode,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Comparison:
    """First minus second, on the cases that both have. A metric counts a case only where both runs have a score of it.

    Raises ValueError where they share no case, or were asked different questions under the same key.
    """
    one, other, only_first, only_second = _pair(first, second, suite, mode)
    rng = np.random.default_rng(seed)
    names = [weighted.metric for weighted in suite.metrics]
    if one.counts_CM[:, _weighed(suite)].any():
        names.append(TOTAL)
    whole = np.ones((1, len(one.cases)))
    ours_M, theirs_M = one.means(whole)[0], other.means(whole)[0]
    drawn, null = [], []
    for count in _blocks(draws):
        times_DC = resample(one.categories, count, rng)
        drawn.append(_both(one, times_DC, ours_M) - _both(other, times_DC, theirs_M))
        null.append(_swapped(one, other, rng.random((count, len(one.cases))) < 0.5))
    drawn_DN, null_DN = np.concatenate(drawn), np.concatenate(null)
    observed_N = (_both(one, whole) - _both(other, whole))[0]
    found = [
        _difference(name, observed_N[number], drawn_DN[:, number], null_DN[:, number], one, other)
        for number, name in enumerate(names)
        if not np.isnan(observed_N[number])
    ]
    parts = [difference for difference in found if difference.metric != TOTAL]
    holm = dict(zip((d.metric for d in parts), holm_corrected([d.p for d in parts]), strict=True))
    corrected = tuple(replace(d, p_holm=holm.get(d.metric, d.p)) for d in found)
    return Comparison(corrected, len(one.cases), only_first, only_second)


def holm_corrected(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(len(p_values))
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return [float(p) for p in corrected]


def detectable_difference(standard_error: float, power: float = 0.8, level: float = 0.05) -> float:
    """The smallest true difference found with this power at this two-sided level, when differences vary by `standard_error`.

    For one run alone, whose rival will be as sure as itself and shares nothing with it, pass sqrt(2) times the standard error of its own
    interval: an upper bound, because on the same cases the rival's scores go along.
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - level / 2) + normal.inv_cdf(power)) * standard_error


def _pair(
    first: Sequence[Row], second: Sequence[Row], suite: Suite, mode: Mode
) -> tuple[Table, Table, tuple[str, ...], tuple[str, ...]]:
    asked = [
        {row.case: row.case_sha256 for row in rows if suite.takes(row.category)} for rows in (first, second)
    ]
    shared = asked[0].keys() & asked[1].keys()
    changed = sorted(case for case in shared if asked[0][case] != asked[1][case])
    if changed:
        raise ValueError(
            f"the two runs were asked different things under the same key ({', '.join(changed[:3])}); score both with the same cases"
        )
    if not shared:
        raise ValueError("the two runs share no case of the suite; compare runs of the same cases")
    tables = [tabulate([row for row in rows if row.case in shared], suite, mode) for rows in (first, second)]
    both_CM = (tables[0].counts_CM > 0) & (tables[1].counts_CM > 0)
    one, other = (
        Table(t.suite, t.mode, t.cases, t.categories, t.sums_CM * both_CM, t.counts_CM * both_CM)
        for t in tables
    )
    only = [tuple(sorted(asked[i].keys() - shared)) for i in (0, 1)]
    return one, other, only[0], only[1]


def _both(table: Table, times_DC: Floats, observed_M: Floats | None = None) -> Floats:
    """[D, M + 1]: means, and the total where the suite has one; `observed_M` as in `Table.totals`."""
    return _joined(table, table.means(times_DC), observed_M)


def _joined(table: Table, means_DM: Floats, observed_M: Floats | None = None) -> Floats:
    totals_D = table.totals(means_DM, observed_M)
    return np.concatenate([means_DM, totals_D[:, None]], axis=1)


def _swapped(one: Table, other: Table, swap_DC: NDArray[np.bool_]) -> Floats:
    """[D, M + 1]: the differences when the videos of the cases where `swap_DC` is True change sides."""
    stay_DC = 1.0 - swap_DC
    means = []
    for mine, theirs in ((one, other), (other, one)):
        sums_DM = stay_DC @ mine.sums_CM + swap_DC @ theirs.sums_CM
        counts_DM = stay_DC @ mine.counts_CM + swap_DC @ theirs.counts_CM
        means.append(mine.normalised(sums_DM, counts_DM))
    return _joined(one, means[0]) - _joined(other, means[1])


def _difference(
    name: str, observed: float, drawn_D: Floats, null_D: Floats, one: Table, other: Table
) -> Difference:
    extreme = np.abs(null_D[~np.isnan(null_D)]) >= abs(observed) - 1e-12
    p = (1 + int(extreme.sum())) / (1 + len(extreme))
    wins = _case_differences(name, one, other)
    interval = _interval(drawn_D) if len(wins) >= MIN_CASES else None
    return Difference(
        name,
        float(observed),
        None if interval is None else interval.low,
        None if interval is None else interval.high,
        p,
        p,
        float(np.mean(np.where(wins == 0, 0.5, wins > 0))) if len(wins) else 0.5,
        len(wins),
        None if interval is None else detectable_difference(interval.standard_error),
    )


def _case_differences(name: str, one: Table, other: Table) -> Floats:
    """First minus second for each case where both have a score; of the total, those where both have a part of it."""
    cases = np.eye(len(one.cases))
    ours_CN, theirs_CN = _both(one, cases), _both(other, cases)
    names = [weighted.metric for weighted in one.suite.metrics]
    number = names.index(name) if name in names else len(names)
    differences = (ours_CN - theirs_CN)[:, number]
    there = (
        one.counts_CM[:, _weighed(one.suite)].any(axis=1)
        if number == len(names)
        else one.counts_CM[:, number] > 0
    )
    return np.asarray(differences[there])


def _weighed(suite: Suite) -> NDArray[np.bool_]:
    """[M]: which metrics are part of the total."""
    return np.array([weighted.weight > 0 for weighted in suite.metrics])


def _interval(drawn_D: Floats) -> Interval:
    drawn = drawn_D[~np.isnan(drawn_D)]
    if not len(drawn):
        return Interval(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(float(low), float(high), float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0)


def _blocks(draws: int) -> list[int]:
    return [min(_BLOCK, draws - start) for start in range(0, draws, _BLOCK)]

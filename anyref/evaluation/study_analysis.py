"""What the votes of a study say: wins, ties and losses, strengths, agreement of raters, bias of sides, and which metrics predict people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from anyref.evaluation.preferences import (
    Array,
    Interval,
    davidson,
    interval,
    krippendorff_alpha,
    rater_weights,
    wilson,
    win_rates,
)
from anyref.evaluation.study_votes import Key, Vote


@dataclass(frozen=True)
class Standing:
    """One model in one aspect. `win_rate` counts a tie as half; its interval resamples raters, `wilson` takes votes as independent."""

    model: str
    win_rate: Interval
    wilson: Interval
    log_strength: Interval
    votes: int


@dataclass(frozen=True)
class SideBias:
    """How often the left video won among votes that were no tie, and the two-sided binomial p of that being chance."""

    left_wins: int
    decided: int
    p_value: float | None


@dataclass(frozen=True)
class AspectResult:
    """One aspect. `wins[i][j]`: how often model i was preferred to j; `ties` is symmetric; `standings` are best first."""

    aspect: str
    wins: tuple[tuple[int, ...], ...]
    ties: tuple[tuple[int, ...], ...]
    standings: tuple[Standing, ...]
    tie_weight: float
    alpha: float | None
    """Krippendorff's, of the answers as -1, 0, 1."""
    alpha_nominal: float | None
    sides: SideBias


@dataclass(frozen=True)
class Prediction:
    """How well a metric says whom people prefer. `accuracy`: share of decided votes for the video with the better score, a draw as half, so
    that chance is 0.5; `correlation`: Spearman's, of the difference in score with the mean vote. Intervals resample cases."""

    aspect: str
    metric: str
    mode: str
    accuracy: Interval
    correlation: Interval
    votes: int
    questions: int


def analyze_aspect(
    key: Key, votes: Sequence[Vote], aspect: str, draws: int, rng: np.random.Generator
) -> AspectResult:
    """Only the votes of first questions count: repeats and noise are checks."""
    mine = [vote for vote in votes if vote.aspect == aspect and vote.question.kind == "pair"]
    raters = sorted({vote.rater for vote in mine})
    wins_RMM, ties_RMM = tally(mine, key.models, raters)
    wins, ties = wins_RMM.sum(0), ties_RMM.sum(0)
    weights = rater_weights(len(raters), draws, rng)
    drawn_wins, drawn_ties = np.tensordot(weights, wins_RMM, 1), np.tensordot(weights, ties_RMM, 1)
    fit, fits = davidson(wins, ties), davidson(drawn_wins, drawn_ties, tolerance=1e-5)
    rates, drawn_rates = win_rates(wins, ties), win_rates(drawn_wins, drawn_ties)
    standings = []
    for index, model in enumerate(key.models):
        count = float((wins[index] + wins[:, index] + ties[index]).sum())
        points = float((wins[index] + ties[index] / 2).sum())
        standings.append(
            Standing(
                model,
                interval(float(rates[index]), drawn_rates[:, index]),
                wilson(points, count),
                interval(float(fit.log_strengths[index]), fits.log_strengths[:, index]),
                int(count),
            )
        )
    ratings = _ratings(mine, raters)
    return AspectResult(
        aspect,
        _integers(wins),
        _integers(ties),
        tuple(sorted(standings, key=lambda standing: -standing.log_strength.value)),
        float(fit.tie_weight),
        krippendorff_alpha(ratings),
        krippendorff_alpha(ratings, "nominal"),
        side_bias(mine),
    )


def tally(votes: Sequence[Vote], models: Sequence[str], raters: Sequence[int]) -> tuple[Array, Array]:
    """Wins and ties of each rater, [R, M, M] each."""
    wins = np.zeros((len(raters), len(models), len(models)))
    ties = np.zeros_like(wins)
    place = {model: index for index, model in enumerate(models)}
    row = {rater: index for index, rater in enumerate(raters)}
    for vote in votes:
        left, right = place[vote.question.left], place[vote.question.right]
        if vote.choice is None:
            ties[row[vote.rater], left, right] += 1
            ties[row[vote.rater], right, left] += 1
        else:
            winner = place[vote.choice]
            wins[row[vote.rater], winner, left + right - winner] += 1
    return wins, ties


def side_bias(votes: Sequence[Vote]) -> SideBias:
    """Sides are balanced by design, so a rater without bias prefers the left half the time, whoever is better."""
    stats = _scipy_stats()
    decided = [vote for vote in votes if vote.left_won is not None]
    left = sum(bool(vote.left_won) for vote in decided)
    return SideBias(
        left, len(decided), float(stats.binomtest(left, len(decided)).pvalue) if decided else None
    )


def predictions(
    votes: Sequence[Vote],
    scores: Mapping[tuple[str, str], Mapping[tuple[str, str], float]],
    draws: int,
    rng: np.random.Generator,
) -> list[Prediction]:
    """For each aspect and each (metric, mode) of `scores`, whose values are (model, case) -> score, higher is better."""
    found = []
    for aspect in sorted({vote.aspect for vote in votes}):
        mine = [vote for vote in votes if vote.aspect == aspect and vote.question.kind == "pair"]
        for (metric, mode), values in scores.items():
            prediction = _predict(aspect, metric, mode, mine, values, draws, rng)
            if prediction is not None:
                found.append(prediction)
    return found


def _predict(
    aspect: str,
    metric: str,
    mode: str,
    votes: Sequence[Vote],
    values: Mapping[tuple[str, str], float],
    draws: int,
    rng: np.random.Generator,
) -> Prediction | None:
    """None where fewer than three questions have votes and both scores."""
    units: dict[tuple[str, str, str], list[float]] = {}
    for vote in votes:
        pair = sorted((vote.question.left, vote.question.right))
        if all((model, vote.question.case) in values for model in pair):
            said = 0.0 if vote.choice is None else (1.0 if vote.choice == pair[0] else -1.0)
            units.setdefault((vote.question.case, pair[0], pair[1]), []).append(said)
    if len(units) < 3:
        return None
    gaps = np.array([values[one, case] - values[other, case] for case, one, other in units])
    means = np.array([np.mean(said) for said in units.values()])
    decided = np.array([sum(abs(x) for x in said) for said in units.values()])
    right = np.array(
        [
            sum(0.5 if gap == 0 else float(gap * x > 0) for x in said if x)
            for gap, said in zip(gaps, units.values(), strict=True)
        ]
    )
    cases = sorted({case for case, _, _ in units})
    index = np.array([cases.index(case) for case, _, _ in units])
    weights = rng.multinomial(len(cases), np.full(len(cases), 1 / len(cases)), size=draws)[:, index].astype(
        float
    )
    everyone = np.ones((1, len(gaps)))
    return Prediction(
        aspect,
        metric,
        mode,
        interval(_share(everyone, right, decided)[0], _share(weights, right, decided)),
        interval(_spearman(everyone, gaps, means)[0], _spearman(weights, gaps, means)),
        int(decided.sum()),
        len(units),
    )


def _share(weights: Array, right: Array, decided: Array) -> Array:
    """[draws]; not a number where a draw has no decided vote."""
    total = weights @ decided
    return np.where(total > 0, (weights @ right) / np.where(total > 0, total, 1), np.nan)


def _spearman(weights: Array, gaps: Array, means: Array) -> Array:
    """[draws]: weighted correlation of ranks. Which of two models comes first is arbitrary, so each question counts both ways round.

    The ranks are those of all questions in every draw, as is usual; both rankings then have mean 0 in each draw.
    """
    rankdata = _scipy_stats().rankdata
    both = (rankdata(np.concatenate([x, -x]))[: len(x)] - len(x) - 0.5 for x in (gaps, means))
    gap_ranks, mean_ranks = both
    spread = np.sqrt((weights @ gap_ranks**2) * (weights @ mean_ranks**2))
    return np.where(
        spread > 0, (weights @ (gap_ranks * mean_ranks)) / np.where(spread > 0, spread, 1), np.nan
    )


def _ratings(votes: Sequence[Vote], raters: Sequence[int]) -> Array:
    """[R, U]: -1, 0, 1 for each question, seen from the model that is first by name; nan where a rater was not asked."""
    names = sorted({name for vote in votes for name in (vote.question.left, vote.question.right)})
    units = {
        (case, *pair): index
        for index, (case, pair) in enumerate(
            (case, pair)
            for case in sorted({vote.question.case for vote in votes})
            for pair in combinations(names, 2)
        )
    }
    ratings = np.full((len(raters), len(units)), np.nan)
    row = {rater: index for index, rater in enumerate(raters)}
    for vote in votes:
        one, other = sorted((vote.question.left, vote.question.right))
        said = 0 if vote.choice is None else (1 if vote.choice == one else -1)
        ratings[row[vote.rater], units[vote.question.case, one, other]] = said
    return ratings


def _scipy_stats() -> Any:
    try:
        from scipy import stats
    except ModuleNotFoundError as error:
        raise ValueError("scipy is not installed; run: pip install 'anyref[evaluation]'") from error
    return stats


def _integers(counts: Array) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(round(float(count)) for count in row) for row in counts)

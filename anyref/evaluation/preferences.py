"""Numbers from votes: strengths with ties (Davidson 1970), intervals that know raters differ, and how far raters agree.

Votes between M models are tallied as wins[..., i, j], how often i was preferred to j, and ties[..., i, j], symmetric. Leading axes are
raters or bootstrap draws.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PRIOR = 0.5
"""Wins and losses added to every pair of models that was compared: a model that never lost would have infinite strength otherwise."""
Z_95 = 1.959964
"""Standard deviations to either side that hold 95 % of a normal distribution."""


@dataclass(frozen=True)
class Davidson:
    """Log strengths [..., M], of mean 0 (not a number for a model without votes), and the weight of ties [...].

    Between equals a vote is a tie with probability weight / (2 + weight).
    """

    log_strengths: Array
    tie_weight: Array

    def win_probability(self, model: int, other: int) -> Array:
        """Probability that `model` is preferred to `other` by a rater who may say tie."""
        ratio = np.exp((self.log_strengths[..., other] - self.log_strengths[..., model]) / 2)
        return 1 / (1 + ratio**2 + self.tie_weight * ratio)


def davidson(
    wins: Array, ties: Array, prior: float = PRIOR, tolerance: float = 1e-8, max_steps: int = 5000
) -> Davidson:
    """Fit strengths by the maximum-likelihood MM steps of Hunter (2004, section 4) for Davidson's model, batched over leading axes.

    P(i over j) = p_i / (p_i + p_j + v sqrt(p_i p_j)), P(tie) = v sqrt(p_i p_j) / (same). `prior` wins are added both ways to every
    pair that has any vote.
    """
    compared = (wins + np.swapaxes(wins, -1, -2) + ties) > 0
    wins = np.where(compared, wins + prior, 0.0)
    votes = wins + np.swapaxes(wins, -1, -2) + ties
    points = wins.sum(-1) + ties.sum(-1) / 2
    total_ties = ties.sum((-1, -2)) / 2
    strengths = np.ones(wins.shape[:-1])
    weight = np.full(wins.shape[:-2], 0.5)
    for _ in range(max_steps if wins.size else 0):
        previous = strengths
        roots = np.sqrt(strengths)
        product = roots[..., :, None] * roots[..., None, :]
        divisor = strengths[..., :, None] + strengths[..., None, :] + weight[..., None, None] * product
        share = votes / divisor
        curvature = 1 + weight[..., None, None] / 2 * roots[..., None, :] / roots[..., :, None]
        faced = (share * curvature).sum(-1)
        strengths = np.where(faced > 0, points / np.where(faced > 0, faced, 1), 1.0)
        strengths /= np.exp(np.log(strengths).mean(-1, keepdims=True))
        weight = total_ties / np.maximum((share * product).sum((-1, -2)) / 2, 1e-12)
        if np.abs(np.log(strengths / previous)).max() < tolerance:
            break
    return Davidson(np.where(compared.any(-1), np.log(strengths), np.nan), weight)


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval; no bounds where it cannot be had, with one rater."""

    value: float
    low: float | None
    high: float | None


def interval(value: float, draws: Array) -> Interval:
    """Percentile interval of bootstrap draws; without bounds where fewer than half of the draws are numbers, or there are none."""
    finite = draws[np.isfinite(draws)]
    if len(finite) == 0 or len(finite) < len(draws) / 2:
        return Interval(float(value), None, None)
    low, high = np.quantile(finite, (0.025, 0.975))
    return Interval(float(value), float(low), float(high))


def rater_weights(num_raters: int, draws: int, rng: np.random.Generator) -> Array:
    """[draws, R]: how often each rater is in each bootstrap draw. Empty with one rater, whose spread nobody knows."""
    if num_raters < 2:
        return np.zeros((0, num_raters))
    return rng.multinomial(num_raters, np.full(num_raters, 1 / num_raters), size=draws).astype(float)


def win_rates(wins: Array, ties: Array) -> Array:
    """[..., M]: the share of its votes that each model won, a tie as half; not a number where it had no vote."""
    votes = (wins + np.swapaxes(wins, -1, -2) + ties).sum(-1)
    points = wins.sum(-1) + ties.sum(-1) / 2
    return np.where(votes > 0, points / np.where(votes > 0, votes, 1), np.nan)


def wilson(points: float, votes: float) -> Interval:
    """Wilson's 95 % interval of a share; `points` may be a half, where a tie counts so. It takes votes as independent, which they are not quite."""
    if votes <= 0:
        return Interval(float("nan"), None, None)
    share, spread = points / votes, Z_95**2 / votes
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * sqrt(share * (1 - share) / votes + Z_95**2 / (4 * votes**2))
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def krippendorff_alpha(ratings_RU: Array, level: Literal["nominal", "interval"] = "interval") -> float | None:
    """Agreement of R raters on U units, nan where a rater did not see one: 1 is perfect, 0 what chance gives (Krippendorff 2011).

    None where no unit was seen by two, or all ratings are the same.
    """
    values, codes = np.unique(ratings_RU[np.isfinite(ratings_RU)], return_inverse=True)
    index = np.full(ratings_RU.shape, -1)
    index[np.isfinite(ratings_RU)] = codes
    counts_UV = (index[:, :, None] == np.arange(len(values))).sum(0).astype(float)
    counts_UV = counts_UV[counts_UV.sum(-1) >= 2]
    if len(counts_UV) == 0:
        return None
    seen_U = counts_UV.sum(-1)
    coincidences = np.einsum("ua,ub->ab", counts_UV / (seen_U - 1)[:, None], counts_UV)
    coincidences -= np.diag((counts_UV / (seen_U - 1)[:, None]).sum(0))
    totals = coincidences.sum(-1)
    distance = (values[:, None] - values[None, :]) ** 2
    if level == "nominal":
        distance = (distance > 0).astype(float)
    expected = (np.outer(totals, totals) * distance).sum() / (totals.sum() - 1)
    observed = (coincidences * distance).sum()
    return None if expected == 0 else float(1 - observed / expected)

"""Strengths, intervals and agreement against numbers worked out elsewhere."""

import numpy as np
import pytest
from scipy.optimize import minimize

from anyref.evaluation.preferences import (
    davidson,
    interval,
    krippendorff_alpha,
    rater_weights,
    wilson,
    win_rates,
)


def votes_by(strengths: list[float], tie_weight: float, per_pair: int) -> tuple[np.ndarray, np.ndarray]:
    """Expected numbers of wins and ties: the maximum of the likelihood is then exactly these strengths."""
    power = np.exp(strengths)
    size = len(strengths)
    wins, ties = np.zeros((size, size)), np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            if i != j:
                root = tie_weight * np.sqrt(power[i] * power[j])
                wins[i, j] = per_pair * power[i] / (power[i] + power[j] + root)
                ties[i, j] = per_pair * root / (power[i] + power[j] + root)
    return wins, ties


def test_davidson_finds_the_strengths_that_made_the_votes() -> None:
    truth = [0.9, 0.2, -0.3, -0.8]
    fit = davidson(*votes_by(truth, 0.7, 100), prior=0)
    assert fit.log_strengths == pytest.approx(truth, abs=1e-5)
    assert fit.tie_weight == pytest.approx(0.7, abs=1e-5)
    power = np.exp(truth)
    expected = power[0] / (power[0] + power[1] + 0.7 * np.sqrt(power[0] * power[1]))
    assert fit.win_probability(0, 1) == pytest.approx(expected, abs=1e-5)


def test_davidson_is_the_maximum_of_the_likelihood() -> None:
    rng = np.random.default_rng(3)
    wins = rng.integers(1, 20, (4, 4)).astype(float)
    half = np.triu(rng.integers(0, 9, (4, 4)), 1).astype(float)
    ties = half + half.T
    np.fill_diagonal(wins, 0)

    def loss(parameters: np.ndarray) -> float:
        power, weight = np.exp(parameters[:4]), np.exp(parameters[4])
        root = weight * np.sqrt(np.outer(power, power))
        whole = power[:, None] + power[None, :] + root
        return float(-(wins * np.log(power[:, None] / whole)).sum() - (ties * np.log(root / whole)).sum() / 2)

    best = minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-7})
    fit = davidson(wins, ties, prior=0)
    assert fit.log_strengths == pytest.approx(best.x[:4] - best.x[:4].mean(), abs=1e-4)
    assert np.log(fit.tie_weight) == pytest.approx(best.x[4], abs=1e-4)


def test_davidson_of_many_draws_at_once_is_the_same() -> None:
    one, other = votes_by([0.5, 0, -0.5], 0.3, 40), votes_by([-1, 0.4, 0.6], 1.2, 40)
    both = davidson(np.stack([one[0], other[0]]), np.stack([one[1], other[1]]))
    assert both.log_strengths[1] == pytest.approx(davidson(*other).log_strengths, abs=1e-6)


def test_a_model_that_never_lost_has_a_finite_strength_and_one_without_votes_has_none() -> None:
    wins = np.zeros((3, 3))
    wins[0, 1] = 10
    fit = davidson(wins, np.zeros((3, 3)))
    assert np.isfinite(fit.log_strengths[:2]).all()
    assert fit.log_strengths[0] > 1 > fit.log_strengths[1]
    assert np.isnan(fit.log_strengths[2])


def test_wilson() -> None:
    # Newcombe (1998), table I: 81 of 263, and 0 of 20.
    first, second = wilson(81, 263), wilson(0, 20)
    assert (first.low, first.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert (second.low, second.high) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0).low is None


def test_krippendorff() -> None:
    # Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability": four observers, twelve units.
    nan = np.nan
    ratings = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
            [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
        ]
    )
    assert krippendorff_alpha(ratings, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(ratings, "interval") == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha(np.array([[1.0, nan], [nan, 0.0]])) is None
    assert krippendorff_alpha(np.ones((2, 3))) is None
    assert krippendorff_alpha(np.full((2, 3), nan)) is None


def test_win_rates_and_intervals() -> None:
    wins = np.array([[0.0, 3, 0], [1, 0, 0], [0, 0, 0]])
    ties = np.array([[0.0, 4, 0], [4, 0, 0], [0, 0, 0]])
    rates = win_rates(wins, ties)
    assert rates[:2] == pytest.approx([5 / 8, 3 / 8])
    assert np.isnan(rates[2])
    assert interval(0.5, np.zeros(0)).low is None
    drawn = interval(0.5, np.linspace(0, 1, 1001))
    assert (drawn.low, drawn.high) == pytest.approx((0.025, 0.975))


def test_one_rater_has_no_interval() -> None:
    assert len(rater_weights(1, 100, np.random.default_rng(0))) == 0
    assert rater_weights(5, 100, np.random.default_rng(0)).sum(1) == pytest.approx(np.full(100, 5))

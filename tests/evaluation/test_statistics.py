"""Intervals cover what they say, paired comparison sees what unpaired cannot, and Holm's correction is the textbook's."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from anyref.evaluation.rows import Row
from anyref.evaluation.statistics import (
    TOTAL,
    compare,
    detectable_difference,
    holm_corrected,
    resample,
    score,
)
from anyref.evaluation.suites import Suite, Weighted

SUITE = Suite("s", (Weighted("a", "A", 0.5), Weighted("b", "B", 0.5)))


def run(values_CM: np.ndarray, categories: tuple[str, ...] = ("x",)) -> list[Row]:
    return [
        Row(
            f"c{c:03d}", categories[c % len(categories)], 0, metric, 1, "v", f"q{c}", {}, "",
            float(values_CM[c, m]), float(values_CM[c, m]), "ok",
        )
        for c in range(len(values_CM))
        for m, metric in enumerate("ab")
    ]  # fmt: skip


def test_resampling_keeps_the_size_of_each_category() -> None:
    categories = ["x"] * 7 + ["y"] * 3
    times_DC = resample(categories, 50, np.random.default_rng(0))
    assert (times_DC[:, :7].sum(axis=1) == 7).all()
    assert (times_DC[:, 7:].sum(axis=1) == 3).all()
    assert times_DC.std(axis=0).min() > 0


def test_the_interval_is_that_of_the_mean() -> None:
    rng = np.random.default_rng(1)
    values_CM = rng.normal(0.5, 0.1, (60, 2))
    scored = score(run(values_CM), SUITE, "official")
    for number, name in enumerate("ab"):
        interval = scored.intervals[name]
        expected = values_CM[:, number].std() / sqrt(60)
        assert interval.standard_error == pytest.approx(expected, rel=0.08)
        assert interval.low < values_CM[:, number].mean() < interval.high
    total = values_CM.mean(axis=1)
    assert scored.scores.total == pytest.approx(total.mean())
    assert scored.intervals[TOTAL].standard_error == pytest.approx(total.std() / sqrt(60), rel=0.08)
    assert scored.num_cases == 60
    again = score(run(values_CM), SUITE, "official")
    assert again.intervals == scored.intervals
    assert score(run(values_CM), SUITE, "official", seed=1).intervals != scored.intervals


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(80):
        scored = score(run(rng.normal(0.5, 0.15, (40, 2))), SUITE, "official", draws=200)
        hits += scored.intervals[TOTAL].low <= 0.5 <= scored.intervals[TOTAL].high
    assert 0.87 <= hits / 80 <= 0.99


def test_strata_take_out_what_differs_between_categories() -> None:
    values_CM = np.repeat(np.array([[0.1], [0.9]] * 20), 2, axis=1)
    assert score(run(values_CM, ("x", "y")), SUITE, "official").intervals[
        "a"
    ].standard_error == pytest.approx(0)
    assert score(run(values_CM), SUITE, "official").intervals["a"].standard_error > 0.05


def test_takes_of_a_case_are_drawn_together() -> None:
    # Ten equal takes a case carry no more than one: counted as ten cases, the interval would be three times too narrow.
    rng = np.random.default_rng(3)
    once = run(rng.normal(0.5, 0.1, (20, 2)))
    takes = [replace(row, take=take) for row in once for take in range(10)]
    one, ten = (score(rows, SUITE, "official").intervals["a"] for rows in (once, takes))
    assert ten.standard_error == pytest.approx(one.standard_error, rel=1e-6)


def test_a_paired_comparison_sees_a_small_difference() -> None:
    rng = np.random.default_rng(4)
    easy_CM = rng.normal(0.5, 0.2, (60, 2))
    better_CM = easy_CM + rng.normal(0.02, 0.01, (60, 2))
    found = compare(run(better_CM), run(easy_CM), SUITE, "official")
    difference = found.of("a")
    assert difference.value == pytest.approx((better_CM - easy_CM)[:, 0].mean())
    assert 0 < difference.low < difference.value < difference.high
    assert difference.p < 0.01
    assert difference.win_rate > 0.9
    assert difference.detectable < 0.01
    assert found.of(TOTAL).value == pytest.approx((better_CM - easy_CM).mean())
    back = compare(run(easy_CM), run(better_CM), SUITE, "official").of("a")
    assert (back.value, back.p) == pytest.approx((-difference.value, difference.p), abs=0.01)


def test_p_values_are_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(60):
        one, other = rng.normal(0.5, 0.1, (2, 25, 2))
        p_values.append(compare(run(one), run(other), SUITE, "official", draws=200).of(TOTAL).p)
    assert 0.35 < float(np.mean(p_values)) < 0.65
    assert np.mean(np.array(p_values) < 0.05) <= 0.12


def test_only_shared_cases_and_shared_scores_count() -> None:
    one, other = run(np.full((6, 2), 0.6)), run(np.full((8, 2), 0.5))
    other = [
        replace(row, value=None, strict=0.0, status="missed")
        if (row.case, row.metric) == ("c000", "a")
        else row
        for row in other
    ]
    found = compare(one, other, SUITE, "official")
    assert (found.num_shared, found.only_first, found.only_second) == (6, (), ("c006", "c007"))
    assert found.of("a").num_cases == 5
    assert found.of("a").value == pytest.approx(0.1)
    assert compare(one, other, SUITE, "strict").of("a").value == pytest.approx(0.6 - 0.5 * 5 / 6)


def test_runs_of_other_questions_are_not_compared() -> None:
    one = run(np.full((3, 2), 0.6))
    with pytest.raises(ValueError, match="different things under the same key"):
        compare(one, [replace(row, case_sha256="other") for row in one], SUITE, "official")
    with pytest.raises(ValueError, match="share no case"):
        compare(one, [replace(row, case=f"z{row.case}") for row in one], SUITE, "official")


def test_holm() -> None:
    # Holm (1979): the smallest of m is multiplied by m, the next by m - 1, and never below the one before.
    assert holm_corrected([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_corrected([0.9, 0.8]) == [1.0, 1.0]
    assert holm_corrected([]) == []


def test_the_smallest_detectable_difference_is_found_four_times_in_five() -> None:
    assert detectable_difference(1.0) == pytest.approx(2.8016, abs=1e-3)
    rng = np.random.default_rng(6)
    error = 0.1 / sqrt(50)
    seen = rng.normal(detectable_difference(error), error, 4000) > 1.96 * error
    assert seen.mean() == pytest.approx(0.8, abs=0.02)


def rare(num_rare: int, num_cases: int = 60, seed: int = 7) -> list[Row]:
    """Every case has "a"; "b" only the first few."""
    values_CM = np.random.default_rng(seed).normal(0.6, 0.02, (num_cases, 2))
    return [
        replace(row, value=None, strict=None, status="not_applicable")
        if row.metric == "b" and int(row.case[1:]) >= num_rare
        else row
        for row in run(values_CM)
    ]


def test_a_draw_without_a_case_of_a_rare_metric_is_no_zero() -> None:
    scored = score(rare(3), SUITE, "official")
    interval = scored.intervals[TOTAL]
    assert scored.scores.total == pytest.approx(0.6, abs=0.02)
    assert interval.high - interval.low < 0.05
    found = compare(rare(3), rare(3, seed=8), SUITE, "official").of(TOTAL)
    assert found.low is not None and found.high is not None and found.high - found.low < 0.05


def test_what_rests_on_one_case_has_no_interval() -> None:
    scored = score(rare(1), SUITE, "official")
    assert set(scored.intervals) == {"a", TOTAL}
    assert scored.scores.part("b").value is not None
    found = compare(rare(1), rare(1, seed=8), SUITE, "official").of("b")
    assert (found.low, found.high, found.detectable, found.num_cases) == (None, None, None, 1)
    assert found.p > 0.05
    assert not score(rare(1, num_cases=1), SUITE, "official").intervals


def test_a_metric_without_scores_has_no_interval() -> None:
    rows = [row for row in run(np.full((4, 2), 0.5)) if row.metric == "a"]
    scored = score(rows, SUITE, "official", draws=50)
    assert set(scored.intervals) == {"a", TOTAL}
    assert scored.scores.partial
    assert score([], SUITE, "official").num_cases == 0

"""Drawings for the pages: where dots, steps and curves come to lie."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from anyref.evaluation.drawings import (
    Curve,
    Dot,
    curves,
    dots,
    heat,
    histogram,
    nice_ticks,
    number,
    with_interval,
)


def positions(svg: str, tag: str, attribute: str) -> list[float]:
    return [float(found.attrib[attribute]) for found in ElementTree.fromstring(svg).iter(tag)]


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (0.31, 0.57), (-0.2, 0.05), (3.9, 7.1), (1e-6, 3e-6), (0.5, 0.5), (0, 0), (-1e9, 2e9)],
)
def test_ticks_are_round_and_surround_the_numbers(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low
    assert ticks[-1] >= high
    steps = {round((b - a) / (ticks[1] - ticks[0]), 6) for a, b in pairwise(ticks)}
    assert steps == {1.0}


def test_dots_lie_in_the_order_of_their_numbers_within_their_whiskers() -> None:
    svg = dots(
        [Dot("a <b>", 0.2, 0.1, 0.3), Dot("b", 0.6), Dot("none", None), Dot("c", -0.4, grey=True)], zero=0
    )
    x = positions(svg, "circle", "cx")
    assert x[2] < x[0] < x[1]
    whisker = next(
        line.attrib for line in ElementTree.fromstring(svg).iter("line") if line.get("class") == "whisker"
    )
    assert float(whisker["x1"]) < x[0] < float(whisker["x2"])
    assert (float(whisker["x1"]) + float(whisker["x2"])) / 2 == pytest.approx(x[0], abs=0.1)
    assert "a &lt;b&gt;" in svg
    assert "0.200 [0.100, 0.300]" in svg
    assert dots([Dot("none", None)]) == ""


def test_histograms_and_curves() -> None:
    svg = histogram([[0.1, 0.1, 0.9], [0.5]])
    assert len(list(ElementTree.fromstring(svg).iter("path"))) == 2
    assert histogram([[], []]) == ""
    drawn = curves([Curve("a & b", (0, 4, 8, 12), (0.1, None, 0.3, 0.2))], 17)
    path = next(ElementTree.fromstring(drawn).iter("path")).attrib["d"]
    points = [tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]
    assert len(points) == 3
    assert path.count("M") == 2, "a gap where a frame has no score"
    assert points[0][0] < points[1][0] < points[2][0]
    assert points[0][1] > points[2][1] > points[1][1], "upwards is more"
    assert curves([Curve("one", (0,), (0.5,))], 17) == ""


def test_heat_turns_with_the_direction() -> None:
    assert heat(1.0, 0, 1) == heat(0.0, 0, 1, higher_is_better=False)
    assert heat(1.0, 0, 1) != heat(0.0, 0, 1)
    assert heat(None, 0, 1) == heat(0.5, 1, 1) == ""


def test_numbers() -> None:
    assert number(None) == number(float("nan")) == "-"
    assert with_interval(0.5, None, None) == "0.500"
    assert with_interval(0.5, 0.4, 0.6, 2) == "0.50 [0.40, 0.60]"

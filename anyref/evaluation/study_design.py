"""Which two videos each rater of a study compares, in which order and on which side: a balanced incomplete design, and its checks.

A question is a case and two models. Over the whole study each question is asked equally often, give or take one; within a form each pair of
models and each case come up equally often, give or take two, and of the times a pair comes up each model is on the left half.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import ceil, lcm
from typing import Literal

import numpy as np

Kind = Literal["pair", "noise", "repeat"]
NOISE = "noise"
"""Stands for a model in a question that checks whether the rater looks: everybody prefers any video to it."""


@dataclass(frozen=True)
class Question:
    """What one rater is asked once. `left` and `right` name models; `repeats` is the question that this one asks again, sides swapped."""

    key: str
    kind: Kind
    case: str
    left: str
    right: str
    repeats: str | None = None


@dataclass(frozen=True)
class Size:
    """How large a study is: questions that count and checks per form, raters, and how many raters should see the same question."""

    questions: int = 60
    raters: int = 30
    noise_checks: int = 2
    repeats: int = 2
    raters_per_question: int = 3

    def __post_init__(self) -> None:
        """Raise ValueError for a study that cannot be."""
        if min(self.questions, self.raters, self.raters_per_question) < 1:
            raise ValueError(
                f"a study of {self.questions} questions, {self.raters} raters and {self.raters_per_question} raters per question "
                "cannot be; give at least 1 of each"
            )
        if min(self.noise_checks, self.repeats) < 0 or self.repeats > self.questions:
            raise ValueError(
                f"a form of {self.questions} questions cannot have {self.noise_checks} noise checks and {self.repeats} repeats; give 0 "
                "or more, and at most as many repeats as questions"
            )


def design(
    models: Sequence[str], cases: Sequence[str], size: Size, rng: np.random.Generator
) -> tuple[tuple[Question, ...], ...]:
    """One form per rater. Raises ValueError where there are fewer different questions than a form holds."""
    units = _units(models, cases, size, rng)
    if len(units) < size.questions:
        raise ValueError(
            f"{len(models)} models and {len(cases)} cases give {len(units)} different questions, and a form asks for {size.questions}; "
            f"give --questions {len(units)} or less, or more cases"
        )
    forms = []
    for rater in range(size.raters):
        first = rater * size.questions
        mine = [units[(first + offset) % len(units)] for offset in range(size.questions)]
        forms.append(_form(rater, mine, models, size, rng))
    return tuple(forms)


def _units(
    models: Sequence[str], cases: Sequence[str], size: Size, rng: np.random.Generator
) -> list[tuple[str, str, str]]:
    """(case, model, model), in an order of which every stretch is balanced, as many as give each the wanted number of raters.

    Case t mod K with pair (t + t // lcm(K, P)) mod P runs through all K * P questions once, and both cycle at their own period, so a
    stretch of any length holds each about equally often.
    """
    pairs = list(combinations(models, 2))
    pair_order, case_order = rng.permutation(len(pairs)), rng.permutation(len(cases))
    period = lcm(len(pairs), len(cases)) if pairs and cases else 1
    wanted = max(size.questions, ceil(size.raters * size.questions / size.raters_per_question))
    units = []
    for turn in range(min(wanted, len(pairs) * len(cases))):
        one, other = pairs[pair_order[(turn + turn // period) % len(pairs)]]
        units.append((cases[case_order[turn % len(cases)]], one, other))
    return units


def _form(
    rater: int,
    units: Sequence[tuple[str, str, str]],
    models: Sequence[str],
    size: Size,
    rng: np.random.Generator,
) -> tuple[Question, ...]:
    first_left = {pair: int(rng.integers(2)) for pair in combinations(models, 2)}
    times = dict.fromkeys(first_left, 0)
    sides = []
    for case, one, other in units:
        swapped = (first_left[one, other] + times[one, other]) % 2
        times[one, other] += 1
        sides.append((case, other, one) if swapped else (case, one, other))
    keys = iter(_keys(rater, size.questions + size.noise_checks + size.repeats, rng))
    asked = [Question(next(keys), "pair", *sides[i]) for i in rng.permutation(len(sides))]
    # A repeat comes in the second half of the form and repeats something of the first third, so that it is not noticed.
    early = max(size.repeats, ceil(len(asked) / 3))
    again = [asked[i] for i in rng.choice(early, size.repeats, replace=False)]
    for old in again:
        question = Question(next(keys), "repeat", old.case, old.right, old.left, old.key)
        asked.insert(_place(asked, old, rng), question)
    for _ in range(size.noise_checks):
        case, one, other = units[int(rng.integers(len(units)))]
        model = one if rng.integers(2) else other
        left, right = (model, NOISE) if rng.integers(2) else (NOISE, model)
        asked.insert(int(rng.integers(1, len(asked) + 1)), Question(next(keys), "noise", case, left, right))
    return tuple(asked)


def _place(asked: Sequence[Question], old: Question, rng: np.random.Generator) -> int:
    lowest = max(asked.index(old) + 1, 2 * len(asked) // 3)
    return int(rng.integers(lowest, len(asked) + 1))


def _keys(rater: int, count: int, rng: np.random.Generator) -> list[str]:
    """Names of questions that say nothing: r07-3f9a2c."""
    numbers = rng.choice(16**6, count, replace=False)
    return [f"r{rater + 1:02d}-{number:06x}" for number in numbers]

"""Balance of the forms: by counting."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from anyref.evaluation.study_design import NOISE, Question, Size, design


def forms_of(
    num_models: int, num_cases: int, size: Size, seed: int = 0
) -> tuple[tuple[tuple[Question, ...], ...], list[str], list[str]]:
    models = [f"model {i}" for i in range(num_models)]
    cases = [f"case {i}" for i in range(num_cases)]
    return design(models, cases, size, np.random.default_rng(seed)), models, cases


def asked(form: tuple[Question, ...]) -> list[Question]:
    return [question for question in form if question.kind == "pair"]


@pytest.mark.parametrize(
    ("num_models", "num_cases", "size"),
    [
        (7, 120, Size()),  # MAGREF's study
        (4, 120, Size(raters=30)),
        (2, 60, Size(raters=7, questions=40)),
        (3, 25, Size(questions=13, raters=11, raters_per_question=1, noise_checks=3, repeats=4)),
        (3, 5, Size(questions=15, raters=4, raters_per_question=4)),
    ],
)
def test_pairs_cases_and_sides_are_balanced(num_models: int, num_cases: int, size: Size) -> None:
    forms, models, _ = forms_of(num_models, num_cases, size)
    assert len(forms) == size.raters
    whole: Counter[tuple[str, frozenset[str]]] = Counter()
    for form in forms:
        questions = asked(form)
        assert len(questions) == size.questions
        assert len(form) == size.questions + size.noise_checks + size.repeats
        units = [(question.case, frozenset((question.left, question.right))) for question in questions]
        assert len(set(units)) == len(units), "the same two videos twice in a form"
        whole.update(units)
        by_case = Counter(question.case for question in questions)
        assert max(by_case.values()) - size.questions // num_cases <= 2
        pairs = Counter(frozenset((question.left, question.right)) for question in questions)
        expected = size.questions / len(list(combinations(models, 2)))
        assert all(abs(count - expected) < 3 for count in pairs.values())
        for one, other in combinations(models, 2):
            left = sum(question.left == one and question.right == other for question in questions)
            right = sum(question.left == other and question.right == one for question in questions)
            assert abs(left - right) <= 1
    assert max(whole.values()) - min(whole.values()) <= 1, "each question is asked equally often"


def test_questions_are_seen_by_as_many_raters_as_wanted() -> None:
    forms, _, _ = forms_of(4, 120, Size(raters_per_question=3))
    seen = Counter((q.case, frozenset((q.left, q.right))) for form in forms for q in asked(form))
    assert set(seen.values()) == {3}
    assert len({case for case, _ in seen}) == 120, "all cases take part"


def test_checks() -> None:
    forms, _, _ = forms_of(3, 40, Size(noise_checks=2, repeats=3))
    for form in forms:
        place = {question.key: index for index, question in enumerate(form)}
        assert len(place) == len(form), "keys are unique"
        assert sum(NOISE in {question.left, question.right} for question in form) == 2
        again = [question for question in form if question.kind == "repeat"]
        assert len(again) == 3
        for question in again:
            first = form[place[question.repeats or ""]]
            assert (first.case, first.left, first.right) == (question.case, question.right, question.left)
            assert place[question.key] - place[first.key] >= 10, "far enough apart not to be noticed"


def test_order_differs_between_raters_and_seed_decides_it() -> None:
    one, _, _ = forms_of(3, 5, Size(questions=15, raters=2, raters_per_question=2))
    assert [q.case for q in one[0]] != [q.case for q in one[1]]
    assert forms_of(3, 5, Size(questions=9), seed=1)[0] == forms_of(3, 5, Size(questions=9), seed=1)[0]
    assert forms_of(3, 5, Size(questions=9), seed=1)[0] != forms_of(3, 5, Size(questions=9), seed=2)[0]


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="give --questions 15 or less"):
        forms_of(3, 5, Size(questions=16))
    with pytest.raises(ValueError, match="at least 1"):
        Size(raters=0)
    with pytest.raises(ValueError, match="at most as many repeats"):
        Size(questions=2, repeats=3)

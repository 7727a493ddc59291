"""Read the votes of a study against its key: who was preferred to whom, by which rater, and which raters did not look."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyref.evaluation.study import KEY, VOTES, Aspect
from anyref.evaluation.study_design import NOISE, Question

CHOICES = ("left", "tie", "right")


@dataclass(frozen=True)
class Key:
    """What raters do not know."""

    study: str
    models: tuple[str, ...]
    aspects: tuple[Aspect, ...]
    forms: tuple[tuple[Question, ...], ...]
    videos: Mapping[tuple[str, str], str]
    """(model, case) -> SHA-256."""


@dataclass(frozen=True)
class Vote:
    """What one rater said about one aspect of one question. `choice` is the preferred model, None for a tie."""

    rater: int
    question: Question
    aspect: str
    choice: str | None
    seconds: float

    @property
    def left_won(self) -> bool | None:
        """None for a tie."""
        return None if self.choice is None else self.choice == self.question.left


@dataclass(frozen=True)
class RaterRecord:
    """How one rater worked. `agreement`: share of aspects of repeated questions answered as before; None where none was repeated."""

    rater: int
    answered: int
    asked: int
    noise_passed: int
    noise_seen: int
    agreement: float | None
    median_seconds: float
    unplayable: int = 0
    """Answered questions of which a video could not be played there; their votes are left out, and they are no noise check."""

    @property
    def attentive(self) -> bool:
        """Never preferred noise, nor called it equal, where noise must lose."""
        return self.noise_passed == self.noise_seen


@dataclass(frozen=True)
class Ballot:
    """All votes of a study, and the raters."""

    votes: tuple[Vote, ...]
    raters: tuple[RaterRecord, ...]


def read_key(folder: Path) -> Key:
    """Raises ValueError where there is no finished study."""
    path = folder / KEY
    if not path.is_file():
        raise ValueError(f"there is no {KEY} in {folder}; give the folder of `anyref study make`")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Key(
            raw["study"],
            tuple(raw["models"]),
            tuple(Aspect(**aspect) for aspect in raw["aspects"]),
            tuple(tuple(Question(**question) for question in form) for form in raw["forms"]),
            {(video["model"], video["case"]): video["sha256"] for video in raw["videos"]},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not the key of a finished study; run `anyref study make` to its end"
        ) from error


def read_ballot(folder: Path, key: Key) -> Ballot:
    """Read every file in the folder votes. Raises ValueError for one that is damaged, of another study, or a second one of the same rater."""
    files = sorted((folder / VOTES).glob("*.json"))
    if not files:
        raise ValueError(
            f"there are no votes in {folder / VOTES}; put the raters' files (votes-....json) there"
        )
    votes: list[Vote] = []
    raters: dict[int, Path] = {}
    records = []
    for path in files:
        raw = _read_votes(path, key)
        rater = int(raw["rater"])
        if rater in raters:
            raise ValueError(
                f"{path.name} and {raters[rater].name} are both of rater {rater}; keep one of them"
            )
        raters[rater] = path
        unseen = _unplayable(path, raw)
        mine = [vote for vote in _votes_of(path, raw, rater, key) if vote.question.key not in unseen]
        votes += mine
        records.append(_record(rater, raw["answers"], mine, key, unseen))
    return Ballot(tuple(votes), tuple(records))


def _read_votes(path: Path, key: Key) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
        study, rater, _ = raw["study"], int(raw["rater"]), list(raw["answers"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a file of votes; ask its rater to save it once more") from error
    if study != key.study:
        raise ValueError(f"{path} belongs to the study {study}, and this is {key.study}; remove the file")
    if not 1 <= rater <= len(key.forms):
        raise ValueError(
            f"{path} is of rater {rater}, and the study has {len(key.forms)} forms; correct the number"
        )
    return dict(raw)


def _unplayable(path: Path, raw: dict[str, Any]) -> frozenset[str]:
    """Keys of the questions of which the page could not play a video; none in files of pages that did not say. Raises ValueError for no list."""
    listed = raw.get("unplayable") or []
    if not isinstance(listed, list):
        raise ValueError(f"{path} has {listed!r} as unplayable; ask its rater to save it once more")
    return frozenset(str(question) for question in listed)


def _votes_of(path: Path, raw: dict[str, Any], rater: int, key: Key) -> list[Vote]:
    asked = {question.key: question for question in key.forms[rater - 1]}
    names = {aspect.name for aspect in key.aspects}
    votes: list[Vote] = []
    seen = set()
    for answer in raw["answers"]:
        question = asked.get(str(answer.get("question"))) if isinstance(answer, dict) else None
        choices = answer.get("choices") if question else None
        if (
            question is None
            or not isinstance(choices, dict)
            or any(c not in CHOICES for c in choices.values())
        ):
            raise ValueError(
                f"{path} has an answer that form {rater} does not ask for: {answer}; correct or remove it"
            )
        if question.key in seen:
            raise ValueError(f"{path} answers {question.key} twice; remove one of the answers")
        seen.add(question.key)
        winner = {"left": question.left, "tie": None, "right": question.right}
        votes += [
            Vote(rater, question, aspect, winner[choice], _seconds(answer))
            for aspect, choice in choices.items()
            if aspect in names
        ]
    return votes


def _seconds(answer: dict[str, Any]) -> float:
    """0 where the page did not say."""
    given = answer.get("seconds")
    return float(given) if isinstance(given, int | float) else 0.0


def _record(
    rater: int, answers: Sequence[dict[str, Any]], votes: Sequence[Vote], key: Key, unseen: frozenset[str]
) -> RaterRecord:
    shows_noise = {aspect.name for aspect in key.aspects if aspect.shows_noise}
    checks = [vote for vote in votes if vote.question.kind == "noise" and vote.aspect in shows_noise]
    passed = sum(vote.choice not in {NOISE, None} for vote in checks)
    first = {(vote.question.key, vote.aspect): vote.choice for vote in votes}
    again = [(vote, (vote.question.repeats or "", vote.aspect)) for vote in votes if vote.question.repeats]
    same = [vote.choice == first[place] for vote, place in again if place in first]
    seconds = sorted(_seconds(answer) for answer in answers)
    return RaterRecord(
        rater,
        len(answers),
        len(key.forms[rater - 1]),
        passed,
        len(checks),
        sum(same) / len(same) if same else None,
        seconds[len(seconds) // 2] if seconds else 0.0,
        sum(answer.get("question") in unseen for answer in answers),
    )

"""Analyse a study and write what came out: a page to read, Markdown, JSON, and every vote as CSV."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anyref.evaluation.drawings import Dot, dots, number, with_interval
from anyref.evaluation.exports import markdown_table, plain
from anyref.evaluation.metrics import METRICS, make_metric
from anyref.evaluation.preferences import Interval
from anyref.evaluation.rows import read_rows
from anyref.evaluation.study import model_folders
from anyref.evaluation.study_analysis import AspectResult, Prediction, analyze_aspect, predictions
from anyref.evaluation.study_command import StudyAnalyzeConfig
from anyref.evaluation.study_votes import Ballot, Key, RaterRecord, Vote, read_ballot, read_key
from anyref.evaluation.templates import markup, render
from anyref.files import atomic, write_json
from anyref.provenance import record

_PREDICTION_DRAWS = 500
PREDICTION_NOTE = (
    '"agrees with votes" is the share of decided votes for the video with the better score: 0.5 is chance. Intervals resample cases. The best '
    "of many metrics on few questions looks better than it is."
)
Scores = dict[tuple[str, str], dict[tuple[str, str], float]]


@dataclass(frozen=True)
class Analysis:
    """Everything that is written."""

    key: Key
    raters: tuple[RaterRecord, ...]
    excluded: tuple[int, ...]
    """Raters who are not counted."""
    aspects: tuple[AspectResult, ...]
    predictions: tuple[Prediction, ...]


def analyze(config: StudyAnalyzeConfig) -> None:
    """Read votes, and scores if runs are given; write analysis.html, .md, .json and votes.csv into the folder of the study."""
    from rich.console import Console

    key = read_key(config.study)
    scores = _scores(config.run, key)
    ballot = read_ballot(config.study, key)
    result = analysis(key, ballot, scores, config.keep_inattentive, config.draws, config.seed)
    write_json(
        config.study / "analysis.json",
        {**record(config), "study": key.study, "models": list(key.models), **plain(_json(result))},
    )
    with atomic(config.study / "analysis.md") as partial:
        partial.write_text(markdown(result), encoding="utf-8")
    with atomic(config.study / "analysis.html") as partial:
        partial.write_text(html(result), encoding="utf-8")
    _write_votes(config.study / "votes.csv", ballot.votes, result.excluded)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(preferences_text(result))
    console.print(f"{config.study / 'analysis.html'}, .md, .json; every vote: {config.study / 'votes.csv'}")


def analysis(
    key: Key, ballot: Ballot, scores: Scores, keep_inattentive: bool, draws: int, seed: int
) -> Analysis:
    """Raises ValueError where no rater can be counted."""
    excluded = () if keep_inattentive else tuple(r.rater for r in ballot.raters if not r.attentive)
    votes = [vote for vote in ballot.votes if vote.rater not in excluded]
    if not any(vote.question.kind == "pair" for vote in votes):
        raise ValueError(
            f"none of {len(ballot.raters)} raters can be counted ({len(excluded)} preferred noise); give --keep-inattentive to count them"
        )
    rng = np.random.default_rng(seed)
    aspects = tuple(analyze_aspect(key, votes, aspect.name, draws, rng) for aspect in key.aspects)
    found = predictions(votes, scores, min(draws, _PREDICTION_DRAWS), rng)
    best_first = sorted(found, key=lambda one: (one.aspect, -one.accuracy.value))
    return Analysis(key, ballot.raters, excluded, aspects, tuple(best_first))


def _scores(given: Sequence[str], key: Key) -> Scores:
    """(metric, mode) -> (model, case) -> score, turned so that higher is better; of the very videos that the raters saw."""
    scores: Scores = {}
    better = {name: make_metric(name).higher_is_better for name in METRICS} if given else {}
    for model, folder in model_folders(given).items():
        if model not in key.models:
            raise ValueError(f"the study has no model {model!r}; its models are {', '.join(key.models)}")
        rows = [row for row in read_rows(folder) if row.metric in better]
        same = [row for row in rows if row.video_sha256 == key.videos.get((model, row.case))]
        if not same:
            raise ValueError(
                f"the scores in {folder} are of other videos than those of {model!r} in the study; score the study's videos"
            )
        for row in same:
            sign = 1 if better[row.metric] else -1
            for mode, value in (("official", row.value), ("strict", row.strict)):
                if value is not None:
                    scores.setdefault((row.metric, mode), {})[model, row.case] = sign * value
    return scores


def markdown(result: Analysis) -> str:
    """Everything as text."""
    lines = [preferences_text(result)]
    if result.predictions:
        lines += ["## Which metrics predict these raters", "", PREDICTION_NOTE, ""]
        lines += [markdown_table(*prediction_table(result.predictions)), ""]
    return "\n".join(lines)


def preferences_text(result: Analysis) -> str:
    """Who is preferred."""
    lines = [f"# User study {result.key.study}", "", *(f"* {line}" for line in summary(result)), ""]
    for aspect in result.aspects:
        lines += [f"## {aspect.aspect}", "", markdown_table(*standing_table(aspect)), ""]
        lines += [
            "Row preferred / tie / column preferred:",
            "",
            markdown_table(*match_table(result.key, aspect)),
            "",
        ]
        lines += [aspect_note(aspect), ""]
    return "\n".join(lines)


def html(result: Analysis) -> str:
    """One self-contained page."""
    sections = [
        {
            "aspect": aspect,
            "chart": markup(dots([Dot(s.model, *_ends(s.log_strength)) for s in aspect.standings], zero=0.0)),
            "standings": standing_table(aspect),
            "matches": match_table(result.key, aspect),
            "note": aspect_note(aspect),
        }
        for aspect in result.aspects
    ]
    return render(
        "study_report.html",
        {
            "title": f"User study {result.key.study}",
            "summary": summary(result),
            "sections": sections,
            "predictions": prediction_table(result.predictions) if result.predictions else None,
            "prediction_note": PREDICTION_NOTE,
            "raters": rater_table(result),
        },
    )


def summary(result: Analysis) -> list[str]:
    """How much there was to go by, in sentences."""
    counted = [rater for rater in result.raters if rater.rater not in result.excluded]
    agreement = [rater.agreement for rater in counted if rater.agreement is not None]
    votes = sum(standing.votes for standing in result.aspects[0].standings) // 2
    unfinished = sum(rater.answered < rater.asked for rater in counted)
    unplayable = sum(rater.unplayable for rater in counted)
    return [
        f"{len(result.key.models)} models, {len(counted)} raters counted of {len(result.raters)}"
        + (
            f" ({len(result.excluded)} preferred noise to a video, or called it equal: left out)"
            if result.excluded
            else ""
        )
        + (f", {unfinished} did not finish" if unfinished else "")
        + (f", {unplayable} answers left out because a video could not be played" if unplayable else ""),
        f"{votes} answers per aspect; median time per question {np.median([r.median_seconds for r in counted]):.0f} s",
        f"Asked again with the sides swapped, raters gave the same answer {number(_mean(agreement), 2)} of the time"
        if agreement
        else "No question was asked twice, so how far raters agree with themselves is not known",
        "Intervals are 95 %, from resampling raters (2 or more are needed); chance is 0.5 of votes, a tie counts as half",
    ]


def standing_table(aspect: AspectResult) -> tuple[list[str], list[list[str]]]:
    """Best first."""
    header = ["model", "win rate", "Wilson", "log strength", "votes"]
    rows = [
        [s.model, _text(s.win_rate), _bounds(s.wilson), _text(s.log_strength, 2), str(s.votes)]
        for s in aspect.standings
    ]
    return header, rows


def match_table(key: Key, aspect: AspectResult) -> tuple[list[str], list[list[str]]]:
    """Row against column: preferred / tie / other preferred."""
    order = [key.models.index(standing.model) for standing in aspect.standings]
    rows = [
        [
            key.models[i],
            *(
                "" if i == j else f"{aspect.wins[i][j]} / {aspect.ties[i][j]} / {aspect.wins[j][i]}"
                for j in order
            ),
        ]
        for i in order
    ]
    return ["", *(key.models[i] for i in order)], rows


def aspect_note(aspect: AspectResult) -> str:
    """Agreement and sides in a sentence each."""
    sides = aspect.sides
    share = sides.left_wins / sides.decided if sides.decided else None
    bias = "no decided vote" if sides.p_value is None else f"two-sided binomial p = {number(sides.p_value)}"
    return (
        f"Agreement of raters (Krippendorff's alpha): {number(aspect.alpha, 2)} ordered, {number(aspect.alpha_nominal, 2)} nominal. "
        f"The left video won {number(share, 2)} of {sides.decided} decided votes ({bias}). Weight of ties: {number(aspect.tie_weight, 2)}."
    )


def prediction_table(found: Sequence[Prediction]) -> tuple[list[str], list[list[str]]]:
    """Best first within each aspect; a metric of which both modes say the same stands once."""
    header = ["aspect", "metric", "mode", "agrees with votes", "Spearman", "votes", "questions"]
    merged: dict[tuple[str, ...], list[Prediction]] = {}
    for p in found:
        same = (p.aspect, p.metric, number(p.accuracy.value), number(p.correlation.value), str(p.votes))
        merged.setdefault(same, []).append(p)
    rows = [
        [
            *same[:2],
            " and ".join(sorted(p.mode for p in modes)),
            _text(modes[0].accuracy),
            _text(modes[0].correlation, 2),
            same[-1],
            str(modes[0].questions),
        ]
        for same, modes in merged.items()
    ]
    return header, rows


def rater_table(result: Analysis) -> tuple[list[str], list[list[str]]]:
    """One line a rater."""
    header = [
        "rater",
        "answered",
        "not played",
        "noise checks passed",
        "repeats agree",
        "seconds a question",
        "counted",
    ]
    rows = [
        [
            str(r.rater),
            f"{r.answered} of {r.asked}",
            str(r.unplayable),
            f"{r.noise_passed} of {r.noise_seen}",
            number(r.agreement, 2),
            f"{r.median_seconds:.0f}",
            "no" if r.rater in result.excluded else "yes",
        ]
        for r in result.raters
    ]
    return header, rows


def _write_votes(path: Path, votes: Sequence[Vote], excluded: Sequence[int]) -> None:
    with atomic(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "rater",
                "counted",
                "question",
                "kind",
                "case",
                "aspect",
                "left",
                "right",
                "preferred",
                "seconds",
            ]
        )
        for vote in votes:
            q = vote.question
            counted = int(vote.rater not in excluded)
            writer.writerow(
                [
                    vote.rater,
                    counted,
                    q.key,
                    q.kind,
                    q.case,
                    vote.aspect,
                    q.left,
                    q.right,
                    vote.choice or "tie",
                    vote.seconds,
                ]
            )


def _json(result: Analysis) -> dict[str, Any]:
    return {
        "summary": summary(result),
        "raters": [
            {**asdict(rater), "counted": rater.rater not in result.excluded} for rater in result.raters
        ],
        "aspects": [asdict(aspect) for aspect in result.aspects],
        "predictions": [asdict(prediction) for prediction in result.predictions],
    }


def _ends(x: Interval) -> tuple[float, float | None, float | None]:
    return x.value, x.low, x.high


def _text(x: Interval, digits: int = 3) -> str:
    return with_interval(x.value, x.low, x.high, digits)


def _bounds(x: Interval) -> str:
    return f"[{number(x.low)}, {number(x.high)}]"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None

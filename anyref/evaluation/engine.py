"""Scores every video of a folder with every metric of a suite, metric by metric, so that each model is loaded once.

What is finished is in OUTPUT/rows.jsonl, one row per (video, case, metric, version, model revisions, parameters); a killed run goes on there and ends
with the same file. An error never stops a run: it is the status of its row, and is tried again the next time. Beside the rows: videos.jsonl
(what the files hold), run.json (models, versions, what is missing, times), features/ (what may be deleted).
"""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from anyref.evaluation.answering import Answerers, Asked, Wishes, loading_order
from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.features import FeatureCache
from anyref.evaluation.journal import Journal, Lying, key_digest
from anyref.evaluation.metrics import (
    FileFootage,
    Metric,
    Need,
    Result,
    VideoUnderTest,
    make_metric,
    needs_of,
)
from anyref.evaluation.progress import Steps
from anyref.evaluation.rows import REASON, Place, Row, UsedModel, digest
from anyref.evaluation.runs import BESIDE, REFUSED, forbids
from anyref.evaluation.suites import Suite, beside
from anyref.evaluation.videos import Matched, Taken, inspect_all, match_videos, notes
from anyref.files import alone, check_writable, sha256, write_json
from anyref.perception import Model, ModelCard
from anyref.perception.catalogue import NotCommercialError
from anyref.provenance import commit, versions

RUN = "run.json"
_NAMED = 8


@dataclass(frozen=True)
class Outcome:
    """What a run did; the rows are in the folder."""

    num_scored: int
    """Rows that this call wrote."""
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    unavailable: Mapping[str, str]
    """Metric -> why it could not be asked."""
    statuses: Mapping[str, Mapping[str, int]]
    """Metric -> status -> videos, of all rows that count."""


@dataclass(frozen=True)
class Question:
    """A row that waits for its scores, its case, and its file; None where the case has no video."""

    row: Row
    case: EvaluationCase
    taken: Taken | None


@dataclass
class _Run:
    """What the metrics of one call share, and what came of them."""

    journal: Journal
    answerers: Answerers
    features: Path
    steps: Steps
    videos: Sequence[Taken]
    missing: Sequence[EvaluationCase]
    hashes: Mapping[str, str]
    """Case -> SHA-256 of what it asks."""
    scored: int = 0
    wanted: dict[Place, bytes] = field(default_factory=dict)
    """Place -> key of the row that answers it now."""
    unavailable: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Of the unavailable, those that a licence forbids."""
    earlier: Mapping[str, Any] = field(default_factory=dict)
    """Metric -> what run.json says of it so far."""
    about: dict[str, dict[str, Any]] = field(default_factory=dict)


def evaluate(
    cases: Sequence[EvaluationCase],
    videos: Path,
    output: Path,
    suite: Suite,
    *,
    config: Mapping[str, Any] | None = None,
    wishes: Wishes | None = None,
    answerers: Answerers | None = None,
    make: Callable[[str], Metric] = make_metric,
) -> Outcome:
    """Score a folder of videos. `wishes` names models, else the suite's own are asked; `config` is kept in run.json.

    Raises ValueError, before a model is loaded: no case of the suite's categories, no video, two videos of one case; another run at work in `output`.
    """
    mine = _cases_of(suite, cases)
    matched = _matched(match_videos(cases, videos), mine, videos)
    check_writable(output / RUN)
    settings = {"videos": videos, **(config or {})}
    with alone(output):
        return _evaluate(
            mine, matched, output, suite, settings, wishes or Wishes(suite.backend), answerers, make
        )


def _evaluate(
    mine: Sequence[EvaluationCase],
    matched: Matched,
    output: Path,
    suite: Suite,
    settings: Mapping[str, Any],
    wishes: Wishes,
    answerers: Answerers | None,
    make: Callable[[str], Metric],
) -> Outcome:
    start = time.perf_counter()
    names = [weighted.metric for weighted in suite.metrics]
    hashes = {case.key: _case_sha256(case) for case in mine}
    console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    _announce(console, mine, [case.key for case in matched.missing], matched.extra)
    with Steps(console) as steps:
        looked = steps.step("looking at the videos", len(matched.videos))
        taken = inspect_all(matched.videos, output / "videos.jsonl", looked)
        journal = Journal(output)
        run = _Run(
            journal, answerers or Answerers(), output / "features", steps, taken, matched.missing, hashes,
            earlier=_earlier(output).get("metrics", {}),
        )  # fmt: skip
        try:
            for metric in _made(run, names, make, wishes):
                _score_metric(run, metric, wishes.asked(metric))
        finally:
            journal.close()
    statuses = journal.statuses(run.wanted.values())
    here = {(video.file.case.key, video.file.take): video.held.sha256 for video in taken}
    journal.finish(lambda lying: _is_current(run, here, lying))
    for note in notes(taken):
        console.print(f"note: {note}")
    for reason in dict.fromkeys(run.unavailable.values()):
        left_out = ", ".join(name for name, other in run.unavailable.items() if other == reason)
        console.print(f"left out: {left_out}: {reason}")
    missing = tuple(case.key for case in matched.missing)
    outcome = Outcome(run.scored, missing, matched.extra, run.unavailable, statuses)
    record = {"config": dict(settings), "suite": suite.name, **asdict(outcome)}
    record[BESIDE] = sorted({*_earlier(output).get(BESIDE, ()), *beside(suite)})
    _record(output, run, {**record, "seconds": round(time.perf_counter() - start, 2)})
    return outcome


def _score_metric(run: _Run, metric: Metric, asked: Mapping[str, Asked]) -> None:
    """All questions of one metric; those that are answered already are left as they are."""
    start, before = time.perf_counter(), run.scored
    try:
        run.answerers.keep(list(asked.values()))
        needs = needs_of(metric)
        for need in needs:
            run.answerers.check(need)
        cards = {role: run.answerers.card(one) for role, one in asked.items()}
        used = {role: UsedModel(card.name, card.known_by) for role, card in cards.items()}
        questions = _questions(run, metric, used)
        todo = [question for question in questions if not run.journal.has(question.row)]
        advance = run.steps.step(metric.name, len(todo))
        known = [(question, _without_looking(metric, question)) for question in todo]
        models: dict[str, Model] = {}
        if any(result is None for _, result in known):
            models = {role: run.answerers.model(one) for role, one in asked.items()}
    except Exception as error:  # a damaged file raises what its library likes
        run.unavailable[metric.name] = _sentence(error)
        if isinstance(error, NotCommercialError):
            run.refused.add(metric.name)
        return
    for question, result in known:
        answer = result or _look(metric, models, question, run.features)
        run.journal.append(question.row.with_result(answer))
        run.scored += 1
        advance()
    run.wanted |= {question.row.place: key_digest(question.row) for question in questions}
    run.about[metric.name] = {
        "version": metric.version,
        "higher_is_better": metric.higher_is_better,
        "parameters": dict(metric.parameters),
        "models": {role: asdict(card) for role, card in cards.items()},
        "needs": {need.role: _need_card(need) for need in needs},
        "scored": run.scored - before,
        "seconds": round(time.perf_counter() - start, 2),
    }


def _need_card(need: Need) -> dict[str, Any]:
    return asdict(ModelCard(need.name, "", "", need.licence, need.commercial))


def _questions(run: _Run, metric: Metric, used: Mapping[str, UsedModel]) -> list[Question]:
    """One for each file, and one for each case without a file."""
    parameters = digest(dict(metric.parameters))

    def ask(case: EvaluationCase, take: int, taken: Taken | None) -> Question:
        video = taken.held.sha256 if taken is not None else ""
        row = Row(
            case.key, case.category, take, metric.name, metric.version, video, run.hashes[case.key], used, parameters,
            None, None, "error",
        )  # fmt: skip
        return Question(row, case, taken)

    asked = [ask(taken.file.case, taken.file.take, taken) for taken in run.videos]
    return asked + [ask(case, 0, None) for case in run.missing]


def _without_looking(metric: Metric, question: Question) -> Result | None:
    """What can be said without decoding a frame; None where the video must be looked at."""
    try:
        applies = metric.applies(question.case)
    except Exception as error:
        return Result(None, None, "error", details={REASON: _sentence(error)})
    if not applies:
        return Result.not_applicable("the case asks for nothing of the kind")
    if question.taken is None:
        # No `strict`: whether 0 is the worst, the suite knows.
        return Result(None, None, "missed", details={REASON: "there is no video of this case"})
    if question.taken.held.problem is not None:
        # A file that shows nothing is worth as much as none: a run must not gain by breaking its bad videos.
        return Result(None, None, "missed", details={REASON: question.taken.held.problem})
    return None


def _look(metric: Metric, models: Mapping[str, Model], question: Question, features: Path) -> Result:
    """The metric's answer. Whatever it raises becomes the status: one bad video, or one bad library, must not cost a night's run."""
    assert question.taken is not None
    file, held = question.taken
    cache = FeatureCache(features, held.sha256)
    video = VideoUnderTest(question.case, file.path, held.num_frames, held.fps, FileFootage(file.path), cache)
    try:
        return metric.score(video, models)
    except Exception as error:
        reason = _sentence(error).replace(str(file.path), file.path.name)
        return Result(None, None, "error", details={REASON: reason})


def _made(run: _Run, names: Sequence[str], make: Callable[[str], Metric], wishes: Wishes) -> list[Metric]:
    """The metrics that are installed here, in the order in which they are asked."""
    made = []
    for name in names:
        try:
            made.append(make(name))
        except ImportError as error:
            run.unavailable[name] = _sentence(error)
    return loading_order(made, wishes)


def _is_current(run: _Run, here: Mapping[tuple[str, int], str], lying: Lying) -> bool:
    """Whether a row counts: of the places asked for now, those that answer; of other metrics, those of the same video and case."""
    if lying.place in run.wanted:
        return lying.key == run.wanted[lying.place]
    if lying.place.case not in run.hashes:  # of a category that this suite does not look at
        return True
    video = here.get((lying.place.case, lying.place.take), "")
    return (video, run.hashes[lying.place.case]) == (lying.video_sha256, lying.case_sha256)


def _matched(found: Matched, mine: Sequence[EvaluationCase], videos: Path) -> Matched:
    """Of all cases, those of the suite; a video of another category is nobody's mistake. Raises ValueError where none has a video."""
    keys = {case.key for case in mine}
    chosen = tuple(video for video in found.videos if video.case.key in keys)
    if not chosen:
        raise ValueError(
            f"no case of the suite has a video in {videos}; there are {', '.join(v.path.name for v in found.videos[:3])}, of other categories"
        )
    return Matched(chosen, tuple(case for case in found.missing if case.key in keys), found.extra)


def _cases_of(suite: Suite, cases: Sequence[EvaluationCase]) -> list[EvaluationCase]:
    mine = [case for case in cases if suite.takes(case.category)]
    if not mine:
        there = ", ".join(sorted({case.category for case in cases}))
        raise ValueError(
            f"the suite {suite.name} is for cases of {', '.join(suite.categories)}, and these are of {there}; choose another suite"
        )
    return mine


def _case_sha256(case: EvaluationCase) -> str:
    """Of all that a metric may look at beside the video; not of where the files lie."""
    references = [
        (r.label, r.role, r.phrase, sha256(r.path), r.mask_path and sha256(r.mask_path))
        for r in case.references
    ]
    return digest([case.key, case.prompt, case.category, references])


def _announce(
    console: Console, cases: Sequence[EvaluationCase], missing: Sequence[str], extra: Sequence[str]
) -> None:
    console.print(f"{len(cases) - len(missing)} of {len(cases)} cases have a video")
    for what, names in (("without a video", missing), ("of no case", extra)):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            console.print(f"{what}: {', '.join(names[:_NAMED])}{more}")


def _record(output: Path, run: _Run, record: Mapping[str, Any]) -> None:
    """run.json: what is not in the rows because it differs from machine to machine, and what earlier calls said of other metrics."""
    from anyref.footage import decoder_version

    metrics = {**run.earlier, **run.about}
    refused = set(run.refused)
    if run.answerers.commercial_only:  # what an earlier call scored without asking for the licence
        refused |= {name for name, about in run.earlier.items() if name not in run.about and forbids(about)}
    write_json(
        output / RUN,
        {
            **record,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "notes": notes(run.videos),
            "metrics": metrics,
            REFUSED: sorted(refused),
            "decoder": decoder_version(),
            "device": run.answerers.device,
            "versions": versions(),
            "commit": commit(),
            "machine": {"system": platform.platform(), "processor": platform.machine()},
        },
    )


def _earlier(output: Path) -> dict[str, Any]:
    """What run.json says so far; empty where there is none."""
    try:
        return dict(json.loads((output / RUN).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (
        text
        if isinstance(error, ValueError | ConnectionError) and text
        else f"{type(error).__name__}: {text}".rstrip(": ")
    )

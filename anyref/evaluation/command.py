"""The commands `anyref evaluate run`, `doctor` and `cases`: their flags, and the functions that they call."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from anyref.jobs import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from anyref.evaluation.answering import Asked
    from anyref.evaluation.metrics import Need
    from anyref.evaluation.statistics import Scored
    from anyref.evaluation.suites import Suite

SCORES = "scores.json"
_WIDE = 180


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a folder of videos, KEY.mp4 or KEY.seed-7.mp4, against the cases of a benchmark; an interrupted run goes on where it stands.

    OUTPUT gets rows.jsonl (every score), scores.json (parts and total with intervals) and run.json (models, versions, what is missing).
    """

    cases: Path
    """OpenS2V's JSON, MAGREF's lines key@@prompt@@image, Kaleido's prompt@@image, or our cases.jsonl."""
    videos: Path
    """The folder of the videos."""
    output: Path = Path("outputs/evaluation")
    """Folder of the scores."""
    suite: str = "puppets"
    """magref.single, magref.multi, kaleido, opens2v-v1.1-open (or -single, -human; v1.0), puppets (or .single, .multi), core."""
    metrics: tuple[str, ...] = ()
    """Only these metrics: of the suite, or any other beside it, which counts nothing in the total (anyref.identity_margin)."""
    models: Annotated[str | None, shown("STR", "the suite's")] = None
    """Who answers: "published" (each metric's own), "puppets" (embedded), or "recorded:DIR"."""
    use: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="TASK=NAME")] = ()
    """Another model for a task, "detector=grounding-dino-tiny", or for one role of a metric, "magref.subj_sim/encoder=dino-b16"."""
    commercial_only: bool = False
    """Ask no model whose licence forbids commercial use; metrics that need one are left out."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto takes the accelerator if there is one."""
    draws: int = 2000
    """Draws of the bootstrap."""
    seed: int = 0
    """Seed of the bootstrap."""
    renormalise: bool = False
    """Give the weight of metrics without any score to the others; otherwise they count 0, and the total is a lower bound."""
    format: Literal["auto", "opens2v", "magref", "kaleido", "jsonl"] = "auto"
    """How the cases are written."""


@dataclass(frozen=True)
class EvaluateDoctorConfig:
    """Say which metrics of a suite can run here, which models they ask, under which licence, and the line that installs what is missing."""

    suite: Annotated[str | None, shown("STR", "all")] = None
    """Only this suite."""
    models: Annotated[str | None, shown("STR", "the suite's")] = None
    """As for `anyref evaluate run`."""
    json: bool = False
    """Print one JSON object, for programs."""


@dataclass(frozen=True)
class EvaluateCasesConfig:
    """Write the cases of the puppet world, shaped like MAGREF's (60 of one person, 60 of several subjects), or bring others into our form.

    OUTPUT gets cases.jsonl, cases.txt for `anyref generate --case-file`, and the reference pictures.
    """

    output: Path = Path("outputs/cases-puppets")
    """Folder of the cases."""
    source: Annotated[Path | None, shown("PATH", "the puppet world")] = None
    """A benchmark's case file to convert instead; its pictures stay where they are."""
    num_single: int = 60
    """Cases of one person."""
    num_multi: int = 60
    """Cases of two or three references, a multiple of four."""
    clips: bool = False
    """Write the world's own clips, too: scored like anybody's videos they are the ceiling."""
    seed: int = 0
    """Seed of the world."""
    height: int = 64
    """Rows of pixels."""
    width: int = 96
    """Columns of pixels."""
    num_frames: int = 17
    """Frames of the clips."""


def run(config: EvaluateConfig) -> None:
    """Score, and print the suite's table."""
    from anyref.evaluation.answering import Answerers, read_wishes
    from anyref.evaluation.cases import read_cases
    from anyref.evaluation.engine import evaluate
    from anyref.evaluation.suites import find_suite, narrowed, renormalised
    from anyref.jobs import find_place

    suite = find_suite(config.suite)
    wishes = read_wishes(config.models or suite.backend, config.use)
    if config.draws < 1:
        raise ValueError(f"draws is {config.draws}; give at least 1")
    place = find_place(config.device)
    evaluate(
        read_cases(config.cases, config.format),
        config.videos,
        config.output,
        narrowed(suite, config.metrics),
        config=asdict(config),
        wishes=wishes,
        answerers=Answerers(place.device, config.commercial_only),
    )
    report(config.output, renormalised(suite, config.renormalise), config.draws, config.seed)


def report(output: Path, suite: "Suite", draws: int, seed: int) -> None:
    """Write scores.json from the rows, and print the table."""
    from anyref.evaluation.rows import read_rows
    from anyref.evaluation.runs import counting, extended
    from anyref.evaluation.statistics import score
    from anyref.files import write_json

    suite = extended(output, suite)
    rows = counting(output, read_rows(output, numbers_only=True))
    official = score(rows, suite, "official", seed=seed, draws=draws)
    strict = score(rows, suite, "strict", seed=seed, draws=draws)
    about = {"suite": suite.name, "note": suite.note, "draws": draws, "seed": seed}
    write_json(output / SCORES, {**about, "official": as_json(official), "strict": as_json(strict)})
    console = _console()
    console.print(_table(suite, official, strict))
    console.print(f"{output / SCORES}; every score: {output / 'rows.jsonl'}", highlight=False, markup=False)


def as_json(scored: "Scored") -> dict[str, Any]:
    """Parts and total with intervals and the smallest detectable difference, as JSON."""
    from math import sqrt

    from anyref.evaluation.statistics import TOTAL, detectable_difference

    def cell(name: str, value: float | None) -> dict[str, Any]:
        interval = scored.intervals.get(name)
        if value is None or interval is None:
            return {"value": value}
        # Against a run as sure as this one: on the same cases less would do.
        smallest = detectable_difference(sqrt(2) * interval.standard_error)
        return {"value": value, "low": interval.low, "high": interval.high, "detectable": smallest}

    parts = {
        part.metric: {
            "label": part.label,
            "weight": part.weight,
            "videos": part.num_scored,
            "statuses": dict(part.counts),
            **cell(part.metric, part.value),
        }
        for part in scored.scores.parts
    }
    total = {"partial": scored.scores.partial, **cell(TOTAL, scored.scores.total)}
    return {"cases": scored.num_cases, "total": total, "metrics": parts}


def doctor(config: EvaluateDoctorConfig) -> None:
    """Print what each metric asks, and what is missing."""
    from rich.table import Table
    from rich.text import Text

    from anyref.evaluation.suites import SUITES, find_suite

    suites = list(SUITES.values()) if config.suite is None else [find_suite(config.suite)]
    lines = [line for suite in suites for line in examine(suite, config.models)]
    unique = list({tuple(line.items()): line for line in lines}.values())
    console = _console()
    if config.json:
        console.print(json.dumps(unique, indent=2), highlight=False, markup=False)
        return
    table = Table("metric", "role", "model", "licence", "commercial", "missing", title="Who answers")
    for line in unique:
        commercial = "yes" if line["commercial"] else "no"
        cells = (
            line["metric"],
            line["role"],
            line["model"],
            line["licence"],
            commercial,
            line["missing"] or "",
        )
        table.add_row(*(Text(str(cell)) for cell in cells))
    console.print(table)
    able = {line["metric"] for line in unique} - {line["metric"] for line in unique if line["missing"]}
    console.print(
        f"{len(able)} of {len({line['metric'] for line in unique})} metrics have their packages here; weights of published models are not "
        "looked for: they are fetched on first use, and a metric that cannot have its own is left out then",
        highlight=False,
    )


def examine(suite: "Suite", backend: str | None = None) -> list[dict[str, Any]]:
    """For each metric and role of a suite: model or program, source, revision, licence, and why it cannot run here."""
    from anyref.evaluation.answering import Wishes
    from anyref.evaluation.metrics import make_metric, needs_of

    wishes = Wishes(backend or suite.backend)
    lines = []
    for weighted in suite.metrics:
        nothing: dict[str, Any] = dict.fromkeys(("role", "source", "revision", "licence"), "")
        nothing |= {"model": "none: pixels", "commercial": True}
        try:
            metric = make_metric(weighted.metric)
        except ImportError as error:
            lines.append({"metric": weighted.metric, **nothing, "missing": str(error)})
            continue
        needs = needs_of(metric)
        lines += [{"metric": metric.name, **nothing, **_declared(need)} for need in needs]
        if not metric.models and not needs:
            lines.append({"metric": metric.name, **nothing, "missing": None})
        for role, asked in wishes.asked(metric).items():
            line = {**nothing, "role": role, "model": asked.name, **_found(asked)}
            lines.append({"metric": metric.name, **line})
    return lines


def _declared(need: "Need") -> dict[str, Any]:
    return {
        "role": need.role,
        "model": need.name,
        "licence": need.licence,
        "commercial": need.commercial,
        "missing": need.missing,
    }


def _found(asked: "Asked") -> dict[str, Any]:
    """What the catalogue says of a model, and why it cannot run here. Embedded weights are looked at, published ones are not fetched."""
    from anyref.evaluation.answering import Answerers, is_local
    from anyref.perception.catalogue import entry_for, missing

    names = ("source", "revision", "licence", "commercial")
    try:
        if is_local(asked):
            card = Answerers().card(asked)
            return {**{name: getattr(card, name) for name in names}, "missing": None}
        entry = entry_for(asked.task, asked.name)
        return {**{name: getattr(entry, name) for name in names}, "missing": missing(entry)}
    except (ValueError, OSError) as error:
        return {"missing": " ".join(str(error).split())}


def cases(config: EvaluateCasesConfig) -> None:
    """Write a folder of cases."""
    from anyref.evaluation.cases import read_cases, write_cases
    from anyref.evaluation.world_cases import write_release_lines, write_world_cases
    from anyref.worlds import PuppetWorld

    if config.source is not None:
        made = read_cases(config.source)
        write_cases(config.output / "cases.jsonl", made)
        write_release_lines(config.output / "cases.txt", made)
    else:
        world = PuppetWorld("test", config.seed, config.height, config.width, config.num_frames)
        made = write_world_cases(
            world, config.output, num_single=config.num_single, num_multi=config.num_multi, clips=config.clips
        )
    _console().print(
        f"{len(made)} cases in {config.output}: cases.jsonl, and cases.txt for anyref generate --case-file",
        highlight=False,
        markup=False,
    )


def _console() -> "Console":
    """Tables that go to a file keep their lines whole."""
    from rich.console import Console

    console = Console(soft_wrap=True)
    return console if console.is_terminal else Console(soft_wrap=True, width=_WIDE)


def _table(suite: "Suite", official: "Scored", strict: "Scored") -> "Table":
    from rich.table import Table

    from anyref.evaluation.statistics import TOTAL

    table = Table("", "official", "strict", "videos", "not ok", title=suite.name, caption=suite.note)
    for ours, theirs in zip(official.scores.parts, strict.scores.parts, strict=True):
        bad = ", ".join(f"{count} {status}" for status, count in ours.counts.items() if status != "ok")
        cells = [_cell(s, part.metric, part.value) for s, part in ((official, ours), (strict, theirs))]
        table.add_row(ours.label, *cells, str(ours.num_scored), bad.replace("_", " "))
    if suite.has_total:
        name = "Total, partial" if official.scores.partial else "Total"
        table.add_section()
        table.add_row(
            name, _cell(official, TOTAL, official.scores.total), _cell(strict, TOTAL, strict.scores.total)
        )
    return table


def _cell(scored: "Scored", name: str, value: float | None) -> str:
    if value is None:
        return "-"
    interval = scored.intervals.get(name)
    if interval is None:  # of a single case
        return f"{value:.3f}"
    return f"{value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"

"""The report's page: tables, drawings and pictures put into one HTML file."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.comparing import COLUMNS, difference_rows, heading
from anyref.evaluation.drawings import Curve, Dot, curves, dots, heat, histogram, number
from anyref.evaluation.gallery import COLOURS, Strip, filmstrip, reference_picture
from anyref.evaluation.metrics import Mark
from anyref.evaluation.rows import REASON, Row
from anyref.evaluation.runs import EvaluatedRun, caveats
from anyref.evaluation.statistics import TOTAL
from anyref.evaluation.suites import Mode, Suite, Weighted, beside, tabulate
from anyref.evaluation.tables import (
    MODES,
    Cell,
    Leaderboard,
    Versus,
    answerers,
    categories,
    direction,
    problems,
    statuses,
    worst,
)
from anyref.evaluation.templates import markup, render

_STATUS_TEXT = {"not_applicable": "n/a", "error": "error"}


@dataclass(frozen=True)
class Contents:
    """All that the page is made of. `shown` are the keys of the cases in the gallery, in its order."""

    runs: Sequence[EvaluatedRun]
    suite: Suite
    boards: Sequence[Leaderboard]
    versus: Sequence[Versus]
    cases: Mapping[str, EvaluationCase]
    shown: Sequence[str]
    num_frames: int
    made: str


def page(contents: Contents, advance: Callable[[], object] = lambda: None) -> str:
    """The whole page. `advance` is called once per case of the gallery, which takes longest."""
    runs, suite = contents.runs, contents.suite
    added = beside(suite)
    cards = []
    for index, key in enumerate(contents.shown):
        cards.append(_card(contents, index, key))
        advance()
    found = {
        metric
        for card in cards
        for entry in card["entries"]
        if entry["strip"]
        for metric in entry["strip"].overlays
    }
    named = {weighted.metric: weighted.label for weighted in suite.metrics}
    return render(
        "report.html",
        {
            "title": f"{suite.name}: {', '.join(run.name for run in runs[:3])}{' ...' if len(runs) > 3 else ''}",
            "lead": suite.note,
            "caveats": caveats(runs, suite),
            "runs": [run.name for run in runs],
            "has_total": suite.has_total,
            "metrics": [
                {
                    "name": w.metric,
                    "label": w.label,
                    "better": direction(runs, w.metric),
                    "weight": f"{w.weight:.3g}" if w.weight else "",
                    "beside": w.metric in added,
                }
                for w in suite.metrics
            ],
            **_overview(contents),
            "cards": cards,
            "measured": [weighted.label for weighted in measured(contents)],
            "gallery_note": _gallery_note(contents),
            "marked": [(name, label) for name, label in named.items() if name in found],
            "scores": _scores(contents),
            "statuses": [
                [
                    run,
                    label,
                    *(str(counts.get(status, 0)) for status in ("ok", "not_applicable", "missed", "error")),
                ]
                for run, label, counts in statuses(runs, suite)
            ],
            "problems": problems(runs),
            "answerers": [
                [a.metric, a.role, a.name, a.source, a.revision, a.licence, "yes" if a.commercial else "no"]
                for a in answerers(runs, suite)
            ],
            "environments": [(run.name, _environment(run)) for run in runs],
            "made": contents.made,
            "number": number,
            "markup": markup,
        },
    )


def _overview(contents: Contents) -> dict[str, Any]:
    """What the page says before it comes to single cases."""
    runs, suite = contents.runs, contents.suite
    return {
        "boards": [_board(board, suite) for board in contents.boards],
        "versus": [_versus(one, contents) for one in contents.versus],
        "category_boards": [_category_board(contents, mode) for mode in MODES],
        "category_names": sorted({row.category for run in runs for row in run.rows}),
        "spreads": [_spread(contents, mode) for mode in MODES],
        "worst": _worst(contents),
    }


def measured(contents: Contents) -> list[Weighted]:
    """The metrics that any run was asked."""
    asked = {metric for run in contents.runs for metric in run.asked}
    return [weighted for weighted in contents.suite.metrics if weighted.metric in asked]


def anchor(index: int) -> str:
    """The id of a case's card; its key may hold signs that an address cannot."""
    return f"case-{index + 1}"


def _board(board: Leaderboard, suite: Suite) -> dict[str, Any]:
    lines = [*board.lines, *board.published]
    columns = [_column([line.total for line in lines])]
    columns += [_column([line.cells[i] for line in lines]) for i in range(len(suite.metrics))]
    official = (
        "As the published code computes it: what it leaves out is left out here, and its quirks are kept"
    )
    strict = "Ours: a missing subject or video counts 0, and every metric is 0 to 1 unless it says otherwise; there are no published rows for it"
    lacking = "gives its weight to the others" if suite.renormalised else "counts 0 in it"
    bars = [
        Dot(
            line.name + (" (partial)" if line.partial else ""),
            line.total.value,
            line.total.low,
            line.total.high,
        )
        for line in board.lines
    ]
    bars += [Dot(line.name, line.total.value, grey=True) for line in board.published]
    known = sorted((bar for bar in bars if bar.value is not None), key=lambda bar: -(bar.value or 0))
    return {
        "mode": board.mode,
        "note": f"{official if board.mode == 'official' else strict}. Bars and the numbers under a score are its 95 % interval over cases.",
        "lines": board.lines,
        "published": [
            (source, [line for line in board.published if line.source == source])
            for source in dict.fromkeys(line.source for line in board.published)
        ],
        "columns": columns,
        "chart": markup(dots(known)) if known and suite.has_total else "",
        "detectable": [
            f"{line.name}: against a rival that is as sure, this set shows a difference of {line.detectable:.3f} in the total "
            "(80 % chance, 5 % level)"
            + (f"; the total is partial: a metric without score {lacking}" if line.partial else "")
            for line in board.lines
            if line.detectable is not None
        ],
    }


def _column(cells: Sequence[Cell]) -> Callable[[float], float]:
    """Value -> per cent of the way through the column."""
    known = [x for cell in cells for x in (cell.value, cell.low, cell.high) if x is not None and isfinite(x)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    return lambda value: round(100 * (value - low) / (high - low), 1) if high > low else 50.0


def _versus(versus: Versus, contents: Contents) -> dict[str, Any]:
    if versus.comparison is None:
        return {"mode": versus.mode, "heading": heading(versus), "rows": []}
    labels = {weighted.metric: weighted.label for weighted in contents.suite.metrics} | {TOTAL: "Total"}
    bars = [
        Dot(labels[d.metric], d.value, d.low, d.high)
        for d in sorted(versus.comparison.differences, key=lambda d: d.metric != TOTAL)
        if d.metric != TOTAL or contents.suite.has_total
    ]
    return {
        "mode": versus.mode,
        "heading": heading(versus),
        "header": COLUMNS,
        "rows": difference_rows(versus, contents.suite, contents.runs),
        "chart": markup(dots(bars, zero=0.0)),
    }


def _category_board(contents: Contents, mode: Mode) -> dict[str, Any]:
    lines = categories(contents.runs, contents.suite, mode)
    better = [direction(contents.runs, weighted.metric) for weighted in contents.suite.metrics]
    ranges = []
    for column in range(len(better)):
        known = [line.values[column] for line in lines]
        numbers = [value for value in known if value is not None]
        ranges.append((min(numbers), max(numbers)) if numbers else (0.0, 0.0))
    return {
        "mode": mode,
        "lines": [
            {
                "run": line.run,
                "category": line.category,
                "num_cases": line.num_cases,
                "total": line.total,
                "partial": line.partial,
                "cells": [
                    (value, heat(value, *ends, up))
                    for value, ends, up in zip(line.values, ranges, better, strict=True)
                ],
            }
            for line in lines
        ],
    }


def _spread(contents: Contents, mode: Mode) -> dict[str, Any]:
    """Distributions of the clamped, normalised scores of cases, as they enter the means."""
    tables = [tabulate(run.rows, contents.suite, mode) for run in contents.runs]
    drawings = []
    for number_, weighted in enumerate(contents.suite.metrics):
        scale = weighted.scale(mode)
        series = []
        for table in tables:
            counts, sums = table.counts_CM[:, number_], table.sums_CM[:, number_]
            means = sums[counts > 0] / counts[counts > 0]
            series.append([float((mean - scale.offset) / scale.span) for mean in means])
        if drawing := histogram(series):
            drawings.append((weighted.label, markup(drawing)))
    return {"mode": mode, "drawings": drawings}


def _worst(contents: Contents) -> list[tuple[str, list[dict[str, Any]]]]:
    place = {key: index for index, key in enumerate(contents.shown)}
    listed = []
    for weighted in contents.suite.metrics:
        rows = [(run.name, row) for run in contents.runs for row in run.rows if row.metric == weighted.metric]
        entries = [
            {
                "case": row.case,
                "linked": row.case in place,
                "anchor": anchor(place.get(row.case, 0)),
                "value": number(row.strict),
                "run": run,
                "status": row.status,
            }
            for run, row in worst(rows, direction(contents.runs, weighted.metric))
        ]
        if entries:
            listed.append((weighted.label, entries))
    return listed


def _card(contents: Contents, index: int, key: str) -> dict[str, Any]:
    case = contents.cases.get(key)
    entries, drawn = [], []
    for series, run in enumerate(contents.runs):
        mine = run.by_case.get(key, ())
        for take in sorted({row.take for row in mine}):
            rows = {row.metric: row for row in mine if row.take == take}
            name = run.name + (f", seed {take}" if take else "")
            strip = _strip(run, key, take, rows, contents.num_frames)
            drawn.append((name, series, rows))
            entries.append(
                {
                    "name": name,
                    "series": series % 6,
                    "strip": strip if isinstance(strip, Strip) else None,
                    "problem": strip if isinstance(strip, str) else "",
                    "cells": [_score_cell(rows.get(w.metric)) for w in measured(contents)],
                }
            )
    return {
        "key": key,
        "index": index,
        "anchor": anchor(index),
        "category": next((run.by_case[key][0].category for run in contents.runs if key in run.by_case), ""),
        "prompt": case.prompt if case else "",
        "references": _references(case) if case else [],
        "entries": entries,
        "curves": _curves(contents.suite.metrics, drawn),
    }


def _references(case: EvaluationCase) -> list[dict[str, str]]:
    shown = []
    for index, reference in enumerate(case.references):
        try:
            source = reference_picture(reference.path)
        except (ValueError, OSError):
            source = ""
        colour = f"rgb{COLOURS[index % (len(COLOURS) - 1)]}"
        label = reference.phrase or reference.label or reference.role
        shown.append({"source": source, "label": label, "colour": colour})
    return shown


def _strip(run: EvaluatedRun, key: str, take: int, rows: Mapping[str, Row], count: int) -> Strip | str:
    """The frames, or a sentence that says why there are none."""
    held = run.files.get((key, take))
    if held is None:
        return "There is no video of this case."
    if held.problem is not None:
        return f"{held.file} cannot be decoded: {held.problem}"
    if run.videos is None:
        return f"Frames are not shown: where the videos lie is not known; give --videos {run.name}=FOLDER."
    marks: dict[str, Sequence[Mark]] = {metric: row.boxes for metric, row in rows.items() if row.boxes}
    try:
        return filmstrip(run.videos / held.file, held.num_frames, marks, count)
    except (ValueError, OSError) as error:
        return f"Frames are not shown: {error}"


def _score_cell(row: Row | None) -> dict[str, str]:
    if row is None:
        return {
            "status": "not_applicable",
            "text": "-",
            "title": "not measured",
            "official": "",
            "strict": "",
        }
    return {
        "status": row.status,
        "text": _STATUS_TEXT.get(row.status, row.status),
        "title": str(row.details.get(REASON, "")),
        "official": number(row.value),
        "strict": number(row.strict),
    }


def _curves(
    metrics: Sequence[Weighted], drawn: Sequence[tuple[str, int, Mapping[str, Row]]]
) -> list[tuple[str, Any]]:
    """One drawing for each metric that scores frames, with a curve for each run."""
    found = []
    for weighted in metrics:
        lines = [
            Curve(name, rows[weighted.metric].frame_indices, rows[weighted.metric].per_frame, series)
            for name, series, rows in drawn
            if weighted.metric in rows and rows[weighted.metric].per_frame
        ]
        if not lines:
            continue
        last = max(max(line.frames) for line in lines)
        if drawing := curves(lines, last + 1):
            found.append((weighted.label, markup(drawing)))
    return found


def _scores(contents: Contents) -> Any:
    """What the page's sorting needs, as JSON that cannot end its script element."""
    listed = []
    for key in contents.shown:
        scores = []
        for run in contents.runs:
            rows = {(row.take, row.metric): row for row in run.by_case.get(key, ())}
            first = min((take for take, _ in rows), default=None)
            cells = [None if first is None else rows.get((first, w.metric)) for w in contents.suite.metrics]
            scores.append([[r.value, r.strict, r.status] if r else [None, None, ""] for r in cells])
        case = contents.cases.get(key)
        text = f"{key} {case.prompt if case else ''}".lower()
        category = next((run.by_case[key][0].category for run in contents.runs if key in run.by_case), "")
        listed.append({"category": category, "text": text, "scores": scores})
    metrics = [
        {"name": w.metric, "better": direction(contents.runs, w.metric)} for w in contents.suite.metrics
    ]
    return markup(json.dumps({"metrics": metrics, "cases": listed}).replace("<", "\\u003c"))


def _gallery_note(contents: Contents) -> str:
    everything = {row.case for run in contents.runs for row in run.rows}
    if len(contents.shown) == len(everything):
        return f'All {len(everything)} cases. What a metric found is drawn over the frames when it is chosen under "found by".'
    return f"{len(contents.shown)} of {len(everything)} cases, those that are worst by some metric first; give --gallery {len(everything)} for all."


def _environment(run: EvaluatedRun) -> str:
    kept = {name: value for name, value in run.about.items() if name not in {"missing", "extra", "statuses"}}
    return json.dumps({"folder": str(run.folder), **kept}, indent=1, default=str)

"""`anyref evaluate report`: one page about scored folders, and the same numbers for other programs and papers."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

from anyref.evaluation.cases import EvaluationCase, read_cases
from anyref.evaluation.drawings import number, with_interval
from anyref.evaluation.exports import latex_table, markdown_table, plain, write_csv
from anyref.evaluation.page import Contents, page
from anyref.evaluation.report_command import ReportConfig
from anyref.evaluation.runs import EvaluatedRun, caveats, read_runs, suite_of, within
from anyref.evaluation.suites import Suite, find_suite, renormalised
from anyref.evaluation.tables import (
    MODES,
    Cell,
    Leaderboard,
    Line,
    Versus,
    answerers,
    categories,
    comparisons,
    direction,
    leaderboard,
    worst,
)
from anyref.files import atomic, check_writable, write_json
from anyref.provenance import record

PAGE = "report.html"


def report(config: ReportConfig) -> None:
    """Write the report. Raises ValueError, before anything is computed, for runs, suites and case files that cannot be read."""
    from rich.console import Console
    from rich.progress import Progress

    runs = read_runs(config.run, config.videos)
    suite = renormalised(suite_of(runs, config.suite), config.renormalise)
    runs = within(runs, suite)
    published = config.published or suite.name
    if published != "none":
        find_suite(published)
    if min(config.gallery, config.frames - 1, config.draws - 1) < 0:
        raise ValueError("--gallery is 0 or more, --frames and --draws are 1 or more; give such numbers")
    cases = _cases(config, runs)
    check_writable(config.output / PAGE)
    boards = [leaderboard(runs, suite, mode, published, config.draws, config.seed) for mode in MODES]
    versus = [v for mode in MODES for v in comparisons(runs, suite, mode, config.draws, config.seed)]
    about = record(config)
    made = f"Made {about['made']} by anyref {about['versions']['anyref']}, commit {about['commit'] or 'unknown'}."
    shown = gallery_cases(runs, suite, config.gallery)
    contents = Contents(runs, suite, boards, versus, cases, shown, config.frames, made)
    with Progress(transient=True) as progress:
        step = progress.add_task("gallery", total=len(shown))
        html = page(contents, lambda: progress.advance(step))
    with atomic(config.output / PAGE) as partial:
        partial.write_text(html, encoding="utf-8")
    write_tables(config.output, runs, suite, boards)
    write_json(config.output / "report.json", plain({**about, **as_json(runs, suite, boards, versus)}))
    Console().print(f"{config.output / PAGE} ({len(html) / 1e6:.1f} MB)", highlight=False, soft_wrap=True)


def gallery_cases(runs: Sequence[EvaluatedRun], suite: Suite, count: int) -> list[str]:
    """Keys by name; where there are more than `count`, those that some metric ranks worst, each metric's worst before any metric's next."""
    rows = [(run.name, row) for run in runs for row in run.rows]
    keys = sorted({row.case for _, row in rows})
    if len(keys) <= count:
        return keys
    ranked = [
        [
            row.case
            for _, row in worst(
                [pair for pair in rows if pair[1].metric == w.metric], direction(runs, w.metric), len(rows)
            )
        ]
        for w in suite.metrics
    ]
    order = dict.fromkeys(key for level in zip_longest(*ranked) for key in level if key is not None)
    return sorted([*order, *(key for key in keys if key not in order)][:count])


def write_tables(
    folder: Path, runs: Sequence[EvaluatedRun], suite: Suite, boards: Sequence[Leaderboard]
) -> None:
    """leaderboard.csv, .md, .tex, and scores.csv."""
    names = ["mode", "name", "published", "source", "cases", "partial", "metric", "value", "low", "high"]
    write_csv(
        folder / "leaderboard.csv",
        names,
        [
            [
                board.mode,
                line.name,
                int(line.source is not None),
                line.source,
                line.num_cases,
                int(line.partial),
                metric,
                cell.value,
                cell.low,
                cell.high,
            ]
            for board in boards
            for line in (*board.lines, *board.published)
            for metric, cell in _cells(line, suite)
        ],
    )
    texts = {
        "md": [f"# {suite.name}\n", *(f"* {sentence}" for sentence in caveats(runs, suite)), ""],
        "tex": ["% needs \\usepackage{booktabs}"],
    }
    for board in boards:
        header, rows = _text_table(board, suite)
        caption = f"{suite.name}, {board.mode} scores with 95 % intervals over cases"
        texts["md"] += [f"## {caption}\n", markdown_table(header, rows), ""]
        texts["tex"] += [latex_table(header, rows, caption)]
    for suffix, parts in texts.items():
        with atomic(folder / f"leaderboard.{suffix}") as partial:
            partial.write_text("\n".join(parts) + "\n", encoding="utf-8")
    write_csv(
        folder / "scores.csv",
        ["run", "case", "take", "category", "metric", "status", "official", "strict", "video_sha256"],
        [
            [run.name, r.case, r.take, r.category, r.metric, r.status, r.value, r.strict, r.video_sha256]
            for run in runs
            for r in run.rows
        ],
    )


def as_json(
    runs: Sequence[EvaluatedRun], suite: Suite, boards: Sequence[Leaderboard], versus: Sequence[Versus]
) -> dict[str, Any]:
    """Everything that the page says in numbers, but for single videos, which are in scores.csv."""
    return {
        "suite": suite.name,
        "caveats": caveats(runs, suite),
        "metrics": [
            {
                "metric": w.metric,
                "label": w.label,
                "weight": w.weight,
                "higher_is_better": direction(runs, w.metric),
            }
            for w in suite.metrics
        ],
        "leaderboards": [
            {
                "mode": board.mode,
                "lines": [
                    {
                        "name": line.name,
                        "source": line.source,
                        "same_protocol": line.source is None,
                        "cases": line.num_cases,
                        "partial": line.partial,
                        "detectable": line.detectable,
                        "scores": {metric: asdict(cell) for metric, cell in _cells(line, suite)},
                    }
                    for line in (*board.lines, *board.published)
                ],
            }
            for board in boards
        ],
        "comparisons": [asdict(one) for one in versus],
        "categories": {mode: [asdict(line) for line in categories(runs, suite, mode)] for mode in MODES},
        "models": [asdict(one) for one in answerers(runs, suite)],
        "runs": {run.name: dict(run.about) for run in runs},
    }


def _cells(line: Line, suite: Suite) -> list[tuple[str, Cell]]:
    named = [("total", line.total)] if suite.has_total else []
    return named + [(w.metric, cell) for w, cell in zip(suite.metrics, line.cells, strict=True)]


def _text_table(board: Leaderboard, suite: Suite) -> tuple[list[str], list[list[str]]]:
    header = ["", *(["Total"] if suite.has_total else []), *(weighted.label for weighted in suite.metrics)]
    rows = []
    for line in (*board.lines, *board.published):
        note = " (partial)" if line.partial else ""
        if line.source is not None:
            note = f" (published, not the same protocol: {line.source})"
        cells = [
            with_interval(cell.value, cell.low, cell.high) if line.source is None else number(cell.value)
            for _, cell in _cells(line, suite)
        ]
        rows.append([line.name + note, *cells])
    return header, rows


def _cases(config: ReportConfig, runs: Sequence[EvaluatedRun]) -> dict[str, EvaluationCase]:
    """Prompts and references: of --cases, else of where the runs say they were; none where that is gone."""
    if config.cases is not None:
        return {case.key: case for case in read_cases(config.cases)}
    for run in runs:
        place = run.about.get("config", run.about).get("cases")
        if isinstance(place, str) and Path(place).exists():
            try:
                return {case.key: case for case in read_cases(Path(place))}
            except (ValueError, json.JSONDecodeError):
                continue
    return {}

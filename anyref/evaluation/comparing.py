"""`anyref evaluate compare`: each run against the first, as a table in the terminal and, if wanted, in a file."""

from collections.abc import Sequence
from pathlib import Path

from anyref.evaluation.drawings import number, with_interval
from anyref.evaluation.exports import latex_table, markdown_table, write_csv
from anyref.evaluation.report_command import CompareConfig
from anyref.evaluation.runs import EvaluatedRun, caveats, counted, read_runs, suite_of, within
from anyref.evaluation.statistics import TOTAL
from anyref.evaluation.suites import Suite, renormalised
from anyref.evaluation.tables import Versus, comparisons, direction, verdict
from anyref.files import atomic, check_writable, write_json

_FORMS = (".json", ".csv", ".md", ".tex")
COLUMNS = ("metric", "difference", "p (Holm)", "verdict", "wins", "cases", "finds")


def compare(config: CompareConfig) -> None:
    """Print, and write where asked. Raises ValueError for fewer than two runs, and for runs that cannot be compared."""
    if config.output is not None:
        if config.output.suffix not in _FORMS:
            raise ValueError(f"{config.output} does not end in {', '.join(_FORMS)}; choose one of them")
        check_writable(config.output)
    runs = read_runs(config.run)
    if len(runs) < 2:
        raise ValueError(f"a comparison needs two runs, and {len(runs)} is given; give another folder")
    suite = renormalised(suite_of(runs, config.suite), config.renormalise)
    runs = within(runs, suite)
    done = []
    for other in runs[1:]:
        done += comparisons([runs[0], other], suite, config.mode, config.draws, config.seed)
    impossible = next((versus for versus in done if versus.comparison is None), None)
    if impossible is not None:
        raise ValueError(
            f"{impossible.first} and {impossible.second} cannot be compared: {impossible.problem}"
        )
    _print(runs, suite, done)
    if config.output is not None:
        _write(config.output, runs, suite, done)


def difference_rows(versus: Versus, suite: Suite, runs: Sequence[EvaluatedRun]) -> list[list[str]]:
    """The cells of `COLUMNS` for the total and each metric."""
    assert versus.comparison is not None
    labels = {weighted.metric: weighted.label for weighted in suite.metrics} | {TOTAL: "Total"}
    rows = []
    for difference in sorted(versus.comparison.differences, key=lambda d: d.metric != TOTAL):
        better = True if difference.metric == TOTAL else direction(runs, difference.metric)
        if difference.metric == TOTAL and not suite.has_total:
            continue
        rows.append(
            [
                labels[difference.metric] + ("" if better else " (lower is better)"),
                with_interval(difference.value, difference.low, difference.high),
                number(difference.p_holm),
                verdict(difference.low, difference.high, difference.p_holm, better),
                f"{100 * (difference.win_rate if better else 1 - difference.win_rate):.0f} %",
                str(difference.num_cases),
                number(difference.detectable),
            ]
        )
    return rows


def heading(versus: Versus) -> str:
    """What is compared, in a line."""
    done = versus.comparison
    if done is None:
        return f"{versus.first} and {versus.second}: {versus.problem}"
    left_out = len(done.only_first) + len(done.only_second)
    return (
        f"{versus.first} minus {versus.second}, {versus.mode}, on {counted(done.num_shared, 'shared case')}"
        + (f" ({left_out} that only one of them has are left out)" if left_out else "")
    )


def _print(runs: Sequence[EvaluatedRun], suite: Suite, done: Sequence[Versus]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for sentence in caveats(runs, suite):
        console.print(f"note: {sentence}", highlight=False, markup=False)
    for versus in done:
        table = Table(title=heading(versus), title_justify="left", box=SIMPLE_HEAD)
        for name in COLUMNS[:-1]:
            table.add_column(name, no_wrap=name != "metric", justify="left" if name == "metric" else "right")
        for row in difference_rows(versus, suite, runs):
            table.add_row(*row[:-1])
        console.print(table)
    console.print("wins: share of cases that the first scores better, ties half", highlight=False)


def _write(path: Path, runs: Sequence[EvaluatedRun], suite: Suite, done: Sequence[Versus]) -> None:
    from dataclasses import asdict

    if path.suffix == ".json":
        write_json(path, {"suite": suite.name, "comparisons": [asdict(versus) for versus in done]})
        return
    if path.suffix == ".csv":
        rows: list[list[str | int | float | None]] = [
            [
                v.first,
                v.second,
                v.mode,
                d.metric,
                d.value,
                d.low,
                d.high,
                d.p,
                d.p_holm,
                d.win_rate,
                d.num_cases,
                d.detectable,
            ]
            for v in done
            if v.comparison is not None
            for d in v.comparison.differences
        ]
        names = "first second mode metric difference low high p p_holm win_rate cases detectable".split()
        write_csv(path, names, rows)
        return
    parts = []
    for versus in done:
        table = difference_rows(versus, suite, runs)
        if path.suffix == ".md":
            parts.append(f"{heading(versus)}\n\n{markdown_table(COLUMNS, table)}\n")
        else:
            parts.append(latex_table(COLUMNS, table, heading(versus)))
    with atomic(path) as partial:
        partial.write_text("\n".join(parts), encoding="utf-8")

"""Tables for other programs and papers: CSV, Markdown, LaTeX, and numbers that JSON can hold."""

import csv
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from anyref.files import atomic

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in GitHub's Markdown; the first column is text, the others stand to the right."""
    lines = [_line(header), _line(["---", *("---:" for _ in header[1:])])]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def latex_table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table for booktabs."""
    body = " \\\\\n".join(" & ".join(latex(cell) for cell in row) for row in rows)
    head = " & ".join(latex(cell) for cell in header)
    return (
        "\\begin{table}\n\\centering\n"
        f"\\caption{{{latex(caption)}}}\n\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n\\toprule\n{head} \\\\\n\\midrule\n"
        f"{body} \\\\\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def latex(text: str) -> str:
    """Escape what LaTeX would read as a command."""
    return "".join(_LATEX.get(sign, sign) for sign in text)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str | int | float | None]]) -> None:
    """Write atomically; None becomes an empty field."""
    with atomic(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def plain(value: Any) -> Any:
    """What is not a number becomes null, which JSON can hold."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

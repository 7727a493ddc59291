"""The papers' and leaderboards' own rows, to be shown in grey beside ours: never the same protocol, and each with its source."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table; all numbers 0 to 1, whatever unit the publication prints."""

    table: str
    name: str
    scores: Mapping[str, float]
    """By metric."""
    total: float | None
    source: str
    version: str
    same_protocol: bool
    """Always False so far: other cases, other frames, or models that judge differently."""
    ablation: bool
    """Whether it is a variant within a paper, not a system of its own."""


@cache
def published_rows(suite: str | None = None) -> tuple[PublishedRow, ...]:
    """The rows of a suite's tables, or all of them."""
    text = files("anyref.evaluation").joinpath("reference_tables.json").read_text(encoding="utf-8")
    rows = []
    for table, record in json.loads(text).items():
        if suite is not None and record["suite"] != suite:
            continue
        unit = 100 if record["percent"] else 1
        for name, numbers in record["rows"].items():
            cells = {column: number / unit for column, number in zip(record["columns"], numbers, strict=True)}
            rows.append(
                PublishedRow(
                    table,
                    name,
                    {metric: cells[column] for column, metric in record["metrics"].items()},
                    cells.get(record["total"]) if record["total"] else None,
                    record["source"],
                    record["version"],
                    record["same_protocol"],
                    record["ablation"],
                )
            )
    return tuple(rows)

"""What an evaluation writes down: one row per video and metric, as JSON lines that a killed run can be continued from.

A row is the same, byte for byte, whenever the same video is scored by the same metric and models: no times, no paths, no machine.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anyref.evaluation.metrics import JSON, Mark, Result, Status
from anyref.files import atomic
from anyref.perception import Box

REASON = "reason"
"""The detail that says in a sentence why there is no score."""


class Place(NamedTuple):
    """Which cell of the table a row fills."""

    case: str
    take: int
    metric: str


@dataclass(frozen=True)
class UsedModel:
    """Which model answered in a role."""

    name: str
    revision: str


@dataclass(frozen=True)
class Row:
    """The score of one video by one metric; `value`, `strict` and `status` as in `Result`."""

    case: str
    category: str
    take: int
    """0, or the seed in the name of the file, KEY.seed-7.mp4: takes of one case are one draw of the bootstrap."""
    metric: str
    version: int
    video_sha256: str
    """Empty where there is no video."""
    case_sha256: str
    """Of prompt, category and references, so that another question to the same video is another row."""
    models: Mapping[str, UsedModel]
    parameters_sha256: str
    value: float | None
    strict: float | None
    status: Status
    per_frame: tuple[float | None, ...] = ()
    frame_indices: tuple[int, ...] = ()
    details: Mapping[str, JSON] = field(default_factory=dict)
    boxes: tuple[Mark, ...] = ()

    @property
    def place(self) -> Place:
        """Its cell."""
        return Place(self.case, self.take, self.metric)

    @property
    def key(self) -> str:
        """Equal for two rows if and only if they answer the same question about the same bytes with the same means."""
        models = [[role, model.name, model.revision] for role, model in sorted(self.models.items())]
        parts = (
            self.place,
            self.version,
            self.video_sha256,
            self.case_sha256,
            models,
            self.parameters_sha256,
        )
        return json.dumps(parts)

    def with_result(self, result: Result) -> "Row":
        """The same question, answered."""
        answers = {
            name: getattr(result, name)
            for name in ("value", "strict", "status", "per_frame", "frame_indices", "details", "boxes")
        }
        return Row(**{name: getattr(self, name) for name in _QUESTION}, **answers)


_QUESTION = (
    "case", "category", "take", "metric", "version", "video_sha256", "case_sha256", "models", "parameters_sha256",
)  # fmt: skip


def to_line(row: Row) -> str:
    """One line of JSON. Scores keep nine digits, more than a float32 has."""
    return json.dumps(_rounded(asdict(row)), ensure_ascii=True)


def from_line(line: str) -> Row:
    """The row of a line. Raises ValueError or KeyError for what is not one, such as a line that a kill cut short."""
    values = json.loads(line)
    models = {role: UsedModel(**model) for role, model in values.pop("models").items()}
    boxes = tuple(Mark(**{**mark, "box": Box(*mark["box"])}) for mark in values.pop("boxes"))
    for name in ("per_frame", "frame_indices"):
        values[name] = tuple(values[name])
    return Row(models=models, boxes=boxes, **values)


def read_rows(path: Path, numbers_only: bool = False) -> list[Row]:
    """The rows of a finished file or of the `OUTPUT` folder of a run; `numbers_only` leaves out curves, details and boxes, which are most of it.

    Raises ValueError for a damaged line, with its number.
    """
    file = path / "rows.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"there are no scores in {path}; run `anyref evaluate run --output {path}` first")
    rows = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = from_line(line)
                rows.append(
                    replace(row, per_frame=(), frame_indices=(), details={}, boxes=())
                    if numbers_only
                    else row
                )
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"line {number} of {file} is not a row of scores; run `anyref evaluate run` once more to mend it"
                ) from error
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Sorted by case, take and metric, atomically."""
    with atomic(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in sorted(rows, key=lambda row: (*row.place, row.key)):
            file.write(to_line(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def digest(value: Any) -> str:
    """SHA-256 of something JSON can hold, the same for equal values."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _rounded(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):  # what metrics may leave in their details
        value = value.tolist()
    if isinstance(value, float):
        return float(f"{value:.9g}") if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value

"""Read scored folders for the report, and say what a reader must know before comparing them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from anyref.evaluation.rows import Row, read_rows
from anyref.evaluation.suites import Suite, counted_score, find_suite, with_beside

REFUSED = "refused"
"""In run.json: metrics that the last call left out, or would have, because a licence forbids commercial use. Their rows are not shown."""
BESIDE = "beside"
"""In run.json: metrics of no suite that were asked for by name, and stand in its table at weight 0."""
LONG_S = 5.0
"""VBench scores videos from here on with other code (VBench-Long), which its own FAQ asks for."""


@dataclass(frozen=True)
class EvaluatedVideo:
    """A file as the run found it."""

    file: str
    sha256: str
    num_frames: int
    fps: float
    height: int
    width: int
    num_bytes: int
    codec: str
    problem: str | None

    @property
    def bits_per_pixel(self) -> float | None:
        """Of the compressed file; None for one that cannot be decoded."""
        pixels = self.num_frames * self.height * self.width
        return 8 * self.num_bytes / pixels if pixels else None


@dataclass(frozen=True)
class EvaluatedRun:
    """A scored folder of videos."""

    name: str
    folder: Path
    rows: tuple[Row, ...]
    about: Mapping[str, Any]
    """run.json."""
    files: Mapping[tuple[str, int], EvaluatedVideo]
    """(case, take) -> file."""
    videos: Path | None
    """Where the files lie; None where nobody knows."""

    @cached_property
    def by_case(self) -> Mapping[str, Sequence[Row]]:
        """The rows of each case."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.case, []).append(row)
        return found

    @cached_property
    def asked(self) -> frozenset[str]:
        """The metrics of its rows."""
        return frozenset(row.metric for row in self.rows)

    def metric(self, name: str) -> Mapping[str, Any]:
        """What run.json says of a metric; empty where it was not asked."""
        found: Mapping[str, Any] = self.about.get("metrics", {}).get(name, {})
        return found


def read_runs(given: Sequence[str], videos: Sequence[str] = ()) -> list[EvaluatedRun]:
    """Each is FOLDER or NAME=FOLDER. Raises ValueError for none, no scores, a name given twice, or videos of a run that is not there."""
    named = [_named(text) for text in given]
    names = [name for name, _ in named]
    if not named:
        raise ValueError("no run is given; give the output folder of `anyref evaluate run`")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"two runs are named {twice!r}; write NAME=FOLDER to tell them apart")
    places = dict(_named(text) for text in videos)
    unknown = sorted(set(places) - set(names))
    if unknown:
        raise ValueError(
            f"--videos names {unknown[0]!r}, and the runs are {', '.join(names)}; use a run's name"
        )
    return [_read(name, folder, places.get(name)) for name, folder in named]


def suite_of(runs: Sequence[EvaluatedRun], name: str | None) -> Suite:
    """The suite asked for, else the one that the first run was scored with; and what was asked beside it."""
    chosen = name or str(runs[0].about.get("suite") or "")
    if not chosen:
        raise ValueError(f"{runs[0].folder} does not say which suite it was scored with; give --suite")
    return with_beside(find_suite(chosen), [name for run in runs for name in run.about.get(BESIDE, ())])


def within(runs: Sequence[EvaluatedRun], suite: Suite) -> list[EvaluatedRun]:
    """The runs with the rows only that the suite takes, and for a case without a video the strict score that it counts as in the suite's means.

    Raises ValueError for a run without any.
    """
    known = {weighted.metric: weighted for weighted in suite.metrics}
    chosen = [
        replace(
            run,
            rows=tuple(
                replace(row, strict=counted_score(row, known[row.metric], "strict"))
                for row in run.rows
                if row.metric in known and suite.takes(row.category)
            ),
        )
        for run in runs
    ]
    empty = next((run for run in chosen if not run.rows), None)
    if empty is not None:
        raise ValueError(
            f"{empty.folder} has no scores of the suite {suite.name}; score it with this suite, or give another --suite"
        )
    return chosen


def caveats(runs: Sequence[EvaluatedRun], suite: Suite) -> list[str]:
    """What a reader must know, in sentences: files that differ, metrics that differ, models that forbid commercial use, what is missing."""
    found = [*_missing(runs), *_different_files(runs), *_different_metrics(runs, suite)]
    lengths = [v.num_frames / v.fps for run in runs for v in run.files.values() if v.fps]
    if lengths and max(lengths) >= LONG_S and any(w.metric.startswith("vbench.") for w in suite.metrics):
        found.append(
            f"Some videos last {max(lengths):.1f} s; from {LONG_S:g} s on VBench asks for VBench-Long, and these are plain VBench scores"
        )
    forbidden = sorted(
        {
            str(card.get("name"))
            for run in runs
            for weighted in suite.metrics
            if weighted.metric not in run.about.get(REFUSED, ())
            for card in cards_of(run.metric(weighted.metric)).values()
            if not card.get("commercial", True)
        }
    )
    if forbidden:
        found.append(f"The licences of {', '.join(forbidden)} forbid commercial use")
    return found


def cards_of(about: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Role -> card of the models and the programs that a metric asked, by what run.json says of it."""
    return {**about.get("models", {}), **about.get("needs", {})}


def forbids(about: Mapping[str, Any]) -> bool:
    """Whether a licence of what a metric asked forbids commercial use."""
    return any(not card.get("commercial", True) for card in cards_of(about).values())


def counting(folder: Path, rows: Sequence[Row]) -> list[Row]:
    """The rows of a folder without those of refused metrics."""
    refused = _about(folder).get(REFUSED, ())
    return [row for row in rows if row.metric not in refused]


def extended(folder: Path, suite: Suite) -> Suite:
    """The suite and what was asked beside it in this folder."""
    return with_beside(suite, _about(folder).get(BESIDE, ()))


def _about(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _missing(runs: Sequence[EvaluatedRun]) -> list[str]:
    found = []
    for run in runs:
        missing, extra = list(run.about.get("missing", ())), list(run.about.get("extra", ()))
        if missing:
            found.append(
                f"{run.name} has no video of {counted(len(missing), 'case')} ({_some(missing)}), which count 0 in strict scores"
            )
        if extra:
            found.append(f"{run.name} has {counted(len(extra), 'file')} of no case ({_some(extra)})")
        broken = [v.file for v in run.files.values() if v.problem]
        if broken:
            found.append(
                f"{run.name} has {counted(len(broken), 'video')} that cannot be decoded ({_some(broken)})"
            )
        reasons: dict[str, list[str]] = {}
        for metric, reason in dict(run.about.get("unavailable", {})).items():
            reasons.setdefault(str(reason), []).append(metric)
        for reason, metrics in reasons.items():
            found.append(f"{run.name} was not measured by {', '.join(metrics)}: {reason}")
    return found


def _different_files(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Size, length, frame rate and compression move most metrics, whoever made the videos."""
    if len(runs) < 2:
        return []
    found = []
    kinds: dict[str, Callable[[EvaluatedVideo], str]] = {
        "sizes": lambda v: f"{v.width}x{v.height}",
        "numbers of frames": lambda v: f"{v.num_frames}",
        "frame rates": lambda v: f"{v.fps:g}",
        "codecs": lambda v: v.codec,
    }
    for what, read in kinds.items():
        seen = {run.name: sorted({read(v) for v in run.files.values() if not v.problem}) for run in runs}
        if len({tuple(values) for values in seen.values() if values}) > 1:
            listed = "; ".join(f"{name} {_some(values)}" for name, values in seen.items() if values)
            found.append(f"The runs have different {what}, which most metrics depend on: {listed}")
    rates = {
        run.name: float(np.median(known))
        for run in runs
        if (known := [v.bits_per_pixel for v in run.files.values() if v.bits_per_pixel])
    }
    if len(rates) > 1 and max(rates.values()) > 1.5 * min(rates.values()):
        listed = "; ".join(f"{name} {rate:.2f}" for name, rate in rates.items())
        found.append(
            f"The files are compressed differently hard (bits per pixel: {listed}), which quality metrics see"
        )
    return found


def _different_metrics(runs: Sequence[EvaluatedRun], suite: Suite) -> list[str]:
    found = []
    for weighted in suite.metrics:
        definitions = {
            json.dumps(
                [
                    about.get("version"),
                    about.get("parameters"),
                    {role: _known_by(card) for role, card in about.get("models", {}).items()},
                ],
                sort_keys=True,
            )
            for run in runs
            if (about := run.metric(weighted.metric))
        }
        if len(definitions) > 1:
            found.append(
                f"{weighted.label} ({weighted.metric}) was measured with different versions, parameters or models; its numbers cannot be compared"
            )
    return found


def _known_by(card: Mapping[str, Any]) -> list[str]:
    """Which model, of a card in run.json: its name without the place, which the card of an opened model leaves out, and what tells it from others."""
    name = str(card.get("name", "")).partition("@")[0]
    return [name, str(card.get("revision") or card.get("source") or "")]


def _read(name: str, folder: Path, videos: Path | None) -> EvaluatedRun:
    rows, about = tuple(counting(folder, read_rows(folder))), _about(folder)
    asked = about.get("config", about)
    known = videos or (Path(asked["videos"]) if isinstance(asked.get("videos"), str) else None)
    return EvaluatedRun(name, folder, rows, about, _files(folder / "videos.jsonl"), known)


def _files(path: Path) -> dict[tuple[str, int], EvaluatedVideo]:
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            record = json.loads(line)
            video = EvaluatedVideo(**{field: record[field] for field in EvaluatedVideo.__dataclass_fields__})
            found[str(record["case"]), int(record["take"])] = video
        except (ValueError, KeyError, TypeError):
            continue  # a line that a kill cut short
    return found


def _named(text: str) -> tuple[str, Path]:
    """NAME=FOLDER, or a folder, whose own name it gets then."""
    if Path(text).is_dir() or "=" not in text:
        return Path(text).resolve().name, Path(text)
    name, _, folder = text.partition("=")
    if not name.strip() or not Path(folder).is_dir():
        raise ValueError(f"{text!r} is neither a folder nor NAME=FOLDER; check the path")
    return name.strip(), Path(folder)


def counted(number: int, noun: str) -> str:
    """1 case, 2 cases."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _some(names: Sequence[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")

"""What `anyref evaluate report` and `anyref evaluate compare` are asked for: their flags."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from anyref.jobs import shown


@dataclass(frozen=True)
class ReportConfig:
    """Write one page, without a network, about one or several scored folders of videos, and the same numbers as CSV, JSON, Markdown and LaTeX.

    OUTPUT gets report.html, report.json, leaderboard.csv, .md and .tex, and scores.csv (every video and metric).
    """

    run: tyro.conf.Positional[tuple[str, ...]]
    """Outputs of `anyref evaluate run`, FOLDER or NAME=FOLDER; one row of the leaderboard each."""
    output: Path = Path("outputs/report")
    """Folder of the report."""
    suite: Annotated[str | None, shown("STR", "the first run's")] = None
    """Which suite's table to make of the scores."""
    published: Annotated[str | None, shown("STR", "the suite")] = None
    """The suite whose published rows stand in grey beside ours; "none" for none."""
    cases: Annotated[Path | None, shown("PATH", "as scored")] = None
    """The case file, for prompts and references."""
    videos: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=FOLDER, where the videos of a run lie now, if they have moved."""
    gallery: int = 200
    """At most so many cases with pictures, the worst ones first; 0 for none."""
    frames: int = 6
    """Frames in a filmstrip."""
    renormalise: bool = False
    """Give the weight of metrics without any score to the others; otherwise they count 0, and the total is a lower bound."""
    draws: int = 2000
    """Draws of the bootstrap."""
    seed: int = 0
    """Seed of the bootstrap."""


@dataclass(frozen=True)
class CompareConfig:
    """Compare scored folders on the cases they share: differences with intervals, corrected for the number of metrics, and win rates."""

    run: tyro.conf.Positional[tuple[str, ...]]
    """Two or more outputs of `anyref evaluate run`, FOLDER or NAME=FOLDER; each is compared with the first."""
    suite: Annotated[str | None, shown("STR", "the first run's")] = None
    """Which suite's metrics to compare."""
    mode: Literal["official", "strict"] = "strict"
    """Numbers as the published code has them, or ours, where a missing subject counts 0."""
    output: Annotated[Path | None, shown("PATH", "nothing is written")] = None
    """A .json, .csv, .md or .tex file for the table."""
    renormalise: bool = False
    """Give the weight of metrics without any score to the others; otherwise they count 0, and the total is a lower bound."""
    draws: int = 2000
    """Draws of the bootstrap."""
    seed: int = 0
    """Seed of the bootstrap."""

"""What `anyref study make` and `anyref study analyze` are asked for: their flags."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class StudyMakeConfig:
    """Write a blind user study: a folder with a page that shows two videos of a case at a time, works without a network, and saves votes.

    OUTPUT/form is what raters get (a folder to send or to put on any web server), OUTPUT/key.json says which video is whose and stays
    with you; put the files that raters send back into OUTPUT/votes and run `anyref study analyze OUTPUT`.
    """

    model: Annotated[tuple[str, ...], tyro.conf.UseAppendAction]
    """NAME=FOLDER, a model and the folder of its videos, one CASE.mp4 per case; give two or more."""
    cases: Path
    """The case file that the videos were made from."""
    output: Path = Path("outputs/study")
    """Folder of the study."""
    aspects: Literal["magref", "kaleido"] = "magref"
    """What is asked about each pair: MAGREF's three aspects or Kaleido's four."""
    questions: int = 60
    """Questions per form that count; checks come on top."""
    raters: int = 30
    """How many forms."""
    raters_per_question: int = 3
    """How many raters see the same two videos; 1 covers most cases, 3 tells how far raters agree."""
    noise_checks: int = 2
    """Questions per form with noise in place of one video: who prefers it was not looking."""
    repeats: int = 2
    """Questions per form that come back later with the sides swapped: how far raters agree with their own answers."""
    skip_missing: bool = False
    """Leave out cases of which a model has no video."""
    seed: int = 0
    """Same seed, same questions in the same order; the names of the files are drawn anew."""


@dataclass(frozen=True)
class StudyAnalyzeConfig:
    """Read the votes of a study and say who is preferred, how sure that is, how far raters agree, and which metrics predict them.

    Writes analysis.html, analysis.md, analysis.json and votes.csv into the folder of the study.
    """

    study: tyro.conf.Positional[Path]
    """Folder of `anyref study make`, with the raters' files in its folder votes."""
    run: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=FOLDER, the output of `anyref evaluate` for the model NAME of the study: compares metrics with people."""
    keep_inattentive: bool = False
    """Count raters who preferred noise, too."""
    draws: int = 2000
    """Bootstrap draws of the intervals."""
    seed: int = 0
    """Seed of the bootstrap."""

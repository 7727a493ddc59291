"""What `anyref puppets films`, `anyref curate export` and `anyref curate score` are asked for, and what they do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from anyref.files import check_writable


@dataclass(frozen=True)
class PuppetsFilmsConfig:
    """Draw raw films of the world for curation: shots, cuts, fades, recurring characters, every flaw, and the truth beside each.

    Interrupted, it goes on.
    """

    output: Path = Path("outputs/films")
    """Folder of films (film-00000.mp4), truth (.json) and masks (.npz)."""
    count: int = 200
    """How many films; every dozen holds each flaw."""
    split: Literal["train", "validation", "test"] = "train"
    """Which identities, colours and photographs are drawn from."""
    seed: int = 0
    """Seed of the world."""
    height: int = 128
    """Rows of pixels; letterboxed films have a quarter more."""
    width: int = 192
    """Columns of pixels."""
    fps: float = 16.0
    """Frames per second."""
    workers: int = 1
    """Processes that draw."""


@dataclass(frozen=True)
class CurateExportConfig:
    """Write a curated set as WebDataset tars with an index of offsets; goes on where it was interrupted."""

    folder: tyro.conf.Positional[str]
    """What `anyref curate` wrote."""
    output: tyro.conf.Positional[str]
    """Folder, or address, of the tars."""
    splits: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation")
    """Which splits."""
    shard_mb: int = 256
    """Size, in 10^6 bytes, at which a tar is closed; that much memory is needed."""


@dataclass(frozen=True)
class CurateScoreConfig:
    """Score a curation of puppet films against their truth: cuts, flaws, subjects, masks, identities, cross-pairs, with intervals."""

    folder: tyro.conf.Positional[str]
    """What `anyref curate` wrote."""
    films: tyro.conf.Positional[Path]
    """The films that `anyref puppets films` drew."""
    output: Path = Path("outputs/curation_score.json")
    """The report; its table stands beside it (.md)."""


def puppets_films(config: PuppetsFilmsConfig) -> None:
    """Draw films."""
    from rich.progress import track

    from anyref.worlds.films import FilmPlan, write_films

    plan = FilmPlan(config.split, config.seed, config.height, config.width, config.fps)
    check_writable(config.output / "film-00000.mp4")
    written = write_films(plan, config.count, config.output, config.workers)
    for _ in track(written, "drawing films", total=config.count):
        pass
    print(f"films: {config.output}")


def curate_export(config: CurateExportConfig) -> None:
    """Write tars."""
    from rich.progress import Progress

    from anyref.curation.dataset import CuratedSet
    from anyref.curation.store import Store
    from anyref.curation.webdataset import export

    sets = [CuratedSet(config.folder, split) for split in config.splits]
    for one in sets:
        with Progress() as progress:
            task = progress.add_task(f"exporting {one.split}", total=len(one))

            def show(done: int, total: int, bar: Progress = progress, at: object = task) -> None:
                bar.update(at, completed=done, total=total)  # type: ignore[arg-type]

            made = export(one, Store(config.output), config.shard_mb * 1_000_000, show)
        print(f"{one.split}: {made.samples} samples in {len(made.shards)} tars, index {made.index}")


def curate_score(config: CurateScoreConfig) -> None:
    """Score against the truth."""
    from rich.console import Console

    from anyref.curation.clips import read_picture
    from anyref.curation.findings import TrueFilms, read_found
    from anyref.curation.store import Store
    from anyref.curation.truth import score
    from anyref.curation.truth_report import write_report

    if config.output.suffix != ".json":
        raise ValueError(f"the output {config.output} is not a .json file; its table goes beside it, as .md")
    check_writable(config.output)
    store = Store(config.folder, str(config.films))
    report = score(TrueFilms(config.films), read_found(store), lambda uri: read_picture(store, uri))
    write_report(report, config.output)
    Console(highlight=False, markup=False, soft_wrap=True).print(report.markdown())
    print(f"report: {config.output}; table: {config.output.with_suffix('.md')}")

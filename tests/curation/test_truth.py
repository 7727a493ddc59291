"""The score of an ideal curation is perfect, and each way of being wrong lowers its own measure."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ideal_curation import curate_ideally

from anyref.curation import records as rows
from anyref.curation.assemble import sample_of
from anyref.curation.clips import read_picture
from anyref.curation.findings import FoundClip, FoundFilm, TrueFilms
from anyref.curation.store import Store
from anyref.curation.truth import score
from anyref.curation.truth_report import MEASURES, TruthReport, write_report
from anyref.runlengths import decode, encode
from anyref.worlds.films import CYCLE, FilmPlan, write_film

SMALL = FilmPlan(height=64, width=96, fps=8.0)
FILMS = (3, 4, 5, 7, 11)  # letterboxed, static, blurred, a copy of film 4, damaged
assert CYCLE == 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("films")
    for index in FILMS:
        write_film(SMALL, index, folder)
    return Store(str(tmp_path_factory.mktemp("curated")), str(folder))


@pytest.fixture(scope="module")
def truth(store: Store) -> TrueFilms:
    return TrueFilms(Path(store.films))


@pytest.fixture(scope="module")
def ideal(store: Store, truth: TrueFilms) -> list[FoundFilm]:
    samples = {record.id: sample_of(record) for record in curate_ideally(store)}
    found = []
    for name, film in truth.films.items():
        if film["damage"]:
            found.append(FoundFilm(name, "quarantined", "it is empty", (), ()))
            continue
        cuts = tuple((cut["first"] + cut["last"]) // 2 for cut in film["transitions"])
        clips = []
        for number, shot in enumerate(film["shots"]):
            drop = {
                "static": "flow_p95: 0 is below 2",
                "blurred": "flow_p95: 1 is below 2; blur: 1 is below 3",
            }.get(str(shot["defect"]))
            drop = "duplicate: 1 is above 0.5" if film["duplicate_of"] else drop
            sample = samples.get(f"{name[:-4]}-{number}") if drop is None else None
            crop = rows.Rectangle(*film["content_box"])
            clips.append(FoundClip(shot["clear_first"], shot["clear_last"], crop, drop, sample))
        found.append(FoundFilm(name, "ok", "", cuts, tuple(clips)))
    return found


@pytest.fixture(scope="module")
def report(truth: TrueFilms, ideal: list[FoundFilm], store: Store) -> TruthReport:
    return score(truth, ideal, lambda uri: read_picture(store, uri))


def test_an_ideal_curation_is_perfect(report: TruthReport) -> None:
    for one in report.measured:
        if one.measure.name.startswith("face"):
            assert one.value is None
        elif one.measure.below:
            assert one.value == pytest.approx(0.0, abs=0.02)
        else:
            assert one.value == 1.0, one
            assert one.trials > 0
            assert one.met is not False


def test_the_report_is_a_table_and_json(report: TruthReport, tmp_path: Path) -> None:
    write_report(report, tmp_path / "truth.json")
    table = (tmp_path / "truth.md").read_text()
    assert table.count("\n") == len(MEASURES) + 2
    assert "| not measured |" in table
    assert "| at least 0.98 | met |" in table


def _changed(
    ideal: list[FoundFilm], change: Callable[[FoundClip], FoundClip], films: str = ""
) -> list[FoundFilm]:
    return [
        replace(film, clips=tuple(change(clip) if films in film.name else clip for clip in film.clips))
        for film in ideal
    ]


def _with_objects(change: Callable[[rows.ObjectRow], rows.ObjectRow]) -> Callable[[FoundClip], FoundClip]:
    def of_clip(clip: FoundClip) -> FoundClip:
        if clip.sample is None:
            return clip
        objects = tuple(change(one) for one in clip.sample.objects)
        return replace(clip, sample=replace(clip.sample, objects=objects))

    return of_clip


def _shifted(one: rows.ObjectRow) -> rows.ObjectRow:
    return replace(one, mask=encode(np.roll(decode(one.mask), 5, axis=1)))


def _worse(report: TruthReport, other: TruthReport) -> set[str]:
    return {
        now.measure.name
        for was, now in zip(report.measured, other.measured, strict=True)
        if now.value is not None
        and was.value is not None
        and (now.value > was.value if now.measure.below else now.value < was.value)
    }


WRONG: dict[str, tuple[Callable[[list[FoundFilm]], list[FoundFilm]], set[str]]] = {
    "a false cut": (
        lambda ideal: [replace(film, cuts=(*film.cuts, 3)) for film in ideal],
        {"cut F1", "hard cut F1"},
    ),
    "no cuts": (
        lambda ideal: [replace(film, cuts=()) for film in ideal],
        {"cut F1", "hard cut F1", "fade recall"},
    ),
    "a damaged film let through": (
        lambda ideal: [replace(film, status="ok") for film in ideal],
        {"damaged films quarantined"},
    ),
    "bars left on": (
        lambda ideal: _changed(ideal, lambda clip: replace(clip, crop=rows.Rectangle(0, 0, 80, 96)), "00003"),
        {"letterbox found"},
    ),
    "static and blurred kept": (
        lambda ideal: _changed(
            ideal, lambda clip: replace(clip, drop=None if "flow" in (clip.drop or "") else clip.drop)
        ),
        {"static shots dropped", "blurred shots dropped"},
    ),
    "blurred dropped for its motion": (
        lambda ideal: _changed(
            ideal, lambda clip: replace(clip, drop=clip.drop.split(";")[0] if clip.drop else None)
        ),
        {"blurred shots dropped"},
    ),
    "both twins kept": (
        lambda ideal: _changed(ideal, lambda clip: replace(clip, drop=None), "00007"),
        {"duplicates dropped"},
    ),
    "masks off": (
        lambda ideal: _changed(ideal, _with_objects(_shifted)),
        {"mask IoU"},
    ),
    "one cluster": (
        lambda ideal: _changed(ideal, _with_objects(lambda one: replace(one, global_identity_id="all"))),
        {"identity purity"},
    ),
    "a cluster each": (
        lambda ideal: _changed(
            ideal, _with_objects(lambda one: replace(one, global_identity_id=f"{one.frame} {one.label}"))
        ),
        {"identity completeness"},
    ),
    "nothing found": (
        lambda ideal: _changed(ideal, _with_objects(lambda one: replace(one, dropped="area: too small"))),
        {"subject recall"},
    ),
    "pairs of others": (
        lambda ideal: _changed(
            ideal,
            _with_objects(
                lambda one: replace(
                    one, variants=tuple(replace(v, source_id="film-00003-0-o000") for v in one.variants)
                )
            ),
        ),
        {"cross-pairs of the same subject"},
    ),
    "copies": (
        lambda ideal: _changed(
            ideal,
            _with_objects(
                lambda one: replace(
                    one,
                    variants=tuple(
                        replace(v, uri=one.variants[1].uri) if v.kind == "crossclip" else v
                        for v in one.variants
                    ),
                )
            ),
        ),
        {"near-copies"},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_mistake_lowers_its_own_measure(
    name: str, truth: TrueFilms, ideal: list[FoundFilm], report: TruthReport, store: Store
) -> None:
    spoil, expected = WRONG[name]
    worse = _worse(report, score(truth, spoil(ideal), lambda uri: read_picture(store, uri)))
    allowed = {"near-copies", "subject recall", "object precision", "identity completeness"}
    assert expected <= worse <= expected | allowed


def test_a_curation_of_other_films_is_refused(
    truth: TrueFilms, ideal: list[FoundFilm], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="curate the same folder"):
        score(truth, ideal[1:], lambda uri: np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(FileNotFoundError, match="anyref puppets films"):
        TrueFilms(tmp_path)

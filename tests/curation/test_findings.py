"""What a real run of the first stages leaves is read back and scored against the truth; the commands around it work."""

import json
from pathlib import Path

import pytest

from anyref.curation.assemble import CutClips, SplitSets, sample_of, write_manifest
from anyref.curation.decisions import Gate, Rules
from anyref.curation.findings import TrueFilms, read_found
from anyref.curation.output_command import (
    CurateExportConfig,
    CurateScoreConfig,
    PuppetsFilmsConfig,
    curate_export,
    curate_score,
    puppets_films,
)
from anyref.curation.run import curate
from anyref.curation.stages.probe import Probe
from anyref.curation.stages.quality import Duplicates, Quality
from anyref.curation.stages.shots import Clips, Shots
from anyref.curation.store import Store
from anyref.worlds.films import FilmPlan, write_film

LOOSE = Rules().changed(["clip.short_side=off", "clip.aesthetic=off", "clip.num_frames=17:"])


@pytest.mark.slow
def test_the_first_stages_find_what_is_in_films(tmp_path: Path) -> None:
    pytest.importorskip("scenedetect")
    pytest.importorskip("cv2")
    films, output = tmp_path / "films", tmp_path / "curated"
    for index in (1, 3, 5, 11):  # a static shot, a letterbox, a blurred shot, a damaged file
        write_film(FilmPlan(), index, films)
    store = Store(str(output), str(films))
    stages = [
        Probe(),
        Shots(),
        Clips(min_s=1.0),
        Quality(),
        Duplicates(),
        Gate(LOOSE),
        CutClips(),
        SplitSets(),
    ]
    done = curate(stages, store)
    write_manifest(store, [sample_of(record) for record in done.records])
    found = read_found(store)
    assert [film.name for film in found] == list(TrueFilms(films).names)
    curate_score(CurateScoreConfig(str(output), films, tmp_path / "score.json"))
    measures = json.loads((tmp_path / "score.json").read_text())["measures"]
    for name in (
        "cut F1",
        "damaged films quarantined",
        "whole films decoded",
        "letterbox found",
        "static shots dropped",
        "blurred shots dropped",
    ):
        assert measures[name]["value"] == 1.0, name
    assert measures["good shots kept"]["value"] > 0.8
    assert measures["mask IoU"]["value"] is None
    curate_export(CurateExportConfig(str(output), str(tmp_path / "tars"), ("train",)))
    assert (tmp_path / "tars" / "train-000000.tar").exists()


def test_a_run_that_has_not_ended_is_not_scored(tmp_path: Path) -> None:
    puppets_films(PuppetsFilmsConfig(tmp_path / "films", count=1, height=64, width=96, fps=8.0))
    assert (tmp_path / "films" / "film-00000.mp4").exists()
    with pytest.raises(FileNotFoundError, match="let `anyref curate` finish"):
        read_found(Store(str(tmp_path / "curated"), str(tmp_path / "films")))
    with pytest.raises(ValueError, match="not a"):
        curate_score(CurateScoreConfig("a", Path("b"), Path("c.txt")))

"""Assembly: clips are cut frame by frame as the film shows them, groups stay whole, and the manifest gives back what went in."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ideal_curation import curate_ideally, source_of

from anyref import footage
from anyref.curation import records as rows
from anyref.curation.assemble import (
    CutClips,
    SplitSets,
    connected,
    cut,
    cut_length,
    kept_size,
    read_manifest,
    referenced_blobs,
    sample_of,
    split_groups,
    write_manifest,
)
from anyref.curation.stage import Record
from anyref.curation.store import Store
from anyref.media import read_video
from anyref.worlds.films import FilmPlan, write_film

SMALL = FilmPlan(height=64, width=96, fps=8.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("films")
    for index in (2, 3):
        write_film(SMALL, index, folder)
    return Store(str(tmp_path_factory.mktemp("curated")), str(folder))


@pytest.fixture(scope="module")
def records(store: Store) -> list[Record]:
    return curate_ideally(store)


def test_a_clip_is_cut_out_of_its_film_without_bars(store: Store, records: list[Record]) -> None:
    record = next(record for record in records if record["source"]["uri"] == "film-00003.mp4")
    outcome = CutClips().open()(record, store)
    clip = rows.from_json(rows.Clip, outcome.records[0]["clip"])
    assert outcome.status == "ok"
    assert clip.uri is not None
    with store.local(clip.uri) as path:
        frames, fps = read_video(path)
    with store.film("film-00003.mp4") as path:
        film = footage.frames_at(path, list(range(clip.start_frame, clip.end_frame)))
    top, left, bottom, right = (int(side) for side in clip.crop)
    assert fps == SMALL.fps
    assert frames.shape == (clip.num_frames, 64, 96, 3)
    assert np.abs(frames.astype(int) - np.stack(film)[:, top:bottom, left:right]).mean() < 3
    dropped = record.with_values({"drop": "blur: 1 is below 40"})
    assert CutClips().open()(dropped, store).records[0] == dropped


def test_clips_are_scaled_down_and_never_up(store: Store, records: list[Record]) -> None:
    record = records[0]
    source, clip = rows.from_json(rows.Source, record["source"]), rows.from_json(rows.Clip, record["clip"])
    with store.film(source.uri) as path:
        assert cut(path, source, clip, 48).shape == (clip.num_frames, 48, 72, 3)
        assert cut(path, source, clip, 480).shape == (clip.num_frames, 64, 96, 3)
    assert kept_size(1080, 1919, 480) == (480, 852)
    assert kept_size(101, 101, 480) == (100, 100)


def test_a_varying_frame_rate_becomes_a_constant_one(store: Store, records: list[Record]) -> None:
    source, clip = (
        rows.from_json(rows.Source, records[0]["source"]),
        rows.from_json(rows.Clip, records[0]["clip"]),
    )
    doubled = replace(source, variable_frame_rate=True, fps=2 * source.fps)
    with store.film(source.uri) as path:
        frames = cut(path, doubled, clip, 480)
        plain = cut(path, source, clip, 480)
    assert len(frames) == cut_length(doubled, clip) == 2 * clip.num_frames - 1
    assert (frames[::2] == plain).all()


@pytest.mark.parametrize("fps", [5.0, 8.0, 12.5, 16.0])
def test_frames_at_equal_times_are_the_nearest_ones(
    store: Store, records: list[Record], fps: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, clip = (
        rows.from_json(rows.Source, records[0]["source"]),
        rows.from_json(rows.Clip, records[0]["clip"]),
    )
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.3, clip.num_frames))
    pictures = rng.integers(0, 256, (clip.num_frames, 64, 96, 3)).astype(np.uint8)
    frames = [
        SimpleNamespace(time_s=float(t), image_YX3=picture)
        for t, picture in zip(times, pictures, strict=True)
    ]
    monkeypatch.setattr(footage, "frames", lambda *_, **__: iter(frames))
    clip = replace(clip, crop=rows.Rectangle(0, 0, 64, 96), start_s=times[0], end_s=times[-1])
    found = cut(Path("film.mp4"), replace(source, variable_frame_rate=True, fps=fps), clip, 64)
    wanted = np.arange(len(found)) / fps
    passed = times - times[0]
    nearest = np.searchsorted((passed[1:] + passed[:-1]) / 2, wanted, side="right")
    assert len(found) == int(passed[-1] * fps) + 1
    assert (found == pictures[nearest]).all()


def test_cutting_holds_what_it_gives_and_little_else(
    store: Store, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, clip = (
        rows.from_json(rows.Source, records[0]["source"]),
        rows.from_json(rows.Clip, records[0]["clip"]),
    )
    clip = replace(clip, crop=rows.Rectangle(0, 0, 64, 96), num_frames=600, start_s=0.0, end_s=599 / 240)
    frames = (SimpleNamespace(time_s=n / 240, image_YX3=np.zeros((64, 96, 3), np.uint8)) for n in range(600))
    monkeypatch.setattr(footage, "frames", lambda *_, **__: frames)
    tracemalloc.start()
    try:
        found = cut(Path("film.mp4"), replace(source, fps=240.0), clip, 64)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == 300
    assert most < 1.2 * found.nbytes
    assert CutClips().resources.memory_gib is not None


def test_the_manifest_gives_back_every_row_and_equal_rows_give_equal_bytes(
    store: Store, records: list[Record]
) -> None:
    outcomes = SplitSets().gather(records, store)
    samples = [sample_of(outcome.records[0]) for outcome in outcomes]
    assert write_manifest(store, samples) == write_manifest(store, samples[::-1], "again.parquet")
    assert list(read_manifest(store)) == sorted(samples, key=lambda sample: sample.sample_id)
    assert all(store.exists(uri) for sample in samples for uri in referenced_blobs(sample))
    assert len(referenced_blobs(samples[0])) > 3
    with pytest.raises(FileNotFoundError, match="name the folder that curate wrote"):
        next(read_manifest(store, "elsewhere.parquet"))
    store.write("broken.parquet", b"PAR1 no table")
    with pytest.raises(ValueError, match="curate again"):
        next(read_manifest(store, "broken.parquet"))


def test_two_films_with_one_lead_are_on_one_side(store: Store, records: list[Record]) -> None:
    outcomes = SplitSets(validation_share=0.3, test_share=0.0).gather(records, store)
    split = {outcome.records[0].id: outcome.records[0]["split"] for outcome in outcomes}
    identities: dict[str, set[str]] = {}
    for record in records:
        for one in record["objects"]:
            identities.setdefault(one["global_identity_id"], set()).add(split[record.id])
    assert all(len(splits) == 1 for splits in identities.values())
    truth = json.loads((Path(store.films) / "film-00002.json").read_text())
    assert source_of(store, truth).uri == "film-00002.mp4"


_TIES = st.lists(
    st.frozensets(st.sampled_from("abcdefghij"), min_size=1, max_size=3), min_size=1, max_size=30
)


@settings(max_examples=50, deadline=None)
@given(_TIES, st.integers(0, 5))
@example([frozenset("a")] * 6 + [frozenset("b"), frozenset("c")], 0)
def test_splits_never_part_what_is_tied_and_leave_training_some(
    ties: list[frozenset[str]], seed: int
) -> None:
    splits = split_groups(ties, SplitSets(0.2, 0.1, seed))
    for tie in "abcdefghij":
        assert len({splits[number] for number, own in enumerate(ties) if tie in own}) <= 1
    roots = connected(ties)
    for number, root in enumerate(roots):
        assert splits[number] == splits[root]
    if len(set(roots)) >= 3:
        assert set(splits) == {"train", "validation", "test"}
    assert "train" in splits or len(set(roots)) == 1


def test_shares_are_met_with_many_groups_and_few_clips_move_when_the_set_grows() -> None:
    ties = [frozenset({f"film {number}"}) for number in range(1000)]
    stage = SplitSets(0.1, 0.05)
    before, after = split_groups(ties, stage), split_groups([*ties, frozenset({"film 1000"})], stage)
    assert before.count("validation") == 100
    assert before.count("test") == 50
    assert sum(old != new for old, new in zip(before, after, strict=False)) <= 4
    with pytest.raises(ValueError, match="leave some for training"):
        SplitSets(0.5, 0.5)

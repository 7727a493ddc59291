"""The curated set as training reads it: right pixels, masks, phrases and pictures, pure in the index, both knobs realised."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ideal_curation import curate_ideally

from anyref.curation.assemble import CutClips, SplitSets, sample_of, write_manifest
from anyref.curation.buckets import bucket_of
from anyref.curation.dataset import CuratedSet, CuratedSource, tight_boxes
from anyref.curation.draws import MIX, VariantSampling, draw, parse_mix
from anyref.curation.fitting import Shape, covering, fit_mask, fit_pictures, frame_numbers
from anyref.curation.records import VARIANT_KINDS, Variant
from anyref.curation.store import Store
from anyref.curation.subjects import candidates, unique_phrase
from anyref.media import read_video
from anyref.methods.magref import MagrefMethod
from anyref.worlds.films import FilmPlan, draw_film, render_film, write_film

SMALL = FilmPlan(height=64, width=96, fps=16.0)
SHAPE = Shape(64, 96, 17, 8.0)
FILMS = (1, 3)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two films with nobody in common, so one of them is for validation."""
    films, output = tmp_path_factory.mktemp("films"), tmp_path_factory.mktemp("curated")
    store = Store(str(output), str(films))
    for index in FILMS:
        write_film(SMALL, index, films)
    cutter = CutClips().open()
    cut = [cutter(record, store).records[0] for record in curate_ideally(store)]
    split = SplitSets(0.3, 0.0).gather(cut, store)
    write_manifest(store, [sample_of(outcome.records[0]) for outcome in split])
    return str(output)


@pytest.fixture(scope="module")
def source(curated: str) -> CuratedSource:
    return CuratedSource(CuratedSet(curated), SHAPE, VariantSampling(background_share=0.5), seed=3)


def test_samples_show_the_film_at_the_shape(source: CuratedSource) -> None:
    sample = source.clip(0)
    row = source.curated.row(source.row_of(0))
    assert sample.frames_FYX3.shape == (17, 64, 96, 3)
    assert sample.frames_FYX3.dtype == np.uint8
    assert sample.fps == 8.0
    assert row.clip.uri is not None
    with source.curated.store.local(row.clip.uri) as path:
        film = read_video(path).frames_FYX3
    errors = [
        np.abs(sample.frames_FYX3.astype(int) - film[start : start + 33 : 2]).mean()
        for start in range(len(film) - 32)
    ]
    assert min(errors) == 0


def test_masks_lie_where_the_subject_is_and_nowhere_where_nobody_looked(source: CuratedSource) -> None:
    seen = 0
    for index in range(6):
        sample = source.clip(index)
        row = source.curated.row(source.row_of(index))
        film = draw_film(SMALL, int(row.source.uri[5:10]))
        drawn = render_film(SMALL, film)
        top = (drawn.frames_FYX3.shape[1] - 64) // 2
        shot = film.shots[row.clip.shot]
        for subject in sample.subjects:
            if subject.kind == "background":
                continue
            number = [actor.look.identity for actor in shot.scene.actors].index(subject.identity)
            truth = drawn.masks[row.clip.shot][number][:, top : top + 64]
            frames = np.flatnonzero(subject.masks_FYX.any(axis=(1, 2)))
            assert 1 <= len(frames) <= 3
            for frame in frames:
                mask = subject.masks_FYX[frame]
                overlaps = [(mask & own).sum() / max(1, (mask | own).sum()) for own in truth]
                assert max(overlaps) > 0.95
                seen += 1
                rows, columns = np.nonzero(mask)
                assert tuple(subject.boxes_F4[frame]) == (
                    rows.min(),
                    columns.min(),
                    rows.max() + 1,
                    columns.max() + 1,
                )
    assert seen > 6


def test_a_sample_is_a_pure_function_of_its_index(curated: str, source: CuratedSource) -> None:
    again = CuratedSource(CuratedSet(curated), SHAPE, VariantSampling(background_share=0.5), seed=3)
    for index in (0, 5, 100):
        one, other = source.clip(index), again.clip(index)
        assert one.key == other.key
        assert (one.frames_FYX3 == other.frames_FYX3).all()
        for mine, theirs in zip(one.subjects, other.subjects, strict=True):
            assert np.array_equal(mine.references[0].image, theirs.references[0].image)
            assert mine.references[0].variant == theirs.references[0].variant
    passes = [
        [source.row_of(index) for index in range(n * len(source), (n + 1) * len(source))] for n in (0, 1)
    ]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(len(source)))
    assert passes[0] != passes[1]


def test_phrases_stand_once_and_a_method_takes_the_references(source: CuratedSource) -> None:
    kinds = Counter[str]()
    for index in range(8):
        sample = source.clip(index)
        for subject in sample.subjects:
            assert sample.caption.count(subject.phrase) == 1
            assert len(subject.references) == 1
            kinds[subject.kind] += 1
        references = MagrefMethod().training_references(sample, np.random.default_rng(0))
        assert len(references) == min(len(sample.subjects), 3)
        places = [subject for subject in sample.subjects if subject.kind == "background"]
        assert places == list(sample.subjects[len(sample.subjects) - len(places) :])
    assert kinds["background"] > 0
    assert kinds["person"] > 0


def test_both_knobs_come_true(curated: str) -> None:
    whole = CuratedSet(curated)
    for ratio in (0.0, 0.4, 1.0):
        sampling = VariantSampling({"crop": 1, "segment": 3, "crossclip": 1}, ratio, 0.0)
        came = CuratedSource(whole, SHAPE, sampling).realised(400)
        assert came.cross_pair_ratio == pytest.approx(min(ratio, came.most_cross_pair_ratio), abs=0.06)
        copies = came.mix["crop"] + came.mix["segment"]
        if ratio == 0:
            assert came.mix["segment"] / copies == pytest.approx(0.75, abs=0.05)
    assert "cross-pairs" in str(came)
    shown = [
        subject.references[0].variant
        for index in range(6)
        for subject in CuratedSource(whole, SHAPE, VariantSampling(cross_pair_ratio=0.0)).clip(index).subjects
    ]
    assert set(shown) == {"crop"}


def test_what_cannot_be_trained_on_is_said(curated: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="curate wrote"):
        CuratedSet(str(tmp_path))
    with pytest.raises(ValueError, match="its splits: train, validation"):
        CuratedSet(curated, "test")
    with pytest.raises(ValueError, match="train on fewer frames"):
        CuratedSource(CuratedSet(curated), Shape(64, 96, 200, 8.0))


def test_each_clip_falls_to_one_bucket(curated: str) -> None:
    whole = CuratedSet(curated)
    buckets = (Shape(32, 48, 9, 8.0), Shape(32, 48, 21, 8.0), Shape(48, 32, 21, 8.0))
    rows: list[int] = []
    falls_to = [bucket_of(one.height, one.width, one.num_frames, one.fps, buckets) for one in whole.clips]
    for number, shape in enumerate(buckets):
        if number not in falls_to:
            with pytest.raises(ValueError, match="train on fewer frames"):
                CuratedSource(whole, shape, seed=1, buckets=buckets)
            continue
        source = CuratedSource(whole, shape, seed=1, buckets=buckets)
        taken = {source.row_of(index) for index in range(len(source))}
        assert source.clip(0).frames_FYX3.shape == (shape.num_frames, shape.height, shape.width, 3)
        rows += taken
    assert sorted(rows) == list(range(len(whole)))
    assert len(CuratedSource(whole, buckets[0])) == len(whole), "alone it takes all that are long enough"


def test_buckets_go_by_aspect_then_length() -> None:
    buckets = (Shape(480, 832, 81, 16), Shape(480, 832, 33, 16), Shape(832, 480, 81, 16))
    assert bucket_of(720, 1280, 200, 24, buckets) == 0
    assert bucket_of(720, 1280, 60, 24, buckets) == 1
    assert bucket_of(1280, 720, 200, 24, buckets) == 2
    assert bucket_of(720, 1280, 20, 24, buckets) is None


def test_frames_are_resampled_in_time() -> None:
    assert frame_numbers(33, 16.0, Shape(64, 96, 17, 8.0), 0.0) == list(range(0, 33, 2))
    assert frame_numbers(40, 16.0, Shape(64, 96, 17, 8.0), 1.0)[-1] == 39
    assert frame_numbers(5, 4.0, Shape(8, 8, 9, 8.0), 0.0) == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert frame_numbers(75, 30.0, Shape(8, 8, 5, 24.0), 0.0) == [0, 1, 3, 4, 5]
    with pytest.raises(ValueError, match="need 33"):
        frame_numbers(32, 16.0, Shape(64, 96, 17, 8.0), 0.0)


def test_pictures_and_masks_are_cut_alike() -> None:
    picture = np.zeros((80, 200, 3), np.uint8)
    picture[20:60, 90:130] = 255
    shape = Shape(32, 48, 1, 8.0)
    window = covering(80, 200, shape)
    assert (window.bottom - window.top, window.right - window.left) == (1.0, pytest.approx(0.6))
    fitted = fit_pictures([picture], window, shape)
    mask = fit_mask(picture[..., 0] > 0, window, shape)
    assert fitted.shape == (1, 32, 48, 3)
    assert ((fitted[0, ..., 0] > 127) == mask).mean() > 0.99
    assert tuple(tight_boxes(mask[None])[0]) == (8, 20, 24, 36)


def test_draws_keep_to_the_knobs_and_to_what_is_accepted() -> None:
    variants = [Variant(f"{kind}-{n}", kind, "o") for kind in VARIANT_KINDS for n in range(3)]
    rng = np.random.default_rng(0)
    free = VariantSampling({kind: MIX[kind] for kind in ("crop", "segment", "inpaint", "redux")}, None)
    drawn = Counter(found.kind for _ in range(4000) if (found := draw(variants, free, rng)))
    for kind, share in (("crop", 0.1), ("segment", 0.5), ("inpaint", 0.3), ("redux", 0.1)):
        assert drawn[kind] / 4000 == pytest.approx(share, abs=0.03)
    refused = [replace(variant, accepted=variant.kind == "crop") for variant in variants]
    always = draw(refused, VariantSampling(cross_pair_ratio=1.0), rng)
    assert always is not None
    assert always.kind == "crop"
    assert draw([], VariantSampling(), rng) is None
    one, two = np.random.default_rng(5), np.random.default_rng(5)
    draw(variants, VariantSampling(), one)
    draw(variants[:1], VariantSampling(), two)
    assert one.random() == two.random()


@pytest.mark.parametrize(
    "wrong", [{"mix": {"crop": -1.0}}, {"mix": {}}, {"mix": {"photo": 1.0}}, {"cross_pair_ratio": 1.5}]
)
def test_knobs_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"give weights|between 0 and 1"):
        VariantSampling(**wrong)  # type: ignore[arg-type]


def test_mixes_are_read_from_text() -> None:
    assert parse_mix("1:5:3:1") == {"crop": 1, "segment": 5, "inpaint": 3, "redux": 1}
    assert parse_mix("segment=5, crossclip=2") == {"segment": 5, "crossclip": 2}
    for wrong in ("a:b", "1:2:3:4:5:6:7", "photo=3", ""):
        with pytest.raises(ValueError, match="the variant mix"):
            parse_mix(wrong)


def test_phrases_grow_until_they_stand_once() -> None:
    text = "a dog runs and a dog sleeps"
    assert unique_phrase(text, 0, 5) == "a dog runs"
    assert unique_phrase(text, 15, 20) == "a dog sleeps"
    assert unique_phrase("the dog sees the dog", 13, 20) == "sees the dog"
    assert unique_phrase("a cat", 2, 5) == "cat"
    assert unique_phrase("a dogma and a dog", 12, 17) == "a dog"
    assert unique_phrase("a cat", 3, 9) == ""


def test_what_a_filter_dropped_or_a_face_stands_for_is_no_subject(curated: str) -> None:
    row = CuratedSet(curated).row(0)
    everybody = {one.label for one in candidates(row) if one.kind != "background"}
    dropped = replace(row, objects=tuple(replace(one, dropped="too small") for one in row.objects))
    hidden = replace(row, objects=tuple(replace(one, suppressed_by_face="f0") for one in row.objects))
    assert everybody
    assert (
        [one.kind for one in candidates(dropped)]
        == [one.kind for one in candidates(hidden)]
        == ["background"]
    )

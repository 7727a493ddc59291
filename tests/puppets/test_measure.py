"""The parts, on tiny models of each method: what is measured follows from what the method has, and references are those of use."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mean_colour import MeanColour
from numpy.typing import NDArray
from tiny_model import write_tiny_model

from anyref.matting import given_mask
from anyref.pipeline import AnyRefPipeline
from anyref.puppets import measure
from anyref.puppets.comparison import MEASURES
from anyref.puppets.held_out import reference_of, single_clips
from anyref.puppets.measure import PARTS, Bench, measure_real
from anyref.samples import Sample

METHODS = ("magref", "kaleido", "saber")
KNOWN = {name for group in MEASURES.values() for name in group}
OF_ANCHORS = {name for name in KNOWN if "anchors" in name}
OF_CUTS = {
    "retrieval, cut out by the matter",
    "retrieval, cut out by the world",
    "the world's cut-outs minus the matter's",
    "no subject found",
}


class Half:
    """A matter that takes the left half for the subject, or nothing."""

    def __init__(self, finds: bool = True) -> None:
        self.finds = finds

    def cut(self, image_YX3: NDArray[np.uint8]) -> NDArray[np.bool_]:
        mask = np.zeros(image_YX3.shape[:2], bool)
        mask[:, : mask.shape[1] // 2] = self.finds
        return mask


@pytest.fixture(scope="module", params=METHODS)
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AnyRefPipeline:
    pipeline = AnyRefPipeline.from_pretrained(
        write_tiny_model(tmp_path_factory.mktemp(request.param), request.param)
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.matter = Half()
    return pipeline


def bench_of(pipeline: AnyRefPipeline, count: int = 2) -> Bench:
    judge: Any = MeanColour()
    return Bench(pipeline, judge, count)


def test_each_part_measures_what_the_method_has(pipeline: AnyRefPipeline) -> None:
    bench = bench_of(pipeline)
    shown: list[tuple[str, int, int]] = []
    bench = replace(bench, show=lambda *one: shown.append(one))
    results = {name: one for part in PARTS.values() for name, one in part(bench).items()}
    expected = KNOWN - (set() if pipeline.method.name == "magref" else OF_ANCHORS)
    assert set(results) == expected - (set() if pipeline.method.name == "saber" else OF_CUTS)
    assert all(np.isfinite(one.values).all() and one.values for one in results.values())
    for what in ("own references", "8 references", "held-out loss"):
        assert [one[1:] for one in shown if one[0] == what][-1][0] > 0, what
    real = measure_real(bench.world, bench.judge, bench.count)
    for name, one in real.items():
        assert len(one.values) == len(results[name].values), name


def test_what_a_method_reads_of_a_picture_is_found_by_trying(pipeline: AnyRefPipeline) -> None:
    assert bench_of(pipeline).cuts_out == (pipeline.method.name == "saber")


def test_the_loss_sees_the_pictures_and_leaves_a_canvas_out(
    pipeline: AnyRefPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, given = [], measure.clip_losses

    def spy(*arguments: Any) -> list[float]:
        weights.append(arguments[4].flow.first_frame_weight)
        return given(*arguments)

    monkeypatch.setattr(measure, "clip_losses", spy)
    results = PARTS["loss"](bench_of(pipeline))
    assert set(weights) == {0.0 if pipeline.method.name == "magref" else 1.0}
    # Also of a method that is trained on frames of the clip itself, whatever pictures there are.
    assert all(results["held-out loss, swapped minus right references"].values)
    assert all(results["held-out loss, no references minus right"].values)


def opaque_clips(bench: Bench) -> list[Sample]:
    clips = single_clips(bench.world, 8)
    return [clip for clip in clips if given_mask(reference_of(clip.subjects[0])) is None]


def test_pictures_are_cut_out_by_the_matter_where_that_matters(pipeline: AnyRefPipeline) -> None:
    bench = bench_of(pipeline)
    reference = reference_of(opaque_clips(bench)[0].subjects[0])
    ready = bench.ready(reference)
    if not bench.cuts_out:
        assert ready is reference
        return
    assert ready.subject_mask is not None
    assert ready.subject_mask.mean() == pytest.approx(0.5, abs=0.05)
    assert bench.ready(ready) is ready
    pipeline.matter = Half(finds=False)
    try:
        nothing = bench.ready(reference).subject_mask
        assert nothing is not None
        assert nothing.all()
        assert set(PARTS["retrieval"](bench_of(pipeline, 6))["no subject found"].values) == {1.0}
        pipeline.matter = None
        with pytest.raises(ValueError, match="no matter"):
            bench.ready(reference)
    finally:
        pipeline.matter = Half()


@pytest.mark.parametrize("pipeline", ["kaleido"], indirect=True)
def test_more_references_than_a_method_takes_are_left_out(pipeline: AnyRefPipeline) -> None:
    usual = pipeline.method
    pipeline.method = replace(usual, max_references=3)  # type: ignore[type-var]
    try:
        assert set(PARTS["trios"](bench_of(pipeline))) == {"3 references"}
        assert not PARTS["views"](bench_of(pipeline))
    finally:
        pipeline.method = usual


def test_a_clips_video_does_not_depend_on_the_others(pipeline: AnyRefPipeline) -> None:
    bench = bench_of(pipeline)
    samples = single_clips(bench.world, 3)
    rows = [[reference_of(sample.subjects[0])] for sample in samples]
    all_three = bench.generate("all", samples, rows)
    last = bench.generate("last", samples[2:], rows[2:], seeds=[2])
    assert np.abs(all_three[2].astype(int) - last[0]).max() <= 1

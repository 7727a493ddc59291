"""MAGREF: canvas and mask against the release's, channels, anchors, and what training makes of a sample."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anyref.encoders import Encoders
from anyref.latents import VideoShape
from anyref.methods import configured, make_method, method_class
from anyref.methods.folder import method_of, record_of
from anyref.methods.magref import NEGATIVE_PROMPT, Box, MagrefMethod, compose, dealt, slots, spans
from anyref.references import Reference, load_reference
from anyref.samples import ReferenceVariant, Sample, Subject

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "canvas"
CASES = json.loads((GOLDEN / "manifest.json").read_text()) if GOLDEN.exists() else []
SHAPE = VideoShape(9, 64, 96)
PROMPT = "a big dog and a man with a red hat"


@pytest.mark.skipif(not CASES, reason="the golden values are not beside this checkout")
@pytest.mark.parametrize("number", range(4))
def test_the_release_canvas(number: int) -> None:
    case = CASES[number]
    canvas = compose([load_reference(GOLDEN / name) for name in case["refs"]], 480, 832)
    np.testing.assert_array_equal(canvas.image_YX3, np.asarray(Image.open(GOLDEN / case["canvas"])))
    mask = np.asarray(Image.open(GOLDEN / case["latent_mask"])) > 0
    np.testing.assert_array_equal(canvas.cells().any(axis=0), mask)


@pytest.mark.parametrize("count", range(9))
def test_slots_tile_the_canvas(count: int) -> None:
    boxes = slots(count, 48, 80)
    assert len(boxes) == {0: 1, 5: 6, 7: 8}.get(count, count)
    covered = np.zeros((48, 80), int)
    for box in boxes:
        covered[box.top : box.bottom, box.left : box.right] += 1
    assert (covered == 1).all()
    assert boxes == tuple(sorted(boxes)), "row by row"
    if count == 3:
        assert [box.right - box.left for box in boxes] == [26, 26, 28]


def solid(height: int, width: int, value: int = 100, **fields: object) -> Reference:
    return Reference(np.full((height, width, 3), value, np.uint8), **fields)  # type: ignore[arg-type]


def test_regions_leave_the_padding_out() -> None:
    canvas = compose([solid(10, 20), solid(30, 10)], 64, 96)
    # Slots are 64 x 48: the wide one is 24 x 48 in rows 20..44, the tall one 64 x 21 from column 48 + 13.
    assert canvas.regions == (Box(20, 0, 44, 48), Box(0, 61, 64, 82))
    inside = np.zeros((64, 96), bool)
    for box in canvas.regions:
        inside[box.top : box.bottom, box.left : box.right] = True
    assert (canvas.image_YX3[~inside] == 255).all()
    cells = canvas.cells()
    expected = inside.reshape(8, 8, 12, 8).any(axis=(1, 3))
    np.testing.assert_array_equal(cells.any(axis=0), expected)


def test_a_token_belongs_to_the_region_that_covers_more_of_it() -> None:
    # Columns 0..40 and 40..96: cells 0-4 and 5-11, so the third token (cells 4, 5) is split evenly, row 0 and 1 alike.
    canvas = compose([solid(64, 40), solid(64, 56)], 64, 96, layout=[Box(0, 0, 64, 40), Box(0, 40, 64, 96)])
    tokens = canvas.tokens().reshape(2, 4, 6)
    assert tokens[0, 0].tolist() == [True, True, True, False, False, False], "even: the first"
    assert tokens[1, 0].tolist() == [False, False, False, True, True, True]
    # Now the second region also has a pixel in cell 4: two cells against one and a shared one.
    canvas = compose([solid(64, 40), solid(64, 57)], 64, 96, layout=[Box(0, 0, 64, 40), Box(0, 39, 64, 96)])
    assert canvas.tokens().reshape(2, 4, 6)[:, 0, 2].tolist() == [False, True]
    assert (canvas.tokens().sum(axis=0) <= 1).all()
    assert compose([], 64, 96).tokens().shape == (0, 24)


def test_weights_fade_on_the_canvas() -> None:
    full, half, none = (compose([solid(64, 96, 55, weight=weight)], 64, 96) for weight in (1.5, 0.5, 0.0))
    assert (full.image_YX3 == 55).all()
    assert (half.image_YX3 == 155).all()
    assert (none.image_YX3 == 255).all()
    assert half.cells().all()
    assert not none.cells().any()


def test_wrong_layouts() -> None:
    with pytest.raises(ValueError, match="1 boxes for 2 references"):
        compose([solid(8, 8), solid(8, 8)], 64, 96, layout=[Box(0, 0, 8, 8)])
    with pytest.raises(ValueError, match="not inside the 64 x 96 canvas"):
        compose([solid(8, 8)], 64, 96, layout=[Box(0, 0, 65, 8)])


def test_channels_of_a_batch(encoders: Encoders, references: list[Reference]) -> None:
    conditioning = MagrefMethod().condition([references, []], [PROMPT, "a cat"], SHAPE, encoders)
    channels, context = conditioning.channels_BCTHW, conditioning.context_BSD
    assert channels is not None
    assert context is not None
    assert channels.shape == (2, 20, 3, 8, 12)
    assert context.shape == (2, 5, 32)
    assert conditioning.anchors is None, "no strength, no anchors"
    mask = torch.from_numpy(compose(references, 64, 96).cells().any(axis=0)).float()
    for channel in range(4):
        assert torch.equal(channels[0, channel, 0], mask)
    assert not channels[:, :4, 1:].any(), "only latent frame 0 is marked"
    assert not channels[1, :4].any(), "no references, empty mask"
    blank = torch.zeros(1, 3, 9, 64, 96)
    blank[:, :, 0] = 1
    torch.testing.assert_close(channels[1:, 4:], encoders.encode_video(blank), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(context[1:], encoders.encode_images(blank[:, :, 0]), atol=1e-5, rtol=1e-4)
    alone = MagrefMethod().condition([references], None, SHAPE, encoders).channels_BCTHW
    assert alone is not None
    torch.testing.assert_close(alone, channels[:1], atol=1e-5, rtol=1e-4)


def test_anchors(encoders: Encoders, references: list[Reference]) -> None:
    dog, hat = replace(references[0], weight=0.5), replace(references[1], phrase="Red  hat")
    method = MagrefMethod(anchor_strength=0.7)
    conditioning = method.condition([[dog, hat], [dog]], [PROMPT, "the dog walks"], SHAPE, encoders)
    anchors = conditioning.anchors
    assert anchors is not None
    assert anchors.strength == 0.7
    assert anchors.region_BRL.shape == (2, 2, 24)
    assert anchors.span_BRS.shape == (2, 2, encoders.num_text_tokens([PROMPT]))
    np.testing.assert_array_equal(anchors.region_BRL[0], compose([dog, hat], 64, 96).tokens())
    assert not anchors.region_BRL[1, 1].any()
    spans_01 = anchors.span_BRS[0]
    assert spans_01[0].nonzero().flatten().tolist() == [2], "dog"
    assert spans_01[0].sum() == 0.5, "scaled by the weight"
    assert spans_01[1].nonzero().flatten().tolist() == [8, 9], "red hat"
    torch.testing.assert_close(spans_01[1].sum(), torch.tensor(1.0))
    unconditional = method.unconditional(conditioning)
    assert unconditional.anchors is None
    assert unconditional.channels_BCTHW is conditioning.channels_BCTHW
    assert unconditional.context_BSD is conditioning.context_BSD
    assert method.condition([[dog]], None, SHAPE, encoders).anchors is None
    dropped = method.condition([[dog, hat]], [""], SHAPE, encoders).anchors
    assert dropped is not None
    assert not dropped.span_BRS.any(), "no text, nothing to anchor"


def test_labels_are_matched_from_their_head(encoders: Encoders) -> None:
    def found(label: str | None, prompt: str = PROMPT) -> tuple[int, int] | None:
        return spans([solid(8, 8, label=label)], prompt, encoders)[0]

    assert found("Red Hat") == (8, 10)
    assert found("small blue hat") == (9, 10)
    assert found("red dog") == (2, 3), "the head noun, not the attribute"
    twins = [solid(8, 8, label="dog"), solid(8, 8, label="dog"), solid(8, 8, label="dog")]
    assert spans(twins, "a dog sees the dog", encoders) == [(1, 2), (4, 5), (1, 2)]
    for label in ("cat", None):
        with pytest.warns(UserWarning, match="is not anchored"):
            assert found(label) is None
    with pytest.raises(ValueError, match="'green hat' is not in the prompt"):
        spans([solid(8, 8, phrase="green hat")], PROMPT, encoders)


def test_views_of_one_subject_share_its_words(encoders: Encoders) -> None:
    views = [solid(8, 8, value, phrase="dog") for value in (10, 200)]
    subjects = [*views, solid(8, 8, phrase="red hat")]
    assert spans(subjects, PROMPT, encoders) == [(2, 3), (2, 3), (8, 10)]
    assert spans(views, "a dog sees a dog", encoders) == [(1, 2), (1, 2)], "named words are no two subjects"
    anchors = MagrefMethod(anchor_strength=1.0).condition([subjects], [PROMPT], SHAPE, encoders).anchors
    assert anchors is not None
    assert torch.equal(anchors.span_BRS[0, 0], anchors.span_BRS[0, 1])
    assert (anchors.region_BRL[0].sum(dim=0) <= 1).all(), "each view has a place of its own"
    assert anchors.region_BRL[0].any(dim=1).all()


def test_user_mistakes(references: list[Reference]) -> None:
    method = MagrefMethod()
    method.check(references, SHAPE)
    with pytest.raises(ValueError, match="at most 8"):
        method.check(references * 5, SHAPE)
    for wrong in (
        {"anchor_strength": -1},
        {"anchor_strength": float("nan")},
        {"cross_pair_probability": 2.0},
    ):
        with pytest.raises(ValueError, match="must lie between"):
            MagrefMethod(**wrong)  # type: ignore[arg-type]


def test_shapes_and_frames() -> None:
    method = MagrefMethod()
    assert method.sampled_shape(SHAPE, keep_canvas=False) == VideoShape(13, 64, 96)
    assert method.sampled_shape(SHAPE, keep_canvas=True) == SHAPE
    frames = np.arange(13)
    assert method.output_frames(frames, keep_canvas=False).tolist() == list(range(4, 13))
    assert method.output_frames(frames, keep_canvas=True) is frames


def test_official_settings() -> None:
    release = make_method("magref", {"anchor_strength": 0.5, "shuffle": True}, {"height": 64}).official()
    defaults = release.defaults
    assert (defaults.height, defaults.width, defaults.num_frames, defaults.num_inference_steps) == (
        480,
        832,
        77,
        40,
    )
    assert (defaults.shift, defaults.guidance_scale, defaults.fps, defaults.seed) == (3.0, 5.0, 15, 3407)
    assert (defaults.solver, defaults.sigmas) == ("unipc", "release")
    sampled = release.sampled_shape(VideoShape(77, 480, 832), keep_canvas=False)
    assert sampled.num_frames == 81
    assert release == replace(MagrefMethod(), defaults=defaults)
    assert NEGATIVE_PROMPT.startswith("\u955c\u5934\u6643\u52a8")
    assert NEGATIVE_PROMPT.count("\uff0c") == 28


def test_settings_by_name() -> None:
    method = make_method("magref", {"anchor_strength": 0.5}, {"num_inference_steps": 25})
    assert method.defaults.num_inference_steps == 25
    assert method_of(record_of(method)) == method
    assert method_of(json.loads(json.dumps(record_of(method_class("magref")())))) == method_class("magref")()
    assert configured(method, False, {"anchor_strength": None, "shuffle": True}) == replace(
        method, shuffle=True
    )
    with pytest.raises(ValueError, match="the method 'magref' has no setting 'offset'"):
        configured(method, False, {"offset": 3})
    with pytest.raises(ValueError, match="no sampling default 'colour'"):
        make_method("magref", None, {"colour": 1})


def sample(subjects: int = 3) -> Sample:
    empty_masks, empty_boxes = np.zeros((5, 32, 48), bool), np.zeros((5, 4), np.int32)

    def subject(index: int) -> Subject:
        images = [solid(8, 8, 10 * index + shade).image for shade in (1, 2, 3)]
        variants = (
            ReferenceVariant(images[0], "cross"),
            ReferenceVariant(images[1], "cross"),
            ReferenceVariant(images[2], "crop"),
        )
        return Subject(
            f"who{index}", "person", "man", f"man number {index}", empty_masks, empty_boxes, variants
        )

    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
    return Sample("key", frames, 8.0, "a man", tuple(subject(index) for index in range(subjects)))


def test_dealing_uses_every_slot() -> None:
    """Five references have six slots; the release shuffles slots and references, so that any may stay empty."""
    free = set()
    for seed in range(40):
        boxes = dealt(5, 64, 96, torch.Generator().manual_seed(seed))
        assert len(set(boxes)) == 5
        assert boxes == dealt(5, 64, 96, torch.Generator().manual_seed(seed))
        free |= set(slots(5, 64, 96)) - set(boxes)
    assert free == set(slots(5, 64, 96))


def test_training_references_are_shuffled_cross_pairs() -> None:
    drawn = [MagrefMethod().training_references(sample(), np.random.default_rng(seed)) for seed in range(30)]
    assert {tuple(reference.name for reference in row) for row in drawn} == {
        (f"who{a}", f"who{b}", f"who{3 - a - b}") for a in range(3) for b in range(3) if a != b
    }
    shades = {int(reference.image[0, 0, 0]) % 10 for row in drawn for reference in row}
    assert shades == {1, 2}, "cross-pairs only"
    assert all(
        reference.phrase == f"man number {reference.name[-1]}"
        for row in drawn
        for reference in row
        if reference.name
    )
    again = MagrefMethod().training_references(sample(), np.random.default_rng(3))
    assert [reference.name for reference in again] == [reference.name for reference in drawn[3]]

    crops = MagrefMethod(cross_pair_probability=0.0).training_references(sample(), np.random.default_rng(0))
    assert all(reference.image[0, 0, 0] % 10 == 3 for reference in crops)
    assert len(MagrefMethod().training_references(sample(11), np.random.default_rng(0))) == 8


def test_training_video_begins_with_the_canvas(references: list[Reference]) -> None:
    frames = sample().frames_FYX3
    method = MagrefMethod()
    video = method.training_video(frames, references, VideoShape(9, 32, 48))
    np.testing.assert_array_equal(video[0], compose(references, 32, 48).image_YX3)
    np.testing.assert_array_equal(video[1:4], np.repeat(frames[:1], 3, axis=0))
    np.testing.assert_array_equal(method.output_frames(video, keep_canvas=False), frames)
    shorter = method.training_video(frames, references, VideoShape(5, 32, 48))
    np.testing.assert_array_equal(shorter[1:], frames[:4])
    with pytest.raises(ValueError, match="the clip has 4 frames; 9 sampled frames need 5 or more"):
        method.training_video(frames[:4], references, VideoShape(9, 32, 48))
    blank = method.training_video(frames, [], VideoShape(5, 32, 48))
    assert (blank[0] == 255).all()


def test_shuffling_is_seeded(encoders: Encoders, references: list[Reference]) -> None:
    def channels(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made = MagrefMethod(shuffle=True).condition([references], [PROMPT], SHAPE, encoders, generator)
        assert made.channels_BCTHW is not None
        return made.channels_BCTHW

    runs = [channels(seed) for seed in (0, 0, 1, 2, 3, 4)]
    assert torch.equal(runs[0], runs[1])
    assert any(not torch.equal(runs[0], run) for run in runs[2:])

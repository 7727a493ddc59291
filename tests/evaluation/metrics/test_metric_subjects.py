"""Metrics of subjects on pictures whose answer is known: squares of one colour, found by name, compared by colour."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_fakes import CARD, Colours, box_of, case_of, score

from anyref.evaluation.features import FeatureCache
from anyref.evaluation.metrics import MemoryFootage, VideoUnderTest
from anyref.evaluation.metrics.bg_sim import BgSim
from anyref.evaluation.metrics.canvas_leak import CanvasLeak, structural_similarity
from anyref.evaluation.metrics.coverage import Coverage
from anyref.evaluation.metrics.duplicate_subjects import DuplicateSubjects
from anyref.evaluation.metrics.flow_smoothness import FlowSmoothness
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.grey_leak import GreyLeak
from anyref.evaluation.metrics.identity_drift import IdentityDrift
from anyref.evaluation.metrics.identity_margin import IdentityMargin
from anyref.evaluation.metrics.interpolation_smoothness import VARIABLE, InterpolationSmoothness, smoothness
from anyref.evaluation.metrics.regions import cut_out, find, finder, grown, overlap
from anyref.evaluation.metrics.s2v_consistency import S2VConsistency
from anyref.evaluation.metrics.s2v_decoupling import S2VDecoupling, without
from anyref.evaluation.metrics.subj_sim import SubjSim
from anyref.perception import Box, Detection, Picture
from anyref.runlengths import RunLengths, decode

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
LEFT, RIGHT = (8, 4), (8, 28)
SQUARE = 8


class Places:
    """Finds squares by where they are ("left", "right", "square": both), whatever their colour; black and grey are nothing."""

    card = CARD

    def __init__(self) -> None:
        self.num_pictures = 0

    def detect(self, picture: Picture, phrases: Sequence[str]) -> list[Detection]:
        self.num_pictures += 1
        found = []
        for number, phrase in enumerate(phrases):
            for name, (top, left) in (("left", LEFT), ("right", RIGHT)):
                if picture.shape[1] < 40:
                    continue  # a reference: the whole of it
                if phrase in {name, "square"} and np.ptp(picture[top + 1, left + 1]) > 0:
                    found.append(Detection(number, Box(top, left, top + SQUARE, left + SQUARE), 0.9))
        return [*found, Detection(0, Box(0, 0, 4, 4), 0.2)]

    def segment(self, picture: Picture, boxes: Sequence[Box]) -> Any:
        masks = np.zeros((len(boxes), *picture.shape[:2]), bool)
        for mask, box in zip(masks, boxes, strict=True):
            mask[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = True
        return masks


def frame(left: tuple[int, ...] | None, right: tuple[int, ...] | None, ground: int = 0) -> Picture:
    picture = np.full((24, 48, 3), ground, np.uint8)
    for colour, (top, start) in ((left, LEFT), (right, RIGHT)):
        if colour is not None:
            picture[top : top + SQUARE, start : start + SQUARE] = colour
    return picture


def plain(colour: tuple[int, ...]) -> Picture:
    return np.full((SQUARE, SQUARE, 3), colour, np.uint8)


def two(
    tmp_path: Path, frames: Sequence[Picture], labels: Sequence[str] = ("left", "right")
) -> VideoUnderTest:
    case = case_of(tmp_path, [plain(RED), plain(GREEN)], labels)
    return VideoUnderTest.of_frames(case, np.stack(frames))


def models(**more: Any) -> dict[str, Any]:
    places = Places()
    return {"detector": places, "segmenter": places, **more}


GOOD = frame(RED, GREEN)


def test_subj_sim_and_a_missing_subject(tmp_path: Path) -> None:
    good = score(SubjSim(), two(tmp_path, [GOOD] * 4), **models(encoder=Colours()))
    assert good.value == pytest.approx(1.0)
    assert good.strict == pytest.approx(1.0)
    assert good.frame_indices == linspace(4, 16)
    drawn = good.boxes[0].mask
    assert drawn is not None
    runs = RunLengths((24, 48), str(drawn["counts"]))
    assert box_of(decode(runs)) == good.boxes[0].box, "its mask, for the gallery"
    half = score(
        SubjSim(num_frames=4), two(tmp_path, [GOOD, frame(RED, None)] * 2), **models(encoder=Colours())
    )
    assert half.value == pytest.approx(1.0), "official: frames without the subject are left out"
    assert half.strict == pytest.approx(0.75)
    assert half.details["subject_coverage"] == pytest.approx(0.75)
    never = score(SubjSim(), two(tmp_path, [frame(RED, None)] * 3), **models(encoder=Colours()))
    assert never.value == pytest.approx(1.0)
    assert never.strict == pytest.approx(0.5)
    nothing = score(SubjSim(), two(tmp_path, [frame(None, None)] * 3), **models(encoder=Colours()))
    assert (nothing.value, nothing.strict, nothing.status) == (None, 0.0, "missed")
    wrong = score(SubjSim(), two(tmp_path, [frame(BLUE, GREEN)] * 3), **models(encoder=Colours()))
    assert wrong.value is not None
    assert wrong.value < 0.8
    faces = case_of(tmp_path, [plain(RED)], ["man"], ["face"])
    assert not SubjSim().applies(faces), "faces are ID-Sim's"


@pytest.mark.parametrize("metric", [SubjSim(), S2VConsistency()])
def test_one_of_two_that_look_alike_is_missing_in_strict(metric: Any, tmp_path: Path) -> None:
    twins = case_of(tmp_path, [plain(RED), plain(RED)], ["square", "square"])
    for right, expected in ((RED, 1.0), (None, 0.5)):
        video = VideoUnderTest.of_frames(twins, np.stack([frame(RED, right)] * 3))
        result = score(metric, video, **models(encoder=Colours()))
        assert result.value == pytest.approx(1.0)
        assert result.strict == pytest.approx(expected)
    # Dealt so that the sum is highest: the red reference gets the red square, whatever the other one would like best.
    mixed = case_of(tmp_path, [plain(YELLOW), plain(RED)], ["square", "square"])
    dealt = score(
        metric,
        VideoUnderTest.of_frames(mixed, np.stack([frame(RED, YELLOW)] * 3)),
        **models(encoder=Colours()),
    )
    assert dealt.strict == pytest.approx(1.0)


def test_swapped_references_turn_the_margin_and_nothing_else(tmp_path: Path) -> None:
    good = score(IdentityMargin(), two(tmp_path, [GOOD] * 3), **models(encoder=Colours()))
    assert good.value is not None
    assert good.value > 0.4
    assert good.details["swapped_share"] == 0
    swapped = score(IdentityMargin(), two(tmp_path, [frame(GREEN, RED)] * 3), **models(encoder=Colours()))
    assert swapped.value == pytest.approx(-good.value)
    assert swapped.details["swapped_share"] == 1
    # The same words for both: dealt to whom they resemble, so a swap is not seen.
    same = two(tmp_path, [frame(GREEN, RED)] * 3, ("square", "square"))
    assert score(IdentityMargin(), same, **models(encoder=Colours())).value == pytest.approx(good.value)
    blend = two(tmp_path, [frame(YELLOW, YELLOW)] * 3, ("square", "square"))
    assert score(IdentityMargin(), blend, **models(encoder=Colours())).value == pytest.approx(0, abs=1e-6)
    missing = score(IdentityMargin(), two(tmp_path, [frame(RED, None)] * 3), **models(encoder=Colours()))
    assert missing.strict == pytest.approx(good.value / 2)
    assert not IdentityMargin().applies(case_of(tmp_path, [plain(RED)], ["left"]))


def test_coverage_counts_each_subject_once(tmp_path: Path) -> None:
    frames = [GOOD, frame(RED, None), frame(None, None), GOOD]
    assert score(Coverage(num_frames=4), two(tmp_path, frames), **models()).value == pytest.approx(5 / 8)
    twins = two(tmp_path, frames, ("square", "square"))
    result = score(Coverage(num_frames=4), twins, **models())
    assert result.details["per_reference"] == [0.75, 0.5]
    nothing = score(Coverage(), two(tmp_path, [frame(None, None)]), **models())
    assert (nothing.value, nothing.status) == (0.0, "missed")


def test_drift_is_the_slope_over_the_video(tmp_path: Path) -> None:
    # Column by column the red square turns black: its cosine falls from 1 to nearly 0.
    frames = []
    for step in range(6):
        one = frame(RED, None)
        one[LEFT[0] + 2 : LEFT[0] + SQUARE, LEFT[1] + 2 : LEFT[1] + 2 + step] = (0, 0, 0)
        frames.append(one)
    case = case_of(tmp_path, [plain(RED)], ["left"])
    drifting = VideoUnderTest.of_frames(case, np.stack(frames), 5.0)
    result = score(IdentityDrift(num_frames=6), drifting, **models(encoder=Colours()))
    assert result.value is not None
    assert result.value < -0.02
    assert result.details["per_second"] == pytest.approx(result.value), "six frames at 5 fps last a second"
    steady = VideoUnderTest.of_frames(case, np.stack([frame(RED, None)] * 6))
    assert score(IdentityDrift(), steady, **models(encoder=Colours())).value == pytest.approx(0, abs=1e-6)
    backwards = VideoUnderTest.of_frames(case, np.stack(frames[::-1]), 5.0)
    other = score(IdentityDrift(num_frames=6), backwards, **models(encoder=Colours()))
    assert other.value == pytest.approx(-result.value)
    assert other.strict == pytest.approx(result.strict)


def test_duplicates_are_look_alikes_beyond_what_was_asked_for(tmp_path: Path) -> None:
    def surplus(picture: Picture, references: int) -> float | None:
        case = case_of(tmp_path, [plain(RED)] * references, ["square"] * references)
        video = VideoUnderTest.of_frames(case, picture[None])
        return score(DuplicateSubjects(), video, **models(encoder=Colours())).value

    assert surplus(frame(RED, RED), 1) == 1
    assert surplus(frame(RED, BLUE), 1) == 0, "a stranger is no surplus"
    assert surplus(frame(RED, RED), 2) == 0
    assert surplus(frame(RED, None), 1) == 0


def test_s2v_consistency_hides_a_missing_subject_only_officially(tmp_path: Path) -> None:
    good = score(S2VConsistency(), two(tmp_path, [GOOD] * 3), **models(encoder=Colours()))
    assert good.value == pytest.approx(1.0)
    assert good.strict == pytest.approx(1.0)
    one = score(S2VConsistency(), two(tmp_path, [frame(RED, None)] * 3), **models(encoder=Colours()))
    assert one.value == pytest.approx(1.0)
    assert one.strict == pytest.approx(0.5)
    swapped = score(S2VConsistency(), two(tmp_path, [frame(GREEN, RED)] * 3), **models(encoder=Colours()))
    assert swapped.value == pytest.approx(1.0)
    assert swapped.strict is not None
    assert swapped.strict < 0.7


def test_s2v_decoupling_sees_a_copied_background(tmp_path: Path) -> None:
    def pictures(ground: tuple[int, ...]) -> Picture:
        picture = np.full((24, 48, 3), ground, np.uint8)
        picture[8:16, 4:12] = RED
        return picture

    reference = pictures(BLUE)
    case = case_of(tmp_path, [reference], ["left"])
    copied = VideoUnderTest.of_frames(case, np.stack([pictures(BLUE)] * 3))
    result = score(S2VDecoupling(), copied, **models(encoder=Colours()))
    assert result.value == pytest.approx(0, abs=1e-6)
    assert result.details["background_leak"] == pytest.approx(1)
    free = VideoUnderTest.of_frames(case, np.stack([pictures(GREEN)] * 3))
    assert score(S2VDecoupling(), free, **models(encoder=Colours())).value == pytest.approx(1)
    alpha = np.where(reference.any(-1, keepdims=True) & (reference[..., :1] > 0), 255, 0).astype(np.uint8)
    cut = case_of(tmp_path, [np.concatenate([reference, alpha], axis=2)], ["left"])
    nothing = score(
        S2VDecoupling(),
        VideoUnderTest.of_frames(cut, np.stack([pictures(BLUE)] * 3)),
        **models(encoder=Colours()),
    )
    assert nothing.strict is None
    assert nothing.value is not None
    assert without(reference, np.ones((24, 48), bool)).max() == 127


class Painter:
    """Fills holes with a colour, and counts."""

    card = CARD

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def inpaint(self, picture: Picture, hole: Any, prompt: str, seed: int) -> Picture:
        assert prompt == "empty beach, no people"
        self.seeds.append(seed)
        return np.where(hole[..., None], np.uint8(0), picture)


def test_bg_sim_paints_the_subjects_out(tmp_path: Path) -> None:
    pictures = [plain(RED), plain((0, 0, 0))]
    case = case_of(tmp_path, pictures, ["left", "Beach"], ["object", "background"])
    painter = Painter()
    video = VideoUnderTest.of_frames(case, np.stack([frame(RED, None), frame(None, None)] * 2))
    result = score(BgSim(num_frames=4), video, **models(encoder=Colours(), inpainter=painter))
    assert result.value == pytest.approx(1.0), "what is left is as black as the reference"
    assert len(painter.seeds) == 2, "only where a subject is"
    assert len(set(painter.seeds)) == 1, "the same frame, the same seed"
    assert not BgSim().applies(case_of(tmp_path, pictures[:1], ["left"]))


def test_masks_grow_by_a_square() -> None:
    mask = np.zeros((100, 100), bool)
    mask[50, 50] = mask[0, 99] = True
    larger = grown(mask, 3)
    assert larger.sum() == 49 + 16
    assert larger[47:54, 47:54].all()
    assert larger[:4, 96:].all()
    assert (~grown(~larger, 3))[50, 50]
    assert (grown(mask, 0) == mask).all()


def test_canvas_leak(tmp_path: Path) -> None:
    from anyref.methods.magref import compose
    from anyref.references import Reference

    rng = np.random.default_rng(0)
    references = [
        rng.integers(0, 255, (40, 30, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1) for _ in range(2)
    ]
    case = case_of(tmp_path, references)
    video = rng.integers(0, 255, (8, 96, 160, 3), dtype=np.uint8)
    clean = score(CanvasLeak(), VideoUnderTest.of_frames(case, video)).value
    assert clean is not None
    assert clean < 0.3
    for order in ((0, 1), (1, 0)):
        leaked = video.copy()
        leaked[0] = compose([Reference(references[number]) for number in order], 96, 160).image_YX3
        result = score(CanvasLeak(), VideoUnderTest.of_frames(case, leaked))
        assert result.value == pytest.approx(1.0), "dealt to any slot"
        faded = leaked.copy()
        faded[0] = (0.5 * leaked[0] + 0.5 * video[0]).astype(np.uint8)
        half = score(CanvasLeak(), VideoUnderTest.of_frames(case, faded)).value
        assert half is not None
        assert clean + 0.1 < half < 0.95
    late = video.copy()
    late[6] = compose([Reference(one) for one in references], 96, 160).image_YX3
    assert score(CanvasLeak(), VideoUnderTest.of_frames(case, late)).value == pytest.approx(clean)
    assert structural_similarity(video[0], video[0]) == pytest.approx(1.0)
    assert not CanvasLeak().applies(case_of(tmp_path, references * 6)), "twelve references have no canvas"


def test_grey_leak(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    video = rng.integers(0, 255, (3, 40, 40, 3), dtype=np.uint8)
    case = case_of(tmp_path, [plain(RED)])
    assert score(GreyLeak(), VideoUnderTest.of_frames(case, video)).value == pytest.approx(0)
    video[1, :20] = 128
    result = score(GreyLeak(), VideoUnderTest.of_frames(case, video))
    assert result.strict == pytest.approx(18 / 40)
    assert result.value == pytest.approx(18 / 40 / 3)


def test_smoothness_guesses_every_second_frame(tmp_path: Path) -> None:
    def mean(first: Picture, second: Picture) -> Picture:
        return ((first.astype(int) + second) // 2).astype(np.uint8)

    levels = [0, 10, 20, 60, 40, 200]
    frames = np.stack([np.full((8, 8, 3), level, np.uint8) for level in levels])
    assert smoothness(frames, mean) == pytest.approx([1.0, 1 - 30 / 255]), "the last has nobody after it"
    case = case_of(tmp_path)
    frozen = VideoUnderTest.of_frames(case, frames[:1].repeat(9, 0))
    pytest.importorskip("cv2")
    assert score(FlowSmoothness(), frozen).value == 1.0
    cv2 = pytest.importorskip("cv2")
    noise = cv2.GaussianBlur(np.random.default_rng(0).random((64, 128)).astype(np.float32), (0, 0), 3)
    world = np.repeat(((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)[..., None], 3, 2)
    smooth = np.stack([world[:, 2 * t : 2 * t + 64] for t in range(9)])
    jerky = np.stack([world[:, s : s + 64] for s in (0, 10, 4, 14, 8, 18, 12, 22, 16)])
    values = [score(FlowSmoothness(), VideoUnderTest.of_frames(case, one)).value for one in (smooth, jerky)]
    assert values[0] is not None
    assert values[1] is not None
    assert values[0] > 0.97 > values[1] + 0.05


def test_vbench_is_asked_in_its_own_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(tmp_path)
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    video = VideoUnderTest(case, tmp_path / "a.mp4", 5, 16.0, MemoryFootage(frames))
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ValueError, match="flow_smoothness"):
        score(InterpolationSmoothness(), video)
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho loading\necho "score 0.987"\n')
    script.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(script))
    assert score(InterpolationSmoothness(), video).value == 0.987
    script.write_text("#!/bin/sh\necho no module named vbench >&2\nexit 1\n")
    with pytest.raises(ValueError, match="no module named vbench"):
        score(InterpolationSmoothness(), video)


def test_seven_metrics_pay_once_for_the_subjects(tmp_path: Path) -> None:
    places = Places()
    case = case_of(tmp_path, [plain(RED), plain(GREEN)], ("left", "right"))
    cache = FeatureCache(tmp_path / "cache", "abc")
    video = VideoUnderTest(case, Path(), 4, 16.0, MemoryFootage(np.stack([GOOD] * 4)), cache)
    first = score(SubjSim(), video, detector=places, segmenter=places, encoder=Colours())
    asked = places.num_pictures
    for metric in (IdentityMargin(), IdentityDrift(), DuplicateSubjects(), S2VConsistency()):
        score(metric, video, detector=places, segmenter=places, encoder=Colours())
    score(Coverage(), video, detector=places, segmenter=places)
    assert places.num_pictures == asked
    again = score(SubjSim(), video, detector=places, segmenter=places, encoder=Colours())
    assert again == first, "from the cache, the same to the digit"


def test_regions_are_cut_out_on_grey(tmp_path: Path) -> None:
    picture = frame(RED, None, ground=9)
    mask = np.zeros((24, 48), bool)
    mask[8:16, 4:8] = True
    square = cut_out(picture, mask)
    assert square.shape == (8, 8, 3)
    assert (square[:, 2:6] == RED).all()
    assert (square[:, :2] == 127).all()
    assert overlap(Box(0, 0, 4, 4), Box(0, 2, 4, 6)) == pytest.approx(1 / 3)
    video = two(tmp_path, [GOOD] * 2)
    found = find(video, finder(models(), 0.35), ["right", "left", "right"], (0, 1))
    assert [(one.frame, one.query) for one in found] == [(0, 0), (0, 2), (0, 1), (1, 0), (1, 2), (1, 1)]
    assert box_of(found[0].subject_mask) == found[0].box

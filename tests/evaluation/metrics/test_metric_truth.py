"""Each diagnostic moves the way it must where the answer is known: puppets with ground truth, changed on purpose.

The regions are the world's own; who resembles whom is told by the shipped identity encoder, which never saw a generated frame.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_fakes import CARD, Truth, moved, puppets_case, score, truth_of
from numpy.typing import NDArray
from PIL import Image

from anyref.evaluation.metrics import VideoUnderTest
from anyref.evaluation.metrics.canvas_leak import CanvasLeak
from anyref.evaluation.metrics.copy_paste import CopyPaste
from anyref.evaluation.metrics.coverage import Coverage
from anyref.evaluation.metrics.duplicate_subjects import DuplicateSubjects
from anyref.evaluation.metrics.flow_smoothness import FlowSmoothness
from anyref.evaluation.metrics.grey_leak import GreyLeak
from anyref.evaluation.metrics.identity_drift import IdentityDrift
from anyref.evaluation.metrics.identity_margin import IdentityMargin
from anyref.evaluation.metrics.motion_magnitude import MotionMagnitude
from anyref.evaluation.metrics.s2v_consistency import S2VConsistency
from anyref.evaluation.metrics.subj_sim import SubjSim
from anyref.evaluation.metrics.subject_consistency import SubjectConsistency
from anyref.perception import Picture
from anyref.puppets import identity, judging
from anyref.samples import Sample
from anyref.worlds import PuppetWorld

WORLD = PuppetWorld("test", seed=0, num_frames=9)
WEIGHTS = Path(identity.__file__).parent / "weights" / "identity.safetensors"
pytestmark = pytest.mark.skipif(not WEIGHTS.exists(), reason="the identity encoder is not in this checkout")


class Identity:
    """The shipped encoder behind the protocol."""

    card = CARD

    def __init__(self) -> None:
        self.encoder = identity.load(WEIGHTS)

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        return judging.embed(self.encoder, pictures)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise AssertionError("no words are compared")


@pytest.fixture(scope="module")
def who() -> Identity:
    return Identity()


def clips(count: int, subjects: int, start: int = 0) -> list[Sample]:
    """Clips of different kinds of subjects that are seen throughout."""
    found: list[Sample] = []
    index = start
    while len(found) < count:
        clip = WORLD.clip(index, num_subjects=subjects, background_reference=False, clothing_reference=False)
        index += 1
        seen = all(one.masks_FYX.sum(axis=(1, 2)).min() > 60 for one in clip.subjects)
        if seen and len({one.label for one in clip.subjects}) == subjects and len(clip.subjects) == subjects:
            found.append(clip)
    return found


def video(case: Any, frames: NDArray[np.uint8]) -> VideoUnderTest:
    return VideoUnderTest.of_frames(case, frames, WORLD.fps)


def both(truth: Truth, **more: Any) -> dict[str, Any]:
    return {"detector": truth, "segmenter": truth, **more}


def test_swapped_references_make_every_margin_negative(tmp_path: Path, who: Identity) -> None:
    for clip in clips(3, 2):
        truth = truth_of(clip)
        right = score(
            IdentityMargin(),
            video(puppets_case(tmp_path, clip), clip.frames_FYX3),
            **both(truth, encoder=who),
        )
        wrong_case = puppets_case(tmp_path, clip, order=(1, 0))
        swapped = score(IdentityMargin(), video(wrong_case, clip.frames_FYX3), **both(truth, encoder=who))
        assert right.value is not None
        assert right.value > 0.2
        assert swapped.value == pytest.approx(-right.value, abs=1e-5)
        wrong = score(S2VConsistency(), video(wrong_case, clip.frames_FYX3), **both(truth, encoder=who))
        assert wrong.value is not None
        assert wrong.strict is not None
        assert wrong.value > wrong.strict + 0.2, "Kaleido's maximum over references does not see the swap"


def test_a_missing_subject_costs_coverage_and_strict_scores(tmp_path: Path, who: Identity) -> None:
    for clip in clips(3, 2, 50):
        case, absent = puppets_case(tmp_path, clip), truth_of(clip, without=(1,))
        there = score(Coverage(), video(case, clip.frames_FYX3), **both(truth_of(clip)))
        gone = score(Coverage(), video(case, clip.frames_FYX3), **both(absent))
        assert (there.value, gone.value) == (1.0, 0.5)
        assert gone.details["never_found"] == [1]
        present = score(SubjSim(), video(case, clip.frames_FYX3), **both(truth_of(clip), encoder=who))
        without = score(SubjSim(), video(case, clip.frames_FYX3), **both(absent, encoder=who))
        assert without.strict is not None
        assert present.strict is not None
        assert without.strict < 0.75 * present.strict
        assert without.value == pytest.approx(present.details["per_reference"][0], abs=1e-6)  # type: ignore[index]


def pasted(clip: Sample) -> tuple[NDArray[np.uint8], Truth] | None:
    """The clip with its subject replaced by the reference itself, turned a little more in each frame; None where it has no cut-out."""
    subject, cut = clip.subjects[0], clip.subjects[0].references[0].image
    if cut.shape[2] == 3:
        return None
    frames, truth = clip.frames_FYX3.copy(), Truth({})
    for number, frame in enumerate(frames):
        mask, (top, left, bottom, _) = subject.masks_FYX[number], subject.boxes_F4[number]
        frame[mask] = frame[~mask].mean(axis=0)
        scale = (bottom - top) / cut.shape[0]
        size = (max(8, round(cut.shape[1] * scale)), max(8, round(cut.shape[0] * scale)))
        layer = Image.new("RGBA", (frame.shape[1], frame.shape[0]))
        layer.paste(Image.fromarray(cut).resize(size, Image.Resampling.BOX), (int(left), int(top)))
        layer = layer.rotate(number - 4, Image.Resampling.BILINEAR, center=(int(left), int(bottom)))
        alpha = np.asarray(layer)[..., 3:] / 255.0
        frame[:] = np.rint(np.asarray(layer)[..., :3] * alpha + frame * (1 - alpha))
        truth.learn(frame, [(subject.label, np.asarray(layer)[..., 3] >= 128)])
    return frames, truth


def test_a_pasted_reference_is_told_from_one_drawn_anew(tmp_path: Path) -> None:
    drawn_anew, copies = [], []
    for clip in clips(12, 1, 100):
        made = pasted(clip)
        if made is None:
            continue
        case = puppets_case(tmp_path, clip)
        natural = score(CopyPaste(num_frames=3), video(case, clip.frames_FYX3), **both(truth_of(clip)))
        copied = score(CopyPaste(num_frames=3), video(case, made[0]), **both(made[1]))
        assert natural.value is not None
        assert copied.value is not None
        drawn_anew.append(natural.value)
        copies.append(copied.value)
    assert len(copies) >= 5
    assert np.mean(np.array(copies) > drawn_anew) >= 0.9
    assert np.mean(copies) > np.mean(drawn_anew) + 0.15


def test_a_frozen_video_is_consistent_smooth_and_still(tmp_path: Path, who: Identity) -> None:
    moving = [clip for clip in clips(6, 1, 150) if np.ptp(clip.frames_FYX3.astype(int), axis=0).mean() > 3]
    assert len(moving) >= 2
    for clip in moving[:2]:
        case = puppets_case(tmp_path, clip)
        frozen = np.repeat(clip.frames_FYX3[:1], 9, axis=0)
        truth = truth_of(clip)
        assert score(SubjectConsistency(), video(case, frozen), encoder=who).value == pytest.approx(
            1, abs=1e-5
        )
        alive = score(SubjectConsistency(), video(case, clip.frames_FYX3), encoder=who).value
        assert alive is not None
        assert alive < 0.9999
        assert score(FlowSmoothness(), video(case, frozen)).value == 1
        assert score(MotionMagnitude(), video(case, frozen)).value == pytest.approx(0, abs=1e-3)
        drift = score(IdentityDrift(), video(case, frozen), **both(truth, encoder=who))
        assert drift.value == pytest.approx(0, abs=1e-5)


def test_a_second_self_is_counted(tmp_path: Path, who: Identity) -> None:
    counted = []
    for clip in clips(30, 1, 200):
        case, subject = puppets_case(tmp_path, clip), clip.subjects[0]
        left, right = int(subject.boxes_F4[:, 1].min()), int(subject.boxes_F4[:, 3].max())
        width = int((subject.boxes_F4[:, 3] - subject.boxes_F4[:, 1]).max())
        if max(left, 96 - right) < width:
            continue  # no room for another
        shift = -width if left >= width else width
        alone = score(DuplicateSubjects(), video(case, clip.frames_FYX3), **both(truth_of(clip), encoder=who))
        assert alone.value == 0
        frames, truth = clip.frames_FYX3.copy(), Truth({})
        for number, mask in enumerate(subject.masks_FYX):
            frames[number], second = moved(frames[number], mask, (0, shift))
            truth.learn(frames[number], [(subject.label, mask & ~second), (subject.label, second)])
        counted.append(score(DuplicateSubjects(), video(case, frames), **both(truth, encoder=who)).value)
    assert len(counted) >= 3
    assert counted == [1.0] * len(counted)


def test_a_leaked_canvas_and_leaked_grey_are_seen(tmp_path: Path) -> None:
    from anyref.methods.magref import compose
    from anyref.references import load_reference

    for clip in clips(3, 2, 250):
        case, frames = puppets_case(tmp_path, clip), clip.frames_FYX3
        references = [load_reference(one.path) for one in case.references]
        canvas = compose(references, *frames.shape[1:3]).image_YX3
        leaked = frames.copy()
        for number, share in enumerate((1.0, 0.6, 0.3)):
            leaked[number] = np.rint(share * canvas + (1 - share) * frames[number])
        clean = score(CanvasLeak(), video(case, frames)).value
        seen = score(CanvasLeak(), video(case, leaked))
        assert clean is not None
        assert clean < 0.5
        assert seen.value == pytest.approx(1.0)
        shown = np.array(seen.per_frame, float)
        assert shown[0] > shown[1] > shown[2]
        grey = frames.copy()
        grey[-2:, :24] = 127
        before, after = score(GreyLeak(), video(case, frames)), score(GreyLeak(), video(case, grey))
        assert before.strict is not None
        assert after.strict is not None
        assert after.strict > before.strict + 0.25


@pytest.mark.slow
def test_scores_follow_the_truth(tmp_path: Path, who: Identity) -> None:
    """Videos in which a known share of frames shows the right subject: rank correlation of each metric with that share."""
    stats = pytest.importorskip("scipy.stats")
    shares: list[float] = []
    scores: dict[str, list[float]] = {}
    rng = np.random.default_rng(0)
    for number, clip in enumerate(clips(24, 2, 300)):
        share = float(rng.choice([0, 0.25, 0.5, 0.75, 1.0]))
        stranger = clips(1, 2, 5000 + 40 * number)[0]
        right = rng.permutation(9) < round(9 * share)
        frames = np.where(right[:, None, None, None], clip.frames_FYX3, stranger.frames_FYX3)
        truth, names = truth_of(clip), [one.label for one in clip.subjects]
        for frame, mask in enumerate(np.stack([one.masks_FYX for one in stranger.subjects], axis=1)):
            truth.learn(stranger.frames_FYX3[frame], list(zip(names, mask, strict=True)))
            truth.known[next(reversed(truth.known))] += [
                (one.phrase, m) for one, m in zip(clip.subjects, mask, strict=True)
            ]
        case = puppets_case(tmp_path, clip)
        shares.append(float(right.mean()))
        for metric in (SubjSim(num_frames=9), S2VConsistency(num_frames=9), IdentityMargin(num_frames=9)):
            result = score(metric, video(case, frames), **both(truth, encoder=who))
            scores.setdefault(metric.name, []).append(result.value or 0.0)
            scores.setdefault(metric.name + " strict", []).append(result.strict or 0.0)
    for name, values in scores.items():
        correlation = float(stats.spearmanr(shares, values).statistic)
        print(f"{name:32s} {correlation:.3f}")
        assert correlation > 0.6, name


@pytest.mark.slow
def test_diagnostics_follow_the_truth(tmp_path: Path, who: Identity) -> None:
    """Videos in which a known share of frames has the defect: rank correlation of each diagnostic with that share."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    truths: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}

    def add(name: str, truth: float, value: float | None) -> None:
        truths.setdefault(name, []).append(truth)
        scores.setdefault(name, []).append(value or 0.0)

    for clip in clips(24, 1, 400):
        case, subject, defect = puppets_case(tmp_path, clip), clip.subjects[0], rng.random(9) < rng.random()
        share = float(defect.mean())
        absent = truth_of(clip)
        for number in np.flatnonzero(defect):
            absent.learn(clip.frames_FYX3[number], [])
        gone = score(Coverage(num_frames=9), video(case, clip.frames_FYX3), **both(absent))
        lost = {clip.frames_FYX3[number].tobytes() for number in np.flatnonzero(defect)}
        there = sum(frame.tobytes() not in lost for frame in clip.frames_FYX3) / 9
        add("anyref.coverage", there, gone.value)

        truth, frames = truth_of(clip), clip.frames_FYX3.copy()
        frames[defect, :24] = 127
        add("anyref.grey_leak", share, score(GreyLeak(), video(case, frames)).value)

        left, right = int(subject.boxes_F4[:, 1].min()), int(subject.boxes_F4[:, 3].max())
        width = int((subject.boxes_F4[:, 3] - subject.boxes_F4[:, 1]).max())
        if max(left, 96 - right) >= width:
            twice, known = clip.frames_FYX3.copy(), truth_of(clip)
            for number in np.flatnonzero(defect):
                mask = subject.masks_FYX[number]
                twice[number], second = moved(twice[number], mask, (0, -width if left >= width else width))
                known.learn(twice[number], [(subject.label, mask & ~second), (subject.label, second)])
            doubled = score(DuplicateSubjects(num_frames=9), video(case, twice), **both(known, encoder=who))
            add("anyref.duplicate_subjects", share, doubled.value)

        made = pasted(clip)
        if made is not None:
            mixed = np.where(defect[:, None, None, None], made[0], clip.frames_FYX3)
            truth.known.update(made[1].known)
            copied = score(CopyPaste(num_frames=9), video(case, mixed), **both(truth))
            add("anyref.copy_paste", share, copied.value)
    for name, values in scores.items():
        correlation = float(stats.spearmanr(truths[name], values).statistic)
        print(f"{name:32s} {correlation:.3f} of {len(values)}")
        assert correlation > 0.5, name

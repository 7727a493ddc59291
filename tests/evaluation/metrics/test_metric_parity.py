"""What the released code gives, to the digit: frame indices, formulas and tables of the published metrics."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_fakes import CARD, ByTable, Colours, Faces, Rater, Truth, box_of, case_of, grey_video, score

from anyref.evaluation.metrics import METRICS, VideoUnderTest, make_metric
from anyref.evaluation.metrics import frame_indices as indices
from anyref.evaluation.metrics.aesthetic import MagrefAesthetic, OpenS2VAesthetics
from anyref.evaluation.metrics.aesthetic_quality import AestheticQuality
from anyref.evaluation.metrics.background_consistency import BackgroundConsistency
from anyref.evaluation.metrics.face_sim import FaceSim
from anyref.evaluation.metrics.faces import frame_faces
from anyref.evaluation.metrics.gme_score import GmeScore
from anyref.evaluation.metrics.id_sim import IdSim
from anyref.evaluation.metrics.motion_amplitude import MotionAmplitude
from anyref.evaluation.metrics.motion_magnitude import MotionMagnitude
from anyref.evaluation.metrics.motion_smoothness import MotionSmoothness, artefacts, window
from anyref.evaluation.metrics.natural_score import CRITERIA, NaturalScore
from anyref.evaluation.metrics.nexus_score import NexusScore, asked, official
from anyref.evaluation.metrics.overall_consistency import OverallConsistency
from anyref.evaluation.metrics.sentence_consistency import SentenceConsistency, sentences
from anyref.evaluation.metrics.subject_consistency import SubjectConsistency, consistency
from anyref.perception import Box, Detection, Face


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_the_table_opens_and_says_what_it_needs(name: str) -> None:
    metric = make_metric(name)
    assert metric.version >= 1
    assert set(metric.models) == set(metric.defaults)
    from anyref.perception.catalogue import CATALOGUE

    known = {(entry.task, entry.name) for entry in CATALOGUE}
    assert {(metric.models[role], metric.defaults[role]) for role in metric.models} <= known


def test_frame_indices() -> None:
    assert indices.linspace(81)[:6] == (0, 2, 5, 7, 10, 12)
    assert indices.linspace(81)[-2:] == (77, 80)
    assert len(indices.linspace(81)) == 32
    assert indices.linspace(17)[:6] == (0, 0, 1, 1, 2, 2)
    assert indices.linspace(1, 4) == (0, 0, 0, 0)
    assert indices.every(81) == (0, 16, 32, 48, 64, 80)
    assert indices.middles(81) == (4, 14, 24, 34, 44, 54, 64, 75)
    assert indices.middles(3) == (0, 1, 2, 2, 2, 2, 2, 2)
    assert indices.strides(81) == tuple(range(0, 80, 5))
    assert indices.strides(95)[-1] == 75, "the release never reaches the end"
    assert indices.strides(5) == (0, 1, 2, 3, 4)


def test_vbench_consistency_is_half_to_the_first_and_half_to_the_one_before() -> None:
    vectors = np.array([[1, 0], [0, 1], [-1, 0], [0.6, 0.8]], np.float32)
    assert consistency(vectors) == pytest.approx([0.0, 0.0, (0 + 0.6) / 2])
    assert consistency(np.ones((5, 1), np.float32)) == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("metric", [SubjectConsistency(), BackgroundConsistency()])
def test_vbench_consistency_of_a_video(metric: Any, tmp_path: Path) -> None:
    table = {10: (1, 0), 20: (0.6, 0.8)}
    case = case_of(tmp_path)
    result = score(metric, VideoUnderTest.of_frames(case, grey_video([10, 20, 20])), encoder=ByTable(table))
    assert result.value == pytest.approx((0.6 + (1 + 0.6) / 2) / 2)
    assert result.frame_indices == (1, 2)
    frozen = score(metric, VideoUnderTest.of_frames(case, grey_video([10] * 40)), encoder=ByTable(table))
    assert frozen.value == pytest.approx(1.0)
    one = score(metric, VideoUnderTest.of_frames(case, grey_video([10])), encoder=ByTable(table))
    assert one.status == "not_applicable"


def test_aesthetics_differ_in_frames_and_scale(tmp_path: Path) -> None:
    video = VideoUnderTest.of_frames(case_of(tmp_path), grey_video([0] * 32 + [255] * 32 + [51]))
    everything = score(MagrefAesthetic(), video, aesthetic=Rater())
    assert everything.value == pytest.approx((32 * 10 + 2) / 65)
    sampled = score(OpenS2VAesthetics(), video, aesthetic=Rater())
    assert sampled.frame_indices == indices.linspace(65)
    assert sampled.value == pytest.approx((10 * sum(32 <= i < 64 for i in indices.linspace(65)) + 2) / 32)
    assert score(AestheticQuality(), video, aesthetic=Rater()).value == pytest.approx((32 * 10 + 2) / 650)


def test_gme_score_counts_a_repeated_frame_as_often_as_the_release(tmp_path: Path) -> None:
    encoder = ByTable({10: (1, 0), 20: (0, 1), 30: (0, 1)})
    video = VideoUnderTest.of_frames(case_of(tmp_path), grey_video([10, 20, 30]))
    result = score(GmeScore(), video, encoder=encoder)
    assert result.value == pytest.approx(sum(i == 0 for i in indices.linspace(3)) / 32)
    assert encoder.num_pictures == 3


def test_nexus_table() -> None:
    """Finding a subject in more frames lowers the release's score; the suite then clips at 0.05 and divides by it."""
    for frames, shown in ((32, 0.437), (16, 0.875), (14, 1.0), (1, 1.0)):
        assert min(official([0.7] * frames, frames), 0.05) / 0.05 == pytest.approx(shown, abs=6e-4)
    assert official([], 3) == 0


class ByLevel:
    """Finds one box in each frame whose grey level is a score in percent."""

    card = CARD

    def detect(self, picture: Any, phrases: Any) -> list[Detection]:
        level = round(float(picture.mean())) / 100
        return [Detection(number, Box(0, 0, 8, 8), level) for number in range(len(phrases))] if level else []


def test_nexus_keeps_what_passes_both_thresholds(tmp_path: Path) -> None:
    reference = np.full((16, 16, 3), 70, np.uint8)
    case = case_of(tmp_path, [reference], ["cat"])
    # 70: kept. 55: a box, not kept. 40: below the detector's threshold. 0: nothing.
    frames = grey_video([70] * 8 + [55] * 8 + [40] * 8 + [0] * 8)
    table = {70: (0.8, 0.6), 55: (1, 0), 40: (1, 0), 0: (1, 0)}
    result = score(
        NexusScore(), VideoUnderTest.of_frames(case, frames), detector=ByLevel(), encoder=ByTable(table)
    )
    assert result.value == pytest.approx(1.0 / 16)
    assert result.strict == pytest.approx(8 / 32)
    assert result.details["frames_with_box"] == 16
    unlike_words = {**table, 70: (0.29, 0.957)}
    dropped = score(
        NexusScore(),
        VideoUnderTest.of_frames(case, frames),
        detector=ByLevel(),
        encoder=ByTable(unlike_words),
    )
    assert (dropped.value, dropped.strict, dropped.status) == (0.0, 0.0, "missed")


def test_nexus_asks_for_what_the_release_asks_for(tmp_path: Path) -> None:
    pictures = [np.zeros((8, 8, 3), np.uint8)] * 2
    face = case_of(tmp_path, pictures, ["Man", "Dog"], ["face", "object"], category="faceobj")
    assert asked(face) == {1: "Dog"}
    human = case_of(tmp_path, pictures, ["Woman", "Hat"], ["human", "object"], category="humanobj")
    assert asked(human) == {0: "human", 1: "Hat"}
    single = case_of(tmp_path, pictures[:1], ["Man"], ["face"], category="singleface")
    assert not NexusScore().applies(single), "where the release crashes"


def test_nexus_shows_the_encoder_labels_as_written_and_detectors_lower_case(tmp_path: Path) -> None:
    heard: dict[str, list[str]] = {}

    class Detects(ByLevel):
        def detect(self, picture: Any, phrases: Any) -> list[Detection]:
            heard["detector"] = list(phrases)
            return super().detect(picture, phrases)

    class Encodes(ByTable):
        def encode_text(self, texts: Any) -> Any:
            heard["encoder"] = list(texts)
            return super().encode_text(texts)

    case = case_of(tmp_path, [np.full((16, 16, 3), 70, np.uint8)] * 2, ["Dog", "Red Hat"])
    video = VideoUnderTest.of_frames(case, grey_video([70]))
    score(NexusScore(), video, detector=Detects(), encoder=Encodes({70: (0.8, 0.6)}))
    assert heard == {"detector": ["dog", "red hat"], "encoder": ["Dog", "Red Hat"]}


def test_face_sim_drops_what_the_release_drops(tmp_path: Path) -> None:
    reference = np.full((16, 16, 3), 200, np.uint8)
    case = case_of(tmp_path, [reference], ["man"], ["human"], category="singlehuman")
    # Half of the frames alike, a quarter opposite (clamped to 0 and left out), a quarter without a face.
    faces = Faces({200: [(1, 0)], 100: [(0.6, 0.8), (1, 0)], 50: [(-1, 0.01)]})
    video = VideoUnderTest.of_frames(case, grey_video([100] * 16 + [50] * 8 + [0] * 8))
    result = score(FaceSim(), video, faces=faces)
    assert result.value == pytest.approx(0.6, abs=1e-6)
    assert result.strict == pytest.approx(0.3, abs=1e-6)
    nobody = score(FaceSim(), VideoUnderTest.of_frames(case, grey_video([0] * 3)), faces=faces)
    assert (nobody.value, nobody.strict, nobody.status) == (0.0, 0.0, "missed")
    without = score(FaceSim(), VideoUnderTest.of_frames(case, grey_video([100])), faces=Faces({}))
    assert without.status == "not_applicable"
    for category, applies in (("multihuman", False), ("singleobj", False), ("faceobj", True), ("", True)):
        again = case_of(tmp_path, [reference], ["man"], ["human"], category=category)
        assert FaceSim().applies(again) is applies


def test_id_sim_deals_faces_to_references_and_says_what_is_missing(tmp_path: Path) -> None:
    pictures = [np.full((16, 16, 3), level, np.uint8) for level in (200, 210, 220)]
    case = case_of(tmp_path, pictures, ["man", "woman", "ball"], ["human", "face", "object"])
    faces = Faces(
        {
            200: [(1, 0, 0)],
            210: [(0, 1, 0)],
            # Both are nearer to the first reference; each face has one owner.
            100: [(0.9, 0.3, 0.316), (0.8, 0.0, 0.6)],
            50: [(0.0, 0.6, 0.8)],
        }
    )
    video = VideoUnderTest.of_frames(case, grey_video([100] + [0] * 15 + [50] + [0] * 16))
    result = score(IdSim(), video, faces=faces)
    assert result.frame_indices == (0, 16, 32)
    # Frame 0: man 0.8, woman 0.3. Frame 16: woman 0.6. Frame 32: nobody.
    assert result.value == pytest.approx((0.8 + (0.3 + 0.6) / 2) / 2, abs=1e-3)
    assert result.strict == pytest.approx((0.8 + 0.3 + 0.6) / 6, abs=1e-3)
    assert result.details["coverage"] == pytest.approx(3 / 6)
    assert result.per_frame[2] is None
    nobody = score(IdSim(), VideoUnderTest.of_frames(case, grey_video([0])), faces=faces)
    assert (nobody.value, nobody.strict, nobody.status) == (0.0, 0.0, "missed")
    assert not IdSim().applies(case_of(tmp_path, pictures[2:], ["ball"]))


def test_q_align_artefacts() -> None:
    assert artefacts(np.array([0.5, 0.5, 0.53, 0.53, 0.51])) == [1, 2]
    assert artefacts(np.array([0.5, 0.5249])) == [], "above the threshold, not at it"
    assert artefacts(np.array([0.0, 1.0, 0.0])) == [0, 1, 2]
    assert [window(frame, 4) for frame in range(4)] == [(0, 0, 0), (0, 1, 2), (1, 2, 3), (2, 2, 3)]
    assert [window(frame, 2) for frame in range(2)] == [(0, 0, 0), (0, 1, 1)]


class WindowMean:
    """Rates a window by its mean grey level over 255, and keeps what it was shown."""

    card = CARD

    def __init__(self) -> None:
        self.shown: list[tuple[int, ...]] = []

    def rate_windows(self, windows: Any) -> Any:
        self.shown += [tuple(round(float(one.mean())) for one in each) for each in windows]
        return np.array([np.mean([one.mean() for one in each]) / 255 for each in windows], np.float32)


def test_motion_smoothness_shows_the_release_s_windows(tmp_path: Path) -> None:
    rater = WindowMean()
    levels = list(range(100, 140))
    video = VideoUnderTest.of_frames(case_of(tmp_path), grey_video(levels))
    assert score(MotionSmoothness(), video, video_quality=rater).value == 1.0
    assert rater.shown == [tuple(levels[i] for i in window(frame, 40)) for frame in range(40)]
    cut = VideoUnderTest.of_frames(case_of(tmp_path), grey_video([0] * 10 + [255] * 10))
    # A hard cut: three windows' ratings jump, so the four frames around it count.
    assert score(MotionSmoothness(), cut, video_quality=WindowMean()).value == pytest.approx(1 - 4 / 20)


def texture(size: int) -> np.ndarray:
    """Blobs that are as large as 2 pixels of a picture of 96."""
    cv2 = pytest.importorskip("cv2")
    noise = cv2.GaussianBlur(
        np.random.default_rng(0).random((size, size)).astype(np.float32), (0, 0), size / 144
    )
    smooth = (noise - noise.min()) / (noise.max() - noise.min())
    return np.repeat((smooth * 255).astype(np.uint8)[..., None], 3, axis=2)


def pan(offsets: list[tuple[int, int]], size: int = 96) -> np.ndarray:
    world = texture(3 * size)
    places = [(size + rows, size + columns) for rows, columns in offsets]
    return np.stack([world[top : top + size, left : left + size] for top, left in places])


def zoom(num_frames: int, size: int = 96) -> np.ndarray:
    cv2 = pytest.importorskip("cv2")
    world = texture(3 * size)
    cuts = [world[size - t : 2 * size + t, size - t : 2 * size + t] for t in range(num_frames)]
    return np.stack([cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA) for cut in cuts])


def test_motion_amplitude_is_net_translation(tmp_path: Path) -> None:
    def amplitude(offsets: list[tuple[int, int]], size: int = 96) -> float:
        value = score(
            MotionAmplitude(), VideoUnderTest.of_frames(case_of(tmp_path), pan(offsets, size))
        ).value
        assert value is not None
        return value

    right = amplitude([(0, 2 * t) for t in range(9)])
    assert right == pytest.approx(0.995, abs=0.02)
    assert amplitude([(-2 * t, 2 * t) for t in range(9)]) == pytest.approx(0.0, abs=0.02)
    assert amplitude([(0, 2 * (t % 2)) for t in range(9)]) == pytest.approx(0.0, abs=0.02)
    zoomed = score(MotionAmplitude(), VideoUnderTest.of_frames(case_of(tmp_path), zoom(9)))
    assert zoomed.value == pytest.approx(0.005, abs=0.02)
    assert amplitude([(0, 4 * t) for t in range(9)], 192) == pytest.approx(2 * right, rel=0.03)
    assert amplitude([(0, 4 * t) for t in range(5)]) == pytest.approx(1.99, abs=0.02), "half the frame rate"


def test_motion_magnitude_knows_motion_from_standing_still(tmp_path: Path) -> None:
    def magnitude(offsets: list[tuple[int, int]], size: int = 96, fps: float = 16.0) -> float:
        video = VideoUnderTest.of_frames(case_of(tmp_path), pan(offsets, size), fps)
        value = score(MotionMagnitude(), video).value
        assert value is not None
        return value

    right = magnitude([(0, 2 * t) for t in range(9)])
    assert right == pytest.approx(2 / (96 * 2**0.5) * 16, rel=0.05)
    assert magnitude([(-2 * t, 2 * t) for t in range(9)]) == pytest.approx(right * 2**0.5, rel=0.05)
    assert magnitude([(0, 2 * (t % 2)) for t in range(9)]) == pytest.approx(right, rel=0.05)
    assert magnitude([(0, 4 * t) for t in range(5)], 192, 8.0) == pytest.approx(right / 2, rel=0.05)
    assert magnitude([(0, 0)] * 4) == pytest.approx(0, abs=1e-3)
    unknown = VideoUnderTest.of_frames(case_of(tmp_path), pan([(0, 0)] * 3), 0.0)
    assert score(MotionMagnitude(), unknown).status == "not_applicable"


class FacesByHeight:
    """Sees a face in pictures of at least so many rows."""

    card = CARD

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.seen: list[int] = []

    def faces(self, picture: Any) -> list[Face]:
        self.seen.append(picture.shape[0])
        return (
            [Face(Box(20, 20, 30, 30), 0.9, np.ones(1, np.float32))] if picture.shape[0] >= self.rows else []
        )


def test_frames_are_padded_where_the_release_pads_them_and_once(tmp_path: Path) -> None:
    video = VideoUnderTest.of_frames(case_of(tmp_path), np.zeros((1, 40, 40, 3), np.uint8))
    plain = FacesByHeight(60)
    assert frame_faces(video, plain, [0], padded=False) == [[]] and plain.seen == [40]
    once = FacesByHeight(60)
    ((face,),) = frame_faces(video, once, [0], padded=True)
    assert once.seen == [40, 60] and face.box == (10, 10, 20, 20)
    twice = FacesByHeight(90)
    assert frame_faces(video, twice, [0], padded=True) == [[]] and twice.seen == [40, 60]


class Answers:
    """A judge with its answers written down."""

    card = CARD

    def __init__(self, *answers: dict[str, float]) -> None:
        self.answers = list(answers)
        self.shown: list[tuple[int, ...]] = []
        self.seeds: list[int] = []

    def judge(self, frames: Any, prompt: str, instructions: str, seed: int = 0) -> dict[str, float]:
        assert all(criterion in instructions for criterion in CRITERIA)
        self.seeds.append(seed)
        self.shown.append(frames[0].shape)
        return self.answers[(len(self.shown) - 1) % len(self.answers)]


def test_natural_score_is_the_mean_of_three_answers(tmp_path: Path) -> None:
    judge = Answers(*({**dict.fromkeys(CRITERIA, 5.0), "realism": realism} for realism in (2.0, 3.0, 4.0)))
    frames = np.zeros((20, 32, 64, 3), np.uint8)
    result = score(NaturalScore(), VideoUnderTest.of_frames(case_of(tmp_path), frames), judge=judge)
    assert result.value == pytest.approx(3.0)
    assert result.strict == pytest.approx((4.6 - 1) / 4)
    assert judge.shown == [(256, 512, 3)] * 3
    assert judge.seeds == [0, 1, 2]
    bad = Answers({**dict.fromkeys(CRITERIA, 5.0), "physics": 7.0})
    with pytest.raises(ValueError, match="physics"):
        score(NaturalScore(), VideoUnderTest.of_frames(case_of(tmp_path), frames), judge=bad)


def test_viclip_scores_the_prompt_and_its_sentences(tmp_path: Path) -> None:
    pytest.importorskip("anyref.perception.viclip")
    case = case_of(tmp_path, prompt="255 0 0. 0 255 0")
    assert sentences("A cat. It jumps! \u4e00\u53ea\u732b\u3002\u5b83\u8df3\uff01 ... ") == [
        "A cat.", "It jumps!", "\u4e00\u53ea\u732b\u3002", "\u5b83\u8df3\uff01",
    ]  # fmt: skip

    class Video(Colours):
        num_frames = 8
        shown: tuple[int, ...] = ()

        def encode_video(self, frames: Any) -> Any:
            self.shown = tuple(int(one[0, 0, 1]) for one in frames)
            return self.encode([np.concatenate(frames)])[0]

        def encode_text(self, texts: Any) -> Any:
            return super().encode_text([text.strip(". ") for text in texts])

    frames = np.zeros((20, 8, 8, 3), np.uint8)
    frames[:, ..., 0], frames[:, ..., 1] = 255, np.arange(20)[:, None, None]
    model = Video()
    result = score(SentenceConsistency(), VideoUnderTest.of_frames(case, frames), video_text=model)
    assert model.shown == indices.middles(20)
    assert result.value == pytest.approx(0.5)
    red = case_of(tmp_path, prompt="255 0 0")
    assert score(
        OverallConsistency(), VideoUnderTest.of_frames(red, frames), video_text=model
    ).value == pytest.approx(1)
    stand_in = score(OverallConsistency(), VideoUnderTest.of_frames(red, frames), video_text=Colours())
    assert stand_in.value == pytest.approx(1)


class Anything(Colours):
    """Answers in every role: finds the left half, rates 5, paints nothing."""

    num_frames = 8

    def encode_text(self, texts: Any) -> Any:
        return np.stack([self.encode([np.full((4, 4, 3), len(text) % 256, np.uint8)])[0] for text in texts])

    def encode_video(self, frames: Any) -> Any:
        return self.encode([np.concatenate(frames)])[0]

    def detect(self, picture: Any, phrases: Any) -> list[Detection]:
        box = Box(0, 0, picture.shape[0], picture.shape[1] / 2)
        return [Detection(number, box, 0.9) for number in range(len(phrases))]

    def segment(self, picture: Any, boxes: Any) -> Any:
        return np.zeros((len(boxes), *picture.shape[:2]), bool)

    def faces(self, picture: Any) -> list[Face]:
        return [Face(Box(0, 0, 4, 4), 0.9, self.encode([picture])[0])]

    def rate(self, pictures: Any) -> Any:
        return np.full(len(pictures), 5, np.float32)

    def rate_windows(self, windows: Any) -> Any:
        return np.full(len(windows), 0.5, np.float32)

    def inpaint(self, picture: Any, hole: Any, prompt: str, seed: int) -> Any:
        return picture

    def judge(self, frames: Any, prompt: str, instructions: str, seed: int = 0) -> dict[str, float]:
        return dict.fromkeys(CRITERIA, 3.0)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"vbench.motion_smoothness"}))
@pytest.mark.parametrize("num_references", [0, 1, 12])
def test_nothing_stops_at_short_videos_and_odd_cases(name: str, num_references: int, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    metric = make_metric(name)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (8, 6, 3), dtype=np.uint8) for _ in range(num_references)]
    roles = ["human", "object", "face", "background"] * 3
    case = case_of(
        tmp_path, pictures, [""] * num_references, roles[:num_references], prompt="\u732b 255. Cat!"
    )
    for num_frames in (1, 2, 5):
        frames = rng.integers(0, 255, (num_frames, 16, 24, 3), dtype=np.uint8)
        if not metric.applies(case):
            return
        result = metric.score(
            VideoUnderTest.of_frames(case, frames), dict.fromkeys(metric.models, Anything())
        )
        assert result.status in {"ok", "not_applicable", "missed"}
        assert num_frames < 3 or result.status == "ok" or name == "opens2v.nexus_score"


def test_truth_finds_what_it_was_told() -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:5, 1:7] = True
    assert box_of(mask) == (2, 1, 5, 7)
    truth = Truth({})
    picture = np.zeros((8, 8, 3), np.uint8)
    truth.learn(picture, [("cat", mask)])
    assert truth.detect(picture, ["dog", "cat"])[0].phrase == 1

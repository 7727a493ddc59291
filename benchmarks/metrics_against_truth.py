"""How well each metric follows what is known: clips of the puppet world, changed on purpose by a known amount, scored by the embedded models.

    python benchmarks/metrics_against_truth.py [--clips 40]

A row is a metric and a change: Spearman's correlation of the metric with the amount, 95 % bootstrap over clips, and the sign it must have.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from anyref.evaluation.answering import Answerers, Wishes
from anyref.evaluation.cases import EvaluationCase, read_cases
from anyref.evaluation.features import FeatureCache
from anyref.evaluation.metrics import MemoryFootage, VideoUnderTest, make_metric
from anyref.evaluation.world_cases import write_world_cases
from anyref.media import read_video
from anyref.methods.magref import compose
from anyref.references import load_reference
from anyref.worlds import PuppetWorld

Frames = NDArray[np.uint8]
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
DRAWS = 2000


@dataclass(frozen=True)
class Clip:
    """A case, its own clip, the clip of another case of the same kind, and the amount of change."""

    case: EvaluationCase
    own: Frames
    other: Frames
    level: float
    rng: np.random.Generator


def _some(clip: Clip, changed: Frames) -> Frames:
    """The changed frames in a share of the places."""
    where = clip.rng.permutation(len(clip.own)) < round(clip.level * len(clip.own))
    return np.where(where[:, None, None, None], changed, clip.own)


def another(clip: Clip) -> Frames:
    """Frames of another case's clip: its subjects, its place."""
    return _some(clip, clip.other)


def replaced_at_the_end(clip: Clip) -> Frames:
    """Half of the frames at most: a video that is another's nearly from the start does not drift."""
    kept = len(clip.own) - round(clip.level * len(clip.own) / 2)
    return np.concatenate([clip.own[:kept], clip.other[kept:]])


def slowed(clip: Clip) -> Frames:
    """Motion at a share of its speed; 0 stands still."""
    return clip.own[np.rint(clip.level * np.arange(len(clip.own))).astype(int)]


def shaken(clip: Clip) -> Frames:
    moved = [np.roll(frame, clip.rng.integers(-5, 6, 2), axis=(0, 1)) for frame in clip.own]
    return _some(clip, np.stack(moved))


def blurred(clip: Clip) -> Frames:
    blur = ImageFilter.GaussianBlur(3 * clip.level)
    return np.stack([np.asarray(Image.fromarray(frame).filter(blur)) for frame in clip.own])


def with_canvas(clip: Clip) -> Frames:
    """The canvas of the references shines through the first frames."""
    canvas = compose(
        [load_reference(one.path) for one in clip.case.references], *clip.own.shape[1:3]
    ).image_YX3
    frames = clip.own.astype(float)
    frames[:3] = clip.level * canvas + (1 - clip.level) * frames[:3]
    return np.rint(frames).astype(np.uint8)


def with_grey(clip: Clip) -> Frames:
    grey = clip.own.copy()
    grey[:, :24] = 127
    return _some(clip, grey)


@dataclass(frozen=True)
class Change:
    """What is done to clips, of which kinds of cases, and which metrics must rise (+1) or fall (-1) with it."""

    change: Callable[[Clip], Frames]
    single: bool
    expected: dict[str, int]
    place: bool = False


CHANGES = {
    "another person": Change(
        another,
        True,
        dict.fromkeys(
            (
                "magref.id_sim",
                "opens2v.face_sim",
                "magref.subj_sim",
                "kaleido.s2v_consistency",
                "opens2v.nexus_score",
            ),
            -1,
        )
        | {"opens2v.gme_score": -1},
    ),
    "others, two or three": Change(
        another, False, {"anyref.identity_margin": -1, "magref.subj_sim": -1, "kaleido.s2v_consistency": -1}
    ),
    "another place": Change(another, False, {"magref.bg_sim": -1}, place=True),
    "another at the end": Change(replaced_at_the_end, True, {"anyref.identity_drift": -1}),
    "speed": Change(
        slowed,
        True,
        {"opens2v.motion_amplitude": 1, "anyref.motion_magnitude": 1, "vbench.subject_consistency": -1},
    ),
    "shaken": Change(shaken, True, {"anyref.flow_smoothness": -1, "vbench.background_consistency": -1}),
    "blurred": Change(blurred, True, {"magref.aesthetic": -1}),
    "canvas": Change(with_canvas, False, {"anyref.canvas_leak": 1}),
    "grey": Change(with_grey, True, {"anyref.grey_leak": 1}),
}


def clips_of(cases: Sequence[EvaluationCase], folder: Path, change: Change, count: int) -> list[Clip]:
    kind = "multi_place" if change.place else "single" if change.single else "multi"
    chosen = [case for case in cases if case.key.startswith(kind)][:count]
    own = [np.stack(read_video(folder / "clips" / f"{case.key}.mp4")[0]) for case in chosen]
    return [
        Clip(case, own[n], own[(n + 1) % len(own)], LEVELS[n % len(LEVELS)], np.random.default_rng(n))
        for n, case in enumerate(chosen)
    ]


def interval(truth: NDArray[np.float64], scores: NDArray[np.float64]) -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        rows = rng.integers(len(truth), size=len(truth))
        if np.ptp(truth[rows]) and np.ptp(scores[rows]):
            drawn.append(spearmanr(truth[rows], scores[rows]).statistic)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(spearmanr(truth, scores).statistic), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=40)
    count = parser.parse_args().clips
    answerers, wishes = Answerers(), Wishes("puppets")
    print("| change | metric | correlation | must | of |\n| --- | --- | --- | --- | --- |")
    with TemporaryDirectory() as name:
        folder = Path(name)
        world = PuppetWorld("test", 0, 64, 96, 17)
        write_world_cases(world, folder, num_single=count, num_multi=4 * count, clips=True)
        cases = read_cases(folder / "cases.jsonl")
        for title, change in CHANGES.items():
            tests = []
            for number, clip in enumerate(clips_of(cases, folder, change, count)):
                frames = change.change(clip)
                features = FeatureCache(folder / "features", f"{title}-{number}")
                tests.append(
                    (
                        clip.level,
                        VideoUnderTest(clip.case, Path(), len(frames), 8.0, MemoryFootage(frames), features),
                    )
                )
            for key, sign in change.expected.items():
                metric = make_metric(key)
                models = {role: answerers.model(asked) for role, asked in wishes.asked(metric).items()}
                pairs = [
                    (level, result.value if result.strict is None else result.strict)
                    for level, test in tests
                    if metric.applies(test.case)
                    for result in (metric.score(test, models),)
                ]
                known = [(level, value) for level, value in pairs if value is not None]
                if len(known) < 10:
                    print(f"| {title} | {key} | too few: {len(known)} of {len(tests)} | | |", flush=True)
                    continue
                truth, scores = (np.array(column, float) for column in zip(*known, strict=True))
                value, low, high = interval(truth, scores)
                print(
                    f"| {title} | {key} | {value:+.2f} [{low:+.2f}, {high:+.2f}] | {'+' if sign > 0 else '-'} | {len(known)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

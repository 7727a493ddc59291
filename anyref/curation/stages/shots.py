"""S1: find the cuts and fades of a film, and divide its shots into clips of a length to train on.

PySceneDetect decides, on numbers that S0 stored: AdaptiveDetector for hard cuts (it holds still when the camera or a hand moves fast, where
ContentDetector does not) and ThresholdDetector for fades through black, which the other cannot see.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anyref.curation.records import Clip, Rectangle, to_json
from anyref.curation.signals import Signals
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store


@dataclass(frozen=True)
class Cuts:
    """Where shots begin, as frame indices; the first shot's 0 is not among them."""

    adaptive: tuple[int, ...]
    """Hard cuts as AdaptiveDetector gives them."""
    fades: tuple[int, ...]
    """Middles of fades through black as ThresholdDetector gives them."""
    merged: tuple[int, ...]
    """Both, each fade once: hard cuts inside a fade are part of it."""


@dataclass(frozen=True)
class Shots:
    """Reads a film's `signals`; writes `cuts`."""

    adaptive_threshold: float = 3.0
    min_content: float = 15.0
    window: int = 2
    fade_level: float = 12.0
    """Mean brightness, 0 to 255, below which a frame counts as black."""
    min_shot_frames: int = 15
    resources: Resources = field(default=Resources())
    name: str = field(default="shots", init=False)
    version: int = field(default=1, init=False)
    reads: frozenset[str] = field(default=frozenset({"signals", "source.fps"}), init=False)
    writes: frozenset[str] = field(default=frozenset({"cuts"}), init=False)

    def open(self) -> "_CutWorker":
        """No models."""
        return _CutWorker(self)


@dataclass(frozen=True)
class _CutWorker:
    stage: Shots

    def __call__(self, record: Record, store: Store) -> Outcome:
        signals = Signals.from_bytes(store.read(record["signals"]))
        cuts = find_cuts(signals, record["source.fps"], self.stage)
        return Outcome.ok(record.with_values({"cuts": to_json(cuts)}))


@dataclass(frozen=True)
class Clips:
    """Reads a film's `source`, `signals` and `cuts`; gives its clips, each with a `clip` (a `records.Clip`)."""

    min_s: float = 2.0
    max_s: float = 10.0
    """Longer shots are divided evenly into the fewest clips of at most this, as `quality` measures it: to the end of the last frame."""
    trim_s: float = 0.25
    """Left out on each side of a cut: codecs smear there, and a cut may be a frame off."""
    resources: Resources = field(default=Resources())
    name: str = field(default="clips", init=False)
    version: int = field(default=2, init=False)
    reads: frozenset[str] = field(default=frozenset({"source", "signals", "cuts"}), init=False)
    writes: frozenset[str] = field(default=frozenset({"clip"}), init=False)

    def open(self) -> "_ClipWorker":
        """No models."""
        return _ClipWorker(self)


@dataclass(frozen=True)
class _ClipWorker:
    stage: Clips

    def __call__(self, record: Record, store: Store) -> Outcome:
        signals = Signals.from_bytes(store.read(record["signals"]))
        whole = Rectangle(0, 0, record["source.height"], record["source.width"])
        kept = {name: value for name, value in record.values.items() if name != "cuts"}
        clips = [
            Record(
                f"{record.id}-{clip.start_frame:07d}-{clip.end_frame:07d}",
                "clip",
                {**kept, "clip": to_json(clip)},
            )
            for clip in divide(signals, record["cuts"], whole, self.stage, record["source.fps"])
        ]
        if not clips:
            return Outcome("dropped", f"no shot is as long as {self.stage.min_s:g} s")
        return Outcome.ok(*clips)


def find_cuts(signals: Signals, fps: float, settings: Shots) -> Cuts:
    """Cuts of a film from its signals, exactly those that PySceneDetect's detectors give on its frames."""
    try:
        from scenedetect import AdaptiveDetector, FrameTimecode, ThresholdDetector
    except ImportError as error:
        raise ValueError("PySceneDetect is not installed; run: pip install 'anyref[curation]'") from error

    class Stored(AdaptiveDetector):  # type: ignore[misc, unused-ignore]
        """Takes the score of a frame where others take the frame."""

        def _calculate_frame_score(self, timecode: Any, frame_img: Any) -> float:  # noqa: ARG002
            return float(frame_img[0])

    hard = Stored(
        adaptive_threshold=settings.adaptive_threshold,
        min_scene_len=settings.min_shot_frames,
        window_width=settings.window,
        min_content_val=settings.min_content,
    )
    fade = ThresholdDetector(threshold=settings.fade_level, min_scene_len=settings.min_shot_frames)
    found = []
    for detector, values_F in (
        (hard, signals.change_F3.mean(axis=1, dtype=np.float64)),
        (fade, signals.level_F),
    ):
        cuts = []
        times = [FrameTimecode(index, fps) for index in range(signals.num_frames)]
        for time, value in zip(times, values_F, strict=True):
            cuts += detector.process_frame(time, np.array([value], np.float64))
        cuts += detector.post_process(times[-1])
        found.append(tuple(sorted({int(cut.frame_num) for cut in cuts})))
    adaptive, fades = found
    merged = _merged(signals.level_F, adaptive, fades, settings)
    return Cuts(adaptive, fades, merged)


def divide(
    signals: Signals, cuts: dict[str, Any], whole: Rectangle, settings: Clips, fps: float | None = None
) -> list[Clip]:
    """The clips between these cuts, in order: trimmed, free of fades, each between `min_s` and `max_s` long.

    `fps` says how long the last frame lasts; without it, as long as the others of its shot do.
    """
    edges = [0, *cuts["merged"], signals.num_frames]
    hidden_F = _fading(signals.level_F, cuts["fades"])
    clips: list[Clip] = []
    for shot, (first, end) in enumerate(pairwise(edges)):
        start, stop = _trimmed(signals.time_F, hidden_F, first, end, settings.trim_s)
        if stop - start < 2:
            continue
        step = float(signals.time_F[stop - 1] - signals.time_F[start]) / (stop - 1 - start)
        span = float(signals.time_F[stop - 1] - signals.time_F[start]) + step
        if span < settings.min_s - 1e-6:
            continue
        for a, b in pairwise(_borders(signals.time_F, start, stop, 1 / fps if fps else step, settings.max_s)):
            clips.append(
                Clip(
                    start_frame=a,
                    end_frame=b,
                    start_pts=int(signals.pts_F[a]),
                    end_pts=int(signals.pts_F[b - 1]),
                    start_s=round(float(signals.time_F[a]), 6),
                    end_s=round(float(signals.time_F[b - 1]), 6),
                    num_frames=b - a,
                    shot=shot,
                    crop=whole,
                )
            )
    return clips


def _borders(time_F: NDArray[np.float64], start: int, stop: int, frame_s: float, max_s: float) -> list[int]:
    """Where the fewest even parts of a shot begin and end of which none is longer than `max_s`, the last frame of each lasting `frame_s`.

    Frames do not divide evenly: of 479 frames that last 19.98 s one half has 240, which last 10.01 s. A single frame may be longer: where
    the frame rate varies a picture can stand for as long as it likes.
    """
    span = float(time_F[stop - 1] - time_F[start]) + frame_s
    parts = max(1, int(np.ceil((span - 1e-6) / max_s)))
    while True:
        times = time_F[start] + span * np.arange(1, parts) / parts - 1e-6
        inner = np.searchsorted(time_F[start:stop], times) + start
        borders = np.unique([start, *inner, stop])
        lasting = time_F[borders[1:] - 1] - time_F[borders[:-1]] + frame_s
        if ((lasting <= max_s + 1e-6) | (np.diff(borders) == 1)).all():
            return [int(border) for border in borders]
        parts += 1


def _merged(
    level_F: NDArray[np.float32], adaptive: Sequence[int], fades: Sequence[int], settings: Shots
) -> tuple[int, ...]:
    """Fades, and the hard cuts outside of them: a ramp that is steep enough looks like a cut."""
    fading_F = _fading(level_F, fades)
    last = len(level_F) - 1
    kept = [c for c in adaptive if not fading_F[max(0, c - 2) : min(last, c + 2) + 1].any()]
    cuts: list[int] = []
    for cut in sorted({*kept, *fades}):
        if cut - (cuts[-1] if cuts else 0) >= min(settings.min_shot_frames, 2) or cut in fades:
            cuts.append(cut)
    return tuple(cut for cut in cuts if 0 < cut <= last)


_SLOWER = 0.15
"""Two frames that rise less than this share of the steepest rise end a fade."""


def _fading(level_F: NDArray[np.float32], fades: Sequence[int]) -> NDArray[np.bool_]:
    """True for the frames of a fade: outward from its middle as long as it gets brighter about as fast as it did."""
    fading = np.zeros(len(level_F), bool)
    for middle in fades:
        for step in (-1, 1):
            at, floor = middle, float(level_F[min(middle, len(level_F) - 1)])
            steepest = 0.0
            while 0 <= at < len(level_F) and float(level_F[at]) >= floor - 0.5:
                risen = float(level_F[at]) - floor
                still = level_F[at] > 12 and 0 < at + step < len(level_F)
                fading[at] = True
                floor = max(floor, float(level_F[at]))
                steepest = max(steepest, risen)
                at += step
                # A shot may go on getting brighter; that is slower than a fade by far.
                slow = max(0.25, _SLOWER * steepest)
                if still and risen < slow and 0 <= at < len(level_F) and float(level_F[at]) - floor < slow:
                    break
    return fading


class _Stretch(NamedTuple):
    start: int
    stop: int


def _trimmed(
    time_F: NDArray[np.float64], hidden_F: NDArray[np.bool_], first: int, end: int, trim_s: float
) -> "_Stretch":
    """What is left of the frames first <= i < end: fades off, then `trim_s` off each side that is not the film's own."""
    start, stop = first, end
    while start < stop and hidden_F[start]:
        start += 1
    while stop > start and hidden_F[stop - 1]:
        stop -= 1
    if start >= stop:
        return _Stretch(start, start)
    if start > 0:
        start = int(np.searchsorted(time_F[:stop], time_F[start] + trim_s - 1e-6))
    if stop < len(time_F) and stop > start:
        stop = int(np.searchsorted(time_F[:stop], time_F[stop - 1] - trim_s + 1e-6, side="right"))
    return _Stretch(start, max(start, stop))

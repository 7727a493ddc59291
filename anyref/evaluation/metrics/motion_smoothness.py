"""Motion Smoothness of OpenS2V v1.1 and, as its numbers say, of MAGREF: the share of frames at which a video's quality does not jump.

OpenS2V, get_motion_smoothness.py. OneAlign rates a window of three frames around each frame; where two neighbours' ratings differ by more than
0.025 both frames are artefacts. It is a detector of flicker: cuts and fast motion count as artefacts, a frozen video scores 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.vectors import BATCH, model_key
from anyref.perception import Model, Picture

WINDOW = 3


@dataclass(frozen=True)
class MotionSmoothness:
    """1 - artefact frames / all frames, 0 to 1; `strict` is the same. per_frame: the ratings, 0 to 1, for other thresholds.

    A video of one frame is not applicable (the release says 1).
    """

    threshold: float = 0.025

    name: ClassVar[str] = "opens2v.motion_smoothness"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"video_quality": "video-quality"}
    defaults: ClassVar[Mapping[str, str]] = {"video_quality": "one-align"}

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:  # noqa: ARG002 - every video has frames
        """To every case."""
        return True

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class."""
        from anyref.perception.one_align import VideoQualityPredictor

        predictor = models["video_quality"]
        assert isinstance(predictor, VideoQualityPredictor)
        if video.num_frames < 2:
            return Result.not_applicable("one frame has no neighbours")

        def rate() -> NDArray[np.float32]:
            return np.concatenate([predictor.rate_windows(batch) for batch in _windows(video)])

        ratings = video.features.get_or_compute(("window-quality", model_key(predictor), "3"), rate)
        found = artefacts(ratings.astype(np.float64), self.threshold)
        value = 1 - len(found) / len(ratings)
        details: dict[str, JSON] = {"artefact_frames": found}
        places = tuple(range(len(ratings)))
        return Result(value, value, "ok", tuple(ratings.astype(float).tolist()), places, details)


def artefacts(ratings_F: NDArray[np.float64], threshold: float = 0.025) -> list[int]:
    """The frames on both sides of each jump of more than the threshold."""
    jumps = np.flatnonzero(np.abs(np.diff(ratings_F)) > threshold)
    return sorted({int(frame) for jump in jumps for frame in (jump, jump + 1)})


def window(frame: int, num_frames: int) -> tuple[int, int, int]:
    """The three frames that stand for one, as the release pads them: the first three times, the last with the one before it twice."""
    assert 0 <= frame < num_frames
    if frame == 0:
        return (0, 0, 0)
    if frame + 1 < num_frames:
        return (frame - 1, frame, frame + 1)
    # Two frames: the window begins at frame 0, and the release then repeats its end.
    return (0, 1, 1) if frame == 1 else (frame - 1, frame - 1, frame)


def _windows(video: VideoUnderTest) -> Iterator[list[Sequence[Picture]]]:
    """Every frame's window, in lists; three frames and a list are in memory, not the video."""
    near: dict[int, Picture] = {}
    batch: list[Sequence[Picture]] = []
    for number, picture in enumerate(video.frames()):
        near[number] = picture
        near.pop(number - WINDOW, None)
        if number:
            batch.append([near[index] for index in window(number - 1, number + 1)])
        if len(batch) == BATCH:
            yield batch
            batch = []
    last = max(near)
    yield [*batch, [near[index] for index in window(last, last + 1)]]

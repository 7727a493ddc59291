"""The aesthetic scores of MAGREF and OpenS2V: LAION's second predictor on CLIP ViT-L/14, mean over frames.

They differ in the frames only: MAGREF's appendix C.3 (eq. 21) says all, OpenS2V's get_aesscore.py takes 32. Scores are the predictor's, about
1 to 10; a suite clamps a video's to [4, 7] and takes (x - 4) / 3 of the mean.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import linspace
from anyref.evaluation.metrics.vectors import frame_ratings
from anyref.perception import AestheticPredictor, Model

_MODELS: Mapping[str, str] = {"aesthetic": "aesthetic"}
_DEFAULTS: Mapping[str, str] = {"aesthetic": "laion-v2"}


@dataclass(frozen=True)
class MagrefAesthetic:
    """Mean rating of every frame, about 1 to 10 in both modes.

    The paper's numbers equal OpenS2V's for several models to three digits, so they were made with its 32 frames and its normalisation; the
    text says every frame, and the two differ by less than the interval of any test set.
    """

    name: ClassVar[str] = "magref.aesthetic"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = _MODELS
    defaults: ClassVar[Mapping[str, str]] = _DEFAULTS
    parameters: ClassVar[Mapping[str, JSON]] = {}

    def applies(self, case: EvaluationCase) -> bool:  # noqa: ARG002 - every video has frames
        """To every case."""
        return True

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """`strict` is the same."""
        predictor = models["aesthetic"]
        assert isinstance(predictor, AestheticPredictor)
        return rating_result(video, predictor, None, 1.0)


@dataclass(frozen=True)
class OpenS2VAesthetics:
    """Mean rating of 32 frames from the first to the last, about 1 to 10 in both modes."""

    num_frames: int = 32

    name: ClassVar[str] = "opens2v.aesthetics"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = _MODELS
    defaults: ClassVar[Mapping[str, str]] = _DEFAULTS

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields."""
        return asdict(self)

    def applies(self, case: EvaluationCase) -> bool:  # noqa: ARG002 - every video has frames
        """To every case."""
        return True

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """`strict` is the same."""
        predictor = models["aesthetic"]
        assert isinstance(predictor, AestheticPredictor)
        return rating_result(video, predictor, linspace(video.num_frames, self.num_frames), 1.0)


def rating_result(
    video: VideoUnderTest, predictor: AestheticPredictor, indices: tuple[int, ...] | None, unit: float
) -> Result:
    """Mean of the ratings of these frames (None: all) over `unit`."""
    ratings = frame_ratings(video, predictor, indices).astype(float) / unit
    value = float(ratings.mean())
    places = tuple(range(len(ratings))) if indices is None else indices
    return Result(value, value, per_frame=tuple(ratings.tolist()), frame_indices=places)

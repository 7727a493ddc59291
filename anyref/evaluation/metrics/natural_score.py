"""NaturalScore of OpenS2V: how real a judge finds 16 frames, 1 to 5, three times.

OpenS2V, get_naturalscore.py, asks gpt-4o-2024-11-20, a closed model with a date; ours asks any judge, in its own words and by criterion, so
values compare between runs with the same judge only. As there, answers are drawn at the judge's own temperature; each has a seed of its
own. The release's frames are kept: a stride of F // 16, which never reaches the end.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Result, VideoUnderTest
from anyref.evaluation.metrics.frame_indices import strides
from anyref.evaluation.metrics.vectors import indices_key, model_key
from anyref.perception import Judge, Model, Picture

CRITERIA = ("realism", "physics", "anatomy", "artefacts", "copy_paste")
INSTRUCTIONS = """These are frames of one video clip, in order. Rate the clip by each criterion with a number from 1 to 5; halves are allowed.
realism: 5 if it could be footage of a camera; 3 if you cannot tell; 1 if it is certainly not.
physics: 5 if light, shadows, contact and motion are as in the world; 1 if they contradict it.
anatomy: 5 if bodies, faces, hands and animals are well formed and stay so; 1 if they are not; 5 where there are none.
artefacts: 5 if nothing flickers, melts, smears or pops up; 1 if much does.
copy_paste: 5 if everything belongs to the scene, by light, scale and edges; 1 if something looks pasted on.
Answer with one JSON object and nothing else: {"realism": 0, "physics": 0, "anatomy": 0, "artefacts": 0, "copy_paste": 0}"""


@dataclass(frozen=True)
class NaturalScore:
    """`value`: mean of three answers for "realism", 1 to 5 (the suite takes (x - 1) / 4). `strict`: the mean of all criteria, as (x - 1) / 4.

    details: the mean of each criterion, and "spread", the standard deviation of "realism" between the answers.
    """

    num_frames: int = 16
    repeats: int = 3
    long_side: int = 512

    name: ClassVar[str] = "opens2v.natural_score"
    version: ClassVar[int] = 2
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {"judge": "judge"}
    defaults: ClassVar[Mapping[str, str]] = {"judge": "endpoint"}

    @property
    def parameters(self) -> Mapping[str, JSON]:
        """The fields, and a hash of the instructions."""
        return {**asdict(self), "instructions": _hash(INSTRUCTIONS)}

    def applies(self, case: EvaluationCase) -> bool:  # noqa: ARG002 - every video has frames
        """To every case."""
        return True

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:
        """See the class. Raises ValueError where the judge leaves out a criterion or gives a number outside 1 to 5."""
        judge = models["judge"]
        assert isinstance(judge, Judge)
        indices = strides(video.num_frames, self.num_frames)

        def ask() -> NDArray[np.float64]:
            frames = [scaled(picture, self.long_side) for picture in video.frames_at(indices)]
            prompt = video.case.prompt
            answers = [judge.judge(frames, prompt, INSTRUCTIONS, seed) for seed in range(self.repeats)]
            return np.array([[read(answer, criterion) for criterion in CRITERIA] for answer in answers])

        key = ("judge", model_key(judge), _hash(INSTRUCTIONS), video.case.prompt, indices_key(indices))
        ratings_KC = video.features.get_or_compute(
            (*key, f"seeds 0-{self.repeats - 1}, {self.long_side}"), ask
        )
        means = dict(zip(CRITERIA, ratings_KC.mean(axis=0).tolist(), strict=True))
        details: dict[str, JSON] = {
            **means,
            "spread": float(ratings_KC[:, 0].std()),
            "judge": f"{judge.card.name} {judge.card.known_by}".strip(),
        }
        return Result(means["realism"], float((ratings_KC.mean() - 1) / 4), "ok", (), (), details)


def read(answer: Mapping[str, float], criterion: str) -> float:
    """A judge's number. Raises ValueError where it is missing or outside 1 to 5."""
    rating = answer.get(criterion)
    if rating is None or not 1 <= rating <= 5:
        raise ValueError(
            f"the judge gave {rating!r} for {criterion!r}; it must give 1 to 5; try another judge"
        )
    return float(rating)


def scaled(picture_YX3: Picture, long_side: int) -> Picture:
    """The picture with its long side at this many pixels, as the release shows it to the judge."""
    height, width = picture_YX3.shape[:2]
    tall = height >= width
    size = (
        (max(1, int(width * long_side / height)), long_side)
        if tall
        else (long_side, max(1, int(height * long_side / width)))
    )
    return np.asarray(Image.fromarray(picture_YX3).resize(size, Image.Resampling.BOX))


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]

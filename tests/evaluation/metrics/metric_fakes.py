"""Small deterministic stand-ins for perception models, and the puppet world's ground truth behind the same protocols."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anyref.evaluation.cases import EvaluationCase, EvaluationReference
from anyref.evaluation.metrics import Result, VideoUnderTest
from anyref.evaluation.metrics.vectors import picture_key
from anyref.perception import Box, Detection, Face, ModelCard, Picture
from anyref.samples import Sample

CARD = ModelCard("fake", "", "1", "Apache-2.0", True)


def unit(vector: NDArray[Any]) -> NDArray[np.float32]:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@dataclass
class ByTable:
    """Encodes a picture by its mean grey level, rounded: a table says which vector that is."""

    table: Mapping[int, Sequence[float]]
    card: ModelCard = CARD
    num_pictures: int = 0

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        self.num_pictures += len(pictures)
        return np.stack([unit(np.array(self.table[round(float(one.mean()))])) for one in pictures])

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([unit(np.array([1.0, 0.0])) for _ in texts])


class Colours:
    """Colour histogram of 4 x 4 x 4 bins, as an encoder of pictures."""

    card = CARD

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        return np.stack([self._one(picture) for picture in pictures])

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A text is a colour, "255 0 0"."""
        return np.stack([self._one(np.array([[[int(n) for n in text.split()]]], np.uint8)) for text in texts])

    def _one(self, picture: Picture) -> NDArray[np.float32]:
        bins = (picture // 64).reshape(-1, 3).astype(np.int64) @ np.array([16, 4, 1])
        return unit(np.bincount(bins, minlength=64).astype(float))


@dataclass
class Rater:
    """Rates a picture by its mean grey level over 25.5."""

    card: ModelCard = CARD

    def rate(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        return np.array([one.mean() / 25.5 for one in pictures], np.float32)


@dataclass
class Faces:
    """The faces of a picture by its mean grey level."""

    table: Mapping[int, Sequence[Sequence[float]]]
    card: ModelCard = CARD

    def faces(self, picture: Picture) -> list[Face]:
        return [
            Face(Box(0, 0, 10 - number, 10), 0.9, unit(np.array(vector)))
            for number, vector in enumerate(self.table.get(round(float(picture.mean())), ()))
        ]


@dataclass
class Truth:
    """Finds what the world drew: phrase -> masks, per picture. A detector and a segmenter at once."""

    known: dict[str, list[tuple[str, NDArray[np.bool_]]]]
    card: ModelCard = CARD

    def detect(self, picture: Picture, phrases: Sequence[str]) -> list[Detection]:
        return [
            Detection(number, box_of(mask), 0.9)
            for number, phrase in enumerate(phrases)
            for name, mask in self.known.get(picture_key(picture), [])
            if name == phrase and mask.sum() >= 12
        ]

    def segment(self, picture: Picture, boxes: Sequence[Box]) -> NDArray[np.bool_]:
        masks = [mask for _, mask in self.known[picture_key(picture)] if mask.any()]
        return np.stack([min(masks, key=lambda mask: _distance(box_of(mask), box)) for box in boxes])

    def learn(self, picture: Picture, things: Iterable[tuple[str, NDArray[np.bool_]]]) -> None:
        self.known[picture_key(picture)] = list(things)


def box_of(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1))


def _distance(first: Box, second: Box) -> float:
    return sum(abs(a - b) for a, b in zip(first, second, strict=True))


def grey_video(levels: Sequence[int], size: int = 16) -> NDArray[np.uint8]:
    return np.stack([np.full((size, size, 3), level, np.uint8) for level in levels])


def saved(picture: Picture, path: Path) -> Path:
    Image.fromarray(picture).save(path)
    return path


def case_of(
    tmp_path: Path,
    pictures: Sequence[Picture] = (),
    labels: Sequence[str] = (),
    roles: Sequence[str] = (),
    phrases: Sequence[str | None] = (),
    prompt: str = "a prompt",
    category: str = "",
) -> EvaluationCase:
    references = tuple(
        EvaluationReference(
            saved(picture, tmp_path / f"{number}.png"),
            labels[number] if labels else "",
            (roles[number] if roles else "object"),  # type: ignore[arg-type]
            phrases[number] if phrases else None,
        )
        for number, picture in enumerate(pictures)
    )
    return EvaluationCase("case", prompt, category, references)


def score(metric: Any, video: VideoUnderTest, **models: Any) -> Result:
    assert set(metric.models) == set(models), "the roles that the metric names"
    assert metric.applies(video.case)
    result: Result = metric.score(video, models)
    return result


def puppets_case(
    tmp_path: Path, sample: Sample, variant: int = 0, order: Sequence[int] | None = None
) -> EvaluationCase:
    """A clip's moving subjects as references (0: drawn anew, 1: cropped from the clip); `order` deals them to the wrong words."""
    people = [one for one in sample.subjects if one.kind != "background"]
    order = order or range(len(people))
    return case_of(
        tmp_path,
        [people[number].references[variant].image for number in order],
        [one.label for one in people],
        ["object"] * len(people),
        [one.phrase for one in people],
        sample.caption,
    )


def truth_of(sample: Sample, frames: NDArray[np.uint8] | None = None, without: Sequence[int] = ()) -> Truth:
    """What is where in the clip's frames (or in `frames`, drawn over them), by label and by phrase."""
    truth = Truth({})
    for number, frame in enumerate(sample.frames_FYX3 if frames is None else frames):
        things = [
            (words, one.masks_FYX[number])
            for place, one in enumerate(sample.subjects)
            if one.kind != "background" and place not in without
            for words in {one.label, one.phrase}
        ]
        truth.learn(frame, things)
    return truth


def moved(frame: Picture, mask: NDArray[np.bool_], by: tuple[int, int]) -> tuple[Picture, NDArray[np.bool_]]:
    """A copy of what the mask covers, shifted: another of the same."""
    drawn, shifted = frame.copy(), np.roll(mask, by, axis=(0, 1))
    drawn[shifted] = np.roll(frame, by, axis=(0, 1))[shifted]
    return drawn, shifted


Maker = Callable[[Sample], NDArray[np.uint8]]

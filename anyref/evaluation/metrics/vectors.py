"""Vectors of a video's frames, references and words, computed once per model and kept in the video's feature cache.

Keys name the model with its revision and say exactly what was encoded, so that metrics share what they can and never share too much.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.metrics import VideoUnderTest
from anyref.perception import AestheticPredictor, ImageEncoder, ImageTextEncoder, Model, Picture

Vectors = NDArray[np.float32]
BATCH = 16
"""Frames that a model is shown at once; at 720 x 1280 they take 44 MB."""


def model_key(model: Model) -> str:
    """Which model, in a cache key: two addresses, or two folders, of the same name are two models."""
    return f"{model.card.name}@{model.card.known_by}"


def picture_key(picture: Picture) -> str:
    """Which picture, in a cache key: 16 hex digits of its size and content."""
    return sha256(str(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()[:16]


def indices_key(indices: Sequence[int]) -> str:
    """Which frames, in a cache key."""
    return ",".join(str(index) for index in indices)


def frame_vectors(video: VideoUnderTest, encoder: ImageEncoder, indices: Sequence[int]) -> Vectors:
    """[len(indices), D] of the frames at these indices; an index that occurs twice is encoded once."""
    unique = sorted(set(indices))
    key = ("frames", model_key(encoder), indices_key(unique))
    vectors = video.features.get_or_compute(key, lambda: _batched(video.frames_at(unique), encoder.encode))
    return np.asarray(vectors, np.float32)[[unique.index(index) for index in indices]]


def all_frame_vectors(video: VideoUnderTest, encoder: ImageEncoder) -> Vectors:
    """[F, D] of every frame, decoded as a stream."""
    vectors = video.features.get_or_compute(
        ("frames", model_key(encoder), "all"),
        lambda: _batched(video.frames(), encoder.encode),
    )
    return np.asarray(vectors, np.float32)


def frame_ratings(
    video: VideoUnderTest, predictor: AestheticPredictor, indices: Sequence[int] | None
) -> NDArray[np.float32]:
    """[len(indices)], or [F] where `indices` is None: what the predictor gives each frame."""
    if indices is None:
        key = ("ratings", model_key(predictor), "all")
        ratings = video.features.get_or_compute(key, lambda: _batched(video.frames(), predictor.rate))
        return np.asarray(ratings, np.float32)
    unique = sorted(set(indices))
    key = ("ratings", model_key(predictor), indices_key(unique))
    ratings = video.features.get_or_compute(key, lambda: _batched(video.frames_at(unique), predictor.rate))
    return np.asarray(ratings, np.float32)[[unique.index(index) for index in indices]]


def picture_vectors(video: VideoUnderTest, encoder: ImageEncoder, pictures: Sequence[Picture]) -> Vectors:
    """[len(pictures), D] of pictures that are no whole frames: references, crops. Keyed by their content."""
    if not pictures:
        return np.zeros((0, 1), np.float32)
    content = sha256("".join(picture_key(picture) for picture in pictures).encode()).hexdigest()[:16]
    vectors = video.features.get_or_compute(
        ("pictures", model_key(encoder), content),
        lambda: _batched(pictures, encoder.encode),
    )
    return np.asarray(vectors, np.float32)


def text_vectors(video: VideoUnderTest, encoder: ImageTextEncoder, texts: Sequence[str]) -> Vectors:
    """[len(texts), D] of sentences."""
    vectors = video.features.get_or_compute(
        ("texts", model_key(encoder), *texts), lambda: encoder.encode_text(texts)
    )
    return np.asarray(vectors, np.float32)


def batches(pictures: Iterable[Picture], size: int = BATCH) -> Iterator[list[Picture]]:
    """The pictures in lists of at most `size`, so that a long video is never in memory whole."""
    stream = iter(pictures)
    while batch := list(islice(stream, size)):
        yield batch


def _batched(
    pictures: Iterable[Picture], call: Callable[[list[Picture]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    return np.concatenate([np.asarray(call(batch), np.float32) for batch in batches(pictures)])

"""The embedded models: Wan's architecture at toy size, trained on the puppet world from nothing."""

from typing import Literal

Stage = Literal[
    "autoencoder",
    "image-encoder",
    "text-to-video",
    "image-to-video",
    "magref",
    "kaleido",
    "segmenter",
    "saber",
    "identity",
]
STAGES: tuple[Stage, ...] = (
    "autoencoder",
    "image-encoder",
    "text-to-video",
    "image-to-video",
    "magref",
    "kaleido",
    "segmenter",
    "saber",
    "identity",
)

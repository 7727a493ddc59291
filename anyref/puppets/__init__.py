"""The embedded models: Wan's architecture at toy size, trained on the puppet world from nothing."""

from typing import Literal, get_args

Stage = Literal[
    "autoencoder",
    "motion",
    "image-encoder",
    "text-to-video",
    "image-to-video",
    "magref",
    "kaleido",
    "segmenter",
    "saber",
    "identity",
    "phrase-segmenter",
    "image-text",
    "actions",
]
STAGES: tuple[Stage, ...] = get_args(Stage)

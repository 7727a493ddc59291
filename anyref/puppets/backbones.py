"""The two backbones as methods of the trainer: text to video, and image to video.

MAGREF with one reference that fills the frame *is* Wan's image-to-video layout: the canvas is the first frame, the mask is all ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from anyref.conditioning import Conditioning
from anyref.encoders import Encoders
from anyref.latents import VideoShape
from anyref.methods.magref import MagrefMethod
from anyref.references import Reference
from anyref.samples import Sample
from anyref.sampling import SamplingDefaults


@dataclass(frozen=True)
class TextToVideo:
    """No references."""

    defaults: SamplingDefaults

    name: ClassVar[str] = "t2v"
    in_channels: ClassVar[int] = 16
    cuts_out: ClassVar[bool] = False

    def official(self) -> Self:
        """Itself."""
        return self

    def check(self, references: Sequence[Reference], shape: VideoShape) -> None:  # noqa: ARG002
        """Raise ValueError for any reference."""
        if references:
            raise ValueError(f"{len(references)} references were given; a text-to-video backbone takes none")

    def sampled_shape(self, shape: VideoShape, keep_canvas: bool) -> VideoShape:  # noqa: ARG002
        """The shape asked for."""
        return shape

    def condition(
        self,
        references: Sequence[Sequence[Reference]],  # noqa: ARG002
        prompts: Sequence[str] | None,  # noqa: ARG002
        shape: VideoShape,  # noqa: ARG002
        encoders: Encoders,  # noqa: ARG002
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Conditioning:
        """Nothing."""
        return Conditioning()

    def unconditional(self, conditioning: Conditioning) -> Conditioning:
        """The same."""
        return conditioning

    def output_frames(self, frames_FYX3: Any, keep_canvas: bool) -> Any:  # noqa: ARG002
        """All of them."""
        return frames_FYX3

    def training_references(self, sample: Sample, rng: np.random.Generator) -> list[Reference]:  # noqa: ARG002
        """None."""
        return []

    def training_frames(self, shape: VideoShape) -> int:
        """All of them."""
        return shape.num_frames

    def training_video(
        self,
        frames_FYX3: NDArray[np.uint8],
        references: Sequence[Reference],  # noqa: ARG002
        shape: VideoShape,
    ) -> NDArray[np.uint8]:
        """The clip's first frames."""
        return frames_FYX3[: shape.num_frames]


@dataclass(frozen=True)
class ImageToVideo(MagrefMethod):
    """The clip's first frame is the one reference."""

    name: ClassVar[str] = "i2v"

    def training_references(self, sample: Sample, rng: np.random.Generator) -> list[Reference]:  # noqa: ARG002
        """The first frame."""
        return [Reference(sample.frames_FYX3[0])]

    def training_frames(self, shape: VideoShape) -> int:
        """All of them."""
        return shape.num_frames

    def training_video(
        self,
        frames_FYX3: NDArray[np.uint8],
        references: Sequence[Reference],  # noqa: ARG002
        shape: VideoShape,
    ) -> NDArray[np.uint8]:
        """The clip: its first frame is the canvas already."""
        return frames_FYX3[: shape.num_frames]

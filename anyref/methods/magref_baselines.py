"""What MAGREF's paper compares its canvas with: references along the frame axis, and the canvas as tokens.

Both are MAGREF but for where the references go, and neither has a canvas frame in the video, so nothing is dropped from it. The regions
of eq. 5 lie in that frame: neither has subject disentanglement.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from einops import rearrange, repeat
from numpy.typing import NDArray
from torch import Tensor

from anyref.conditioning import Conditioning
from anyref.encoders import Encoders
from anyref.latents import TEMPORAL_STRIDE, VideoShape, grid_positions, patchify
from anyref.methods.magref import Canvas, MagrefMethod, compose, shuffled
from anyref.references import Reference


@dataclass(frozen=True)
class _WithoutCanvasFrame(MagrefMethod):
    """MAGREF whose video is the clip alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anchor_strength != 0:
            raise ValueError(
                f"anchor_strength is {self.anchor_strength}; {self.name} has no canvas frame to anchor subjects in, so set it to 0"
            )

    def official(self) -> "MagrefMethod":
        """Raises ValueError: only the paper's tables know these."""
        raise ValueError(f"{self.name} has no release; leave the official settings out")

    def sampled_shape(self, shape: VideoShape, keep_canvas: bool) -> VideoShape:  # noqa: ARG002
        """What is asked for."""
        return shape

    def output_frames(self, frames_FYX3: Any, keep_canvas: bool) -> Any:  # noqa: ARG002
        """All of them."""
        return frames_FYX3

    def training_frames(self, shape: VideoShape) -> int:
        """All of them."""
        return shape.num_frames

    def training_video(
        self,
        frames_FYX3: NDArray[np.uint8],
        references: Sequence[Reference],  # noqa: ARG002
        shape: VideoShape,
    ) -> NDArray[np.uint8]:
        """The clip, cut at its end. Raises ValueError for one that is too short."""
        if len(frames_FYX3) < shape.num_frames:
            raise ValueError(
                f"the clip has {len(frames_FYX3)} frames and {shape.num_frames} are sampled; use longer clips or fewer frames"
            )
        return frames_FYX3[: shape.num_frames]


@dataclass(frozen=True)
class VanillaMaskMethod(_WithoutCanvasFrame):
    """Tables 3 and 4, "vanilla masking": reference i, fitted to a frame, is latent frame i of the condition, and the mask is 1 on those frames.

    The paper says "following the design of SkyReels-A2" and no more. Each reference is encoded alone; the other frames are zeros (ours).
    """

    name: ClassVar[str] = "magref-vanilla-mask"

    def check(self, references: Sequence[Reference], shape: VideoShape) -> None:
        """Raise ValueError: more references than latent frames, and what MAGREF refuses."""
        super().check(references, shape)
        if len(references) > shape.latent[0]:
            raise ValueError(
                f"{len(references)} references were given; {shape.num_frames} frames have room for {shape.latent[0]}; leave some out"
            )

    def condition(
        self,
        references: Sequence[Sequence[Reference]],
        prompts: Sequence[str] | None,  # noqa: ARG002 - no anchors
        shape: VideoShape,
        encoders: Encoders,
        generator: torch.Generator | None = None,
    ) -> Conditioning:
        """Mask and reference latents, frame by frame; CLIP sees MAGREF's canvas."""
        rows = [shuffled(row, generator) if self.shuffle else row for row in references]
        channels = torch.zeros(len(rows), TEMPORAL_STRIDE + 16, *shape.latent)
        for video, row in enumerate(rows):
            for frame, reference in enumerate(one for one in row if one.weight > 0):
                image = _pixels([compose([reference], shape.height, shape.width)])
                channels[video, :TEMPORAL_STRIDE, frame] = 1
                channels[video, TEMPORAL_STRIDE:, frame] = encoders.encode_video(image[:, :, None])[
                    0, :, 0
                ].cpu()
        return Conditioning(channels_BCTHW=channels, context_BSD=_context(rows, shape, encoders))


@dataclass(frozen=True)
class TokenConcatMethod(_WithoutCanvasFrame):
    """Figure 6, "token-wise concatenation": MAGREF's canvas and mask as clean tokens after the video's, in place of channels of its first frame.

    The paper describes it in words only. The canvas stands at t = T and is modulated with the video's timestep; its tokens carry its latents
    where the video's carry noise (ours).
    """

    name: ClassVar[str] = "magref-token-concat"

    def condition(
        self,
        references: Sequence[Sequence[Reference]],
        prompts: Sequence[str] | None,  # noqa: ARG002 - no anchors
        shape: VideoShape,
        encoders: Encoders,
        generator: torch.Generator | None = None,
    ) -> Conditioning:
        """The canvas' tokens; the video's condition channels are zeros. CLIP sees the canvas."""
        canvases = [
            compose(row, shape.height, shape.width, self._layout(len(row), shape, generator))
            for row in references
        ]
        images = _pixels(canvases)
        latents = encoders.encode_video(images[:, :, None]).cpu()
        covered = torch.from_numpy(np.stack([canvas.cells().any(axis=0) for canvas in canvases]))
        mask = repeat(covered, "b h w -> b c 1 h w", c=TEMPORAL_STRIDE).to(latents)
        frames, height, width = shape.tokens
        positions_L3 = grid_positions((1, height, width)) + torch.tensor([frames, 0, 0])
        return Conditioning(
            channels_BCTHW=torch.zeros(len(canvases), TEMPORAL_STRIDE + 16, *shape.latent),
            tokens_BLP=patchify(torch.cat([latents, mask, latents], dim=1)),
            positions_BL3=positions_L3.expand(len(canvases), -1, -1),
            after_frames=frames,
            context_BSD=None if encoders.image_encoder is None else encoders.encode_images(images).cpu(),
        )


def _pixels(canvases: Sequence[Canvas]) -> Tensor:
    """Canvases as images [B, 3, Y, X] in [-1, 1]."""
    images = torch.from_numpy(np.stack([canvas.image_YX3 for canvas in canvases]))
    return rearrange(images, "b y x c -> b c y x").float() / 127.5 - 1


def _context(rows: Sequence[Sequence[Reference]], shape: VideoShape, encoders: Encoders) -> Tensor | None:
    if encoders.image_encoder is None:
        return None
    return encoders.encode_images(_pixels([compose(row, shape.height, shape.width) for row in rows])).cpu()

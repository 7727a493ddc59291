"""Saber (arXiv 2512.06905): references as frames after the video's last, whose background nobody sees; trained on clips alone.

"Input Format": z_in = cat_channel[ cat_time[z_t, z_ref], cat_time[0, m_ref], cat_time[0, z_ref] ]. Each reference is one latent frame,
noise-free, at the times that follow the video's; 16 noisy, 4 mask and 16 condition channels are the layout of Wan2.1-I2V. "Attention
Mask": a reference token is seen only where the subject is, so that the grey behind it cannot leak.

"Masked Frames as References": in training, frames of the clip itself, masked and warped at random (anyref/masks.py), stand in for
references; no picture of anybody is needed. At inference the subject is cut out (anyref/matting.py) and enters the same way, on grey;
a background is used whole. There are no public code and no public weights; what the paper leaves open is ours and marked so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from einops import reduce, repeat
from numpy.typing import NDArray
from PIL import Image

from anyref.conditioning import Conditioning, concatenate
from anyref.encoders import Encoders
from anyref.latents import PATCH, SPATIAL_STRIDE, TEMPORAL_STRIDE, VideoShape, grid_positions, patchify
from anyref.masks import SHAPES, MaskConfig, Shape, masked_reference
from anyref.matting import given_mask, matte
from anyref.references import Reference
from anyref.samples import Sample
from anyref.sampling import WAN_NEGATIVE_PROMPT, SamplingDefaults

MAX_REFERENCES = 16
"""Ours; the paper sees videos fall apart at about 12."""
ZERO_REFERENCES = 0.05
"""How often a training sample has no reference at all (ours)."""
_CONDITION_CHANNELS = TEMPORAL_STRIDE + 16

_PAPER = SamplingDefaults(
    height=480,
    width=832,
    num_frames=81,
    num_inference_steps=50,
    # "Standard Wan sampling": Wan2.1-T2V-14B's own settings, whose shift is 5 at every size (3 is I2V's at 480p).
    shift=5.0,
    guidance_scale=5.0,
    fps=16,
    solver="unipc",
    negative_prompt=WAN_NEGATIVE_PROMPT,
    sigmas="release",
)


class CutOut(NamedTuple):
    """A reference as the VAE sees it: float32 [3, Y, X] in [-1, 1], exactly 0 (mid grey) where the bool mask [Y, X] is False."""

    image_3YX: NDArray[np.float32]
    mask_YX: NDArray[np.bool_]

    def cells(self) -> NDArray[np.bool_]:
        """[H, W]: m_ref, the mask at latent resolution. A cell is subject if any of its pixels is (ours)."""
        size = SPATIAL_STRIDE
        return np.asarray(reduce(self.mask_YX, "(h y) (w x) -> h w", "max", y=size, x=size))


def cut_out(reference: Reference, height: int, width: int) -> CutOut:
    """The subject of a reference that has its mask, scaled to fit the video's frame, centred, on grey.

    Nothing of the background gets in: it is 0 before the image is scaled, and what the filter mixes of it into the subject's edge is divided
    out again. Where a pixel is less than half covered by the subject it is masked out (ours). Alpha and a weight below 1 fade the
    subject towards grey; above 1 it is as at 1. An image of the frame's size is not resampled.
    """
    subject = reference.subject_mask
    assert subject is not None
    rows, columns = subject.shape
    scale = min(height / rows, width / columns)
    size = (max(1, min(height, round(rows * scale))), max(1, min(width, round(columns * scale))))
    coverage = _scaled(subject.astype(np.float32), size)
    # Relative to the highest, so that a subject thinner than a pixel does not vanish.
    kept = coverage >= 0.5 * coverage.max()
    opacity: NDArray[Any] | float = 1.0
    if reference.image.shape[2] == 4:
        opacity = reference.image[..., 3].astype(np.float32) / 255
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    place = slice(top, top + size[0]), slice(left, left + size[1])
    image, mask = np.zeros((3, height, width), np.float32), np.zeros((height, width), bool)
    mask[place] = kept
    for channel in range(3):
        values = (reference.image[..., channel].astype(np.float32) / 127.5 - 1) * opacity
        scaled = _scaled(np.where(subject, values, 0).astype(np.float32), size)
        values = np.divide(scaled, coverage, out=np.zeros_like(scaled), where=kept)
        image[channel][place] = np.clip(values, -1, 1) * min(reference.weight, 1.0)
    return CutOut(image, mask)


@dataclass(frozen=True)
class SaberMethod:
    """Saber's settings. Those of a checkpoint are in its anyref.json; each of the paper's ablations is a value of one of them."""

    reference_queries: Literal["all", "references"] = "all"
    """To whom reference tokens attend: the video and valid reference regions, or valid reference regions only.

    Paper: "the reference side is only permitted to attend to valid reference regions"; the first reading takes that for a rule
    about keys, the second for one about queries too.
    """
    attention_mask: bool = True
    """Hide reference tokens without subject. False: the paper's ablation "w/o attention mask"; the padding is seen as well."""
    reference_timestep: float | None = 0.0
    """Timestep that modulates reference tokens (ours: they are clean); None: the video's own."""
    shapes: tuple[Shape, ...] = SHAPES
    """Mask shapes in training, each as likely. Ablations: ("ellipse",), ("fourier",), ("convex", "concave")."""
    mask_ratio: float | None = None
    """A fixed foreground ratio r in training (the paper's ablation: 0.3) instead of the 10/80/10 mixture."""
    augment: bool = True
    """Warp masked frames in training; False: the paper's ablation that copies and pastes."""
    max_masked_frames: int = 4
    """K in training is uniform in 1..this (ours)."""
    curated_pairs: bool = False
    """Train on the samples' reference pictures instead: the paper's ablation "w/o masked training"."""
    defaults: SamplingDefaults = _PAPER

    name: ClassVar[str] = "saber"
    in_channels: ClassVar[int] = 36
    cuts_out: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "shapes", tuple(self.shapes))  # JSON knows lists only
        if self.reference_queries not in {"all", "references"}:
            raise ValueError(
                f"reference_queries is {self.reference_queries!r}; it must be 'all' or 'references'"
            )
        if self.reference_timestep is not None and not 0 <= self.reference_timestep <= 1000:
            raise ValueError(
                f"reference_timestep is {self.reference_timestep}; it must lie between 0 (clean) and 1000, or be None (the video's own)"
            )
        if self.max_masked_frames < 1:
            raise ValueError(f"max_masked_frames is {self.max_masked_frames}; it must be at least 1")
        _ = self.masks  # raises for wrong shapes and ratios

    @property
    def masks(self) -> MaskConfig:
        """The mask generator's settings in training."""
        config = MaskConfig(shapes=self.shapes, augment=self.augment)
        return config if self.mask_ratio is None else config.fixed(self.mask_ratio)

    def official(self) -> "SaberMethod":
        """As the paper has it: there is no release."""
        return SaberMethod()

    def check(self, references: Sequence[Reference], shape: VideoShape) -> None:  # noqa: ARG002 - any size will do
        """Raise ValueError: more than 16 references, a fully masked one."""
        if len(references) > MAX_REFERENCES:
            raise ValueError(
                f"{len(references)} references were given; Saber takes at most {MAX_REFERENCES}; leave some out"
            )
        for reference in references:
            given_mask(reference)

    def sampled_shape(self, shape: VideoShape, keep_canvas: bool) -> VideoShape:  # noqa: ARG002
        """As asked for: the references are no frames of the video."""
        return shape

    def output_frames(self, frames_FYX3: Any, keep_canvas: bool) -> Any:  # noqa: ARG002
        """All of them."""
        return frames_FYX3

    def condition(
        self,
        references: Sequence[Sequence[Reference]],
        prompts: Sequence[str] | None,  # noqa: ARG002 - the words reach references through attention alone
        shape: VideoShape,
        encoders: Encoders,
        generator: torch.Generator | None = None,  # noqa: ARG002 - nothing is drawn
    ) -> Conditioning:
        """Reference tokens of a batch, on the CPU; videos with fewer references than others get hidden tokens.

        Raises ValueError where a subject cannot be cut out (see `matting.matte`). A reference of weight 0 is left out.
        """
        cut = [
            [
                cut_out(matte(reference, encoders.matter), shape.height, shape.width)
                for reference in row
                if reference.weight > 0
            ]
            for row in references
        ]
        return concatenate([self._condition_one(row, shape, encoders) for row in cut])

    def unconditional(self, conditioning: Conditioning) -> Conditioning:
        """The references stay, as the image does in Wan's own guidance (the paper says guidance 5.0 and no more)."""
        return conditioning

    def training_references(self, sample: Sample, rng: np.random.Generator) -> list[Reference]:
        """K masked frames of the clip, K = 0 in 5 % of samples; or, with `curated_pairs`, a picture of each subject.

        The clip is divided into K equal parts and each gives one frame (ours): spread over the clip, none twice. Their order is random, as
        the order of references says nothing at inference.
        """
        if self.curated_pairs:
            return _curated(sample, rng)
        if rng.random() < ZERO_REFERENCES:
            return []
        frames = sample.frames_FYX3
        number = min(int(rng.integers(1, self.max_masked_frames + 1)), len(frames))
        bounds = np.linspace(0, len(frames), number + 1).astype(int)
        drawn = [int(rng.integers(start, end)) for start, end in pairwise(bounds)]
        references = []
        for index in rng.permutation(drawn):
            image, mask = masked_reference(frames[index], rng, self.masks)
            pixels = np.rint((image + 1) * 127.5).astype(np.uint8)
            references.append(Reference(pixels, subject_mask=mask, name=f"frame {index}"))
        return references

    def training_frames(self, shape: VideoShape) -> int:
        """All of them."""
        return shape.num_frames

    def training_video(
        self,
        frames_FYX3: NDArray[np.uint8],
        references: Sequence[Reference],  # noqa: ARG002 - they are no part of the target
        shape: VideoShape,
    ) -> NDArray[np.uint8]:
        """The clip itself, cut at its end. Raises ValueError for a shorter clip."""
        if len(frames_FYX3) < shape.num_frames:
            raise ValueError(
                f"the clip has {len(frames_FYX3)} frames and {shape.num_frames} are sampled; use longer clips or fewer frames"
            )
        return frames_FYX3[: shape.num_frames]

    def _condition_one(self, row: Sequence[CutOut], shape: VideoShape, encoders: Encoders) -> Conditioning:
        # cat_time[0, m_ref] and cat_time[0, z_ref], the video's part: zeros.
        channels = torch.zeros(1, _CONDITION_CHANNELS, *shape.latent)
        if not row:
            return Conditioning(channels_BCTHW=channels, references_attend=self.reference_queries)
        images = [torch.from_numpy(cut.image_3YX)[None, :, None] for cut in row]
        latents = torch.cat(
            [encoders.encode_video(image).cpu() for image in images], dim=2
        )  # z_ref, 1 C R H W
        cells_RHW = torch.from_numpy(np.stack([cut.cells() for cut in row]))
        mask = repeat(cells_RHW, "r h w -> 1 c r h w", c=TEMPORAL_STRIDE).to(latents)
        # The references' part. What the video has noise in holds z_ref: they are noise-free.
        tokens_BLP = patchify(torch.cat([latents, mask, latents], dim=1))
        num_frames, height, width = shape.tokens
        following = torch.tensor([num_frames, 0, 0])
        positions_BL3 = grid_positions((len(row), height, width))[None] + following
        seen = reduce(cells_RHW, "r (h ph) (w pw) -> 1 (r h w)", "max", ph=PATCH[1], pw=PATCH[2])
        return Conditioning(
            channels_BCTHW=channels,
            tokens_BLP=tokens_BLP,
            positions_BL3=positions_BL3,
            visible_BL=seen if self.attention_mask else None,
            reference_timestep=self.reference_timestep,
            references_attend=self.reference_queries,
            after_frames=num_frames,
        )


def _curated(sample: Sample, rng: np.random.Generator) -> list[Reference]:
    """One picture of each subject, preferably one that is not from the clip, in random order."""
    chosen = [subject for subject in sample.subjects if subject.references]
    drawn = []
    for index in rng.permutation(len(chosen))[:MAX_REFERENCES]:
        subject = chosen[index]
        crosses = [one for one in subject.references if one.variant == "cross"] or list(subject.references)
        image = crosses[rng.integers(len(crosses))].image
        drawn.append(
            Reference(image, subject.kind, subject.phrase, label=subject.label, name=subject.identity)
        )
    return drawn


def _scaled(values_YX: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    if values_YX.shape == size:
        return values_YX
    image = Image.fromarray(values_YX)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.LANCZOS))

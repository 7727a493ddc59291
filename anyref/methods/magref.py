"""MAGREF (arXiv 2505.23742): all references on one canvas, which is the first frame of an image-to-video
model.

Section 3.1: the references are pasted side by side on a blank canvas (eq. 1), M marks where they are (eq. 2);
[canvas, zeros ...] goes through the VAE (eq. 3), and the transformer gets 16 noisy, 4 mask and 16 canvas
channels. CLIP's image tower sees the whole canvas. Section 3.2: in each block the text value of a subject's
words is added to its region of the first frame (eqs. 5-6): `Conditioning.anchors`.

The sampled video begins with the canvas, as the release's does; its first four frames are dropped unless
`keep_canvas`. Without references the canvas is blank and the mask empty: the plain backbone on an empty first
frame.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from einops import rearrange, reduce
from numpy.typing import NDArray

from anyref.conditioning import Anchors, Conditioning
from anyref.encoders import Encoders, find_phrase
from anyref.latents import PATCH, SPATIAL_STRIDE, TEMPORAL_STRIDE, VideoShape
from anyref.references import Reference, composite_on, fit
from anyref.samples import Sample, Subject
from anyref.sampling import WAN_NEGATIVE_PROMPT, SamplingDefaults

_GRIDS = {1: (1, 1), 2: (1, 2), 3: (1, 3), 4: (2, 2), 6: (2, 3), 8: (2, 4)}
"""Slots -> (rows, columns). A canvas of n references has the smallest number of slots that holds them."""
MAX_REFERENCES = max(_GRIDS)
CANVAS_FRAMES = TEMPORAL_STRIDE
"""Pixel frames dropped from the start: the canvas, and the three in which the video leaves it."""

# "Camera shake" before Wan's, as the release has it.
NEGATIVE_PROMPT = "\u955c\u5934\u6643\u52a8\uff0c" + WAN_NEGATIVE_PROMPT

_RELEASE = SamplingDefaults(
    height=480,
    width=832,
    num_frames=77,  # what its 81 sampled frames leave after the first four
    num_inference_steps=40,
    shift=3.0,
    guidance_scale=5.0,
    fps=15,
    solver="unipc",
    negative_prompt=NEGATIVE_PROMPT,
    sigmas="release",
)


class Box(NamedTuple):
    """A rectangle in pixels, half-open."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True, eq=False)
class Canvas:
    """The composite image I_comp (eq. 1), uint8, and R_k of each reference: the pasted rectangle without its
    padding.
    """

    image_YX3: NDArray[np.uint8]
    regions: tuple[Box, ...]

    def cells(self) -> NDArray[np.bool_]:
        """[R, H, W]: latent cells of which any pixel lies in the region. Their union over R is the mask M
        (eq. 2), downsampled.
        """
        height, width = (size // SPATIAL_STRIDE for size in self.image_YX3.shape[:2])
        cells = np.zeros((len(self.regions), height, width), dtype=bool)
        for row, box in enumerate(self.regions):
            top, left = box.top // SPATIAL_STRIDE, box.left // SPATIAL_STRIDE
            if box.bottom > box.top and box.right > box.left:
                cells[row, top : -(-box.bottom // SPATIAL_STRIDE), left : -(-box.right // SPATIAL_STRIDE)] = (
                    True
                )
        return cells

    def tokens(self) -> NDArray[np.bool_]:
        """[R, L] over the tokens of latent frame 0: M_sub (eq. 5). A token has at most one region, the one
        that covers most of its cells.
        """
        counts = reduce(
            self.cells().astype(np.int64), "r (h ph) (w pw) -> r (h w)", "sum", ph=PATCH[1], pw=PATCH[2]
        )
        if not self.regions:
            return counts.astype(bool)
        owner = np.arange(len(counts))[:, None] == counts.argmax(axis=0)
        return np.asarray(owner & (counts > 0))


def slots(count: int, height: int, width: int) -> tuple[Box, ...]:
    """The release's layout, row by row: the smallest grid with room for `count`; the last column takes the
    remaining pixels.
    """
    if count > MAX_REFERENCES:
        raise ValueError(
            f"{count} references were given; MAGREF takes at most {MAX_REFERENCES}; leave some out"
        )
    rows, columns = _GRIDS[min(size for size in _GRIDS if size >= count)]
    row_height, column_width = height // rows, width // columns
    return tuple(
        Box(
            row * row_height,
            column * column_width,
            height if row == rows - 1 else (row + 1) * row_height,
            width if column == columns - 1 else (column + 1) * column_width,
        )
        for row in range(rows)
        for column in range(columns)
    )


def compose(
    references: Sequence[Reference], height: int, width: int, layout: Sequence[Box] | None = None
) -> Canvas:
    """Paste the references into their boxes in the order given, scaled to fit and centred, on white.

    `layout`: one box per reference instead of the release's slots; they may have any place and size inside
    the canvas. A reference's weight below 1 fades it towards the white of the canvas; at 0 it is left out, of
    the mask as well. Above 1 the canvas is as at 1.
    """
    boxes = slots(len(references), height, width) if layout is None else layout
    if len(boxes) < len(references):
        raise ValueError(
            f"the layout has {len(boxes)} boxes for {len(references)} references; give one box each"
        )
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    regions = []
    for reference, box in zip(references, boxes, strict=False):
        if not (0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width):
            raise ValueError(
                f"the box {tuple(box)} is not inside the {height} x {width} canvas; use (top, left, bottom, right)"
            )
        image, top, left = fit(composite_on(reference), box.bottom - box.top, box.right - box.left)
        top, left = box.top + top, box.left + left
        if reference.weight == 0:
            regions.append(Box(top, left, top, left))
            continue
        if reference.weight < 1:
            image = np.rint(255 - reference.weight * (255.0 - image)).astype(np.uint8)
        region = Box(top, left, top + image.shape[0], left + image.shape[1])
        canvas[region.top : region.bottom, region.left : region.right] = image
        regions.append(region)
    return Canvas(canvas, tuple(regions))


@dataclass(frozen=True)
class MagrefMethod:
    """MAGREF's settings. Those of a checkpoint are in its anyref.json; the defaults are the public weights'."""

    anchor_strength: float = 0.0
    """alpha of eq. 6. The paper does not give it; 0 for the public weights, which are older than subject
    disentanglement.
    """
    shuffle: bool = False
    """Deal the references to the slots at random, from the caller's generator. The release does, unseeded."""
    cross_pair_probability: float = 1.0
    """In training, how often a subject's reference is a cross-pair (another picture of it) and not a crop
    from the clip.
    """
    defaults: SamplingDefaults = _RELEASE

    name: ClassVar[str] = "magref"
    in_channels: ClassVar[int] = 36
    cuts_out: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.anchor_strength <= 100:
            raise ValueError(
                f"anchor_strength is {self.anchor_strength}; it must lie between 0 (off) and 100"
            )
        if not 0 <= self.cross_pair_probability <= 1:
            raise ValueError(
                f"cross_pair_probability is {self.cross_pair_probability}; it must lie between 0 and 1"
            )

    def official(self) -> "MagrefMethod":
        """As the release generates: its sizes, grid, prompt and seed, 81 frames sampled and 77 kept, no
        subject disentanglement.
        """
        return replace(self, anchor_strength=0.0, shuffle=False, defaults=replace(_RELEASE, seed=3407))

    def check(self, references: Sequence[Reference], shape: VideoShape) -> None:
        """Raise ValueError: more than 8 references."""
        slots(len(references), shape.height, shape.width)

    def sampled_shape(self, shape: VideoShape, keep_canvas: bool) -> VideoShape:
        """One latent frame more than asked for, which `output_frames` drops."""
        return shape if keep_canvas else replace(shape, num_frames=shape.num_frames + CANVAS_FRAMES)

    def output_frames(self, frames_FYX3: Any, keep_canvas: bool) -> Any:
        """The release's video[:, 4:], unless the canvas is to be kept."""
        return frames_FYX3 if keep_canvas else frames_FYX3[CANVAS_FRAMES:]

    def condition(
        self,
        references: Sequence[Sequence[Reference]],
        prompts: Sequence[str] | None,
        shape: VideoShape,
        encoders: Encoders,
        generator: torch.Generator | None = None,
    ) -> Conditioning:
        """Mask, canvas latents, CLIP context and anchors of a batch. `prompts` None: no anchors."""
        canvases = [
            compose(row, shape.height, shape.width, self._layout(len(row), shape, generator))
            for row in references
        ]
        anchors = self._anchors(
            references, canvases, prompts, encoders
        )  # first: it may find a user's mistake
        pixels = torch.from_numpy(np.stack([canvas.image_YX3 for canvas in canvases]))
        images_B3YX = rearrange(pixels, "b y x c -> b c y x").float() / 127.5 - 1
        # Zero is mid grey: the frames that are to be generated (eq. 3).
        video_BCFYX = images_B3YX.new_zeros(len(canvases), 3, shape.num_frames, shape.height, shape.width)
        video_BCFYX[:, :, 0] = images_B3YX
        latents = encoders.encode_video(video_BCFYX)
        # Wan folds the mask's pixel frames into four channels of a latent frame; the first is repeated four
        # times.
        mask = latents.new_zeros(len(canvases), TEMPORAL_STRIDE, *shape.latent)
        covered_BHW = np.stack([canvas.cells().any(axis=0) for canvas in canvases])
        mask[:, :, 0] = torch.from_numpy(covered_BHW).to(mask).unsqueeze(1)
        return Conditioning(
            # Eq. 4 writes canvas, then mask; the backbone and the release have the mask first.
            channels_BCTHW=torch.cat([mask, latents], dim=1),
            context_BSD=encoders.encode_images(images_B3YX) if encoders.image_encoder is not None else None,
            anchors=anchors,
        ).to(latents.device, latents.dtype)

    def unconditional(self, conditioning: Conditioning) -> Conditioning:
        """Canvas, mask and CLIP stay, as in the release; the negative prompt has no subject to anchor."""
        return replace(conditioning, anchors=None)

    def training_references(self, sample: Sample, rng: np.random.Generator) -> list[Reference]:
        """One reference per subject, in random order: the order is the slots', and the paper shuffles them
        against positional bias.
        """
        chosen = [subject for subject in sample.subjects if subject.references]
        order = rng.permutation(len(chosen))[:MAX_REFERENCES]
        return [self._training_reference(chosen[index], rng) for index in order]

    def training_frames(self, shape: VideoShape) -> int:
        """All but the canvas's."""
        return shape.num_frames - 1

    def training_video(
        self, frames_FYX3: NDArray[np.uint8], references: Sequence[Reference], shape: VideoShape
    ) -> NDArray[np.uint8]:
        """The canvas, then the clip: the frames that a model of this conditioning learns to produce.

        The backbone's first frame *is* its condition image, and the release's videos begin with the canvas; a
        target that began with the clip would make the model unlearn that. A clip too short to fill the shape
        holds its first frame before it moves, at most for the three frames that are dropped with the canvas;
        a longer one is cut at its end. Raises ValueError for a shorter clip.
        """
        missing = shape.num_frames - 1 - len(frames_FYX3)
        if missing >= CANVAS_FRAMES:
            raise ValueError(
                f"the clip has {len(frames_FYX3)} frames; {shape.num_frames} sampled frames need {shape.num_frames - 4} or more"
            )
        canvas = compose(references, shape.height, shape.width).image_YX3[None]
        held = np.repeat(frames_FYX3[:1], max(0, missing), axis=0)
        return np.concatenate([canvas, held, frames_FYX3])[: shape.num_frames]

    def _training_reference(self, subject: Subject, rng: np.random.Generator) -> Reference:
        wanted = "cross" if rng.random() < self.cross_pair_probability else "crop"
        variants = [one for one in subject.references if one.variant == wanted] or list(subject.references)
        image = variants[rng.integers(len(variants))].image
        return Reference(image, subject.kind, subject.phrase, label=subject.label, name=subject.identity)

    def _layout(
        self, count: int, shape: VideoShape, generator: torch.Generator | None
    ) -> Sequence[Box] | None:
        return dealt(count, shape.height, shape.width, generator) if self.shuffle else None

    def _anchors(
        self,
        references: Sequence[Sequence[Reference]],
        canvases: Sequence[Canvas],
        prompts: Sequence[str] | None,
        encoders: Encoders,
    ) -> Anchors | None:
        count = max(len(row) for row in references)
        if self.anchor_strength == 0 or prompts is None or count == 0:
            return None
        regions = [torch.from_numpy(canvas.tokens()) for canvas in canvases]
        region_BRL = torch.zeros(len(regions), count, regions[0].shape[1], dtype=torch.bool)
        span_BRS = torch.zeros(len(regions), count, encoders.num_text_tokens(prompts))
        for video, (row, prompt) in enumerate(zip(references, prompts, strict=True)):
            if not prompt.strip():  # text dropped in training
                continue
            region_BRL[video, : len(row)] = regions[video]
            for index, (reference, span) in enumerate(zip(row, spans(row, prompt, encoders), strict=True)):
                if span is not None:
                    start, end = span
                    # v_i is the mean over the phrase's tokens (eq. 6); a reference's weight scales it.
                    span_BRS[video, index, start:end] = reference.weight / (end - start)
        return Anchors(region_BRL, span_BRS, self.anchor_strength)


def spans(references: Sequence[Reference], prompt: str, encoders: Encoders) -> list[tuple[int, int] | None]:
    """Token span of each reference's words w_i in the prompt; None, with a warning, where the user named none
    and the label is not found.

    A label is tried whole and then from its head backwards ("small red hat", "red hat", "hat"), longest
    first. References of one label take its occurrences in turn, as far as there are any.
    """
    found: list[tuple[int, int] | None] = []
    taken: dict[str, int] = {}
    for reference in references:
        if reference.phrase is not None:
            found.append(encoders.token_span(prompt, reference.phrase))
            continue
        words = (reference.label or "").lower().split()
        noun = next(
            (noun for start in range(len(words)) if find_phrase(prompt, noun := " ".join(words[start:]))),
            None,
        )
        if noun is None:
            warnings.warn(
                f"{reference.title} is not anchored: it has no phrase, and its label {reference.label!r} is not in the prompt",
                stacklevel=2,
            )
            found.append(None)
            continue
        occurrence = taken.get(noun, 0) if find_phrase(prompt, noun, taken.get(noun, 0)) else 0
        taken[noun] = occurrence + 1
        found.append(encoders.token_span(prompt, noun, occurrence))
    return found


def dealt(count: int, height: int, width: int, generator: torch.Generator | None) -> list[Box]:
    """Slots for `count` references in an order drawn from the generator; of 6 for 5, any may stay empty."""
    boxes = slots(count, height, width)
    device = generator.device if generator is not None else None
    order = torch.randperm(len(boxes), generator=generator, device=device)
    return [boxes[index] for index in order.tolist()[:count]]


def shuffled(references: Sequence[Reference], generator: torch.Generator | None) -> list[Reference]:
    """In an order drawn from the generator."""
    device = generator.device if generator is not None else None
    order = torch.randperm(len(references), generator=generator, device=device)
    return [references[index] for index in order.tolist()]

"""What one call of the pipeline asks for: its arguments with the model's defaults filled in, checked before
any work is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anyref.conditioning import Conditioning
from anyref.encoders import find_phrase
from anyref.latents import TextContext, VideoShape
from anyref.matting import matte
from anyref.methods import Method, configured, make_method
from anyref.references import Reference, Source, load_references
from anyref.sampling import SamplingDefaults, check_sigmas, sigma_grid, with_given

OUTPUT_TYPES = ("np", "pil", "pt", "latent")
MAX_TOKENS = 1_000_000
"""Larger videos are refused: 30 times what Wan2.1 makes at 480p (81 frames at 480 x 832 are 32,760 tokens)."""
MAX_STEPS = 1000

Record = TypeVar("Record", TextContext, Conditioning)
Side = Literal["cond", "uncond", "unreferenced", "joined"]
"""Sides of guidance: the prompt, the negative prompt, that without references; or all of them as one batch."""


@dataclass(frozen=True)
class Prompts:
    """What a caller says in words: strings, or their embeddings. A list has one entry per prompt."""

    positive: str | list[str] | None = None
    negative: str | list[str] | None = None
    positive_embeds: Tensor | TextContext | None = None
    negative_embeds: Tensor | TextContext | None = None

    def texts(self, default_negative: str) -> tuple[list[str] | None, list[str] | None]:
        """(prompts, negative prompts), as many of each; None where only the embeddings are known. Raises
        ValueError for empty or odd ones.
        """
        if (self.positive is None) == (self.positive_embeds is None):
            raise ValueError("give either prompt or prompt_embeds, and not both")
        if self.negative is not None and self.negative_embeds is not None:
            raise ValueError("give either negative_prompt or negative_prompt_embeds, and not both")
        prompts = [self.positive] if isinstance(self.positive, str) else self.positive
        if prompts is not None and not (
            prompts and all(isinstance(one, str) and one.strip() for one in prompts)
        ):
            raise ValueError(f"the prompt is {self.positive!r}; say in words what happens in the video")
        count = len(prompts) if prompts is not None else _rows(self.positive_embeds)
        if self.negative_embeds is not None:
            if _rows(self.negative_embeds) != count:
                raise ValueError(
                    f"negative_prompt_embeds has {_rows(self.negative_embeds)} rows for {count} prompts; give as many"
                )
            return prompts, None
        negative = default_negative if self.negative is None else self.negative
        negatives = [negative] * count if isinstance(negative, str) else negative
        if len(negatives) != count:
            raise ValueError(
                f"there are {len(negatives)} negative prompts for {count} prompts; give one, or as many"
            )
        return prompts, negatives


@dataclass(frozen=True)
class Request:
    """What one call asks for, with every default filled in. `sampled` is what the transformer makes so that
    the user gets `shape`.
    """

    method: Method
    sampling: SamplingDefaults
    shape: VideoShape
    sampled: VideoShape
    prompts: list[str] | None
    negative_prompts: list[str] | None
    references: list[list[Reference]]
    num_videos: int
    sigmas: NDArray[np.float64]
    """Before the shift."""
    keep_canvas: bool = False

    @property
    def batch(self) -> int:
        """Videos in all: prompts times `num_videos`."""
        return len(self.references) * self.num_videos

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides of guidance that differ, and so are computed: a scale of 1 cancels one, having no references another."""
        if self.sampling.reference_guidance_scale != 1 and any(self.references):
            return ("cond", "uncond", "unreferenced")
        return ("cond", "uncond") if self.sampling.guidance_scale > 1 else ("cond",)

    def latent_shape(self, channels: int) -> tuple[int, ...]:
        """(B, C, T, H, W) of what is sampled."""
        return (self.batch, channels, *self.sampled.latent)


def for_call(
    method: Method, official: bool, given: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> Method:
    """The method for one call: its released settings if `official`, then those of `given` that are not None,
    then all `settings`, whose None is a value like others. Raises ValueError for one that the method does not
    have.
    """
    method = configured(method, official, given)
    if not settings:
        return method
    current = {field.name: getattr(method, field.name) for field in fields(cast("Any", method))}
    defaults = current.pop("defaults")
    return replace(cast("Any", make_method(method.name, {**current, **settings})), defaults=defaults)


def sampling_for_call(method: Method, official: bool, keep_canvas: bool, **given: Any) -> SamplingDefaults:
    """The method's defaults with those of `given` that are not None.

    The release that keeps its canvas gives all frames that are sampled by default, those that the user usually does not get included
    (MAGREF's: 81 for 77).
    """
    usual = method.defaults
    if official and keep_canvas:
        shape = VideoShape(num_frames=usual.num_frames, height=usual.height, width=usual.width)
        usual = replace(usual, num_frames=method.sampled_shape(shape, keep_canvas=False).num_frames)
    return with_given(usual, **given)


def read_request(
    method: Method,
    sampling: SamplingDefaults,
    prompts: Prompts,
    reference_images: Source | Sequence[Source] | Sequence[Sequence[Source]] | None,
    num_videos: int,
    keep_canvas: bool = False,
    sigmas: list[float] | None = None,
) -> Request:
    """Read the references, check everything that a user says about the video. Raises ValueError for what
    cannot be made.
    """
    if not 1 <= sampling.num_inference_steps <= MAX_STEPS:
        raise ValueError(
            f"num_inference_steps is {sampling.num_inference_steps}; it must lie between 1 and {MAX_STEPS}"
        )
    if not 0 <= sampling.guidance_scale <= 1000:
        raise ValueError(
            f"guidance_scale is {sampling.guidance_scale}; it must lie between 0 and 1000; 1 is no guidance"
        )
    if not 0 <= sampling.reference_guidance_scale <= 1000:
        raise ValueError(
            f"reference_guidance_scale is {sampling.reference_guidance_scale}; it must lie between 0 and 1000; 1 is none, as in the releases"
        )
    if num_videos < 1:
        raise ValueError(f"num_videos_per_prompt is {num_videos}; it must be at least 1")
    grid = sigma_grid(sampling.sigmas, sampling.num_inference_steps, sampling.solver)
    shape = VideoShape(sampling.num_frames, sampling.height, sampling.width)
    sampled = method.sampled_shape(shape, keep_canvas)
    _check_size(shape, sampled)
    positive, negative = prompts.texts(sampling.negative_prompt)
    count = len(positive) if positive is not None else _rows(prompts.positive_embeds)
    request = Request(
        method=method,
        sampling=sampling,
        shape=shape,
        sampled=sampled,
        prompts=positive,
        negative_prompts=negative,
        references=load_references(reference_images, count),
        num_videos=num_videos,
        sigmas=grid if sigmas is None else check_sigmas(sigmas),
        keep_canvas=keep_canvas,
    )
    for row, references in enumerate(request.references):
        method.check(references, sampled)
        if positive is not None:
            check_phrases(references, positive[row])
    return request


def check_cut_out(request: Request, has_matter: bool) -> None:
    """Raise ValueError for a reference that the method wants without its background, where nothing can cut it out."""
    if request.method.cuts_out and not has_matter:
        for references in request.references:
            for reference in references:
                matte(reference)


def check_phrases(references: Sequence[Reference], prompt: str) -> None:
    """Raise ValueError for words that a reference names and the prompt does not have."""
    for reference in references:
        if reference.phrase is not None and find_phrase(prompt, reference.phrase) is None:
            raise ValueError(
                f"the phrase {reference.phrase!r} of {reference.title} is not in the prompt; write it as it stands there"
            )


def check_inputs(
    request: Request,
    channels: int,
    generator: torch.Generator | list[torch.Generator] | None,
    latents: Tensor | None,
    output_type: str,
    callback_inputs: Sequence[str],
    known_inputs: Sequence[str],
) -> None:
    """Raise ValueError for generators, latents, an output type and callback tensors that do not fit the
    request.
    """
    if unknown := set(callback_inputs) - set(known_inputs):
        raise ValueError(
            f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; it may name {', '.join(known_inputs)}"
        )
    if isinstance(generator, list) and len(generator) != request.batch:
        raise ValueError(
            f"there are {len(generator)} generators for {request.batch} videos; give one, or as many"
        )
    expected = request.latent_shape(channels)
    if latents is not None and tuple(latents.shape) != expected:
        raise ValueError(
            f"latents have the shape {tuple(latents.shape)}; what is sampled has {expected}; leave them out"
        )
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type is {output_type!r}; it must be one of {', '.join(OUTPUT_TYPES)}")


def repeated(record: Record, count: int) -> Record:
    """A copy in which each row of each tensor stands `count` times, one after the other, as diffusers orders
    videos.
    """
    return _repeat_rows(record, count) if count > 1 else record


def _repeat_rows(record: Any, count: int) -> Any:
    changes = {}
    for entry in fields(record):
        value = getattr(record, entry.name)
        if isinstance(value, Tensor):
            changes[entry.name] = value.repeat_interleave(count, dim=0)
        elif is_dataclass(value):
            changes[entry.name] = _repeat_rows(value, count)
    return replace(record, **changes)


def _check_size(shape: VideoShape, sampled: VideoShape) -> None:
    frames, rows, columns = sampled.tokens
    if frames * rows * columns > MAX_TOKENS:
        raise ValueError(
            f"{shape.num_frames} frames of {shape.height} x {shape.width} are {frames * rows * columns:,} tokens; "
            f"at most {MAX_TOKENS:,} are sampled; ask for fewer or smaller frames"
        )


def _rows(embeds: Any) -> int:
    return len(embeds.tokens_BSD if isinstance(embeds, TextContext) else embeds)

"""References and a prompt in, video frames out: the pipeline, with diffusers' arguments, and its denoising loop.

The path of one call: references.py reads the images, the method (methods/) turns them into a `Conditioning`, conditioning.py joins it to the
noisy video in every step, and transformer.py predicts the velocity. What a model is sampled with unless the caller says otherwise
stands in its anyref.json, else in the method's published defaults.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import AutoencoderKLWan, DiffusionPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.loaders import WanLoraLoaderMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from torch import Tensor
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel

from anyref.conditioning import assemble
from anyref.encoders import Encoders
from anyref.files import write_json
from anyref.guidance import Branch, combine, join, make_branches, texts_of, with_texts
from anyref.latents import PATCH, SPATIAL_STRIDE, TextContext
from anyref.matting import Matter, Segmenter
from anyref.methods import Method
from anyref.methods.folder import (
    RECORD,
    check_parts,
    download,
    method_of,
    read_folder,
    read_scheduler,
    record_of,
    resolve_model,
)
from anyref.methods.request import (
    Prompts,
    Request,
    check_cut_out,
    check_inputs,
    for_call,
    read_request,
    sampling_for_call,
)
from anyref.references import Source
from anyref.sampling import Solver, make_scheduler, set_sigmas
from anyref.transformer import AnyRefTransformer

ONE_BATCH_TOKENS = 4096
"""Videos up to this many tokens are guided in one batch: a sixth faster on a CPU, and the memory does not matter."""


@dataclass
class AnyRefPipelineOutput(BaseOutput):  # type: ignore[misc]
    """`frames`: one video per prompt and repetition, batch first.

    "np": float array [B, F, Y, X, 3] in [0, 1]; "pt": tensor [B, F, 3, Y, X]; "pil": lists of images; "latent": the latents as
    sampled, [B, C, T, H, W], normalised, with MAGREF's canvas still at their start.
    """

    frames: Any


class AnyRefPipeline(DiffusionPipeline, WanLoraLoaderMixin):  # type: ignore[misc]
    """Makes videos of the people and things in reference images.

    `method` says how references reach the transformer: a `Method`, its name, or the content of an anyref.json. LoRA, offload, quantised
    components and caches work as on any diffusers pipeline. The VAE and the image encoder are meant to stay in float32. `fold_padding`
    False gives the transformer all 512 text tokens, as the releases do; the result is the same but for rounding.

    Arguments of a call beside diffusers' own. `reference_images`: an image, a list shared by all prompts, or a list per prompt; paths,
    PIL images, uint8 arrays or `Reference`s. `sigmas`: a falling grid in (0, 1], to which the shift is applied. `shift`, `solver`: sample
    this call with a scheduler made of them, instead of the pipeline's. `reference_guidance_scale`: how far to lead away from the same
    video without references, as `guidance_scale` leads away from the negative prompt; 1 is none, as in the releases; others cost one
    pass more (see guidance.combine). `guidance_batch`: all sides of guidance as one batch (less time), or a pass each (less memory);
    None: one batch for small videos, unless a callback wants to see the sides. `official`: the settings, sizes, scheduler and seed of the
    method's release. `keep_canvas`: return the frames that show MAGREF's canvas, too. `settings`: settings of the method for this call,
    by name; `shuffle` and `anchor_strength` are two of them. A `matter` cuts subjects out for methods that want them without background.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->transformer->vae"
    _callback_tensor_inputs: ClassVar = ["latents", "prompt_embeds", "negative_prompt_embeds"]
    _optional_components: ClassVar = ["image_encoder"]

    def __init__(
        self,
        tokenizer: AutoTokenizer,
        text_encoder: UMT5EncoderModel,
        vae: AutoencoderKLWan,
        transformer: AnyRefTransformer,
        scheduler: Any,
        image_encoder: CLIPVisionModel | None = None,
        method: Any = None,
        matter: Matter | None = None,
    ) -> None:
        super().__init__()
        if method is None:
            raise ValueError("a pipeline needs a method; pass method=, a name or a Method")
        if isinstance(method, str):
            method = {"method": method}
        self.method: Method = method_of(method) if isinstance(method, dict) else method
        if not isinstance(transformer, AnyRefTransformer):
            raise ValueError(
                f"the transformer is a {type(transformer).__name__}; load it with AnyRefTransformer.from_pretrained"
            )
        check_parts(self.method, transformer.config, has_image_encoder=image_encoder is not None)
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            transformer=transformer,
            scheduler=scheduler,
            image_encoder=image_encoder,
        )
        self.register_to_config(method=record_of(self.method))
        self.matter = matter
        self.video_processor = VideoProcessor(vae_scale_factor=SPATIAL_STRIDE)
        self.fold_padding = True
        self._guidance_scale = 1.0
        self._reference_guidance_scale = 1.0
        self._attention_kwargs: dict[str, Any] | None = None
        self._num_timesteps = 0
        self._interrupt = False

    @classmethod
    def from_pretrained(  # noqa: PLR0913 - diffusers' flat arguments, named one by one instead of passed through
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        method: str | Method | None = None,
        dtype: torch.dtype = torch.float32,
        transformer: AnyRefTransformer | None = None,
        vae: AutoencoderKLWan | None = None,
        text_encoder: UMT5EncoderModel | None = None,
        tokenizer: Any = None,
        image_encoder: CLIPVisionModel | None = None,
        scheduler: Any = None,
        matter: Matter | None = None,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> "AnyRefPipeline":
        """Load an embedded model ("puppets/magref"), a folder, or a hub id.

        `method` is needed where the model has no anyref.json; a `Method` brings its own settings, and the model its sampling defaults. `dtype`
        is that of the transformer and the text encoder; VAE and image encoder are float32. Components that are passed are not loaded
        (quantised ones, for example). Raises ValueError for a model that is not there.
        """
        path = resolve_model(pretrained_model_name_or_path)
        if not Path(path).is_dir():
            path = str(download(path, revision, token, cache_dir, local_files_only))
        folder = read_folder(Path(path), method if method is None or isinstance(method, str) else method.name)
        load = folder.load
        pipeline = cls(
            tokenizer=load("tokenizer", AutoTokenizer, None, tokenizer),
            text_encoder=load("text_encoder", UMT5EncoderModel, dtype, text_encoder),
            vae=load("vae", AutoencoderKLWan, torch.float32, vae),
            transformer=load("transformer", AnyRefTransformer, dtype, transformer),
            scheduler=read_scheduler(folder) if scheduler is None else scheduler,
            image_encoder=load("image_encoder", CLIPVisionModel, torch.float32, image_encoder),
            method=folder.with_settings_of(method),
            matter=load("matter", Segmenter, None, matter),
        )
        pipeline.register_to_config(_name_or_path=str(pretrained_model_name_or_path))
        return pipeline

    def save_pretrained(
        self,
        save_directory: str | Path,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
    ) -> None:
        """Write a folder that `from_pretrained` reads: diffusers' layout with an anyref.json. A matter from the hub is not written."""
        record = record_of(self.method)
        self.register_to_config(method=record)  # the method may have been replaced since
        write_json(Path(save_directory) / RECORD, record)
        if isinstance(self.matter, Segmenter):
            self.matter.save_pretrained(Path(save_directory) / "matter")
        super().save_pretrained(save_directory, safe_serialization, variant, max_shard_size)

    @property
    def num_timesteps(self) -> int:
        """Steps of the call in progress."""
        return self._num_timesteps

    @torch.no_grad()
    def __call__(  # noqa: PLR0913, PLR0917 - diffusers' flat arguments
        self,
        prompt: str | list[str] | None = None,
        reference_images: Source | Sequence[Source] | Sequence[Sequence[Source]] | None = None,
        negative_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        sigmas: list[float] | None = None,
        guidance_scale: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | TextContext | None = None,
        negative_prompt_embeds: Tensor | TextContext | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_sequence_length: int = 512,
        keep_canvas: bool = False,
        official: bool = False,
        shuffle: bool | None = None,
        anchor_strength: float | None = None,
        guidance_batch: bool | None = None,
        shift: float | None = None,
        solver: Solver | None = None,
        settings: Mapping[str, Any] | None = None,
        reference_guidance_scale: float | None = None,
    ) -> AnyRefPipelineOutput | tuple[Any]:
        """Make videos. Arguments that are None take the model's own defaults; those that are not diffusers' are described above.

        Raises ValueError, before any work, for what cannot be made.
        """
        given = {"shuffle": shuffle, "anchor_strength": anchor_strength}
        method = for_call(self.method, official, given, settings)
        check_parts(method, self.transformer.config, has_image_encoder=self.image_encoder is not None)
        sampling = sampling_for_call(
            method, official, keep_canvas, height=height, width=width, num_frames=num_frames, shift=shift, solver=solver,
            num_inference_steps=num_inference_steps, guidance_scale=guidance_scale,
            reference_guidance_scale=reference_guidance_scale,
        )  # fmt: skip
        prompts = Prompts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        request = read_request(
            method, sampling, prompts, reference_images, num_videos_per_prompt, keep_canvas, sigmas
        )
        check_cut_out(request, self.matter is not None)
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        names = (callback_on_step_end_tensor_inputs, self._callback_tensor_inputs)
        check_inputs(request, self.vae.config.z_dim, generator, latents, output_type, *names)
        self._guidance_scale, self._attention_kwargs = sampling.guidance_scale, attention_kwargs
        self._reference_guidance_scale = sampling.reference_guidance_scale
        self._num_timesteps, self._interrupt = len(request.sigmas), False
        if generator is None and sampling.seed is not None:
            generator = torch.Generator(self._execution_device).manual_seed(sampling.seed)
        encoders = replace(self.encoders, max_sequence_length=max_sequence_length)

        latents = self.prepare_latents(request, generator, latents)
        branches = self.prepare_branches(request, encoders, prompts, generator)
        if guidance_batch is None:
            small = prod(latents.shape[2:]) // prod(PATCH) <= ONE_BATCH_TOKENS
            guidance_batch = small and callback_on_step_end is None
        if guidance_batch and len(branches) > 1:
            branches = [join(branches)]

        # A given solver or shift, or the release's, stands in for the pipeline's scheduler.
        replaced = official or shift is not None or solver is not None
        scheduler = make_scheduler(sampling.solver, sampling.shift) if replaced else self.scheduler
        timesteps = set_sigmas(scheduler, request.sigmas, self._execution_device)
        latents = self.denoise(
            latents, branches, scheduler, timesteps, callback_on_step_end, callback_on_step_end_tensor_inputs
        )

        frames = latents if output_type == "latent" else self.decode(request, encoders, latents, output_type)
        self.maybe_free_model_hooks()
        return AnyRefPipelineOutput(frames=frames) if return_dict else (frames,)

    @property
    def encoders(self) -> Encoders:
        """The frozen parts, as methods take them; no image encoder where the transformer reads no image features."""
        reads_images = self.transformer.config.image_dim is not None
        image_encoder = self.image_encoder if reads_images else None
        return Encoders(
            self.vae, self.text_encoder, self.tokenizer, image_encoder, self.fold_padding, matter=self.matter
        )

    def prepare_latents(
        self,
        request: Request,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: Tensor | None,
    ) -> Tensor:
        """Noise in float32, the first thing drawn from the generator: a seed's noise depends on the size only."""
        device = self._execution_device
        if latents is not None:
            return latents.to(device, torch.float32)
        shape = request.latent_shape(self.vae.config.z_dim)
        noise: Tensor = randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        return noise

    def prepare_branches(
        self,
        request: Request,
        encoders: Encoders,
        prompts: Prompts,
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> list[Branch]:
        """See `guidance.make_branches`; random settings of the method take the first generator."""
        first = generator[0] if isinstance(generator, list) else generator
        return make_branches(
            request, encoders, prompts, first, self._execution_device, self.transformer.dtype
        )

    def denoise(
        self,
        latents: Tensor,
        branches: list[Branch],
        scheduler: Any,
        timesteps: Tensor,
        callback: Callable[..., Any] | None = None,
        callback_inputs: Sequence[str] = ("latents",),
    ) -> Tensor:
        """The sampling loop, from noise to latents: in each step one transformer pass per branch."""
        with self.progress_bar(total=len(timesteps)) as progress:
            for index, timestep in enumerate(timesteps):
                if self._interrupt:
                    continue
                sides = [
                    side
                    for branch in branches
                    for side in self._velocities(latents, timestep, branch, index, scheduler)
                ]
                velocity = combine(sides, self._guidance_scale, self._reference_guidance_scale)
                latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
                if callback is not None:
                    shown = {"latents": latents, **texts_of(branches)}
                    asked = {name: shown.get(name) for name in callback_inputs}
                    returned = callback(self, index, timestep, asked) or {}
                    latents, branches = returned.get("latents", latents), with_texts(branches, returned)
                progress.update()
        return latents

    def decode(self, request: Request, encoders: Encoders, latents: Tensor, output_type: str) -> Any:
        """Latents to the frames that the user gets."""
        video_BCFYX = encoders.decode_latents(latents)
        # Frames first, one video at a time: what a method keeps of them it says in frames.
        kept = [request.method.output_frames(one.transpose(0, 1), request.keep_canvas) for one in video_BCFYX]
        return self.video_processor.postprocess_video(
            torch.stack(kept).transpose(1, 2), output_type=output_type
        )

    def _velocities(
        self, latents: Tensor, timestep: Tensor, branch: Branch, index: int, scheduler: Any
    ) -> Sequence[Tensor]:
        """The transformer's prediction for each side of a branch, in float32."""
        latents = latents.repeat(branch.sides, 1, 1, 1, 1)
        sequence = assemble(
            latents.to(self.transformer.dtype), timestep.expand(len(latents)), branch.conditioning
        )
        # diffusers' step caches (MagCache, TaylorSeer, ...) keep one state for each name.
        where = {
            "step_index": index,
            "sigma": float(scheduler.sigmas[index]),
            "num_inference_steps": self._num_timesteps,
        }
        with self.transformer.cache_context(branch.name, **where):
            velocity: Tensor = self.transformer(
                sequence,
                encoder_hidden_states=branch.text,
                attention_kwargs=self._attention_kwargs,
                return_dict=False,
                cache=branch.cache,
            )[0]
        return velocity.float().chunk(branch.sides)

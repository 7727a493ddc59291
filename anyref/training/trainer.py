"""Train a transformer on encoded samples with flow matching: any method, any backbone, one device.

Enters: a `TrainConfig`. Leaves: a run folder with checkpoints, metrics, contact sheets, and at the end the transformer in diffusers' format.
The loss is that of MAGREF's Appendix A (Wan's): the mean squared error of the velocity of the video's latents.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from anyref.conditioning import Conditioning, assemble
from anyref.encoders import Encoders, concatenate_text
from anyref.latents import TextContext, VideoShape
from anyref.methods import Method
from anyref.methods.kaleido import resolution_shift
from anyref.training.data import Batch, Example, collate, draw_batches, first_frames, shortened
from anyref.training.flow import FlowConfig, add_noise, draw_sigmas, velocity_loss
from anyref.training.loop import FitConfig, fit
from anyref.transformer import AnyRefTransformer

TEXT_TOKENS = 40
"""Text is padded to this many tokens in a batch (longer batches to their own length): a compiled transformer sees one size."""

TOKEN_GROUPS, GROUP_SIZE = 4, 16
"""A step's samples are computed in up to this many parts where they have reference tokens, sorted by their number, so that little is padding;
parts of fewer samples than GROUP_SIZE would cost more in calls than they save."""


@dataclass(frozen=True)
class Phase:
    """A part of the training in which samples are cut to their first latent frames, and more of them fit a step."""

    until: float
    """Fraction of the steps at which it ends."""
    latent_frames: int
    batch_size: int


@dataclass(frozen=True)
class TrainConfig:
    """What is trained and how; data and models are handed to `train` separately."""

    fit: FitConfig
    flow: FlowConfig = field(default_factory=FlowConfig)
    batch_size: int = 32
    """Videos a micro-step."""
    phases: tuple[Phase, ...] = ()
    """Shorter samples first (as Wan is trained: pictures, then clips); after the last phase whole samples, `batch_size` a step."""
    text_dropout: float = 0.1
    """How often a caption is replaced by the empty one, for guidance."""
    reference_dropout: float = 0.1
    """How often all references are left out."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """bfloat16: autocast over float32 weights."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    compile: bool = False
    """Compile the repeated blocks: faster steps after a minute's wait."""


class TextAndTransformer(nn.Module):
    """What is optimised: the transformer, and the text encoder while that is trained with it."""

    def __init__(self, transformer: AnyRefTransformer, text_encoder: nn.Module | None) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder


@dataclass(frozen=True)
class FrozenText(Encoders):
    """Encoders whose text encoder is not trained: what it says of a caption is computed once.

    A caption is encoded alone, so that what a step sees does not depend on the steps before it, as a resumed run has others. Texts beyond
    `text_bytes` in all are computed each time.
    """

    text_bytes: int = 2**30
    known: dict[str, TextContext] = field(default_factory=dict)

    def encode_text(self, prompts: Sequence[str]) -> TextContext:
        """Like Encoders.encode_text."""
        return concatenate_text([self._one(prompt) for prompt in prompts])

    def _one(self, prompt: str) -> TextContext:
        context = self.known.get(prompt)
        if context is None:
            context = super().encode_text([prompt])
            size = context.tokens_BSD.numel() * context.tokens_BSD.element_size()
            if (len(self.known) + 1) * size <= self.text_bytes:
                self.known[prompt] = context
        return context


@dataclass(frozen=True)
class TrainingData:
    """Encoded samples of one sampled shape; `validation` may be empty.

    `short` holds other samples, only their first latent frames encoded: more of them for the same work. The phases that need no more
    frames than they have draw from them. `buckets` holds samples of other shapes: a step draws one shape, each by the number of its
    samples, and then samples of it.
    """

    examples: Sequence[Example]
    shape: VideoShape
    validation: Sequence[Example] = ()
    short: Sequence[Example] = ()
    buckets: "Sequence[TrainingData]" = ()

    @property
    def shapes(self) -> "tuple[TrainingData, ...]":
        """This one and its buckets."""
        return (self, *self.buckets)

    def examples_of(self, latent_frames: int) -> Sequence[Example]:
        """What a phase of this many latent frames draws from."""
        enough = bool(self.short) and self.short[0].latents_CTHW.shape[1] >= latent_frames
        return self.short if enough else self.examples


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon takes a parameter: weight matrices of the blocks, not embeddings, tables, or the ends of the network."""
    return (
        parameter.ndim == 2 and (".blocks." in name or ".block." in name) and "relative_attention" not in name
    )


def train(
    transformer: AnyRefTransformer,
    method: Method,
    encoders: Encoders,
    data: TrainingData,
    config: TrainConfig,
    *,
    train_text_encoder: bool = False,
    draw_samples: Callable[[int], None] | None = None,
    captions: dict[str, TextContext] | None = None,
) -> None:
    """Train in place. `draw_samples(step)` writes a contact sheet with the averaged weights. `captions`: what a text encoder that is not
    trained has said of them; more is added, for the next training with the same one."""
    shapes = data.shapes
    counts = np.array([len(one.examples) for one in shapes])
    model = TextAndTransformer(transformer, encoders.text_encoder if train_text_encoder else None)
    transformer.requires_grad_(True)
    encoders.text_encoder.requires_grad_(train_text_encoder)
    if not train_text_encoder:
        frozen = {one.name: getattr(encoders, one.name) for one in fields(Encoders)}
        encoders = FrozenText(**frozen, known={} if captions is None else captions)
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    if config.compile:
        transformer.compile_repeated_blocks()
        # Sizes of batches, phases and reference tokens: past torch's limit of 8 the blocks would run uncompiled.
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    empties = [method.condition([[]], None, one.shape, encoders).to("cpu", torch.float32) for one in shapes]

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng((config.fit.seed, step))
        progress = step / (config.fit.num_steps * config.fit.accumulate)
        chosen = int(rng.choice(len(shapes), p=counts / counts.sum())) if len(shapes) > 1 else 0
        whole = Phase(1.0, shapes[chosen].shape.latent[0], config.batch_size)
        phase = next((phase for phase in config.phases if progress < phase.until), whole)
        examples = shapes[chosen].examples_of(phase.latent_frames)
        batches = draw_batches(
            examples,
            shortened(empties[chosen], examples[0].latents_CTHW.shape[1]),
            phase.batch_size,
            config.text_dropout,
            config.reference_dropout,
            rng,
            max(1, min(TOKEN_GROUPS, phase.batch_size // GROUP_SIZE)),
        )
        total = torch.zeros((), device=next(transformer.parameters()).device)
        for part in batches:
            batch = first_frames(part, phase.latent_frames)
            sigma_B = draw_sigmas(flow_at(config.flow, shapes[chosen].shape), len(batch.captions), generator)
            noise_BCTHW = torch.randn(batch.latents_BCTHW.shape, generator=generator)
            total = total + batch_loss(transformer, encoders, batch, sigma_B, noise_BCTHW, config).sum()
        return total / phase.batch_size, {}

    def validate(step: int) -> dict[str, float]:
        # Uncompiled: graphs without gradients would take longer to compile than these few passes take.
        with torch.compiler.set_stance("force_eager"):
            if draw_samples is not None:
                draw_samples(step)
            losses = [
                loss
                for one, empty in zip(shapes, empties, strict=True)
                for loss in clip_losses(
                    transformer,
                    encoders,
                    empty,
                    one.validation,
                    replace(config, flow=flow_at(config.flow, one.shape)),
                )
            ]
            return {"held_out_loss": float(np.mean(losses))} if losses else {}

    fit(model, loss, config.fit, is_hidden_matrix, validate)


def flow_at(flow: FlowConfig, shape: VideoShape) -> FlowConfig:
    """With the shift of this size where it goes by the size."""
    return replace(flow, shift=resolution_shift(shape)) if flow.shift == "resolution" else flow


def batch_loss(
    transformer: AnyRefTransformer,
    encoders: Encoders,
    batch: Batch,
    sigma_B: Tensor,
    noise_BCTHW: Tensor,
    config: TrainConfig,
) -> Tensor:
    """The loss of each video, [B], at given noise levels and noise."""
    parameter = next(transformer.parameters())
    device = parameter.device
    clean, noise, sigma = (value.to(device) for value in (batch.latents_BCTHW, noise_BCTHW, sigma_B))
    weight = 1 + config.flow.foreground_weight * batch.weight_BTHW[:, None].to(device)
    weight[:, :, 0] *= config.flow.first_frame_weight
    with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
        text = pad_text(encoders.encode_text(batch.captions), TEXT_TOKENS)
        conditioning = batch.conditioning.to(device, torch.float32)
        sequence = assemble(add_noise(clean, noise, sigma), 1000 * sigma, conditioning)
        velocity = transformer(sequence, encoder_hidden_states=text, return_dict=False)[0]
    return velocity_loss(velocity, clean, noise, weight)


def pad_text(text: TextContext, length: int) -> TextContext:
    """Add hidden tokens (bias -inf) up to `length`."""
    missing = length - text.tokens_BSD.shape[1]
    if missing <= 0 or text.bias_BS is None:
        return text
    return TextContext(
        nn.functional.pad(text.tokens_BSD, (0, 0, 0, missing)),
        nn.functional.pad(text.bias_BS, (0, missing), value=-math.inf),
    )


@torch.no_grad()
def clip_losses(
    transformer: AnyRefTransformer,
    encoders: Encoders,
    empty: Conditioning,
    examples: Sequence[Example],
    config: TrainConfig,
    batch_size: int = 32,
) -> list[float]:
    """Loss of each example at the same noise and noise levels every time: comparable between runs and between references."""
    losses: list[float] = []
    for start in range(0, len(examples), batch_size):
        part = examples[start : start + batch_size]
        batch = collate(part, empty, [True] * len(part), [example.caption for example in part])
        generator = torch.Generator().manual_seed(start)
        sigma_B = draw_sigmas(config.flow, len(part), generator)
        noise = torch.randn(batch.latents_BCTHW.shape, generator=generator)
        losses += batch_loss(transformer, encoders, batch, sigma_B, noise, config).tolist()
    return losses

"""Fine-tune a transformer for a stage of the recipe: encode clips once, train on them, draw contact sheets on the way."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel

from anyref import files
from anyref.encoders import Encoders
from anyref.methods import Method
from anyref.pipeline import AnyRefPipeline
from anyref.puppets import Stage, autoencoder
from anyref.puppets.budgets import BUDGETS
from anyref.puppets.plan import Recipe
from anyref.sampling import make_scheduler
from anyref.training import data
from anyref.training.flow import FlowConfig
from anyref.training.run import sheet_drawer
from anyref.training.trainer import TrainConfig, TrainingData, train
from anyref.transformer import AnyRefTransformer
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import Split


def load_encoders(weights: Path, device: str = "cpu") -> Encoders:
    """The shared parts of the embedded models, float32, frozen."""
    shared = weights / "shared"
    parts: list[nn.Module] = [
        AutoencoderKLWan.from_pretrained(shared / "vae"),
        UMT5EncoderModel.from_pretrained(shared / "text_encoder"),
        CLIPVisionModel.from_pretrained(shared / "image_encoder"),
    ]
    for part in parts:
        part.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
    return Encoders(parts[0], parts[1], AutoTokenizer.from_pretrained(shared / "tokenizer"), parts[2])


@torch.no_grad()
def widen(narrow: AnyRefTransformer, wide: AnyRefTransformer) -> None:
    """Give an I2V transformer the weights of a T2V one: the new input channels start at zero, and so do the image values."""
    state = narrow.state_dict()
    for name, parameter in wide.named_parameters():
        if name == "patch_embedding.weight":
            parameter.zero_()
            parameter[:, : narrow.config.in_channels] = state[name]
        elif name in state:
            parameter.copy_(state[name])
        elif "add_v_proj" in name:
            parameter.zero_()


def train_stage(
    recipe: Recipe,
    stage: Stage,
    method: Method,
    encoders: Encoders,
    transformer: AnyRefTransformer,
    *,
    train_text_encoder: bool = False,
    held_out: Method | None = None,
) -> TrainConfig:
    """Train on clips prepared for `method`, measuring the loss on held-out ones prepared for `held_out` (the same if None)."""
    budget = BUDGETS[recipe.budget]
    part = budget.parts[stage]
    config = TrainConfig(
        fit=recipe.fit(stage),
        flow=FlowConfig(shift=2.0, foreground_weight=3.0, first_frame_weight=part.first_frame_weight),
        batch_size=part.batch_size,
        phases=part.phases,
        reference_dropout=part.reference_dropout,
        compile=budget.compiled,
    )
    cache, shape = recipe.output / "cache", method.sampled_shape(recipe.shape, keep_canvas=False)
    examples = prepare_examples(recipe, method, "train", part.clips, cache / stage)
    short = prepare_examples(
        recipe, method, "train", part.short_clips, cache / f"{stage}-short", part.short_frames
    )
    validation = prepare_examples(
        recipe, held_out or method, "validation", min(128, part.clips), cache / f"{stage}-validation"
    )
    transformer.to(recipe.device)
    train(
        transformer,
        method,
        encoders,
        TrainingData(examples, shape, validation, short),
        config,
        train_text_encoder=train_text_encoder,
        draw_samples=_sheets(recipe, stage, held_out or method, encoders, transformer),
    )
    return config


def _sheets(
    recipe: Recipe, stage: Stage, method: Method, encoders: Encoders, transformer: AnyRefTransformer
) -> Callable[[int], None]:
    """What draws contact sheets of two held-out clips into the stage's folder while it trains."""
    sampling = method.defaults
    image_encoder = encoders.image_encoder if transformer.config.image_dim is not None else None
    pipeline = AnyRefPipeline(
        tokenizer=encoders.tokenizer,
        text_encoder=encoders.text_encoder,
        vae=encoders.vae,
        transformer=transformer,
        scheduler=make_scheduler(sampling.solver, sampling.shift),
        image_encoder=image_encoder,
        method=method,
    )
    frames = method.training_frames(method.sampled_shape(recipe.shape, keep_canvas=False))
    world = PuppetWorld("validation", recipe.seed, recipe.height, recipe.width, frames)
    samples = [world.clip(index) for index in range(2)]
    return sheet_drawer(pipeline, samples, recipe.output / stage / "samples")


def prepare_examples(
    recipe: Recipe, method: Method, split: Split, count: int, folder: Path, latent_frames: int | None = None
) -> list[data.Example]:
    """Clips of the world, encoded for a method and kept in `folder`; with `latent_frames` only their beginnings."""
    if not count:
        return []
    shape = method.sampled_shape(recipe.shape, keep_canvas=False)
    world = partial(
        PuppetWorld, split, recipe.seed, recipe.height, recipe.width, method.training_frames(shape)
    )
    encoded_with = _encoders_of(recipe.weights / "shared")
    plain = repr(replace(cast("Any", method), defaults=None))  # how it is sampled changes no sample
    record = {"method": plain, "split": split, "seed": recipe.seed, "shape": asdict(shape)}
    if latent_frames is not None:
        record["latent_frames"] = latent_frames
    data.write_manifest(folder, record | {"encoded_with": encoded_with}, count)
    load = partial(load_for_encoding, recipe.weights, recipe.device)
    make = partial(data.make_encode, load, world, method, shape, recipe.seed, latent_frames)
    data.build_cache(folder, count, make, recipe.workers if recipe.device == "cpu" else 1)
    return data.load_cache(folder, count)


def _encoders_of(shared: Path) -> dict[str, str]:
    """What cached samples depend on, as check sums. The autoencoder's decoder is not among it."""
    sums = {
        str(path.relative_to(shared)): files.sha256(path)
        for part in ("vae", "image_encoder", "tokenizer")
        for path in sorted((shared / part).glob("*.safetensors")) + sorted((shared / part).glob("*.json"))
        if path.name not in ("training.json", "decoder.json", "motion.json")
        and (part != "vae" or path.suffix == ".json")
    }
    digest = hashlib.sha256()
    for path in sorted((shared / "vae").glob("*.safetensors")):
        for name, tensor in sorted(load_file(path).items()):
            if name.startswith(("encoder.", "quant_conv.")):
                digest.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return sums | {"vae/encoder": digest.hexdigest()}


def load_for_encoding(weights: Path, device: str) -> Encoders:
    """The shared parts, the autoencoder at once instead of in chunks."""
    encoders = load_encoders(weights, device)
    return replace(encoders, vae=autoencoder.WholeClipEncoder(encoders.vae))

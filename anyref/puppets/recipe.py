"""The recipe: every embedded model from nothing, in six stages, each resumable at any step.

autoencoder -> image-encoder -> text-to-video (with the text encoder) -> image-to-video -> magref; and identity, which judges them.
Each stage reads what the ones before it wrote under OUTPUT/weights (ordinary diffusers folders, bf16) and leaves its own. Encoders are
frozen once trained, as Wan's are. Budgets differ in numbers only; the seed and the world are the same.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKLWan
from torch import nn
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel

from anyref import files, provenance
from anyref.encoders import Encoders
from anyref.latents import VideoShape
from anyref.methods import Method
from anyref.methods.magref import MagrefMethod
from anyref.puppets import STAGES, Stage, autoencoder, cards, identity, image_encoder, models
from anyref.puppets.backbones import ImageToVideo, TextToVideo
from anyref.puppets.budgets import BUDGETS
from anyref.sampling import SamplingDefaults
from anyref.training import data
from anyref.training.flow import FlowConfig
from anyref.training.loop import FitConfig
from anyref.training.optimizers import OptimizerConfig
from anyref.training.trainer import TrainConfig, TrainingData, train
from anyref.transformer import AnyRefTransformer
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import Split

DEFAULTS: dict[str, object] = {
    "num_frames": models.NUM_FRAMES,
    "fps": models.FPS,
    "num_inference_steps": 25,
    "shift": 3.0,
    "guidance_scale": 2.5,
    "solver": "unipc",
    "sigmas": "linear",
    "negative_prompt": "",
}
ANCHOR_STRENGTH = 1.0
"""alpha of MAGREF's eq. 6 for the embedded weights; the paper does not give it."""
CROSS_PAIRS = 0.6
"""Share of cross-pairs in training; the others are crops. All held-out samples are cross-pairs."""
EXTRA_FRAMES = 4
"""Everything is trained on the 21 frames that MAGREF samples for 17."""


@dataclass(frozen=True)
class Recipe:
    """What `make puppets` runs."""

    output: Path = Path("outputs/puppets")
    """Run folders, caches and weights."""
    budget: Literal["cpu", "cuda", "rehearsal"] = "cpu"
    stages: tuple[Stage, ...] = STAGES
    """Which stages, in order; those whose weights are there are skipped."""
    seed: int = 0
    device: str = "cpu"
    workers: int = 2
    """Processes that encode clips."""
    height: int = models.HEIGHT
    width: int = models.WIDTH
    stop_after: int | None = field(default=None)
    """Stop, resumably, after this many steps of the first stage that is not finished."""

    @property
    def weights(self) -> Path:
        """Where the model folders are written."""
        return self.output / "weights"

    @property
    def defaults(self) -> dict[str, object]:
        """Sampling defaults of the models."""
        return {"height": self.height, "width": self.width, **DEFAULTS}

    @property
    def shape(self) -> VideoShape:
        """What is sampled in training: 17 frames and the canvas."""
        return VideoShape(models.NUM_FRAMES + EXTRA_FRAMES, self.height, self.width)

    def fit(self, stage: Stage) -> FitConfig:
        """The loop's configuration for a stage."""
        budget = BUDGETS[self.budget]
        part = budget.parts[stage]
        optimizer = OptimizerConfig(
            learning_rate=part.learning_rate,
            muon_learning_rate=part.muon_learning_rate,
            betas=(0.9, 0.99),
            weight_decay=part.weight_decay,
            schedule="linear",
            decay_fraction=0.3,
            warmup_steps=min(20, part.steps // 4),
        )
        return FitConfig(
            output=self.output / stage,
            num_steps=part.steps,
            seed=self.seed,
            optimizer=optimizer,
            ema_decay=0.998,
            checkpoint_every=budget.checkpoint_every,
            validate_every=max(1, part.steps // 4),
            stop_after=self.stop_after,
        )


def run(recipe: Recipe) -> None:
    """Run the stages that have not been run; a stage that is stopped before its end ends the run, for the next ones read what it leaves."""
    for stage in recipe.stages:
        _RUN[stage](recipe)
        if not (recipe.weights / _LEAVES[stage]).exists():
            return
    cards.write(recipe.weights)


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


def _save(model: Any, folder: Path, record: dict[str, Any]) -> None:
    """bf16 safetensors and the record of the training beside them; `training.json` marks the folder as finished."""
    model.to("cpu", torch.bfloat16).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)  # where the training began is a path of that machine
    files.write_json(folder / "config.json", config)
    files.write_json(folder / "training.json", record)


def _record(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """How a part was trained: the numbers of its stage, seed, sizes, and the state of the code."""
    return {
        "stage": stage,
        "budget": recipe.budget,
        "numbers": asdict(BUDGETS[recipe.budget].parts[stage]),
        "seed": recipe.seed,
        "frames": [recipe.shape.num_frames, recipe.height, recipe.width],
        "commit": provenance.commit(),
    }


def _finished(folder: Path) -> bool:
    return (folder / "training.json").exists()


def _reached(config: FitConfig) -> bool:
    found = config.output / "checkpoints" / f"step-{config.num_steps:08d}"
    return found.exists()


def _train_autoencoder(recipe: Recipe) -> None:
    folder = recipe.weights / "shared" / "vae"
    if _finished(folder):
        return
    vae = models.build_autoencoder()
    torch.manual_seed(recipe.seed)
    models.initialise(vae, recipe.seed)
    config = recipe.fit("autoencoder")
    budget = BUDGETS[recipe.budget]
    clip_shape = replace(recipe.shape, num_frames=models.NUM_FRAMES)
    autoencoder.train(
        vae.to(recipe.device),
        config,
        clip_shape,
        compiled=budget.compiled,
        batch_scale=budget.batch_scale,
    )
    if _reached(config):
        vae.to("cpu", torch.bfloat16).save_pretrained(folder)
        # What is measured is what is shipped, in bf16.
        shipped = AutoencoderKLWan.from_pretrained(folder).float().eval()
        clips, canvases = autoencoder.measure_psnr(shipped, clip_shape, 64, "test")
        record = _record(recipe, "autoencoder") | {"psnr_db": {"clips": clips, "canvases": canvases}}
        files.write_json(folder / "training.json", record)


def _train_image_encoder(recipe: Recipe) -> None:
    folder = recipe.weights / "shared" / "image_encoder"
    if _finished(folder):
        return
    torch.manual_seed(recipe.seed)
    tower = models.build_image_encoder()
    models.initialise(tower, recipe.seed + 1)
    config = recipe.fit("image-encoder")
    image_encoder.train(
        tower.to(recipe.device),
        config,
        recipe.shape,
        BUDGETS[recipe.budget].parts["image-encoder"].batch_size,
    )
    if _reached(config):
        _save(tower, folder, _record(recipe, "image-encoder"))


def _train_text_to_video(recipe: Recipe) -> None:
    folder = recipe.weights / "t2v" / "transformer"
    if _finished(folder):
        return
    shared = recipe.weights / "shared"
    if not (shared / "text_encoder" / "config.json").exists():
        world = PuppetWorld("train", seed=recipe.seed, height=recipe.height, width=recipe.width, num_frames=1)
        tokenizer = models.build_tokenizer([world.clip(index).caption for index in range(4000)])
        tokenizer.save_pretrained(shared / "tokenizer")
        text_encoder = models.build_text_encoder(tokenizer)
        models.initialise(text_encoder, recipe.seed + 2)
        text_encoder.save_pretrained(shared / "text_encoder")
    transformer = models.build_transformer(image_to_video=False)
    models.initialise(transformer, recipe.seed + 3)
    encoders = load_encoders(recipe.weights, recipe.device)
    method = TextToVideo(SamplingDefaults(**recipe.defaults))  # type: ignore[arg-type]
    config = _train_stage(recipe, "text-to-video", method, encoders, transformer, train_text_encoder=True)
    if _reached(config.fit):
        _save(encoders.text_encoder, shared / "text_encoder", _record(recipe, "text-to-video"))
        _save(transformer, folder, _record(recipe, "text-to-video"))


def _train_image_to_video(recipe: Recipe) -> None:
    folder = recipe.weights / "i2v" / "transformer"
    if _finished(folder):
        return
    narrow = AnyRefTransformer.from_pretrained(recipe.weights / "t2v" / "transformer", dtype=torch.float32)
    transformer = models.build_transformer(image_to_video=True)
    models.initialise(transformer, recipe.seed + 4)
    widen(narrow, transformer)
    method = ImageToVideo(defaults=SamplingDefaults(**recipe.defaults))  # type: ignore[arg-type]
    config = _train_stage(
        recipe, "image-to-video", method, load_encoders(recipe.weights, recipe.device), transformer
    )
    if _reached(config.fit):
        _save(transformer, folder, _record(recipe, "image-to-video"))
        models.write_model_folder(recipe.weights / "i2v", "magref", 0.0, recipe.defaults)


def _train_magref(recipe: Recipe) -> None:
    folder = recipe.weights / "magref" / "transformer"
    if _finished(folder):
        return
    transformer = AnyRefTransformer.from_pretrained(
        recipe.weights / "i2v" / "transformer", dtype=torch.float32
    )
    method = MagrefMethod(anchor_strength=ANCHOR_STRENGTH, defaults=SamplingDefaults(**recipe.defaults))  # type: ignore[arg-type]
    # Crops from the clip itself show where a picture's parts go in a few hundred steps; cross-pairs alone take far longer.
    eased = replace(method, cross_pair_probability=CROSS_PAIRS)
    encoders = load_encoders(recipe.weights, recipe.device)
    config = _train_stage(recipe, "magref", eased, encoders, transformer, held_out=method)
    if _reached(config.fit):
        _save(transformer, folder, _record(recipe, "magref"))
        models.write_model_folder(recipe.weights / "magref", "magref", ANCHOR_STRENGTH, recipe.defaults)


def _train_identity(recipe: Recipe) -> None:
    path = recipe.weights / "identity.safetensors"
    if path.exists():
        return
    config = recipe.fit("identity")
    encoder = identity.train(config, BUDGETS[recipe.budget].parts["identity"].batch_size, recipe.device)
    if _reached(config):
        identity.save(encoder, path)


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


_LEAVES: dict[Stage, str] = {
    "autoencoder": "shared/vae/training.json",
    "image-encoder": "shared/image_encoder/training.json",
    "text-to-video": "t2v/transformer/training.json",
    "image-to-video": "i2v/transformer/training.json",
    "magref": "magref/transformer/training.json",
    "identity": "identity.safetensors",
}
"""The last thing that a finished stage writes."""
_RUN: dict[Stage, Callable[[Recipe], None]] = {
    "autoencoder": _train_autoencoder,
    "image-encoder": _train_image_encoder,
    "text-to-video": _train_text_to_video,
    "image-to-video": _train_image_to_video,
    "magref": _train_magref,
    "identity": _train_identity,
}


def _train_stage(
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
    cache = recipe.output / "cache"
    examples = prepare_examples(recipe, method, "train", part.clips, cache / stage)
    short = prepare_examples(
        recipe, method, "train", part.short_clips, cache / f"{stage}-short", part.short_frames
    )
    validation = prepare_examples(
        recipe, held_out or method, "validation", min(128, part.clips), cache / f"{stage}-validation"
    )
    train(
        transformer.to(recipe.device),
        method,
        encoders,
        TrainingData(examples, recipe.shape, validation, short),
        config,
        train_text_encoder=train_text_encoder,
    )
    return config


def prepare_examples(
    recipe: Recipe, method: Method, split: Split, count: int, folder: Path, latent_frames: int | None = None
) -> list[data.Example]:
    """Clips of the world, encoded for a method and kept in `folder`; with `latent_frames` only their beginnings."""
    if not count:
        return []
    world = partial(
        PuppetWorld, split, recipe.seed, recipe.height, recipe.width, method.training_frames(recipe.shape)
    )
    shared = recipe.weights / "shared"
    encoded_with = {
        str(path.relative_to(shared)): files.sha256(path)
        for part in ("vae", "image_encoder", "tokenizer")
        for path in sorted((shared / part).glob("*.safetensors")) + sorted((shared / part).glob("*.json"))
        if path.name != "training.json"
    }
    record = {"method": repr(method), "split": split, "seed": recipe.seed, "shape": asdict(recipe.shape)}
    if latent_frames is not None:
        record["latent_frames"] = latent_frames
    data.write_manifest(folder, record | {"count": count, "encoded_with": encoded_with})
    load = partial(load_for_encoding, recipe.weights, recipe.device)
    make = partial(data.make_encode, load, world, method, recipe.shape, recipe.seed, latent_frames)
    data.build_cache(folder, count, make, recipe.workers if recipe.device == "cpu" else 1)
    return data.load_cache(folder, count)


def load_for_encoding(weights: Path, device: str) -> Encoders:
    """The shared parts, the autoencoder at once instead of in chunks."""
    encoders = load_encoders(weights, device)
    return replace(encoders, vae=autoencoder.WholeClipEncoder(encoders.vae))

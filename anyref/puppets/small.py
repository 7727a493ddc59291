"""Small backbones that an ablation table trains for itself, so that it needs nothing but what is embedded.

The embedded text encoder, autoencoder and image tower, frozen; a transformer of a quarter of the embedded models' weights; videos of five
frames. They are made as the embedded backbones are: text to video from nothing, image to video from that (see recipe.py).
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from anyref.encoders import Encoders
from anyref.files import write_json
from anyref.latents import VideoShape
from anyref.methods import Method
from anyref.puppets import models
from anyref.puppets.autoencoder import WholeClipEncoder
from anyref.puppets.backbones import ImageToVideo, TextToVideo
from anyref.puppets.plan import DEFAULTS, finished
from anyref.puppets.remembering import RememberingEncoder
from anyref.puppets.tuning import load_encoders, widen
from anyref.samples import Sample
from anyref.sampling import SamplingDefaults
from anyref.training import data
from anyref.training.flow import FlowConfig
from anyref.training.loop import FitConfig
from anyref.training.optimizers import OptimizerConfig
from anyref.training.trainer import TrainConfig, TrainingData, train
from anyref.transformer import AnyRefTransformer
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import Split


@dataclass(frozen=True)
class SmallBackbones:
    """How large they are and how long they train."""

    text_to_video_steps: int
    image_to_video_steps: int
    clips: int
    batch_size: int = 64
    width: int = 128
    layers: int = 6
    num_frames: int = 5
    compiled: bool = True

    @property
    def defaults(self) -> dict[str, Any]:
        """What they sample."""
        return {**DEFAULTS, "num_frames": self.num_frames, "height": models.HEIGHT, "width": models.WIDTH}


class SmallWorld:
    """The puppet world's clips of one and of two subjects in turn, and no other references.

    Five frames have two latent ones: as many references as that fit the rows that give each a latent frame of its own."""

    def __init__(self, split: Split, seed: int, height: int, width: int, num_frames: int) -> None:
        self.world = PuppetWorld(split, seed, height, width, num_frames)

    def clip(self, index: int) -> Sample:
        """Clip number `index`."""
        return self.world.clip(
            index, num_subjects=1 + index % 2, background_reference=False, clothing_reference=False
        )


def make(
    folder: Path,
    small: SmallBackbones,
    optimizer: OptimizerConfig,
    memory: Path,
    device: str = "cpu",
    workers: int = 1,
) -> None:
    """Train what is not there yet: the model folders t2v and i2v. `memory`: the file of a `RememberingEncoder`."""
    defaults = SamplingDefaults(**small.defaults)
    narrow = models.build_transformer(image_to_video=False, width=small.width, layers=small.layers)
    models.initialise(narrow, 3)
    run = _Run(folder, small, optimizer, memory, device, workers)
    _train(run, "t2v", TextToVideo(defaults), lambda: narrow, small.text_to_video_steps)

    def widened() -> AnyRefTransformer:
        wide = models.build_transformer(image_to_video=True, width=small.width, layers=small.layers)
        models.initialise(wide, 4)
        widen(AnyRefTransformer.from_pretrained(folder / "t2v" / "transformer", dtype=torch.float32), wide)
        return wide

    _train(run, "i2v", ImageToVideo(defaults=defaults), widened, small.image_to_video_steps)


def is_made_by(small: SmallBackbones, folder: Path) -> bool:
    """Whether a folder is a backbone that `make` has finished, of these numbers."""
    path = folder / "transformer" / "training.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["small"] == asdict(small)


def remembering(load: Callable[[], Any], memory: Path) -> SimpleNamespace:
    """The encoders of a pipeline, for encoding samples: whole clips at once, and none twice."""
    return SimpleNamespace(encoders=_remembering(load().encoders, memory))


@dataclass(frozen=True)
class _Run:
    folder: Path
    small: SmallBackbones
    optimizer: OptimizerConfig
    memory: Path
    device: str
    workers: int


def _train(run: _Run, name: str, method: Method, begin: Callable[[], AnyRefTransformer], steps: int) -> None:
    small, output = run.small, run.folder / name
    if finished(output / "transformer"):
        return
    own = VideoShape(small.num_frames, models.HEIGHT, models.WIDTH)
    shape = method.sampled_shape(own, keep_canvas=False)
    cache = run.folder / "cache" / name
    world = partial(SmallWorld, "train", 0, models.HEIGHT, models.WIDTH, method.training_frames(shape))
    data.write_manifest(cache, {"method": method.name, "shape": asdict(shape)}, small.clips)
    make = partial(data.make_encode, partial(_load_encoders, run.memory, run.device), world, method, shape, 0)
    data.build_cache(cache, small.clips, make, run.workers)
    fit = FitConfig(
        output=run.folder / "runs" / name,
        num_steps=steps,
        optimizer=run.optimizer,
        ema_decay=0.99,
        checkpoint_every=100,
        validate_every=0,
    )
    config = TrainConfig(
        fit=fit,
        flow=FlowConfig(shift=2.0, foreground_weight=2.0),
        batch_size=small.batch_size,
        compile=small.compiled,
    )
    transformer, encoders = begin().to(run.device), load_encoders(models.WEIGHTS, run.device)
    train(transformer, method, encoders, TrainingData(data.load_cache(cache, small.clips), shape), config)
    transformer.to(torch.bfloat16).save_pretrained(output / "transformer")
    models.write_model_folder(
        output, small.defaults, shared=os.path.relpath(models.WEIGHTS / "shared", output)
    )
    write_json(output / "transformer" / "training.json", {"small": asdict(small)})


def _load_encoders(memory: Path, device: str) -> Encoders:
    return _remembering(load_encoders(models.WEIGHTS, device), memory)


def _remembering(encoders: Encoders, memory: Path) -> Encoders:
    return replace(encoders, vae=RememberingEncoder(WholeClipEncoder(encoders.vae), memory))

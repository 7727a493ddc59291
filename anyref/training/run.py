"""Run a training recipe on clips of the puppet world: encode, train with contact sheets on the way, save a model folder.

The pipeline is passed in: training knows the parts it trains, not how videos are sampled.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from anyref import media
from anyref.latents import VideoShape
from anyref.methods import Method
from anyref.samples import Sample
from anyref.training.data import Encode, build_cache, encode_samples, load_cache, write_manifest
from anyref.training.recipes import TrainingRecipe
from anyref.training.trainer import train
from anyref.worlds import PuppetWorld

NUM_SHEET_SAMPLES = 4
Split = Literal["train", "validation", "test"]


def run(recipe: TrainingRecipe, pipeline: Any, load: Callable[[], Any], workers: int = 1) -> Path:
    """Train and return the finished model's folder. `load()` gives a fresh pipeline to each process that encodes."""
    output = recipe.train.fit.output
    asked = pipeline.method.defaults
    shape = recipe.method.sampled_shape(VideoShape(asked.num_frames, asked.height, asked.width), keep_canvas=False)
    record = {"recipe": asdict(recipe), "shape": asdict(shape)}
    make = partial(_make_encode, load, recipe.method, shape, recipe.world_seed)
    encoded = {}
    for split, count in (("train", recipe.clips), ("validation", min(64, recipe.clips))):
        folder = output / "cache" / split
        write_manifest(folder, {"method": asdict(recipe.method), "base": recipe.base, "shape": asdict(shape), "count": count})
        build_cache(folder, count, partial(make, split), workers)  # type: ignore[arg-type]
        encoded[split] = load_cache(folder, count)
    world = PuppetWorld("validation", seed=0, height=shape.height, width=shape.width, num_frames=asked.num_frames)
    pipeline.method = replace(recipe.method, defaults=asked)
    train(
        pipeline.transformer,
        recipe.method,
        pipeline.encoders,
        encoded["train"],
        shape,
        recipe.train,
        validation=encoded["validation"],
        draw_samples=sheet_drawer(pipeline, [world.clip(index) for index in range(NUM_SHEET_SAMPLES)], output / "samples"),
    )
    pipeline.save_pretrained(output / "model")
    (output / "model" / "training.json").write_text(json.dumps(record, indent=1, default=str) + "\n")
    return output / "model"


def sheet_drawer(pipeline: Any, samples: Sequence[Sample], folder: Path) -> Callable[[int], None]:
    """A function of the step that generates the samples' captions with their references and writes one contact sheet."""

    def draw(step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, sample in enumerate(samples):
            references = pipeline.method.training_references(sample, np.random.default_rng(number))
            frames = pipeline(
                prompt=sample.caption, reference_images=references, generator=torch.Generator().manual_seed(number)
            ).frames[0]
            video: NDArray[np.uint8] = np.rint(255 * np.asarray(frames)).astype(np.uint8)
            sheet = media.contact_sheet([reference.image for reference in references], video, sample.caption)
            sheet.save(folder / f"step-{step:08d}-{number}.png")

    return draw


def _make_encode(
    load: Callable[[], Any], method: Method, shape: VideoShape, seed: int, split: Split
) -> Encode:
    encoders = load().encoders
    world = PuppetWorld(split, seed=seed, height=shape.height, width=shape.width, num_frames=shape.num_frames - 1)

    def encode(indices: Sequence[int]) -> list[Any]:
        samples = [world.clip(index) for index in indices]
        rngs = [np.random.default_rng((seed, index)) for index in indices]
        return encode_samples(samples, method, encoders, shape, rngs)

    return encode

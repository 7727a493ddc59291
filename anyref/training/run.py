"""Run a training recipe on clips of the puppet world or a curated set: encode, train with contact sheets on the way, save a model folder.

The pipeline is passed in: training knows the parts it trains, not how videos are sampled.
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from anyref import media
from anyref.encoders import Encoders
from anyref.files import write_json
from anyref.latents import TextContext, VideoShape
from anyref.methods.folder import record_of
from anyref.samples import Sample
from anyref.training.checkpoint import newest_step
from anyref.training.data import Example, Source, build_cache, load_cache, make_encode, write_manifest
from anyref.training.recipes import TrainingRecipe
from anyref.training.trainer import TrainingData, train
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import Split

NUM_SHEET_SAMPLES = 4


@dataclass(frozen=True)
class DataSet:
    """What is trained on. `open` takes split, seed, height, width and number of frames, as `PuppetWorld` does, and can be pickled."""

    open: Callable[..., Source] = PuppetWorld
    record: Mapping[str, Any] = field(default_factory=dict)
    """What decides its samples beside that: part of what a cache of encoded ones is known by."""
    splits: tuple[Split, ...] = ("train", "validation")
    """Those it has; without "validation" nothing is held out."""
    buckets: tuple[VideoShape, ...] = ()
    """Lengths and sizes that clips are trained at; none: the model's own."""


def run(
    recipe: TrainingRecipe,
    pipeline: Any,
    load: Callable[[], Any],
    workers: int = 1,
    cache: Path | None = None,
    data: DataSet | None = None,
    captions: dict[str, TextContext] | None = None,
) -> Path | None:
    """Train and return the finished model's folder, None where the run was stopped before its end.

    `load()` gives a fresh pipeline to each process that encodes. Encoded samples lie in `cache`, or in the run's folder. `data`: the puppet
    world unless given. `captions`: see `train`."""
    data = data or DataSet()
    output = recipe.train.fit.output
    asked = pipeline.method.defaults
    own = VideoShape(asked.num_frames, asked.height, asked.width)
    shapes = [recipe.method.sampled_shape(one, keep_canvas=False) for one in data.buckets or (own,)]
    encoded = _encode(recipe, data, shapes, cache or output / "cache", load, workers)
    first = (shapes[0].height, shapes[0].width, recipe.method.training_frames(shapes[0]))
    shown = data.open(data.splits[-1], recipe.world_seed, *first)
    pipeline.method = replace(cast("Any", recipe.method), defaults=asked)
    train(
        pipeline.transformer,
        recipe.method,
        pipeline.encoders,
        replace(encoded[0], buckets=encoded[1:]),
        recipe.train,
        draw_samples=sheet_drawer(
            pipeline, [shown.clip(index) for index in range(NUM_SHEET_SAMPLES)], output / "samples"
        ),
        captions=captions,
    )
    if newest_step(output) < recipe.train.fit.num_steps:
        return None
    pipeline.save_pretrained(output / "model")
    write_json(
        output / "model" / "training.json",
        {"recipe": asdict(recipe), "shapes": [asdict(one) for one in shapes]},
    )
    return output / "model"


def _encode(
    recipe: TrainingRecipe,
    data: DataSet,
    shapes: Sequence[VideoShape],
    folder: Path,
    load: Callable[[], Any],
    workers: int,
) -> list[TrainingData]:
    """The samples of each shape, as many as its share of the clips; a shape that no clip of a split falls to has none there."""
    sizes = [(one.height, one.width, recipe.method.training_frames(one)) for one in shapes]
    found: list[dict[Split, list[Example]]] = [{} for _ in shapes]
    for split in data.splits:
        count = recipe.clips if split == "train" else min(64, recipe.clips)
        sources = [partial(data.open, split, recipe.world_seed, *size) for size in sizes]
        for number, share in enumerate(_shares(sources, count)):
            shape, place = shapes[number], folder / split
            if len(shapes) > 1:
                place = folder / f"{split}-{shape.num_frames}x{shape.height}x{shape.width}"
            encoded_with = {"method": record_of(recipe.method), "base": recipe.base, **data.record}
            write_manifest(place, {**encoded_with, "shape": asdict(shape)}, share)
            encoders = partial(_encoders, load)
            make = partial(make_encode, encoders, sources[number], recipe.method, shape, recipe.world_seed)
            build_cache(place, share, make, workers)
            found[number][split] = load_cache(place, share)
            if split == "train" and share:
                _tell_mix(sources[number](), share)
    return [
        TrainingData(one["train"], shape, one.get("validation", ()))
        for one, shape in zip(found, shapes, strict=True)
        if one["train"]
    ]


def _shares(sources: Sequence[Callable[[], Source]], count: int) -> list[int]:
    """How many samples each source gives: in proportion to its clips, at least one of each that has any; 0 of one that cannot be opened."""
    if len(sources) == 1:
        return [count]
    lengths = []
    for source in sources:
        try:
            lengths.append(len(cast("Sized", source())))
        except ValueError:  # no clip falls to this bucket
            lengths.append(0)
    total = sum(lengths)
    if not total:
        sources[0]()  # says what is wrong
    return [max(1, round(count * length / total)) if length else 0 for length in lengths]


def _tell_mix(source: Any, count: int) -> None:
    # A curated set draws each subject's picture; what the draws came to belongs to the run's log.
    if hasattr(source, "realised"):
        Console(highlight=False).print(f"references drawn: {source.realised(count)}")


def sheet_drawer(pipeline: Any, samples: Sequence[Sample], folder: Path) -> Callable[[int], None]:
    """A function of the step that generates the samples' captions with their references and writes one contact sheet."""
    pipeline.set_progress_bar_config(disable=True)  # the training's own lines are the progress

    def draw(step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number, sample in enumerate(samples):
            references = pipeline.method.training_references(sample, np.random.default_rng(number))
            frames = pipeline(
                prompt=sample.caption,
                reference_images=references,
                generator=torch.Generator().manual_seed(number),
            ).frames[0]
            video: NDArray[np.uint8] = np.rint(255 * np.asarray(frames)).astype(np.uint8)
            sheet = media.contact_sheet([reference.image for reference in references], video, sample.caption)
            sheet.save(folder / f"step-{step:08d}-{number}.png")

    return draw


def _encoders(load: Callable[[], Any]) -> Encoders:
    encoders: Encoders = load().encoders
    return encoders

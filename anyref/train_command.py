"""`anyref train`: its flags, and what turns them into a run."""

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from anyref.files import check_writable
from anyref.jobs import find_place, shown

if TYPE_CHECKING:
    from anyref.curation.fitting import Shape
    from anyref.latents import VideoShape
    from anyref.methods import Method
    from anyref.training.recipes import TrainingRecipe
    from anyref.training.run import DataSet
    from anyref.worlds.identities import Split


@dataclass(frozen=True)
class TrainCommand:
    """Fine-tune a backbone by a named recipe on clips of the world, or of a folder that `anyref curate` wrote; an interrupted run goes on
    where its last checkpoint stands.
    """

    recipe: tyro.conf.Positional[str]
    """Name of a recipe in anyref/training/recipes.py."""
    output: Annotated[Path | None, shown("PATH", "runs/RECIPE")] = None
    """Folder of caches, checkpoints, contact sheets, logs and the finished model."""
    base: Annotated[str | None, shown("STR", "the recipe's")] = None
    """The model to start from: an embedded name, a folder or a hub id."""
    num_steps: Annotated[int | None, shown("INT", "the recipe's")] = None
    """Optimizer steps."""
    data: Annotated[str | None, shown("DIR", "the puppet world")] = None
    """A curated set: the folder, or fsspec place, that `anyref curate` wrote."""
    bucket: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, shown("FxHxW", "the model's own")] = ()
    """Of a curated set: a length and size, such as 17x64x96, that clips are trained at. Repeat it for more: a clip goes to the one that shows most
    of it, and each step draws clips of one.
    """
    variant_mix: str = "1:5:3:1"
    """Of a curated set: weights of cropped, segmented, inpainted and redrawn references, or "segment=5,crossclip=2"."""
    cross_pair_ratio: Annotated[float | None, shown("FLOAT", "the method's")] = None
    """Of a curated set: share of references that show their subject elsewhere than in the clip."""
    clips: Annotated[int | None, shown("INT", "the recipe's")] = None
    """Training samples that are drawn from the clips and encoded."""
    batch_size: Annotated[int | None, shown("INT", "the recipe's")] = None
    """Videos a step."""
    seed: Annotated[int | None, shown("INT", "the recipe's")] = None
    """Seed of data order and noise."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes the accelerator if there is one."""
    workers: int = 1
    """Processes that encode clips."""
    stop_after: Annotated[int | None, shown("INT", "no limit")] = None
    """Stop after this many steps; the next call goes on."""


def train(command: TrainCommand) -> None:
    """Run a training recipe."""
    from anyref.backbone import load_backbone
    from anyref.training.recipes import RECIPES
    from anyref.training.run import run

    if command.recipe not in RECIPES:
        raise ValueError(f"the recipe {command.recipe!r} is unknown; choose one of {', '.join(RECIPES)}")
    for name in ("num_steps", "clips", "batch_size", "workers", "stop_after"):
        value = getattr(command, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if command.bucket and command.data is None:
        raise ValueError(
            "--bucket is for curated clips, which differ in size and length; name a set with --data"
        )
    shapes = tuple(map(_shape, command.bucket))
    device = find_place(command.device).device
    recipe = RECIPES[command.recipe]
    output = command.output or Path("runs") / command.recipe
    check_writable(output / "metrics.jsonl")
    fit = replace(
        recipe.train.fit,
        output=output,
        num_steps=command.num_steps or recipe.train.fit.num_steps,
        seed=recipe.train.fit.seed if command.seed is None else command.seed,
        stop_after=command.stop_after,
    )
    settings = replace(recipe.train, fit=fit, batch_size=command.batch_size or recipe.train.batch_size)
    recipe = replace(
        recipe, train=settings, clips=command.clips or recipe.clips, base=command.base or recipe.base
    )
    load = partial(load_backbone, recipe.base, recipe.method)
    pipeline = load().to(device)
    data = None if command.data is None else _curated(command, recipe, pipeline.method.defaults.fps, shapes)
    model = run(recipe, pipeline, load, command.workers, data=data)
    print(f"model: {model or 'not finished, the same command goes on'}; contact sheets: {output / 'samples'}")


def _shape(text: str) -> "VideoShape":
    """A bucket's length and size. Raises ValueError for what is none."""
    from anyref.latents import VideoShape

    try:
        num_frames, height, width = map(int, text.lower().split("x"))
    except ValueError as error:
        raise ValueError(
            f"the bucket {text!r} is not FRAMESxHEIGHTxWIDTH; write for example 17x64x96"
        ) from error
    if num_frames < 1 or num_frames % 4 != 1 or min(height, width) < 16 or height % 16 or width % 16:
        raise ValueError(
            f"the bucket {text!r} cannot be trained at; frames must be 4k + 1, height and width multiples of 16"
        )
    return VideoShape(num_frames, height, width)


def _curated(
    command: TrainCommand, recipe: "TrainingRecipe", fps: float, shapes: "tuple[VideoShape, ...]"
) -> "DataSet":
    """The curated set that is asked for. Raises ValueError where it has no clip to train on, or the mix or ratio makes no sense."""
    from anyref.curation.assemble import MANIFEST
    from anyref.curation.dataset import CuratedSet, curated_clips
    from anyref.curation.draws import VariantSampling, parse_mix
    from anyref.training.run import DataSet

    assert command.data is not None
    ratio = command.cross_pair_ratio
    if ratio is None:
        ratio = getattr(recipe.method, "cross_pair_probability", VariantSampling().cross_pair_ratio)
    sampling = VariantSampling(parse_mix(command.variant_mix), ratio)
    train_set = CuratedSet(command.data)
    manifest = hashlib.sha256(train_set.store.read(MANIFEST)).hexdigest()
    splits: tuple[Split, ...] = ("train", "validation")
    try:
        CuratedSet(command.data, "validation")
    except ValueError:
        splits = ("train",)
    record = {"data": manifest, "sampling": asdict(sampling), "fps": fps}
    buckets = tuple(_read_at(recipe.method, shape, fps) for shape in shapes)
    return DataSet(partial(curated_clips, command.data, sampling, fps, buckets), record, splits, shapes)


def _read_at(method: "Method", shape: "VideoShape", fps: float) -> "Shape":
    """What is read of a clip where the method trains at `shape`."""
    from anyref.curation.fitting import Shape

    sampled = method.sampled_shape(shape, keep_canvas=False)
    return Shape(sampled.height, sampled.width, method.training_frames(sampled), fps)

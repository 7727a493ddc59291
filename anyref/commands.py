"""The smaller commands: their flags, and the function that each calls."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import tyro

from anyref.files import check_writable, write_json
from anyref.jobs import find_place, shown
from anyref.provenance import record
from anyref.puppets import STAGES, Stage

if TYPE_CHECKING:
    from anyref.methods.catalogue import MethodCard

MeasuredPart = Literal["retrieval", "swapped", "scores", "pairs", "anchors", "trios", "views", "loss"]
"""Parts of a measurement, as in puppets/measure.py, which would bring torch into the start of the command."""


@dataclass(frozen=True)
class PuppetsPreviewCommand:
    """Draw clips of the world: a contact sheet and a GIF of clips, captions and reference images."""

    output: Path = Path("outputs/preview.png")
    """The contact sheet; the GIF stands beside it."""
    num_clips: int = 12
    """How many clips."""
    split: Literal["train", "validation", "test"] = "train"
    """Which identities, colours and photographs are drawn from."""
    seed: int = 0
    """Seed of the world; a clip is a pure function of seed and index."""
    height: int = 64
    """Rows of pixels."""
    width: int = 96
    """Columns of pixels."""


@dataclass(frozen=True)
class PuppetsMasksCommand:
    """Draw the masks that training from clips alone hides frames with: a contact sheet of shapes, ratios and warps."""

    output: Path = Path("outputs/masks.png")
    """The contact sheet."""
    num_masks: int = 24
    """How many masks."""
    seed: int = 0
    """Same seed, same masks."""


@dataclass(frozen=True)
class PuppetsTrainCommand:
    """Train the embedded models from nothing by their recorded recipe; goes on where it was interrupted."""

    output: Path = Path("outputs/puppets")
    """Folder of runs, caches and finished weights."""
    budget: Literal["cpu", "cpu-long", "renew", "cuda", "rehearsal"] = "cpu"
    """cpu: under three hours on two cores; cpu-long: as long as the embedded weights were trained; renew: the methods go on, with --start, after what
    they rest on has changed; cuda: the full recipe, not run yet; rehearsal: every line of it in minutes, learns nothing."""
    stages: tuple[Stage, ...] = STAGES
    """Which stages; those that are finished are skipped."""
    seed: int = 0
    """Seed of the world, the initial weights and the noise."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto takes the accelerator if there is one."""
    workers: int = 2
    """Processes that encode clips."""
    height: int = 64
    """Rows of pixels."""
    width: int = 96
    """Columns of pixels."""
    start: Annotated[Path | None, shown("PATH", "the backbones")] = None
    """Folder with models of before (its magref, kaleido and saber), whose weights these stages begin with in place of a backbone's."""
    stop_after: Annotated[int | None, shown("INT", "no limit")] = None
    """Stop after this many steps of the first stage that is not finished; the next call goes on."""


@dataclass(frozen=True)
class PuppetsMeasureCommand:
    """Measure models on identities they never saw, on the same clips: who resembles their reference, and who was mixed up with whom.

    An interrupted measurement goes on; of several models, each is compared with the first.
    """

    model: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, shown("STR", "puppets/magref")] = ()
    """Embedded name, folder or hub id. Repeat it for each model."""
    output: Path = Path("outputs/measure.json")
    """The report; its tables stand beside it (.md), and so do finished parts (a folder)."""
    num_clips: int = 200
    """How many test clips of one subject; half as many of two, a third of three."""
    parts: tuple[MeasuredPart, ...] = get_args(MeasuredPart)
    """Which parts: own references, another's, the papers' metrics, two subjects, subject disentanglement off, three subjects, many views, loss."""
    card: bool = False
    """Write the scores into each model's folder and its card, too."""
    device: str = "auto"
    """cpu, cuda, cuda:1; auto takes the accelerator if there is one."""


@dataclass(frozen=True)
class MethodsCommand:
    """Say what each method accepts: references, backbone, settings, and how it is sampled unless asked otherwise."""

    json: bool = False
    """Print one JSON object, for programs."""


@dataclass(frozen=True)
class ConvertCommand:
    """Turn published weights, in Wan's layout or Kaleido's, into a diffusers folder, shard by shard, checking every name and shape."""

    source: tyro.conf.Positional[Path]
    """Folder of the release, or one of its files: safetensors with their config.json, or Kaleido's SAT pickle."""
    output: tyro.conf.Positional[Path]
    """Folder to write; it must not exist, or be empty."""
    method: Literal["magref", "kaleido", "wan"] = "magref"
    """Whose release it is; wan: one of Wan2.1's own, text-to-video or image-to-video, to train a method from."""
    components: Annotated[Path | None, shown("PATH", "none")] = None
    """Diffusers folder of the base model, Wan-AI/Wan2.1-I2V-14B-480P-Diffusers (Kaleido: Wan2.1-T2V-14B-Diffusers), whose parts are linked to."""
    copy_components: bool = False
    """Copy them instead."""
    config: Annotated[Path | None, shown("PATH", "the release's, or I2V-14B")] = None
    """The release's config.json, where it does not lie beside the weights."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Type of the weights."""
    shard_gb: float = 5.0
    """Largest size of a file, in 10^9 bytes."""


def puppets_preview(command: PuppetsPreviewCommand) -> None:
    """Draw clips of the world."""
    from anyref.worlds import PuppetWorld, write_preview

    check_writable(command.output)
    world = PuppetWorld(command.split, command.seed, command.height, command.width)
    sheet, animation = write_preview(command.output, world, command.num_clips)
    print(f"contact sheet: {sheet}; animation: {animation}")


def puppets_masks(command: PuppetsMasksCommand) -> None:
    """Draw masks."""
    from anyref.masks import mask_sheet
    from anyref.media import save_image

    if not 1 <= command.num_masks <= 1000:
        raise ValueError(f"num_masks is {command.num_masks}; it must lie between 1 and 1000")
    if command.seed < 0:
        raise ValueError(f"the seed is {command.seed}; it must be 0 or more")
    check_writable(command.output)
    save_image(mask_sheet(command.seed, command.num_masks), command.output)
    print(f"contact sheet: {command.output}")


def puppets_train(command: PuppetsTrainCommand) -> None:
    """Train the embedded models."""
    from anyref.puppets.plan import Recipe
    from anyref.puppets.recipe import run

    device = find_place(command.device).device
    run(
        Recipe(
            output=command.output,
            budget=command.budget,
            stages=command.stages,
            seed=command.seed,
            device=device,
            workers=command.workers,
            height=command.height,
            width=command.width,
            start=command.start,
            stop_after=command.stop_after,
        )
    )


def puppets_measure(command: PuppetsMeasureCommand) -> None:
    """Measure models on held-out identities."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from anyref.puppets import cards
    from anyref.puppets.comparison import Plan, as_record, compare, find_judge, find_model
    from anyref.puppets.judging import Rate

    models = {name: find_model(name) for name in _measured(command)}
    plan = Plan(
        judge=find_judge(next(iter(models.values()))),
        count=command.num_clips,
        kept=command.output.with_name(f"{command.output.stem}-parts"),
        parts=command.parts,
        device=find_place(command.device, "float32").device,
    )
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task("measuring")

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        def tell(name: str, measure: str, value: Rate) -> None:
            console.print(f"{name}, {measure}: {value}")

        found = compare(models, plan, show, tell)
    write_json(command.output, {**found.record(), **record(command)})
    tables = command.output.with_suffix(".md")
    tables.write_text(found.markdown(), encoding="utf-8")
    for name, folder in models.items() if command.card else ():
        scores = {"results": as_record(found.models[name]), "real": as_record(found.real)}
        write_json(folder.path / cards.SCORES, scores)
        cards.write(folder.path.parent)
    print(f"report: {command.output}; tables: {tables}")


def _measured(command: PuppetsMeasureCommand) -> tuple[str, ...]:
    """The models' names, everything about the command checked that needs no model."""
    names = command.model or ("puppets/magref",)
    if command.num_clips < 2:
        raise ValueError(
            f"num_clips is {command.num_clips}; it must be at least 2, so that references can be swapped"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"a model is named twice ({', '.join(names)}); name each once")
    if command.output.suffix != ".json":
        raise ValueError(f"the output {command.output} is not a .json file; its tables go beside it, as .md")
    for path in (command.output, command.output.with_suffix(".md")):
        check_writable(path)
    return names


def methods(command: MethodsCommand) -> None:
    """Print a table for each method, or JSON."""
    from anyref.methods.catalogue import method_cards

    cards = method_cards()
    if command.json:
        print(json.dumps({card.name: asdict(card) for card in cards}, indent=2))
        return
    for card in cards:
        _show_method(card)


def _show_method(card: "MethodCard") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    usual = card.defaults
    most = "any number of" if card.most_references is None else f"0 to {card.most_references}"
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("references", f"{most} images: {', '.join(card.kinds)}"),
        ("backbone", f"a transformer of {card.in_channels} input channels"),
        ("embedded", card.embedded or "not in this installation"),
        (
            "sampling",
            f"{usual.num_frames} frames of {usual.height} x {usual.width} at {usual.fps:g} fps, {usual.num_inference_steps} steps "
            f"of {usual.solver}, shift {usual.shift:g}, guidance {usual.guidance_scale:g}",
        ),
        *((setting.name, f"{setting.default} ({setting.accepts})") for setting in card.settings),
    ):
        table.add_row(name, value)
    console.print(card.name, style="bold")
    console.print(card.about)
    console.print(table)
    console.print()


def convert(command: ConvertCommand) -> None:
    """Convert published weights."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    from anyref.convert import ConvertOptions
    from anyref.convert import convert as run

    options = ConvertOptions(
        method=command.method,
        config=command.config,
        components=command.components,
        copy_components=command.copy_components,
        dtype=command.dtype,
        shard_gb=command.shard_gb,
    )
    bar = Progress(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True))
    task = bar.add_task("converting")

    def show(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        run(command.source, command.output, options, show)
    finally:
        if bar.live.is_started:
            bar.stop()
    print(f"{command.output}: checked and converted")

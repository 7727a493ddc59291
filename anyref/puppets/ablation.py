"""Run a named ablation table in the puppet world: every row on the same clips, in as many steps, from the same seeds; then measure them all.

Rows are recipes of training/recipes.py. A row and seed is one training run and one measurement, each kept when it is finished, so that an
interrupted table goes on. A recipe that stands in several tables is trained once for all of them, in `rows` beside the tables' folders.
What was measured of it is one small file in `results`, which says what it is the result of and needs no weights: with these files alone a
table can be written, or be finished on another machine. Clips are encoded once a recipe; the seed decides initial noise, order and dropout.
"""

import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from anyref import provenance
from anyref.backbone import load_backbone
from anyref.files import BusyError, alone, sha256, write_json
from anyref.latents import TextContext
from anyref.methods.folder import ModelFolder, read_folder, record_of
from anyref.puppets.comparison import MEASURES, VERSION, Plan, compare
from anyref.puppets.judging import Outcomes, Rate
from anyref.puppets.measure import Results, Show
from anyref.puppets.models import WEIGHTS
from anyref.puppets.plan import METHOD_GUIDANCE
from anyref.puppets.small import SmallBackbones, SmallWorld, is_made_by, make, remembering
from anyref.training.optimizers import OptimizerConfig
from anyref.training.recipes import ABLATIONS, I2V, T2V, TrainingRecipe
from anyref.training.run import DataSet
from anyref.training.run import run as train


@dataclass(frozen=True)
class Budget:
    """How much each row trains and how many clips of one subject it is measured on."""

    num_steps: int
    clips: int
    batch_size: int
    measured: int
    compiled: bool = True
    num_inference_steps: int | None = None
    """Of the videos that are measured; None: the model's own."""
    optimizer: OptimizerConfig | None = None
    """In place of the recipes' own, which goes on from embedded models and so is slow."""
    small: SmallBackbones | None = None
    """Backbones that are trained first, once for all tables; None: those that `anyref puppets train` leaves."""


_FAST = OptimizerConfig(
    learning_rate=3e-3,
    muon_learning_rate=1.5e-2,
    betas=(0.9, 0.99),
    schedule="linear",
    decay_fraction=0.3,
    warmup_steps=20,
)
BUDGETS: Mapping[str, Budget] = {
    "cpu": Budget(
        num_steps=600,
        clips=2048,
        batch_size=32,
        measured=64,
        num_inference_steps=10,
        optimizer=_FAST,
        small=SmallBackbones(text_to_video_steps=900, image_to_video_steps=250, clips=2048),
    ),
    "cuda": Budget(6000, 20_000, 128, 200),
    "rehearsal": Budget(
        num_steps=2,
        clips=4,
        batch_size=2,
        measured=2,
        compiled=False,
        num_inference_steps=2,
        small=SmallBackbones(2, 2, 4, batch_size=2, width=64, layers=2, compiled=False),
    ),
}
"""cpu: small transformers and videos of five frames. cuda: the embedded size, not run yet. rehearsal: every line, learns nothing."""


@dataclass(frozen=True)
class Ablation:
    """What is run. `backbones` holds the folders t2v and i2v that `anyref puppets train` leaves, for budgets that train none themselves."""

    table: str
    output: Path
    budget: str = "cpu"
    seeds: int = 3
    rows: tuple[str, ...] = ()
    """Some of the table's rows; () all of them."""
    backbones: Path = Path("outputs/puppets/weights")
    device: str = "cpu"
    workers: int = 1
    parts: tuple[str, ...] = ("retrieval", "scores", "pairs", "loss")
    """Parts of a measurement, as in measure.py."""

    @property
    def rows_folder(self) -> Path:
        """Where recipes are trained and measured, those of all tables in the same parent."""
        return self.output.parent / "rows" / self.budget

    @property
    def results_folder(self) -> Path:
        """Where results are kept, those of all tables in the same parent."""
        return self.output.parent / "results" / self.budget

    @property
    def memory(self) -> Path:
        """What the autoencoder has encoded, for all rows."""
        return self.rows_folder / "encoded.sqlite"

    def base(self, name: str) -> Path:
        """Folder of a recipe's backbone."""
        small, short = BUDGETS[self.budget].small, {T2V: "t2v", I2V: "i2v"}[name]
        if small is None:
            return self.backbones / short
        embedded = WEIGHTS / "small" / short
        return embedded if is_made_by(small, embedded) else self.rows_folder / "backbones" / short


@dataclass(frozen=True)
class _Known:
    """What all rows have in common and one process works out once: what the text encoder says of a caption, the autoencoder of a clip."""

    captions: dict[str, TextContext] = field(default_factory=dict)
    encoded: dict[bytes, Tensor] = field(default_factory=dict)


WAIT_S = 5.0
JUDGE = WEIGHTS / "identity.safetensors"
LOSS = "held-out loss"
DIFFERENCES = ("held-out loss, swapped minus right references", "held-out loss, no references minus right")
"""Measures that are differences: 0 says that references do not matter."""
SCORES = tuple(MEASURES["The papers' metrics"])
Found = dict[str, list[Results]]
"""Row to the results of its seeds, in their order."""


def check(ablation: Ablation) -> Mapping[str, TrainingRecipe]:
    """The rows that are asked for. Raises ValueError for what cannot be run, before anything is."""
    if ablation.table not in ABLATIONS:
        raise ValueError(f"the table {ablation.table!r} is unknown; choose one of {', '.join(ABLATIONS)}")
    table = ABLATIONS[ablation.table]
    if unknown := [row for row in ablation.rows if row not in table]:
        raise ValueError(f"{ablation.table} has no row {unknown[0]!r}; choose of {', '.join(table)}")
    if ablation.seeds < 1:
        raise ValueError(f"seeds is {ablation.seeds}; it must be at least 1, and 3 or more for intervals")
    chosen = {row: table[row] for row in ablation.rows or table}
    for recipe in chosen.values():
        base = ablation.base(recipe.base)
        if BUDGETS[ablation.budget].small is None and not base.is_dir():
            raise ValueError(
                f"the backbone {base} is not there; `anyref puppets train` makes it, or name another folder with --backbones"
            )
    return chosen


def run(
    ablation: Ablation,
    show: Show = lambda *_: None,
    tell: Callable[[str, str, Rate], None] = lambda *_: None,
) -> Found:
    """Train and measure every row and seed that is not yet. `tell`: row and seed, measure, value.

    Several processes may run at once, on one table or on tables that share rows: a row that another one is at is left for later.
    """
    recipes = check(ablation)
    _make_backbones(ablation, show)
    # Seed by seed, so that an interrupted table has whole columns: each row once before any row twice.
    todo = deque((seed, row) for seed in range(ablation.seeds) for row in recipes)
    total, in_vain = len(todo), 0
    found: dict[tuple[int, str], Results] = {}
    known = _Known()
    while todo:
        seed, row = todo.popleft()
        show(f"{row}, seed {seed}", len(found), total)
        try:
            with alone(ablation.rows_folder / shared_name(recipes[row])):
                found[seed, row] = _take(ablation, recipes[row], f"{row}, seed {seed}", seed, known, tell)
            in_vain = 0
        except BusyError:
            todo.append((seed, row))
            in_vain += 1
            if in_vain >= len(todo):
                show("waiting for another process", len(found), total)
                time.sleep(WAIT_S)
    show(ablation.table, total, total)
    return {row: [found[seed, row] for seed in range(ablation.seeds)] for row in recipes}


def shared_name(recipe: TrainingRecipe) -> str:
    """TABLE-ROW of the first row that is this recipe."""
    return next(
        f"{table}-{row}" for table, rows in ABLATIONS.items() for row, one in rows.items() if one == recipe
    )


def configured(ablation: Ablation, recipe: TrainingRecipe, seed: int) -> TrainingRecipe:
    """A row's recipe at this budget and seed."""
    budget = BUDGETS[ablation.budget]
    fit = replace(
        recipe.train.fit,
        output=ablation.rows_folder / shared_name(recipe) / f"seed-{seed}",
        num_steps=budget.num_steps,
        seed=seed,
        validate_every=0,
        checkpoint_every=max(1, budget.num_steps // 4),
        optimizer=budget.optimizer or recipe.train.fit.optimizer,
    )
    settings = replace(
        recipe.train,
        fit=fit,
        batch_size=budget.batch_size,
        compile=budget.compiled,
    )
    return replace(
        recipe,
        base=str(ablation.base(recipe.base)),
        clips=budget.clips,
        train=settings,
    )


def decided_by(ablation: Ablation, recipe: TrainingRecipe, seed: int) -> dict[str, Any]:
    """All that a row's result depends on, but for the code: the recipe at this budget and seed, the weights it begins with and is judged by."""
    one, budget = configured(ablation, recipe, seed), BUDGETS[ablation.budget]
    fit = replace(one.train.fit, output=Path(), checkpoint_every=0)
    folder = read_folder(Path(one.base), one.method.name)
    record: dict[str, Any] = json.loads(
        json.dumps(
            {
                "method": record_of(one.method),
                "base": Path(one.base).name,
                "clips": one.clips,
                "world_seed": one.world_seed,
                "small_world": budget.small is not None,
                "train": asdict(replace(one.train, fit=fit)),
                "weights": {
                    name: sha256(path / file)
                    for name in ("transformer", "vae", "text_encoder", "image_encoder")
                    if (path := folder.part(name)) is not None
                    for file in (
                        "diffusion_pytorch_model.safetensors",
                        "model.safetensors",
                    )
                    if (path / file).is_file()
                },
                "judge": sha256(JUDGE),
                "parts": ablation.parts,
                "measured": budget.measured,
                "num_inference_steps": budget.num_inference_steps,
                "version": VERSION,
            },
            default=str,
        )
    )
    return record


def _take(
    ablation: Ablation,
    recipe: TrainingRecipe,
    name: str,
    seed: int,
    known: _Known,
    tell: Callable[[str, str, Rate], None],
) -> Results:
    """A row's result from its file, or made and written there."""
    path = ablation.results_folder / f"{shared_name(recipe)}.seed-{seed}.json"
    of = decided_by(ablation, recipe, seed)
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["of"] == of:
            return {one: Outcomes(tuple(it["values"]), it["chance"]) for one, it in stored["results"].items()}
    results = _measure(ablation, name, _train(ablation, recipe, seed, known), known, tell)
    # Rounded: six digits of a loss are more than its noise, and the files are kept in the repository.
    rounded = {
        one: Outcomes(tuple(round(value, 6) for value in it.values), it.chance) for one, it in results.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {one: asdict(it) for one, it in rounded.items()}
    write_json(path, {"of": of, "commit": provenance.commit(), "results": kept})
    return rounded


def _make_backbones(ablation: Ablation, show: Show) -> None:
    budget = BUDGETS[ablation.budget]
    if budget.small is not None and not is_made_by(budget.small, ablation.base(T2V).parent / "i2v"):
        show("backbones", 0, 1)
        with alone(ablation.base(T2V).parent):
            make(
                ablation.base(T2V).parent,
                budget.small,
                budget.optimizer or OptimizerConfig(),
                ablation.memory,
                ablation.device,
                ablation.workers,
            )


def _train(ablation: Ablation, recipe: TrainingRecipe, seed: int, known: _Known) -> Path:
    one = configured(ablation, recipe, seed)
    output = one.train.fit.output
    model = output / "model"
    if not (model / "training.json").exists():
        write_json(output / "asked.json", {"recipe": asdict(one)})
        load = partial(load_backbone, one.base, one.method)
        pipeline = load().to(ablation.device)
        encode_with = partial(remembering, load, ablation.memory)
        small = BUDGETS[ablation.budget].small is not None
        world = DataSet(SmallWorld, {"world": "small"}) if small else None
        train(one, pipeline, encode_with, ablation.workers, output.parent / "cache", world, known.captions)
        # Optimizer states are several times the model, and a finished row needs none.
        shutil.rmtree(output / "checkpoints", ignore_errors=True)
    return model


def _measure(
    ablation: Ablation, name: str, model: Path, known: _Known, tell: Callable[[str, str, Rate], None]
) -> Results:
    budget = BUDGETS[ablation.budget]
    plan = Plan(
        judge=JUDGE,
        count=budget.measured,
        kept=ablation.rows_folder / "measured",
        parts=ablation.parts,
        device=ablation.device,
        encoded=known.encoded,
    )
    measured = compare({name: _sampled(read_folder(model), budget.num_inference_steps)}, plan, tell=tell)
    return dict(measured.models[name])


def _sampled(folder: ModelFolder, steps: int | None) -> ModelFolder:
    """The model, sampled with the guidance of the embedded models, in as many steps."""
    method: Any = folder.method
    given = METHOD_GUIDANCE if steps is None else {**METHOD_GUIDANCE, "num_inference_steps": steps}
    return replace(folder, method=replace(method, defaults=replace(method.defaults, **given)))


def common_measures(found: Mapping[str, Sequence[Results]], same_targets: bool) -> list[str]:
    """Shares, scores and differences that every row and seed has, in the order of the first; the loss itself where all rows have the same targets."""
    first = next(iter(found.values()))[0]
    comparable = {*SCORES, *DIFFERENCES, *([LOSS] if same_targets else [])}
    return [
        name
        for name, one in first.items()
        if (one.chance is not None or name in comparable)
        and all(name in results for seeds in found.values() for results in seeds)
    ]

"""Run a named ablation table in the puppet world: every row on the same clips, in as many steps, from the same seeds; then measure them all.

Rows are recipes of training/recipes.py. A row and seed is one training run and one measurement, each kept when it is finished, so that an
interrupted table goes on. A recipe that stands in several tables is trained once for all of them, in `rows` beside the tables' folders.
Clips are encoded once a recipe; the seed decides initial noise, order and dropout.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from anyref.backbone import load_backbone
from anyref.files import alone, write_json
from anyref.methods.folder import ModelFolder, read_folder
from anyref.puppets.comparison import Plan, compare
from anyref.puppets.judging import Rate
from anyref.puppets.measure import Results, Show
from anyref.puppets.models import WEIGHTS
from anyref.puppets.plan import METHOD_GUIDANCE
from anyref.training.recipes import ABLATIONS, I2V, T2V, TrainingRecipe
from anyref.training.run import run as train
from anyref.training.trainer import Phase


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
    phases: tuple[Phase, ...] = ()
    """In which samples are cut. Three latent frames hold as many references as a clip has subjects, also of the rows that put one into each."""


BUDGETS: Mapping[str, Budget] = {
    "cpu": Budget(250, 768, 16, 48),
    "cpu-short": Budget(120, 384, 16, 24, num_inference_steps=10, phases=(Phase(0.7, 3, 16),)),
    "cuda": Budget(6000, 20_000, 128, 200),
    "rehearsal": Budget(2, 4, 2, 2, compiled=False, num_inference_steps=2),
}
"""cpu: meant for ten minutes a row and seed, not timed yet. cpu-short: seven minutes, in which
hardly any use of references is learned (docs/log.md). cuda: the full budget, not run yet. rehearsal:
every line, learns nothing. Only cpu-short cuts samples: a setting shown as a fourth reference is then seen by two rows in the last part alone."""


@dataclass(frozen=True)
class Ablation:
    """What is run. `backbones` holds the folders t2v and i2v that `anyref puppets train` leaves."""

    table: str
    output: Path
    budget: str = "cpu"
    seeds: int = 3
    rows: tuple[str, ...] = ()
    """Some of the table's rows; () all of them."""
    backbones: Path = Path("outputs/puppets/weights")
    device: str = "cpu"
    workers: int = 1
    parts: tuple[str, ...] = ("retrieval", "pairs", "loss")
    """Parts of a measurement, as in measure.py."""

    @property
    def rows_folder(self) -> Path:
        """Where recipes are trained and measured, those of all tables in the same parent."""
        return self.output.parent / "rows" / self.budget


DIFFERENCES = ("held-out loss, swapped minus right references", "held-out loss, no references minus right")
"""Measures that are differences: 0 says that references do not matter."""
Outcomes = dict[str, list[Results]]
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
        base = _backbone(recipe.base, ablation.backbones)
        if not base.is_dir():
            raise ValueError(
                f"the backbone {base} is not there; `anyref puppets train` makes it, or name another folder with --backbones"
            )
    return chosen


def run(
    ablation: Ablation,
    show: Show = lambda *_: None,
    tell: Callable[[str, str, Rate], None] = lambda *_: None,
) -> Outcomes:
    """Train and measure every row and seed that is not yet. `tell`: row and seed, measure, value."""
    recipes = check(ablation)
    found: Outcomes = {row: [] for row in recipes}
    total = ablation.seeds * len(recipes)
    # Seed by seed, so that an interrupted table has whole columns: each row once before any row twice.
    for seed in range(ablation.seeds):
        for number, (row, recipe) in enumerate(recipes.items()):
            show(f"{row}, seed {seed}", seed * len(recipes) + number, total)
            with alone(ablation.rows_folder / shared_name(recipe)):
                model = _train(ablation, recipe, seed)
                found[row].append(_measure(ablation, f"{row}, seed {seed}", model, tell))
    show(ablation.table, total, total)
    return found


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
    )
    settings = replace(
        recipe.train,
        fit=fit,
        batch_size=budget.batch_size,
        phases=budget.phases,
        compile=budget.compiled,
    )
    return replace(
        recipe,
        base=str(_backbone(recipe.base, ablation.backbones)),
        clips=budget.clips,
        train=settings,
    )


def _train(ablation: Ablation, recipe: TrainingRecipe, seed: int) -> Path:
    one = configured(ablation, recipe, seed)
    output = one.train.fit.output
    model = output / "model"
    if not (model / "training.json").exists():
        write_json(output / "asked.json", {"recipe": asdict(one)})
        load = partial(load_backbone, one.base, one.method)
        pipeline = load().to(ablation.device)
        train(one, pipeline, load, ablation.workers, cache=output.parent / "cache")
        # Optimizer states are several times the model, and a finished row needs none.
        shutil.rmtree(output / "checkpoints", ignore_errors=True)
    return model


def _measure(ablation: Ablation, name: str, model: Path, tell: Callable[[str, str, Rate], None]) -> Results:
    budget = BUDGETS[ablation.budget]
    plan = Plan(
        judge=WEIGHTS / "identity.safetensors",
        count=budget.measured,
        kept=ablation.rows_folder / "measured",
        parts=ablation.parts,
        device=ablation.device,
    )
    measured = compare({name: _sampled(read_folder(model), budget.num_inference_steps)}, plan, tell=tell)
    return dict(measured.models[name])


def _sampled(folder: ModelFolder, steps: int | None) -> ModelFolder:
    """The model, sampled with the guidance of the embedded models, in as many steps."""
    method: Any = folder.method
    given = METHOD_GUIDANCE if steps is None else {**METHOD_GUIDANCE, "num_inference_steps": steps}
    return replace(folder, method=replace(method, defaults=replace(method.defaults, **given)))


def _backbone(base: str, folder: Path) -> Path:
    return folder / {T2V: "t2v", I2V: "i2v"}[base]


def common_measures(found: Mapping[str, Sequence[Results]]) -> list[str]:
    """Shares and differences that every row and seed has, in the order of the first; losses themselves differ between methods."""
    first = next(iter(found.values()))[0]
    return [
        name
        for name, one in first.items()
        if (one.chance is not None or name in DIFFERENCES)
        and all(name in results for seeds in found.values() for results in seeds)
    ]

"""A run of the recipe: where it writes, how large everything is, how much each stage trains, and what is noted about it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from anyref import provenance
from anyref.latents import VideoShape
from anyref.puppets import STAGES, Stage, models
from anyref.puppets.budgets import BUDGETS, Name
from anyref.training.loop import FitConfig
from anyref.training.optimizers import OptimizerConfig

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
METHOD_GUIDANCE: dict[str, object] = {"guidance_scale": 1.5, "reference_guidance_scale": 2.0}
"""Of the models that take references, chosen on validation identities (docs/log.md): the releases' guidance, by the prompt alone, leads away
from what the references say."""
ANCHOR_STRENGTH = 1.0
"""alpha of MAGREF's eq. 6 for the embedded weights; the paper does not give it."""
CROSS_PAIRS = 0.6
"""Share of cross-pairs in training; the others are crops. All held-out samples are cross-pairs."""


@dataclass(frozen=True)
class Recipe:
    """What `make puppets` runs."""

    output: Path = Path("outputs/puppets")
    """Run folders, caches and weights."""
    budget: Name = "cpu"
    stages: tuple[Stage, ...] = STAGES
    """Which stages, in order; those whose weights are there are skipped."""
    seed: int = 0
    device: str = "cpu"
    workers: int = 2
    """Processes that encode clips."""
    height: int = models.HEIGHT
    width: int = models.WIDTH
    start: Path | None = None
    """Weights of before, a folder as OUTPUT/weights: magref, kaleido and saber begin with their own there in place of a backbone."""
    stop_after: int | None = field(default=None)
    """Stop, resumably, after this many steps of the first stage that is not finished."""

    @property
    def weights(self) -> Path:
        """Where the model folders are written."""
        return self.output / "weights"

    @property
    def defaults(self) -> dict[str, object]:
        """Sampling defaults of the backbones, and of training."""
        return {"height": self.height, "width": self.width, **DEFAULTS}

    @property
    def method_defaults(self) -> dict[str, object]:
        """Those of the models that take references."""
        return {**self.defaults, **METHOD_GUIDANCE}

    @property
    def shape(self) -> VideoShape:
        """The video a user gets."""
        return VideoShape(models.NUM_FRAMES, self.height, self.width)

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


def record_of_stage(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """How a part was trained: the numbers of its stage, seed, sizes, and the state of the code."""
    return {
        "stage": stage,
        "budget": recipe.budget,
        "numbers": asdict(BUDGETS[recipe.budget].parts[stage]),
        "seed": recipe.seed,
        "frames": [recipe.shape.num_frames, recipe.height, recipe.width],
        "commit": provenance.commit(),
        **({"start": begun} if (begun := _begins(recipe, stage)) else {}),
    }


def _begins(recipe: Recipe, stage: Stage) -> dict[str, Any] | None:
    """How the weights were trained that a stage goes on from; None where it begins anew."""
    path = Path() if recipe.start is None else recipe.start / stage / "transformer" / "training.json"
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found


def finished(folder: Path) -> bool:
    """Whether a part's folder is complete: its record is written last."""
    return (folder / "training.json").exists()


def reached(config: FitConfig) -> bool:
    """Whether a stage has taken all its steps."""
    found = config.output / "checkpoints" / f"step-{config.num_steps:08d}"
    return found.exists()

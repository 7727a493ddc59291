"""Named training recipes: a method, a base, its data and a full configuration; each derived from another by `replace`.

The defaults of `OptimizerConfig` are MAGREF's (section 4.1): AdamW, 1e-5, cosine with restarts, gradients clipped at 1. The recipes here
are for the embedded models, which are small enough to learn fast.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from anyref.methods import Method, make_method
from anyref.training.flow import FlowConfig
from anyref.training.loop import FitConfig
from anyref.training.optimizers import OptimizerConfig
from anyref.training.trainer import TrainConfig


@dataclass(frozen=True)
class TrainingRecipe:
    """Everything `anyref train` needs but the data's place and the run's folder."""

    method: Method
    base: str
    """The model that is fine-tuned: an embedded name, a folder or a hub id."""
    clips: int
    """Training clips that are encoded."""
    train: TrainConfig
    world_seed: int = 0


_PUPPETS = TrainingRecipe(
    method=make_method("magref", {"anchor_strength": 1.0}),
    base="puppets/magref",  # the backbone is not embedded; after `make puppets`: --base outputs/puppets/weights/i2v
    clips=1024,
    train=TrainConfig(
        fit=FitConfig(
            output=Path("runs/magref-puppets"),
            num_steps=500,
            optimizer=OptimizerConfig(
                learning_rate=1e-3,
                muon_learning_rate=2e-3,
                betas=(0.9, 0.99),
                schedule="linear",
                warmup_steps=20,
            ),
            ema_decay=0.99,
            checkpoint_every=100,
            validate_every=100,
        ),
        flow=FlowConfig(shift=2.0, foreground_weight=2.0),
        batch_size=16,
        reference_dropout=0.0,  # the unconditional branch keeps its references
    ),
)

RECIPES: dict[str, TrainingRecipe] = {
    "magref-puppets": _PUPPETS,
    "magref-puppets-no-anchors": replace(_PUPPETS, method=make_method("magref", {"anchor_strength": 0.0})),
    "magref-puppets-no-cross-pairs": replace(
        _PUPPETS, method=make_method("magref", {"anchor_strength": 1.0, "cross_pair_probability": 0.0})
    ),
}

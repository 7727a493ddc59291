"""Named training recipes: a method, a base, its data and a full configuration; each derived from another by `replace`.

Three kinds. `NAME-puppets` goes on from the embedded model of a method. `NAME-14b...` are the papers' numbers. The others are rows of the
papers' comparison tables (ABLATIONS), for the embedded family: equal data, steps and seed, one thing changed, from the backbone that
`anyref puppets train` leaves.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from anyref.methods import Method, make_method
from anyref.training.flow import FlowConfig
from anyref.training.loop import FitConfig
from anyref.training.optimizers import OptimizerConfig
from anyref.training.trainer import TrainConfig

T2V, I2V = "outputs/puppets/weights/t2v", "outputs/puppets/weights/i2v"
"""Backbones that `anyref puppets train` leaves; they are not embedded."""


@dataclass(frozen=True)
class TrainingRecipe:
    """Everything `anyref train` needs but the data's place and the run's folder."""

    method: Method
    base: str
    """The model that is fine-tuned: an embedded name, a folder or a hub id. Input channels that it lacks are added as zeros."""
    clips: int
    """Training clips that are encoded."""
    train: TrainConfig
    world_seed: int = 0


def _changed(recipe: TrainingRecipe, name: str, base: str | None = None, **settings: Any) -> TrainingRecipe:
    """The recipe with another method, or with other settings of its own."""
    return replace(recipe, method=make_method(name, settings), base=base or recipe.base)


_PUPPETS = TrainingRecipe(
    method=make_method("magref", {"anchor_strength": 1.0}),
    base="puppets/magref",
    clips=1024,
    train=TrainConfig(
        fit=FitConfig(
            output=Path("runs"),
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

_MAGREF = replace(_PUPPETS, base=I2V)
_PLAIN = _changed(_MAGREF, "magref")  # without subject disentanglement, which Table 4 adds last
_KALEIDO = _changed(_PUPPETS, "kaleido", T2V)
_CONCAT = _changed(_KALEIDO, "kaleido", positions="concat")
_SABER = _changed(_PUPPETS, "saber", T2V)

ABLATIONS: dict[str, dict[str, TrainingRecipe]] = {
    # MAGREF, Tables 3 and 4 and Figure 6.
    "magref-3": {
        "t2v-backbone": _changed(_PLAIN, "magref", T2V),
        "vanilla-mask": _changed(_PLAIN, "magref-vanilla-mask"),
        "region-mask": _PLAIN,
    },
    "magref-4": {
        "vanilla-mask": _changed(_PLAIN, "magref-vanilla-mask"),
        "no-cross-pairs": _changed(_MAGREF, "magref", anchor_strength=1.0, cross_pair_probability=0.0),
        "no-disentanglement": _PLAIN,
        "full": _MAGREF,
    },
    "magref-figure-6": {"token-concat": _changed(_PLAIN, "magref-token-concat"), "channel-concat": _PLAIN},
    # Kaleido, Tables 2 to 5.
    "kaleido-2": {
        "concat": _CONCAT,
        "shift-w": _changed(_KALEIDO, "kaleido", positions="shift-w"),
        "shift-h": _changed(_KALEIDO, "kaleido", positions="shift-h"),
        "shift-w-h": _KALEIDO,
    },
    "kaleido-3": {
        "no-cross-pairs": _changed(_KALEIDO, "kaleido", cross_pair_probability=0.0),
        "cross-pairs": _KALEIDO,
    },
    "kaleido-4": {
        f"{percent}-percent": _changed(_KALEIDO, "kaleido", cross_pair_probability=percent / 100)
        for percent in (0, 20, 40, 60, 80)
    },
    "kaleido-5": {
        **{
            positions: _changed(_KALEIDO, "kaleido", positions=positions)
            for positions in ("staggered-negative", "fixed-negative", "future", "shift-w-h-no-overlap")
        },
        "channel-concat": _changed(_KALEIDO, "kaleido", positions="channel-concat"),
        "shift-w-h": _KALEIDO,
    },
    "saber": {
        "curated-pairs": _changed(_SABER, "saber", curated_pairs=True),
        "ellipse-only": _changed(_SABER, "saber", shapes=("ellipse",)),
        "fourier-only": _changed(_SABER, "saber", shapes=("fourier",)),
        "polygon-only": _changed(_SABER, "saber", shapes=("convex", "concave")),
        "fixed-ratio": _changed(_SABER, "saber", mask_ratio=0.3),
        "no-augmentation": _changed(_SABER, "saber", augment=False),
        "no-attention-mask": _changed(_SABER, "saber", attention_mask=False),
        "full": _SABER,
    },
}
"""Table -> row -> recipe. A row that stands in two tables is one recipe under two names."""


def _paper(
    name: str,
    base: str,
    num_steps: int,
    batch_size: int,
    optimizer: OptimizerConfig,
    shift: float | Literal["resolution"],
) -> TrainingRecipe:
    """A paper's full-size training: bf16, one video a micro-step, gradients accumulated to the global batch."""
    fit = FitConfig(
        output=Path("runs"),
        num_steps=num_steps,
        optimizer=optimizer,
        accumulate=batch_size,
        ema_decay=0.0,
        checkpoint_every=100,
        validate_every=1000,
    )
    train = TrainConfig(
        fit=fit,
        flow=FlowConfig(shift=shift),
        batch_size=1,
        reference_dropout=0.0,
        gradient_checkpointing=True,
    )
    return TrainingRecipe(method=make_method(name), base=base, clips=100_000, train=train)


_KALEIDO_14B = _paper(
    "kaleido",
    "Wan-AI/Wan2.1-T2V-14B-Diffusers",
    num_steps=10_000,
    batch_size=256,
    # Release: its configuration; the paper gives rate, steps and batch only.
    optimizer=OptimizerConfig(
        learning_rate=1e-5,
        betas=(0.9, 0.95),
        weight_decay=1e-4,
        clip_norm=0.1,
        decay_vectors=False,
        schedule="constant",
        warmup_steps=100,
    ),
    shift="resolution",
)
_KALEIDO_SFT = replace(
    _KALEIDO_14B.train.fit,
    num_steps=5_000,
    optimizer=replace(_KALEIDO_14B.train.fit.optimizer, learning_rate=5e-6),
)
_PAPERS = {
    # The paper gives the optimizer and that all weights of the image-to-video model are trained; steps, batch and shift are ours.
    "magref-14b": _paper(
        "magref",
        "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        num_steps=10_000,
        batch_size=64,
        optimizer=OptimizerConfig(learning_rate=1e-5, betas=(0.9, 0.999), weight_decay=0.01, clip_norm=1.0),
        shift=3.0,
    ),
    "kaleido-14b": _KALEIDO_14B,
    # The second stage goes on from the first's model.
    "kaleido-14b-fine-tuning": replace(
        _KALEIDO_14B, base="runs/kaleido-14b/model", train=replace(_KALEIDO_14B.train, fit=_KALEIDO_SFT)
    ),
    # The paper gives rate and batch; the number of steps and the shift are ours.
    "saber-14b": _paper(
        "saber",
        "Wan-AI/Wan2.1-T2V-14B-Diffusers",
        num_steps=10_000,
        batch_size=64,
        optimizer=OptimizerConfig(learning_rate=1e-5, schedule="constant", warmup_steps=100),
        shift=3.0,
    ),
}
_KALEIDO_PUPPETS = replace(_KALEIDO, base="puppets/kaleido")
_HALF_RATE = replace(_PUPPETS.train.fit.optimizer, learning_rate=5e-4, muon_learning_rate=1e-3)

RECIPES: dict[str, TrainingRecipe] = {
    "magref-puppets": _PUPPETS,
    "kaleido-puppets": _KALEIDO_PUPPETS,
    "kaleido-puppets-fine-tuning": replace(
        _KALEIDO_PUPPETS,
        base="runs/kaleido-puppets/model",
        train=replace(_PUPPETS.train, fit=replace(_PUPPETS.train.fit, num_steps=250, optimizer=_HALF_RATE)),
    ),
    "saber-puppets": replace(_SABER, base="puppets/saber"),
    **_PAPERS,
    **{f"{table}-{row}": recipe for table, rows in ABLATIONS.items() for row, recipe in rows.items()},
}

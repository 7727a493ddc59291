"""How much each stage of the recipe trains: numbers only."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from anyref.puppets import Stage
from anyref.training.trainer import Phase


@dataclass(frozen=True)
class Part:
    """Numbers of one stage."""

    steps: int
    clips: int = 0
    short_clips: int = 0
    """Further samples of which only the first `short_frames` latent frames are encoded, for the phases that need no more."""
    short_frames: int = 1
    batch_size: int = 32
    muon_learning_rate: float | None = 8e-3
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    phases: tuple[Phase, ...] = ()
    reference_dropout: float = 0.0
    """MAGREF has none: its unconditional branch keeps the references, and a blank canvas before a target that begins with a full one
    would teach it to invent canvases."""
    first_frame_weight: float = 1.0
    """Below 1 where latent frame 0 is the canvas, which is only copied."""


@dataclass(frozen=True)
class Budget:
    """How much each stage trains."""

    parts: dict[Stage, Part]
    compiled: bool = True
    batch_scale: int = 1
    checkpoint_every: int = 100


Name = Literal["cpu", "cpu-long", "renew", "cuda", "rehearsal"]
"""cpu: 2 h 52 min of one core's time on the machine of docs/log.md, so less than three hours on two. cpu-long: as long as the embedded weights
were trained (of whose autoencoder the decoder went on alone for 1,100 steps, in place of `motion`). renew: the methods go on, with
`Recipe.start`, after what they rest on has changed. cuda: the full recipe, not run yet. rehearsal: every line of the recipe in minutes, for
tests; learns nothing."""
_SMALL = Part(1, muon_learning_rate=None, weight_decay=0.05)
_SEEING = Part(1, weight_decay=0.05)
_CPU_METHOD = Part(
    500,
    clips=1536,
    short_clips=4608,
    short_frames=2,
    phases=(Phase(0.78, 2, 64),),
)
_CUDA_METHOD = Part(
    30000,
    clips=100_000,
    short_clips=300_000,
    short_frames=2,
    batch_size=256,
    phases=(Phase(0.6, 2, 512),),
)
"""The three methods learn on as many samples of the same world, in as many steps."""
_CPU = Budget(
    {
        "autoencoder": Part(1600, muon_learning_rate=6e-3, learning_rate=1e-3),
        "motion": Part(800, muon_learning_rate=6e-3, learning_rate=1e-3),
        "image-encoder": replace(_SMALL, steps=400, batch_size=64, learning_rate=1e-3),
        "text-to-video": Part(
            900, clips=3072, short_clips=12288, phases=(Phase(0.65, 1, 96), Phase(0.85, 3, 48))
        ),
        "image-to-video": Part(
            150,
            clips=384,
            short_clips=1536,
            short_frames=2,
            phases=(Phase(0.8, 2, 64),),
            reference_dropout=0.1,
            first_frame_weight=0.3,
        ),
        "magref": replace(_CPU_METHOD, first_frame_weight=0.3),
        "kaleido": _CPU_METHOD,
        "segmenter": replace(_SMALL, steps=500, batch_size=24),
        "saber": _CPU_METHOD,
        "identity": replace(_SMALL, steps=1000, batch_size=32),
        "phrase-segmenter": replace(_SEEING, steps=700, batch_size=16),
        "image-text": replace(_SEEING, steps=500, batch_size=48, learning_rate=1e-3, muon_learning_rate=6e-3),
        "actions": replace(_SMALL, steps=300),
    }
)
_LONG: dict[Stage, int] = {
    "autoencoder": 3600,
    "motion": 4000,
    "kaleido": 2700,
    "segmenter": 800,
    "saber": 2700,
    "identity": 2000,
    "phrase-segmenter": 1400,
    "image-text": 800,
}
_LONG_PARTS: dict[Stage, Part] = {
    **{stage: replace(_CPU.parts[stage], steps=steps) for stage, steps in _LONG.items()},
    "magref": replace(_CPU.parts["magref"], steps=4300, clips=4608, short_clips=16384),
}
_RENEWED: dict[str, Any] = {"steps": 1000, "clips": 2048, "short_clips": 8192}
BUDGETS: dict[Name, Budget] = {
    "cpu": _CPU,
    "cpu-long": replace(_CPU, parts={**_CPU.parts, **_LONG_PARTS}),
    "renew": replace(
        _CPU,
        parts={
            **_CPU.parts,
            "magref": replace(_CPU.parts["magref"], **_RENEWED),
            "kaleido": replace(_CPU_METHOD, **_RENEWED),
            "saber": replace(_CPU_METHOD, **_RENEWED),
        },
    ),
    "cuda": Budget(
        {
            "autoencoder": Part(12000, learning_rate=1e-3),
            "motion": Part(12000, learning_rate=1e-3),
            "image-encoder": replace(_SMALL, steps=4000, batch_size=512, learning_rate=1e-3),
            "text-to-video": Part(
                24000,
                clips=100_000,
                short_clips=400_000,
                batch_size=256,
                phases=(Phase(0.5, 1, 1024), Phase(0.75, 3, 512)),
            ),
            "image-to-video": Part(
                6000,
                clips=50_000,
                batch_size=256,
                phases=(Phase(0.5, 2, 512),),
                reference_dropout=0.1,
                first_frame_weight=0.3,
            ),
            "magref": replace(_CUDA_METHOD, first_frame_weight=0.3),
            "kaleido": _CUDA_METHOD,
            "segmenter": replace(_SMALL, steps=6000, batch_size=128),
            "saber": _CUDA_METHOD,
            "identity": replace(_SMALL, steps=6000, batch_size=192),
            "phrase-segmenter": replace(_SEEING, steps=8000, batch_size=64),
            "image-text": replace(
                _SEEING, steps=6000, batch_size=192, learning_rate=1e-3, muon_learning_rate=6e-3
            ),
            "actions": replace(_SMALL, steps=2000, batch_size=64),
        },
        batch_scale=16,
        checkpoint_every=1000,
    ),
    "rehearsal": Budget(
        {
            "autoencoder": Part(4),
            "motion": Part(4),
            "image-encoder": Part(2, batch_size=8),
            "text-to-video": Part(2, clips=16, short_clips=16, batch_size=4, phases=(Phase(0.5, 1, 4),)),
            "image-to-video": Part(2, clips=16, batch_size=4),
            "magref": Part(2, clips=16, batch_size=4),
            "kaleido": Part(2, clips=16, batch_size=4),
            "segmenter": Part(2, batch_size=4),
            "saber": Part(2, clips=16, batch_size=4),
            "identity": Part(2, batch_size=4),
            "phrase-segmenter": Part(2, batch_size=4),
            "image-text": Part(2, batch_size=8),
            "actions": Part(2, batch_size=4),
        },
        compiled=False,
        checkpoint_every=1,
    ),
}

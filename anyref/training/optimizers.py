"""Optimizers over a model's parameters: AdamW alone, or Muon for weight matrices with AdamW for the rest.

Muon (orthogonalised momentum) takes matrices; a convolution kernel is handed to it as the matrix [out, in * kernel], a view of the same
memory. Learning rates are per optimizer step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimizerConfig:
    """How a model's parameters are updated."""

    learning_rate: float = 1e-5
    """AdamW's rate, for every parameter that Muon does not take. MAGREF: 1e-5."""
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    decay_vectors: bool = True
    """Whether biases and the gains of norms (parameters of one dimension) decay, too; in Kaleido's release they do not."""
    muon_learning_rate: float | None = None
    """Rate for weight matrices under Muon; None: AdamW takes them too, as the papers do."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm over all parameters; 0 leaves them."""
    schedule: Literal["constant", "linear", "cosine", "cosine-restarts"] = "cosine-restarts"
    """After the warm-up: constant; linear to 0 over the last `decay_fraction`; cosine to 0; cosine with `restarts` periods (MAGREF)."""
    warmup_steps: int = 0
    decay_fraction: float = 0.6
    restarts: int = 4


def rate_factor(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """What the learning rates are multiplied with at a step counted from 0; in [0, 1]."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = step / max(1, num_steps)
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "linear":
        return min(1.0, (1.0 - progress) / max(config.decay_fraction, 1e-9))
    periods = config.restarts if config.schedule == "cosine-restarts" else 1
    return 0.5 * (1.0 + math.cos(math.pi * (progress * periods % 1.0)))


class Optimizer:
    """AdamW and, where configured, Muon behind one `step`; its state is saved and restored exactly."""

    def __init__(
        self, model: nn.Module, config: OptimizerConfig, is_matrix: Callable[[str, Tensor], bool]
    ) -> None:
        self.config = config
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        use_muon = config.muon_learning_rate is not None
        matrices = [p for name, p in named if use_muon and p.ndim >= 2 and is_matrix(name, p)]
        taken = {id(p) for p in matrices}
        self.others = [p for _, p in named if id(p) not in taken]
        self.matrices = [(p, nn.Parameter(p.detach().view(p.shape[0], -1))) for p in matrices]
        groups: list[dict[str, Any]] = [{"params": self.others}]
        if not config.decay_vectors:
            decaying = [p for p in self.others if p.ndim > 1]
            kept = [p for p in self.others if p.ndim <= 1]
            groups = [{"params": decaying}, {"params": kept, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(
            groups,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.muon = None
        if self.matrices:
            views = [view for _, view in self.matrices]
            self.muon = torch.optim.Muon(
                views,
                lr=config.muon_learning_rate or 0.0,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )

    def step(self, factor: float) -> float:
        """Clip, update with rates multiplied by `factor`, clear the gradients; return the norm before clipping."""
        parameters = [*self.others, *(p for p, _ in self.matrices)]
        limit = self.config.clip_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
        for group in self.adam.param_groups:
            group["lr"] = self.config.learning_rate * factor
        self.adam.step()
        if self.muon is not None:
            for group in self.muon.param_groups:
                group["lr"] = (self.config.muon_learning_rate or 0.0) * factor
            for parameter, view in self.matrices:
                view.grad = None if parameter.grad is None else parameter.grad.reshape(view.shape)
            self.muon.step()
        for parameter in parameters:
            parameter.grad = None
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on as if never interrupted."""
        return {"adam": self.adam.state_dict(), "muon": self.muon.state_dict() if self.muon else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The reverse of `state_dict`."""
        self.adam.load_state_dict(state["adam"])
        if self.muon is not None:
            self.muon.load_state_dict(state["muon"])

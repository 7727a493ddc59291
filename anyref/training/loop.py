"""The training loop: steps, accumulation, clipping, moving average, checkpoints, exact resume.

Every model here is trained by `fit`: the autoencoder, the image encoder, the backbones and the methods. What differs is the function that
gives the loss. Randomness comes from one generator a step, seeded by (seed, step), so that a run that was killed and resumed draws
what the undisturbed run draws; on a CPU its losses are equal to the bit.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from anyref.training import checkpoint
from anyref.training.optimizers import Optimizer, OptimizerConfig, rate_factor

Loss = Callable[[int, torch.Generator], tuple[Tensor, dict[str, float]]]
"""Called with (micro-step counted over the whole run, generator on the CPU); returns the loss and numbers to log."""


@dataclass(frozen=True)
class FitConfig:
    """How long and how a model is trained."""

    output: Path
    """Run folder: checkpoints, metrics.jsonl, TensorBoard events."""
    num_steps: int
    seed: int = 0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    accumulate: int = 1
    """Micro-steps a step; the loss is their mean."""
    ema_decay: float = 0.999
    """Decay of the moving average of the weights, which is what is kept; 0 keeps the weights themselves."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    validate_every: int = 0
    """Steps between validations; 0: never."""
    log_every: int = 20
    stop_after: int | None = None
    """Stop (resumably) after this many steps of this run: a rehearsal of an interruption."""


def every_matrix(name: str, parameter: Tensor) -> bool:  # noqa: ARG001 - the signature of `fit`'s argument
    """Muon, where it is configured, takes every matrix, and no gain that is shaped like one."""
    return parameter.ndim >= 2 and parameter[0].numel() > 1


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of a step: the same for the same (seed, step), whatever happened before."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


def fit(
    model: nn.Module,
    loss: Loss,
    config: FitConfig,
    is_matrix: Callable[[str, Tensor], bool] = every_matrix,
    validate: Callable[[int], dict[str, float]] | None = None,
) -> None:
    """Train `model` in place and leave the moving average of its weights in it.

    Resumes from the newest checkpoint under `config.output`. `validate(step)` is called with the averaged weights in place. Raises
    FloatingPointError when the loss is no longer finite; the last checkpoint then still stands.
    """
    config.output.mkdir(parents=True, exist_ok=True)
    _check_same_run(config)
    optimizer = Optimizer(model, config.optimizer, is_matrix)
    average = {name: p.detach().clone() for name, p in model.named_parameters()} if config.ema_decay else None
    start = _resume(model, optimizer, average, config)
    state = _State(model, optimizer, average)
    with closing(_Log(config, start)) as log:
        for step in range(start, config.num_steps):
            numbers = _step(loss, optimizer, config, step)
            if average is not None:
                _update_average(average, model, config.ema_decay, step)
            done, last = step + 1, step + 1 == config.num_steps
            if config.validate_every and validate and (done % config.validate_every == 0 or last):
                numbers |= _with_average(model, average, partial(validate, done))
            log.write(done, numbers)
            stopping = config.stop_after is not None and done - start >= config.stop_after
            if done % config.checkpoint_every == 0 or last or stopping:
                checkpoint.save(config.output, done, state.to_save())
            if stopping:
                break
    if average is not None:
        _assign(model, average)


_MAY_CHANGE = ("output", "stop_after", "log_every", "checkpoint_every", "validate_every")


def _check_same_run(config: FitConfig) -> None:
    """Note the configuration in fit.json; raise ValueError where a run of another one would be continued."""
    path = config.output / "fit.json"
    record = json.loads(json.dumps(asdict(config), default=str))
    if path.exists() and checkpoint.load_newest(config.output) is not None:
        begun = json.loads(path.read_text())
        differing = [name for name in record if name not in _MAY_CHANGE and begun.get(name) != record[name]]
        if differing:
            raise ValueError(
                f"{config.output} holds a run with another {' and '.join(differing)}; name another folder, or delete that one"
            )
    path.write_text(json.dumps(record, indent=1) + "\n")


def _step(loss: Loss, optimizer: Optimizer, config: FitConfig, step: int) -> dict[str, float]:
    """One update; returns the numbers to log."""
    generator = step_generator(config.seed, step)
    numbers = {"loss": 0.0}
    for micro in range(config.accumulate):
        value, extra = loss(step * config.accumulate + micro, generator)
        (value / config.accumulate).backward()
        for name, number in {"loss": float(value.detach()), **extra}.items():
            numbers[name] = numbers.get(name, 0.0) + number / config.accumulate
    if not math.isfinite(numbers["loss"]):
        raise FloatingPointError(
            f"the loss is {numbers['loss']} at step {step}; lower the learning rate and resume"
        )
    numbers["gradient_norm"] = optimizer.step(rate_factor(config.optimizer, step, config.num_steps))
    return numbers


@dataclass(frozen=True)
class _State:
    """What a checkpoint holds."""

    model: nn.Module
    optimizer: Optimizer
    average: dict[str, Tensor] | None

    def to_save(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
        }


def _resume(
    model: nn.Module, optimizer: Optimizer, average: dict[str, Tensor] | None, config: FitConfig
) -> int:
    found = checkpoint.load_newest(config.output)
    if found is None:
        return 0
    step, state = found
    if step > config.num_steps:
        raise ValueError(
            f"{config.output} holds a run of {step} steps and {config.num_steps} were asked for; ask for more or name another folder"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if average is not None:
        for name, value in state["average"].items():
            average[name].copy_(value)
    return step


@torch.no_grad()
def _update_average(average: dict[str, Tensor], model: nn.Module, decay: float, step: int) -> None:
    # A young average would remember the initial weights: the decay starts at 0.1 and grows to its value.
    weight = 1.0 - min(decay, (1.0 + step) / (10.0 + step))
    current = dict(model.named_parameters())
    torch._foreach_lerp_(list(average.values()), [current[name].detach() for name in average], weight)


@torch.no_grad()
def _assign(model: nn.Module, values: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])


def _with_average(
    model: nn.Module, average: dict[str, Tensor] | None, call: Callable[[], dict[str, float]]
) -> dict[str, float]:
    if average is None:
        return call()
    current = {name: p.detach().clone() for name, p in model.named_parameters()}
    _assign(model, average)
    try:
        return call()
    finally:
        _assign(model, current)


def _cut(path: Path, last_step: int) -> None:
    """Drop the lines after `last_step`, which the resumed run writes again, and one that a kill left unfinished."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            step = json.loads(line)["step"]
        except json.JSONDecodeError:
            break
        if step <= last_step:
            kept.append(line + "\n")
    renewed = path.with_suffix(".unfinished")
    renewed.write_text("".join(kept))
    renewed.replace(path)


class _Log:
    """metrics.jsonl (one line a step, cut back to where a resumed run begins), TensorBoard where installed, and a line on the screen."""

    def __init__(self, config: FitConfig, start: int) -> None:
        self.config, self.start = config, start
        self.began = time.monotonic()
        self.path = config.output / "metrics.jsonl"
        _cut(self.path, start)
        self.file = self.path.open("a", buffering=1)
        self.console = Console()
        try:
            from torch.utils.tensorboard import SummaryWriter

            self.board: Any = SummaryWriter(str(config.output / "tensorboard"), purge_step=start + 1)
        except ImportError:
            self.board = None

    def write(self, step: int, numbers: dict[str, float]) -> None:
        self.file.write(json.dumps({**numbers, "step": step}) + "\n")
        if step % self.config.log_every and step != self.config.num_steps:
            return
        if self.board is not None:
            for name, number in numbers.items():
                self.board.add_scalar(name, number, step)
        elapsed = time.monotonic() - self.began
        left = elapsed / (step - self.start) * (self.config.num_steps - step)
        shown = "  ".join(f"{name} {number:.4g}" for name, number in numbers.items())
        self.console.print(
            f"step {step}/{self.config.num_steps}  {shown}  {elapsed:.0f} s, about {left:.0f} s left",
            highlight=False,
        )

    def close(self) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()

"""The loop: resumed runs equal undisturbed ones to the bit, a kill loses nothing, averages and schedules do what they say."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from anyref.training import checkpoint
from anyref.training.loop import FitConfig, fit, step_generator
from anyref.training.optimizers import Optimizer, OptimizerConfig, rate_factor

OPTIMIZER = OptimizerConfig(learning_rate=1e-2, muon_learning_rate=1e-2, warmup_steps=2, schedule="linear")


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, 4))


def run(folder: Path, **changes: object) -> tuple[nn.Module, list[float]]:
    config = FitConfig(
        folder, num_steps=8, optimizer=OPTIMIZER, ema_decay=0.9, checkpoint_every=3, log_every=100
    )
    model = make_model()

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        inputs = torch.randn(4, 3, 8, 8, generator=generator)
        return (model(inputs) - inputs.mean()).square().mean(), {"micro_step": float(step)}

    fit(model, loss, replace(config, **changes))  # type: ignore[arg-type]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return model, [line["loss"] for line in lines]


def test_resumed_run_is_bit_equal(tmp_path: Path) -> None:
    whole_model, whole = run(tmp_path / "whole")
    run(tmp_path / "parts", stop_after=2)
    with pytest.raises(ValueError, match="another seed"):
        run(tmp_path / "parts", seed=5)
    run(tmp_path / "parts", stop_after=4)
    resumed_model, resumed = run(tmp_path / "parts")
    assert resumed == whole
    assert len(whole) == 8
    for one, other in zip(whole_model.parameters(), resumed_model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_killed_run_resumes_bit_equal(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        sys.path[:0] = [sys.argv[2], sys.argv[3]]
        import torch
        torch.set_num_threads(1)
        from training.test_loop import run
        real = torch.randn
        def slow(*args, **kwargs):
            time.sleep(0.05)
            return real(*args, **kwargs)
        torch.randn = slow
        run(Path(sys.argv[1]), num_steps=60, checkpoint_every=1)
        """
    )
    here = Path(__file__).parents[1]
    arguments = [sys.executable, "-c", script, str(tmp_path / "killed"), str(here), str(here.parent)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while (
            not list((tmp_path / "killed").glob("checkpoints/step-*/state.pt"))
            and time.monotonic() < deadline
        ):
            time.sleep(0.05)
        time.sleep(0.2)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert checkpoint.load_newest(tmp_path / "killed") is not None
    _, killed = run(tmp_path / "killed", num_steps=60, checkpoint_every=1)
    _, whole = run(tmp_path / "whole", num_steps=60, checkpoint_every=100)
    assert killed == whole


def test_unfinished_checkpoint_is_ignored(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 3, {"value": 1})
    (tmp_path / "checkpoints" / "step-00000005.unfinished").mkdir()
    (tmp_path / "checkpoints" / "step-00000006").mkdir()
    assert checkpoint.load_newest(tmp_path) == (3, {"value": 1})


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    for step in range(5):
        checkpoint.save(tmp_path, step, {"value": step}, keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "step-00000003",
        "step-00000004",
    ]


def test_diverged_loss_stops_with_a_sentence(tmp_path: Path) -> None:
    model = make_model()
    config = FitConfig(tmp_path, num_steps=3, optimizer=OPTIMIZER)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 0"):
        fit(model, lambda step, generator: (next(model.parameters()).sum() * float("nan"), {}), config)


def test_accumulation_is_the_mean_of_micro_steps(tmp_path: Path) -> None:
    def train(accumulate: int, rows: int) -> Tensor:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        data = torch.arange(24.0).reshape(8, 3) / 10

        def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
            start = step * rows % 8
            return model(data[start : start + rows]).square().mean(), {}

        optimizer = OptimizerConfig(learning_rate=1e-2, weight_decay=0.0, clip_norm=0.0, schedule="constant")
        folder = tmp_path / str(accumulate)
        fit(model, loss, FitConfig(folder, 2, optimizer=optimizer, accumulate=accumulate, ema_decay=0.0))
        return model.weight.detach()

    assert torch.allclose(train(1, 8), train(4, 2), atol=1e-6)


def test_clipping_bounds_the_update() -> None:
    model = nn.Linear(2, 1, bias=False)
    optimizer = Optimizer(model, OptimizerConfig(clip_norm=1.0), lambda name, parameter: True)
    model.weight.grad = torch.tensor([[30.0, 40.0]])
    assert optimizer.step(1.0) == pytest.approx(50.0)


def test_muon_updates_convolutions_through_their_matrix() -> None:
    model = make_model()
    optimizer = Optimizer(model, OPTIMIZER, lambda name, parameter: parameter.ndim == 4)
    assert len(optimizer.matrices) == 1
    before = model[0].weight.detach().clone()
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step(1.0)
    assert not torch.equal(before, model[0].weight)


@pytest.mark.parametrize(("decays", "kept"), [(True, False), (False, True)])
def test_vectors_decay_only_where_they_are_asked_to(decays: bool, kept: bool) -> None:
    model = nn.Linear(3, 3)
    before = model.bias.detach().clone()
    config = OptimizerConfig(learning_rate=0.1, weight_decay=0.5, decay_vectors=decays)
    optimizer = Optimizer(model, config, lambda *_: False)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weight = model.weight.detach().clone()
    optimizer.step(1.0)
    assert torch.equal(model.bias, before) == kept
    assert torch.allclose(model.weight, 0.95 * weight)


def test_schedules() -> None:
    assert rate_factor(OptimizerConfig(schedule="constant", warmup_steps=4), 1, 100) == 0.5
    assert rate_factor(OptimizerConfig(schedule="linear", decay_fraction=0.5), 49, 100) == 1.0
    assert rate_factor(OptimizerConfig(schedule="linear", decay_fraction=0.5), 75, 100) == pytest.approx(0.5)
    restarts = OptimizerConfig(schedule="cosine-restarts", restarts=2)
    assert rate_factor(restarts, 0, 100) == rate_factor(restarts, 50, 100) == 1.0
    assert rate_factor(restarts, 49, 100) < 0.01


def test_step_generators_differ_between_steps_and_agree_between_runs() -> None:
    draws = [float(torch.rand((), generator=step_generator(1, step))) for step in (0, 1, 0)]
    assert draws[0] == draws[2] != draws[1]

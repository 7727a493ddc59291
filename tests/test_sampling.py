"""Grids and solvers against trajectories of the original release, and against the formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from safetensors.torch import load_file

from anyref.sampling import (
    GRIDS,
    SamplingDefaults,
    Solver,
    check_sigmas,
    guide,
    make_scheduler,
    set_sigmas,
    sigma_grid,
    with_given,
)

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "samplers.safetensors"


@pytest.mark.skipif(not GOLDEN.exists(), reason="the golden values are not beside this checkout")
@pytest.mark.parametrize(("steps", "shift"), [(40, 3.0), (12, 5.0)])
@pytest.mark.parametrize("solver", ["unipc", "dpm++"])
def test_the_release_trajectories(solver: Solver, steps: int, shift: float) -> None:
    golden = load_file(GOLDEN)
    scheduler, sample = make_scheduler(solver, shift), golden["x0"]
    timesteps = set_sigmas(scheduler, sigma_grid("release", steps, solver))
    key = f"{solver}_{steps}_{shift}"
    assert torch.equal(timesteps.float(), golden[f"{key}.timesteps"])
    for timestep in timesteps:
        velocity = torch.einsum("oc,bcthw->bothw", golden["W"], sample) * (0.5 + timestep / 1000)
        sample = scheduler.step(velocity, timestep, sample, return_dict=False)[0]
    final = golden[f"{key}.final"]
    assert (sample - final).norm() / final.norm() < 1e-5


def test_the_linear_grid_is_diffusers_own() -> None:
    theirs = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0)
    theirs.set_timesteps(7)
    ours = make_scheduler("unipc", 5.0)
    assert torch.equal(set_sigmas(ours, sigma_grid("linear", 7)), theirs.timesteps)
    assert torch.equal(ours.sigmas, theirs.sigmas)


def test_shifted_euler_is_kaleidos() -> None:
    scheduler = make_scheduler("euler", 7.0)
    timesteps = set_sigmas(scheduler, sigma_grid("uniform", 5))
    u = np.linspace(1, 0, 6)
    np.testing.assert_allclose(scheduler.sigmas.numpy(), 7 * u / (1 + 6 * u), atol=1e-6)
    np.testing.assert_allclose(timesteps.numpy(), 1000 * (7 * u / (1 + 6 * u))[:-1], rtol=1e-6)


@pytest.mark.parametrize("solver", ["unipc", "euler", "dpm++"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 60])
def test_every_solver_reaches_a_fixed_target(solver: Solver, grid: str, steps: int) -> None:
    """A model that knows the clean sample: every solver ends on it, and repeats itself after being set again."""
    clean, noise = torch.tensor([[0.3, -1.2]]), torch.tensor([[1.5, 0.7]])
    scheduler = make_scheduler(solver, 3.0)
    ends = []
    for _ in range(2):
        timesteps = set_sigmas(scheduler, sigma_grid(grid, steps, solver))  # type: ignore[arg-type]
        first = float(scheduler.sigmas[0])
        sample = (1 - first) * clean + first * noise
        for index, timestep in enumerate(timesteps):
            velocity = (sample - clean) / scheduler.sigmas[index]
            sample = scheduler.step(velocity, timestep, sample, return_dict=False)[0]
        ends.append(sample)
    torch.testing.assert_close(ends[0], clean, atol=1e-4, rtol=1e-4)
    assert torch.equal(*ends)


def test_guide() -> None:
    conditional, unconditional = torch.tensor([2.0]), torch.tensor([1.0])
    assert guide(conditional, unconditional, 5.0) == 6.0
    assert torch.equal(guide(conditional, unconditional, 1.0), conditional)


def test_mistakes() -> None:
    for sigmas in ([], [0.5, 0.5], [1.2, 0.3], [0.5, 0.0], [[0.5]]):
        with pytest.raises(ValueError, match="must fall strictly"):
            check_sigmas(sigmas)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        sigma_grid("linear", 0)
    with pytest.raises(ValueError, match="sigmas is 'cosine'"):
        sigma_grid("cosine", 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shift is 0"):
        make_scheduler("unipc", 0.0)
    with pytest.raises(ValueError, match="solver is 'heun'"):
        make_scheduler("heun", 1.0)  # type: ignore[arg-type]
    defaults = SamplingDefaults(64, 96, 17, 25, 3.0, 2.5, 8)
    assert with_given(defaults, height=128, width=None).height == 128
    with pytest.raises(ValueError, match="must all be positive"):
        with_given(defaults, num_inference_steps=0)

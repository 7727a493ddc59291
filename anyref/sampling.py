"""Sigma grids, solvers and guidance: what turns a velocity model into a sampler.

Rectified flow, x = (1 - sigma) * clean + sigma * noise, velocity = noise - clean. The solvers are diffusers'
schedulers, built here with flow settings; a grid is given before the shift, and the shift is applied once:
sigma' = shift * sigma / (1 + (shift - 1) * sigma).
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from numpy.typing import NDArray
from torch import Tensor

Solver = Literal["unipc", "euler", "dpm++"]
SOLVERS: tuple[Solver, ...] = ("unipc", "euler", "dpm++")
Grid = Literal["release", "linear", "uniform"]
GRIDS: tuple[Grid, ...] = ("release", "linear", "uniform")
# Escaped because sources here are ASCII.
WAN_NEGATIVE_PROMPT = (
    "\u8272\u8c03\u8273\u4e3d\uff0c\u8fc7\u66dd\uff0c\u9759\u6001\uff0c"
    "\u7ec6\u8282\u6a21\u7cca\u4e0d\u6e05\uff0c\u5b57\u5e55\uff0c\u98ce\u683c\uff0c\u4f5c\u54c1\uff0c"
    "\u753b\u4f5c\uff0c\u753b\u9762\uff0c\u9759\u6b62\uff0c\u6574\u4f53\u53d1\u7070\uff0c"
    "\u6700\u5dee\u8d28\u91cf\uff0c\u4f4e\u8d28\u91cf\uff0cJPEG\u538b\u7f29\u6b8b\u7559\uff0c"
    "\u4e11\u964b\u7684\uff0c\u6b8b\u7f3a\u7684\uff0c\u591a\u4f59\u7684\u624b\u6307\uff0c"
    "\u753b\u5f97\u4e0d\u597d\u7684\u624b\u90e8\uff0c\u753b\u5f97\u4e0d\u597d\u7684\u8138\u90e8\uff0c"
    "\u7578\u5f62\u7684\uff0c\u6bc1\u5bb9\u7684\uff0c\u5f62\u6001\u7578\u5f62\u7684\u80a2\u4f53\uff0c"
    "\u624b\u6307\u878d\u5408\uff0c\u9759\u6b62\u4e0d\u52a8\u7684\u753b\u9762\uff0c"
    "\u6742\u4e71\u7684\u80cc\u666f\uff0c\u4e09\u6761\u817f\uff0c\u80cc\u666f\u4eba\u5f88\u591a\uff0c"
    "\u5012\u7740\u8d70"
)
"""Wan2.1's own; the releases built on it change a phrase."""


@dataclass(frozen=True)
class SamplingDefaults:
    """How a checkpoint is sampled when the caller does not say. Sizes are what the user gets back, in pixels
    and frames.
    """

    height: int
    width: int
    num_frames: int
    num_inference_steps: int
    shift: float
    guidance_scale: float
    fps: float
    solver: Solver = "unipc"
    negative_prompt: str = ""
    sigmas: Grid = "linear"
    reference_guidance_scale: float = 1.0
    """Guidance by the references (see guidance.combine); 1 is none, as in the releases."""
    seed: int | None = None
    """Used when no generator is given; None: a fresh one each time."""

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(f"solver is {self.solver!r}; it must be one of {', '.join(SOLVERS)}")
        if self.sigmas not in GRIDS:
            raise ValueError(f"sigmas is {self.sigmas!r}; it must be one of {', '.join(GRIDS)}")
        if self.num_inference_steps < 1 or self.shift <= 0 or self.fps <= 0:
            raise ValueError(
                f"num_inference_steps {self.num_inference_steps}, shift {self.shift} and fps {self.fps} must all be positive"
            )


def with_given(defaults: SamplingDefaults, **given: Any) -> SamplingDefaults:
    """The defaults with those values replaced that are not None."""
    return replace(defaults, **{name: value for name, value in given.items() if value is not None})


def sigma_grid(grid: Grid, num_inference_steps: int, solver: Solver = "unipc") -> NDArray[np.float64]:
    """Sigmas before the shift, descending, one per step, without the final 0.

    "release": Wan's and MAGREF's own, 0.999 .. 0 without its end for UniPC (their training table ends at
    999/1000) and 1 .. 0 for DPM++.
    "linear": 1 .. 1/1000 without its end, what diffusers' schedulers make themselves.
    "uniform": 1 .. 0 without its end, plain Euler (Kaleido's sigma = 7u / (1 + 6u) is this with shift 7).
    """
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps is {num_inference_steps}; it must be at least 1")
    if grid == "release":
        first, last = (float(np.float32(0.999)) if solver == "unipc" else 1.0), 0.0
    elif grid == "linear":
        first, last = 1.0, 1 / 1000
    elif grid == "uniform":
        first, last = 1.0, 0.0
    else:
        raise ValueError(f"sigmas is {grid!r}; it must be one of {', '.join(GRIDS)} or a list of numbers")
    return np.linspace(first, last, num_inference_steps + 1)[:-1]


def check_sigmas(sigmas: list[float]) -> NDArray[np.float64]:
    """A caller's own grid, before the shift. Raises ValueError unless it falls strictly, inside (0, 1]."""
    values = np.asarray(sigmas, dtype=np.float64)
    if (
        values.ndim != 1
        or values.size == 0
        or values.max() > 1
        or values.min() <= 0
        or (np.diff(values) >= 0).any()
    ):
        raise ValueError(
            f"sigmas are {sigmas}; they must fall strictly within (0, 1], without the final 0; the shift is applied to them"
        )
    return values


def make_scheduler(solver: Solver, shift: float) -> Any:
    """diffusers' scheduler of this solver, for velocities: UniPC of order 2, DPM++ of order 2, or Euler.

    The shift is stored in it (`flow_shift`, `shift`) and applied by `set_timesteps` to the grid it is given.
    """
    if shift <= 0:
        raise ValueError(f"shift is {shift}; it must be positive; 1 leaves the sigmas as they are")
    if solver == "unipc":
        return UniPCMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=shift,
            num_train_timesteps=1000,
        )
    if solver == "dpm++":
        return DPMSolverMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=shift,
            algorithm_type="dpmsolver++",
        )
    if solver == "euler":
        return FlowMatchEulerDiscreteScheduler(shift=shift)
    raise ValueError(f"solver is {solver!r}; it must be one of {', '.join(SOLVERS)}")


def set_sigmas(
    scheduler: Any, sigmas: NDArray[np.float64], device: torch.device | str | None = None
) -> Tensor:
    """Give the scheduler a grid (before the shift, which it applies), and return its timesteps, one per step."""
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        # Its set_timesteps takes no sigmas (diffusers 0.42); the two tables it would fill are filled here.
        scheduler.set_timesteps(len(sigmas), device=device)
        shift = float(scheduler.config.flow_shift)
        shifted = shift * sigmas / (1 + (shift - 1) * sigmas)
        scheduler.sigmas = torch.from_numpy(np.append(shifted, 0.0).astype(np.float32))
        scheduler.timesteps = torch.from_numpy(shifted * 1000).to(device=device, dtype=torch.int64)
    else:
        scheduler.set_timesteps(sigmas=sigmas, device=device)
    # Two steps may round to one integer timestep: count steps instead of looking timesteps up.
    scheduler.set_begin_index(0)
    timesteps: Tensor = scheduler.timesteps
    return timesteps


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance, v_u + g (v_c - v_u)."""
    return unconditional + scale * (conditional - unconditional)

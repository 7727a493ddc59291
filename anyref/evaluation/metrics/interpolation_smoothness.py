"""Motion Smoothness of VBench, which Kaleido reports: how well every second frame can be guessed from its neighbours.

VBench, motion_smoothness.py. The guess is AMT-S's, whose weights are CC BY-NC and whose code lives in the package vbench; vbench cannot share
an environment with this package, so its score is asked of a Python of its own. The formula is here; `flow_smoothness` uses it with optical flow.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.cases import EvaluationCase
from anyref.evaluation.metrics import JSON, Need, Result, VideoUnderTest
from anyref.perception import Model, Picture

VARIABLE = "ANYREF_VBENCH_PYTHON"
"""The environment variable that names a Python with `pip install vbench==0.1.5`."""
_PROGRAM = """
import sys, torch
from vbench.motion_smoothness import MotionSmoothness
from vbench.utils import init_submodules
parts = init_submodules(["motion_smoothness"])["motion_smoothness"]
device = "cuda" if torch.cuda.is_available() else "cpu"
print("score", MotionSmoothness(parts["config"], parts["ckpt"], device).motion_score(sys.argv[1]))
"""


@dataclass(frozen=True)
class InterpolationSmoothness:
    """(255 - mean |frame - guess|) / 255 over the odd frames, 0 to 1, saturated near 0.99; `strict` is the same.

    A Python with vbench must be named. VBench shrinks large frames on small cards, so the GPU decides a little, too.
    """

    name: ClassVar[str] = "vbench.motion_smoothness"
    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool] = True
    models: ClassVar[Mapping[str, str]] = {}
    defaults: ClassVar[Mapping[str, str]] = {}
    parameters: ClassVar[Mapping[str, JSON]] = {"interpolator": "AMT-S of vbench"}

    def needs(self) -> tuple[Need, ...]:
        """AMT-S, in an environment of its own."""
        python = os.environ.get(VARIABLE)
        missing = None
        if not python:
            missing = (
                f"VBench's interpolator AMT-S is not part of anyref; set {VARIABLE} to a Python with vbench==0.1.5, "
                "or score anyref.flow_smoothness"
            )
        elif shutil.which(python) is None:
            missing = f"{VARIABLE} is {python}, which is no program; set it to a Python with vbench==0.1.5"
        return (Need("interpolator", "AMT-S of vbench", "CC BY-NC 4.0", commercial=False, missing=missing),)

    def applies(self, case: EvaluationCase) -> bool:  # noqa: ARG002 - every video has frames
        """To every case."""
        return True

    def score(self, video: VideoUnderTest, models: Mapping[str, Model]) -> Result:  # noqa: ARG002 - vbench opens its own
        """See the class."""
        if video.num_frames < 3:
            return Result.not_applicable("fewer than three frames have none between two")
        (need,) = self.needs()
        if need.missing is not None:
            raise ValueError(need.missing)
        python = os.environ[VARIABLE]
        command = [python, "-c", _PROGRAM, str(video.path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
        answers = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("score ")]
        if not answers:
            said = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
            raise ValueError(f"vbench in {python} gave no score ({said}); check that it runs on its own")
        value = float(answers[-1])
        return Result(value, value)


def smoothness(
    frames: Iterable[Picture], between: Callable[[Picture, Picture], Picture]
) -> NDArray[np.float64]:
    """VBench's score of each odd frame that has a frame on both sides: (255 - mean |frame - between(before, after)|) / 255."""
    scores: list[float] = []
    before: Picture | None = None
    middle: Picture | None = None
    for number, frame in enumerate(frames):
        if number % 2:
            middle = frame
            continue
        if before is not None and middle is not None:
            guess = between(before, frame)
            scores.append(1.0 - float(np.abs(middle.astype(np.int16) - guess).mean()) / 255.0)
        before = frame
    return np.array(scores)

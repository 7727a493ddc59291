"""Time and peak memory of our pipeline against diffusers' WanImageToVideoPipeline on the same weights.

Both sample the same number of frames with the same steps, guidance and canvas, in float32 on the CPU, in turns within one process; memory is
measured in a process of its own for each. Usage: python benchmarks/against_diffusers.py [--model puppets/magref] [--repeats 5] [--steps 25]
"""

import argparse
import gc
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline, WanTransformer3DModel
from diffusers.pipelines.wan import pipeline_wan_i2v
from PIL import Image
from torch.profiler import profile
from transformers import CLIPImageProcessor

from anyref import AnyRefPipeline
from anyref.methods.magref import compose
from anyref.puppets.held_out import reference_of, single_clips
from anyref.worlds import PuppetWorld

Call = Callable[[], Any]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="puppets/magref")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--only", choices=("ours", "theirs"), help="run one of them once and print its peak memory"
    )
    return parser.parse_args()


def make_calls(model: str, steps: int) -> dict[str, Call]:
    """One call for each side: the same clip, 21 sampled frames."""
    ours = AnyRefPipeline.from_pretrained(model)
    ours.set_progress_bar_config(disable=True)
    defaults = ours.method.defaults
    sample = single_clips(PuppetWorld("test", height=defaults.height, width=defaults.width), 1)[0]
    reference = reference_of(sample.subjects[0])
    canvas = Image.fromarray(compose([reference], defaults.height, defaults.width).image_YX3)

    stock = WanTransformer3DModel.from_config(dict(ours.transformer.config))
    stock.load_state_dict(ours.transformer.state_dict())
    size = ours.image_encoder.config.image_size
    square = {"height": size, "width": size}
    theirs = WanImageToVideoPipeline(
        tokenizer=ours.tokenizer,
        text_encoder=ours.text_encoder,
        vae=ours.vae,
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=defaults.shift
        ),
        image_processor=CLIPImageProcessor(size=square, crop_size=square, do_center_crop=False),
        image_encoder=ours.image_encoder,
        transformer=stock.eval(),
    )
    theirs.set_progress_bar_config(disable=True)

    # diffusers calls ftfy without asking whether it is installed; the prompts here need no mending.
    pipeline_wan_i2v.ftfy = SimpleNamespace(fix_text=str)

    def run_ours() -> Any:
        generator = torch.Generator().manual_seed(0)
        return ours(
            sample.caption,
            [reference],
            num_inference_steps=steps,
            generator=generator,
            keep_canvas=True,
            num_frames=21,
            reference_guidance_scale=1.0,  # theirs has none
        ).frames

    def run_theirs() -> Any:
        return theirs(
            image=canvas,
            prompt=sample.caption,
            negative_prompt="",
            height=defaults.height,
            width=defaults.width,
            num_frames=21,
            num_inference_steps=steps,
            guidance_scale=defaults.guidance_scale,
            generator=torch.Generator().manual_seed(0),
        ).frames

    return {"ours": run_ours, "theirs": run_theirs}


def peak_gib(side: str, arguments: argparse.Namespace) -> float:
    command = [
        sys.executable,
        str(Path(__file__)),
        "--only",
        side,
        "--model",
        arguments.model,
        "--steps",
        str(arguments.steps),
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(printed.splitlines()[-1])["growth_gib"])


def status_gib(name: str) -> float:
    """A line of /proc/self/status, as GiB."""
    text = Path("/proc/self/status").read_text()
    return int(re.findall(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[0]) / 2**20


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    calls = make_calls(arguments.model, arguments.steps)
    if arguments.only:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
        before = status_gib("VmRSS")
        calls[arguments.only]()
        print(json.dumps({"growth_gib": status_gib("VmHWM") - before}))
        return
    times: dict[str, list[float]] = {side: [] for side in calls}
    for _ in range(arguments.repeats + 1):
        for side, call in calls.items():
            start = time.perf_counter()
            call()
            times[side].append(time.perf_counter() - start)
    medians = {
        side: statistics.median(values[1:]) for side, values in times.items()
    }  # the first is a warm-up
    for side, values in times.items():
        print(
            f"{side}: median {medians[side]:.2f} s of {arguments.repeats} (from {min(values[1:]):.2f} to {max(values[1:]):.2f})"
        )
    ratios = [one / other for one, other in zip(times["ours"][1:], times["theirs"][1:], strict=True)]
    print(f"time ratio ours / theirs: {np.median(ratios):.3f}")
    memory = {side: peak_gib(side, arguments) for side in calls}
    print(
        f"growth of peak memory in a call: ours {memory['ours']:.3f} GiB, theirs {memory['theirs']:.3f} GiB"
    )
    for side, call in calls.items():
        with profile() as record:
            call()
        print(f"where {side}'s time goes:")
        print(
            record.key_averages().table(sort_by="self_cpu_time_total", row_limit=8, max_name_column_width=48)
        )


if __name__ == "__main__":
    main()

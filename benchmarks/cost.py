"""What a denoising step of each method costs with 0, 1, 2, 4 and 8 references: time and peak memory, measured and counted.

A step is what the pipeline does of it: both sides of guidance through the transformer, in one batch where the video is small, with a
ContextCache. Weights are random, references are ellipses on a frame, encoders are stand-ins that know shapes only: the cost is the same.
All methods give the user as many frames; MAGREF samples one latent frame more for it, its canvas.

Measured: seconds of the first step and of later ones (median; all numbers of references in turns), and how much memory a first and a later
step need beside the weights (on a CPU, in a process of its own). Counted: multiply-adds, and bytes of the weights, of what the cache keeps
and of the tensors alive at the peak, by running the transformer without data (see anyref/costs.py). Prints tables, writes JSON and a plot.
Usage: python benchmarks/cost.py [--measure puppets] [--count 14B] [--repeats 20] [--device cpu|cuda] [--output outputs/cost]
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass, fields, replace
from math import pi, prod, sqrt
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from cost_report import draw, print_counted, print_measured
from memory import Growth
from torch import Tensor

from anyref.conditioning import assemble
from anyref.costs import (
    FusedAttention,
    LiveBytes,
    Operations,
    context_operations,
    kept_numbers,
    step_operations,
    weight_bytes,
    weight_dtype,
)
from anyref.guidance import Branch, combine, join
from anyref.latents import PATCH, TextContext, TokenSequence, VideoShape
from anyref.methods import make_method
from anyref.pipeline import ONE_BATCH_TOKENS
from anyref.puppets import models as puppets
from anyref.references import Reference
from anyref.transformer import AnyRefTransformer, ContextCache

REFERENCES = (0, 1, 2, 4, 8)
GUIDANCE = 5.0


class Size(NamedTuple):
    """A transformer and the video it is asked for."""

    config: dict[str, Any]
    """Of its text-to-video transformer."""
    shape: VideoShape
    num_text: int
    image: tuple[int, int]
    """Tokens of the image encoder and their width, for methods that use it."""
    dtype: torch.dtype


_TOY = {
    "num_attention_heads": 8,
    "attention_head_dim": 32,
    "num_layers": 8,
    "ffn_dim": 1024,
    "text_dim": puppets.TEXT_WIDTH,
}
_WAN = {"attention_head_dim": 128, "text_dim": 4096}
_1_3B = {**_WAN, "num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960}
_14B = {**_WAN, "num_attention_heads": 40, "num_layers": 40, "ffn_dim": 13824}
_SMALL = VideoShape(puppets.NUM_FRAMES, puppets.HEIGHT, puppets.WIDTH)
_LARGE = VideoShape(81, 480, 832)
SIZES = {
    # A caption of the puppet world has about 15 tokens; one more stands for all the padding.
    "puppets": Size(_TOY, _SMALL, 16, (65, puppets.IMAGE_WIDTH), torch.float32),
    "1.3B": Size(_1_3B, _LARGE, 512, (257, 1280), torch.bfloat16),
    "14B": Size(_14B, _LARGE, 512, (257, 1280), torch.bfloat16),
}


class Variant(NamedTuple):
    """A method with its settings, and whether keys and values of its references are kept between steps."""

    method: str
    settings: dict[str, Any]
    keep: bool = True


STRICT = {"reference_queries": "references"}
"""Saber's attention mask read strictly: references attend to references only."""
VARIANTS = {
    "MAGREF": Variant("magref", {"anchor_strength": 1.0}),
    "Kaleido": Variant("kaleido", {}),
    "Saber": Variant("saber", {}),
    "Saber, strict": Variant("saber", STRICT, keep=False),
    "Saber, strict, kept": Variant("saber", STRICT),
}


@dataclass(frozen=True)
class Case:
    """A video to be sampled: the transformer's configuration, noise, and both sides of guidance."""

    config: dict[str, Any]
    noise_BCTHW: Tensor
    branches: list[Branch]

    def to(self, device: torch.device, *, keep: bool) -> "Case":
        """On a device, with empty caches."""
        dtype = self.noise_BCTHW.dtype
        branches = []
        for branch in self.branches:
            bias = None if branch.text.bias_BS is None else branch.text.bias_BS.to(device)
            text = TextContext(branch.text.tokens_BSD.to(device), bias)
            conditioning = branch.conditioning.to(device, dtype)
            cache = ContextCache(keep_references=keep)
            branches.append(replace(branch, text=text, conditioning=conditioning, cache=cache))
        return replace(self, noise_BCTHW=self.noise_BCTHW.to(device), branches=branches)

    def sequences(self) -> list[TokenSequence]:
        """What the transformer is given in a step, for each branch."""
        return [
            assemble(
                self.noise_BCTHW.repeat(branch.sides, 1, 1, 1, 1),
                torch.full((branch.sides,), 500.0, device=self.noise_BCTHW.device),
                branch.conditioning,
            )
            for branch in self.branches
        ]


def make_case(size: Size, variant: Variant, references: int, share: float) -> Case:
    """From the method's own conditioning of that many references, on the CPU."""
    method = make_method(variant.method, variant.settings)
    config: dict[str, Any] = {**size.config, "in_channels": method.in_channels}
    sampled = method.sampled_shape(size.shape, keep_canvas=False)
    given = [ellipse(size.shape, share, f"thing {index}") for index in range(references)]
    prompt = " ".join(["a video of", *(one.phrase or "" for one in given)])
    conditioning = method.condition([given], [prompt], sampled, stand_in(size))
    if conditioning.context_BSD is not None:
        width = config["num_attention_heads"] * config["attention_head_dim"]
        config.update(image_dim=size.image[1], added_kv_proj_dim=width)
    branches = []
    for name, side in (("cond", conditioning), ("uncond", method.unconditional(conditioning))):
        bias = torch.zeros(1, size.num_text) if size.num_text < 512 else None
        text = TextContext(torch.randn(1, size.num_text, config["text_dim"], dtype=size.dtype), bias)
        branches.append(Branch(name, text, side.to("cpu", size.dtype)))
    if prod(sampled.latent) // prod(PATCH) <= ONE_BATCH_TOKENS:
        branches = [join(branches)]
    return Case(config, torch.randn(1, 16, *sampled.latent, dtype=size.dtype), branches)


def ellipse(shape: VideoShape, share: float, phrase: str) -> Reference:
    """A picture of the video's size, of which an ellipse that covers `share` is the subject."""
    rows, columns = np.mgrid[-1 : 1 : shape.height * 1j, -1 : 1 : shape.width * 1j]
    mask = np.hypot(rows, columns) <= sqrt(4 * share / pi)
    return Reference(np.full((*mask.shape, 3), 200, np.uint8), subject_mask=mask, phrase=phrase)


def stand_in(size: Size) -> Any:
    """Encoders as methods know them: the right shapes, and noise in them."""

    def encode_video(video_BCFYX: Tensor) -> Tensor:
        batch, _, frames, height, width = video_BCFYX.shape
        return torch.randn(batch, 16, (frames - 1) // 4 + 1, height // 8, width // 8)

    return SimpleNamespace(
        encode_video=encode_video,
        encode_images=lambda images: torch.randn(len(images), *size.image),
        image_encoder=True,
        matter=None,
        num_text_tokens=lambda _prompts: size.num_text,
        token_span=lambda _prompt, _phrase: (0, 2),
    )


def build(config: dict[str, Any], dtype: torch.dtype, device: torch.device) -> AnyRefTransformer:
    """A model with random weights; on the meta device, with none."""
    with torch.device("meta"):
        model = AnyRefTransformer.from_config(config)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(weight_dtype(model, name, dtype))
    if device.type != "meta":
        model.to_empty(device=device)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
    return model.eval()


@torch.no_grad()
def step(model: AnyRefTransformer, case: Case) -> Tensor:
    """The guided velocity, as the pipeline computes it."""
    sides: list[Tensor] = []
    for sequence, branch in zip(case.sequences(), case.branches, strict=True):
        velocity = model(sequence, encoder_hidden_states=branch.text, cache=branch.cache).sample
        sides.extend(velocity.float().chunk(branch.sides))
    return combine(sides, GUIDANCE)


def count(size: Size, variant: Variant, share: float) -> dict[int, dict[str, Any]]:
    """Operations and bytes for every number of references."""
    cases = {number: make_case(size, variant, number, share) for number in REFERENCES}
    nowhere = torch.device("meta")
    model = build(cases[0].config, size.dtype, nowhere)
    # Blocks are alike: two of them show what is alive beside the cache.
    small = build({**cases[0].config, "num_layers": 2}, size.dtype, nowhere)
    found = {}
    for number, case in cases.items():
        kept, kept_by_small = (kept_bytes(size, one, case, keep=variant.keep) for one in (model, small))
        working = live_peak(small, case, keep=variant.keep) - sum(kept_by_small)
        found[number] = {
            "tokens": case.sequences()[0].tokens_BLP.shape[1],
            "multiply_adds": count_operations(size, model, case, later_without_references=kept[1] > 0),
            "weight_bytes": weight_bytes(model, size.dtype),
            "kept_context_bytes": kept[0],
            "kept_reference_bytes": kept[1],
            "peak_bytes": working + sum(kept),
        }
    return found


def count_operations(
    size: Size, model: AnyRefTransformer, case: Case, *, later_without_references: bool
) -> dict[str, dict[str, int]]:
    """Of the first step and of a later one, by part."""
    first = later = Operations()
    for sequence in case.sequences():
        given = (model.config, sequence, size.num_text)
        first += step_operations(*given) + context_operations(*given)
        later += step_operations(*given, references_kept=later_without_references)
    steps = {"first": first, "later": later}
    return {name: {**asdict(one), "total": one.total} for name, one in steps.items()}


def kept_bytes(size: Size, model: AnyRefTransformer, case: Case, *, keep: bool) -> tuple[int, int]:
    """What the caches of all branches hold of the context, and of the references."""
    kept = [
        kept_numbers(model.config, sequence, size.num_text, keep_references=keep)
        for sequence in case.sequences()
    ]
    itemsize = size.dtype.itemsize
    return sum(one.context for one in kept) * itemsize, sum(one.references for one in kept) * itemsize


def live_peak(model: AnyRefTransformer, case: Case, *, keep: bool) -> int:
    """Bytes of all tensors beside the weights at the peak of a first and a later step, with attention that writes down no scores."""
    sequences = []
    for sequence in case.sequences():
        tensors = {field.name: getattr(sequence, field.name) for field in fields(sequence)}
        # How tokens are grouped is layout, which the transformer reads on the host.
        moved = {k: v.to("meta") for k, v in tensors.items() if isinstance(v, Tensor) and k != "group_L"}
        sequences.append(replace(sequence, **moved))
    branches = case.to(torch.device("meta"), keep=keep).branches
    inputs = max(sequence.tokens_BLP.nbytes for sequence in sequences)
    with torch.no_grad(), FusedAttention(), LiveBytes() as live:
        for _ in range(2):
            velocities = [
                model(sequence, encoder_hidden_states=branch.text, cache=branch.cache).sample
                for sequence, branch in zip(sequences, branches, strict=True)
            ]
            del velocities
    return live.peak + inputs


def measure(
    size: Size, variant: Variant, device: torch.device, repeats: int, share: float
) -> dict[int, dict[str, Any]]:
    """Seconds of the first and of later steps for every number of references, in turns."""
    cases = {
        number: make_case(size, variant, number, share).to(device, keep=variant.keep) for number in REFERENCES
    }
    model = build(cases[0].config, size.dtype, device)
    first, later = {}, {number: [] for number in cases}
    for number, case in cases.items():
        timed(model, case.to(device, keep=variant.keep))  # kernels are chosen and loaded
        first[number] = timed(model, case)
    for _ in range(repeats):
        for number, case in cases.items():
            later[number].append(timed(model, case))
    return {
        number: {
            "first_s": first[number],
            "later_s": statistics.median(seconds),
            "later_s_from": min(seconds),
            "later_s_to": max(seconds),
        }
        for number, seconds in later.items()
    }


def timed(model: AnyRefTransformer, case: Case) -> float:
    device = case.noise_BCTHW.device
    start = time.perf_counter()
    step(model, case)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak(size: Size, variant: Variant, device: torch.device, references: int, share: float) -> int:
    """Bytes that a first and a later step need beside the weights."""
    case = make_case(size, variant, references, share).to(device, keep=variant.keep)
    model = build(case.config, size.dtype, device)
    small = make_case(size._replace(shape=VideoShape(1, 32, 32)), variant, min(references, 1), share)
    growth = Growth(device)
    step(model, small.to(device, keep=variant.keep))  # what is loaded and allocated once is not the step's
    with growth:
        step(model, case)
        step(model, case)
    return growth.peak


def peaks(size: Size, device: torch.device, share: float) -> dict[tuple[str, int], int]:
    """Of every method and number of references; on the CPU each in a process of its own, forked from this one before it works."""
    found = {}
    for label, variant in VARIANTS.items():
        for number in REFERENCES:
            given = (size, variant, device, number, share)
            if device.type == "cuda":
                found[label, number] = peak(*given)
            else:
                with get_context("fork").Pool(1) as pool:
                    found[label, number] = pool.apply(peak, given)
    return found


def measured_rows(arguments: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    size, rows = SIZES[arguments.measure], []
    memory = peaks(size, device, arguments.share)
    for label, variant in VARIANTS.items():
        times = measure(size, variant, device, arguments.repeats, arguments.share)
        for number, row in times.items():
            rows.append({"method": label, "references": number, **row, "peak_bytes": memory[label, number]})
    return rows


def counted_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    return [
        {"method": label, "references": number, **row}
        for label, variant in VARIANTS.items()
        for number, row in count(SIZES[arguments.count], variant, arguments.share).items()
    ]


def title(name: str) -> str:
    _, shape, *_, dtype = SIZES[name]
    return f"{name} at {shape.height}x{shape.width}x{shape.num_frames}, {str(dtype).removeprefix('torch.')}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", choices=(*SIZES, "nothing"), default="puppets")
    parser.add_argument("--count", choices=(*SIZES, "nothing"), default="14B")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--share", type=float, default=0.3, help="of a reference's frame that is its subject")
    parser.add_argument("--output", type=Path, default=Path("outputs/cost"), help="without its ending")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    where = f"CPU, {arguments.threads} threads"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    report: dict[str, Any] = {
        "machine": f"{where}; load {load:.1f} on {cores} cores" + (", busy" if load > 0.5 * cores else ""),
        "torch": torch.__version__,
        "subject_share": arguments.share,
        "repeats": arguments.repeats,
    }
    print(", ".join(f"{name}: {value}" for name, value in report.items()))
    if arguments.measure != "nothing":
        report["measured"] = {"what": title(arguments.measure), "rows": measured_rows(arguments, device)}
        print_measured(**report["measured"])
    if arguments.count != "nothing":
        report["counted"] = {"what": title(arguments.count), "rows": counted_rows(arguments)}
        print_counted(**report["counted"])
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    draw(report, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()

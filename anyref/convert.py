"""Published weights into a diffusers folder, shard by shard in bounded memory, after checking every name and shape.

The output is what AnyRefPipeline reads: transformer/ (config.json, safetensors, index), anyref.json, and the parts that a
release shares with its base model (vae, text_encoder, ...) linked or copied from a diffusers folder of that model. Releases: MAGREF
(safetensors in Wan's names), Kaleido (a SAT pickle), and Wan2.1's own T2V and I2V, backbones to train methods from. It appears
under its name when it is whole; until then it grows in a hidden folder beside it, and a conversion that was interrupted goes on
there after the last whole shard.
"""

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
from torch import Tensor

from anyref.checkpoints import Checkpoint
from anyref.checkpoints.sat import read_sat_checkpoint
from anyref.checkpoints.wan import read_wan_checkpoint
from anyref.files import atomic, check_writable, write_json
from anyref.provenance import record
from anyref.transformer import AnyRefTransformer

COMPONENTS = {
    "tokenizer": ["transformers", "AutoTokenizer"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "vae": ["diffusers", "AutoencoderKLWan"],
    "image_encoder": ["transformers", "CLIPVisionModel"],
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
}
ReleaseName = Literal["magref", "kaleido", "wan"]


@dataclass(frozen=True)
class Release:
    """What a release is, and what is needed beside its transformer."""

    read: Callable[[Path, Path | None], Checkpoint]
    """Looks at its files, with the config.json that was given, if any."""
    record: dict[str, Any]
    """What anyref.json says; empty: there is none, and users name a method."""
    base: str
    """The diffusers folder with its other parts."""
    scheduler: bool = True
    """Whether the base model's scheduler is part of it; otherwise the method's own sampling defaults hold."""


_I2V, _T2V = "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", "Wan-AI/Wan2.1-T2V-14B-Diffusers"
RELEASES: Mapping[ReleaseName, Release] = {
    # The published weights are older than MAGREF's subject disentanglement.
    "magref": Release(read_wan_checkpoint, {"method": "magref", "anchor_strength": 0.0}, _I2V),
    # Euler and shift 7, where Wan's folder has UniPC and shift 3.
    "kaleido": Release(read_sat_checkpoint, {"method": "kaleido"}, _T2V, scheduler=False),
    "wan": Release(read_wan_checkpoint, {}, "Wan-AI/Wan2.1-...-Diffusers"),
}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}  # of safetensors
_WEIGHTS = "diffusion_pytorch_model"  # diffusers' file name


@dataclass(frozen=True)
class ConvertOptions:
    """How to convert; the defaults are right for the published MAGREF folder."""

    method: ReleaseName = "magref"
    """Whose release it is; "wan": one of Wan2.1's own, T2V or I2V."""
    config: Path | None = None
    """The release's config.json, where it does not lie beside the weights; else I2V-14B is assumed (Kaleido: the shapes say it)."""
    components: Path | None = None
    """Diffusers folder of the base model (Wan-AI/Wan2.1-I2V-14B-480P-Diffusers; Kaleido: Wan2.1-T2V-14B-Diffusers), for VAE, encoders,
    tokenizer and scheduler."""
    copy_components: bool = False
    """Copy them instead of linking to them."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Type of the weights. Modules that diffusers keeps in float32 stay in float32 if the release has them so."""
    shard_gb: float = 5.0
    """Largest size of an output file, in 10^9 bytes."""


@dataclass(frozen=True)
class Entry:
    """One tensor of the output."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Its size in the file."""
        return prod(self.shape) * self.dtype.itemsize


def convert(
    source: Path,
    output: Path,
    options: ConvertOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Convert the release in `source` (a folder, or one of its files) into the folder `output`, which must not exist yet.

    `progress` is called with (bytes written, bytes in all). Memory: one tensor at a time, whatever the shards' size.
    Raises ValueError before anything is written: not a checkpoint, wrong names or shapes, no room, output taken.
    """
    options = options or ConvertOptions()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} exists; choose another place or remove it")
    release = RELEASES[options.method]
    checkpoint = release.read(source, options.config)
    shapes = verify(checkpoint)
    components = _find_components(options.components, checkpoint, release)
    shards = plan(shapes, checkpoint.dtypes, DTYPES[options.dtype], options.shard_gb)
    partial = output.with_name(f".{output.name}.partial")
    _prepare(partial, output, checkpoint, shards)
    _write_transformer(partial / "transformer", checkpoint, shards, progress)
    for name, folder in components.items():
        target = partial / name
        if target.is_symlink() or target.exists():
            continue
        if options.copy_components:
            shutil.copytree(folder, partial / f".{name}", dirs_exist_ok=True)
            (partial / f".{name}").rename(target)
        else:
            target.symlink_to(folder.resolve(), target_is_directory=True)
    if release.record:
        write_json(partial / "anyref.json", release.record)
    if options.components is not None:
        write_json(partial / "model_index.json", _model_index(components))
    made_from = [{"name": path.name, "bytes": path.stat().st_size} for path in checkpoint.files]
    write_json(partial / "conversion.json", {**record(options), "files": made_from})
    (partial / "plan.json").unlink()
    if output.exists():
        output.rmdir()
    partial.rename(output)
    return output


def verify(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Compare every name and shape with the configuration's, and return these, in the model's order.

    Raises ValueError that names the first few differences.
    """
    expected = expected_shapes(checkpoint.config)
    found = checkpoint.shapes
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    differing = [
        f"{name} is {found[name]}, not {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", differing))
        if names
    ]
    if problems:
        raise ValueError(
            f"the checkpoint does not fit its configuration: {'; '.join(problems)}; give the whole transformer "
            "of the release and its own config.json"
        )
    return expected


def expected_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the transformer of a configuration, in its own order, without making it."""
    with torch.device("meta"):
        model = AnyRefTransformer(**config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def plan(
    shapes: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, torch.dtype],
    dtype: torch.dtype,
    shard_gb: float,
) -> list[list[Entry]]:
    """The output's files: tensors in order, in shards of at most `shard_gb` (or of one larger tensor)."""
    if not shard_gb > 0:
        raise ValueError(f"the shard size is {shard_gb} GB; it must be above 0, try 5")
    shards: list[list[Entry]] = [[]]
    size = 0
    for name, shape in shapes.items():
        # As from_pretrained(dtype=...) does: norms, the time embedder and modulation tables are float32 in use.
        kept = any(part in name.split(".") for part in AnyRefTransformer._keep_in_fp32_modules)
        stays = kept and stored[name] == torch.float32
        entry = Entry(name, shape, torch.float32 if stays else dtype)
        if shards[-1] and size + entry.num_bytes > shard_gb * 1e9:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.num_bytes
    return shards


def _find_components(root: Path | None, checkpoint: Checkpoint, release: Release) -> dict[str, Path]:
    """Folders of the parts the release shares with its base model."""
    if root is None:
        return {}
    found = {name: root / name for name in COMPONENTS if (root / name).is_dir()}
    if not release.scheduler:
        found.pop("scheduler", None)
    needed = ["tokenizer", "text_encoder", "vae"]
    if checkpoint.config.get("image_dim") is not None:
        needed.append("image_encoder")
    missing = [name for name in needed if name not in found]
    if missing:
        raise ValueError(
            f"{root} has no folder {missing[0]}; give the diffusers folder of the base model, {release.base}"
        )
    return found


def _model_index(components: dict[str, Path]) -> dict[str, Any]:
    """diffusers' list of parts. Classes are those of the base model's own list, where it has one."""
    index: dict[str, Any] = {"_class_name": "AnyRefPipeline", "_diffusers_version": diffusers.__version__}
    index["transformer"] = ["anyref.transformer", "AnyRefTransformer"]
    for name, folder in components.items():
        index[name] = COMPONENTS[name]
        base = folder.parent / "model_index.json"
        if name in {"tokenizer", "scheduler"} and base.is_file():
            index[name] = json.loads(base.read_text(encoding="utf-8")).get(name, COMPONENTS[name])
    return index


def _prepare(partial: Path, output: Path, checkpoint: Checkpoint, shards: list[list[Entry]]) -> None:
    """Make the hidden folder, or keep the one of the same conversion, interrupted; first check that there is room."""
    intended = {
        "sources": [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in checkpoint.files],
        "config": checkpoint.config,
        "shards": [[[entry.name, str(entry.dtype)] for entry in shard] for shard in shards],
    }
    check_writable(output / "config.json")
    if not _is_record(partial / "plan.json", intended):
        shutil.rmtree(partial, ignore_errors=True)
    for broken in partial.glob("transformer/.*"):  # what a killed run was writing
        broken.unlink()
    there = sum(path.stat().st_size for path in partial.glob("transformer/*.safetensors"))
    needed = sum(entry.num_bytes for shard in shards for entry in shard) - there
    free = shutil.disk_usage(next(folder for folder in output.absolute().parents if folder.exists())).free
    if needed > free:
        raise ValueError(
            f"{output} needs {needed / 1e9:.1f} GB more and {free / 1e9:.1f} GB are free; choose another place or make room"
        )
    (partial / "transformer").mkdir(parents=True, exist_ok=True)
    write_json(partial / "plan.json", intended)


def _is_record(path: Path, record: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == record)
    except (OSError, ValueError):
        return False


class _Progress:
    """Counts bytes and tells."""

    def __init__(self, total: int, tell: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.tell = 0, total, tell

    def add(self, num_bytes: int) -> None:
        self.done += num_bytes
        if self.tell is not None:
            self.tell(self.done, self.total)


def _write_transformer(
    folder: Path,
    checkpoint: Checkpoint,
    shards: list[list[Entry]],
    tell: Callable[[int, int], None] | None,
) -> None:
    progress = _Progress(sum(entry.num_bytes for shard in shards for entry in shard), tell)
    weight_map: dict[str, str] = {}
    for index, shard in enumerate(shards):
        name = f"{_WEIGHTS}.safetensors"
        if len(shards) > 1:
            name = f"{_WEIGHTS}-{index + 1:05}-of-{len(shards):05}.safetensors"
        weight_map |= dict.fromkeys((entry.name for entry in shard), name)
        if (folder / name).exists():  # whole: it got its name last
            progress.add(sum(entry.num_bytes for entry in shard))
        else:
            _write_shard(folder / name, checkpoint, shard, progress)
    if len(shards) > 1:
        index_file = folder / f"{_WEIGHTS}.safetensors.index.json"
        write_json(index_file, {"metadata": {"total_size": progress.total}, "weight_map": weight_map})
    with torch.device("meta"):
        AnyRefTransformer(**checkpoint.config).save_config(folder)


def _write_shard(path: Path, checkpoint: Checkpoint, shard: list[Entry], progress: _Progress) -> None:
    """A safetensors file, written tensor by tensor: the library's own writer wants all of them in memory."""
    ordered = sorted(shard, key=lambda entry: -entry.dtype.itemsize)  # keeps wider types aligned
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for entry in ordered:
        offsets = [start, start + entry.num_bytes]
        header[entry.name] = {
            "dtype": _NAMES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": offsets,
        }
        start = offsets[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic(path) as partial, partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for entry in ordered:
            file.write(_bytes_of(checkpoint.read(entry.name), entry))
            progress.add(entry.num_bytes)


def _bytes_of(tensor: Tensor, entry: Entry) -> memoryview:
    """Little-endian content. Raises ValueError for values that the output's type cannot hold."""
    converted = tensor.to(entry.dtype).contiguous()
    if not bool(converted.isfinite().all()):
        raise ValueError(
            f"{entry.name} has values that are not finite in {entry.dtype}; convert to bfloat16, or download the file again"
        )
    return converted.reshape(-1).view(torch.uint8).numpy().data

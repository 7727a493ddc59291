"""Wan's own layout: safetensors, whole or in shards, with the original parameter names, as Wan2.1 and MAGREF are published."""

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors import SafetensorError, safe_open
from torch import Tensor

# Wan2.1-I2V-14B, and MAGREF, which is fine-tuned from it: 16.4 B parameters.
I2V_14B: dict[str, Any] = {
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 36,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "eps": 1e-6,
    "image_dim": 1280,
    "added_kv_proj_dim": 5120,
}
# Wan2.1-T2V-14B, and Kaleido, which is fine-tuned from it: 14.3 B parameters.
T2V_14B: dict[str, Any] = I2V_14B | {"in_channels": 16, "image_dim": None, "added_kv_proj_dim": None}
DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
_SCALES = ("scale_weight", "scaled_fp8", "scale_input", "weight_scale", "input_scale", "comfy_quant")


@dataclass(frozen=True)
class WanCheckpoint:
    """Safetensors in Wan's original names. `sources` says for each of diffusers' names where it lies: (file, original name)."""

    files: tuple[Path, ...]
    config: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    sources: dict[str, tuple[Path, str]]

    def read(self, name: str) -> Tensor:
        """One tensor, as stored; the file is mapped for this one tensor, so that nothing else of it stays in memory."""
        path, original = self.sources[name]
        with _open(path) as file:
            tensor: Tensor = file.get_tensor(original)
        return tensor


def read_wan_checkpoint(source: Path, config: Path | None = None) -> WanCheckpoint:
    """Look at a folder of the release's layout or at a single safetensors file; only headers are read.

    `config` is the release's config.json, by default the folder's own; without one the model is taken for I2V-14B.
    Raises ValueError for what is not such a checkpoint, and for scaled or integer quantisation, whose scales would be lost.
    """
    files = _find_files(source)
    if config is None and source.is_dir() and (source / "config.json").exists():
        config = source / "config.json"
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, torch.dtype] = {}
    sources: dict[str, tuple[Path, str]] = {}
    for path in files:
        with _open(path) as file:
            names = list(file.keys())
            _check_names(path, names)
            for name, target in zip(names, rename(names), strict=True):
                if target in sources:
                    raise ValueError(
                        f"{path.name} and {sources[target][0].name} both hold {name}; keep one checkpoint in the folder"
                    )
                entry = file.get_slice(name)
                if entry.get_dtype() not in DTYPES:
                    raise ValueError(
                        f"{path.name} holds {name} as {entry.get_dtype()}, a quantised format; use the bf16, fp16, "
                        "fp32 or plain fp8 file of the release"
                    )
                shapes[target] = tuple(entry.get_shape())
                dtypes[target] = DTYPES[entry.get_dtype()]
                sources[target] = (path, name)
    return WanCheckpoint(files, I2V_14B if config is None else read_config(config), shapes, dtypes, sources)


def rename(originals: list[str]) -> list[str]:
    """Wan's parameter names to diffusers', with the prefix of single files taken off."""
    bare, stand_in = [], torch.empty(1, 1, 1, 1)
    for name in originals:
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
        bare.append(name.removeprefix(prefix))
    # One at a time: the function also knows relatives of Wan by the names it is given, and keeps no order.
    return [next(iter(convert_wan_transformer_to_diffusers({name: stand_in}))) for name in bare]


def _find_files(source: Path) -> tuple[Path, ...]:
    if not source.exists():
        raise ValueError(
            f"{source} is not there; download the release first (`hf download OWNER/NAME --local-dir FOLDER`)"
        )
    if source.is_file():
        if source.suffix != ".safetensors":
            raise ValueError(_wrong_format(source))
        return (source,)
    indices = sorted(source.glob("*.safetensors.index.json"))
    if len(indices) > 1:
        raise ValueError(
            f"{source} holds {len(indices)} safetensors indices; give a folder with one checkpoint"
        )
    if not indices:
        files = sorted(source.glob("*.safetensors"))
        if not files:
            other = next(
                (
                    path
                    for path in sorted(source.iterdir())
                    if path.suffix in {".gguf", ".pt", ".pth", ".bin"}
                ),
                source,
            )
            raise ValueError(_wrong_format(other))
        return tuple(files)
    try:
        weight_map = json.loads(indices[0].read_text(encoding="utf-8"))["weight_map"]
        files = sorted({source / str(name) for name in weight_map.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{indices[0]} is not a safetensors index; download it again") from error
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ValueError(
            f"{source} lacks {missing[0]} and {len(missing) - 1} more shards; finish the download"
        )
    return tuple(files)


def _wrong_format(path: Path) -> str:
    if path.suffix == ".gguf":
        return f"{path.name} is GGUF, whose quantisation would be lost; use the release's safetensors"
    if path.suffix == ".pt" or (path / "latest").is_file():
        return f"{path} is not safetensors but may be a SAT checkpoint, as Kaleido's; name its method (--method kaleido)"
    if path.is_dir():
        return f"{path} holds no safetensors; give the folder of the release or one safetensors file"
    return f"{path.name} is not a safetensors file; use the release's safetensors"


def _check_names(path: Path, names: list[str]) -> None:
    scale = next((name for name in names if name.rpartition(".")[2] in _SCALES), None)
    if scale is not None:
        raise ValueError(
            f"{path.name} is scaled or quantised ({scale}), and without its scales the weights would be wrong; "
            "use the bf16, fp16, fp32 or plain fp8 file"
        )
    if any(name.startswith("condition_embedder.") for name in names):
        raise ValueError(f"{path.name} has diffusers' parameter names already; use its folder as it is")


def _open(path: Path) -> AbstractContextManager[Any]:
    try:
        opened: AbstractContextManager[Any] = safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}); download it again") from error
    return opened


def read_config(path: Path) -> dict[str, Any]:
    """AnyRefTransformer's arguments from the config.json of a WanModel; what it leaves out is I2V-14B's."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        kind = given.get("model_type", "i2v")
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is not a JSON configuration ({error}); download it again") from error
    if kind not in {"i2v", "t2v"} or "num_attention_heads" in given:
        raise ValueError(
            f"{path} is not the configuration of a Wan2.1 T2V or I2V model; give the release's config.json"
        )
    try:
        width, heads = int(given.get("dim", 5120)), int(given.get("num_heads", 40))
        config = {
            **I2V_14B,
            "num_attention_heads": heads,
            "attention_head_dim": width // heads,
            "in_channels": int(given.get("in_dim", 16 if kind == "t2v" else 36)),
            "added_kv_proj_dim": width,
            "cross_attn_norm": bool(given.get("cross_attn_norm", True)),
            "eps": float(given.get("eps", 1e-6)),
        }
        for theirs, ours in (("out_dim", "out_channels"), ("text_dim", "text_dim"), ("freq_dim", "freq_dim")):
            config[ours] = int(given.get(theirs, I2V_14B[ours]))
        for name in ("ffn_dim", "num_layers"):
            config[name] = int(given.get(name, I2V_14B[name]))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"{path} is not the configuration of a Wan2.1 model ({error}); download it again"
        ) from error
    if kind == "t2v":
        config |= {"image_dim": None, "added_kv_proj_dim": None}
    return config

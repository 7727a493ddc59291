"""Kaleido's published layout: SwissArmyTransformer (SAT) pickles, read without running anything that is in them.

A folder holds `latest`, which names a subfolder ("1"), which holds mp_rank_00_model_states.pt (fsdp2_rank_0000_checkpoint.pt in the
FSDP2 variant): a dict whose "module" has the transformer's tensors under "model.diffusion_model.", in float32. Also read: such a file
alone, a folder of files that each hold some of the tensors, and one file cut into pieces that are not yet joined.

The network is Wan2.1-T2V's, block for block, with other names (ENDS, LAYER), and projections that read the same tokens are joined.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from anyref.checkpoints.pickles import Place, find_tensors
from anyref.checkpoints.wan import T2V_14B, read_config

PREFIX = "model.diffusion_model."
"""Of the transformer's tensors; others (conditioner, first_stage_model) are parts that the release shares with Wan2.1."""
HEAD_WIDTH = 128
"""Of every Wan2.1: SAT's files do not say it."""


class Row(NamedTuple):
    """Tensors of one module: SAT's name, diffusers' (several: SAT has them joined on dimension 0, in this order), their endings."""

    sat: str
    diffusers: tuple[str, ...]
    endings: tuple[str, ...] = (".weight", ".bias")


ENDS = (
    Row("mixins.patch_embed.proj", ("patch_embedding",)),
    Row("text_embedding.0", ("condition_embedder.text_embedder.linear_1",)),
    Row("text_embedding.2", ("condition_embedder.text_embedder.linear_2",)),
    Row("time_embed.0", ("condition_embedder.time_embedder.linear_1",)),
    Row("time_embed.2", ("condition_embedder.time_embedder.linear_2",)),
    Row("adaln_projection.1", ("condition_embedder.time_proj",)),
    Row("mixins.final_layer.linear", ("proj_out",)),
    Row("mixins.final_layer.adaLN_modulation", ("scale_shift_table",), ("",)),
)
_LAYER, _MIXIN, _BLOCK = "transformer.layers.{i}.", "mixins.adaln_layer.", "blocks.{i}."
LAYER = (
    Row(_MIXIN + "adaLN_modulations.{i}", (_BLOCK + "scale_shift_table",), ("",)),
    Row(_LAYER + "attention.query_key_value", tuple(f"{_BLOCK}attn1.to_{x}" for x in "qkv")),
    Row(_LAYER + "attention.dense", (_BLOCK + "attn1.to_out.0",)),
    Row(_MIXIN + "query_layernorm_list.{i}", (_BLOCK + "attn1.norm_q",), (".weight",)),
    Row(_MIXIN + "key_layernorm_list.{i}", (_BLOCK + "attn1.norm_k",), (".weight",)),
    Row(_LAYER + "cross_attention.query", (_BLOCK + "attn2.to_q",)),
    Row(_LAYER + "cross_attention.key_value", tuple(f"{_BLOCK}attn2.to_{x}" for x in "kv")),
    Row(_LAYER + "cross_attention.dense", (_BLOCK + "attn2.to_out.0",)),
    Row(_MIXIN + "cross_query_layernorm_list.{i}", (_BLOCK + "attn2.norm_q",), (".weight",)),
    Row(_MIXIN + "cross_key_layernorm_list.{i}", (_BLOCK + "attn2.norm_k",), (".weight",)),
    # SAT's name says "post", but it is applied before cross-attention: Wan's norm3, diffusers' norm2.
    Row(_LAYER + "post_cross_attention_layernorm", (_BLOCK + "norm2",)),
    Row(_LAYER + "mlp.dense_h_to_4h", (_BLOCK + "ffn.net.0.proj",)),
    Row(_LAYER + "mlp.dense_4h_to_h", (_BLOCK + "ffn.net.2",)),
)
_SUBJECT_TABLES = "mixins.adaln_layer.subject_adaLN_modulations."


@dataclass(frozen=True)
class SatCheckpoint:
    """A SAT checkpoint under diffusers' names: where each tensor, or the third or half that is one of diffusers', lies."""

    config: dict[str, Any]
    places: dict[str, Place]
    files: tuple[Path, ...]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor; what the layout does not know stands under its own name."""
        return {name: place.shape for name, place in self.places.items()}

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """Type of every tensor, as stored."""
        return {name: place.dtype for name, place in self.places.items()}

    def read(self, name: str) -> Tensor:
        """One tensor, as stored; nothing else of the file is read."""
        return self.places[name].read()


def read_sat_checkpoint(source: Path, config: Path | None = None) -> SatCheckpoint:
    """Look at a SAT folder, the release's folder around it ("model"), a folder of parts, or a single file; no tensor is read.

    `config`: a config.json in Wan's form, for heads that are not 128 wide; by default the tensors' shapes say the configuration.
    Raises ValueError for what is not such a checkpoint, and for objects in it that are neither tensors nor plain data.
    """
    files = _find_files(source)
    found: dict[str, Place] = {}
    for joined in _group(files):
        for name, place in find_tensors(joined, PREFIX).items():
            if name in found:
                first = found[name].files[0].name
                raise ValueError(
                    f"{first} and {joined[0].name} both hold {name}; keep one checkpoint in the folder"
                )
            found[name] = place
    if not found:
        raise ValueError(
            f"{source} holds no tensor named {PREFIX}... and is not a SAT checkpoint of Kaleido; "
            "give its folder model/ or its mp_rank_00_model_states.pt"
        )
    tables = next((name for name in found if name.startswith(_SUBJECT_TABLES)), None)
    if tables is not None:
        raise ValueError(
            f"{source} holds {tables}, modulation tables of its own for references (new_adaln), which this transformer has not; "
            "use the released checkpoint, which does without"
        )
    settings = _config_of(found, source) if config is None else read_config(config)
    return SatCheckpoint(settings, _rename(found, int(settings["num_layers"])), files)


def originals(num_layers: int) -> dict[str, tuple[str, int, int]]:
    """Diffusers' name -> (SAT's name without PREFIX, which part of dimension 0, of how many)."""
    rows = [(row, 0) for row in ENDS] + [(row, i) for i, row in product(range(num_layers), LAYER)]
    return {
        target.format(i=i) + ending: (row.sat.format(i=i) + ending, index, len(row.diffusers))
        for row, i in rows
        for ending in row.endings
        for index, target in enumerate(row.diffusers)
    }


def _rename(found: dict[str, Place], num_layers: int) -> dict[str, Place]:
    """Under diffusers' names; what has none, or cannot be split, stays as it is, for `verify` to complain of."""
    places, used = {}, set()
    for target, (name, index, of) in originals(num_layers).items():
        place = found.get(name)
        if place is None:
            continue
        used.add(name)
        splits = of > 1 and place.shape and place.shape[0] % of == 0
        places[target] = place.rows(index, of) if splits else place
    return places | {PREFIX + name: place for name, place in found.items() if name not in used}


def _config_of(found: dict[str, Place], source: Path) -> dict[str, Any]:
    """AnyRefTransformer's arguments, from shapes."""

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        place = found.get(name)
        if place is None or len(place.shape) != dimensions:
            problem = "lacks" if place is None else f"has {place.shape} as the shape of"
            raise ValueError(
                f"{source} {problem} {PREFIX}{name} and is not a whole SAT checkpoint of Kaleido; give all of its parts"
            )
        return place.shape

    width, in_channels = shape("mixins.patch_embed.proj.weight", 5)[:2]
    if width % HEAD_WIDTH:
        raise ValueError(
            f"{source} is a model {width} wide, no multiple of Wan's head width {HEAD_WIDTH}; "
            "give a config.json with its dim, num_heads and model_type t2v"
        )
    layers = [re.match(r"transformer\.layers\.(\d+)\.", name) for name in found]
    return T2V_14B | {
        "num_attention_heads": width // HEAD_WIDTH,
        "attention_head_dim": HEAD_WIDTH,
        "in_channels": in_channels,
        "out_channels": shape("mixins.final_layer.linear.weight", 2)[0] // 4,
        "text_dim": shape("text_embedding.0.weight", 2)[1],
        "freq_dim": shape("time_embed.0.weight", 2)[1],
        "ffn_dim": shape("transformer.layers.0.mlp.dense_h_to_4h.weight", 2)[0],
        "num_layers": 1 + max(int(match[1]) for match in layers if match),
    }


def _find_files(source: Path) -> tuple[Path, ...]:
    """The checkpoint's files, in the order of their numbers."""
    if not source.exists():
        raise ValueError(
            f"{source} is not there; download the release first (`hf download zai-org/Kaleido-14B-S2V --local-dir FOLDER`)"
        )
    if source.is_file():
        return (source,)
    folder = source / "model" if (source / "model").is_dir() else source
    if (folder / "latest").is_file():
        name = (folder / "latest").read_text(encoding="utf-8", errors="replace").strip()
        if not name or not (folder / name).is_dir():
            raise ValueError(
                f"{folder / 'latest'} names {name!r} and there is no such folder beside it; finish the download"
            )
        folder /= name
    pattern = re.compile(r"^(?!\.)(?!.*optim_states).*\.(pt|pth|bin|ckpt)([._-].*)?$")
    files = [path for path in folder.iterdir() if path.is_file() and pattern.match(path.name)]
    if not files:
        raise ValueError(
            f"{folder} holds no .pt files; give the folder of a SAT checkpoint, which has a file `latest`, or one "
            "mp_rank_00_model_states.pt"
        )
    ranks = {match[0] for path in files if (match := re.match(r"mp_rank_\d+", path.name))}
    if len(ranks) > 1:
        raise ValueError(
            f"{folder} is cut into {len(ranks)} model-parallel ranks; merge them with SAT first, into mp_rank_00"
        )
    numbers = re.compile(r"(\d+)")
    return tuple(sorted(files, key=lambda p: [int(t) if t.isdigit() else t for t in numbers.split(p.name)]))


def _group(files: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Files that are one when joined: one that does not begin as PyTorch's do goes on where the one before it ends."""
    groups: list[tuple[Path, ...]] = []
    for path in files:
        try:
            with path.open("rb") as file:
                start = file.read(20)
        except OSError as error:
            raise ValueError(
                f"{path} cannot be read ({error.strerror}); give yourself access to it"
            ) from error
        if start.startswith(b"version https://git"):
            raise ValueError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` there")
        if groups and not start.startswith(b"PK\x03\x04"):
            groups[-1] = (*groups[-1], path)
        else:
            groups.append((path,))
    return groups

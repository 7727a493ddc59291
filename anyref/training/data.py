"""Training samples encoded once: target latents, conditioning and caption, in shards on disk.

Encoders are frozen in training, so what they give is computed once per sample and kept (bf16). A shard is a pure function of its index and the
configuration; building goes on where it was interrupted. Drawing a batch is a pure function of (seed, step).
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from anyref.conditioning import Anchors, Conditioning, concatenate
from anyref.encoders import Encoders
from anyref.files import write_json
from anyref.latents import SPATIAL_STRIDE, TEMPORAL_STRIDE, VideoShape
from anyref.methods import Method
from anyref.samples import Sample

SHARD = 128


class Source(Protocol):
    """Where samples come from: a world, or a curated set."""

    def clip(self, index: int) -> Sample:
        """The sample of this index, always the same."""


@dataclass(frozen=True)
class Example:
    """One sample as the trainer needs it: `latents_CTHW` normalised, the conditioning of batch 1, `weight_THW` True on subjects."""

    latents_CTHW: Tensor
    conditioning: Conditioning
    caption: str
    weight_THW: Tensor


Encode = Callable[[Sequence[int]], list[Example]]
"""Sample indices to examples."""


@dataclass(frozen=True)
class Batch:
    """Examples side by side, on the CPU."""

    latents_BCTHW: Tensor
    conditioning: Conditioning
    captions: tuple[str, ...]
    weight_BTHW: Tensor


def encode_samples(
    samples: Sequence[Sample],
    method: Method,
    encoders: Encoders,
    shape: VideoShape,
    rngs: Sequence[np.random.Generator],
    latent_frames: int | None = None,
) -> list[Example]:
    """Encode samples with references drawn by the method. `shape` is the sampled shape (with MAGREF's canvas frame).

    `latent_frames`: encode only the beginning of each target, which costs in proportion and, the VAE being causal, gives the same latents.
    """
    full = shape
    if latent_frames is not None:
        shape = replace(full, num_frames=1 + TEMPORAL_STRIDE * (latent_frames - 1))
    if getattr(method, "shuffle", False):  # the order is drawn here, once for canvas, target and anchors
        method = replace(cast("Any", method), shuffle=False)
    references = [method.training_references(sample, rng) for sample, rng in zip(samples, rngs, strict=True)]
    targets = [
        method.training_video(sample.frames_FYX3, row, full)[: shape.num_frames]
        for sample, row in zip(samples, references, strict=True)
    ]
    video = torch.from_numpy(np.stack(targets)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    latents = encoders.encode_video(video)
    examples = []
    for index, (sample, row) in enumerate(zip(samples, references, strict=True)):
        conditioning = method.condition([row], [sample.caption], shape, encoders)
        cells = subject_cells(sample, full, method.training_frames(full))[: shape.latent[0]]
        examples.append(Example(latents[index], conditioning, sample.caption, torch.from_numpy(cells)))
    return examples


def make_encode(
    load: Callable[[], Encoders],
    open_source: Callable[[], Source],
    method: Method,
    shape: VideoShape,
    seed: int,
    latent_frames: int | None = None,
) -> Encode:
    """Load the encoders, open the source, and return the function that encodes samples of given indices (see `encode_samples`)."""
    encoders, source = load(), open_source()

    def encode(indices: Sequence[int]) -> list[Example]:
        rngs = [np.random.default_rng((seed, index)) for index in indices]
        samples = [source.clip(index) for index in indices]
        return encode_samples(samples, method, encoders, shape, rngs, latent_frames)

    return encode


def subject_cells(sample: Sample, shape: VideoShape, clip_frames: int) -> NDArray[np.bool_]:
    """[T, H, W], True where a subject other than the background covers any pixel of the cell.

    The target ends with the clip's first `clip_frames` frames, or with all of them where there are fewer.
    """
    masks = [subject.masks_FYX for subject in sample.subjects if subject.kind != "background"]
    frames = np.zeros((shape.num_frames, shape.height, shape.width), dtype=bool)
    if masks:
        seen: NDArray[np.bool_] = np.logical_or.reduce(masks)
        count = min(len(seen), clip_frames)
        frames[shape.num_frames - count :] = seen[:count]
    cells = np.asarray(
        frames.reshape(
            shape.num_frames,
            shape.height // SPATIAL_STRIDE,
            SPATIAL_STRIDE,
            shape.width // SPATIAL_STRIDE,
            SPATIAL_STRIDE,
        ).any(axis=(2, 4))
    )
    later = np.asarray(cells[1:].reshape(-1, TEMPORAL_STRIDE, *cells.shape[1:]).any(axis=1))
    return np.concatenate([cells[:1], later])


def build_cache(
    folder: Path,
    count: int,
    make_encode: Callable[[], Encode],
    workers: int = 1,
) -> None:
    """Write the examples 0 .. count - 1 in shards of 128, skipping those that are there.

    `make_encode()` is called once in each process and must be picklable for more than one worker; workers take whole shards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [n for n in range(-(-count // SHARD)) if not _shard(folder, n).exists()]
    if workers > 1 and len(todo) > 1:
        with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (make_encode,)) as pool:
            writing = pool.map(partial(_write_shard_in_worker, folder, count), todo)
            for _ in track(writing, f"encoding {count} samples", total=len(todo)):
                pass
        return
    if not todo:
        return
    encode = make_encode()
    for number in track(todo, f"encoding {count} samples"):
        _write_shard(folder, number, count, encode)


_encode_in_worker: Encode


def _start_worker(make_encode: Callable[[], Encode]) -> None:
    global _encode_in_worker  # noqa: PLW0603  one per process, set once when it starts
    torch.set_num_threads(1)
    _encode_in_worker = make_encode()


def _write_shard_in_worker(folder: Path, count: int, number: int) -> None:
    _write_shard(folder, number, count, _encode_in_worker)


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}.pt"


def _write_shard(folder: Path, number: int, count: int, encode: Encode) -> None:
    indices = range(number * SHARD, min(count, (number + 1) * SHARD))
    examples = [
        example for start in range(0, len(indices), 8) for example in encode(indices[start : start + 8])
    ]
    unfinished = _shard(folder, number).with_suffix(".unfinished")
    torch.save([_pack(example) for example in examples], unfinished)
    unfinished.replace(_shard(folder, number))


def _pack(example: Example) -> dict[str, Any]:
    conditioning = example.conditioning.to("cpu", torch.bfloat16)
    assert conditioning.tokens_BLP is None or conditioning.positions_BL3 is not None
    packed: dict[str, Any] = {
        "latents": example.latents_CTHW.bfloat16().cpu(),
        "weight": example.weight_THW,
        "caption": example.caption,
        "reference_timestep": conditioning.reference_timestep,
        "references_attend": conditioning.references_attend,
        "after_frames": conditioning.after_frames,
    }
    for name in ("channels_BCTHW", "tokens_BLP", "context_BSD", "positions_BL3", "visible_BL"):
        packed[name] = getattr(conditioning, name)
    anchors = conditioning.anchors
    packed["anchors"] = None if anchors is None else (anchors.region_BRL, anchors.span_BRS, anchors.strength)
    return packed


def _unpack(packed: dict[str, Any]) -> Example:
    anchors = packed["anchors"]
    conditioning = Conditioning(
        channels_BCTHW=packed["channels_BCTHW"],
        tokens_BLP=packed["tokens_BLP"],
        positions_BL3=packed["positions_BL3"],
        visible_BL=packed["visible_BL"],
        reference_timestep=packed["reference_timestep"],
        references_attend=packed["references_attend"],
        after_frames=packed.get("after_frames", 0),  # caches of before have none
        context_BSD=packed["context_BSD"],
        anchors=None if anchors is None else Anchors(*anchors),
    )
    return Example(packed["latents"], conditioning, packed["caption"], packed["weight"])


def load_cache(folder: Path, count: int) -> list[Example]:
    """Examples 0 .. count - 1. Raises ValueError when the cache is not complete."""
    examples: list[Example] = []
    for number in range(-(-count // SHARD)):
        path = _shard(folder, number)
        if not path.exists():
            raise ValueError(
                f"{folder} lacks {path.name}; build the cache again, it goes on where it stopped"
            )
        examples += [_unpack(packed) for packed in torch.load(path, weights_only=True)]
    if len(examples) < count:
        raise ValueError(
            f"{folder} holds {len(examples)} samples and {count} were asked for; delete it or name another folder"
        )
    return examples[:count]


def collate(
    examples: Sequence[Example], empty: Conditioning, kept: Sequence[bool], captions: Sequence[str]
) -> Batch:
    """Examples as a batch; where `kept` is False the references are replaced by `empty` (the method's conditioning without any)."""
    parts = [
        without_hidden(example.conditioning) if keep else empty
        for example, keep in zip(examples, kept, strict=True)
    ]
    return Batch(
        latents_BCTHW=torch.stack([example.latents_CTHW for example in examples]).float(),
        conditioning=_pad_tokens(_pad_anchors(concatenate(parts).to("cpu", torch.float32))),
        captions=tuple(captions),
        weight_BTHW=torch.stack([example.weight_THW for example in examples]).float(),
    )


def _pad_anchors(conditioning: Conditioning, references: int = 4, tokens: int = 40) -> Conditioning:
    # Few distinct sizes, or a compiled transformer would be compiled for each.
    anchors = conditioning.anchors
    if anchors is None:
        return conditioning
    rows = max(0, references - anchors.region_BRL.shape[1])
    columns = max(0, tokens - anchors.span_BRS.shape[2])
    return replace(
        conditioning,
        anchors=replace(
            anchors,
            region_BRL=torch.nn.functional.pad(anchors.region_BRL, (0, 0, 0, rows)),
            span_BRS=torch.nn.functional.pad(anchors.span_BRS, (0, columns, 0, rows)),
        ),
    )


def without_hidden(conditioning: Conditioning) -> Conditioning:
    """The conditioning of one sample without the reference tokens that nobody attends to: the same to the video, and less to compute."""
    tokens, positions, visible = conditioning.tokens_BLP, conditioning.positions_BL3, conditioning.visible_BL
    if tokens is None or positions is None or visible is None:
        return conditioning
    assert len(tokens) == 1, "samples of a batch have different hidden tokens"
    return replace(
        conditioning,
        tokens_BLP=tokens[:, visible[0]],
        positions_BL3=positions[:, visible[0]],
        visible_BL=None,
    )


def _pad_tokens(conditioning: Conditioning, multiple: int = 16) -> Conditioning:
    # The same for reference tokens: their number up to a multiple, the added ones hidden.
    tokens, positions = conditioning.tokens_BLP, conditioning.positions_BL3
    if tokens is None or positions is None or tokens.shape[1] % multiple == 0:
        return conditioning
    missing = -tokens.shape[1] % multiple
    visible = conditioning.visible_BL
    if visible is None:
        visible = torch.ones(tokens.shape[:2], dtype=torch.bool)
    return replace(
        conditioning,
        tokens_BLP=torch.nn.functional.pad(tokens, (0, 0, 0, missing)),
        positions_BL3=torch.nn.functional.pad(positions, (0, 0, 0, missing)),
        visible_BL=torch.nn.functional.pad(visible, (0, missing)),
    )


def draw_batches(
    examples: Sequence[Example],
    empty: Conditioning,
    batch_size: int,
    text_dropout: float,
    reference_dropout: float,
    rng: np.random.Generator,
    num_groups: int = 1,
) -> list[Batch]:
    """`batch_size` samples drawn with replacement; captions and references are dropped independently with the given probabilities.

    Samples with reference tokens come in up to `num_groups` batches, those with about as many tokens in one, so that little is padding.
    """
    chosen = [examples[index] for index in rng.integers(len(examples), size=batch_size)]
    keep_text = rng.random(batch_size) >= text_dropout
    keep_references = rng.random(batch_size) >= reference_dropout
    captions = [example.caption if keep else "" for example, keep in zip(chosen, keep_text, strict=True)]
    # A dropped caption has no words to anchor a subject with.
    parts = [
        example if keep else replace(example, conditioning=replace(example.conditioning, anchors=None))
        for example, keep in zip(chosen, keep_text, strict=True)
    ]
    lengths = np.array([_num_tokens(part.conditioning) for part in parts]) * keep_references
    groups = np.array_split(np.argsort(lengths, kind="stable"), num_groups) if lengths.any() else []
    return [
        collate(
            [parts[row] for row in rows],
            empty,
            keep_references[rows].tolist(),
            [captions[row] for row in rows],
        )
        for rows in groups or [np.arange(batch_size)]
        if len(rows)
    ]


def _num_tokens(conditioning: Conditioning) -> int:
    tokens, visible = conditioning.tokens_BLP, conditioning.visible_BL
    if tokens is None:
        return 0
    return tokens.shape[1] if visible is None else int(visible.sum())


def first_frames(batch: Batch, num_latent_frames: int) -> Batch:
    """The beginning of each sample. The VAE is causal, so this is what a shorter clip would have been encoded to.

    Not for methods that keep references in several latent frames of their channels, of which a beginning has some only.
    """
    return replace(
        batch,
        latents_BCTHW=batch.latents_BCTHW[:, :, :num_latent_frames],
        conditioning=shortened(batch.conditioning, num_latent_frames),
        weight_BTHW=batch.weight_BTHW[:, :num_latent_frames],
    )


def shortened(conditioning: Conditioning, num_latent_frames: int) -> Conditioning:
    """The conditioning of a sample's first latent frames; references that follow the video follow the shorter one."""
    channels, positions = conditioning.channels_BCTHW, conditioning.positions_BL3
    if channels is not None:
        conditioning = replace(conditioning, channels_BCTHW=channels[:, :, :num_latent_frames])
    if positions is None or conditioning.after_frames <= num_latent_frames:
        return conditioning
    earlier = positions.new_tensor([conditioning.after_frames - num_latent_frames, 0, 0])
    return replace(conditioning, positions_BL3=positions - earlier, after_frames=num_latent_frames)


def write_manifest(folder: Path, record: dict[str, Any], count: int) -> None:
    """Refuse a cache that was built with another configuration; else note this one, of at least `count` samples: caches grow."""
    path = folder / "cache.json"
    record = json.loads(json.dumps(record, default=str))
    if path.exists():
        known = json.loads(path.read_text())
        held = known.pop("count")
        if known != record:
            raise ValueError(
                f"{folder} was built with another configuration; delete it or name another folder"
            )
        if count > held and held % SHARD:
            _shard(folder, held // SHARD).unlink(missing_ok=True)  # it ends where the cache ended
        count = max(count, held)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, record | {"count": count})

"""What a pass of the transformer costs, counted and not measured: multiply-adds by part, bytes of weights and of what a cache keeps.

The counts are formulas in the sizes of a configuration and of a TokenSequence; norms, activations, softmax and rotary embedding are left
out, as in torch's FlopCounterMode, with which the operations agree exactly (an operation here is a multiplication and an addition, two
of its FLOPs). What lives while a pass runs has no formula: LiveBytes counts the tensors of a run, which on the meta device needs no data.
"""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from anyref.latents import PATCH, TokenSequence

CELLS = PATCH[0] * PATCH[1] * PATCH[2]


@dataclass(frozen=True)
class Operations:
    """Multiply-adds. They add up with `+`."""

    projections: int = 0
    """Queries, keys, values and outputs of self-attention; queries and outputs of cross-attention."""
    self_attention: int = 0
    """Scores and weighted sums. Tokens that were dropped are not in it; tokens hidden by a mask are: kernels compute them."""
    cross_attention: int = 0
    """The same for text and image context."""
    feed_forward: int = 0
    other: int = 0
    """Patch embedding, output projection, timesteps, anchors; of `context_operations`, all: the context's embedding and projections."""

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(astuple(self))

    def __add__(self, other: "Operations") -> "Operations":
        return Operations(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))


def step_operations(
    config: Mapping[str, Any], sequence: TokenSequence, num_text: int, *, references_kept: bool = False
) -> Operations:
    """One pass, without what a ContextCache computes once (`context_operations`).

    `config` is the transformer's; `num_text` counts text tokens. `references_kept`: the pass takes the references' keys and
    values from a cache, and works on the video's tokens only.
    """
    width, layers = _width(config), config["num_layers"]
    batch, num_keys, _ = sequence.tokens_BLP.shape
    num_video = sequence.num_video_tokens
    computed = sequence.video_only() if references_kept else sequence
    length, num_timesteps = computed.tokens_BLP.shape[1], computed.timesteps_BG.shape[1]
    references = length - num_video
    seen = references if sequence.references_attend == "references" else num_keys
    context = num_text + _num_image(sequence)
    ends = length * width * CELLS * (config["in_channels"] + config["out_channels"])
    timesteps = num_timesteps * width * (config["freq_dim"] + 7 * width)
    anchored = sequence.anchor_region_BRM
    anchors = 0 if anchored is None else layers * width * anchored[0].numel()
    return Operations(
        projections=batch * layers * length * 6 * width**2,
        self_attention=batch * layers * 2 * width * (num_video * num_keys + references * seen),
        cross_attention=batch * layers * 2 * width * length * context,
        feed_forward=batch * layers * 2 * width * config["ffn_dim"] * length,
        other=batch * (ends + timesteps + anchors),
    )


def context_operations(config: Mapping[str, Any], sequence: TokenSequence, num_text: int) -> Operations:
    """What is computed once per prompt and conditioning: embedded text and image, their keys and values, the anchors' vectors."""
    width, layers = _width(config), config["num_layers"]
    keys_and_values = layers * 2 * width**2
    operations = num_text * (config["text_dim"] * width + width**2 + keys_and_values)
    if sequence.context_BSD is not None:
        features = sequence.context_BSD.shape[2]
        operations += _num_image(sequence) * (features**2 + features * width + keys_and_values)
    if sequence.anchor_span_BRZ is not None:
        operations += layers * width * sequence.anchor_span_BRZ[0].numel()
    return Operations(other=sequence.tokens_BLP.shape[0] * operations)


@dataclass(frozen=True)
class Kept:
    """Numbers that a ContextCache holds between the steps of a video; times the bytes of one, its memory."""

    context: int
    """Of text, image and anchors: embedded, and as keys and values of every block."""
    references: int
    """Keys and values of the references in every block; 0 where they change from step to step."""


def kept_numbers(
    config: Mapping[str, Any], sequence: TokenSequence, num_text: int, *, keep_references: bool = True
) -> Kept:
    """What one cache holds after a pass with this sequence."""
    width, layers = _width(config), config["num_layers"]
    batch, length, _ = sequence.tokens_BLP.shape
    context = (2 * layers + 1) * (num_text + _num_image(sequence))
    if sequence.anchor_span_BRZ is not None:
        context += layers * sequence.anchor_span_BRZ.shape[1]
    fixed = keep_references and sequence.fixed_references is not None
    references = 2 * layers * (length - sequence.num_video_tokens) if fixed else 0
    return Kept(batch * width * context, batch * width * references)


def weight_bytes(model: nn.Module, dtype: torch.dtype) -> int:
    """Bytes of a model's parameters loaded in `dtype`, those included that diffusers keeps in float32 (see `weight_dtype`)."""
    return sum(
        one.numel() * weight_dtype(model, name, dtype).itemsize for name, one in model.named_parameters()
    )


def weight_dtype(model: nn.Module, name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a parameter when diffusers loads the model in `dtype`."""
    in_float32: Sequence[str] = getattr(model, "_keep_in_fp32_modules", None) or ()
    return torch.float32 if any(part in in_float32 for part in name.split(".")) else dtype


class LiveBytes(TorchDispatchMode):
    """Within it, the bytes of tensors that were made and are still there: `now`, and at most, `peak`.

    Storages count once, however many views they have; tensors from outside do not count. What a kernel needs for itself does not
    appear. On the meta device the code runs without data, and any size can be counted; wrap FusedAttention around it there.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self._note(tensor, 0)
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor, tensor.untyped_storage().nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _note(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # of the storage itself: its Python object is not the same for every view
        if key not in self._known:
            self._known.add(key)
            self.now += size
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class FusedAttention(TorchFunctionMode):
    """Within it, attention gives its output's shape and nothing else, as a kernel that keeps no scores would use memory.

    For counting on the meta device, for which PyTorch takes the implementation that writes all scores down.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            return torch.empty_like(args[0] if args else given["query"])
        return func(*args, **given)


def _width(config: Mapping[str, Any]) -> int:
    return int(config["num_attention_heads"] * config["attention_head_dim"])


def _num_image(sequence: TokenSequence) -> int:
    return 0 if sequence.context_BSD is None else sequence.context_BSD.shape[1]

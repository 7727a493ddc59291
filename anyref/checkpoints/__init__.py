"""Published checkpoints as they lie on disk: names, shapes and tensors of the transformer, read one tensor at a time.

A `Checkpoint` speaks diffusers' parameter names, whatever the files say. One reader for each layout of a release: `wan`, `sat`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor


class Checkpoint(Protocol):
    """A transformer's weights on disk, under diffusers' names."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor; what the layout does not know stands under its own name."""

    @property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """Type of every tensor, as stored."""

    @property
    def config(self) -> dict[str, Any]:
        """Arguments of AnyRefTransformer, as far as the files or their layout say them."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is made of."""

    def read(self, name: str) -> Tensor:
        """One tensor, as stored."""

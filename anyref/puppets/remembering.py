"""An autoencoder that encodes nothing twice: for tables whose rows train on the same clips, each with references of its own.

What it gave for a batch is kept in an SQLite file under the hash of the batch's pixels and of its own weights. A whole batch is the unit, so
that a run that finds half of its clips there gives the same bits as one that finds none.
"""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKLOutput
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from anyref.puppets.autoencoder import WholeClipEncoder

WAIT_S = 60.0
"""How long a process waits for another one's writing."""


class RememberingEncoder(nn.Module):
    """Stands in for a `WholeClipEncoder`; `path` is the file, which several processes may share."""

    def __init__(self, vae: WholeClipEncoder, path: Path) -> None:
        super().__init__()
        self.vae, self.path = vae, path
        self.config, self.dtype = vae.config, vae.dtype
        self.known_by = _digest(vae)
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._open()) as file, file:
            file.execute(
                "CREATE TABLE IF NOT EXISTS encoded (hash BLOB PRIMARY KEY, moments BLOB) WITHOUT ROWID"
            )

    def encode(self, video_BCFYX: Tensor) -> AutoencoderKLOutput:
        """Like AutoencoderKLWan.encode, of float32 videos in [-1, 1]."""
        key = _hash(self.known_by, video_BCFYX)
        with closing(self._open()) as file, file:
            found = file.execute("SELECT moments FROM encoded WHERE hash = ?", (key,)).fetchone()
        if found is None:
            moments = self.vae.encode(video_BCFYX).latent_dist.parameters
            values = moments.to("cpu", torch.float16).contiguous()
            with closing(self._open()) as file, file:
                file.execute("INSERT OR IGNORE INTO encoded VALUES (?, ?)", (key, _pack(values)))
        else:
            values = _unpack(found[0])
        # Through the kept precision also the first time: what is trained on does not depend on who encoded it.
        moments = values.to(video_BCFYX.device, torch.float32)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments))

    def _open(self) -> sqlite3.Connection:
        # A connection for each use: it must not be carried into a forked or spawned process.
        return sqlite3.connect(self.path, timeout=WAIT_S)


class RecallingEncoder(nn.Module):
    """The same in memory and to the bit: what an autoencoder gave for a batch is in `kept`, under the hash of the batch alone."""

    def __init__(self, vae: Any, kept: dict[bytes, Tensor]) -> None:
        super().__init__()
        self.vae, self.kept = vae, kept
        self.config, self.dtype = vae.config, vae.dtype

    def encode(self, video_BCFYX: Tensor) -> AutoencoderKLOutput:
        """Like AutoencoderKLWan.encode."""
        key = _hash(b"", video_BCFYX.float())
        if key not in self.kept:
            self.kept[key] = self.vae.encode(video_BCFYX).latent_dist.parameters
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(self.kept[key]))


def _digest(vae: nn.Module) -> bytes:
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        if "decoder" not in name:
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


def _hash(known_by: bytes, video_BCFYX: Tensor) -> bytes:
    pixels = np.ascontiguousarray(video_BCFYX.detach().cpu().numpy())
    return hashlib.sha256(known_by + repr(pixels.shape).encode() + pixels.tobytes()).digest()


def _pack(values: Tensor) -> bytes:
    return np.array(values.shape, dtype=np.int64).tobytes() + values.numpy().tobytes()


def _unpack(blob: bytes) -> Tensor:
    shape = np.frombuffer(blob, dtype=np.int64, count=5)
    values = np.frombuffer(blob, dtype=np.float16, offset=40).reshape(shape)
    return torch.from_numpy(values.copy())

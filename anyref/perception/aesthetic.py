"""LAION's two aesthetic predictors, how a picture looks, 1 to 10: v2 is MAGREF's and OpenS2V's, v1 is VBench's and not the same.

Both read the CLIP ViT-L/14 vector of length 1. Scores are the networks' own, not clamped: suites clamp and normalise.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from anyref.perception import ImageEncoder, ModelCard, Picture
from anyref.perception.clip import open_clip, open_clip_vbench
from anyref.perception.models import Entry
from anyref.perception.preparation import card, weights_file

CLIP_WIDTH = 768
_V2_FILE = "aesthetic-model.pth"


def mlp() -> nn.Sequential:
    """v2, sac+logos+ava1-l14-linearMSE: five linear layers with nothing but dropout between them; keys as released."""
    widths = (CLIP_WIDTH, 1024, 128, 64, 16, 1)
    layers: list[nn.Module] = []
    for before, after, dropout in zip(widths, widths[1:], (0.2, 0.2, 0.1, 0.0, 0.0), strict=False):
        layers.append(nn.Linear(before, after))
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


class LaionAesthetic:
    """A head on an image encoder."""

    def __init__(self, encoder: ImageEncoder, head: nn.Module, card: ModelCard) -> None:
        self._encoder = encoder
        self._head = head.eval()
        self.card = card

    def rate(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """See `anyref.perception.AestheticPredictor`."""
        return self.rate_vectors(self._encoder.encode(pictures))

    @torch.no_grad()
    def rate_vectors(self, vectors_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same for vectors of the encoder that were kept: [B]."""
        scores: NDArray[np.float32] = self._head(torch.from_numpy(vectors_BD))[:, 0].numpy()
        return scores


def open_laion_v2(entry: Entry, device: str) -> LaionAesthetic:
    """The MLP on CLIP with OpenAI's preparation. The source is the released address, a hub repository (DDPO's), or a file."""
    head = mlp()
    head.load_state_dict(v2_weights(_weights(entry)))
    return LaionAesthetic(open_clip(_clip(), device), head, card(entry))


def open_laion_v1(entry: Entry, device: str) -> LaionAesthetic:
    """One linear layer on CLIP with VBench's preparation; VBench divides by 10. The source is the released address, or a file."""
    head = nn.Linear(CLIP_WIDTH, 1)
    head.load_state_dict(_weights(entry))
    return LaionAesthetic(open_clip_vbench(_clip(), device), head, card(entry))


def v2_weights(state: dict[str, Any]) -> dict[str, Any]:
    """The names of `mlp` for any of the released files: they say "layers.0.weight" or "0.weight"."""
    return {name.removeprefix("layers."): value for name, value in state.items()}


def _clip() -> Entry:
    from anyref.perception.catalogue import entry_for

    return entry_for("image-text-encoder", "clip-l14")


def _weights(entry: Entry) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(weights_file(entry, _V2_FILE), map_location="cpu", weights_only=True)
    return state

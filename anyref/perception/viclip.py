"""ViCLIP: a video and a sentence as vectors of one space; VBench's overall consistency, which Kaleido calls the ViCLIP score.

A small port of the released network (InternVideo, ViCLIP-L/14; Apache-2.0 code): CLIP's text tower with 32 tokens, and CLIP's picture tower
whose patches of 8 frames attend to one another. Same parameter names, strict loading.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from anyref.perception import Model, ModelCard, Picture
from anyref.perception.models import Entry
from anyref.perception.preparation import card, check, hub_revision, unit, vbench_square

NUM_TOKENS = 32


@runtime_checkable
class VideoTextEncoder(Model, Protocol):
    """Videos and sentences to vectors of one space."""

    num_frames: int
    """How many frames it looks at: `middle_indices` says which."""

    def encode_video(self, frames: Sequence[Picture]) -> NDArray[np.float32]:
        """`num_frames` frames in order to a vector [D] of length 1."""

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[len(texts), D], each of length 1; what is beyond the model's tokens is not read."""


def middle_indices(num_frames: int, count: int = 8) -> list[int]:
    """The middle frame of each of `count` equal parts; a shorter video repeats its last (VBench, `sample="middle"`)."""
    if num_frames < 1:
        raise ValueError("the video has no frames; give another one")
    parts = min(num_frames, count)
    edges = np.linspace(0, num_frames, parts + 1).astype(int)
    middles = [(int(start) + int(end) - 1) // 2 for start, end in pairwise(edges)]
    return middles + [middles[-1]] * (count - parts)


class _QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        mlp = (
            ("c_fc", nn.Linear(width, 4 * width)),
            ("gelu", _QuickGELU()),
            ("c_proj", nn.Linear(4 * width, width)),
        )
        self.mlp = nn.Sequential(OrderedDict[str, nn.Module](mlp))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x_BLD: Tensor, blocked_LL: Tensor | None) -> Tensor:
        normed = self.ln_1(x_BLD)
        x_BLD = x_BLD + self.attn(normed, normed, normed, need_weights=False, attn_mask=blocked_LL)[0]
        joined: Tensor = x_BLD + self.mlp(self.ln_2(x_BLD))
        return joined


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))

    def forward(self, x_BLD: Tensor, blocked_LL: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x_BLD = block(x_BLD, blocked_LL)
        return x_BLD


class VideoTower(nn.Module):
    """Frames [B, 3, F, size, size] to [B, D]: the class token, seeing all patches of all frames."""

    def __init__(
        self,
        size: int = 224,
        patch: int = 14,
        width: int = 1024,
        layers: int = 24,
        out: int = 768,
        num_frames: int = 8,
    ) -> None:
        super().__init__()
        self.size, self.num_frames = size, num_frames
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn((size // patch) ** 2 + 1, width) * width**-0.5)
        self.ln_pre = nn.LayerNorm(width)
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, num_frames, width))
        self.transformer = _Transformer(width, layers, width // 64 if width >= 64 else 1)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, out) * width**-0.5)

    def forward(self, frames_B3FYX: Tensor) -> Tensor:
        """See the class."""
        patches = rearrange(self.conv1(frames_B3FYX), "b d f h w -> b (h w) f d")
        places = self.positional_embedding
        patches = patches + places[1:, None] + self.temporal_positional_embedding[:, None]
        # The class token carries the place of a picture's and no time.
        first = (self.class_embedding + places[0]).expand(len(patches), 1, -1)
        tokens = torch.cat([first, rearrange(patches, "b p f d -> b (p f) d")], dim=1)
        seen: Tensor = self.ln_post(self.transformer(self.ln_pre(tokens)))[:, 0] @ self.proj
        return seen


class TextTower(nn.Module):
    """Tokens [B, 32], zeros after the end, to [B, D]: the state of the end token, which has the highest id."""

    def __init__(self, vocabulary: int = 49408, width: int = 768, layers: int = 12, out: int = 768) -> None:
        super().__init__()
        self.transformer = _Transformer(width, layers, width // 64 if width >= 64 else 1)
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.randn(NUM_TOKENS, width) * 0.01)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, out) * width**-0.5)

    def forward(self, tokens_BS: Tensor) -> Tensor:
        """See the class."""
        later = torch.ones(NUM_TOKENS, NUM_TOKENS, dtype=torch.bool, device=tokens_BS.device).triu(1)
        states = self.token_embedding(tokens_BS) + self.positional_embedding
        states = self.ln_final(self.transformer(states, later))
        ends: Tensor = states[torch.arange(len(states)), tokens_BS.argmax(dim=-1)] @ self.text_projection
        return ends


class ViClip(nn.Module):
    """Both towers under the released names."""

    def __init__(
        self, vision_encoder: VideoTower | None = None, text_encoder: TextTower | None = None
    ) -> None:
        super().__init__()
        self.vision_encoder = vision_encoder or VideoTower()
        self.text_encoder = text_encoder or TextTower()

    def load_released(self, state: Mapping[str, Tensor]) -> None:
        """Load weights under any prefix ("model.", "viclip."); everything must be there but the training temperature."""
        ours = {}
        for name, value in state.items():
            start = max(name.find("vision_encoder."), name.find("text_encoder."))
            if start >= 0:
                ours[name[start:]] = value
        self.load_state_dict(ours)


class ViClipEncoder:
    """See `VideoTextEncoder`. `tokenizer` is CLIP's."""

    def __init__(self, model: ViClip, tokenizer: Any, card: ModelCard) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self.num_frames = model.vision_encoder.num_frames
        self.card = card

    @torch.no_grad()
    def encode_video(self, frames: Sequence[Picture]) -> NDArray[np.float32]:
        """See `VideoTextEncoder`. Frames are prepared as VBench's `clip_transform` does."""
        check(frames)
        if len(frames) != self.num_frames:
            raise ValueError(
                f"{len(frames)} frames were given; ViCLIP looks at {self.num_frames} (see middle_indices)"
            )
        tower = self._model.vision_encoder
        pixels = torch.cat([vbench_square(frame, tower.size) for frame in frames])
        seen = tower(rearrange(pixels, "f c y x -> 1 c f y x").to(tower.proj))
        vector: NDArray[np.float32] = unit(seen)[0]
        return vector

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `VideoTextEncoder`: 32 tokens, the last of them the end."""
        tower = self._model.text_encoder
        rows = [np.zeros((0, tower.text_projection.shape[1]), dtype=np.float32)]
        for text in texts:
            ids = self._tokenizer(text, truncation=True, max_length=NUM_TOKENS)["input_ids"]
            tokens = torch.zeros(1, NUM_TOKENS, dtype=torch.long, device=tower.text_projection.device)
            tokens[0, : len(ids)] = torch.tensor(ids)
            rows.append(unit(tower(tokens)))
        return np.concatenate(rows)


def open_viclip(entry: Entry, device: str) -> ViClipEncoder:
    """The source is the hub repository, a .safetensors file, or the released .pth."""
    from huggingface_hub import hf_hub_download
    from safetensors.torch import load_file
    from transformers import CLIPTokenizer

    from anyref.perception.catalogue import entry_for

    path = Path(entry.source)
    if not path.is_file():
        path = Path(hf_hub_download(entry.source, "model.safetensors", revision=hub_revision(entry)))
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        kept = torch.load(path, map_location="cpu", weights_only=True)
        state = kept.get("model", kept)
    model = ViClip()
    model.load_released(state)
    words = entry_for("image-text-encoder", "clip-l14")
    tokenizer = CLIPTokenizer.from_pretrained(words.source, revision=words.revision)
    return ViClipEncoder(model.to(device), tokenizer, card(entry))

"""The network of the puppet world's text-prompted segmenter: a picture is seen once, and each phrase is looked for in what was seen.

A U-Net of convolutions with two layers of attention at its coarsest grid; the decoder is modulated by the phrase (FiLM, as CLIPSeg's is). Two
maps come out: what the phrase names, and the cores of its things, which are apart where the things touch.
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor, nn
from torch.nn import functional

from anyref.puppets.phrases import GROUPS, PARTS, SIDES, SUBJECT
from anyref.worlds import captions
from anyref.worlds.identities import LABELS

HEIGHT, WIDTH = 64, 96
"""Every picture is squeezed into this."""
_WIDTHS = (32, 64, 112)
_TEXT = 96
_MORE_WORDS = ("person", "people", "animal", "object", "thing", "child", "adult", "face", "head", SUBJECT)
NOUNS = frozenset({*LABELS, *GROUPS, *PARTS, "picture", "people", SUBJECT})
"""A phrase without one of these words names nothing of this world."""
_KNOWN = frozenset({*captions.vocabulary(), *_MORE_WORDS})


class Vocabulary:
    """The world's words, numbered from 1; 0 pads."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._numbers = {word: number for number, word in enumerate(self.words, 1)}

    def read(self, phrase: str) -> list[str]:
        """The known words of a phrase; a plural counts as its singular ("dogs", "boxes")."""
        found = (
            next((form for form in (word, word[:-1], word[:-2]) if form in self._numbers), "")
            for word in re.findall(r"[a-z]+", phrase.lower())
        )
        return [word for word in found if word]

    def numbers(self, texts: Sequence[str]) -> Tensor:
        """int64 [len(texts), longest]."""
        rows = [[self._numbers[word] for word in self.read(text)] or [0] for text in texts]
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


class _Block(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.norm_first, self.norm_second = nn.GroupNorm(8, after), nn.GroupNorm(8, after)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, features: Tensor, film: Tensor | None = None) -> Tensor:
        """`film` [B, 2 * after]: gains and offsets of the channels."""
        hidden = functional.silu(self.norm_first(self.first(features)))
        hidden = self.norm_second(self.second(hidden))
        if film is not None:
            gain, offset = film[..., None, None].chunk(2, dim=1)
            hidden = hidden * (1 + gain) + offset
        return functional.silu(hidden + self.shortcut(features))


class PhraseSegmenter(nn.Module):
    """Pictures [B, 3, 64, 96] in [-1, 1] and phrases to logits [phrases, 2, 64, 96]: of what is named, and of the cores."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        fine, middle, coarse = _WIDTHS
        self.vocabulary = Vocabulary(words)
        self.stem = nn.Conv2d(3, fine, 4, stride=2, padding=1)
        self.fine = _Block(fine, fine)
        self.to_middle = nn.Conv2d(fine, middle, 4, stride=2, padding=1)
        self.middle = _Block(middle, middle)
        self.to_coarse = nn.Conv2d(middle, coarse, 2, stride=2)
        self.coarse = _Block(coarse, coarse)
        self.places = nn.Parameter(_waves(HEIGHT // 8, WIDTH // 8, coarse))
        self.attention = nn.ModuleList(
            nn.TransformerEncoderLayer(
                coarse, 4, 2 * coarse, 0.0, functional.gelu, batch_first=True, norm_first=True
            )
            for _ in range(2)
        )
        self.words = nn.Embedding(len(self.vocabulary.words) + 1, _TEXT, padding_idx=0)
        self.sentence = nn.Sequential(nn.Linear(_TEXT, 2 * _TEXT), nn.SiLU())
        self.films = nn.ModuleList(nn.Linear(2 * _TEXT, 2 * width) for width in (middle, middle, fine))
        self.up_coarse = _Block(coarse, middle)
        self.up_middle = _Block(2 * middle, middle)
        self.up_fine = _Block(middle + fine, fine)
        self.out = nn.Conv2d(fine, 2 * 4, 3, padding=1)
        self.classes = nn.Conv2d(coarse, 4 * (1 + len(LABELS)), 1)
        self.sides = nn.Conv2d(coarse, 4 * (1 + len(SIDES)), 1)

    def see(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the decoder reads, finest first: it is the same for every phrase."""
        fine = self.fine(self.stem(pictures))
        middle = self.middle(self.to_middle(fine))
        coarse = self.coarse(self.to_coarse(middle))
        tokens = coarse.flatten(2).transpose(1, 2) + self.places
        for layer in self.attention:
            tokens = layer(tokens)
        return fine, middle, tokens.transpose(1, 2).reshape(coarse.shape)

    def find(self, seen: tuple[Tensor, Tensor, Tensor], numbers: Tensor) -> Tensor:
        """One phrase for each row of what was seen; `numbers` as of `Vocabulary.numbers`."""
        fine, middle, coarse = seen
        known = (numbers > 0).float()
        mean = self.words(numbers).sum(dim=1) / known.sum(dim=1, keepdim=True).clamp(min=1).sqrt()
        text = self.sentence(mean)
        low, mid, high = (film(text) for film in self.films)
        hidden = _doubled(self.up_coarse(coarse, low))
        hidden = _doubled(self.up_middle(torch.cat([hidden, middle], dim=1), mid))
        hidden = self.up_fine(torch.cat([hidden, fine], dim=1), high)
        return functional.pixel_shuffle(self.out(hidden), 2)

    def classify(self, seen: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of each cell's class [B, 30, 16, 24] and side among the subjects [B, 4, 16, 24]; number 0 is where no subject is.

        Both are asked for in training only: phrases are made of them, and they are learned faster from every cell of every picture.
        """
        return functional.pixel_shuffle(self.classes(seen[2]), 2), functional.pixel_shuffle(
            self.sides(seen[2]), 2
        )

    def forward(self, pictures: Tensor, numbers: Tensor) -> Tensor:
        """`numbers` [B * n, words]: n phrases for each picture, one picture's after another's."""
        return self.find(repeated(self.see(pictures), len(numbers) // len(pictures)), numbers)


def repeated(seen: tuple[Tensor, Tensor, Tensor], each: int) -> tuple[Tensor, Tensor, Tensor]:
    """What was seen, once for each of a picture's phrases."""
    fine, middle, coarse = (features.repeat_interleave(each, dim=0) for features in seen)
    return fine, middle, coarse


def _waves(rows: int, columns: int, width: int) -> Tensor:
    """[1, rows * columns, width]: sines and cosines of the row in the first half, of the column in the second."""
    waves = []
    for count in (rows, columns):
        places = (torch.arange(count) + 0.5) / count
        angles = places[:, None] * math.pi * 2.0 ** torch.arange(width // 4).div(width / 16)
        waves.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    down, across = waves
    grid = torch.cat([down[:, None].expand(-1, columns, -1), across[None].expand(rows, -1, -1)], dim=2)
    return 0.3 * grid.reshape(1, rows * columns, width)


def build() -> PhraseSegmenter:
    """The network with random weights, for the words of the world's captions and those of `phrases`."""
    return PhraseSegmenter(sorted(_KNOWN))


def to_tensor(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures uint8 RGB of any size as a batch [B, 3, 64, 96] in [-1, 1]."""
    squeezed = [_squeezed(picture) for picture in pictures]
    return torch.from_numpy(np.stack(squeezed)).permute(0, 3, 1, 2).float() / 127.5 - 1


def save(model: PhraseSegmenter, folder: Path) -> None:
    """A folder: config.json (the words) and model.safetensors (bf16)."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.bfloat16().contiguous() for name, value in model.state_dict().items()}
    # `save_file` makes files that only their owner can read.
    (folder / "model.safetensors").write_bytes(serialise(weights))
    (folder / "config.json").write_text(json.dumps({"words": list(model.vocabulary.words)}) + "\n")


def load(folder: Path) -> PhraseSegmenter:
    """The network `save` wrote, float32."""
    model = PhraseSegmenter(json.loads((folder / "config.json").read_text())["words"])
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model.eval()


def _doubled(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


def _squeezed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if picture.shape[:2] == (HEIGHT, WIDTH):
        return picture
    # PIL's bilinear filter averages over all source pixels when it shrinks.
    return np.asarray(Image.fromarray(picture).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))

"""Train the text-prompted segmenter of the puppet world, which stands in for GroundingDINO and SAM2 at once.

Each picture is asked about with several phrases, some of which name nothing in it; pieces cut around a subject are asked about with "this".
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from anyref.puppets import phrases
from anyref.puppets.phrase_network import HEIGHT, WIDTH, PhraseSegmenter, build, repeated, to_tensor
from anyref.puppets.phrase_search import measure
from anyref.puppets.phrases import SIDES, Question, Shown
from anyref.training.loop import FitConfig, fit
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import LABELS

PHRASES = 3
"""Phrases that a picture is asked about in training."""
CELLS = 0.5
"""Weight of the second task, the class and the side of each cell."""
_UNASKED = -100


class Batch(NamedTuple):
    """Pictures [B, 3, 64, 96]; their phrases in order; the phrases' maps [B * PHRASES, 2, 64, 96]; of each cell of the pictures, class
    and side [B, 16, 24]."""

    pictures: Tensor
    phrases: list[str]
    maps: Tensor
    classes: Tensor
    sides: Tensor


def train(config: FitConfig, batch_size: int = 16, device: str = "cpu") -> PhraseSegmenter:
    """Train from nothing; returns the network with averaged weights. The metric is the mean IoU of held-out captions' phrases."""
    torch.manual_seed(config.seed)
    model = build().to(device).train()
    world = PuppetWorld("train", seed=config.seed + 66)
    held_out = PuppetWorld("validation", seed=0)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:  # noqa: ARG001
        drawn = batch(world, range(step * batch_size, (step + 1) * batch_size), config.seed)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            seen = model.see(drawn.pictures.to(device))
            numbers = model.vocabulary.numbers(drawn.phrases).to(device)
            logits = model.find(repeated(seen, PHRASES), numbers)
            classes, sides = model.classify(seen)
        value, parts = loss_of(logits.float(), drawn.maps.to(device))
        known = functional.cross_entropy(classes.float(), drawn.classes.to(device))
        placed = functional.cross_entropy(sides.float(), drawn.sides.to(device), ignore_index=_UNASKED)
        parts |= {"classes": float(known.detach()), "sides": float(placed.detach())}
        return value + CELLS * (known + placed), parts

    def validate(_: int) -> dict[str, float]:
        return measure(model, held_out, 64)

    fit(model, loss, config, validate=validate)
    return model.cpu().eval()


def loss_of(logits: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of both maps and, where a phrase names something, the Dice loss of the first."""
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(
        dim=(0, 2, 3)
    )
    named, truth = logits[:, 0].sigmoid().flatten(1), targets[:, 0].flatten(1)
    overlap = 2 * (named * truth).sum(dim=1) / (named.sum(dim=1) + truth.sum(dim=1)).clamp(min=1e-6)
    there = truth.amax(dim=1)
    dice = ((1 - overlap) * there).sum() / there.sum().clamp(min=1)
    value = 2 * entropy[0] + entropy[1] + 0.5 * dice
    return value, {"entropy": float(entropy[0].detach()), "dice": float(dice.detach())}


def batch(world: PuppetWorld, indices: range, seed: int) -> Batch:
    """`PHRASES` phrases for each picture."""
    shown_B, asked, maps = [], [], []
    for index in indices:
        rng = np.random.default_rng((seed, index))
        shown = phrases.show(world, index, rng)
        shown_B.append(shown)
        for question in phrases.questions(shown, PHRASES, rng):
            asked.append(question.phrase)
            maps.append(target_of(question))
    cells = torch.from_numpy(np.stack([cells_of(shown) for shown in shown_B]))
    pictures = to_tensor([shown.picture_YX3 for shown in shown_B])
    maps_of_all = torch.from_numpy(np.stack(maps)).float()
    return Batch(pictures, asked, maps_of_all, cells[:, 0], cells[:, 1])


def cells_of(shown: Shown) -> NDArray[np.int64]:
    """[2, 16, 24]: of the subject in the middle of each cell, the class as its number in LABELS and 1, and the side as that in SIDES and 1.

    0 where there is no subject; a side of -100 where it has none, being alone.
    """
    cells = np.zeros((2, HEIGHT // 4, WIDTH // 4), np.int64)
    sides = phrases.sides_of(shown)
    for number, thing in enumerate(shown.things):
        if thing.whole:
            seen = Image.fromarray(thing.seen_YX).resize(cells.shape[:0:-1], Image.Resampling.NEAREST)
            cells[0][np.asarray(seen)] = 1 + LABELS.index(thing.label)
            cells[1][np.asarray(seen)] = 1 + SIDES.index(sides[number]) if number in sides else _UNASKED
    return cells


def target_of(question: Question) -> NDArray[np.bool_]:
    """[2, 64, 96]: the union of what a phrase names, and that of its things' cores."""
    maps = np.zeros((2, HEIGHT, WIDTH), bool)
    for answer_YX in question.answers:
        square = np.asarray(Image.fromarray(answer_YX).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST))
        maps[0] |= square
        maps[1] |= _core(square)
    return maps


def _core(mask_YX: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without its border: two pixels of it, or one where it is small or thin."""
    core = _eroded(mask_YX)
    twice = _eroded(core) if mask_YX.sum() > 150 else core
    return twice if twice.any() else core if core.any() else mask_YX


def _eroded(mask_YX: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask_YX, 1, constant_values=True)  # what the picture's edge cuts goes on beyond it
    inner: NDArray[np.bool_] = (
        mask_YX & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    )
    return inner

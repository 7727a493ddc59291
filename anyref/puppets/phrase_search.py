"""Looking for phrases with the puppet world's segmenter: things with their masks, what a box surrounds, and how good both are.

A phrase's map is taken apart into things by their cores. A box is answered by cutting the picture around it and asking for "this".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from anyref.puppets import phrases
from anyref.puppets.phrase_network import HEIGHT, NOUNS, WIDTH, PhraseSegmenter, to_tensor
from anyref.puppets.phrases import SUBJECT, Shown
from anyref.worlds import PuppetWorld

PIECE = 1.5
"""How many times larger than a piece of it a thing is; two neighbours of about one size are two."""
MARGIN = 0.12
"""Around a box that is to be cut out, in lengths of its long side."""


@dataclass(frozen=True)
class Found:
    """One thing that a phrase names. `score`: mean probability over its mask."""

    mask_YX: NDArray[np.bool_]
    score: float


@torch.no_grad()
def find(
    model: PhraseSegmenter,
    picture_YX3: NDArray[np.uint8],
    asked: Sequence[str],
    threshold: float = 0.5,
    smallest: int = 8,
) -> list[list[Found]]:
    """What each phrase names, best first; things of fewer than `smallest` of the 64 x 96 pixels are left out."""
    known = [index for index, phrase in enumerate(asked) if NOUNS & set(model.vocabulary.read(phrase))]
    found: list[list[Found]] = [[] for _ in asked]
    if not known:
        return found
    probabilities = _probabilities(model, picture_YX3, [asked[index] for index in known])
    size = picture_YX3.shape[:2]
    for index, (named_YX, core_YX) in zip(known, probabilities, strict=True):
        things = [
            Found(_stretched(named_YX * owned_YX, size) > threshold, float(named_YX[owned_YX].mean()))
            for owned_YX in _apart(named_YX > threshold, core_YX > threshold, smallest)
        ]
        found[index] = sorted(
            (thing for thing in things if thing.mask_YX.any()), key=lambda thing: -thing.score
        )
    return found


@torch.no_grad()
def cut(
    model: PhraseSegmenter,
    picture_YX3: NDArray[np.uint8],
    boxes: Sequence[tuple[float, float, float, float]],
) -> NDArray[np.bool_]:
    """bool [len(boxes), Y, X]: what each box (top, left, bottom, right) surrounds; nothing of it lies outside the box grown by 5 %."""
    masks = np.zeros((len(boxes), *picture_YX3.shape[:2]), bool)
    size = picture_YX3.shape[:2]
    for number, box in enumerate(boxes):
        rows, columns = phrases.window_around(box, size, MARGIN)
        piece = np.ascontiguousarray(picture_YX3[rows, columns])
        if min(piece.shape[:2]) < 2:
            continue
        named_YX = _probabilities(model, piece, [SUBJECT])[0, 0]
        within = np.zeros(size, bool)
        within[phrases.window_around(box, size, 0.05)] = True
        masks[number, rows, columns] = _stretched(named_YX, piece.shape[:2]) > 0.5
        masks[number] &= within
    return masks


def measure(model: PhraseSegmenter, world: PuppetWorld, num_pictures: int) -> dict[str, float]:
    """Scores on whole frames, as they were drawn, at their own size.

    mask_iou: of the best thing found for a subject, asked for as captions name it; box_mask_iou: of what is cut out by the subject's true
    box; named_iou: of all that any phrase names; recall: share of captioned subjects whose mask has an IoU of at least 0.5;
    silent: share of phrases that name nothing for which nothing is found. Subjects of fewer than 40 visible pixels are not asked for.
    """
    scores: dict[str, list[float]] = {
        name: [] for name in ("mask_iou", "box_mask_iou", "named_iou", "recall", "silent")
    }
    for index in range(num_pictures):
        rng = np.random.default_rng(index)
        shown = phrases.show(world, index, rng, varied=False)
        for number in _asked_for(shown):
            question = phrases.captioned(shown, number, rng)
            found = find(model, shown.picture_YX3, [question.phrase])[0]
            truth = question.answers[0]
            overlap = iou(found[0].mask_YX, truth) if found else 0.0
            scores["mask_iou"].append(overlap)
            scores["recall"].append(float(overlap >= 0.5))
            given = cut(model, shown.picture_YX3, [phrases.box_of(truth)])[0]
            scores["box_mask_iou"].append(iou(given, truth))
        asked = phrases.questions(shown, 4, rng)
        answers = find(model, shown.picture_YX3, [question.phrase for question in asked])
        for question, found in zip(asked, answers, strict=True):
            if not question.answers:
                scores["silent"].append(float(not found))
                continue
            nothing = np.zeros(shown.picture_YX3.shape[:2], bool)
            union = np.any([nothing, *(thing.mask_YX for thing in found)], axis=0)
            scores["named_iou"].append(iou(union, np.any(question.answers, axis=0)))
    return {name: float(np.mean(values)) for name, values in scores.items() if values}


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Intersection over union; 1 where both are empty."""
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


def _asked_for(shown: Shown) -> list[int]:
    return [i for i, thing in enumerate(shown.things) if thing.whole and thing.seen_YX.sum() >= 40]


def _stretched(map_YX: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    if map_YX.shape == size:
        return map_YX
    image = Image.fromarray(map_YX.astype(np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def _probabilities(
    model: PhraseSegmenter, picture_YX3: NDArray[np.uint8], asked: Sequence[str]
) -> NDArray[np.float32]:
    """[phrases, 2, 64, 96]."""
    device = model.places.device
    logits = model(to_tensor([picture_YX3]).to(device), model.vocabulary.numbers(asked).to(device))
    probabilities: NDArray[np.float32] = logits.float().sigmoid().cpu().numpy()
    return probabilities


def _apart(named_YX: NDArray[np.bool_], core_YX: NDArray[np.bool_], smallest: int) -> list[NDArray[np.bool_]]:
    """The things of a map: each named pixel belongs to the core that reaches it first."""
    cores, count = components(core_YX & named_YX)
    large = [number for number in range(1, count + 1) if (cores == number).sum() >= max(3, smallest // 3)]
    if not large:
        things, count = components(named_YX)
        return [things == number for number in range(1, count + 1) if (things == number).sum() >= smallest]
    owner = np.where(np.isin(cores, large), cores, 0)
    for _ in range(HEIGHT + WIDTH):
        grown = owner.copy()
        for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
            beside = np.roll(owner, shift, axis)
            edge = [slice(None), slice(None)]
            edge[axis] = slice(0, 1) if shift == 1 else slice(-1, None)
            beside[tuple(edge)] = 0
            grown = np.where((grown == 0) & named_YX, beside, grown)
        if (grown == owner).all():
            break
        owner = grown
    return _joined([owner == number for number in large if (owner == number).sum() >= smallest])


def _joined(things: list[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    """Give what touches a thing more than twice its size to it: the leaves are the flower's, though their stalk is too thin to have a core."""
    kept: list[NDArray[np.bool_]] = []
    for thing in sorted(things, key=lambda thing: -int(thing.sum())):
        around = np.pad(thing, 1)
        near = around[:-2, 1:-1] | around[2:, 1:-1] | around[1:-1, :-2] | around[1:-1, 2:] | thing
        for index, other in enumerate(kept):
            if (near & other).any() and PIECE * thing.sum() < other.sum():
                kept[index] = other | thing
                break
        else:
            kept.append(thing)
    return kept


def components(mask_YX: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Connected parts (4 neighbours) numbered from 1, and how many there are."""
    parent = [0]
    numbered = np.zeros(mask_YX.shape, np.int32)

    def root(number: int) -> int:
        while parent[number] != number:
            number = parent[number]
        return number

    # Runs of each row, from where the row changes: (row, first column, column after the last), all rows at once.
    padded = np.zeros((mask_YX.shape[0], mask_YX.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask_YX
    rows, edges = np.nonzero(np.diff(padded, axis=1))
    for row, (start, end) in zip(rows[::2].tolist(), edges.reshape(-1, 2).tolist(), strict=True):
        above = set(numbered[row - 1, start:end].tolist()) - {0} if row else set()
        touched = sorted({root(number) for number in above})
        if not touched:
            touched = [len(parent)]
            parent.append(len(parent))
        for other in touched[1:]:
            parent[other] = touched[0]
        numbered[row, start:end] = touched[0]
    roots = np.array([root(number) for number in range(len(parent))])
    used, dense = np.unique(roots, return_inverse=True)
    return dense.astype(np.int32)[numbered], len(used) - 1

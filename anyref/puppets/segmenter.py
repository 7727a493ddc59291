"""A segmenter for the puppet world: where the subject of a picture is, so that Saber's references can be cut out without a download.

A SegFormer of the real class, a thousand times smaller than the real ones. It is trained on pictures whose masks are known: cut-out
reference pictures laid on other backgrounds, and pieces of clips around a subject. `matting.Segmenter` uses it and says how pictures enter it.
"""

from collections.abc import Callable
from copy import deepcopy
from itertools import count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from anyref.matting import Segmenter, to_pixels
from anyref.samples import Sample, Subject
from anyref.training.loop import FitConfig, fit
from anyref.worlds import PuppetWorld

SIZE = 96
PIECES_OF_CLIPS = 0.3
"""Share of the pictures that are cut from a clip; the others are cut-outs on a background."""
SETTINGS = 0.4
"""Share of cut-outs that lie on a drawn setting; the others lie on a wall, with or without a floor."""
_CALIBRATION_BATCHES = 8


def build() -> SegformerForSemanticSegmentation:
    """The network with random weights: pictures of 96 x 96, labels 0 (background) and 1 (subject) at half that."""
    config = SegformerConfig(
        image_size=SIZE,
        num_labels=2,
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 64, 96],
        num_attention_heads=[1, 2, 4, 4],
        sr_ratios=[8, 4, 2, 1],
        mlp_ratios=[2, 2, 2, 2],
        # The first stage halves the picture where the real ones quarter it: these pictures are small.
        patch_sizes=[7, 3, 3, 3],
        strides=[2, 2, 2, 2],
        decoder_hidden_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout_prob=0.0,
        drop_path_rate=0.0,
    )
    return SegformerForSemanticSegmentation(config)


def example(
    world: PuppetWorld, index: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A picture, uint8 RGB [Y, X, 3], and the mask [Y, X] of the one subject that it is of."""
    sample = world.clip(index, background_reference=True)
    subjects = [subject for subject in sample.subjects if subject.kind != "background"]
    subject = subjects[rng.integers(len(subjects))]
    if subject.masks_FYX[0].sum() > 60 and rng.random() < PIECES_OF_CLIPS:
        return _piece(sample, subject, rng)
    first = int(rng.integers(2**30))
    # About half of a subject's pictures are cut out.
    cut = next(
        image for number in count(first) if (image := world.picture(subject, number).image).shape[2] == 4
    )
    height, width = cut.shape[:2]
    if rng.random() < SETTINGS:
        setting = sample.subjects[-1].references
        drawn = Image.fromarray(setting[rng.integers(len(setting))].image)
        behind = np.asarray(drawn.resize((width, height), Image.Resampling.BILINEAR))
    else:
        behind = _wall(height, width, rng)
    alpha = cut[..., 3:] / 255.0
    picture = np.rint(cut[..., :3] * alpha + behind * (1 - alpha)).astype(np.uint8)
    return picture, cut[..., 3] >= 128


def train(config: FitConfig, batch_size: int = 32, device: str = "cpu") -> SegformerForSemanticSegmentation:
    """Train from nothing; returns the network with averaged weights. The metric is the mean IoU of 128 held-out pictures."""
    torch.manual_seed(config.seed)
    model = build().to(device).train()
    world = PuppetWorld("train", seed=config.seed + 55, num_frames=1)
    held_out = PuppetWorld("validation", seed=0, num_frames=1)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:  # noqa: ARG001
        pixels, labels = batch(world, range(step * batch_size, (step + 1) * batch_size), config.seed)
        value = model(pixel_values=pixels.to(device), labels=labels.to(device)).loss
        return value, {}

    def validate(_: int) -> dict[str, float]:
        return {"held_out_iou": mean_iou(Segmenter(model), held_out, 128)}

    fit(model, loss, config, validate=_frozen(model, validate))
    _calibrate(model, world, batch_size, config.seed)
    return model.cpu().eval()


def batch(world: PuppetWorld, indices: range, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures as `matting.Segmenter` gives them to the network, [B, 3, 96, 96], and labels [B, 96, 96]."""
    pixels, labels = [], []
    for index in indices:
        picture, mask = example(world, index, np.random.default_rng((seed, index)))
        pixels.append(to_pixels(picture, SIZE))
        square = Image.fromarray(mask).resize((SIZE, SIZE), Image.Resampling.NEAREST)
        labels.append(torch.from_numpy(np.array(square)).long())
    return torch.cat(pixels), torch.stack(labels)


def mean_iou(segmenter: Segmenter, world: PuppetWorld, num_pictures: int) -> float:
    """Mean over pictures of intersection over union of the cut and the true mask, at the pictures' own size."""
    scores = []
    for index in range(num_pictures):
        picture, mask = example(world, index, np.random.default_rng(index))
        found = segmenter.cut(picture)
        scores.append((found & mask).sum() / (found | mask).sum())
    return float(np.mean(scores))


def save(model: SegformerForSemanticSegmentation, folder: Path) -> None:
    """An ordinary folder of transformers, bf16; `matting.Segmenter.from_pretrained` is the inverse."""
    Segmenter(deepcopy(model).bfloat16()).save_pretrained(folder)


def load(folder: Path) -> Segmenter:
    """The matter of a folder that `save` wrote, float32."""
    return Segmenter.from_pretrained(folder)


def _piece(
    sample: Sample, subject: Subject, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The first frame around the subject's box, as a crop is made in the world; whoever else is in it is background."""
    height, width = subject.masks_FYX.shape[1:]
    top, left, bottom, right = (int(side) for side in subject.boxes_F4[0])
    margin = rng.uniform(0.04, 0.14) * max(bottom - top, right - left)
    rows = slice(max(0, int(top - margin)), min(height, int(bottom + margin) + 1))
    columns = slice(max(0, int(left - margin)), min(width, int(right + margin) + 1))
    return sample.frames_FYX3[0, rows, columns], subject.masks_FYX[0, rows, columns]


def _wall(height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A wall of one light colour and, in most, a darker floor."""
    wall = rng.uniform(140, 250, 3)
    picture = np.broadcast_to(wall, (height, width, 3)).copy()
    if rng.random() < 0.6:
        picture[int(rng.uniform(0.6, 0.8) * height) :] *= rng.uniform(0.6, 0.95)
    return picture.astype(np.uint8)


def _frozen(
    model: SegformerForSemanticSegmentation, call: Callable[[int], dict[str, float]]
) -> Callable[[int], dict[str, float]]:
    """The call with the network's batch statistics held."""

    def evaluated(step: int) -> dict[str, float]:
        model.eval()
        try:
            return call(step)
        finally:
            model.train()

    return evaluated


@torch.no_grad()
def _calibrate(
    model: SegformerForSemanticSegmentation, world: PuppetWorld, batch_size: int, seed: int
) -> None:
    # The head's batch norm keeps running statistics of the weights as they were trained; `fit` leaves their average.
    device = next(model.parameters()).device
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over these batches
    model.train()
    for number in range(_CALIBRATION_BATCHES):
        pixels, _ = batch(world, range(number * batch_size, (number + 1) * batch_size), seed)
        model(pixel_values=pixels.to(device))

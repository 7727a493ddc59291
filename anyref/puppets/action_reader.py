"""A reader of actions for the puppet world: what a subject does, from where its mask is in nine frames of a clip.

The smallest of the embedded models: a convolution over time. The captioner needs it, for no single frame tells a jump from standing still. It sees
masks only, and it is told the class: birds fly and balls roll, which is one action here, travelling.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor, nn
from torch.nn import functional

from anyref.puppets.grammar import TRAVEL
from anyref.training.loop import FitConfig, fit
from anyref.worlds import PuppetWorld
from anyref.worlds.identities import LABELS
from anyref.worlds.render import render
from anyref.worlds.scene import Wishes, draw_scene

NUM_FRAMES = 9
READ = (TRAVEL, "jump", "spin", "grow", "shrink", "dance", "float", "fall", "stand", "wave", "bow", "nod")
"""What is told apart; following and swapping places are travelling too."""
_SINGLE = frozenset(READ)
_NUM_FEATURES = 9
_NOISE = 0.01


class ActionReader(nn.Module):
    """Tracks [B, 9, 9 frames] and classes [B] to logits over `READ`."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Embedding(len(LABELS), 32)
        self.first = nn.Conv1d(2 * _NUM_FEATURES, 64, 3, padding=1)
        self.second = nn.Conv1d(64, 96, 3, padding=1)
        self.head = nn.Sequential(nn.Linear(2 * 96 + 32, 128), nn.SiLU(), nn.Linear(128, len(READ)))

    def forward(self, tracks: Tensor, classes: Tensor) -> Tensor:
        """See the class."""
        change = functional.pad(tracks[..., 1:] - tracks[..., :-1], (1, 0))
        hidden = functional.silu(self.first(torch.cat([tracks, 5 * change], dim=1)))
        hidden = functional.silu(self.second(hidden))
        pooled = torch.cat([hidden.mean(dim=2), hidden.amax(dim=2), self.classes(classes)], dim=1)
        logits: Tensor = self.head(pooled)
        return logits


def features(masks_FYX: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[9, F] of masks of one subject: whether it is there, then its place, size, area and second moments, in frame heights."""
    track = np.zeros((_NUM_FEATURES, len(masks_FYX)), np.float32)
    height = masks_FYX.shape[1]
    for frame, mask_YX in enumerate(masks_FYX):
        rows, columns = np.nonzero(mask_YX)
        if len(rows) < 4:
            continue
        y, x = rows / height, columns / height
        track[:, frame] = (
            1.0,
            y.mean(),
            x.mean(),
            np.ptp(y),
            np.ptp(x),
            np.sqrt(len(rows)) / height,
            4 * y.std(),
            4 * x.std(),
            40 * ((y - y.mean()) * (x - x.mean())).mean(),
        )
    return track


def examples(world: PuppetWorld, index: int) -> list[tuple[NDArray[np.float32], int, int]]:
    """(track, class, action) of each subject of clip `index`, the last two as numbers in LABELS and READ."""
    scene = draw_scene(
        Random(f"{world.split}/{world.seed}/{index}"), world.split, world.width / world.height, Wishes()
    )
    drawn = render(scene, world.height, world.width, NUM_FRAMES)
    found = []
    for actor, masks_FYX in zip(scene.actors, drawn.masks_FYX, strict=True):
        action = actor.motion.action if actor.motion.action in _SINGLE else TRAVEL
        found.append((features(masks_FYX), LABELS.index(actor.look.label), READ.index(action)))
    return found


def train(config: FitConfig, batch_size: int = 32, device: str = "cpu") -> ActionReader:
    """Train from nothing on `batch_size` clips a step; returns the reader with averaged weights."""
    torch.manual_seed(config.seed)
    model = ActionReader().to(device)
    world = PuppetWorld("train", seed=config.seed + 99)
    held_out = PuppetWorld("validation", seed=0)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        tracks, classes, actions = batch(world, range(step * batch_size, (step + 1) * batch_size))
        tracks = tracks + _NOISE * torch.randn(tracks.shape, generator=generator) * tracks[:, :1]
        logits = model(tracks.to(device), classes.to(device))
        right = (logits.argmax(dim=1).cpu() == actions).float().mean()
        return functional.cross_entropy(logits, actions.to(device)), {"right": float(right)}

    fit(model, loss, config, validate=lambda _: measure(model, held_out, 200))
    return model.cpu().eval()


def batch(world: PuppetWorld, indices: range) -> tuple[Tensor, Tensor, Tensor]:
    """Tracks [B, 9, 9], classes [B] and actions [B] of all subjects of some clips."""
    drawn = [example for index in indices for example in examples(world, index)]
    tracks = torch.from_numpy(np.stack([track for track, _, _ in drawn]))
    return (
        tracks,
        torch.tensor([label for _, label, _ in drawn]),
        torch.tensor([action for _, _, action in drawn]),
    )


@torch.no_grad()
def measure(model: ActionReader, world: PuppetWorld, num_clips: int) -> dict[str, float]:
    """Share of subjects whose action is read rightly from their true masks."""
    tracks, classes, actions = batch(world, range(num_clips))
    device = next(model.parameters()).device
    read = model(tracks.to(device), classes.to(device)).argmax(dim=1).cpu()
    return {"action": float((read == actions).float().mean())}


@torch.no_grad()
def read_action(model: ActionReader, masks_FYX: NDArray[np.bool_], label: str) -> str:
    """The action of a subject from its masks in nine frames spread over a clip; `label` is one of the world's classes."""
    tracks = torch.from_numpy(features(masks_FYX))[None]
    return READ[int(model(tracks, torch.tensor([LABELS.index(label)])).argmax())]


def spread(count: int) -> Sequence[int]:
    """Indices of nine frames spread over `count`, first and last included."""
    return [int(index) for index in np.linspace(0, count - 1, NUM_FRAMES).round()]


def save(model: ActionReader, folder: Path) -> None:
    """A folder: config.json (what is read) and model.safetensors (bf16)."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.bfloat16().contiguous() for name, value in model.state_dict().items()}
    # `save_file` makes files that only their owner can read.
    (folder / "model.safetensors").write_bytes(serialise(weights))
    (folder / "config.json").write_text(json.dumps({"actions": READ, "classes": LABELS}) + "\n")


def load(folder: Path) -> ActionReader:
    """The reader `save` wrote, float32."""
    model = ActionReader()
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model.eval()

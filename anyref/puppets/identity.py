"""An identity encoder for the puppet world: pictures of the same subject lie close, of others of its class far apart.

A small convolutional network trained contrastively on real clips of training identities: a piece of a frame against reference pictures of
the subject, of three others of its class, of two that look much like it, and of everybody else in the batch. It never sees a generated
frame, so it can judge them.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from anyref.references import Reference, composite_on
from anyref.training.loop import FitConfig, fit
from anyref.worlds import PuppetWorld

SIZE = 64
DISTRACTORS, LOOKALIKES = 3, 2
"""Others of the subject's class at random, and others that share most traits with it, of any class: colours alone tell nobody."""
WHOLE_FRAMES = 0.4
"""Share of single-subject samples that show the whole frame, as videos are judged."""
Picture = NDArray[np.uint8]


class IdentityEncoder(nn.Module):
    """Pictures [B, 3, 64, 64] in [-1, 1] to unit vectors [B, 96]."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 192)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.GroupNorm(8, after),
                nn.SiLU(),
                nn.Conv2d(after, after, 3, padding=1, groups=after // 16),
                nn.GroupNorm(8, after),
                nn.SiLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1], 96)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        features = self.body(pictures)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        return functional.normalize(self.head(pooled).float(), dim=-1)


def prepare(picture: Picture) -> Picture:
    """Squeeze a picture, cut-outs on white, into the encoder's square without changing its proportions: [64, 64, 3]."""
    image = Image.fromarray(composite_on(Reference(picture)))
    image.thumbnail((SIZE, SIZE), Image.Resampling.BOX)
    if max(image.size) < SIZE:
        scale = SIZE / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    square = Image.new("RGB", (SIZE, SIZE), (255, 255, 255))
    square.paste(image, ((SIZE - image.width) // 2, (SIZE - image.height) // 2))
    return np.asarray(square)


def to_tensor(pictures: list[Picture]) -> Tensor:
    """Prepared pictures as a float batch in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def piece(frame: Picture, box: NDArray[np.int32], rng: np.random.Generator, reach: float) -> Picture:
    """A random piece of a frame that contains the box, grown by up to `reach` (1: to the whole frame); softened, as generated frames are."""
    height, width, _ = frame.shape
    top, left, bottom, right = (int(side) for side in box)
    grown = rng.random(4) * reach
    top, left = int(top * (1 - grown[0])), int(left * (1 - grown[1]))
    bottom, right = bottom + round((height - bottom) * grown[2]), right + round((width - right) * grown[3])
    cut = Image.fromarray(frame[top:bottom, left:right])
    if rng.random() < 0.5:
        factor = rng.uniform(0.35, 1.0)
        small = cut.resize(
            (max(2, round(cut.width * factor)), max(2, round(cut.height * factor))), Image.Resampling.BOX
        )
        cut = small.resize(cut.size, Image.Resampling.BILINEAR)
    return np.asarray(cut)


def train(config: FitConfig, batch_size: int = 48, device: str = "cpu") -> IdentityEncoder:
    """Train from nothing; returns the encoder with averaged weights."""
    torch.manual_seed(config.seed)
    encoder = IdentityEncoder().to(device)
    world = PuppetWorld("train", seed=config.seed + 77, num_frames=5)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:  # noqa: ARG001
        pieces, pictures = [], []
        for index in range(step * batch_size, (step + 1) * batch_size):
            rng = np.random.default_rng((config.seed, index))
            sample = world.clip(index, background_reference=False, clothing_reference=False)
            subject = sample.subjects[rng.integers(len(sample.subjects))]
            seen = [frame for frame in range(len(subject.boxes_F4)) if subject.masks_FYX[frame].sum() > 60]
            frame = (
                seen[rng.integers(len(seen))] if seen else int(subject.masks_FYX.sum(axis=(1, 2)).argmax())
            )
            # With company in the frame the piece stays close to the subject, or it would show the others too.
            reach = 1.0 if len(sample.subjects) == 1 else 0.15
            box = subject.boxes_F4[frame]
            if len(sample.subjects) == 1 and rng.random() < WHOLE_FRAMES:
                box = np.array([0, 0, *sample.frames_FYX3.shape[1:3]], dtype=np.int32)
            pieces.append(prepare(piece(sample.frames_FYX3[frame], box, rng, reach)))
            own = subject.references[int(rng.random() < 0.15)]
            others = [
                *world.distractors(subject, DISTRACTORS, index, unlike=False),
                *world.lookalikes(subject, LOOKALIKES, index),
            ]
            pictures += [prepare(variant.image) for variant in (own, *others)]
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            vectors = encoder(to_tensor(pieces + pictures).to(device))
        score = encoder.log_scale.clamp(max=4.0).exp() * vectors[:batch_size] @ vectors[batch_size:].T
        target = torch.arange(batch_size, device=device) * (1 + DISTRACTORS + LOOKALIKES)
        right = float((score.argmax(dim=1) == target).float().mean())
        return functional.cross_entropy(score, target), {"right": right}

    fit(encoder, loss, config)
    return encoder.cpu().eval()


def save(encoder: IdentityEncoder, path: Path) -> None:
    """bf16 safetensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.bfloat16().contiguous() for name, value in encoder.state_dict().items()}, path)


def load(path: Path) -> IdentityEncoder:
    """The encoder `save` wrote, float32."""
    encoder = IdentityEncoder()
    encoder.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return encoder.eval()

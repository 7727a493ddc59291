"""Train CLIP's image tower: pictures of a canvas against a sentence that says who is on it.

As CLIP: two towers, cosine similarities of a batch, cross-entropy in both directions with a learned temperature. The text tower is thrown
away afterwards. The sentences name every attribute of each subject (its identity), so that the tower learns to see them.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionModel, PreTrainedTokenizerFast

from anyref.encoders import Encoders
from anyref.latents import VideoShape
from anyref.methods.magref import MagrefMethod, compose
from anyref.puppets.models import IMAGE_WIDTH, build_text_encoder, build_tokenizer
from anyref.training.loop import FitConfig, fit
from anyref.worlds import PuppetWorld


class TwoTowers(nn.Module):
    """Image tower, text tower and their projections to one space."""

    def __init__(self, image_tower: CLIPVisionModel, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.image_tower = image_tower
        self.text_tower = build_text_encoder(tokenizer)
        self.image_projection = nn.Linear(IMAGE_WIDTH, IMAGE_WIDTH, bias=False)
        self.text_projection = nn.Linear(IMAGE_WIDTH, IMAGE_WIDTH, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(2.66))  # CLIP: 1 / 0.07

    def similarities(self, pixels: Tensor, token_ids: Tensor, real: Tensor) -> Tensor:
        """[B, B]: each picture against each sentence, scaled."""
        seen = self.image_tower(pixel_values=pixels, output_hidden_states=True)
        # The transformer reads the last hidden state but one, so that is what has to tell pictures apart.
        image = self.image_projection(seen.hidden_states[-2][:, 1:].mean(dim=1) + seen.pooler_output)
        hidden = self.text_tower(token_ids, real).last_hidden_state
        text = (hidden * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True)
        image = functional.normalize(image.float(), dim=-1)
        text = functional.normalize(self.text_projection(text).float(), dim=-1)
        return self.log_scale.clamp(max=4.6).exp() * image @ text.T


def picture(world: PuppetWorld, index: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], str]:
    """A canvas of a clip's references and the sentence for it, in the order of the slots."""
    sample = world.clip(index)
    references = MagrefMethod(cross_pair_probability=0.8).training_references(sample, rng)
    height, width, _ = sample.frames_FYX3.shape[1:]
    words = " and ".join(
        (reference.name or "").replace("/", " ").replace("-", " ") for reference in references
    )
    return compose(references, height, width).image_YX3, words


def train(tower: CLIPVisionModel, config: FitConfig, shape: VideoShape, batch_size: int = 64) -> None:
    """Train the tower in place."""
    device = next(tower.parameters()).device
    world = PuppetWorld("train", seed=config.seed + 1, height=shape.height, width=shape.width, num_frames=1)
    sentences = [picture(world, index, np.random.default_rng(index))[1] for index in range(2000)]
    tokenizer = build_tokenizer(sentences)
    model = TwoTowers(tower, tokenizer).to(device)
    held_out = PuppetWorld("validation", seed=0, height=shape.height, width=shape.width, num_frames=1)

    def similarities(source: PuppetWorld, first: int, count: int) -> Tensor:
        drawn = [
            picture(source, index, np.random.default_rng(index)) for index in range(first, first + count)
        ]
        pixels = torch.from_numpy(np.stack([image for image, _ in drawn])).permute(0, 3, 1, 2).float()
        tokens = tokenizer([words for _, words in drawn], padding=True, return_tensors="pt")
        size = tower.config.image_size
        with torch.autocast(device.type, torch.bfloat16):
            return model.similarities(
                Encoders.normalise_pixels(pixels.to(device) / 127.5 - 1, size),
                tokens.input_ids.to(device),
                tokens.attention_mask.to(device),
            )

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:  # noqa: ARG001
        scores = similarities(world, step * batch_size, batch_size)
        target = torch.arange(batch_size, device=device)
        value = (functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)) / 2
        return value, {}

    @torch.no_grad()
    def validate(_: int) -> dict[str, float]:
        scores = similarities(held_out, 0, 128)
        right = scores.argmax(dim=1) == torch.arange(128, device=device)
        return {"retrieval_of_128": float(right.float().mean())}

    fit(model, loss, config, validate=validate)

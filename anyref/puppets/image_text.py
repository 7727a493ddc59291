"""An image-text encoder for the puppet world: frames near their captions, pictures near the words for who is on them.

A CLIPModel of the real class, a hundred times smaller than ViT-B/32, trained as CLIP was: cosines of a batch, cross-entropy in both directions
with a learned temperature. Each clip gives two pairs, a frame and a subject; only pairs of the same sort are told apart, and equal
sentences are equally right.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPVisionModel, PreTrainedTokenizerFast

from anyref.puppets.models import build_tokenizer, initialise
from anyref.references import Reference, composite_on
from anyref.training.loop import FitConfig, fit
from anyref.worlds import PuppetWorld, captions, pictures
from anyref.worlds.dataset import boxes_of
from anyref.worlds.identities import LABELS, SETTINGS, STICKER, Creature, Look, Person
from anyref.worlds.render import Clip, render
from anyref.worlds.scene import Scene, Wishes, draw_scene

SIZE = 64
"""Every picture is squeezed into a square of this side."""
CANDIDATES = 8
NUM_FRAMES = 5
_WIDTH = 128
_MAX_TOKENS = 64
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_PLACES, _PLAIN, _CROPS, _SOFT = 0.3, 0.4, 0.5, 0.3
SORTS = ("caption", "place", "portrait", "class")


@dataclass(frozen=True)
class Pair:
    """A picture, uint8 RGB [Y, X, 3], a sentence about it, and which of `SORTS` the sentence is."""

    picture: NDArray[np.uint8]
    text: str
    sort: str


@dataclass(frozen=True)
class Towers:
    """The model and its tokenizer."""

    model: CLIPModel
    tokenizer: PreTrainedTokenizerFast

    @torch.no_grad()
    def encode_pictures(self, seen: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Unit vectors [n, 128] of pictures of any size, uint8 RGB."""
        device = self.model.logit_scale.device
        vectors = [
            _unit(self.model.get_image_features(to_pixels(seen[first : first + 64]).to(device)))
            for first in range(0, len(seen), 64)
        ]
        found: NDArray[np.float32] = torch.cat(vectors).cpu().numpy()
        return found

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors [n, 128]; of a text, the first 64 tokens."""
        device = self.model.logit_scale.device
        tokens = _tokens(self.tokenizer, texts)
        vectors = _unit(
            self.model.get_text_features(tokens[0].to(device), attention_mask=tokens[1].to(device))
        )
        found: NDArray[np.float32] = vectors.cpu().numpy()
        return found


def build(tokenizer: PreTrainedTokenizerFast) -> CLIPModel:
    """The model with random weights: 64 x 64 pictures in 64 patches, 4 layers; text in 2."""
    tower = {
        "hidden_size": _WIDTH,
        "intermediate_size": 2 * _WIDTH,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
        "projection_dim": _WIDTH,
    }
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "num_hidden_layers": 2,
            "max_position_embeddings": _MAX_TOKENS,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 1,
        },
        vision_config={**tower, "image_size": SIZE, "patch_size": 8, "num_hidden_layers": 4},
        projection_dim=_WIDTH,
    )
    return CLIPModel(config)


def build_words() -> PreTrainedTokenizerFast:
    """A tokenizer in which each word of the world is about one token; any text has tokens."""
    world = PuppetWorld("train", seed=0, num_frames=1)
    texts = []
    for index in range(1500):
        chance, scene = _scene(world, index)
        texts += [
            captions.write_caption(chance, scene).text,
            *(portrait(actor.look) for actor in scene.actors),
        ]
    return build_tokenizer(texts, size=512)


def to_pixels(seen: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures of any size as [n, 3, 64, 64] in CLIP's colours."""
    squares = [
        np.asarray(Image.fromarray(one).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for one in seen
    ]
    pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_STD).view(3, 1, 1)


def pairs(world: PuppetWorld, index: int, rng: np.random.Generator) -> tuple[Pair, Pair]:
    """Of clip `index`: a frame with its caption or its place, and a subject with its portrait in words or its class."""
    chance, scene = _scene(world, index)
    caption = captions.write_caption(chance, scene).text
    drawn = render(scene, world.height, world.width, NUM_FRAMES)
    frame = _softened(drawn.frames_FYX3[rng.integers(NUM_FRAMES)], rng)
    if rng.random() < _PLACES:
        first = Pair(frame, place(scene.setting.label, scene.night, int(rng.integers(6))), "place")
    else:
        first = Pair(frame, caption, "caption")
    number = int(rng.integers(len(scene.actors)))
    look = scene.actors[number].look
    picture = _softened(_picture(world, scene, drawn, number, rng), rng)
    if rng.random() < _PLAIN:
        return first, Pair(picture, named(look.label, int(rng.integers(2))), "class")
    return first, Pair(picture, portrait(look), "portrait")


def portrait(look: Look) -> str:
    """A look in words that tell it from others of its class, as far as the world's words go."""
    if isinstance(look, Person):
        words = f"a {look.label} in a {look.shirt} shirt and {look.bottom} {look.bottom_style}"
        return words + (f" with a {look.hat} hat" if look.hat_style != "none" else "")
    if isinstance(look, Creature):
        return f"a {look.main} and {look.second} {look.label}"
    return named(look.label, 0)


def named(label: str, wording: int) -> str:
    """A class with its article, one of two wordings."""
    article = "an" if label[0] in "aeiou" else "a"
    if label == STICKER:
        return ("a sticker", "a picture")[wording]
    return f"{article} {label}" if wording == 0 else f"the {label}"


def place(label: str, night: bool, wording: int = 0) -> str:
    """A setting and a time of day, one of six wordings."""
    where = captions.PLACES[label][wording % 2]
    return f"{where[0]} {where[1]} {captions.TIMES[night][wording // 2]}."


def train(
    config: FitConfig, batch_size: int = 48, device: str = "cpu", image_tower: Path | None = None
) -> Towers:
    """Train on `batch_size` clips a step; returns the towers with averaged weights.

    From nothing, or with the image tower of a folder, the recipe's `shared/image_encoder`, which knows the world's looks already.
    """
    torch.manual_seed(config.seed)
    tokenizer = build_words()
    model = build(tokenizer)
    initialise(model, config.seed + 7)
    with torch.no_grad():
        model.logit_scale.fill_(2.66)  # CLIP: 1 / 0.07
    if image_tower is not None:
        begun = CLIPVisionModel.from_pretrained(image_tower, dtype=torch.float32)
        model.vision_model.load_state_dict(begun.state_dict())
    model.to(device).train()
    towers = Towers(model, tokenizer)
    world = PuppetWorld("train", seed=config.seed + 88)
    held_out = PuppetWorld("validation", seed=0)

    def loss(step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:  # noqa: ARG001
        drawn: list[Pair] = []
        for index in range(step * batch_size, (step + 1) * batch_size):
            drawn += pairs(world, index, np.random.default_rng((config.seed, index)))
        tokens, real = _tokens(tokenizer, [pair.text for pair in drawn])
        pixels = to_pixels([pair.picture for pair in drawn])
        seen = model.get_image_features(pixels.to(device))
        read = model.get_text_features(tokens.to(device), attention_mask=real.to(device))
        scores = model.logit_scale.clamp(max=4.0).exp() * _unit(seen) @ _unit(read).T
        return contrast(scores, drawn)

    def validate(_: int) -> dict[str, float]:
        return measure(towers, held_out, 96)

    fit(model, loss, config, validate=validate)
    return Towers(model.cpu().eval(), tokenizer)


def contrast(scores: Tensor, drawn: Sequence[Pair]) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy in both directions within each sort, [n, n] scores of pictures against texts; equal texts share the target."""
    total, right = scores.new_zeros(()), {}
    for sort in SORTS:
        chosen = [index for index, pair in enumerate(drawn) if pair.sort == sort]
        if len(chosen) < 2:
            continue
        part = scores[chosen][:, chosen]
        texts = [drawn[index].text for index in chosen]
        numbers = torch.tensor([texts.index(text) for text in texts], device=scores.device)
        same = (numbers[:, None] == numbers[None]).float()
        target = same / same.sum(dim=1, keepdim=True)
        both = functional.cross_entropy(part, target) + functional.cross_entropy(part.T, target)
        total = total + both * len(chosen) / (2 * len(drawn))
        hits = same[torch.arange(len(chosen), device=scores.device), part.argmax(dim=1)]
        right[sort] = float(hits.mean())
    return total, right


def measure(towers: Towers, world: PuppetWorld, num_clips: int) -> dict[str, float]:
    """Scores on clips and reference pictures of a world; chance in brackets.

    caption: the mean vector of five frames is nearest to the clip's caption among eight clips' (1/8); frame: one frame is, likewise;
    video: the caption is nearest to its clip among eight (1/8); class: a cross reference is nearest to its class among the 29 (1/29);
    setting: five frames to the place among 11 (1/11), at whichever time; time: day or night (1/2).
    """
    scenes = [_scene(world, index) for index in range(num_clips)]
    texts = towers.encode_texts([captions.write_caption(chance, scene).text for chance, scene in scenes])
    drawn = [render(scene, world.height, world.width, NUM_FRAMES).frames_FYX3 for _, scene in scenes]
    frames = towers.encode_pictures([frame for one in drawn for frame in one]).reshape(
        num_clips, NUM_FRAMES, -1
    )
    videos = frames.mean(axis=1)
    rng = np.random.default_rng(0)
    rows = [np.array([one, *_others(rng, num_clips, one)]) for one in range(num_clips)]
    looks = [scene.actors[0].look for _, scene in scenes]
    portraits = towers.encode_pictures(
        [
            composite_on(
                Reference(pictures.cross_reference(Random(index), look, world.height, world.split).image)
            )
            for index, look in enumerate(looks)
        ]
    )
    classes = towers.encode_texts([named(label, 0) for label in LABELS])
    places = [(label, night) for label in SETTINGS for night in (False, True)]
    where = videos @ towers.encode_texts([place(*one) for one in places]).T
    guessed = [places[index] for index in where.argmax(axis=1)]
    truth = [(scene.setting.label, scene.night) for _, scene in scenes]
    return {
        "caption": float(np.mean([(texts[row] @ videos[row[0]]).argmax() == 0 for row in rows])),
        "frame": float(np.mean([(texts[row] @ frames[row[0], 2]).argmax() == 0 for row in rows])),
        "video": float(np.mean([(videos[row] @ texts[row[0]]).argmax() == 0 for row in rows])),
        "class": float(
            np.mean(
                [
                    LABELS[index] == look.label
                    for index, look in zip((portraits @ classes.T).argmax(1), looks, strict=True)
                ]
            )
        ),
        "setting": float(np.mean([one[0] == other[0] for one, other in zip(guessed, truth, strict=True)])),
        "time": float(np.mean([one[1] == other[1] for one, other in zip(guessed, truth, strict=True)])),
    }


def save(towers: Towers, folder: Path) -> None:
    """An ordinary folder of transformers: the model in bf16 and its tokenizer."""
    deepcopy(towers.model).bfloat16().save_pretrained(folder)
    towers.tokenizer.save_pretrained(folder)


def load(folder: Path) -> Towers:
    """The towers that `save` wrote, float32."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    return Towers(model, PreTrainedTokenizerFast.from_pretrained(folder))


def _scene(world: PuppetWorld, index: int) -> tuple[Random, Scene]:
    """The scene of `world.clip(index)`, and the chance that its caption is drawn with."""
    chance = Random(f"{world.split}/{world.seed}/{index}")
    return chance, draw_scene(chance, world.split, world.width / world.height, Wishes())


def _picture(
    world: PuppetWorld, scene: Scene, drawn: Clip, number: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """A subject: a piece of a frame around it, or a reference picture, cut-outs on white."""
    masks_FYX = drawn.masks_FYX[number]
    frame = int(rng.integers(NUM_FRAMES))
    if rng.random() < _CROPS and masks_FYX[frame].sum() > 60:
        top, left, bottom, right = (int(side) for side in boxes_of(masks_FYX)[frame])
        margin = int(rng.uniform(0.0, 0.15) * max(bottom - top, right - left))
        rows = slice(max(0, top - margin), bottom + margin)
        piece = drawn.frames_FYX3[frame, rows, max(0, left - margin) : right + margin]
        return np.ascontiguousarray(piece)
    look = scene.actors[number].look
    chance = Random(int(rng.integers(2**31)))
    return composite_on(Reference(pictures.cross_reference(chance, look, world.height, world.split).image))


def _softened(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    if rng.random() >= _SOFT:
        return picture
    image = Image.fromarray(picture)
    factor = rng.uniform(0.4, 1.0)
    small = image.resize(
        (max(2, round(image.width * factor)), max(2, round(image.height * factor))), Image.Resampling.BOX
    )
    return np.asarray(small.resize(image.size, Image.Resampling.BILINEAR))


def _others(rng: np.random.Generator, count: int, own: int) -> NDArray[np.int64]:
    drawn: NDArray[np.int64] = rng.choice(
        [index for index in range(count) if index != own], CANDIDATES - 1, False
    )
    return drawn


def _tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    read = tokenizer(list(texts), padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
    return read.input_ids, read.attention_mask


def _unit(features: object) -> Tensor:
    # transformers 5 wraps the projected vector; earlier ones return it.
    vectors = getattr(features, "pooler_output", features)
    assert isinstance(vectors, Tensor)
    return functional.normalize(vectors.float(), dim=-1)

"""The frozen encoders: video <-> latents, prompt -> text context, image -> image context.

What enters: float32 images and videos in [-1, 1], and strings. What leaves: normalised latents [B, C, T, H,
W] in float32, a `TextContext`, and image features [B, S, D]. Wan's conventions: the VAE's posterior mode,
normalised per channel; UMT5 with 512 tokens, zeros past the prompt's end, all of them attended to; CLIP's
last hidden state but one.
"""

import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from diffusers.utils.torch_utils import get_module_execution_device
from torch import Tensor
from torch.nn import functional

from anyref.latents import TextContext

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clean_prompt(prompt: str) -> str:
    """As Wan cleans it: ftfy where it is installed, HTML entities, runs of white space."""
    if find_spec("ftfy") is not None:
        prompt = import_module("ftfy").fix_text(prompt)
    return " ".join(html.unescape(html.unescape(prompt)).split())


def find_phrase(prompt: str, phrase: str, occurrence: int = 0) -> tuple[int, int] | None:
    """(start, end) in characters of `clean_prompt(prompt)` where the phrase stands as whole words, ignoring
    case; None where it does not.
    """
    words = r"\s+".join(re.escape(word) for word in clean_prompt(phrase).split())
    if not words:
        return None
    text = clean_prompt(prompt)
    found = [match.span() for match in re.finditer(rf"(?<!\w){words}(?!\w)", text, re.IGNORECASE)]
    if not found and not phrase.isascii():
        # Scripts that do not put spaces between words have no whole words to look for.
        found = [match.span() for match in re.finditer(words, text, re.IGNORECASE)]
    return found[occurrence] if occurrence < len(found) else None


def text_context(text: TextContext | Tensor, device: torch.device, dtype: torch.dtype) -> TextContext:
    """A text context, or its tokens in the released layout, on a device; the bias stays float32."""
    if isinstance(text, Tensor):
        text = TextContext(text)
    return TextContext(
        text.tokens_BSD.to(device, dtype), None if text.bias_BS is None else text.bias_BS.to(device)
    )


def concatenate_text(contexts: Sequence[TextContext]) -> TextContext:
    """Text contexts of several prompts, or of both sides of guidance, as one batch; shorter ones are padded
    with hidden tokens.
    """
    length = max(context.tokens_BSD.shape[1] for context in contexts)
    tokens, biases = [], []
    for context in contexts:
        rows, count, _ = context.tokens_BSD.shape
        bias = context.bias_BS
        if bias is None:
            bias = torch.zeros(rows, count, device=context.tokens_BSD.device)
        tokens.append(functional.pad(context.tokens_BSD, (0, 0, 0, length - count)))
        biases.append(functional.pad(bias, (0, length - count), value=-math.inf))
    plain = all(context.bias_BS is None and context.tokens_BSD.shape[1] == length for context in contexts)
    return TextContext(torch.cat(tokens), None if plain else torch.cat(biases))


@dataclass(frozen=True)
class Encoders:
    """VAE, text encoder with its tokenizer, and CLIP's image tower where the method needs one.

    `fold_padding`: the zero tokens past the prompt's end are all equal, so one of them with the bias log(how
    many) gives the same attention at a fraction of the cost. False: all `max_sequence_length` tokens are
    there, as in the release. The VAE keeps state while it works: not for several threads at once. `matter`
    cuts subjects out for a method that wants them without their background (`matting.Matter`); None: only
    images that bring a mask or transparency can be cut out.
    """

    vae: Any
    text_encoder: Any
    tokenizer: Any
    image_encoder: Any | None = None
    fold_padding: bool = True
    max_sequence_length: int = 512
    matter: Any | None = None

    @torch.no_grad()
    def encode_video(self, video_BCFYX: Tensor) -> Tensor:
        """Video in [-1, 1], 4k + 1 frames, to normalised latents [B, C, T, H, W] in float32: (mode -
        latents_mean) / latents_std.
        """
        device = get_module_execution_device(self.vae)
        posterior = self.vae.encode(video_BCFYX.to(device, self.vae.dtype)).latent_dist
        mean, std = self._statistics(device)
        latents: Tensor = (posterior.mode().float() - mean) / std
        return latents

    @torch.no_grad()
    def decode_latents(self, latents_BCTHW: Tensor) -> Tensor:
        """Normalised latents to video [B, 3, F, Y, X], float32 in [-1, 1], clamped."""
        device = get_module_execution_device(self.vae)
        mean, std = self._statistics(device)
        latents = latents_BCTHW.to(device, torch.float32) * std + mean
        video: Tensor = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0]
        return video.float()

    def encode_text(self, prompts: Sequence[str]) -> TextContext:
        """Prompts to text tokens [B, S, D] in the text encoder's dtype.

        Unfolded: S = max_sequence_length, zeros past each prompt's end, no bias. Folded: S = the longest
        prompt's tokens + 1; after each prompt's tokens one zero token with bias log(max_sequence_length -
        tokens), then tokens with bias -inf. Longer prompts are cut.
        """
        device = get_module_execution_device(self.text_encoder)
        inputs = self.tokenizer(
            [clean_prompt(prompt) for prompt in prompts],
            padding="longest",
            max_length=self.max_sequence_length,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        # Padding of the encoder's own input is masked in it, so its length changes nothing; the release pads
        # to 512 here too.
        real = inputs.attention_mask.to(device)
        hidden = self.text_encoder(inputs.input_ids.to(device), real).last_hidden_state
        hidden = torch.where(real.bool().unsqueeze(-1), hidden, 0)
        if not self.fold_padding:
            return TextContext(functional.pad(hidden, (0, 0, 0, self.max_sequence_length - hidden.shape[1])))
        lengths = real.sum(dim=1)
        bias = torch.full((len(prompts), hidden.shape[1] + 1), -math.inf, device=device)
        for row, length in enumerate(lengths.tolist()):
            bias[row, :length] = 0
            if length < self.max_sequence_length:
                bias[row, length] = math.log(self.max_sequence_length - length)
        return TextContext(functional.pad(hidden, (0, 0, 0, 1)), bias)

    def num_text_tokens(self, prompts: Sequence[str]) -> int:
        """S of `encode_text(prompts)`, without running the encoder."""
        if not self.fold_padding:
            return self.max_sequence_length
        tokens = self.tokenizer(
            [clean_prompt(prompt) for prompt in prompts], max_length=self.max_sequence_length, truncation=True
        )
        return max(len(row) for row in tokens["input_ids"]) + 1

    def token_span(self, prompt: str, phrase: str, occurrence: int = 0) -> tuple[int, int]:
        """(start, end), half-open, of the phrase's tokens among those of `encode_text([prompt])`.

        The phrase is searched as `find_phrase` does; a token belongs to it if any of its characters do.
        Raises ValueError where the prompt does not contain the phrase, or contains it only past
        max_sequence_length.
        """
        span = find_phrase(prompt, phrase, occurrence)
        if span is None:
            raise ValueError(
                f"the phrase {phrase!r} is not in the prompt {prompt!r}; write it as it stands there"
            )
        assert self.tokenizer.is_fast, "character offsets need a fast tokenizer"
        encoded = self.tokenizer(
            clean_prompt(prompt),
            max_length=self.max_sequence_length,
            truncation=True,
            return_offsets_mapping=True,
        )
        inside = [
            index
            for index, (start, end) in enumerate(encoded["offset_mapping"])
            if start < end and start < span[1] and end > span[0]
        ]
        if not inside:
            raise ValueError(
                f"the phrase {phrase!r} stands past the {self.max_sequence_length} tokens that are read; shorten the prompt"
            )
        return inside[0], inside[-1] + 1

    @torch.no_grad()
    def encode_images(self, images_B3YX: Tensor) -> Tensor:
        """Whole images in [-1, 1], squashed to the tower's square, to features [B, S, D] in float32.

        Release: bicubic without antialiasing, not clamped. diffusers' image processor would crop the centre
        and lose what lies left and right.
        """
        tower = self.image_encoder
        assert tower is not None, "this model folder has no image encoder"
        device = get_module_execution_device(tower)
        pixels = self.normalise_pixels(images_B3YX.to(device, torch.float32), int(tower.config.image_size))
        features: Tensor = tower(
            pixel_values=pixels.to(tower.dtype), output_hidden_states=True
        ).hidden_states[-2]
        return features.float()

    @staticmethod
    def normalise_pixels(images_B3YX: Tensor, size: int) -> Tensor:
        """Images in [-1, 1] squashed to size x size, with CLIP's mean and deviation."""
        images = functional.interpolate(images_B3YX, size=(size, size), mode="bicubic", align_corners=False)
        mean = torch.tensor(_CLIP_MEAN, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(_CLIP_STD, device=images.device).view(1, 3, 1, 1)
        return (images * 0.5 + 0.5 - mean) / std

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        shape = (1, config.z_dim, 1, 1, 1)
        mean = torch.tensor(config.latents_mean, device=device).view(shape)
        return mean, torch.tensor(config.latents_std, device=device).view(shape)

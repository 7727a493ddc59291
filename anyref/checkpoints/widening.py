"""A backbone for a method that reads more channels than the backbone was trained with: new input channels that start at zero.

Saber's references carry a mask and a second copy of their latents (36 channels: Wan2.1-I2V's layout), and so can be trained from a T2V
backbone (16): the weights of the new channels are 0, so that training starts at what the backbone does.
"""

import torch

from anyref.latents import PATCH
from anyref.transformer import AnyRefTransformer, PatchEmbedding


@torch.no_grad()
def widen_input(transformer: AnyRefTransformer, in_channels: int) -> None:
    """Let `transformer` take `in_channels` input channels, in place; what it makes of its present ones, the first, stays.

    Raises ValueError where it takes more already, or carries adapters on its patch embedding.
    """
    narrow, present = transformer.patch_embedding, int(transformer.config.in_channels)
    if in_channels < present:
        raise ValueError(
            f"the transformer takes {present} input channels and {in_channels} were asked for; channels can only be added"
        )
    if type(narrow) is not PatchEmbedding:
        raise ValueError(
            "the transformer's patch embedding is wrapped, as by LoRA; widen the input before adding adapters"
        )
    if in_channels == present:
        return
    weight = narrow.weight
    with torch.device("meta"):
        wide = PatchEmbedding(in_channels, weight.shape[0], kernel_size=PATCH, stride=PATCH)
    zeros = weight.new_zeros(in_channels - present).reshape(1, -1, 1, 1, 1)
    widened = torch.cat([weight, zeros.expand(weight.shape[0], -1, *PATCH)], dim=1)
    wide.weight = torch.nn.Parameter(widened, requires_grad=weight.requires_grad)
    wide.bias = narrow.bias
    transformer.patch_embedding = wide.train(narrow.training)
    transformer.register_to_config(in_channels=in_channels)

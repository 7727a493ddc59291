"""The Wan2.1 transformer over an explicit token sequence.

Positions, visibility, whom references attend to, timestep groups and subject anchors are inputs (TokenSequence); the velocity
of the video's latents comes out. Parameters, their names and the configuration are those of diffusers' WanTransformer3DModel,
so checkpoints load both ways; a plain latent tensor is accepted too, and the model then drops into diffusers' Wan pipelines. It
knows no method: what a reference is, `methods/` decide, and `conditioning.py` joins it to the video.

Letters: G timestep groups, M tokens of latent frame 0, Z text tokens an anchor's span covers; the others as in latents.py.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers import ModelMixin  # noqa: F401 - diffusers wants the name in the module of a pipeline's model
from diffusers.configuration_utils import register_to_config
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel, WanTransformerBlock
from diffusers.utils.peft_utils import apply_lora_scale
from torch import Tensor, nn

from anyref.attention import AnyRefAttnProcessor, BlockContext, ReferenceKeys, RotaryPositions
from anyref.latents import PATCH, TextContext, TokenSequence, unpatchify, video_sequence

CELLS = PATCH[0] * PATCH[1] * PATCH[2]  # latents in one token


class PatchEmbedding(nn.Conv3d):
    """The patch convolution, applied to patches that are cut out already, where it is one matrix product."""

    def forward(self, patches: Tensor) -> Tensor:
        """[n, C, 1, 2, 2] to [n, D, 1, 1, 1], as the convolution would (and 3 to 6 times faster on so many small inputs)."""
        embedded = F.linear(patches.flatten(1), self.weight.flatten(1), self.bias)
        return embedded[:, :, None, None, None]


class ContextCache:
    """Cross-attention keys and values and anchor vectors of every block, kept between the steps of one generation.

    Create one per prompt and conditioning (one for each guidance branch, or one for the batch of both) and pass it to every
    call; it fills itself inside each block on first use. Results with and without it are bit-equal. Not for training.

    Where the sequence has fixed references, their self-attention keys and values are kept, too, and every call but the first
    works on the video's tokens only. That is equal to 1e-6 in float32 (matrix products of other lengths may round otherwise),
    and takes memory: 2 D numbers a block, a reference token and a row of the batch (Wan 14B in bfloat16: 0.8 MB a token, 1.3 GB a
    480 x 832 reference without hidden tokens). `keep_references` False computes them in every step instead, and so does a model on
    which one of diffusers' step caches was enabled before the first call.
    """

    def __init__(self, *, keep_references: bool = True) -> None:
        self.keep_references = keep_references
        self.text_BSD: Tensor | None = None
        self.image_BSD: Tensor | None = None
        self.blocks: list[BlockContext] = []
        self._sources: tuple[object | None, ...] | None = None

    @property
    def holds_references(self) -> bool:
        """Whether every block has its references' keys and values: the next call can do without the tokens."""
        kept = [block.references for block in self.blocks]
        return bool(kept) and all(one is not None and one.key is not None for one in kept)

    def check(self, *sources: object | None) -> None:
        """Raise ValueError if gradients are recorded, or if this cache was filled from other objects than these."""
        if torch.is_grad_enabled():
            raise ValueError(
                "a ContextCache keeps no gradients; use it under torch.no_grad(), or train without it"
            )
        if self._sources is not None and any(a is not b for a, b in zip(self._sources, sources, strict=True)):
            raise ValueError(
                "a ContextCache is filled for one prompt and conditioning; create another for this one"
            )
        self._sources = sources


@dataclass(frozen=True)
class BlockInputs:
    """What every block is given beside tokens, text, modulation and rotary embedding."""

    image_BSD: Tensor | None = None
    """Embedded image context."""
    text_bias_BS: Tensor | None = None
    visible_BL: Tensor | None = None
    """Of all keys: reference tokens are in it even where the cache has them."""
    num_video: int | None = None
    """Tokens from this one on are references that attend to one another only; None: every token attends to all."""
    run_lengths: tuple[int, ...] | None = None
    """Tokens are modulated in consecutive runs of these lengths; None: all by one group, or each by its own."""
    region_BMR: Tensor | None = None
    """Anchor regions times the anchors' strength."""
    span_BRZ: Tensor | None = None


class AnyRefBlock(WanTransformerBlock):  # type: ignore[misc]
    """One transformer block: anchors, self-attention, cross-attention, feed-forward."""

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        num_heads: int,
        qk_norm: str | None = "rms_norm_across_heads",
        cross_attn_norm: bool = False,
        eps: float = 1e-6,
        added_kv_proj_dim: int | None = None,
    ) -> None:
        super().__init__(dim, ffn_dim, num_heads, qk_norm, cross_attn_norm, eps, added_kv_proj_dim)
        self.attn1.set_processor(AnyRefAttnProcessor())
        self.attn2.set_processor(AnyRefAttnProcessor())

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        rotary_emb: Tensor,
        inputs: BlockInputs,
        context: BlockContext | None = None,
    ) -> Tensor:
        """Tokens [B, L, D] to tokens, with embedded text [B, S, D] and modulation [B, G, 6, D].

        `context` keeps the projected text and image for the next call. The arguments' names are diffusers', for its hooks.
        """
        if context is None:
            context = BlockContext()
        if context.key is None:
            context.project(self.attn2, encoder_hidden_states, inputs.image_BSD, inputs.span_BRZ)
        runs = inputs.run_lengths
        modulation_BG6D = self.scale_shift_table[:, None] + temb.float()
        shift, scale, gate, ff_shift, ff_scale, ff_gate = modulation_BG6D.unbind(2)

        # MAGREF eq. 5-6; the paper does not say where in the layer: we add to the block's input.
        if inputs.region_BMR is not None:
            assert context.anchor_BRD is not None
            num_anchored = inputs.region_BMR.shape[1]
            anchored = hidden_states[:, :num_anchored] + inputs.region_BMR @ context.anchor_BRD
            hidden_states = torch.cat([anchored, hidden_states[:, num_anchored:]], dim=1)

        normed = _modulate(self.norm1(hidden_states.float()), scale, shift, runs).type_as(hidden_states)
        attended = self.attn1(
            normed,
            None,
            inputs.visible_BL,
            rotary_emb,
            num_video=inputs.num_video,
            references=context.references,
        )
        hidden_states = _add_gated(hidden_states, attended, gate, runs)

        normed = self.norm2(hidden_states.float()).type_as(hidden_states)
        hidden_states = hidden_states + self.attn2(normed, None, inputs.text_bias_BS, None, context=context)

        normed = _modulate(self.norm3(hidden_states.float()), ff_scale, ff_shift, runs).type_as(hidden_states)
        return _add_gated(hidden_states, self.ffn(normed), ff_gate, runs)


def _modulate(
    normed_BLD: Tensor, scale_BGD: Tensor, shift_BGD: Tensor, runs: tuple[int, ...] | None
) -> Tensor:
    """Scale and shift, broadcast if `runs` is None, else group by group over consecutive runs of tokens."""
    if runs is None:
        return normed_BLD * (1 + scale_BGD) + shift_BGD
    groups = zip(
        torch.split(normed_BLD, list(runs), dim=1), scale_BGD.unbind(1), shift_BGD.unbind(1), strict=True
    )
    return torch.cat([part * (1 + scale[:, None]) + shift[:, None] for part, scale, shift in groups], dim=1)


def _add_gated(
    hidden_BLD: Tensor, update_BLD: Tensor, gate_BGD: Tensor, runs: tuple[int, ...] | None
) -> Tensor:
    """Residual sum in float32, the update times its group's gate."""
    if runs is None:
        update_BLD = update_BLD * gate_BGD
    else:
        groups = zip(torch.split(update_BLD, list(runs), dim=1), gate_BGD.unbind(1), strict=True)
        update_BLD = torch.cat([part * gate[:, None] for part, gate in groups], dim=1)
    return (hidden_BLD.float() + update_BLD).type_as(hidden_BLD)


# First-block cache, MagCache and layer skipping look a block's class up.
TransformerBlockRegistry.register(
    AnyRefBlock,
    TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None),
)


class AnyRefTransformer(WanTransformer3DModel):  # type: ignore[misc]
    """Wan2.1's transformer, T2V or I2V, over token sequences."""

    _repeated_blocks: ClassVar = ["AnyRefBlock"]
    _no_split_modules: ClassVar = ["AnyRefBlock"]
    _cp_plan: ClassVar = {
        "rope": {0: ContextParallelInput(split_dim=1, expected_dims=5, split_output=True)},
        "blocks.0": {"hidden_states": ContextParallelInput(split_dim=1, expected_dims=3, split_output=False)},
        "proj_out": ContextParallelOutput(gather_dim=1, expected_dims=3),
    }

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(  # noqa: PLR0913, PLR0917 - diffusers' configuration
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
    ) -> None:
        """WanTransformer3DModel's arguments; the defaults are T2V-14B. `rope_max_seq_len` is kept, but limits nothing here."""
        if tuple(patch_size) != PATCH:
            raise ValueError(
                f"patch_size is {tuple(patch_size)}; only Wan2.1's (1, 2, 2) is supported, use such a checkpoint"
            )
        super().__init__(  # by keyword: diffusers takes the others for defaults, and from_config would drop them
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            qk_norm=qk_norm,
            eps=eps,
            image_dim=image_dim,
            added_kv_proj_dim=added_kv_proj_dim,
            rope_max_seq_len=rope_max_seq_len,
            pos_embed_seq_len=pos_embed_seq_len,
        )
        self.blocks = nn.ModuleList()  # diffusers' blocks are freed before ours are made
        width = num_attention_heads * attention_head_dim
        self.rope = RotaryPositions(attention_head_dim)
        self.patch_embedding = PatchEmbedding(in_channels, width, kernel_size=PATCH, stride=PATCH)
        self.blocks = nn.ModuleList(
            AnyRefBlock(width, ffn_dim, num_attention_heads, qk_norm, cross_attn_norm, eps, added_kv_proj_dim)
            for _ in range(num_layers)
        )

    @apply_lora_scale("attention_kwargs")  # type: ignore[untyped-decorator]
    def forward(
        self,
        hidden_states: Tensor | TokenSequence,
        timestep: Tensor | None = None,
        encoder_hidden_states: Tensor | TextContext | None = None,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,  # noqa: ARG002 - the decorator applies its LoRA scale
        *,
        cache: ContextCache | None = None,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Velocity [B, C, T, H, W] of the video's latents, as `.sample` (or in a tuple if not `return_dict`).

        Either `hidden_states` is a TokenSequence, which carries its timesteps and image context; or it is a latent tensor
        [B, C, T, H, W] with a `timestep` [B] (or [B, L], one for each token) and `encoder_hidden_states_image`, as in
        diffusers. The text is a TextContext or its tokens [B, S, D]. `attention_kwargs={"scale": s}` scales LoRA layers.
        """
        sequence = hidden_states
        if isinstance(sequence, Tensor):
            assert timestep is not None, "latents without a timestep"
            sequence = video_sequence(sequence, timestep, encoder_hidden_states_image)
        assert encoder_hidden_states is not None, "there is always a text context, if only an empty prompt's"
        text = encoder_hidden_states
        if isinstance(text, Tensor):
            text = TextContext(text)

        self._check_parallel(sequence)
        text_BSD, image_BSD = self._embed_context(text, sequence, cache)
        whole = sequence
        if cache is not None and cache.holds_references:
            sequence = sequence.video_only()
        rotary_emb = self.rope(sequence.positions_BL3)
        tokens = self._embed_patches(sequence.tokens_BLP)
        order, runs = sequence.modulation_runs()
        temb_BGD, modulation_BG6D = self._embed_timesteps(sequence.timesteps_BG, text.tokens_BSD)
        if order is not None:
            temb_BGD, modulation_BG6D = temb_BGD[:, order], modulation_BG6D[:, order]
        inputs = _block_inputs(whole, text.bias_BS, image_BSD, runs, tokens.dtype)

        for index, block in enumerate(self.blocks):
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(
                    block, tokens, text_BSD, modulation_BG6D, rotary_emb, inputs
                )
            else:
                kept = None if cache is None else cache.blocks[index]
                tokens = block(tokens, text_BSD, modulation_BG6D, rotary_emb, inputs, kept)

        shift, scale = (self.scale_shift_table[:, None] + temb_BGD[:, :, None]).unbind(2)
        tokens = _modulate(self.norm_out(tokens.float()), scale, shift, runs).type_as(tokens)
        # Reference tokens leave after the projection: under context parallelism it is what gathers the sequence.
        values_BLP = self.proj_out(tokens)[:, : sequence.num_video_tokens]
        velocity_BCTHW = unpatchify(values_BLP, sequence.grid)
        return Transformer2DModelOutput(sample=velocity_BCTHW) if return_dict else (velocity_BCTHW,)

    def _embed_patches(self, tokens_BLP: Tensor) -> Tensor:
        """Tokens [B, L, P] to [B, L, D], by a call of the module itself, so that LoRA and offloading hooks act on it."""
        batch, length, values = tokens_BLP.shape
        if values != self.config.in_channels * CELLS:
            raise ValueError(
                f"the tokens carry {values / CELLS:g} channels and this transformer takes {self.config.in_channels}; "
                "use the method its checkpoint was trained for"
            )
        patches = tokens_BLP.reshape(batch * length, self.config.in_channels, *PATCH)
        embedded: Tensor = self.patch_embedding(patches)
        return embedded.reshape(batch, length, -1)

    def _embed_timesteps(self, timesteps_BG: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Time embedding [B, G, D] and modulation [B, G, 6, D]."""
        embedder = self.condition_embedder
        sinusoid = embedder.timesteps_proj(timesteps_BG.flatten()).unflatten(0, timesteps_BG.shape)
        dtype = next(embedder.time_embedder.parameters()).dtype
        temb_BGD = embedder.time_embedder(sinusoid.to(dtype)).type_as(like)
        return temb_BGD, embedder.time_proj(embedder.act_fn(temb_BGD)).unflatten(2, (6, -1))

    def _embed_context(
        self, text: TextContext, sequence: TokenSequence, cache: ContextCache | None
    ) -> tuple[Tensor, Tensor | None]:
        """Embedded text [B, S, D] and image context, from the cache if it has them."""
        embedder, image_BSD = self.condition_embedder, sequence.context_BSD
        if image_BSD is not None and embedder.image_embedder is None:
            raise ValueError(
                "this transformer takes no image context; use an I2V checkpoint, or a method without it"
            )
        if cache is not None:
            cache.check(text.tokens_BSD, image_BSD, sequence.anchor_span_BRZ, sequence.fixed_references)
            if cache.text_BSD is not None:
                return cache.text_BSD, cache.image_BSD
        text_BSD = embedder.text_embedder(text.tokens_BSD)
        image_BSD = None if image_BSD is None else embedder.image_embedder(image_BSD)
        if cache is not None:
            cache.text_BSD, cache.image_BSD = text_BSD, image_BSD
            keep = sequence.fixed_references is not None and cache.keep_references
            # diffusers' step caches compare and reuse outputs of whole blocks, and want them of one length.
            keep = keep and not self.is_cache_enabled
            cache.blocks = [BlockContext(ReferenceKeys() if keep else None) for _ in self.blocks]
        return text_BSD, image_BSD

    def _check_parallel(self, sequence: TokenSequence) -> None:
        """Under context parallelism each device has a part of the tokens: refuse what names tokens by their place in the whole."""
        parallel = self._parallel_config
        if parallel is None or parallel.context_parallel_config is None:
            return
        asked = {
            "hidden tokens": sequence.visible_BL is not None,
            "references that attend to references only": sequence.references_attend == "references",
            "tokens with timesteps of their own": sequence.group_L is not None,
            "subject anchors": sequence.anchor_region_BRM is not None and sequence.anchor_strength != 0,
        }
        for what, present in asked.items():
            if present:
                raise ValueError(
                    f"context parallelism does not support {what}; load the model without parallel_config, on one device"
                )


def _block_inputs(
    sequence: TokenSequence,
    bias_BS: Tensor | None,
    image_BSD: Tensor | None,
    run_lengths: tuple[int, ...] | None,
    dtype: torch.dtype,
) -> BlockInputs:
    region_BMR = span_BRZ = None
    if sequence.anchor_region_BRM is not None and sequence.anchor_strength != 0:
        assert sequence.anchor_span_BRZ is not None, "anchor regions without spans"
        region_BMR = sequence.anchor_region_BRM.transpose(1, 2).to(dtype) * sequence.anchor_strength
        span_BRZ = sequence.anchor_span_BRZ.to(dtype)
    apart = (
        sequence.references_attend == "references"
        and sequence.tokens_BLP.shape[1] > sequence.num_video_tokens
    )
    return BlockInputs(
        image_BSD=image_BSD,
        text_bias_BS=None if bias_BS is None else bias_BS.to(dtype),
        visible_BL=sequence.visible_BL,
        num_video=sequence.num_video_tokens if apart else None,
        run_lengths=run_lengths,
        region_BMR=region_BMR,
        span_BRZ=span_BRZ,
    )

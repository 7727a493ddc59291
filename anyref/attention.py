"""Attention of the transformer: rotary embedding of explicit positions, masks, and projected context that can be kept.

Letters as in latents.py; R reference tokens, Z text tokens an anchor's span covers.
"""

from typing import Any

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from einops import rearrange
from torch import Tensor, nn

ROPE_THETA = 10000.0
EXPLICIT_ATTENTION_LIMIT = 2**20  # scores per head; more of them would fill the memory


class RotaryPositions(nn.Module):
    """Rotary embedding of any integer position (t, h, w), negative ones and ones beyond diffusers' table included."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        spatial = 2 * (head_dim // 6)
        self.axis_dims = (head_dim - 2 * spatial, spatial, spatial)

    def forward(self, positions_BL3: Tensor) -> Tensor:
        """(cos, sin) of the angles, float32 [1 or B, L, 1, K/2, 2]; one row where every row has the same positions.

        Angles are computed in float64, as in WanRotaryPosEmbed: on the grid from 0 they are bit-equal to its table.
        """
        if _rows_equal(positions_BL3):
            positions_BL3 = positions_BL3[:1]
        dtype = torch.float32 if positions_BL3.device.type == "mps" else torch.float64
        angles = []
        for axis, dim in enumerate(self.axis_dims):
            exponents = torch.arange(0, dim, 2, dtype=dtype, device=positions_BL3.device) / dim
            angles.append(positions_BL3[..., axis, None].to(dtype) * (1.0 / ROPE_THETA**exponents))
        angle = torch.cat(angles, dim=-1)
        return torch.stack((angle.cos(), angle.sin()), dim=-1).float()[:, :, None]


def _rows_equal(positions_BL3: Tensor) -> bool:
    if positions_BL3.shape[0] == 1 or positions_BL3.stride(0) == 0:
        return True
    # On an accelerator the comparison would wait for the device; computing every row is cheaper.
    return positions_BL3.device.type == "cpu" and bool((positions_BL3 == positions_BL3[:1]).all())


def rotate(heads_BLNK: Tensor, rotary_BL1K2: Tensor) -> Tensor:
    """Rotate consecutive pairs of values by RotaryPositions' angles, in float32, and cast back."""
    pairs = rearrange(heads_BLNK.float(), "b l n (k two) -> b l n k two", two=2)
    if (
        torch.compiler.is_compiling()
    ):  # inductor has no complex numbers; eager is 5 to 10 times faster with them
        (even, odd), (cos, sin) = pairs.unbind(-1), rotary_BL1K2.unbind(-1)
        rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    else:
        rotated = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotary_BL1K2))
    return rotated.flatten(-2).type_as(heads_BLNK)


class ReferenceKeys:
    """One block's self-attention keys (normalised, rotated) and values [B, R, N, K] of reference tokens that attend to themselves only.

    With a timestep of their own, they are the same in every step: what the references are does not depend on the video.
    """

    def __init__(self) -> None:
        self.key: Tensor | None = None
        self.value: Tensor | None = None


class BlockContext:
    """One block's projections of text and image context: all that its cross-attention and its anchors need of them.

    Keys [B, S, N, K] are normalised, values are not. None of it depends on the timestep or on the video, and neither do `references`.
    """

    def __init__(self, references: ReferenceKeys | None = None) -> None:
        self.references = references
        self.key: Tensor | None = None
        self.value: Tensor | None = None
        self.image_key: Tensor | None = None
        self.image_value: Tensor | None = None
        self.anchor_BRD: Tensor | None = None

    def project(
        self, attn: WanAttention, text_BSD: Tensor, image_BSD: Tensor | None, span_BRZ: Tensor | None
    ) -> None:
        """Fill in what cross-attention `attn` makes of the context; an anchor's vector is its span's mean value."""
        if attn.fused_projections:
            key, value = attn.to_kv(text_BSD).chunk(2, dim=-1)
        else:
            key, value = attn.to_k(text_BSD), attn.to_v(text_BSD)
        self.key = rearrange(attn.norm_k(key), "b s (n k) -> b s n k", n=attn.heads)
        self.value = rearrange(value, "b s (n k) -> b s n k", n=attn.heads)
        if span_BRZ is not None:
            self.anchor_BRD = span_BRZ @ value[:, : span_BRZ.shape[2]]
        if image_BSD is None:
            return
        if attn.fused_projections:
            key, value = attn.to_added_kv(image_BSD).chunk(2, dim=-1)
        else:
            key, value = attn.add_k_proj(image_BSD), attn.add_v_proj(image_BSD)
        self.image_key = rearrange(attn.norm_added_k(key), "b s (n k) -> b s n k", n=attn.heads)
        self.image_value = rearrange(value, "b s (n k) -> b s n k", n=attn.heads)


class AnyRefAttnProcessor(WanAttnProcessor):  # type: ignore[misc]
    """Self-attention with a key mask; cross-attention to projected text and image, each with a softmax of its own.

    With `num_video`, tokens from that one on are references and attend to visible references only (Saber's attention mask, read strictly);
    the video's attend to all that is visible. These are two calls without a mask of query by key, so that every kernel stays usable.
    `references` keeps the keys and values of the references; a later call with `num_video` tokens takes them from there.
    """

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Tensor | None = None,
        context: BlockContext | None = None,
        num_video: int | None = None,
        references: ReferenceKeys | None = None,
    ) -> Tensor:
        """Self-attention if `context` is None: `rotary_emb` is needed, the mask is bool [B, L]; else it is a bias [B, S]."""
        assert encoder_hidden_states is None, "context comes projected, as a BlockContext"
        if context is None:
            assert rotary_emb is not None
            query, key, value = _project_self(attn, hidden_states, rotary_emb)
            if num_video is None:
                backend, parallel = self._attention_backend, self._parallel_config
                attended = _attend(query, key, value, attention_mask, backend, parallel)
            else:
                attended = self._attend_apart(query, key, value, attention_mask, num_video, references)
        else:
            attended = self._attend_context(attn, hidden_states, attention_mask, context)
        return attn.to_out[1](attn.to_out[0](attended))

    def _attend_apart(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        visible_BL: Tensor | None,
        num_video: int,
        references: ReferenceKeys | None,
    ) -> Tensor:
        backend = self._attention_backend
        if query.shape[1] == num_video:  # an earlier call had the references
            assert references is not None
            assert references.key is not None
            assert references.value is not None
            key = torch.cat([key, references.key], dim=1)
            value = torch.cat([value, references.value], dim=1)
            return _attend(query, key, value, visible_BL, backend)
        reference_key, reference_value = key[:, num_video:], value[:, num_video:]
        if references is not None:  # copies: a slice would hold the video's, too
            references.key, references.value = reference_key.clone(), reference_value.clone()
        seen_BR = None
        if visible_BL is not None:
            seen_BR = visible_BL[:, num_video:]
            # A row without any visible reference would be a softmax over nothing. Nobody reads what its references become.
            seen_BR = seen_BR | ~seen_BR.any(dim=1, keepdim=True)
        of_video = _attend(query[:, :num_video], key, value, visible_BL, backend)
        of_references = _attend(query[:, num_video:], reference_key, reference_value, seen_BR, backend)
        return torch.cat([of_video, of_references], dim=1)

    def _attend_context(
        self, attn: WanAttention, tokens_BLD: Tensor, bias_BS: Tensor | None, context: BlockContext
    ) -> Tensor:
        assert context.key is not None
        assert context.value is not None
        query = rearrange(attn.norm_q(attn.to_q(tokens_BLD)), "b l (n k) -> b l n k", n=attn.heads)
        # Few backends take a bias; PyTorch's own always does.
        backend = self._attention_backend if bias_BS is None else AttentionBackendName.NATIVE
        attended = _attend(query, context.key, context.value, bias_BS, backend)
        if context.image_key is not None and context.image_value is not None:
            backend = self._attention_backend
            attended = attended + _attend(query, context.image_key, context.image_value, None, backend)
        return attended


def _project_self(
    attn: WanAttention, tokens_BLD: Tensor, rotary_BL1K2: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of self-attention, [B, L, N, K] each, the first two normalised and rotated."""
    if attn.fused_projections:
        query, key, value = attn.to_qkv(tokens_BLD).chunk(3, dim=-1)
    else:
        query, key, value = attn.to_q(tokens_BLD), attn.to_k(tokens_BLD), attn.to_v(tokens_BLD)
    query = rotate(rearrange(attn.norm_q(query), "b l (n k) -> b l n k", n=attn.heads), rotary_BL1K2)
    key = rotate(rearrange(attn.norm_k(key), "b l (n k) -> b l n k", n=attn.heads), rotary_BL1K2)
    return query, key, rearrange(value, "b l (n k) -> b l n k", n=attn.heads)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, mask_BS: Tensor | None, backend: Any, parallel: Any = None
) -> Tensor:
    """Attention of heads [B, L, N, K], as [B, L, D]. The mask is bool (True = may attend) or added to the scores."""
    if _explicit_is_faster(query, key):
        out = _attend_explicitly(query, key, value, mask_BS)
    else:
        mask = (
            None if mask_BS is None else mask_BS[:, None, None]
        )  # only one backend would take it with two axes
        out = dispatch_attention_fn(
            query, key, value, attn_mask=mask, backend=backend, parallel_config=parallel
        )
    return out.flatten(2, 3).type_as(query)


def _explicit_is_faster(query: Tensor, key: Tensor) -> bool:
    # In bfloat16 the backward of PyTorch's CPU flash kernel took 4 to 7 times as long as the explicit one (144 x 144 and
    # 144 x 16 scores, K 32): half of a training step. In float32, or without gradients, the kernel is as fast or faster.
    small = query.shape[1] * key.shape[1] <= EXPLICIT_ATTENTION_LIMIT
    return small and query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad


def _attend_explicitly(query: Tensor, key: Tensor, value: Tensor, mask_BS: Tensor | None) -> Tensor:
    scores = (query * query.shape[-1] ** -0.5).transpose(1, 2) @ key.permute(0, 2, 3, 1)
    if mask_BS is not None:
        mask = mask_BS[:, None, None]
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return (scores.softmax(dim=-1) @ value.transpose(1, 2)).transpose(1, 2)

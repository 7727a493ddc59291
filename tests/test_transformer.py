"""The transformer beyond diffusers: positions, visibility, timestep groups, anchors, context cache, and diffusers' features."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import FirstBlockCacheConfig, MagCacheConfig, PyramidAttentionBroadcastConfig
from diffusers.models.attention_dispatch import attention_backend
from peft import LoraConfig
from torch import Tensor

from anyref.attention import RotaryPositions
from anyref.conditioning import Anchors, Conditioning, assemble
from anyref.latents import TextContext, TokenSequence, grid_positions
from anyref.transformer import AnyRefBlock, AnyRefTransformer, ContextCache, PatchEmbedding

T, H, W = 2, 4, 6
FRAME0 = (H // 2) * (W // 2)
LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "patch_embedding"]


def make_model(num_layers: int = 2) -> AnyRefTransformer:
    return AnyRefTransformer(
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=20,
        text_dim=20,
        freq_dim=32,
        ffn_dim=64,
        num_layers=num_layers,
        image_dim=16,
        added_kv_proj_dim=48,
    ).eval()


def make_conditioning(batch: int = 2, num_tokens: int = 5) -> Conditioning:
    """Everything at once: channels, reference tokens with a timestep of their own, image context and anchors."""
    return Conditioning(
        channels_BCTHW=torch.randn(batch, 4, T, H, W),
        tokens_BLP=torch.randn(batch, num_tokens, 80),
        positions_BL3=torch.randint(-90, 2000, (batch, num_tokens, 3)),
        visible_BL=torch.tensor([True, False, True, True, False])[:num_tokens].expand(batch, -1),
        reference_timestep=0.0,
        context_BSD=torch.randn(batch, 3, 16),
        anchors=Anchors(torch.rand(batch, 2, FRAME0) > 0.5, torch.rand(batch, 2, 7).softmax(-1), 0.7),
    )


def make_text(batch: int = 2, num_tokens: int = 7) -> TextContext:
    return TextContext(torch.randn(batch, num_tokens, 20), torch.randn(batch, num_tokens))


def sequence_of(conditioning: Conditioning, batch: int = 2) -> TokenSequence:
    generator = torch.Generator().manual_seed(7)
    noisy = torch.randn(batch, 16, T, H, W, generator=generator)
    return assemble(noisy, torch.linspace(900, 100, batch), conditioning)


@torch.no_grad()
def velocity(
    model: AnyRefTransformer, sequence: TokenSequence, text: TextContext, cache: ContextCache | None = None
) -> Tensor:
    return model(sequence, encoder_hidden_states=text, cache=cache).sample


def test_patch_embedding_is_the_convolution() -> None:
    embedding = PatchEmbedding(6, 8, kernel_size=(1, 2, 2), stride=(1, 2, 2))
    patches = torch.randn(5, 6, 1, 2, 2)
    expected = torch.nn.Conv3d.forward(embedding, patches)
    assert embedding(patches).shape == expected.shape
    assert (embedding(patches) - expected).abs().max() < 1e-6


def test_rotary_of_any_position() -> None:
    rope = RotaryPositions(12)
    positions = torch.tensor([[[-3, 0, 5000], [7, -1, 2]], [[0, 0, 0], [1, 2, 3]]])
    angles = rope(positions)
    assert angles.shape == (2, 2, 1, 6, 2)
    mirrored = rope(-positions)
    assert torch.equal(mirrored[..., 0], angles[..., 0])
    assert torch.equal(mirrored[..., 1], -angles[..., 1])
    assert torch.equal(angles[1, 0, 0, :, 0], torch.ones(6))
    expected = torch.tensor(5000.0 / 10000.0**0.5, dtype=torch.float64).cos().float()
    assert angles[0, 0, 0, 5, 0] == expected


def test_equal_rows_share_one_rotary_row() -> None:
    rope, grid = RotaryPositions(12), grid_positions((2, 2, 3))
    assert rope(grid.expand(4, -1, -1)).shape[0] == 1
    assert rope(grid.repeat(4, 1, 1)).shape[0] == 1


def test_only_distances_of_positions_matter() -> None:
    model, text = make_model(), make_text()
    sequence = sequence_of(make_conditioning())
    moved = replace(sequence, positions_BL3=sequence.positions_BL3 + torch.tensor([-5, 300, -1]))
    assert (velocity(model, sequence, text) - velocity(model, moved, text)).abs().max() < 1e-5


def test_invisible_tokens_change_nothing() -> None:
    model, text, conditioning = make_model(), make_text(), make_conditioning()
    before = velocity(model, sequence_of(conditioning), text)
    assert conditioning.tokens_BLP is not None
    assert conditioning.visible_BL is not None
    noise = torch.randn_like(conditioning.tokens_BLP) * ~conditioning.visible_BL[..., None]
    hidden = replace(conditioning, tokens_BLP=conditioning.tokens_BLP + noise)
    assert torch.equal(before, velocity(model, sequence_of(hidden), text))
    seen = replace(hidden, visible_BL=None)
    assert not torch.equal(before, velocity(model, sequence_of(seen), text))


def test_dropping_equals_hiding() -> None:
    model, text, conditioning = make_model(), make_text(1), make_conditioning(1)
    dropped = sequence_of(conditioning, 1)
    assert dropped.visible_BL is None
    hidden = sequence_of(replace(conditioning, visible_BL=None), 1)
    visible = torch.cat([torch.ones(1, T * FRAME0, dtype=torch.bool), conditioning.visible_BL], dim=1)
    hidden = replace(hidden, visible_BL=visible)
    assert dropped.tokens_BLP.shape[1] == hidden.tokens_BLP.shape[1] - 2
    assert (velocity(model, dropped, text) - velocity(model, hidden, text)).abs().max() < 1e-6


def test_grouped_modulation_equals_per_token() -> None:
    model, text, conditioning = make_model(), make_text(), make_conditioning()
    grouped = sequence_of(conditioning)
    assert grouped.group_L is not None
    length = grouped.tokens_BLP.shape[1]
    per_token = replace(
        grouped, timesteps_BG=grouped.timesteps_BG[:, grouped.group_L], group_L=torch.arange(length)
    )
    expected = velocity(model, per_token, text)
    assert (velocity(model, grouped, text) - expected).abs().max() < 1e-6
    # Groups in another order, and in several runs.
    swapped = replace(grouped, timesteps_BG=grouped.timesteps_BG.flip(1), group_L=1 - grouped.group_L)
    assert (velocity(model, swapped, text) - expected).abs().max() < 1e-6
    groups = torch.tensor([0, 0, 1, 0] + [1] * (length - 4))
    several = replace(grouped, group_L=groups)
    spread = replace(several, timesteps_BG=several.timesteps_BG[:, groups], group_L=torch.arange(length))
    assert (velocity(model, several, text) - velocity(model, spread, text)).abs().max() < 1e-6


def test_folded_padding_equals_512_tokens() -> None:
    model, sequence = make_model(), sequence_of(make_conditioning(num_tokens=2))
    words = torch.randn(2, 9, 20)
    padded = TextContext(torch.cat([words, torch.zeros(2, 503, 20)], dim=1))
    bias = torch.zeros(2, 12)
    bias[:, 9] = torch.tensor(503.0).log()
    bias[:, 10:] = -torch.inf
    folded = TextContext(torch.cat([words, torch.zeros(2, 1, 20), torch.randn(2, 2, 20)], dim=1), bias)
    assert (velocity(model, sequence, padded) - velocity(model, sequence, folded)).abs().max() < 1e-6


def test_cache_is_bit_equal() -> None:
    model, text, conditioning = make_model(), make_text(), make_conditioning()
    sequence, cache = sequence_of(conditioning), ContextCache()
    expected = velocity(model, sequence, text)
    assert torch.equal(velocity(model, sequence, text, cache), expected)
    kept = [entry.key for entry in cache.blocks]
    later = replace(sequence, tokens_BLP=sequence.tokens_BLP + 1, timesteps_BG=sequence.timesteps_BG / 2)
    assert torch.equal(velocity(model, later, text, cache), velocity(model, later, text))
    assert all(entry.key is key for entry, key in zip(cache.blocks, kept, strict=True))


def test_cache_is_not_used_for_another_prompt_or_in_training() -> None:
    model, text, sequence, cache = make_model(), make_text(), sequence_of(make_conditioning()), ContextCache()
    velocity(model, sequence, text, cache)
    with pytest.raises(ValueError, match="filled for one prompt"):
        velocity(model, sequence, make_text(), cache)
    with pytest.raises(ValueError, match="keeps no gradients"):
        model(sequence, encoder_hidden_states=text, cache=ContextCache())


def test_anchors_add_what_the_paper_says() -> None:
    """Equations 5-6 at the first block, written out for one token."""
    model, text, conditioning = make_model(1), make_text(1), make_conditioning(1)
    sequence = sequence_of(conditioning, 1)
    seen: list[Tensor] = []
    handle = model.blocks[0].norm1.register_forward_hook(
        lambda _module, inputs, _output: seen.append(inputs[0])
    )
    velocity(model, sequence, text)
    velocity(model, replace(sequence, anchor_strength=0.0), text)
    handle.remove()
    anchors = conditioning.anchors
    assert anchors is not None
    values = model.blocks[0].attn2.to_v(model.condition_embedder.text_embedder(text.tokens_BSD))[0]
    for token in range(FRAME0):
        vectors = [
            (weights[:, None] * values).sum(dim=0)
            for weights, region in zip(anchors.span_BRS[0], anchors.region_BRL[0], strict=True)
            if region[token]
        ]
        expected = 0.7 * sum(vectors, torch.zeros(48))
        assert (seen[0][0, token] - seen[1][0, token] - expected).abs().max() < 1e-5
    assert torch.equal(seen[0][:, FRAME0:], seen[1][:, FRAME0:])


def test_strength_zero_is_bit_equal_to_no_anchors() -> None:
    model, text, conditioning = make_model(), make_text(), make_conditioning()
    without = velocity(model, sequence_of(replace(conditioning, anchors=None)), text)
    assert conditioning.anchors is not None
    off = replace(conditioning, anchors=replace(conditioning.anchors, strength=0.0))
    assert torch.equal(velocity(model, sequence_of(off), text), without)
    unnamed = replace(conditioning.anchors, span_BRS=torch.zeros(2, 2, 7))
    assert torch.equal(velocity(model, sequence_of(replace(conditioning, anchors=unnamed)), text), without)
    assert not torch.equal(velocity(model, sequence_of(conditioning), text), without)


def test_rows_of_a_batch_do_not_mix() -> None:
    model, text, conditioning = make_model(), make_text(), make_conditioning()
    sequence = sequence_of(conditioning)
    both = velocity(model, sequence, text)
    assert text.bias_BS is not None
    changed = TextContext(text.tokens_BSD * torch.tensor([1.0, 2.0])[:, None, None], text.bias_BS)
    assert torch.equal(velocity(model, sequence, changed)[0], both[0])


def test_wrong_channels_and_context_are_named() -> None:
    model, text = make_model(), make_text()
    with pytest.raises(ValueError, match="carry 16 channels and this transformer takes 20"):
        velocity(model, sequence_of(Conditioning()), text)
    plain = AnyRefTransformer(
        num_attention_heads=2, attention_head_dim=12, text_dim=20, ffn_dim=8, num_layers=1
    )
    with pytest.raises(ValueError, match="takes no image context"):
        velocity(plain, sequence_of(Conditioning(context_BSD=torch.randn(2, 3, 16))), text)
    with pytest.raises(ValueError, match="patch_size is"):
        AnyRefTransformer(patch_size=(2, 2, 2))


def gradients(model: AnyRefTransformer, sequence: TokenSequence, text: TextContext) -> dict[str, Tensor]:
    model.zero_grad()
    model(sequence, encoder_hidden_states=text).sample.square().mean().backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def test_gradients_reach_everything_and_checkpointing_keeps_them() -> None:
    model, text, sequence = make_model(), make_text(), sequence_of(make_conditioning())
    expected = gradients(model, sequence, text)
    assert expected.keys() == dict(model.named_parameters()).keys()
    model.enable_gradient_checkpointing()
    checkpointed = gradients(model, sequence, text)
    for name, gradient in expected.items():
        assert torch.equal(checkpointed[name], gradient), name


def test_explicit_attention_of_bfloat16_training_agrees() -> None:
    model, text = make_model().bfloat16(), make_text()
    conditioning = make_conditioning().to("cpu", torch.bfloat16)
    text = replace(text, tokens_BSD=text.tokens_BSD.bfloat16())
    sequence = assemble(torch.randn(2, 16, T, H, W).bfloat16(), torch.tensor([900.0, 20.0]), conditioning)
    kernel = velocity(model, sequence, text).float()
    explicit = model(sequence, encoder_hidden_states=text).sample.detach().float()
    assert not torch.equal(kernel, explicit)
    assert (kernel - explicit).norm() / kernel.norm() < 0.02


def test_lora_acts_on_every_layer_and_scales() -> None:
    model, text, sequence = make_model(), make_text(), sequence_of(make_conditioning())
    before = velocity(model, sequence, text)
    model.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=LORA_TARGETS, init_lora_weights=False))
    with torch.no_grad():
        full = model(sequence, encoder_hidden_states=text).sample
        none = model(sequence, encoder_hidden_states=text, attention_kwargs={"scale": 0.0}).sample
        half = model(sequence, encoder_hidden_states=text, attention_kwargs={"scale": 0.5}).sample
    assert (none - before).abs().max() < 1e-6
    assert (full - before).abs().max() > 1e-3
    assert 0 < (half - before).norm() < (full - before).norm()
    trained = gradients(model, sequence, text)
    assert {name.split(".lora_")[0] for name in trained} >= {
        "patch_embedding",
        "blocks.0.attn2.to_v",
        "blocks.1.attn1.to_out.0",
    }
    assert all("lora" in name for name in trained)
    model.delete_adapters("default")
    assert torch.equal(velocity(model, sequence, text), before)


def test_fused_projections_are_equal() -> None:
    model, text, sequence = make_model(), make_text(), sequence_of(make_conditioning())
    before = velocity(model, sequence, text)
    model.fuse_qkv_projections()
    assert model.blocks[0].attn1.fused_projections
    cache = ContextCache()
    assert (velocity(model, sequence, text, cache) - before).abs().max() < 1e-6
    assert (velocity(model, sequence, text, cache) - before).abs().max() < 1e-6


def test_layerwise_casting_stores_low_and_computes_high() -> None:
    model, text, sequence = make_model(), make_text(), sequence_of(make_conditioning())
    exact = velocity(model, sequence, text)
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert model.blocks[0].attn2.to_k.weight.dtype == torch.float8_e4m3fn
    assert model.patch_embedding.weight.dtype == torch.float32
    assert model.blocks[0].scale_shift_table.dtype == torch.float32
    low = velocity(model, sequence, text)
    assert 0 < (low - exact).norm() / exact.norm() < 0.2
    cache = ContextCache()
    velocity(model, sequence, text, cache)
    assert torch.equal(velocity(model, sequence, text, cache), low)


@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
def test_group_offload(offload_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offloaded to disk, with NaN left in memory: no parameter may be touched outside the forward of its module."""
    model, text, sequence = make_model(3), make_text(), sequence_of(make_conditioning())
    expected = velocity(model, sequence, text)
    monkeypatch.setattr(torch, "empty_like", lambda tensor, **to: torch.full_like(tensor, torch.nan, **to))
    model.enable_group_offload(
        onload_device=torch.device("cpu"),
        offload_device=torch.device("cpu"),
        offload_type=offload_type,
        num_blocks_per_group=1 if offload_type == "block_level" else None,
        offload_to_disk_path=str(tmp_path),
    )
    assert model.blocks[1].attn2.to_v.weight.isnan().all()
    cache = ContextCache()
    for _ in range(2):
        assert (velocity(model, sequence, text, cache) - expected).abs().max() < 1e-6
    assert model.blocks[1].attn2.to_v.weight.isnan().all()


def test_first_block_cache_and_mag_cache() -> None:
    text, sequence = make_text(), sequence_of(make_conditioning())
    for config in (
        FirstBlockCacheConfig(threshold=1e9),
        MagCacheConfig(num_inference_steps=4, retention_ratio=0.1, threshold=1e9, mag_ratios=[1.0] * 4),
    ):
        model, cache = make_model(), ContextCache()
        expected = velocity(model, sequence, text)
        model.enable_cache(config)
        calls: list[int] = []
        model.blocks[1].attn1.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        with model.cache_context("cond"):
            assert torch.equal(velocity(model, sequence, text, cache), expected)
            later = velocity(model, replace(sequence, timesteps_BG=sequence.timesteps_BG - 5), text, cache)
        assert len(calls) == 1, config
        assert later.isfinite().all()
        model.disable_cache()


def test_pyramid_attention_broadcast() -> None:
    model, text, sequence = make_model(), make_text(), sequence_of(make_conditioning())
    expected = velocity(model, sequence, text)
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        cross_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(100, 800),
        cross_attention_timestep_skip_range=(100, 800),
        current_timestep_callback=lambda: 500,
    )
    model.enable_cache(config)
    with model.cache_context("cond"):
        assert torch.equal(velocity(model, sequence, text), expected)
        velocity(model, sequence, text)
    model.disable_cache()
    assert torch.equal(velocity(model, sequence, text), expected)


def test_attention_backends_can_be_chosen() -> None:
    """A backend without masks serves self-attention and the image; the text's bias goes to PyTorch's own."""
    model, text, sequence = make_model(), make_text(), sequence_of(make_conditioning())
    expected = velocity(model, sequence, text)
    with attention_backend(
        "native"
    ):  # diffusers' reset leaves the process-wide default behind; leaving this does not
        model.set_attention_backend("_native_math")
        chosen = velocity(model, sequence, text)
        model.reset_attention_backend()
    assert 0 < (chosen - expected).abs().max() < 1e-6
    assert torch.equal(velocity(model, sequence, text), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute:UserWarning"
)  # torch.compile looks at it, and warns itself
def test_compiled_blocks_with_and_without_cache() -> None:
    model, text, conditioning = make_model(), make_text(), make_conditioning()
    sequence, plain = (
        sequence_of(conditioning),
        sequence_of(replace(conditioning, reference_timestep=None, anchors=None)),
    )
    expected = [velocity(model, sequence, text), velocity(model, plain, text)]
    gradient = gradients(model, sequence, text)["blocks.1.attn2.to_v.weight"]
    model.compile_repeated_blocks(fullgraph=True)
    for given, wanted in zip((sequence, plain), expected, strict=True):
        cache = ContextCache()
        assert (velocity(model, given, text) - wanted).abs().max() < 1e-5
        for _ in range(3):
            assert (velocity(model, given, text, cache) - wanted).abs().max() < 1e-5
    compiled = gradients(model, sequence, text)["blocks.1.attn2.to_v.weight"]
    assert (compiled - gradient).abs().max() < 1e-5


def test_blocks_are_found_by_class() -> None:
    model = make_model()
    assert model._repeated_blocks == ["AnyRefBlock"]
    assert all(type(block) is AnyRefBlock for block in model.blocks)

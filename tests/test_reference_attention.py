"""References that attend among themselves only: what they depend on, and keeping their keys and values between steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from diffusers import ContextParallelConfig, FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from diffusers.models._modeling_parallel import ParallelConfig
from test_transformer import FRAME0, H, T, W, gradients, make_conditioning, make_model, make_text, velocity
from torch import Tensor

from anyref import attention
from anyref.conditioning import Conditioning, assemble, concatenate
from anyref.latents import TextContext, TokenSequence
from anyref.transformer import AnyRefTransformer, ContextCache

VIDEO = T * FRAME0
NONE_VISIBLE = torch.zeros(1, 5, dtype=torch.bool)


def strict(batch: int = 2, num_tokens: int = 5) -> Conditioning:
    """Everything at once, with references that attend to references only."""
    return replace(make_conditioning(batch, num_tokens), references_attend="references")


def sequence_at(conditioning: Conditioning, timestep: float = 700.0, seed: int = 0) -> TokenSequence:
    batch = conditioning.batch
    assert batch is not None
    noisy = torch.randn(batch, 16, T, H, W, generator=torch.Generator().manual_seed(seed))
    return assemble(noisy, torch.full((batch,), timestep), conditioning)


def keep_all_tokens(sequence: TokenSequence, conditioning: Conditioning) -> TokenSequence:
    """The sequence of one sample with its hidden tokens hidden by a mask, and not dropped."""
    whole = sequence_at(replace(conditioning, visible_BL=None))
    assert conditioning.visible_BL is not None
    visible = torch.cat([torch.ones(1, VIDEO, dtype=torch.bool), conditioning.visible_BL], dim=1)
    assert torch.equal(whole.tokens_BLP[:, :VIDEO], sequence.tokens_BLP[:, :VIDEO])
    return replace(whole, visible_BL=visible)


def block_outputs(model: AnyRefTransformer, sequence: TokenSequence, text: TextContext) -> list[Tensor]:
    """What each block makes of the reference tokens."""
    seen: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output[:, VIDEO:]))
        for block in model.blocks
    ]
    velocity(model, sequence, text)
    for handle in handles:
        handle.remove()
    return seen


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each call of a first block was given."""
    seen: list[int] = []
    forward = AnyRefTransformer._embed_patches

    def noting(self: AnyRefTransformer, tokens_BLP: Tensor) -> Tensor:
        seen.append(tokens_BLP.shape[1])
        return forward(self, tokens_BLP)

    monkeypatch.setattr(AnyRefTransformer, "_embed_patches", noting)
    return seen


def test_equals_attention_with_a_mask_of_query_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    model, text, conditioning = make_model(), make_text(), strict()
    sequence = sequence_at(conditioning)
    apart = velocity(model, sequence, text)
    attend = attention._attend
    calls: list[int] = []

    def masked(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *settings: Any) -> Tensor:
        if query.shape[1] != key.shape[1]:  # cross-attention
            return attend(query, key, value, mask, *settings)
        assert mask is not None
        calls.append(1)
        allowed = mask[:, None].repeat(1, query.shape[1], 1)  # query by key
        allowed[:, VIDEO:, :VIDEO] = False
        scores = torch.einsum("bqnk,bsnk->bnqs", query, key) / query.shape[-1] ** 0.5
        weights = scores.masked_fill(~allowed[:, None], -torch.inf).softmax(dim=-1)
        return torch.einsum("bnqs,bsnk->bqnk", weights, value).flatten(2)

    monkeypatch.setattr(attention, "_attend", masked)
    in_one = velocity(model, replace(sequence, references_attend="all", fixed_references=None), text)
    assert len(calls) == 2
    assert (apart - in_one).abs().max() < 1e-6
    monkeypatch.undo()
    mixed = velocity(model, replace(sequence, references_attend="all", fixed_references=None), text)
    assert (apart - mixed).abs().max() > 1e-5


def test_references_do_not_depend_on_the_video() -> None:
    model, text, conditioning = make_model(), make_text(), strict()
    first = block_outputs(model, sequence_at(conditioning), text)
    other = block_outputs(model, sequence_at(conditioning, timestep=30.0, seed=1), text)
    for one, two in zip(first, other, strict=True):
        assert torch.equal(one, two)
    mixed = replace(conditioning, references_attend="all")
    first = block_outputs(model, sequence_at(mixed), text)
    assert not torch.equal(first[1], block_outputs(model, sequence_at(mixed, seed=1), text)[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_tokens_change_nothing(dtype: torch.dtype) -> None:
    model, text, conditioning = make_model().to(dtype), make_text(), strict().to("cpu", dtype)
    text = replace(text, tokens_BSD=text.tokens_BSD.to(dtype))
    assert conditioning.tokens_BLP is not None
    assert conditioning.visible_BL is not None

    def out(given: Conditioning) -> Tensor:
        sequence = sequence_at(given)
        return velocity(model, replace(sequence, tokens_BLP=sequence.tokens_BLP.to(dtype)), text)

    before = out(conditioning)
    noise = torch.randn_like(conditioning.tokens_BLP)
    hidden, seen = ~conditioning.visible_BL[..., None], conditioning.visible_BL[..., None]
    assert torch.equal(
        out(replace(conditioning, tokens_BLP=conditioning.tokens_BLP + noise * hidden)), before
    )
    assert not torch.equal(
        out(replace(conditioning, tokens_BLP=conditioning.tokens_BLP + noise * seen)), before
    )


def test_dropping_equals_hiding() -> None:
    model, text, conditioning = make_model(), make_text(1), strict(1)
    dropped = sequence_at(conditioning)
    hidden = keep_all_tokens(dropped, conditioning)
    assert dropped.visible_BL is None
    assert hidden.tokens_BLP.shape[1] == dropped.tokens_BLP.shape[1] + 2
    assert (velocity(model, dropped, text) - velocity(model, hidden, text)).abs().max() < 1e-6


@pytest.mark.parametrize("references_attend", ["all", "references"])
def test_zero_references_equal_the_plain_backbone(references_attend: Literal["all", "references"]) -> None:
    model, text, full = make_model(), make_text(1), strict(1)
    bare = replace(full, tokens_BLP=None, positions_BL3=None, visible_BL=None, references_attend="all")
    plain = velocity(model, sequence_at(bare), text)
    none = replace(make_conditioning(1, 0), channels_BCTHW=full.channels_BCTHW, context_BSD=full.context_BSD)
    none = replace(none, anchors=full.anchors, references_attend=references_attend)
    hidden = replace(full, visible_BL=NONE_VISIBLE, references_attend=references_attend)
    for conditioning in (none, hidden):
        for cache in (None, ContextCache()):
            assert torch.equal(velocity(model, sequence_at(conditioning), text, cache), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_without_visible_references_is_plain_and_finite(dtype: torch.dtype) -> None:
    """Among others that have some, in outputs and gradients, with the kernel and with bfloat16's explicit attention."""
    model, text = make_model(), make_text()
    one = strict(1)
    bare = replace(one, tokens_BLP=None, positions_BL3=None, visible_BL=None)
    sequence = sequence_at(concatenate([one, bare]))
    assert sequence.visible_BL is not None
    assert sequence.visible_BL[:, VIDEO:].sum(dim=1).tolist() == [3, 0]
    row = TextContext(text.tokens_BSD[1:], None if text.bias_BS is None else text.bias_BS[1:])
    alone = replace(sequence_at(bare), tokens_BLP=sequence.tokens_BLP[1:, :VIDEO])
    assert (velocity(model, sequence, text)[1] - velocity(model, alone, row)[0]).abs().max() < 1e-6
    sequence = replace(sequence, tokens_BLP=sequence.tokens_BLP.to(dtype))
    text = replace(text, tokens_BSD=text.tokens_BSD.to(dtype))
    sequence = replace(
        sequence, context_BSD=None if sequence.context_BSD is None else sequence.context_BSD.to(dtype)
    )
    for gradient in gradients(model.to(dtype), sequence, text).values():
        assert gradient.isfinite().all()


def test_gradients_reach_everything_and_checkpointing_keeps_them() -> None:
    model, text, sequence = make_model(), make_text(), sequence_at(strict())
    expected = gradients(model, sequence, text)
    assert expected.keys() == dict(model.named_parameters()).keys()
    model.enable_gradient_checkpointing()
    checkpointed = gradients(model, sequence, text)
    for name, gradient in expected.items():
        assert torch.equal(checkpointed[name], gradient), name


@pytest.mark.parametrize("batch", [1, 3])
def test_later_calls_work_on_the_video_only(batch: int, lengths: list[int]) -> None:
    """With hidden tokens (dropped at batch 1), anchors, a text bias and image context."""
    model, text, conditioning, cache = make_model(), make_text(batch), strict(batch), ContextCache()
    shown = 3 if batch == 1 else 5
    first = sequence_at(conditioning)
    assert torch.equal(velocity(model, first, text, cache), velocity(model, first, text))
    assert cache.holds_references
    for step in (500.0, 20.0):
        later = sequence_at(conditioning, step, seed=int(step))
        lengths.clear()
        kept, computed = velocity(model, later, text, cache), velocity(model, later, text)
        assert lengths == [VIDEO, VIDEO + shown]
        assert (kept - computed).abs().max() < 1e-6
    references = cache.blocks[1].references
    assert references is not None
    assert references.key is not None
    assert references.key.shape == (batch, shown, 2, 24)
    assert references.key.untyped_storage().nbytes() == 4 * references.key.numel(), (
        "the video's keys are held"
    )


def test_rows_of_guidance_have_their_own_references(lengths: list[int]) -> None:
    """Both branches in one batch: references read the text, so keys differ between rows that differ in nothing else."""
    model, text, one = make_model(), make_text(2), strict(1)
    assert text.bias_BS is not None
    joined, cache = concatenate([one, one]), ContextCache()
    velocity(model, sequence_at(joined), text, cache)
    references = cache.blocks[1].references
    assert references is not None
    assert references.key is not None
    assert not torch.equal(references.key[0], references.key[1])
    later = sequence_at(joined, 100.0, seed=4)
    both = velocity(model, later, text, cache)
    for row in (0, 1):
        single = replace(sequence_at(one, 100.0), tokens_BLP=sequence_at(one).tokens_BLP.clone())
        single.tokens_BLP[:, :VIDEO] = later.tokens_BLP[row : row + 1, :VIDEO]
        alone = TextContext(text.tokens_BSD[row : row + 1], text.bias_BS[row : row + 1])
        assert (velocity(model, single, alone)[0] - both[row]).abs().max() < 1e-6
    assert VIDEO in lengths


@pytest.mark.parametrize("case", ["attend to all", "the video's timestep", "not wanted"])
def test_references_are_computed_again_where_they_change(case: str, lengths: list[int]) -> None:
    model, text, conditioning = make_model(), make_text(), strict()
    cache = ContextCache(keep_references=case != "not wanted")
    if case == "attend to all":
        conditioning = replace(conditioning, references_attend="all")
    elif case == "the video's timestep":
        conditioning = replace(conditioning, reference_timestep=None)
    for step in (900.0, 500.0):
        sequence = sequence_at(conditioning, step)
        assert torch.equal(velocity(model, sequence, text, cache), velocity(model, sequence, text))
    assert set(lengths) == {VIDEO + 5}
    assert not cache.holds_references


def test_a_cache_is_not_used_for_other_references() -> None:
    model, text, conditioning, cache = make_model(), make_text(), strict(), ContextCache()
    velocity(model, sequence_at(conditioning), text, cache)
    velocity(model, sequence_at(conditioning, 30.0), text, cache)
    for other in (replace(conditioning, reference_timestep=10.0), replace(conditioning, visible_BL=None)):
        with pytest.raises(ValueError, match="filled for one prompt and conditioning"):
            velocity(model, sequence_at(other), text, cache)


def test_blocks_that_were_skipped_keep_the_references_in_the_sequence(lengths: list[int]) -> None:
    """Layer skipping leaves a block's part of the cache empty."""
    model, text, conditioning, cache = make_model(3), make_text(), strict(), ContextCache()
    model.blocks[1].forward = lambda hidden_states, *_: hidden_states
    for step in (900.0, 500.0):
        assert velocity(model, sequence_at(conditioning, step), text, cache).isfinite().all()
    assert lengths == [VIDEO + 5] * 2


def test_step_caches_see_one_length(lengths: list[int]) -> None:
    text, conditioning = make_text(), strict()
    for config in (
        FirstBlockCacheConfig(threshold=0.0),
        PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            spatial_attention_timestep_skip_range=(100, 800),
            current_timestep_callback=lambda: 500,
        ),
    ):
        model, cache = make_model(), ContextCache()
        expected = velocity(model, sequence_at(conditioning), text)
        model.enable_cache(config)
        lengths.clear()
        with model.cache_context("cond"):
            assert torch.equal(velocity(model, sequence_at(conditioning), text, cache), expected)
            assert velocity(model, sequence_at(conditioning, 600.0), text, cache).isfinite().all()
        assert lengths == [VIDEO + 5] * 2
        model.disable_cache()


def test_fused_projections_and_offload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offloaded to disk, with NaN left in memory, from the first call to one that has the references already."""
    model, text, conditioning, cache = make_model(), make_text(), strict(), ContextCache()
    sequences = [sequence_at(conditioning, step) for step in (900.0, 500.0)]
    expected = [velocity(model, sequence, text) for sequence in sequences]
    model.fuse_qkv_projections()
    monkeypatch.setattr(torch, "empty_like", lambda tensor, **to: torch.full_like(tensor, torch.nan, **to))
    model.enable_group_offload(
        onload_device=torch.device("cpu"),
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        offload_to_disk_path=str(tmp_path),
    )
    for sequence, wanted in zip(sequences, expected, strict=True):
        assert (velocity(model, sequence, text, cache) - wanted).abs().max() < 1e-6
    assert cache.holds_references


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, "tokens with timesteps of their own"),
        ({"reference_timestep": None}, "subject anchors"),
        ({"references_attend": "references"}, "references that attend to references only"),
        ({"visible_BL": torch.tensor([[True, False, True, True, True]] * 2)}, "hidden tokens"),
    ],
)
def test_context_parallelism_refuses_what_it_would_do_wrong(change: dict[str, Any], complaint: str) -> None:
    model, text = make_model(), make_text()
    conditioning = replace(make_conditioning(), visible_BL=None)
    model._parallel_config = ParallelConfig(context_parallel_config=ContextParallelConfig(ring_degree=2))
    with pytest.raises(ValueError, match=f"context parallelism does not support {complaint}; load the model"):
        velocity(model, sequence_at(replace(conditioning, **change)), text)
    simple = replace(conditioning, reference_timestep=None, anchors=None)
    assert velocity(model, sequence_at(simple), text).isfinite().all()


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute:UserWarning"
)  # torch.compile looks at it, and warns itself
def test_compiled_blocks_are_not_compiled_again_and_again() -> None:
    """For the call that fills the cache, for the first that has the references, and for none after that."""
    model, text, conditioning, cache = make_model(3), make_text(), strict(), ContextCache()
    steps = [sequence_at(conditioning, step, seed=int(step)) for step in (900.0, 700.0, 500.0, 20.0)]
    expected = [velocity(model, sequence, text) for sequence in steps]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model.compile_repeated_blocks(fullgraph=True)
    graphs = []
    for sequence, wanted in zip(steps, expected, strict=True):
        assert (velocity(model, sequence, text, cache) - wanted).abs().max() < 1e-5
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] == 1
    # With another length the graph is one for any length, and there the first block differs from the others: its input is a view.
    assert graphs[1] <= 3
    assert graphs[3] == graphs[1]

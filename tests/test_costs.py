"""The counted cost of a pass against torch's own counter, against caches that were filled, and against Kaleido's published figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_transformer import make_conditioning, make_model, make_text, sequence_of, velocity
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from anyref.conditioning import Conditioning, assemble
from anyref.costs import (
    FusedAttention,
    LiveBytes,
    Operations,
    context_operations,
    kept_numbers,
    step_operations,
    weight_bytes,
)
from anyref.latents import TextContext, TokenSequence, grid_positions
from anyref.transformer import AnyRefTransformer, ContextCache

TEXT = 7


def case(name: str) -> TokenSequence:
    """Sequences of one and two rows, with and without each thing that costs something."""
    batch = 1 if name == "dropped" else 2
    conditioning = make_conditioning(batch)
    if name == "plain":
        conditioning = Conditioning(channels_BCTHW=conditioning.channels_BCTHW)
    elif name != "all":
        conditioning = replace(conditioning, references_attend="references")
    if name == "the video's timestep":
        conditioning = replace(conditioning, reference_timestep=None, anchors=None)
    return sequence_of(conditioning, batch)


CASES = ("plain", "all", "apart", "dropped", "the video's timestep")


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """torch's counter; it does not know the CPU's fused attention, so attention is done by matrix products."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


@pytest.mark.parametrize("name", CASES)
def test_operations_are_those_torch_counts(name: str) -> None:
    model, sequence = make_model(), case(name)
    text, cache = make_text(sequence.tokens_BLP.shape[0], TEXT), ContextCache()
    step = step_operations(model.config, sequence, TEXT)
    once = context_operations(model.config, sequence, TEXT)
    with counted() as counter:
        velocity(model, sequence, text, cache)
    assert counter.get_total_flops() == 2 * (step + once).total
    kept = cache.holds_references
    assert kept == (name in {"apart", "dropped"})
    with counted() as counter:
        velocity(model, sequence, text, cache)
    later = step_operations(model.config, sequence, TEXT, references_kept=kept)
    assert counter.get_total_flops() == 2 * later.total
    assert (later.total < step.total) == kept


def test_parts_are_those_torch_counts() -> None:
    """By module: a part that is too large by as much as another is too small would not show in the total."""
    model, sequence, text, cache = make_model(), case("apart"), make_text(2, TEXT), ContextCache()
    velocity(model, sequence, text, cache)
    later = step_operations(model.config, sequence, TEXT, references_kept=True)
    with counted() as counter:
        velocity(model, sequence, text, cache)

    def flops(part: str, attention: bool | None = None) -> int:
        found = 0
        for index in range(len(model.blocks)):
            counts = counter.get_flop_counts()[f"AnyRefTransformer.blocks.{index}.{part}"]
            for operator, count in counts.items():
                if attention is None or attention == ("bmm" in str(operator)):
                    found += count
        return found

    assert flops("attn1", attention=False) + flops("attn2", attention=False) == 2 * later.projections
    assert flops("attn1", attention=True) == 2 * later.self_attention
    assert flops("attn2", attention=True) == 2 * later.cross_attention
    assert flops("ffn") == 2 * later.feed_forward


@pytest.mark.parametrize("name", CASES)
def test_kept_numbers_are_those_of_a_filled_cache(name: str) -> None:
    model, sequence, cache = make_model(), case(name), ContextCache()
    velocity(model, sequence, make_text(sequence.tokens_BLP.shape[0], TEXT), cache)
    kept = kept_numbers(model.config, sequence, TEXT)
    references = [block.references for block in cache.blocks if block.references is not None]
    held = numbers(*[tensor for one in references for tensor in (one.key, one.value)])
    context = [getattr(block, part) for block in cache.blocks for part in vars(block) if part != "references"]
    assert kept.references == held
    assert kept.context == numbers(cache.text_BSD, cache.image_BSD, *context)
    assert (held > 0) == (name in {"apart", "dropped"})
    assert kept_numbers(model.config, sequence, TEXT, keep_references=False).references == 0


def numbers(*tensors: Tensor | None) -> int:
    return sum(tensor.numel() for tensor in tensors if tensor is not None)


def sequence_14b(references: int) -> TokenSequence:
    """480 x 832 x 81 with whole frames for references, as Kaleido has them, on the meta device."""
    frame = (1, 30, 52)
    places = torch.cat([grid_positions(frame)] * references)[None] if references else None
    conditioning = Conditioning(
        tokens_BLP=torch.empty(1, references * 30 * 52, 64, device="meta") if references else None,
        positions_BL3=None if places is None else places.to("meta"),
    )
    noisy = torch.empty(1, 16, 21, 60, 104, device="meta")
    return assemble(noisy, torch.empty(1, device="meta"), conditioning)


def config_14b(**changes: Any) -> dict[str, Any]:
    with torch.device("meta"):
        return {**AnyRefTransformer(num_layers=1).config, "num_layers": 40, **changes}


def test_kaleidos_published_figures() -> None:
    plain, three = sequence_14b(0), sequence_14b(3)
    assert plain.num_video_tokens == 32760
    assert sequence_14b(1).tokens_BLP.shape[1] - 32760 == 1560
    assert three.tokens_BLP.shape[1] / 32760 == pytest.approx(1.143, abs=5e-4)
    config = config_14b()
    without, with_three = step_operations(config, plain, 512), step_operations(config, three, 512)
    assert with_three.self_attention / without.self_attention == pytest.approx(1.306, abs=5e-4)
    assert with_three.feed_forward / without.feed_forward == pytest.approx(1.143, abs=5e-4)


def test_a_block_of_the_14b_counts_as_torch_does() -> None:
    sequence, text = sequence_14b(3), TextContext(torch.empty(1, 512, 4096, device="meta"))
    with torch.device("meta"):
        model = AnyRefTransformer(num_layers=1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(sequence, encoder_hidden_states=text, cache=ContextCache())
    config = config_14b(num_layers=1)
    expected = step_operations(config, sequence, 512) + context_operations(config, sequence, 512)
    assert counter.get_total_flops() == 2 * expected.total


def test_weights_of_a_loaded_model(tmp_path: Path) -> None:
    """Against what diffusers loads: some parts stay in float32."""
    model = make_model()
    assert weight_bytes(model, torch.float32) == 4 * sum(one.numel() for one in model.parameters())
    model.save_pretrained(tmp_path)
    loaded = AnyRefTransformer.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert {one.dtype for one in loaded.parameters()} == {torch.float32, torch.bfloat16}
    bytes_of_each = [one.numel() * one.itemsize for one in loaded.parameters()]
    assert weight_bytes(model, torch.bfloat16) == sum(bytes_of_each)


def test_live_bytes_of_known_tensors() -> None:
    outside = torch.zeros(1000)
    with LiveBytes() as live:
        view = outside[:500]  # not made here
        assert live.now == 0
        first = torch.zeros(100)
        second = first.view(10, 10) + 1
        assert live.now == 800
        third = (second * 2).sum()
        assert live.now == 804  # the product is gone
        assert live.peak == 1204
        del first
        assert live.now == 404
        del second, third
    assert live.now == 0
    assert live.peak == 1204
    assert view.shape == (500,)


def test_live_bytes_without_data_are_those_of_a_run() -> None:
    """The whole transformer on the meta device and on the CPU, whose fused kernel makes one number per query and head more."""
    model, text = make_model(), make_text(1, TEXT)
    with torch.device("meta"):
        hollow = AnyRefTransformer.from_config(dict(model.config))
    sequence = replace(case("dropped"), anchor_region_BRM=None, anchor_span_BRZ=None, anchor_strength=0.0)
    moved = {
        name: value.to("meta")
        for name, value in vars(sequence).items()
        if isinstance(value, Tensor) and name != "group_L"  # layout, read on the host
    }
    text = TextContext(text.tokens_BSD)
    hollow_sequence, hollow_text = replace(sequence, **moved), TextContext(text.tokens_BSD.to("meta"))
    with LiveBytes() as live:
        cache = ContextCache()
        velocity(model, sequence, text, cache)
    with FusedAttention(), LiveBytes() as without_data:
        hollow_cache = ContextCache()
        velocity(hollow, hollow_sequence, hollow_text, hollow_cache)
    kept = kept_numbers(model.config, sequence, TEXT)
    assert live.now == without_data.now == 4 * (kept.context + kept.references)
    assert without_data.peak == pytest.approx(live.peak, rel=0.02)


def test_more_blocks_only_keep_more() -> None:
    """What is alive beside the cache is the same however many blocks there are: a count with two is one for all."""
    sequence, text = case("apart"), make_text(2, TEXT)
    working = []
    for layers in (2, 5):
        model, cache = make_model(layers), ContextCache()
        with LiveBytes() as live:
            for _ in range(2):
                velocity(model, sequence, text, cache)
        kept = kept_numbers(model.config, sequence, TEXT)
        working.append(live.peak - 4 * (kept.context + kept.references))
    assert working[0] == working[1] > 0


def test_operations_add_up() -> None:
    assert Operations(1, 2, 3, 4, 5) + Operations(10, 20, 30, 40, 50) == Operations(11, 22, 33, 44, 55)
    assert Operations(1, 2, 3, 4, 5).total == 15

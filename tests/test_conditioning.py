"""The closed record, its joining to the noisy video, and batches of it."""

from dataclasses import fields, replace

import pytest
import torch

from anyref.conditioning import Anchors, Conditioning, assemble, concatenate
from anyref.latents import grid_positions, patchify

T, H, W = 2, 4, 6
VIDEO = T * (H // 2) * (W // 2)
FRAME0 = VIDEO // T


def references(batch: int, count: int, *, visible: bool | None = None) -> Conditioning:
    return Conditioning(
        tokens_BLP=torch.randn(batch, count, 64),
        positions_BL3=torch.randint(-5, 200, (batch, count, 3)),
        visible_BL=None if visible is None else torch.full((batch, count), visible),
        reference_timestep=0.0,
    )


def test_the_record_is_closed() -> None:
    """A new field is a decision (docs/decisions.md), not a convenience."""
    assert [field.name for field in fields(Conditioning)] == [
        "channels_BCTHW",
        "tokens_BLP",
        "positions_BL3",
        "visible_BL",
        "reference_timestep",
        "context_BSD",
        "anchors",
        "references_attend",
        "after_frames",
    ]
    assert {field.default for field in fields(Conditioning)} == {None, "all", 0}
    assert Conditioning().batch is None


def test_nothing_gives_the_plain_video() -> None:
    noisy, timestep = torch.randn(3, 16, T, H, W), torch.tensor([1.0, 500.0, 1000.0])
    sequence = assemble(noisy, timestep, Conditioning())
    assert torch.equal(sequence.tokens_BLP, patchify(noisy))
    assert torch.equal(sequence.positions_BL3[2], grid_positions((T, H // 2, W // 2)))
    assert torch.equal(sequence.timesteps_BG, timestep[:, None])
    assert sequence.grid == (T, H // 2, W // 2)
    assert sequence.num_video_tokens == VIDEO
    for name in ("group_L", "visible_BL", "context_BSD", "anchor_region_BRM", "anchor_span_BRZ"):
        assert getattr(sequence, name) is None


def test_channels_come_after_the_noisy_ones() -> None:
    noisy, channels = torch.randn(1, 16, T, H, W), torch.randn(1, 20, T, H, W)
    sequence = assemble(noisy, torch.tensor([5.0]), Conditioning(channels_BCTHW=channels))
    assert torch.equal(sequence.tokens_BLP, patchify(torch.cat([noisy, channels], dim=1)))


def test_kaleido_layout() -> None:
    """References of different sizes, the video's own timestep, positions of their own."""
    first, second = torch.randn(1, 16, 1, 4, 4), torch.randn(1, 16, 1, 2, 6)
    places = torch.cat(
        [grid_positions((1, 2, 2)) + 80, grid_positions((1, 1, 3)) + torch.tensor([1, 80, 80])]
    )
    conditioning = Conditioning(
        tokens_BLP=torch.cat([patchify(first), patchify(second)], dim=1), positions_BL3=places[None]
    )
    sequence = assemble(torch.randn(1, 16, T, H, W), torch.tensor([700.0]), conditioning)
    assert sequence.tokens_BLP.shape == (1, VIDEO + 7, 64)
    assert torch.equal(sequence.positions_BL3[0, VIDEO:], places)
    assert sequence.timesteps_BG.tolist() == [[700.0]]
    assert sequence.group_L is None
    assert sequence.visible_BL is None


def test_saber_layout() -> None:
    """Masked reference tokens of timestep 0, zeros in the video's own condition channels."""
    noisy, channels = torch.randn(2, 16, T, H, W), torch.zeros(2, 20, T, H, W)
    visible = torch.tensor([[True, False, True], [False, True, True]])
    conditioning = Conditioning(
        channels_BCTHW=channels,
        tokens_BLP=torch.randn(2, 3, 144),
        positions_BL3=torch.tensor([[T, 0, 0], [T, 0, 1], [T, 1, 0]]).expand(2, -1, -1),
        visible_BL=visible,
        reference_timestep=0.0,
    )
    sequence = assemble(noisy, torch.tensor([300.0, 400.0]), conditioning)
    assert sequence.timesteps_BG.tolist() == [[300.0, 0.0], [400.0, 0.0]]
    assert sequence.group_L is not None
    assert sequence.group_L.tolist() == [0] * VIDEO + [1] * 3
    assert sequence.visible_BL is not None
    assert sequence.visible_BL[:, :VIDEO].all()
    assert torch.equal(sequence.visible_BL[:, VIDEO:], visible)


def test_one_sample_drops_invisible_tokens() -> None:
    conditioning = replace(references(1, 4), visible_BL=torch.tensor([[True, False, False, True]]))
    assert conditioning.tokens_BLP is not None
    noisy, timestep = torch.randn(1, 16, T, H, W), torch.tensor([300.0])
    sequence = assemble(noisy, timestep, conditioning)
    assert sequence.visible_BL is None
    assert torch.equal(sequence.tokens_BLP[:, VIDEO:], conditioning.tokens_BLP[:, [0, 3]])
    none_left = assemble(noisy, timestep, references(1, 4, visible=False))
    assert none_left.tokens_BLP.shape[1] == VIDEO
    assert none_left.group_L is None


def test_a_fractional_timestep_survives_a_solver_of_integers() -> None:
    half = replace(references(1, 3), reference_timestep=12.5)
    sequence = assemble(torch.randn(1, 16, T, H, W), torch.tensor([500]), half)
    assert sequence.timesteps_BG.tolist() == [[500.0, 12.5]]


def test_references_that_attend_to_themselves_are_fixed_if_their_timestep_is() -> None:
    apart = replace(references(2, 3), references_attend="references")
    noisy, timestep = torch.randn(2, 16, T, H, W), torch.tensor([300.0, 20.0])
    sequence = assemble(noisy, timestep, apart)
    assert sequence.references_attend == "references"
    assert sequence.fixed_references is apart
    moving = assemble(noisy, timestep, replace(apart, reference_timestep=None))
    assert moving.references_attend == "references"
    assert moving.fixed_references is None
    assert assemble(noisy, timestep, references(2, 3)).fixed_references is None
    hidden = replace(apart.to("cpu", torch.float32), visible_BL=torch.zeros(2, 3, dtype=torch.bool))
    assert assemble(noisy, timestep, hidden).fixed_references is hidden
    one = replace(references(1, 3, visible=False), references_attend="references")
    none_left = assemble(noisy[:1], timestep[:1], one)
    assert none_left.references_attend == "all"
    assert none_left.fixed_references is None


def test_anchors_of_strength_zero_are_left_out() -> None:
    anchors = Anchors(torch.ones(1, 2, FRAME0, dtype=torch.bool), torch.ones(1, 2, 5) / 5, 0.5)
    noisy, timestep = torch.randn(1, 16, T, H, W), torch.tensor([300.0])
    sequence = assemble(noisy, timestep, Conditioning(anchors=anchors))
    assert sequence.anchor_region_BRM is anchors.region_BRL
    assert sequence.anchor_span_BRZ is anchors.span_BRS
    assert sequence.anchor_strength == 0.5
    off = assemble(noisy, timestep, Conditioning(anchors=replace(anchors, strength=0.0)))
    assert off.anchor_region_BRM is None
    assert off.anchor_span_BRZ is None


def test_to_keeps_what_is_not_a_value() -> None:
    anchors = Anchors(torch.ones(2, 1, FRAME0, dtype=torch.bool), torch.ones(2, 1, 5), 0.5)
    full = replace(
        references(2, 3, visible=True),
        channels_BCTHW=torch.randn(2, 20, T, H, W),
        context_BSD=torch.randn(2, 4, 8),
        anchors=anchors,
    )
    moved = full.to("cpu", torch.bfloat16)
    assert moved.channels_BCTHW is not None
    kinds = {field.name: getattr(moved, field.name) for field in fields(moved)}
    assert (
        kinds["channels_BCTHW"].dtype
        == kinds["tokens_BLP"].dtype
        == kinds["context_BSD"].dtype
        == torch.bfloat16
    )
    assert kinds["positions_BL3"].dtype == torch.int64
    assert kinds["visible_BL"].dtype == torch.bool
    assert kinds["anchors"].span_BRS.dtype == torch.float32
    assert Conditioning().to("cpu", torch.bfloat16) == Conditioning()


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="positions_BL3"):
        Conditioning(tokens_BLP=torch.zeros(1, 4, 64), positions_BL3=torch.zeros(1, 3, 3))
    with pytest.raises(AssertionError, match="come together"):
        Conditioning(tokens_BLP=torch.zeros(1, 4, 64))
    with pytest.raises(ValueError, match="span_BRS"):
        Anchors(torch.ones(1, 2, 6), torch.ones(1, 3, 5), 1.0)


def test_concatenate_pads_and_hides() -> None:
    parts = [references(1, 2), references(2, 5, visible=True), references(1, 3)]
    joined = concatenate(parts)
    assert joined.tokens_BLP is not None
    assert joined.visible_BL is not None
    assert joined.tokens_BLP.shape == (4, 5, 64)
    assert joined.visible_BL.sum(dim=1).tolist() == [2, 5, 5, 3]
    assert joined.reference_timestep == 0.0
    assert torch.equal(joined.tokens_BLP[3, :3], parts[2].tokens_BLP[0])


def test_concatenate_keeps_no_mask_where_none_is_needed() -> None:
    joined = concatenate([references(1, 2), references(3, 2)])
    assert joined.visible_BL is None
    assert joined.batch == 4


def test_concatenate_guidance_branches() -> None:
    """The unconditional side without references, without anchors: hidden tokens, empty regions."""
    channels, context = torch.randn(1, 20, T, H, W), torch.randn(1, 4, 8)
    anchors = Anchors(torch.ones(1, 2, FRAME0, dtype=torch.bool), torch.ones(1, 2, 5), 0.5)
    bare = Conditioning(channels_BCTHW=channels, context_BSD=context)
    joined = concatenate([replace(bare, anchors=anchors), bare])
    assert joined.anchors is not None
    assert joined.anchors.region_BRL.any(dim=(1, 2)).tolist() == [True, False]
    assert joined.anchors.span_BRS.sum(dim=(1, 2)).tolist() == [10.0, 0.0]
    assert joined.anchors.strength == 0.5

    dropped = concatenate([references(2, 3), Conditioning()])
    assert dropped.visible_BL is not None
    assert dropped.visible_BL.sum(dim=1).tolist() == [3, 3, 0, 0]
    assert concatenate([Conditioning(), Conditioning()]) == Conditioning()

    apart = replace(references(2, 3), references_attend="references")
    assert concatenate([apart, Conditioning()]).references_attend == "references"


def test_concatenate_pads_anchors() -> None:
    def of(count: int, span: int) -> Conditioning:
        return Conditioning(
            anchors=Anchors(torch.ones(1, count, FRAME0, dtype=torch.bool), torch.ones(1, count, span), 1.0)
        )

    joined = concatenate([of(1, 7), of(3, 4)]).anchors
    assert joined is not None
    assert joined.region_BRL.shape == (2, 3, FRAME0)
    assert joined.span_BRS.shape == (2, 3, 7)
    assert joined.region_BRL.sum(dim=(1, 2)).tolist() == [FRAME0, 3 * FRAME0]
    assert joined.span_BRS.sum(dim=(1, 2)).tolist() == [7.0, 12.0]


def test_concatenate_refuses_mixtures() -> None:
    channels = Conditioning(channels_BCTHW=torch.zeros(1, 20, T, H, W))
    with pytest.raises(ValueError, match="some conditionings have channels_BCTHW"):
        concatenate([channels, references(1, 2)])
    with pytest.raises(ValueError, match="reference timesteps"):
        concatenate([references(1, 2), replace(references(1, 2), reference_timestep=None)])
    with pytest.raises(ValueError, match="attend to references only; run these samples apart"):
        concatenate([references(1, 2), replace(references(1, 2), references_attend="references")])
    anchors = Anchors(torch.ones(1, 1, FRAME0), torch.ones(1, 1, 5), 0.5)
    with pytest.raises(ValueError, match="anchor strengths"):
        concatenate([Conditioning(anchors=anchors), Conditioning(anchors=replace(anchors, strength=1.0))])

"""Sizes, patches, positions, and the shape check of the records."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from anyref.latents import (
    TextContext,
    TokenSequence,
    VideoShape,
    check_shapes,
    grid_positions,
    patchify,
    unpatchify,
)

sizes = st.integers(1, 4)


def test_sizes_of_the_release() -> None:
    shape = VideoShape(81, 480, 832)
    assert shape.latent == (21, 60, 104)
    assert shape.tokens == (21, 30, 52)
    assert VideoShape(1, 16, 16).tokens == (1, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ((16, 64, 96), "num_frames is 16; it must be 4k . 1 .*; try 17"),
        ((0, 64, 96), "try 1"),
        ((-7, 64, 96), "try 1"),
        ((17, 65, 96), "height is 65; .* try 64"),
        ((17, 64, 0), "width is 0; .* try 16"),
        ((17, 64, 8), "try 16"),
    ],
)
def test_sizes_that_cannot_be(arguments: tuple[int, int, int], advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        VideoShape(*arguments)


def test_patches_are_in_the_order_of_the_convolution() -> None:
    convolution = torch.nn.Conv3d(3, 5, kernel_size=(1, 2, 2), stride=(1, 2, 2))
    latents = torch.randn(2, 3, 3, 4, 6)
    expected = convolution(latents).flatten(2).transpose(1, 2)
    ours = patchify(latents) @ convolution.weight.flatten(1).T + convolution.bias
    assert (ours - expected).abs().max() < 1e-5


@given(batch=sizes, channels=sizes, frames=sizes, height=sizes, width=sizes)
def test_unpatchify_inverts_patchify(batch: int, channels: int, frames: int, height: int, width: int) -> None:
    latents = torch.randn(batch, channels, frames, 2 * height, 2 * width)
    tokens = patchify(latents)
    assert tokens.shape == (batch, frames * height * width, 4 * channels)
    # The two orders of values differ, as Wan's input and output layers do: (c, ph, pw) and (ph, pw, c).
    out = tokens.unflatten(2, (channels, 4)).transpose(2, 3).flatten(2)
    assert torch.equal(unpatchify(out, (frames, height, width)), latents)


@given(frames=sizes, height=sizes, width=sizes)
def test_positions_are_the_tokens_places(frames: int, height: int, width: int) -> None:
    positions = grid_positions((frames, height, width))
    index = (positions[:, 0] * height + positions[:, 1]) * width + positions[:, 2]
    assert torch.equal(index, torch.arange(frames * height * width))


@dataclass(frozen=True)
class Record:
    tokens_BLP: Tensor
    positions_BL3: Tensor | None = None
    note: str = ""


def test_shapes_are_compared_with_names_and_across_fields() -> None:
    tokens = torch.zeros(2, 5, 4)
    check_shapes(Record(tokens, torch.zeros(2, 5, 3)))
    check_shapes(Record(tokens))
    with pytest.raises(ValueError, match="positions_BL3: axis L is 6, but 5 in tokens_BLP"):
        check_shapes(Record(tokens, torch.zeros(2, 6, 3)))
    with pytest.raises(ValueError, match="positions_BL3: an axis of size 3 is 4"):
        check_shapes(Record(tokens, torch.zeros(2, 5, 4)))
    with pytest.raises(ValueError, match="tokens_BLP: 2 axes"):
        check_shapes(Record(torch.zeros(2, 5)))


def test_records_check_themselves() -> None:
    with pytest.raises(ValueError, match="bias_BS"):
        TextContext(torch.zeros(1, 4, 8), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="positions_BL3"):
        TokenSequence(torch.zeros(1, 4, 8), torch.zeros(1, 3, 3), torch.zeros(1, 1), (1, 2, 2))
    sequence = TokenSequence(torch.zeros(1, 7, 8), torch.zeros(1, 7, 3), torch.zeros(1, 1), (1, 2, 2))
    assert sequence.num_video_tokens == 4


def test_video_only_keeps_the_timesteps_of_the_video() -> None:
    sequence = TokenSequence(
        tokens_BLP=torch.randn(2, 7, 8),
        positions_BL3=torch.arange(42).reshape(2, 7, 3),
        timesteps_BG=torch.tensor([[5.0, 6.0, 7.0], [8.0, 9.0, 10.0]]),
        grid=(1, 2, 2),
        group_L=torch.tensor([1, 1, 1, 1, 0, 2, 2]),
        visible_BL=torch.rand(2, 7) > 0.5,
        references_attend="references",
        fixed_references="a record",
    )
    video = sequence.video_only()
    assert torch.equal(video.tokens_BLP, sequence.tokens_BLP[:, :4])
    assert torch.equal(video.positions_BL3, sequence.positions_BL3[:, :4])
    assert video.timesteps_BG.tolist() == [[6.0], [9.0]]
    assert video.group_L is None
    assert video.references_attend == "all"
    assert video.fixed_references is None
    several = replace(sequence, group_L=torch.tensor([0, 2, 2, 0, 1, 1, 1])).video_only()
    assert several.timesteps_BG.tolist() == [[5.0, 7.0], [8.0, 10.0]]
    assert several.group_L is not None
    assert several.group_L.tolist() == [0, 1, 1, 0]


def test_references_that_see_the_video_are_not_fixed() -> None:
    with pytest.raises(AssertionError, match="change with it"):
        TokenSequence(
            torch.zeros(1, 7, 8),
            torch.zeros(1, 7, 3),
            torch.zeros(1, 1),
            (1, 2, 2),
            fixed_references="a record",
        )

"""MAGREF's baselines: references as frames of the condition, the canvas as tokens; every reference matters in both."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_transformer

from anyref.conditioning import assemble
from anyref.encoders import Encoders
from anyref.latents import TextContext, VideoShape
from anyref.methods import make_method
from anyref.methods.magref_baselines import TokenConcatMethod, VanillaMaskMethod
from anyref.references import Reference

SHAPE = VideoShape(9, 32, 48)
NAMES = ("magref-vanilla-mask", "magref-token-concat")


def picture(seed: int) -> Reference:
    return Reference(np.random.default_rng(seed).integers(0, 256, (40, 30, 3), dtype=np.uint8))


def test_vanilla_mask_gives_each_reference_a_frame(encoders: Encoders) -> None:
    rows = [[picture(0), picture(1)], [picture(2)]]
    channels = VanillaMaskMethod().condition(rows, None, SHAPE, encoders).channels_BCTHW
    assert channels is not None
    assert channels.shape == (2, 20, *SHAPE.latent)
    mask = channels[:, :4]
    assert mask[0, :, :2].eq(1).all()
    assert mask[0, :, 2:].eq(0).all()
    assert mask[1, :, :1].eq(1).all()
    assert mask[1, :, 1:].eq(0).all()
    assert channels[0, 4:, 2:].eq(0).all()
    alone = VanillaMaskMethod().condition([[picture(1)]], None, SHAPE, encoders).channels_BCTHW
    assert alone is not None
    assert torch.allclose(channels[0, 4:, 1], alone[0, 4:, 0], atol=1e-5), "each is encoded alone"


def test_token_concat_puts_the_canvas_after_the_video(encoders: Encoders) -> None:
    conditioning = TokenConcatMethod().condition([[picture(0)]], None, SHAPE, encoders)
    tokens, positions = conditioning.tokens_BLP, conditioning.positions_BL3
    assert tokens is not None
    assert positions is not None
    _, height, width = SHAPE.tokens
    assert tokens.shape == (1, height * width, 36 * 4)
    assert positions[..., 0].unique().tolist() == [SHAPE.tokens[0]]
    latents, mask, again = tokens.unflatten(2, (36, 4)).split((16, 4, 16), dim=2)
    assert torch.equal(latents, again)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert conditioning.channels_BCTHW is not None
    assert conditioning.channels_BCTHW.eq(0).all()


@pytest.mark.parametrize("name", NAMES)
def test_each_reference_matters_and_the_video_has_no_canvas(name: str, encoders: Encoders) -> None:
    method, transformer = make_method(name), make_transformer().eval()
    assert method.in_channels == transformer.config.in_channels
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
    noisy, text = torch.randn(1, 16, *SHAPE.latent), TextContext(torch.randn(1, 5, 32))

    def velocity(row: list[Reference]) -> torch.Tensor:
        conditioning = replace(method.condition([row], None, SHAPE, encoders), context_BSD=None)
        sequence = assemble(noisy, torch.tensor([500.0]), conditioning)
        with torch.no_grad():
            out: torch.Tensor = transformer(sequence, encoder_hidden_states=text, return_dict=False)[0]
        return out

    usual = velocity([picture(0), picture(1)])
    assert not torch.equal(usual, velocity([picture(2), picture(1)]))
    assert not torch.equal(usual, velocity([picture(0), picture(2)]))
    assert method.sampled_shape(SHAPE, keep_canvas=False) == SHAPE
    frames = np.zeros((9, 32, 48, 3), np.uint8)
    assert method.output_frames(frames, keep_canvas=False) is frames
    assert np.array_equal(method.training_video(frames, [], SHAPE), frames)
    with pytest.raises(ValueError, match="the clip has 8 frames and 9 are sampled"):
        method.training_video(frames[1:], [], SHAPE)


@pytest.mark.parametrize("name", NAMES)
def test_they_have_no_anchors_and_no_release(name: str) -> None:
    with pytest.raises(ValueError, match="has no canvas frame to anchor subjects in"):
        make_method(name, {"anchor_strength": 1.0})
    with pytest.raises(ValueError, match="has no release"):
        make_method(name).official()


def test_more_references_than_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="4 references were given; 9 frames have room for 3"):
        VanillaMaskMethod().check([picture(0)] * 4, SHAPE)

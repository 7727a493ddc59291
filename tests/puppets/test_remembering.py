"""What was encoded once is found again, bit for bit, and only by the same pixels and weights."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from anyref.puppets import models
from anyref.puppets.autoencoder import WholeClipEncoder
from anyref.puppets.remembering import RecallingEncoder, RememberingEncoder


class Counting(WholeClipEncoder):
    """Counts how often it is asked."""

    calls = 0

    def encode(self, video_BCFYX: Tensor):  # type: ignore[no-untyped-def]
        self.calls += 1
        return super().encode(video_BCFYX)


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    made = models.build_autoencoder()
    models.initialise(made, 0)
    return made.eval()


def clips(seed: int) -> Tensor:
    return torch.rand(2, 3, 5, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_second_asking_encodes_nothing(vae: AutoencoderKLWan, tmp_path: Path) -> None:
    path = tmp_path / "new" / "encoded.sqlite"
    first, second = Counting(vae), Counting(vae)
    made = RememberingEncoder(first, path).encode(clips(0)).latent_dist.mode()
    found = RememberingEncoder(second, path).encode(clips(0)).latent_dist.mode()
    assert (first.calls, second.calls) == (1, 0)
    assert torch.equal(made, found)
    plain = WholeClipEncoder(vae).encode(clips(0)).latent_dist.mode()
    torch.testing.assert_close(made, plain, rtol=2e-3, atol=2e-3)


def test_other_pixels_shapes_and_weights_are_not_mistaken(vae: AutoencoderKLWan, tmp_path: Path) -> None:
    path, counting = tmp_path / "encoded.sqlite", Counting(vae)
    remembering = RememberingEncoder(counting, path)
    remembering.encode(clips(0))
    remembering.encode(clips(1))
    remembering.encode(clips(0)[:1])
    assert counting.calls == 3
    other = models.build_autoencoder()
    models.initialise(other, 1)
    elsewhere = Counting(other.eval())
    RememberingEncoder(elsewhere, path).encode(clips(0))
    assert elsewhere.calls == 1


def test_recalling_gives_the_same_bits_and_encodes_once(vae: AutoencoderKLWan) -> None:
    kept: dict[bytes, Tensor] = {}
    counting = Counting(vae)
    video = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = counting.encode(video).latent_dist.mode()
        for _ in range(2):  # another bench, the same autoencoder
            recalled = RecallingEncoder(counting, kept)
            assert torch.equal(recalled.encode(video).latent_dist.mode(), expected)
        assert not torch.equal(RecallingEncoder(counting, kept).encode(-video).latent_dist.mode(), expected)
    assert counting.calls == 3

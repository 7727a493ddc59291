"""Flow matching: noise levels, mixing, and the weighed loss."""

import pytest
import torch

from anyref.training.flow import FlowConfig, add_noise, draw_sigmas, velocity_loss


@pytest.mark.parametrize("density", ["logit-normal", "uniform"])
def test_sigmas_lie_inside_and_shift_raises_them(density: str) -> None:
    def draw(shift: float) -> torch.Tensor:
        config = FlowConfig(density=density, shift=shift)  # type: ignore[arg-type]
        return draw_sigmas(config, 2000, torch.Generator().manual_seed(0))

    plain, shifted = draw(1.0), draw(3.0)
    assert plain.min() > 0 and shifted.max() < 1
    assert torch.allclose(shifted, 3 * plain / (1 + 2 * plain))
    assert float(plain.mean()) == pytest.approx(0.5, abs=0.02)


def test_ends_of_the_path() -> None:
    clean, noise = torch.randn(2, 4, 1, 2, 2), torch.randn(2, 4, 1, 2, 2)
    assert torch.equal(add_noise(clean, noise, torch.tensor([0.0, 0.0])), clean)
    assert torch.equal(add_noise(clean, noise, torch.tensor([1.0, 1.0])), noise)


def test_velocity_is_the_derivative_of_the_path() -> None:
    clean, noise = torch.randn(1, 4, 1, 2, 2).double(), torch.randn(1, 4, 1, 2, 2).double()
    step = add_noise(clean, noise, torch.tensor([0.6]).double()) - add_noise(
        clean, noise, torch.tensor([0.5]).double()
    )
    assert float(velocity_loss(step / 0.1, clean, noise)) < 1e-12


def test_weights_only_shift_attention() -> None:
    clean, noise = torch.zeros(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 2, 2)
    velocity = torch.tensor([[[[[1.0, 0.0], [0.0, 0.0]]]]])
    even = velocity_loss(velocity, clean, noise)
    weight = torch.ones(1, 1, 1, 2, 2)
    assert torch.equal(velocity_loss(velocity, clean, noise, weight), even)
    weight[..., 0, 0] = 5.0
    assert float(velocity_loss(velocity, clean, noise, weight)) == pytest.approx(float(even) * 5 / 2)

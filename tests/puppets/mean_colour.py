"""A judge that knows one thing: the mean colour."""

import torch


class MeanColour(torch.nn.Module):
    """Pictures [B, 3, 64, 64] to unit vectors [B, 3]."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(pictures.mean(dim=(2, 3)), dim=-1)

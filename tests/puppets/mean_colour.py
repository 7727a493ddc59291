"""A judge that knows one thing: the mean colour."""

import torch


class MeanColour(torch.nn.Module):
    """Pictures of any size [B, 3, Y, X] to unit vectors [B, 3]."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(pictures.mean(dim=(2, 3)), dim=-1)

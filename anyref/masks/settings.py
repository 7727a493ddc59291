"""What masks are drawn and how they are warped: shapes, foreground ratios, affine ranges."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

Shape = Literal["ellipse", "fourier", "convex", "concave"]
SHAPES: tuple[Shape, ...] = get_args(Shape)


class RatioBand(NamedTuple):
    """With this probability, the foreground's part of the frame is uniform in [low, high]."""

    probability: float
    low: float
    high: float


PAPER_RATIOS = (RatioBand(0.1, 0.0, 0.1), RatioBand(0.8, 0.1, 0.5), RatioBand(0.1, 0.5, 1.0))
"""Nearly no reference, subjects, backgrounds ("Mask Generator")."""


@dataclass(frozen=True)
class MaskConfig:
    """How masks are drawn and warped; the defaults are the paper's, and its ablations replace one field.

    Ellipse, Fourier or polygon only: `shapes`, ("convex", "concave") for polygons; fixed r = 0.3: `fixed(0.3)`; no
    mask augmentation: `augment=False`. Raises ValueError for an unknown shape or a range that cannot be drawn from.
    """

    shapes: tuple[Shape, ...] = SHAPES
    """One of them is chosen for each mask, each as likely as the others."""
    ratios: tuple[RatioBand, ...] = PAPER_RATIOS
    augment: bool = True
    """Warp the frame and its mask."""
    rotation_deg: tuple[float, float] = (-10.0, 10.0)
    scale: tuple[float, float] = (0.8, 2.0)
    shear_deg: tuple[float, float] = (-10.0, 10.0)
    flip_probability: float = 0.5

    def __post_init__(self) -> None:
        if not self.shapes or not set(self.shapes) <= set(SHAPES):
            raise ValueError(f"mask shapes are {self.shapes}; name one or more of {', '.join(SHAPES)}")
        total = sum(band.probability for band in self.ratios)
        bands = all(b.probability >= 0 and 0 <= b.low <= b.high <= 1 for b in self.ratios)
        if not bands or abs(total - 1) > 1e-6:
            raise ValueError(
                f"mask ratios are {self.ratios}; give bands with 0 <= low <= high <= 1 and probabilities that sum to 1"
            )
        for name, (low, high), least, most in (
            ("rotation_deg", self.rotation_deg, -180, 180),
            ("scale", self.scale, 0.05, 20),
            ("shear_deg", self.shear_deg, -60, 60),
            ("flip_probability", (self.flip_probability, self.flip_probability), 0, 1),
        ):
            if not least <= low <= high <= most:
                raise ValueError(
                    f"{name} of the masks is {getattr(self, name)}; give values between {least} and {most}, the lower one first"
                )

    def fixed(self, ratio: float) -> "MaskConfig":
        """The ablation in which every mask covers the same part of the frame (the paper's r = 0.3)."""
        return replace(self, ratios=(RatioBand(1.0, ratio, ratio),))

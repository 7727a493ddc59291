"""Structural similarity (SSIM, Wang et al. 2004) of two grey pictures, pixel by pixel: what the leak and copy metrics see alike by."""

import numpy as np
from numpy.typing import NDArray

_STEADY = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
_SIGMA_PX = 1.5
_REACH_PX = 5


def similarity_map(first_YX: NDArray[np.uint8], second_YX: NDArray[np.uint8]) -> NDArray[np.float64]:
    """[Y, X], -1 to 1, in Gaussian windows of 1.5 pixels, edges repeated; 1 where the windows are equal."""
    assert first_YX.shape == second_YX.shape
    first, second = first_YX.astype(np.float64), second_YX.astype(np.float64)
    mean1, mean2 = _blurred(first), _blurred(second)
    spread1, spread2 = _blurred(first * first) - mean1**2, _blurred(second * second) - mean2**2
    together = _blurred(first * second) - mean1 * mean2
    alike = (2 * mean1 * mean2 + _STEADY[0]) * (2 * together + _STEADY[1])
    similarity: NDArray[np.float64] = alike / (
        (mean1**2 + mean2**2 + _STEADY[0]) * (spread1 + spread2 + _STEADY[1])
    )
    return similarity


def _blurred(values_YX: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(-0.5 * (np.arange(-_REACH_PX, _REACH_PX + 1) / _SIGMA_PX) ** 2)
    weights /= weights.sum()
    blurred = values_YX
    for axis in (0, 1):
        reach = [(_REACH_PX, _REACH_PX) if each == axis else (0, 0) for each in (0, 1)]
        padded, length = np.pad(blurred, reach, mode="edge"), blurred.shape[axis]
        blurred = np.zeros_like(values_YX)
        for start, weight in enumerate(weights):
            blurred += weight * padded.take(range(start, start + length), axis=axis)
    return blurred

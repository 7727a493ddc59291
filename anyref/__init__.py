"""AnyRef: videos from reference images and a sentence; MAGREF, Kaleido and Saber on one Wan2.1 transformer.

The public names are loaded on first use, so that `import anyref` and `anyref --help` do not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anyref.latents import VideoShape
    from anyref.pipeline import AnyRefPipeline
    from anyref.references import Reference, load_reference
    from anyref.transformer import AnyRefTransformer

__version__ = "0.1.0"

__all__ = ["AnyRefPipeline", "AnyRefTransformer", "Reference", "VideoShape", "__version__", "load_reference"]

_HOME = {
    "AnyRefPipeline": "anyref.pipeline",
    "AnyRefTransformer": "anyref.transformer",
    "Reference": "anyref.references",
    "VideoShape": "anyref.latents",
    "load_reference": "anyref.references",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'anyref' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__

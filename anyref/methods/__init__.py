"""What a method is, and the table of them: name -> class.

A method turns references and a prompt into a `Conditioning`, in inference and in training alike, and says how
its videos are sampled. It knows neither the transformer nor the pipeline. A new one is one file and one line
in METHODS.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray

from anyref.conditioning import Conditioning
from anyref.encoders import Encoders
from anyref.latents import VideoShape
from anyref.references import Reference
from anyref.samples import Sample
from anyref.sampling import SamplingDefaults


class Method(Protocol):
    """Implemented by frozen dataclasses; their fields are the method's settings, stored in a checkpoint's
    anyref.json.
    """

    @property
    def name(self) -> str:
        """Its key in METHODS."""

    @property
    def in_channels(self) -> int:
        """Input channels of the transformers it works with: 16 (T2V backbone) or 36 (I2V backbone)."""

    @property
    def defaults(self) -> SamplingDefaults:
        """How it is sampled unless the caller says otherwise."""

    @property
    def cuts_out(self) -> bool:
        """Whether references enter without their background: each needs a mask, transparency, or a matter."""

    def official(self) -> "Method":
        """The same method with the settings and defaults of its public release."""

    def check(self, references: Sequence[Reference], shape: VideoShape) -> None:
        """Raise ValueError for what would fail later. `shape` is what is sampled."""

    def sampled_shape(self, shape: VideoShape, keep_canvas: bool) -> VideoShape:
        """What must be sampled to give the user `shape`."""

    def condition(
        self,
        references: Sequence[Sequence[Reference]],
        prompts: Sequence[str] | None,
        shape: VideoShape,
        encoders: Encoders,
        generator: torch.Generator | None = None,
    ) -> Conditioning:
        """The conditioning of a batch, one list of references and one prompt per video of the sampled shape."""

    def unconditional(self, conditioning: Conditioning) -> Conditioning:
        """The other branch of guidance, for the negative prompt."""

    def output_frames(self, frames_FYX3: Any, keep_canvas: bool) -> Any:
        """The frames the user gets of those sampled: an array, a tensor or a list, frames first."""

    def training_references(self, sample: Sample, rng: np.random.Generator) -> list[Reference]:
        """References for one training sample, each with the phrase of its subject."""

    def training_frames(self, shape: VideoShape) -> int:
        """How many frames of a clip a training target of the sampled shape shows."""

    def training_video(
        self, frames_FYX3: NDArray[np.uint8], references: Sequence[Reference], shape: VideoShape
    ) -> NDArray[np.uint8]:
        """The target of training: uint8 frames of the sampled shape, made from the clip's."""


METHODS: Mapping[str, str] = {
    "magref": "anyref.methods.magref:MagrefMethod",
    "kaleido": "anyref.methods.kaleido:KaleidoMethod",
    "saber": "anyref.methods.saber:SaberMethod",
    # What MAGREF's paper compares itself with.
    "magref-vanilla-mask": "anyref.methods.magref_baselines:VanillaMaskMethod",
    "magref-token-concat": "anyref.methods.magref_baselines:TokenConcatMethod",
}
"""Name -> module:class. A method's file is read when the method is asked for, and one can be understood without the others."""


def method_class(name: str) -> type[Any]:
    """The class of a method. Raises ValueError for a name that METHODS does not have."""
    if name not in METHODS:
        raise ValueError(f"the method {name!r} is unknown; choose one of {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    found: type[Any] = getattr(import_module(module), attribute)
    return found


def make_method(
    name: str, settings: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None
) -> Method:
    """A method from its name, its settings, and replacements of its published sampling defaults.

    Raises ValueError for a name that METHODS does not have and for a setting that the method or
    `SamplingDefaults` does not have.
    """
    factory = method_class(name)
    settings, defaults = settings or {}, defaults or {}
    _check_names(settings, _settings(factory), f"the method {name!r} has no setting")
    _check_names(defaults, {field.name for field in fields(SamplingDefaults)}, "there is no sampling default")
    method = factory(**settings)
    return replace(method, defaults=replace(method.defaults, **defaults))


def configured(method: Method, official: bool, settings: Mapping[str, Any]) -> Method:
    """The method for one call: its released settings if `official`, then the settings that are not None.

    Raises ValueError for a setting that this method does not have.
    """
    if official:
        method = method.official()
    given = {name: value for name, value in settings.items() if value is not None}
    _check_names(given, _settings(type(method)), f"the method {method.name!r} has no setting")
    return replace(cast("Any", method), **given) if given else method


def _settings(factory: type[Any]) -> set[str]:
    return {field.name for field in fields(factory)} - {"defaults"}


def _check_names(given: Mapping[str, Any], known: set[str], complaint: str) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{complaint} {name!r}; it knows {', '.join(sorted(known))}")

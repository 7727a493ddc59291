"""What each method accepts, for people: its settings, typed as text, its references, and how it is sampled.

A setting is a field of the method's class: its type says what may be written, its default what holds otherwise.
"""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from anyref.latents import VideoShape
from anyref.methods import METHODS, Method, make_method, method_class
from anyref.methods.folder import embedded_models
from anyref.references import Reference
from anyref.samples import KINDS, Kind
from anyref.sampling import SamplingDefaults

MOST_TRIED = 32
"""How many references are tried on a method to learn how many it takes."""


@dataclass(frozen=True)
class Setting:
    """A setting of a method: what may be written for it, and what it is otherwise."""

    name: str
    accepts: str
    default: str


@dataclass(frozen=True)
class MethodCard:
    """What a method accepts. `embedded` is the name of its embedded model where that is there; `most_references` None: 32 or more."""

    name: str
    about: str
    in_channels: int
    most_references: int | None
    kinds: tuple[Kind, ...]
    settings: tuple[Setting, ...]
    defaults: SamplingDefaults
    embedded: str | None


def method_cards() -> tuple[MethodCard, ...]:
    """All methods, in the order of METHODS."""
    embedded = embedded_models()
    cards = []
    for name in METHODS:
        factory, method = method_class(name), make_method(name)
        model = next((model for model in embedded if model.rpartition("/")[2] == name), None)
        cards.append(
            MethodCard(
                name=name,
                about=_summary(factory),
                in_channels=method.in_channels,
                most_references=_most_references(method),
                kinds=tuple(kind for kind in KINDS if _takes(method, [_picture(kind)])),
                settings=settings_of(factory),
                defaults=method.defaults,
                embedded=model,
            )
        )
    return tuple(cards)


def settings_of(factory: type[Any]) -> tuple[Setting, ...]:
    """The settings of a method's class, in the order in which it has them."""
    hints = _hints(factory)
    return tuple(
        Setting(field.name, _accepts(hints[field.name]), _written(field.default))
        for field in fields(factory)
        if field.name in hints
    )


def read_settings(factory: type[Any], texts: Sequence[str]) -> dict[str, Any]:
    """Settings as a user writes them, "NAME=VALUE", as values of the fields' types.

    Lists are separated by commas; `none` stands for None where the field may be it. Raises ValueError: not of that form, a name that
    the method does not have or that is given twice, a value that is not of the field's type. The class itself checks ranges.
    """
    hints = _hints(factory)
    known = f"{factory.name} knows {', '.join(hints)}"
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ValueError(f"the setting {text!r} has no '='; write NAME=VALUE; {known}")
        if name not in hints:
            raise ValueError(f"there is no setting {name!r}; {known}")
        if name in values:
            raise ValueError(f"the setting {name!r} is given twice; give it once")
        try:
            values[name] = _read(value, hints[name])
        except ValueError:
            raise ValueError(f"the setting {name} is {value!r}; it must be {_accepts(hints[name])}") from None
    return values


def _summary(factory: type[Any]) -> str:
    """The first paragraph of the method's file, or of its class where the file has several methods."""
    siblings = [place for place in METHODS.values() if place.startswith(f"{factory.__module__}:")]
    text = sys.modules[factory.__module__].__doc__ if len(siblings) == 1 else factory.__doc__
    return " ".join((text or "").split("\n\n")[0].split())


def _hints(factory: type[Any]) -> Mapping[str, Any]:
    """Setting -> type."""
    hints = get_type_hints(factory)
    return {field.name: hints[field.name] for field in fields(factory) if field.name != "defaults"}


def _choices(hint: Any) -> list[Any]:
    """The types that a type is made of: those of a union, or itself. Unions of literals are literals already."""
    return list(get_args(hint)) if get_origin(hint) in {Union, UnionType} else [hint]


def _read(text: str, hint: Any) -> Any:
    """A value of the type. Raises ValueError where the text is none."""
    if hint in {int, float, str}:
        return hint(text)
    if get_origin(hint) is tuple:
        return tuple(_read(part.strip(), get_args(hint)[0]) for part in text.split(","))
    if (words := _words(hint)) is not None:
        if text not in words:
            raise ValueError
        return words[text]
    choices = _choices(hint)
    assert len(choices) > 1, f"a setting of the type {hint} cannot be written as text"
    for choice in sorted(choices, key=lambda choice: choice is not NoneType):
        with contextlib.suppress(ValueError):
            return _read(text, choice)
    raise ValueError


def _words(hint: Any) -> dict[str, Any] | None:
    """The values of a type that has few, by the words that stand for them; None for other types."""
    if hint is NoneType:
        return {"none": None}
    if hint is bool:
        return {"true": True, "false": False}
    return {str(value): value for value in get_args(hint)} if get_origin(hint) is Literal else None


def _accepts(hint: Any) -> str:
    """What may be written for a type, in words."""
    numbers = {int: "a whole number", float: "a number", str: "text"}
    if hint in numbers:
        return numbers[hint]
    if (words := _words(hint)) is not None:
        return " or ".join(", ".join(words).rsplit(", ", 1))
    if get_origin(hint) is tuple:
        return f"one or more, with commas, of {_accepts(get_args(hint)[0])}"
    return " or ".join(_accepts(choice) for choice in _choices(hint))


def _written(value: Any) -> str:
    """A value as it is written for `read_settings`."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _most_references(method: Method) -> int | None:
    """How many pictures the method's own check lets through; None: as many as are tried."""
    counts = (count for count in range(1, MOST_TRIED + 1) if not _takes(method, [_picture()] * count))
    refused = next(counts, None)
    return None if refused is None else refused - 1


def _takes(method: Method, references: Sequence[Reference]) -> bool:
    usual = method.defaults
    shape = method.sampled_shape(VideoShape(usual.num_frames, usual.height, usual.width), keep_canvas=False)
    try:
        method.check(references, shape)
    except ValueError:
        return False
    return True


def _picture(kind: Kind = "object") -> Reference:
    return Reference(np.full((16, 16, 3), 128, np.uint8), kind, subject_mask=np.ones((16, 16), bool))

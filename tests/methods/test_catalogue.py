"""What each method accepts, and its settings as users write them."""

from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import pytest

from anyref.cases import Kind as TypedKind
from anyref.methods import METHODS, make_method, method_class
from anyref.methods.catalogue import method_cards, read_settings, settings_of
from anyref.samples import Kind
from anyref.sampling import SamplingDefaults

Shape = Literal["ellipse", "convex"]


@dataclass(frozen=True)
class Stub:
    """A setting of every type."""

    strength: float = 0.5
    count: int = 3
    shuffle: bool = True
    fit: Literal["own", "canvas"] = "own"
    time: float | None = None
    shapes: tuple[Shape, ...] = ("ellipse", "convex")
    note: str = "x"
    defaults: SamplingDefaults | None = None

    name: ClassVar[str] = "stub"


def test_values_have_the_type_of_their_field() -> None:
    texts = ["strength=2", "count = 7", "shuffle=false", "fit=canvas", "time=3", "shapes=convex", "note=a=b"]
    values = read_settings(Stub, texts)
    assert values == {
        "strength": 2.0, "count": 7, "shuffle": False, "fit": "canvas", "time": 3.0, "shapes": ("convex",), "note": "a=b",
    }  # fmt: skip
    assert isinstance(values["strength"], float)
    assert isinstance(values["time"], float)
    assert read_settings(Stub, ["time=none", "shapes=convex, ellipse"]) == {
        "time": None,
        "shapes": ("convex", "ellipse"),
    }
    assert read_settings(Stub, []) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strength", "has no '='; write NAME=VALUE; stub knows strength, count"),
        ("colour=red", "there is no setting 'colour'; stub knows strength, count"),
        ("defaults=none", "there is no setting 'defaults'"),
        ("name=other", "there is no setting 'name'"),
        ("strength=much", "the setting strength is 'much'; it must be a number"),
        ("count=1.5", "it must be a whole number"),
        ("shuffle=yes", "it must be true or false"),
        ("fit=cover", "it must be own or canvas"),
        ("time=never", "it must be a number or none"),
        ("shapes=ellipse,star", "it must be one or more, with commas, of ellipse or convex"),
        ("shapes=", "it must be one or more"),
        ("fit=", "it must be own or canvas"),
    ],
)
def test_what_is_no_setting(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_settings(Stub, [text])
    assert "\n" not in str(error.value)


def test_a_setting_given_twice() -> None:
    with pytest.raises(ValueError, match="the setting 'count' is given twice"):
        read_settings(Stub, ["count=1", "count=2"])


@pytest.mark.parametrize("name", METHODS)
def test_each_default_can_be_written(name: str) -> None:
    factory, method = method_class(name), make_method(name)
    settings = settings_of(factory)
    assert {setting.name for setting in settings} == {field.name for field in fields(factory)} - {"defaults"}
    written = read_settings(factory, [f"{setting.name}={setting.default}" for setting in settings])
    assert written == {setting.name: getattr(method, setting.name) for setting in settings}


def test_cards_say_what_the_methods_do() -> None:
    cards = {card.name: card for card in method_cards()}
    assert tuple(cards) == tuple(METHODS)
    assert cards["magref"].most_references == 8
    assert cards["magref"].in_channels == 36
    assert cards["magref"].embedded == "puppets/magref"
    assert cards["magref"].about.startswith("MAGREF (arXiv 2505.23742)")
    assert (cards["kaleido"].most_references, cards["kaleido"].in_channels) == (16, 16)
    assert (cards["saber"].most_references, cards["saber"].in_channels) == (16, 36)
    assert all("background" in card.kinds for card in cards.values())


def test_the_command_line_knows_the_same_kinds() -> None:
    assert TypedKind == Kind

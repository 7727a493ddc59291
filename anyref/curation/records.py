"""The rows of a curated set: what is kept of a film, of a clip, and of everything found in it, as dataclasses, JSON and Parquet.

`Sample` names the values of a clip's `Record`: `record["source"]` is the JSON of a `Source`, `record["scores"]` maps names to those of
`Score`, and so on. Boxes are (top, left, bottom, right) in pixels of the displayed frame (rotated, before the letterbox is cut off),
half-open; times are seconds from the start of the film; frame numbers count decoded frames of the film from 0.
"""

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from anyref.runlengths import RunLengths

SCHEMA_VERSION = 1

VariantKind = Literal["crop", "segment", "inpaint", "redux", "crossclip", "composite"]
VARIANT_KINDS: tuple[VariantKind, ...] = ("crop", "segment", "inpaint", "redux", "crossclip", "composite")


class Rectangle(NamedTuple):
    """(top, left, bottom, right), half-open, in pixels of the displayed frame."""

    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True)
class Source:
    """A film, as S0 found it."""

    uri: str
    """Name below the input place."""
    sha256: str
    bytes: int
    licence: str
    """As the input says (`licences.json`); "unknown" where it does not."""
    group_id: str
    """Films of one group stay on one side of the split between training and evaluation."""
    codec: str
    pixel_format: str
    width: int
    """As displayed."""
    height: int
    rotation_degrees: int
    fps: float
    """Frames by seconds, measured; the header's may lie."""
    num_frames: int
    """Decoded, not the header's."""
    duration_s: float
    start_pts: int
    time_base: tuple[int, int]
    """Numerator and denominator of the seconds per unit of PTS."""
    variable_frame_rate: bool
    color_range: str
    has_alpha: bool
    decoder: str


@dataclass(frozen=True)
class Clip:
    """A stretch of one shot: frames start_frame <= i < end_frame of the film."""

    start_frame: int
    end_frame: int
    start_pts: int
    """Of its first frame."""
    end_pts: int
    """Of its last frame."""
    start_s: float
    end_s: float
    """Of its last frame."""
    num_frames: int
    shot: int
    """Number of the shot in the film; long shots give several clips."""
    crop: Rectangle
    """What is left when black bars are cut off; the whole frame where there are none."""
    uri: str | None = None
    """MP4 of the clip, as assembled."""
    sha256: str | None = None


@dataclass(frozen=True)
class Score:
    """A measurement. `value` is None where it does not apply (motion of a single frame)."""

    value: float | None
    method: str
    """What measured it: model and revision, or the name of the formula."""
    version: int


@dataclass(frozen=True)
class Caption:
    """What a model says of the clip."""

    text: str
    model: str
    prompt_id: str
    num_frames: int
    """How many frames it saw."""
    seed: int | None
    status: str
    """ok, truncated, blocked or error."""


@dataclass(frozen=True)
class TagRow:
    """Something that the caption names: `text[start:end]` is its phrase."""

    start: int
    end: int
    phrase: str
    kind: str
    """As in `anyref.samples`."""
    label: str
    class_id: str | None
    """Class of the taxonomy; None where the words fit none."""


@dataclass(frozen=True)
class Variant:
    """A reference image of a subject. Every one is kept; the sampler chooses when it loads."""

    uri: str
    kind: VariantKind
    source_id: str
    """What it was made from: id of the face, the object or the background; for "crossclip", of the one in the other clip."""
    model: str | None = None
    revision: str | None = None
    prompt: str | None = None
    seed: int | None = None
    similarity_identity: float | None = None
    similarity_dino: float | None = None
    similarity_clip: float | None = None
    similarity_colour: float | None = None
    """Bhattacharyya coefficient of the cut-outs' colours, 0 to 1; of "crossclip" objects only."""
    accepted: bool = True
    reason: str = ""
    """Why it was not accepted."""
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True)
class FaceView:
    """A face in one frame."""

    uri: str
    frame: int
    box: Rectangle
    keypoints: tuple[float, ...] | None
    """Eyes, nose, corners of the mouth: row, column, row, column, ..."""
    pose_degrees: tuple[float, float, float] | None
    """Pitch, yaw, roll."""
    score: float
    quality: float
    embedding_uri: str | None


@dataclass(frozen=True)
class FaceRow:
    """Somebody's face in a clip: the best view, up to ten views over poses and qualities, and variants."""

    face_id: str
    identity_id: str
    """Within the clip."""
    global_identity_id: str | None
    """Across clips and films; None until identities are gathered."""
    start: int | None
    """The person's phrase in the caption."""
    end: int | None
    reference: FaceView
    pool: tuple[FaceView, ...]
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True)
class ObjectRow:
    """A person, animal, garment or thing in one frame of a clip, cut out."""

    object_id: str
    label: str
    class_id: str | None
    kind: str
    """As in `anyref.samples`."""
    start: int
    """The phrase in the caption."""
    end: int
    frame: int
    box: Rectangle
    mask: RunLengths
    area: float
    """Fraction of the frame."""
    score: float
    """The detector's."""
    scores: dict[str, float]
    """Everything that filters look at: solidity, border contact, similarity to its class, ..."""
    variants: tuple[Variant, ...] = ()
    part_of: str | None = None
    aliases: tuple[str, ...] = ()
    suppressed_by_face: str | None = None
    """The face that stands for it; it is kept and not used."""
    dropped: str = ""
    """Why a filter drops it; "" where it is kept."""
    global_identity_id: str | None = None


@dataclass(frozen=True)
class Background:
    """A frame without its subjects."""

    uri: str
    frame: int
    mask_uri: str | None
    method: str
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True)
class Lineage:
    """A stage that a clip went through. Times and hosts are in the run's log: here they would make two equal runs differ."""

    stage: str
    version: int
    config_hash: str
    input_hash: str
    status: str
    reason: str


@dataclass(frozen=True)
class Sample:
    """One clip with everything that is known of it: one row of the manifest."""

    schema_version: int
    sample_id: str
    source: Source
    clip: Clip
    scores: dict[str, Score]
    caption: Caption | None = None
    tags: tuple[TagRow, ...] = ()
    faces: tuple[FaceRow, ...] = ()
    objects: tuple[ObjectRow, ...] = ()
    background: Background | None = None
    lineage: tuple[Lineage, ...] = ()
    split: str | None = None
    """train or test."""
    drop: str | None = None
    """Why a decision drops it; None where it is kept."""


Row = TypeVar("Row")


def to_json(row: Any) -> Any:
    """A row of this module as dicts, lists and plain values."""
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {f.name: to_json(getattr(row, f.name)) for f in dataclasses.fields(row)}
    if isinstance(row, Mapping):
        return {name: to_json(value) for name, value in row.items()}
    if isinstance(row, list | tuple):
        return [to_json(value) for value in row]
    return row


def from_json(kind: type[Row], value: Mapping[str, Any]) -> Row:
    """The inverse of `to_json`: `from_json(Clip, record["clip"])`. Raises ValueError for names it does not know or misses."""
    hints = _fields(kind)
    try:
        return kind(**{name: _typed(hints[name], inside) for name, inside in value.items()})
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"the {kind.__name__} in the manifest does not fit schema {SCHEMA_VERSION} ({error}); curate again"
        ) from error


def to_row(sample: Sample) -> dict[str, Any]:
    """A sample as a Parquet row: JSON, with maps as lists of (name, value), which is how pyarrow takes and gives them."""
    return _mapped(Sample, to_json(sample), lambda value: sorted(value.items()))


def from_row(row: Mapping[str, Any]) -> Sample:
    """The inverse of `to_row`."""
    return from_json(Sample, _mapped(Sample, dict(row), dict))


def parquet_schema() -> Any:
    """The pyarrow schema of `to_row`'s rows."""
    import pyarrow

    return pyarrow.schema(list(_arrow(Sample)))


def _fields(kind: Any) -> dict[str, Any]:
    return _hints(kind)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    hint = _without_none(hint)
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    if hint is Rectangle:
        return Rectangle(*value)
    if get_origin(hint) is tuple:
        return tuple(_typed(get_args(hint)[0], inside) for inside in value)
    if get_origin(hint) is dict:
        return {name: _typed(get_args(hint)[1], inside) for name, inside in value.items()}
    return float(value) if hint is float else value


def _mapped(hint: Any, value: Any, change: Any) -> Any:
    """`value` with `change` done to every map in it, on the way down."""
    hint = _without_none(hint)
    if value is None:
        return None
    if dataclasses.is_dataclass(hint):
        # What an older manifest does not have takes its default.
        fields = _fields(hint).items()
        return {name: _mapped(inside, value[name], change) for name, inside in fields if name in value}
    if get_origin(hint) is dict:
        inner = get_args(hint)[1]
        changed = change(value)
        if isinstance(changed, dict):
            return {name: _mapped(inner, inside, change) for name, inside in changed.items()}
        return [(name, _mapped(inner, inside, change)) for name, inside in changed]
    if get_origin(hint) is tuple:
        return [_mapped(get_args(hint)[0], inside, change) for inside in value]
    return value


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def _arrow(hint: Any) -> Any:
    import pyarrow

    hint = _without_none(hint)
    if dataclasses.is_dataclass(hint):
        return pyarrow.struct([(name, _arrow(inside)) for name, inside in _fields(hint).items()])
    if hint is Rectangle:
        return pyarrow.list_(pyarrow.float64())
    if get_origin(hint) is tuple:
        return pyarrow.list_(_arrow(get_args(hint)[0]))
    if get_origin(hint) is dict:
        return pyarrow.map_(pyarrow.string(), _arrow(get_args(hint)[1]))
    if hint in (str, int, float, bool):
        names = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
        return names[hint]
    assert get_origin(hint) is Literal, hint
    return pyarrow.string()

"""Model folders: from an embedded name or a path to the folder, its method and sampling defaults, and where
its parts lie.

The layout is diffusers' (transformer/, vae/, text_encoder/, tokenizer/, image_encoder/, scheduler/; matter/
holds a segmenter of the model's own, see matting.py) with one file of ours, anyref.json: "method", the
method's settings, "defaults" (replacing the method's published sampling defaults) and "shared" (another
folder, relative to this one, that holds the parts which are not here). A folder without it is a plain
backbone or a converted release; its method must be named.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import diffusers
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError

from anyref.methods import METHODS, Method, make_method
from anyref.sampling import make_scheduler

RECORD = "anyref.json"
PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "image_encoder", "scheduler", "matter")
_REQUIRED = ("transformer", "vae", "text_encoder", "tokenizer")
_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk. `shared` holds the parts that `path` does not; it may be `path` itself."""

    path: Path
    shared: Path
    method: Method
    named: bool = True
    """Whether its own anyref.json names the method. A backbone's does not: its scheduler is the backbone's, not the method's."""

    def part(self, name: str) -> Path | None:
        """Folder of one of PARTS, or None where the model has none."""
        return next((root / name for root in (self.path, self.shared) if (root / name).is_dir()), None)

    def with_settings_of(self, method: str | Method | None) -> Method:
        """The folder's method, or the given one with the folder's sampling defaults."""
        if method is None or isinstance(method, str):
            return self.method
        return replace(cast("Any", method), defaults=self.method.defaults)

    def transformer_config(self) -> SimpleNamespace | None:
        """What config.json says of the transformer, without loading it; None where it cannot be read (`load`
        says why).
        """
        path = self.part("transformer")
        try:
            text = "" if path is None else (path / "config.json").read_text(encoding="utf-8")
            return SimpleNamespace(**{"in_channels": 16, "image_dim": None, **json.loads(text)})
        except (OSError, ValueError, TypeError):
            return None

    def load(self, name: str, loader: Any, dtype: torch.dtype | None = None, given: Any = None) -> Any:
        """The part that was given, else by its class's `from_pretrained`; None where the model has none.
        Raises ValueError for broken files.
        """
        if given is not None:
            return given
        path = self.part(name)
        if path is None:
            return None
        try:
            return (
                loader.from_pretrained(path) if dtype is None else loader.from_pretrained(path, dtype=dtype)
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ValueError(
                f"{str(path)!r} cannot be loaded ({reason.rstrip('.')}); make or download it again"
            ) from error


def embedded_models() -> dict[str, Path]:
    """The models that came with the package, "puppets/magref" -> its folder: every <family>/weights/<name>
    with an anyref.json.
    """
    found = sorted(_PACKAGE.glob(f"*/weights/*/{RECORD}"))
    return {f"{record.parents[2].name}/{record.parent.name}": record.parent for record in found}


def resolve_model(name: str | Path) -> str:
    """An embedded name or a folder as the folder's path; a hub id ("owner/name") as it is.

    Raises ValueError for anything else, listing the embedded models.
    """
    text, embedded = str(name), embedded_models()
    if text in embedded:
        return str(embedded[text])
    if Path(text).is_dir():
        return text
    families = {path.parent.name for path in _PACKAGE.glob("*/__init__.py")}
    if Path(text).exists() or not is_hub_id(text) or text.partition("/")[0] in families:
        known = ", ".join(embedded) or "none in this installation"
        raise ValueError(
            f"the model {text!r} is not there; give a folder, a hub id (owner/name) or an embedded one ({known})"
        )
    return text


def is_hub_id(text: str) -> bool:
    """Whether a text has the form of a hub id, "owner/name"."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text) is not None


def download(
    name: str, revision: str | None, token: str | None, cache_dir: str | Path | None, local_files_only: bool
) -> Path:
    """A hub id's parts, in the hub's cache. Raises ValueError where that fails."""
    patterns = [RECORD, *(f"{part}/*" for part in PARTS)]
    try:
        folder = snapshot_download(
            name,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            allow_patterns=patterns,
        )
    except (OSError, ValueError) as error:
        known = ", ".join(embedded_models()) or "none in this installation"
        raise ValueError(
            f"the model {name!r} could not be downloaded ({type(error).__name__}); check the name and the connection, "
            f"or use a folder or an embedded model ({known})"
        ) from error
    return Path(folder)


def read_folder(path: Path, method: str | None = None) -> ModelFolder:
    """What a model folder holds. `method` is needed where there is no anyref.json, and must agree with it
    where there is.

    Raises ValueError: not a model folder, a part missing, a broken anyref.json, no method.
    """
    record = _read_record(path / RECORD)
    shared = path / str(record.pop("shared", "."))
    named = record.pop("method", None)
    defaults = record.pop("defaults", {})
    if named is None and method is None:
        raise ValueError(
            f"{str(path)!r} has no {RECORD} that names its method; pass method=, one of {', '.join(METHODS)}"
        )
    if named is not None and method is not None and named != method:
        raise ValueError(
            f"{str(path)!r} is a checkpoint of {named!r}, not of {method!r}; leave the method out or change the model"
        )
    try:
        folder = ModelFolder(
            path, shared, make_method(str(named or method), record, defaults), named is not None
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{str(path / RECORD)!r} is wrong: {error}") from error
    missing = [name for name in _REQUIRED if folder.part(name) is None]
    if missing:
        raise ValueError(
            f"{str(path)!r} has no folder {missing[0]!r} and is not a model in diffusers' layout; "
            "turn original releases into one with `anyref convert`"
        )
    return folder


def read_scheduler(folder: ModelFolder) -> Any:
    """The scheduler saved with a model of the method, of whatever class, else the one its sampling defaults name."""
    path = folder.part("scheduler")
    if path is None or not folder.named:
        return make_scheduler(folder.method.defaults.solver, folder.method.defaults.shift)
    try:
        name = json.loads((path / "scheduler_config.json").read_text(encoding="utf-8"))["_class_name"]
        scheduler = getattr(diffusers, name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(path)!r} holds no scheduler of diffusers; remove the folder or repair it"
        ) from error
    return folder.load("scheduler", scheduler)


def check_parts(method: Method, transformer_config: Any, has_image_encoder: bool) -> None:
    """Raise ValueError where a transformer is not one that the method works with."""
    channels = transformer_config.in_channels
    if channels != method.in_channels:
        raise ValueError(
            f"the transformer takes {channels} channels and {method.name} gives {method.in_channels}; "
            "choose another method or checkpoint"
        )
    if transformer_config.image_dim is not None and not has_image_encoder:
        raise ValueError("this transformer reads image features; give the model an image_encoder")


def record_of(method: Method) -> dict[str, Any]:
    """What anyref.json says of a method: its name, its settings, and where its sampling defaults differ from
    the published ones.
    """
    factory: Any = type(method)
    published = next(field.default for field in fields(factory) if field.name == "defaults")
    settings = {
        field.name: getattr(method, field.name) for field in fields(factory) if field.name != "defaults"
    }
    usual = {} if published is MISSING else asdict(published)
    changed = {name: value for name, value in asdict(method.defaults).items() if value != usual.get(name)}
    return {"method": method.name, **settings, "defaults": changed}


def method_of(record: Mapping[str, Any]) -> Method:
    """The inverse of `record_of`."""
    settings = {name: value for name, value in record.items() if name not in {"method", "defaults"}}
    return make_method(str(record["method"]), settings, record.get("defaults", {}))


def _read_record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as JSON ({error}); repair it or make the model again"
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("defaults", {}), dict):
        raise ValueError(
            f'{str(path)!r} must hold an object with "method" and, if any, "defaults"; make the model again'
        )
    return record

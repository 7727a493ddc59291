"""What a user asks for in text: references as `kind:phrase=path`, and case files, one video per line."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

SEPARATOR = "@@"
Kind = Literal["face", "person", "animal", "clothing", "object", "background"]
"""As in samples.py, which would bring numpy into the start of the command."""
_FORBIDDEN = set('/\\:*?"<>|')  # in a file name on one of the usual systems


@dataclass(frozen=True)
class ReferenceFile:
    """An image file, and where the user named them the words of the prompt it belongs to and what kind of thing it shows.

    Files with the same phrase are views of the same subject.
    """

    path: Path
    phrase: str | None = None
    kind: Kind | None = None


@dataclass(frozen=True)
class Case:
    """One video to make. `key` names its file; `line` is where the case file has it."""

    key: str
    prompt: str
    references: tuple[ReferenceFile, ...]
    line: int | None = None


def parse_reference(text: str, folder: Path | None = None) -> ReferenceFile:
    """`path` or `phrase=path`, either with a kind and a ":" before it. A text that names an existing file is a path, whatever signs
    it has; else what begins with a kind is split there, and then at the first "=".

    Relative paths are looked up from the working directory and then from `folder`. Raises ValueError where there is no file, or no phrase.
    """
    whole = _find(text, folder)
    if whole is not None:
        return ReferenceFile(whole)
    kind, colon, rest = text.partition(":")
    if colon and kind.strip() in get_args(Kind):
        return replace(parse_reference(rest.strip(), folder), kind=cast("Kind", kind.strip()))
    phrase, equals, name = text.partition("=")
    if not equals:
        raise ValueError(f"the reference image {text!r} does not exist; check the path")
    if not phrase.strip():
        raise ValueError(
            f"the reference {text!r} has no phrase before the '='; write 'words of the prompt=image.png'"
        )
    found = _find(name, folder)
    if found is None:
        raise ValueError(
            f"the reference image {name!r} of the phrase {phrase.strip()!r} does not exist; check the path"
        )
    return ReferenceFile(found, phrase.strip())


def read_case_file(path: Path) -> tuple[Case, ...]:
    """Read the release's form, `key@@prompt@@image@@image...`, one case per line; empty lines and lines that begin with "#" are skipped.

    Each image is written as for `parse_reference`, and looked up from the working directory and then beside the case file. Raises one
    ValueError that names every bad line with its number.
    """
    cases: dict[str, Case] = {}
    complaints: list[str] = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            case = _parse_line(line, number, path.parent)
            if case.key.lower() in cases:
                raise ValueError(f"the key {case.key!r} occurs twice")
            cases[case.key.lower()] = case
        except ValueError as error:
            complaints.append(f"line {number}: {error}")
    if complaints:
        raise ValueError(f"the case file {path} cannot be used; {'; '.join(complaints)}")
    if not cases:
        raise ValueError(
            f"the case file {path} has no cases; write lines of the form key@@prompt@@image@@image"
        )
    return tuple(cases.values())


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(
            f"the case file {path} {'is not a file' if path.exists() else 'does not exist'}; check the path"
        )
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"the case file {path} is not UTF-8 text; save it as UTF-8") from error


def _parse_line(line: str, number: int, folder: Path) -> Case:
    key, *rest = (part.strip() for part in line.split(SEPARATOR))
    if len(rest) < 2:
        raise ValueError(f"expected key@@prompt@@image@@image..., found {len(rest) + 1} part(s)")
    prompt, *images = rest
    if not key or key.startswith(".") or _FORBIDDEN & set(key) or not key.isprintable():
        raise ValueError(f"the key {key!r} cannot be a file name")
    if not prompt:
        raise ValueError("the prompt is empty")
    if not all(images):
        raise ValueError("an image is empty between two @@")
    return Case(key, prompt, tuple(parse_reference(image, folder) for image in images), number)


def _find(text: str, folder: Path | None) -> Path | None:
    """The path as given, or in `folder`; None where it is in neither. A folder counts as found: the reader says what is wrong with it."""
    if not text or "\0" in text:
        return None
    for path in (Path(text), *([folder / text] if folder is not None else [])):
        try:
            if path.exists():
                return path
        except OSError:  # a name too long for the file system
            continue
    return None

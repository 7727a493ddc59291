"""The command line: a table of commands, each a dataclass of settings and a function that takes it.

Nothing heavy is imported before a command runs. What a user can cause ends with one sentence and exit code 2; an interruption with 130.
"""

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, TextIO, Union

import tyro

from anyref import __version__
from anyref.commands import (
    ConvertCommand,
    MethodsCommand,
    PuppetsMasksCommand,
    PuppetsMeasureCommand,
    PuppetsPreviewCommand,
    PuppetsTrainCommand,
)
from anyref.curation.command import CurateConfig, CurateReportConfig
from anyref.curation.output_command import CurateExportConfig, CurateScoreConfig, PuppetsFilmsConfig
from anyref.demo import DemoConfig
from anyref.doctor import DoctorConfig
from anyref.evaluation.command import EvaluateCasesConfig, EvaluateConfig, EvaluateDoctorConfig
from anyref.evaluation.report_command import CompareConfig, ReportConfig
from anyref.evaluation.study_command import StudyAnalyzeConfig, StudyMakeConfig
from anyref.jobs import GenerateConfig
from anyref.puppets.ablate_command import AblateCommand
from anyref.train_command import TrainCommand

USER_ERROR = 2
INTERRUPTED = 130
_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Command:
    """One row of the table. `function` is "module:name", imported when the command runs and called with the config."""

    name: str
    config: type
    function: str


COMMANDS = (
    Command("generate", GenerateConfig, "anyref.generate:generate"),
    Command("methods", MethodsCommand, "anyref.commands:methods"),
    Command("train", TrainCommand, "anyref.train_command:train"),
    Command("puppets preview", PuppetsPreviewCommand, "anyref.commands:puppets_preview"),
    Command("puppets masks", PuppetsMasksCommand, "anyref.commands:puppets_masks"),
    Command("puppets train", PuppetsTrainCommand, "anyref.commands:puppets_train"),
    Command("puppets measure", PuppetsMeasureCommand, "anyref.commands:puppets_measure"),
    Command("puppets films", PuppetsFilmsConfig, "anyref.curation.output_command:puppets_films"),
    Command("curate run", CurateConfig, "anyref.curation.command:curate"),
    Command("curate report", CurateReportConfig, "anyref.curation.command:curate_report"),
    Command("curate score", CurateScoreConfig, "anyref.curation.output_command:curate_score"),
    Command("curate export", CurateExportConfig, "anyref.curation.output_command:curate_export"),
    Command("evaluate run", EvaluateConfig, "anyref.evaluation.command:run"),
    Command("evaluate report", ReportConfig, "anyref.evaluation.report:report"),
    Command("evaluate compare", CompareConfig, "anyref.evaluation.comparing:compare"),
    Command("evaluate cases", EvaluateCasesConfig, "anyref.evaluation.command:cases"),
    Command("evaluate doctor", EvaluateDoctorConfig, "anyref.evaluation.command:doctor"),
    Command("study make", StudyMakeConfig, "anyref.evaluation.study:make"),
    Command("study analyze", StudyAnalyzeConfig, "anyref.evaluation.study_report:analyze"),
    Command("ablate", AblateCommand, "anyref.puppets.ablate_command:ablate"),
    Command("convert", ConvertCommand, "anyref.commands:convert"),
    Command("doctor", DoctorConfig, "anyref.doctor:doctor"),
    Command("demo", DemoConfig, "anyref.demo:demo"),
)
GROUPS = {
    "puppets": "The embedded family: look at its world, train its models, measure them.",
    "curate": "Turn raw films into a training set; `anyref curate --input DIR ...` is `anyref curate run`.",
    "evaluate": "Score videos; `anyref evaluate --suite NAME ...` is `anyref evaluate run`.",
    "study": "Ask people which video is better, blindly, and analyse what they say.",
}
USUAL = {"curate": "run", "evaluate": "run"}
"""What a group does where only flags follow its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 2 something the user can mend, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        print(f"anyref {__version__}")
        return 0
    try:
        config = parse(given or ["--help"])
        if config is not None:
            _call(config)
    except KeyboardInterrupt:
        print("anyref: interrupted; what was finished is kept", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if "ANYREF_TRACEBACK" in os.environ or not _is_for_the_user(error):
            raise
        print(f"anyref: {sentence(error)}", file=sys.stderr)
        return USER_ERROR
    return 0


def _with_usual(arguments: list[str]) -> list[str]:
    """`evaluate --cases ...` as `evaluate run --cases ...`."""
    if (
        len(arguments) > 1
        and arguments[0] in USUAL
        and arguments[1].startswith("--")
        and arguments[1] != "--help"
    ):
        return [arguments[0], USUAL[arguments[0]], *arguments[1:]]
    return arguments


def _call(config: Any) -> None:
    command = next(command for command in COMMANDS if command.config is type(config))
    module, name = command.function.split(":")
    with warnings.catch_warnings():
        warnings.showwarning = _show_note
        getattr(import_module(module), name)(config)


def parse(arguments: Sequence[str]) -> Any:
    """The config of the command that the arguments name; None after printing help. Raises ValueError, one sentence."""
    arguments = _with_usual(list(arguments))
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                _grammar(),
                prog="anyref",
                description="Videos from reference images and a sentence. Each command explains itself: anyref COMMAND --help.",
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName),
            )
    except SystemExit as stop:
        if not stop.code:
            return None
        command = next((c.name for c in COMMANDS if arguments[: len(c.name.split())] == c.name.split()), "")
        raise ValueError(
            f"{_condense(complaint.getvalue())}; see {' '.join(['anyref', *command.split(), '--help'])}"
        ) from None


def sentence(error: Exception) -> str:
    """An error as one line."""
    if isinstance(error, ModuleNotFoundError):
        return f"this needs the Python package {error.name!r}, which is not installed; `anyref doctor` says how to install it"
    if _is_memory(error):
        return "the memory did not suffice; ask for fewer frames or a smaller size, or see `anyref doctor` for what fits"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _grammar() -> Any:
    """The table as the nested union that tyro reads."""
    groups: dict[str, list[Any]] = {}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        groups.setdefault(group or name, []).append(Annotated[command.config, tyro.conf.subcommand(name)])
    rows = [
        Annotated[_union(members), tyro.conf.subcommand(group, description=GROUPS[group])]
        if group in GROUPS
        else members[0]
        for group, members in groups.items()
    ]
    return _union(rows)


def _union(members: Sequence[Any]) -> Any:
    return Union[tuple(members)]  # noqa: UP007 - the members are only known at run time


def _is_for_the_user(error: Exception) -> bool:
    """True for errors that a user can cause: ValueError raised by our own lines, files and folders, missing packages, memory."""
    if isinstance(error, OSError) or _is_memory(error):
        return True
    if isinstance(error, ModuleNotFoundError):
        return not (error.name or "").startswith("anyref")
    return isinstance(error, ValueError) and _origin(error.__traceback__).is_relative_to(_PACKAGE)


def _is_memory(error: Exception) -> bool:
    """Out of memory: Python's error, torch's for accelerators, and torch's for the CPU, which is a RuntimeError."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _origin(traceback: TracebackType | None) -> Path:
    """The file whose line raised."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return Path(traceback.tb_frame.f_code.co_filename) if traceback is not None else Path()


def _condense(box: str) -> str:
    """The first paragraph of tyro's framed message, without title and frame, which is of box signs or of ASCII."""
    lines = [re.sub(r"^[+|\u2500-\u257f ]+|[+|\u2500-\u257f ]+$", "", line) for line in box.splitlines()[1:]]
    paragraph: list[str] = []
    for line in lines:
        if not line.strip("-") and paragraph:
            break
        paragraph.append(line)
    text = " ".join(part for part in paragraph if part.strip("-")).rstrip(".")
    if meant := re.search(r"Perhaps you meant:\s*(--[\w-]+)", " ".join(lines)):
        text = f"{text}; perhaps you meant {meant.group(1)}"
    return text[:1].lower() + text[1:]


def _show_note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,  # noqa: ARG001 - the signature of warnings.showwarning
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """A warning of ours as one line; those of libraries are for programmers, and are not shown."""
    if issubclass(category, UserWarning) and Path(filename).is_relative_to(_PACKAGE):
        print(f"anyref: note: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

"""The documents tell the truth: commands parse, links lead somewhere, and the Python example's names exist."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import anyref
from anyref.cli import main, parse

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line for kind, block in BLOCKS if not kind for line in block.splitlines() if line.startswith("anyref ")
]
TARGETS = [
    line.split()[1]
    for kind, block in BLOCKS
    if not kind
    for line in block.splitlines()
    if line.startswith("make ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command: str) -> None:
    assert parse(shlex.split(command)[1:]) is not None


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 3
    assert {"demo", "test"} <= set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_make_has_the_target(target: str) -> None:
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_example_command_fails_only_for_want_of_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(COMMANDS[0])[1:]) == 2
    assert "hat.png" in capsys.readouterr().err


def test_python_examples_use_names_that_exist() -> None:
    examples = [block for kind, block in BLOCKS if kind == "python"]
    assert examples
    for example in examples:
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.ImportFrom) and node.module == "anyref":
                for alias in node.names:
                    assert alias.name in anyref.__all__


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def test_each_equation_has_its_line() -> None:
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    generated = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generated)
    for number in "1234567":
        assert f"| {number} | " in generated.equations("magref")
    with pytest.raises(StopIteration):
        generated.place("methods/magref.py", "gone")


def test_the_walk_is_of_five_files() -> None:
    walk = re.findall(r"\[([\w/]+\.py)\]\(anyref/", README)
    assert walk == ["pipeline.py", "references.py", "methods/magref.py", "conditioning.py", "transformer.py"]

"""Imports go one way, and the path from a reference image to a video stays short enough to read."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "anyref"
LEAVES = {"files", "latents", "samples"}
PARTS = {"references", "encoders", "conditioning", "transformer", "sampling"}

# What each top-level module or folder of the package may import of ours, beside itself. "*": anything.
MAY_IMPORT: dict[str, set[str]] = {
    "files": set(),
    "latents": set(),
    "samples": set(),
    "runlengths": set(),
    "media": {"files"},
    "attention": LEAVES,
    "references": LEAVES,
    "encoders": LEAVES,
    "conditioning": LEAVES,
    "sampling": LEAVES,
    "transformer": LEAVES | {"attention"},
    "costs": LEAVES,
    "masks": set(),
    "matting": LEAVES | {"references"},
    "methods": LEAVES | {"references", "encoders", "conditioning", "sampling", "masks", "matting"},
    "guidance": LEAVES | PARTS | {"methods"},
    "pipeline": LEAVES | PARTS | {"guidance", "methods", "media", "matting"},
    "checkpoints": LEAVES | {"transformer"},
    "backbone": {"checkpoints", "methods", "pipeline", "transformer"},
    "convert": LEAVES | {"checkpoints", "transformer", "methods", "provenance"},
    "worlds": LEAVES | {"references", "media"},
    # Not the pipeline: what needs one (contact sheets on the way) gets it passed in.
    "training": LEAVES | PARTS | {"methods", "media", "provenance", "worlds"},
    "footage": set(),
    "perception": {"files", "footage", "pipeline", "puppets", "runlengths", "samples"},
    # Models only as `perception` gives them: curation runs without torch where they answer over a network.
    "curation": {
        "files",
        "footage",
        "jobs",
        "media",
        "perception",
        "provenance",
        "runlengths",
        "samples",
        "worlds",
    },
    "evaluation": {
        "files",
        "samples",
        "cases",
        "footage",
        "jobs",
        "media",
        "methods",
        "perception",
        "provenance",
    }
    | {"references", "runlengths", "worlds"},
    "puppets": {"*"},
    "provenance": {"files", "anyref"},
    "cases": set(),
    "jobs": {"*"},
    "generate": {"*"},
    "demo": {"*"},
    "doctor": {"*"},
    "commands": {"*"},
    "train_command": {"*"},
    "cli": {"*"},
    "anyref": {"*"},  # the package itself: the public names, on first use
}
PERMITTED_CYCLE = {
    "cli",
    "commands",
    "train_command",
    "puppets",
    "jobs",
    "generate",
    "demo",
    "doctor",
    "anyref",
}
HEAVY = {"torch", "diffusers", "transformers", "skia", "av", "numpy", "PIL"}


def modules() -> dict[str, Path]:
    """Dotted name -> file, for every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["anyref", *path.relative_to(PACKAGE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, at_import_only: bool = False) -> set[str]:
    """Dotted names of our modules that a file imports; with `at_import_only`, not those inside functions or for type checkers only."""
    known = modules()
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if at_import_only and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import; write the full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in known else str(node.module) for name in names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def area(module: str) -> str:
    """Top-level module or folder: anyref.methods.magref -> methods."""
    return module.split(".")[1] if "." in module else module


@pytest.mark.parametrize("module", modules())
def test_imports_go_one_way(module: str) -> None:
    own = area(module)
    assert own in MAY_IMPORT, f"anyref/{own} is new: say in MAY_IMPORT what it may import"
    allowed = MAY_IMPORT[own]
    if "*" in allowed:
        return
    ours = {area(name) for name in imports(modules()[module]) if name.split(".")[0] == "anyref"} - {own}
    assert ours <= allowed, f"{module} imports {sorted(ours - allowed)}; it may import {sorted(allowed)}"


def test_nothing_below_imports_the_command_line() -> None:
    for module, path in modules().items():
        # The modules that hold commands of a part are the command line's, wherever they lie.
        if area(module) not in PERMITTED_CYCLE and not module.endswith("command"):
            assert not {area(name) for name in imports(path)} & {
                "cli",
                "commands",
                "jobs",
                "generate",
                "demo",
                "doctor",
            }, module


def test_the_pipeline_is_at_most_fifteen_modules() -> None:
    known, todo, reached = modules(), ["anyref.pipeline"], set()
    if "anyref.pipeline" not in known:
        pytest.skip("anyref/pipeline.py is not there")
    while todo:
        module = todo.pop()
        if module in reached or module not in known or module == "anyref":
            continue
        reached.add(module)
        todo.extend(imports(known[module]))
    assert len(reached) <= 15, sorted(reached)


def test_two_files_import_pyav() -> None:
    users = [module for module, path in modules().items() if {"av"} & imports(path)]
    assert users == ["anyref.footage", "anyref.media"], "one reads what others made, one writes what we make"


def test_the_command_line_imports_nothing_heavy() -> None:
    """Follow what is imported at start-up: no library that takes longer than the help does."""
    known, todo, reached, heavy = modules(), ["anyref.cli"], set(), {}
    while todo:
        module = todo.pop()
        if module in reached or module not in known:
            continue
        reached.add(module)
        names = imports(known[module], at_import_only=True)
        if found := {name.split(".")[0] for name in names} & HEAVY:
            heavy[module] = found
        todo.extend(names)
    assert not heavy

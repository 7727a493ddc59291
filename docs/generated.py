"""The parts of README.md and docs/ that are made from the code; `make docs` writes them, `make check` finds stale ones."""

import ast
import contextlib
import io
import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


EXPANDED = "methods"
"""The one folder whose files the README lists: those that read like the papers."""


def tree() -> str:
    """The package at a glance: its files and folders, each with the first sentence of its docstring, and the methods' files."""
    lines = []
    for path in sorted((ROOT / "anyref").rglob("*.py"), key=_reading_order):
        parts = path.relative_to(ROOT / "anyref").parts
        shown = parts[:-1] if parts[-1] == "__init__.py" else parts
        if not shown or (len(shown) > 1 and parts[0] != EXPANDED):
            continue
        if len(shown) == 1 and len(parts) == 1:
            lines.append(_line(1, parts[0], path))
        elif len(shown) == 1:
            lines.append(_line(1, f"{parts[0]}/", path))
        else:
            lines.append(_line(2, parts[-1], path))
    return "\n".join(["```", "anyref/", *lines, "```"])


def folders() -> str:
    """Every folder of the package with its files, each with the first sentence of its docstring."""
    sections = []
    for init in sorted((ROOT / "anyref").rglob("__init__.py")):
        folder = init.parent
        files = sorted(path for path in folder.glob("*.py") if path != init)
        if not files:
            continue
        rows = [f"| [`{path.name}`](../{path.relative_to(ROOT)}) | {_sentence(path)} |" for path in files]
        sections.append(
            "\n".join(
                [
                    f"## {folder.relative_to(ROOT)}",
                    "",
                    f"{_sentence(init)}.",
                    "",
                    "| file | what it is |",
                    "|---|---|",
                    *rows,
                ]
            )
        )
    return "\n\n".join(sections)


def _line(depth: int, name: str, path: Path) -> str:
    return f"{'  ' * depth}{name:<{24 - 2 * depth}}{_sentence(path)}"


def _sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).rstrip(".")


def help_pages() -> str:
    """What `anyref COMMAND --help` prints, for every command."""
    from anyref.cli import COMMANDS

    pages = [f"## anyref\n\n```\n{_help([])}\n```"]
    pages += [f"## anyref {c.name}\n\n```\n{_help(c.name.split())}\n```" for c in COMMANDS]
    return "\n\n".join(pages)


MAGREF = "methods/magref.py"
KALEIDO = "methods/kaleido.py"
SABER = "methods/saber.py"
EQUATIONS: dict[str, tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]] = {
    "magref": (
        ("1", "the canvas: all references in one image", ((MAGREF, "compose"), (MAGREF, "slots"))),
        ("2", "the region mask: where references are", ((MAGREF, "Canvas.cells"),)),
        ("3", "the canvas and empty frames through the VAE", ((MAGREF, "MagrefMethod.condition"),)),
        (
            "4",
            "noise, mask and canvas joined by channel",
            ((MAGREF, "MagrefMethod.condition"), ("conditioning.py", "assemble")),
        ),
        ("5", "a region per subject", ((MAGREF, "Canvas.tokens"),)),
        (
            "6",
            "the words' value added to their region, in each block",
            ((MAGREF, "MagrefMethod._anchors"), ("transformer.py", "AnyRefBlock.forward")),
        ),
        (
            "7",
            "a training sample: clip, caption, pairs of images of each subject",
            (
                ("samples.py", "Sample"),
                ("samples.py", "ReferenceVariant"),
                (MAGREF, "MagrefMethod.training_references"),
            ),
        ),
        (
            "8-9",
            "flow matching: the noisy video and its velocity",
            (("training/flow.py", "add_noise"), ("training/flow.py", "velocity_loss")),
        ),
    ),
    "kaleido": (
        (
            "3",
            "each reference through the VAE alone; one sequence of reference and video tokens",
            ((KALEIDO, "encode"), (KALEIDO, "KaleidoMethod.condition"), ("conditioning.py", "assemble")),
        ),
        (
            "4",
            "R-RoPE: where reference tokens stand",
            ((KALEIDO, "reference_positions"), (KALEIDO, "MAX_SIZE")),
        ),
        ("Tables 2, 5", "the compared positions, as data", ((KALEIDO, "PLACEMENTS"), (KALEIDO, "Placement"))),
        ("Table 5", "Channel-Concat", ((KALEIDO, "KaleidoMethod._channels"),)),
        (
            "Tables 3, 4; A.1",
            "crops and cross-pairs, and their mix",
            (
                (KALEIDO, "KaleidoMethod.training_references"),
                (KALEIDO, "KaleidoMethod.cross_pair_probability"),
            ),
        ),
        (
            "release",
            "the canvas of one reference; its own size",
            ((KALEIDO, "picture"), (KALEIDO, "own_grid")),
        ),
        ("release", "shift of the noise levels by resolution", ((KALEIDO, "resolution_shift"),)),
        ("release", "sampling: Euler, shift 7, 50 steps, guidance 6", ((KALEIDO, "_RELEASE"),)),
    ),
    "saber": (
        (
            "Masked frames as references",
            "I_hat = I_bar * M_bar: frame and mask under one warp",
            (("masks/draw.py", "masked_reference"), (SABER, "SaberMethod.training_references")),
        ),
        (
            "Mask generator",
            "four shapes; ratio mixture 10/80/10; search for the scale; exact count, topology kept",
            (
                ("masks/outlines.py", "draw_outline"),
                ("masks/draw.py", "draw_ratio"),
                ("masks/raster.py", "_find_scale"),
                ("masks/raster.py", "meet_count"),
            ),
        ),
        ("Mask augmentation", "rotation, scale, shear, flip, inside the frame", (("masks/draw.py", "warp"),)),
        (
            "Input format",
            "z_in: noise, mask and references, joined by channel and in time",
            ((SABER, "SaberMethod._condition_one"), (SABER, "CutOut.cells"), ("conditioning.py", "assemble")),
        ),
        (
            "Attention mask",
            "who attends to reference tokens, and to whom they attend",
            (
                (SABER, "SaberMethod._condition_one"),
                ("conditioning.py", "assemble"),
                (SABER, "SaberMethod.reference_queries"),
            ),
        ),
        ("Inference", "subjects cut out on grey", ((SABER, "cut_out"), ("matting.py", "matte"))),
        ("Ablations", "each is a field", ((SABER, "SaberMethod"), ("masks/settings.py", "MaskConfig"))),
        ("Ablations", "curated pairs in place of masks", ((SABER, "_curated"),)),
    ),
}


def equations(method: str) -> str:
    """The table of a paper's equations and numbered designs, and where each stands."""
    rows = [
        f"| {number} | {what} | {', '.join(place(*symbol) for symbol in symbols)} |"
        for number, what, symbols in EQUATIONS[method]
    ]
    return "\n".join(["| equation | what | where |", "|---|---|---|", *rows])


def place(file: str, symbol: str) -> str:
    """A link to where a symbol is defined: "methods/magref.py", "Magref.condition" -> file, name and line. Fails when it is gone."""
    tree = ast.parse((ROOT / "anyref" / file).read_text())
    node: ast.AST = tree
    for name in symbol.split("."):
        node = next(child for child in ast.iter_child_nodes(node) if name in _names(child))
    line = getattr(node, "lineno", 1)
    return f"[`{file}:{symbol}`](../anyref/{file}#L{line})"


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


def _reading_order(path: Path) -> tuple[bool, int, str, bool, str]:
    """The five files of the path first, then the other modules, then the folders."""
    walk = ["pipeline.py", "references.py", "methods", "conditioning.py", "transformer.py"]
    top, *rest = path.relative_to(ROOT / "anyref").parts
    return (
        bool(rest) and top not in walk,
        walk.index(top) if top in walk else 9,
        top,
        path.name != "__init__.py",
        path.name,
    )


def _help(command: list[str]) -> str:
    from anyref.cli import parse

    printed, width = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "100"
    try:
        with contextlib.redirect_stdout(printed):
            parse([*command, "--help"])
    finally:
        os.environ.pop("COLUMNS")
        os.environ.update({"COLUMNS": width} if width else {})
    text = re.sub("[\u256d\u2570]\u2500?|[\u2500\u256e\u256f\u2502]", "", printed.getvalue()).replace(
        "\u2022", "-"
    )
    return "\n".join(line.rstrip() for line in text.strip().splitlines())

"""What a result was made with: versions, commit, machine, files and their hashes; written as JSON beside each result."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from anyref import __version__
from anyref.files import sha256

_PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "safetensors",
    "numpy",
    "pillow",
    "av",
)


def record(config: Any, files: Iterable[Path] = ()) -> dict[str, Any]:
    """Config (a dataclass), when, software, commit, machine, and the SHA-256 of the files the result was made from."""
    return {
        "config": asdict(config),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "commit": commit(),
        "machine": {"system": platform.platform(), "processor": platform.machine()},
        "files": [{"path": str(path), "sha256": sha256(path)} for path in files],
    }


def versions() -> dict[str, str]:
    """Version of Python, of ours, and of each package that can change a result; packages that are not installed are left out."""
    found = {"python": platform.python_version(), "anyref": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout this code runs from, "-dirty" added if tracked files differ from it; None outside a checkout."""
    root = Path(__file__).parents[1]
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    head = _git(git, root, "rev-parse", "HEAD")
    changed = _git(git, root, "status", "--porcelain", "--untracked-files=no")
    return f"{head}-dirty" if head and changed else head or None


def command_line() -> list[str]:
    """How to call the command of this environment: `anyref` where that is the one on the path, else with its folder."""
    here = Path(sys.executable).with_name("anyref")
    found = shutil.which("anyref")
    if found is not None and Path(found).parent == here.parent:
        return ["anyref"]
    if not here.exists():
        return [sys.executable, "-m", "anyref.cli"]
    return [str(here.relative_to(Path.cwd()) if here.is_relative_to(Path.cwd()) else here)]


def _git(git: str, root: Path, *arguments: str) -> str:
    done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""

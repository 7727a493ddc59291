"""What is installed, what this machine can run, what is missing and the line that installs it."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anyref import __version__
from anyref.provenance import commit, versions

_ROOT = Path(__file__).parents[1]
_GIB = 2**30
_HUB_MODELS = (
    "MAGREF-Video/MAGREF",
    "zai-org/Kaleido-14B-S2V",
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
    "Wan-AI/Wan2.1-T2V-14B-Diffusers",
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "ZhengPeng7/BiRefNet",
)


@dataclass(frozen=True)
class DoctorConfig:
    """Say what is installed, what this machine can run, what is missing and the line that installs it."""

    json: bool = False
    """Print one JSON object, for programs."""


@dataclass(frozen=True)
class Machine:
    """Cores this process may use, memory in GiB, and the accelerator if torch finds one."""

    cores: int
    memory_gib: float
    accelerator: str | None
    accelerator_memory_gib: float


@dataclass(frozen=True)
class Workload:
    """Something a user may want to run, and what it needs. Memory in GiB is estimated: weights plus the largest activations."""

    what: str
    memory_gib: float
    accelerator_gib: float
    """0: a CPU does it in reasonable time."""


# 14B: image to video has 16.4 billion parameters, 30.5 GiB in bf16, text to video 14.3 billion, 26.6 GiB; UMT5-XXL 10.6, the image tower 1.2,
# the VAE 0.5. Activations of 480 x 832 x 81 are some 8 GiB, of 720 x 1280 x 81 some 16. A reference of Kaleido or Saber is one more latent
# frame beside 21, so that 4 of them are a fifth. With group offload the weights wait in main memory and a few blocks are on the device.
WORKLOADS = (
    Workload("puppets, 64 x 96, 17 frames", 1.5, 0),
    Workload("puppets, 128 x 192, 33 frames", 3, 0),
    Workload("train puppets, the CPU budget", 6, 0),
    Workload("train puppets, the full recipe", 16, 24),
    Workload("MAGREF 14B, 480 x 832, 81 frames, group offload", 56, 12),
    Workload("MAGREF 14B, 480 x 832, 81 frames, model offload", 56, 44),
    Workload("MAGREF 14B, 480 x 832, 81 frames, all on the device", 16, 56),
    Workload("MAGREF 14B, 720 x 1280, 81 frames, all on the device", 16, 66),
    Workload("Kaleido 14B, 512 x 896, 81 frames, 4 references, group offload", 52, 14),
    Workload("Kaleido 14B, 512 x 896, 81 frames, 4 references, model offload", 52, 42),
    Workload("Kaleido 14B, 512 x 896, 81 frames, 4 references, all on the device", 16, 54),
    Workload("Saber 14B (T2V), 480 x 832, 81 frames, 4 references, all on the device", 16, 53),
)


@dataclass(frozen=True)
class Extra:
    """A group of optional packages: those that are missing, and the line that installs them. Nothing missing: no line."""

    name: str
    missing: tuple[str, ...]
    install: str | None


def doctor(config: DoctorConfig) -> None:
    """Print what was found, as text or JSON."""
    found = machine()
    report: dict[str, Any] = {
        "anyref": __version__,
        "commit": commit(),
        "python": sys.executable,
        "versions": versions(),
        "machine": asdict(found),
        "models": models(),
        "runs": [{"what": w.what, "fits": fits(w, found)} for w in WORKLOADS],
        "extras": [asdict(extra) for extra in extras()],
        "problems": problems(),
    }
    if config.json:
        print(json.dumps(report, indent=2))
    else:
        _show(report, found)


def machine() -> Machine:
    """Look at this machine. Memory is what the process may use: a container's limit counts."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    name, memory = _accelerator()
    return Machine(cores, round(_memory_bytes() / _GIB, 1), name, round(memory / _GIB, 1))


def models() -> list[dict[str, Any]]:
    """Embedded models, and those of the published ones that the hub's cache holds: name, place, size in MB (shared parts included)."""
    if _missing(["torch", "diffusers", "transformers"]):
        return []
    from huggingface_hub.constants import HF_HUB_CACHE

    from anyref.methods.folder import PARTS, embedded_models, read_folder

    found = []
    for name, path in embedded_models().items():
        folders = [part for part in map(read_folder(path).part, PARTS) if part is not None]
        found.append({"name": name, "place": str(path), "mb": _megabytes(folders)})
    for name in _HUB_MODELS:
        folder = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
        if folder.is_dir():
            found.append({"name": name, "place": str(folder), "mb": _megabytes([folder / "blobs"])})
    return found


def fits(workload: Workload, found: Machine) -> bool:
    """Whether the machine's memory suffices."""
    return (
        found.memory_gib >= workload.memory_gib and found.accelerator_memory_gib >= workload.accelerator_gib
    )


def extras() -> list[Extra]:
    """The optional groups of pyproject.toml, as the installed metadata tell them."""
    groups: dict[str, list[str]] = {}
    for name, extra in _requirements():
        groups.setdefault(extra, []).append(name)
    found = []
    for group, names in groups.items():
        missing = _missing(names)
        if group:
            found.append(Extra(group, tuple(missing), _install_line(group) if missing else None))
    return found


def problems() -> list[str]:
    """What is broken, one sentence each, with the line that mends it."""
    core = _missing([name for name, extra in _requirements() if not extra])
    found = [f"{name} is missing: {_install_line()}" for name in core]
    if not _requirements():
        found.append(f"anyref itself is not installed, only its folder is on the path: {_install_line()}")
    if not core and not models():
        found.append(
            "no embedded models are there: `anyref puppets train` makes them, or get the repository whole"
        )
    if _is_installed("torchvision") and find_spec("torchvision") is not None:
        import torch

        accelerator = getattr(torch.version, "cuda", None)
        if accelerator is None:
            found.append(
                "torchvision beside a CPU build of torch makes transformers fail: "
                f"{_python()} -m pip uninstall torchvision"
            )
    return found


def _show(report: dict[str, Any], found: Machine) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    at = f" ({report['commit'][:10]})" if report["commit"] else ""
    console.print(f"[bold]anyref {report['anyref']}[/bold]{at}, {report['python']}")
    console.print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    accelerator = (
        f"{found.accelerator}, {found.accelerator_memory_gib} GiB" if found.accelerator else "no accelerator"
    )
    console.print(
        f"\n[bold]Machine[/bold]  {found.cores} cores, {found.memory_gib} GiB of memory, {accelerator}"
    )
    runs = Table("what this machine can run (memory estimated)", "", box=None, pad_edge=False)
    for row in report["runs"]:
        runs.add_row(row["what"], "yes" if row["fits"] else "no")
    console.print(runs)
    console.print("\n[bold]Models[/bold]")
    for model in report["models"]:
        console.print(f"{model['name']}  {model['mb']} MB  {model['place']}", soft_wrap=True)
    console.print("\n[bold]Optional parts[/bold]")
    for extra in report["extras"]:
        state = (
            f"{', '.join(extra['missing'])} missing: {extra['install']}" if extra["missing"] else "installed"
        )
        console.print(f"{extra['name']:<11} {state}", soft_wrap=True, markup=False)
    console.print("\n[bold]Problems[/bold]")
    for problem in report["problems"] or ["none found"]:
        console.print(problem, soft_wrap=True, markup=False)


def _accelerator() -> tuple[str | None, int]:
    if find_spec("torch") is None:
        return None, 0
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return properties.name, properties.total_memory
    if torch.backends.mps.is_available():
        return "Apple GPU", _memory_bytes()  # memory is shared
    return None, 0


def _memory_bytes() -> int:
    """Physical memory, or a container's limit where that is smaller; 0 where the system does not tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            total = min(total, int(text))
    return total


def _requirements() -> list[tuple[str, str]]:
    """(package, extra) of our own metadata, extra "" for the core; empty when anyref is not installed."""
    from packaging.requirements import Requirement

    try:
        lines = requires("anyref") or []
    except PackageNotFoundError:
        return []
    found = []
    for requirement in map(Requirement, lines):
        extra = str(requirement.marker).partition("extra == ")[2].strip("\"'") if requirement.marker else ""
        found.append((requirement.name, extra))
    return [(name, extra) for name, extra in found if name != "anyref"]


def _megabytes(folders: Sequence[Path]) -> float:
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)


def _missing(names: Sequence[str]) -> list[str]:
    return [name for name in names if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return bool(version(name))


def _install_line(extra: str = "") -> str:
    suffix = f"[{extra}]" if extra else ""
    if (_ROOT / "constraints.txt").is_file():
        return f"{_python()} -m pip install -c {_ROOT / 'constraints.txt'} -e '{_ROOT}{suffix}'"
    return f"{_python()} -m pip install 'anyref{suffix}'"


def _python() -> str:
    return sys.executable or "python"

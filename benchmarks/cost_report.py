"""Tables and a plot of what benchmarks/cost.py finds. Rows are dicts, as in its JSON."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

STEPS = 50
"""Of a video, over which the first step is spread."""
LINES: dict[str, dict[str, Any]] = {
    "MAGREF": {"color": "tab:orange", "marker": "s"},
    "Kaleido": {"color": "tab:blue", "marker": "o"},
    "Saber": {"color": "tab:green", "marker": "^"},
    "Saber, strict": {"color": "tab:red", "marker": "v", "ls": "--"},
    "Saber, strict, kept": {"color": "tab:purple", "marker": "D", "ls": ":"},
}
Row = dict[str, Any]


class Units(NamedTuple):
    """Of multiply-adds and of memory, for numbers that are neither tiny nor huge."""

    exponent: int
    bytes: int
    memory: str

    def operations(self, row: Row, part: str = "total") -> float:
        """Of a step, on the average of a video."""
        parts = row["multiply_adds"]
        return mean_of_steps(parts["first"][part], parts["later"][part]) / 10**self.exponent


def units_of(rows: Sequence[Row]) -> Units:
    large = max(row["peak_bytes"] for row in rows) > 2**30
    return Units(12, 2**30, "GiB") if large else Units(9, 2**20, "MiB")


def mean_of_steps(first: float, later: float) -> float:
    return (first + (STEPS - 1) * later) / STEPS


def milliseconds(row: Row) -> float:
    return 1e3 * mean_of_steps(row["first_s"], row["later_s"])


def print_counted(what: str, rows: Sequence[Row]) -> None:
    units = units_of(rows)
    print(f"\nCounted, {what}: 10^{units.exponent} multiply-adds of a step (mean of {STEPS}), {units.memory}")
    names = ("refs", "tokens", "projections", "self-att.", "cross-att.", "feed-forw.", "all", "of 0 refs")
    print(
        f"{'':20}" + "".join(f"{name:>12}" for name in (*names, "weights", "text kept", "refs kept", "peak"))
    )
    parts = ("projections", "self_attention", "cross_attention", "feed_forward", "total")
    memory = ("weight_bytes", "kept_context_bytes", "kept_reference_bytes", "peak_bytes")
    for row in rows:
        plain = next(one for one in rows if one["method"] == row["method"])
        numbers = [units.operations(row, part) for part in parts]
        cells = [f"{number:.4g}" for number in (*numbers, numbers[-1] / units.operations(plain))]
        cells += [f"{row[name] / units.bytes:.3g}" for name in memory]
        cells = [str(row["references"]), str(row["tokens"]), *cells]
        print(f"{row['method']:20}" + "".join(f"{cell:>12}" for cell in cells))


def print_measured(what: str, rows: Sequence[Row]) -> None:
    units = units_of(rows)
    print(f"\nMeasured, {what}: ms of a step, {units.memory} at the peak beside the weights")
    print(f"{'':20}" + "".join(f"{name:>10}" for name in ("refs", "first", "later", "from", "to", "peak")))
    for row in rows:
        times = [1e3 * row[name] for name in ("first_s", "later_s", "later_s_from", "later_s_to")]
        cells = [
            str(row["references"]),
            *(f"{number:.1f}" for number in (*times, row["peak_bytes"] / units.bytes)),
        ]
        print(f"{row['method']:20}" + "".join(f"{cell:>10}" for cell in cells))


def draw(report: dict[str, Any], path: Path) -> None:
    """Work and memory against the number of references: a row of panels for what was measured, and one for what was counted."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels: list[tuple[Sequence[Row], Callable[[Row], float], str]] = []
    for kind in ("measured", "counted"):
        if kind not in report:
            continue
        what, rows = report[kind]["what"], report[kind]["rows"]
        units = units_of(rows)
        work, name = milliseconds, "Time of a step, ms"
        if kind == "counted":
            work, name = units.operations, f"Multiply-adds of a step, $10^{{{units.exponent}}}$"
        panels.append((rows, work, f"{name}\n{kind}, {what}"))
        memory = f"Peak memory beside the weights, {units.memory}\n{kind}, {what}"
        panels.append((rows, lambda row, unit=units.bytes: row["peak_bytes"] / unit, memory))
    height = 4 * (len(panels) // 2) + 0.5
    figure, axes = plt.subplots(len(panels) // 2, 2, figsize=(11, height), squeeze=False)
    for axis, (rows, value, title) in zip(axes.flat, panels, strict=True):
        for method, line in LINES.items():
            points = [(row["references"], value(row)) for row in rows if row["method"] == method]
            axis.plot(*zip(*points, strict=True), label=method, lw=1.6, ms=5, **line)
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xticks(sorted({row["references"] for row in rows}))
        axis.set_xlabel("references")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncol=len(labels), frameon=False)
    notes = (
        f"A step is both sides of guidance, the mean of {STEPS}. A subject covers {report['subject_share']:.0%} of its reference. "
        "MAGREF samples one latent frame more, its canvas.\n"
        "Strict: references attend to references only. Kept: their keys and values stay from step to step."
    )
    if "measured" in report:
        notes += f" Measured on {report['machine']}."
    figure.text(0.01, 0.08 / height, notes, fontsize=8, va="bottom", color="0.35")
    figure.tight_layout(rect=(0, 0.4 / height, 1, 1 - 0.4 / height))
    figure.savefig(path, dpi=130)

"""An ablation table as text, numbers and a plot: ours with intervals over clips and seeds, the published one beside it.

Intervals are percentile bootstraps that draw seeds and, within them, clips; differences are to the table's own full row, on the same clips
and seeds. With one seed an interval says nothing of what another seed would give, and the table says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anyref.evaluation.published import published_rows
from anyref.puppets.ablation import DIFFERENCES, Found, common_measures
from anyref.puppets.judging import Rate

DRAWS = 2000
COLUMNS = 4
"""Panels side by side in a plot."""


@dataclass(frozen=True)
class PublishedTable:
    """Where a paper prints a table: its name in reference_tables.json, our rows' names there, and our row that is the paper's own choice."""

    source: str
    rows: Mapping[str, str]
    full: str

    @property
    def same_targets(self) -> bool:
        """Whether every row denoises the clips and nothing else; of MAGREF's, some begin with a canvas."""
        return not self.source.startswith("magref") and bool(self.source)


_MAGREF_4 = {
    "vanilla-mask": "w/o region-aware masking",
    "no-cross-pairs": "w/o cross-pair",
    "no-disentanglement": "w/o subject disentanglement",
    "full": "full",
}
PUBLISHED: Mapping[str, PublishedTable] = {
    "magref-3": PublishedTable(
        "magref_table3_training_masking",
        {
            "t2v-backbone": "T2V backbone",
            "vanilla-mask": "I2V + vanilla mask",
            "region-mask": "I2V + region-aware mask",
        },
        "region-mask",
    ),
    "magref-4": PublishedTable("magref_table4_ablation", _MAGREF_4, "full"),
    "magref-figure-6": PublishedTable("", {}, "channel-concat"),
    "kaleido-2": PublishedTable(
        "kaleido_table2_rrope",
        {"concat": "Concat", "shift-w": "ShiftW", "shift-h": "ShiftH", "shift-w-h": "ShiftW&H"},
        "shift-w-h",
    ),
    "kaleido-3": PublishedTable(
        "kaleido_table3_crosspair", {"no-cross-pairs": "without", "cross-pairs": "with"}, "cross-pairs"
    ),
    "kaleido-4": PublishedTable(
        "kaleido_table4_crosspair_ratio",
        {f"{percent}-percent": f"{percent}%" for percent in (0, 20, 40, 60, 80)},
        "40-percent",
    ),
    "kaleido-5": PublishedTable(
        "kaleido_table5_rrope_variants",
        {
            "staggered-negative": "T=-3,-2,-1",
            "fixed-negative": "T=-1",
            "future": "T=+1,+2,+3",
            "shift-w-h-no-overlap": "ShiftW&H no overlap",
            "channel-concat": "Channel-concat",
            "shift-w-h": "ShiftW&H",
        },
        "shift-w-h",
    ),
    "saber": PublishedTable(
        "saber_ablation",
        {
            "curated-pairs": "w/o masked training",
            "ellipse-only": "ellipse only",
            "fourier-only": "fourier only",
            "polygon-only": "polygon only",
            "fixed-ratio": "fixed r=0.3",
            "full": "full",
        },
        "full",
    ),
}
"""Rows without an entry were compared in words, or in a figure, only."""


@dataclass(frozen=True)
class Cell:
    """One row's share of one measure, and its difference to the full row (None for that row, and where it was not run)."""

    value: Rate
    minus_full: Rate | None


@dataclass(frozen=True)
class Report:
    """Row to measure to cell, and the published numbers of the rows that have some, by the paper's metric names."""

    table: str
    seeds: int
    chance: Mapping[str, float | None]
    """By measure: its mean where references tell nothing; None where there is no such number."""
    cells: Mapping[str, Mapping[str, Cell]]
    published: Mapping[str, Mapping[str, float]]

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def report(table: str, found: Found, draw_seed: int = 0) -> Report:
    """The table of what `ablation.run` found."""
    measures, full = common_measures(found, PUBLISHED[table].same_targets), PUBLISHED[table].full
    first = next(iter(found.values()))
    values = {
        row: {measure: np.array([results[measure].values for results in seeds]) for measure in measures}
        for row, seeds in found.items()
    }
    cells = {
        row: {
            measure: Cell(
                _rate(of_row[measure], draw_seed),
                None
                if row == full or full not in values
                else _rate(of_row[measure] - values[full][measure], draw_seed),
            )
            for measure in measures
        }
        for row, of_row in values.items()
    }
    chance = {measure: 0.0 if measure in DIFFERENCES else first[0][measure].chance for measure in measures}
    return Report(table, len(first), chance, cells, published(table))


def _rate(values_SN: NDArray[np.float64], seed: int) -> Rate:
    """Mean over seeds and clips with a 95 % interval: seeds are drawn, and clips, the same for all seeds, as they were measured."""
    rng = np.random.default_rng(seed)
    seeds, clips = values_SN.shape
    means = [
        values_SN[rng.integers(seeds, size=seeds)][:, rng.integers(clips, size=clips)].mean()
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return Rate(float(values_SN.mean()), float(low), float(high), seeds * clips)


def published(table: str) -> dict[str, dict[str, float]]:
    """Our row to the paper's numbers, 0 to 1, with the total last where there is one."""
    one = PUBLISHED[table]
    rows = {row.name: row for row in published_rows() if row.table == one.source}
    found = {}
    for ours, theirs in one.rows.items():
        row = rows[theirs]
        found[ours] = {**row.scores, **({} if row.total is None else {"total": row.total})}
    return found


def markdown(one: Report) -> str:
    """The rules, then a table of our numbers, one of their differences to the full row, and the paper's."""
    measures, full = list(one.chance), PUBLISHED[one.table].full
    ours = [[row, *(_shown(cells[name].value) for name in measures)] for row, cells in one.cells.items()]
    differences = [
        [row, *(_shown(cells[name].minus_full, signed=True) for name in measures)]
        for row, cells in one.cells.items()
        if any(cells[name].minus_full for name in measures)
    ]
    columns = list(dict.fromkeys(name for scores in one.published.values() for name in scores))
    theirs = [
        [row, *(f"{scores[name]:.3f}" if name in scores else "" for name in columns)]
        for row, scores in one.published.items()
    ]
    chances = ", ".join(
        f"{name} {value:.3f}"
        for name, value in one.chance.items()
        if value is not None and name not in DIFFERENCES
    )
    seeds = (
        f"{one.seeds} seeds"
        if one.seeds > 1
        else "one seed, so that intervals leave out what another seed would give"
    )
    sections = [
        f"# {one.table}",
        f"The puppet world, {seeds}; full row: {full}; 95 % bootstrap intervals over seeds and clips; by chance: {chances}.",
        _table(["row", *measures], ours),
    ]
    if differences:
        sections += [f"Minus {full}, on the same clips and seeds:", _table(["row", *measures], differences)]
    if theirs:
        sections += [
            "The paper's numbers, of another model, other data and other metrics: only the order of rows can be compared.",
            _table(["row", *columns], theirs),
        ]
    return "\n\n".join(sections) + "\n"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *lines))


def _shown(value: Rate | None, *, signed: bool = False) -> str:
    if value is None:
        return ""
    sign = "+" if signed else ""
    return f"{value.value:{sign}.3f} [{value.low:{sign}.3f}, {value.high:{sign}.3f}]"


def plot(one: Report) -> bytes:
    """PNG: a panel for each measure with its intervals, then the paper's total or first metrics. Needs matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("matplotlib is not installed; run: pip install 'anyref[evaluation]'") from error
    rows, measures = list(one.cells), list(one.chance)
    headlines = _headlines(one.published)
    panels = len(measures) + len(headlines)
    columns = min(COLUMNS, panels)
    lines = -(-panels // columns)
    figure = Figure(figsize=(3.0 * columns + 1.6, lines * (1.0 + 0.32 * len(rows))), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
    axes = list(grid.flat)
    places = np.arange(len(rows))[::-1]
    full = PUBLISHED[one.table].full
    for axis, measure in zip(axes, measures, strict=False):
        values = [one.cells[row][measure].value for row in rows]
        centres = np.array([value.value for value in values])
        reach = np.array([[value.value - value.low, value.high - value.value] for value in values]).T
        axis.errorbar(centres, places, xerr=np.maximum(reach, 0), fmt="o", color="#1f5fa8", capsize=3)
        if full in rows:
            axis.axvline(one.cells[full][measure].value.value, color="#1f5fa8", alpha=0.25)
        if (chance := one.chance[measure]) is not None:
            axis.axvline(chance, color="0.6", linestyle=":")
        axis.set_title(measure.replace(", ", ",\n"), fontsize=10)
    for axis, metric in zip(axes[len(measures) :], headlines, strict=False):
        known = [
            (place, one.published[row][metric])
            for row, place in zip(rows, places, strict=True)
            if row in one.published
        ]
        axis.plot([value for _, value in known], [place for place, _ in known], "s", color="0.5")
        axis.set_title(f"the paper: {metric}", fontsize=10, color="0.4")
    axes[0].set_yticks(places, rows)
    axes[0].set_ylim(-0.5, len(rows) - 0.5)
    for axis in axes[:panels]:
        axis.grid(visible=True, axis="x", color="0.92")
        axis.set_axisbelow(True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    for axis in axes[panels:]:
        axis.remove()
    figure.supxlabel("dotted: chance, or no difference; pale line: the full row", fontsize=9, color="0.4")
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _headlines(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The total where there is one, else the paper's first two metrics."""
    names: Sequence[str] = list(next(iter(rows.values()), {}))
    return ["total"] if "total" in names else list(names[:2])

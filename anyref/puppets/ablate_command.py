"""`anyref ablate`: its flags, and what writes the table, the numbers and the plot."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from anyref.files import atomic, check_writable, write_json
from anyref.jobs import find_place, shown
from anyref.provenance import record


@dataclass(frozen=True)
class AblateCommand:
    """Run an ablation table of the papers in the puppet world: train every row and seed alike, measure, show the published table beside it.

    Rows and seeds that are finished are kept; the same command goes on. A row that stands in several tables is trained once.
    """

    table: tyro.conf.Positional[str]
    """magref-3, magref-4, magref-figure-6, kaleido-2, kaleido-3, kaleido-4, kaleido-5 or saber."""
    output: Annotated[Path | None, shown("PATH", "runs/ablations/TABLE")] = None
    """Folder of table.md, table.json and table.png; beside it, for all tables, lie `rows`, what is trained, and `results`, a small file a row
    and seed, with which a table can be written or finished elsewhere."""
    budget: Literal["cpu", "cuda", "rehearsal"] = "cpu"
    """cpu: small transformers on videos of five frames, from embedded backbones; cuda: the embedded size, not run yet; rehearsal: every line, learns
    nothing."""
    seeds: int = 3
    """How many trainings of each row."""
    row: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, shown("STR", "all")] = ()
    """A row of the table. Repeat it for more."""
    backbones: Path = Path("outputs/puppets/weights")
    """Folder with the backbones t2v and i2v, as `anyref puppets train` leaves them; for cuda."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps; auto takes the accelerator if there is one."""
    workers: int = 1
    """Processes that encode clips."""


def ablate(command: AblateCommand) -> None:
    """Run the table and write it."""
    from rich.console import Console

    from anyref.puppets import ablation
    from anyref.puppets.ablation_report import markdown, plot, report
    from anyref.puppets.judging import Rate

    output = command.output or Path("runs") / "ablations" / command.table
    asked = ablation.Ablation(
        table=command.table,
        output=output,
        budget=command.budget,
        seeds=command.seeds,
        rows=command.row,
        backbones=command.backbones,
        device=find_place(command.device, "float32").device,
        workers=command.workers,
    )
    ablation.check(asked)
    check_writable(output / "table.json")
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def show(what: str, done: int, total: int) -> None:
        console.print(f"[{done}/{total}] {what}")

    def tell(name: str, measure: str, value: Rate) -> None:
        console.print(f"{name}, {measure}: {value}")

    found = report(command.table, ablation.run(asked, show, tell))
    write_json(output / "table.json", {**found.record(), **record(command)})
    with atomic(output / "table.md") as partial:
        partial.write_text(markdown(found), encoding="utf-8")
    with atomic(output / "table.png") as partial:
        partial.write_bytes(plot(found))
    print(f"table: {output / 'table.md'}; numbers: {output / 'table.json'}; plot: {output / 'table.png'}")

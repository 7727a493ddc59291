"""Take films through stages: what is in the ledger is not done again, the rest is done by an engine, and every loss is counted with its reason.

Equal input, stages and settings give an equal output folder, whatever the engine, the number of workers, and the number of times it was
killed on the way.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from anyref.curation import fingerprints, ledger
from anyref.curation.local import Local, Report
from anyref.curation.stage import Gathering, Outcome, Record, Stage, canonical
from anyref.curation.store import Store
from anyref.files import alone

_TRIAL = 20
"""After so many records, a stage that fails on more than half of them is taken to be broken."""


class Engine(Protocol):
    """`Local` or `Ray`."""

    def run(self, stage: Stage, records: Sequence[Record], store: Store, report: Report) -> None:
        """Work on all records, committing to the ledger, and report each."""


@dataclass(frozen=True)
class Passage:
    """One stage's line of the funnel."""

    stage: str
    entered: int
    left: int
    """Records that go on; more than entered where the stage fans out."""
    dropped: int
    failed: int
    quarantined: int


@dataclass(frozen=True)
class Curated:
    """What a run leaves."""

    records: tuple[Record, ...]
    """Those that came through every stage, sorted by id."""
    funnel: tuple[Passage, ...]
    losses: tuple[dict[str, str], ...]
    """stage, record, status and reason of everything that did not."""


def curate(
    stages: Sequence[Stage | Gathering],
    store: Store,
    engine: Engine | None = None,
    *,
    records: Sequence[Record] | None = None,
    progress: bool = False,
    retry_quarantined: bool = False,
) -> Curated:
    """Run stages in order over the films of `store` (or over these records) and write `funnel.json` and `losses.jsonl`.

    `failed` records are tried again by every run; quarantined ones only with `retry_quarantined`, once each.

    Raises ValueError where there are no films, where another run writes to the same folder, and where a stage fails on most of its
    records; what was done until then is kept.
    """
    if records is None:
        from anyref.curation.stages.probe import film_records

        records = film_records(store)
    engine = Local() if engine is None else engine
    funnel: list[Passage] = []
    losses: list[dict[str, str]] = []
    again = frozenset({"failed", "quarantined"} if retry_quarantined else {"failed"})
    fingerprints.forget()
    with _alone(store):
        for stage in stages:
            done = _pass(stage, records, store, engine, progress, again)
            counts = Counter(outcome.status for _, outcome in done)
            made = [record for _, outcome in done for record in outcome.records]
            assert len({record.id for record in made}) == len(made), f"{stage.name} gives one id twice"
            losses += [
                {"stage": stage.name, "record": r.id, "status": o.status, "reason": o.reason}
                for r, o in done
                if o.status != "ok"
            ]
            funnel.append(
                Passage(
                    stage.name,
                    len(records),
                    len(made),
                    counts["dropped"],
                    counts["failed"],
                    counts["quarantined"],
                )
            )
            records = sorted(made, key=lambda record: record.id)
        store.write("funnel.json", (canonical([vars(passage) for passage in funnel]) + "\n").encode())
        store.write("losses.jsonl", "".join(canonical(loss) + "\n" for loss in losses).encode())
    return Curated(tuple(records), tuple(funnel), tuple(losses))


def replay(
    stages: Sequence[Stage | Gathering], store: Store, records: Sequence[Record] | None = None
) -> Curated:
    """What `curate` gave, from the ledger alone: nothing is computed or written. Records without an entry are left out."""
    if records is None:
        from anyref.curation.stages.probe import film_records

        records = film_records(store)
    losses: list[dict[str, str]] = []
    for stage in stages:
        made = list[Record]()
        for record, outcome in ledger.results(stage, records, ledger.entries(store, stage.name)):
            made += outcome.records
            if outcome.status != "ok":
                losses.append(
                    {
                        "stage": stage.name,
                        "record": record.id,
                        "status": outcome.status,
                        "reason": outcome.reason,
                    }
                )
        records = sorted(made, key=lambda record: record.id)
    return Curated(tuple(records), (), tuple(losses))


def _pass(
    stage: Stage | Gathering,
    records: Sequence[Record],
    store: Store,
    engine: Engine,
    progress: bool,
    again: frozenset[str],
) -> list[tuple[Record, Outcome]]:
    """Every record with its outcome, in the order of the records. `again`: what is tried again of what a run before this one left."""
    if isinstance(stage, Gathering):
        outcomes = stage.gather(records, store) if records else []
        assert len(outcomes) == len(records), f"{stage.name} loses records"
        # Through JSON, as a ledger would: lists for tuples, and nothing that JSON cannot hold.
        plain = [
            Outcome(
                o.status,
                o.reason,
                tuple(Record.from_json(json.loads(canonical(r.to_json()))) for r in o.records),
            )
            for o in outcomes
        ]
        return list(zip(records, plain, strict=True))
    found = ledger.compact(store, stage.name)
    keys = {record.id: ledger.key_of(stage, record) for record in records}
    tried = [r for r in records if (e := found.get(keys[r.id])) is not None and e.status in again]
    new = [record for record in records if keys[record.id] not in found]
    if tried or new:
        # `failed` gives way to any other end; another one would stand beside what comes now.
        ledger.forget(store, stage.name, [keys[r.id] for r in tried if found[keys[r.id]].status != "failed"])
        before = len(records) - len(tried) - len(new)
        try:
            with _reporting(stage, before, {record.id for record in new}, len(tried), progress) as report:
                engine.run(stage, [*new, *tried], store, report)
        finally:
            found = ledger.compact(store, stage.name)
    done = list(ledger.results(stage, records, found))
    assert len(done) == len(records), f"{stage.name}: {len(records) - len(done)} records have no outcome"
    return done


@contextlib.contextmanager
def _reporting(stage: Stage, before: int, new: Set[str], num_tried: int, progress: bool) -> Iterator[Report]:
    """A function that counts what is done, shows it, and stops a stage that fails on most.

    That is: on most of the `new` records, or on most of all, the `before` of earlier runs among them. What failed then and is tried again
    says little by itself, because it is all that is left of a run that went well.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    counts, fresh = Counter[str](), Counter[str]()
    total = before + len(new) + num_tried
    columns: list[Any] = [
        TextColumn("{task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[lost]}"),
    ]
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task(stage.name, total=total, completed=before, lost="")

        def report(record: Record, outcome: Outcome) -> None:
            counts[outcome.status] += 1
            if record.id in new:
                fresh[outcome.status] += 1
            lost = ", ".join(f"{n} {status}" for status, n in sorted(counts.items()) if status != "ok")
            bar.update(task, advance=1, lost=lost)
            for failed, done in (
                (fresh["failed"], fresh.total()),
                (counts["failed"], before + counts.total()),
            ):
                if done >= min(_TRIAL, total) and failed * 2 > done:
                    raise ValueError(
                        f"stage {stage.name} fails on {failed} of {done} records, last on {record.id} "
                        f"({outcome.reason or 'see the ledger'}); put that right and run again"
                    )

        yield report


@contextlib.contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Keep a second run out of a local output folder, and clear away what a killed one left half-written."""
    if "://" in store.root:
        yield
        return
    root = Path(store.root)
    with alone(root):
        for folder in ("blobs", "ledger"):
            for partial in (root / folder).rglob(".*-*"):
                partial.unlink(missing_ok=True)
        yield

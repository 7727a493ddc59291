"""Run a stage on a Ray cluster: one Ray Data job per stage, a pool of actors that each hold a worker; the only file that imports Ray.

Only records travel through Ray, never frames: actors read films and write blobs and ledger entries to the store themselves. Resume is the
ledger's; Ray's own checkpoints lose siblings of a record that fans out (research: ray 2.60, issue 60704).
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anyref.curation.ledger import Writer, entry_of
from anyref.curation.local import Report
from anyref.curation.stage import Outcome, Record, Stage, canonical
from anyref.curation.store import Store
from anyref.curation.work import open_hands


@dataclass(frozen=True)
class Ray:
    """The engine for a cluster. The store must be one that every node reaches."""

    num_workers: int = 2
    address: str | None = None
    """Of a running cluster ("auto", "ray://..."); None starts one here."""
    batch_size: int = 4
    """Records per task: a killed actor loses at most these."""

    def run(self, stage: Stage, records: Sequence[Record], store: Store, report: Report) -> None:
        """As `Local.run`."""
        ray = self._started()
        by_id = {record.id: record for record in records}
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        need = stage.resources
        count = max(1, min(self.num_workers, len(records)))
        rows = [{"record": canonical(record.to_json())} for record in records]
        blocks = -(-len(rows) // self.batch_size)
        made = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            _Actor,
            fn_constructor_args=(stage, store),
            compute=ray.data.ActorPoolStrategy(size=count),
            batch_size=self.batch_size,
            num_cpus=need.cpus,
            num_gpus=need.gpus or None,
            max_restarts=-1,
        )
        for row in made.iter_rows():
            status, reason = row["status"], row["reason"]
            report(by_id[row["id"]], Outcome(status, reason))

    def _started(self) -> Any:
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise ValueError("Ray is not installed; run: pip install 'anyref[curation]'") from error
        if not ray.is_initialized():
            if self.address:
                ray.init(address=self.address, log_to_driver=False)
            else:  # "local": without it, the address of a cluster that is long dead may be found and tried
                cpus = self.num_workers + 1  # one for Ray Data itself
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
        return ray


class _Actor:
    """A worker in the pool. What it has done is in the ledger before it answers, so that a killed one costs one batch."""

    def __init__(self, stage: Stage, store: Store) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self._stage, self._store = stage, store
        self._hands = open_hands(stage)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        writer = Writer(self._store, self._stage.name)
        done: dict[str, list[str]] = {"id": [], "status": [], "reason": []}
        for text in batch["record"]:
            record = Record.from_json(json.loads(str(text)))
            outcome = self._hands.work(record, self._store)
            writer.add(entry_of(self._stage, record, outcome))
            for name, value in (("id", record.id), ("status", outcome.status), ("reason", outcome.reason)):
                done[name].append(value)
        writer.commit()
        return done

    def __del__(self) -> None:
        self._hands.close()

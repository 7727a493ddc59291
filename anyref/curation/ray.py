"""Run a stage on a Ray cluster: one Ray Data job per stage, a pool of actors that each hold a worker; the only file that imports Ray.

Only records travel through Ray, never frames: actors read films and write blobs and ledger entries to the store themselves. Resume is the
ledger's; Ray's own checkpoints lose siblings of a record that fans out (research: ray 2.60, issue 60704).

Each actor does its records in a child process, as `Local` does with several workers: what takes its reader down is found and quarantined. A
batch whose actor dies is tried again, `ATTEMPTS` times and then record by record; what is lost even so is `failed`, and the run goes on.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from anyref.curation.ledger import Writer, entry_of
from anyref.curation.local import Report
from anyref.curation.stage import Outcome, Record, Stage, canonical
from anyref.curation.store import Store
from anyref.curation.work import ATTEMPTS, Child

_LOST = "its worker died, or could not write what it had done, each time; see the logs of Ray and run again"


@dataclass(frozen=True)
class Ray:
    """The engine for a cluster. The store must be one that every node reaches."""

    num_workers: int = 2
    address: str | None = None
    """Of a running cluster ("auto", "ray://..."); None starts one here."""
    batch_size: int = 4
    """Records per task: a killed actor loses at most these."""

    def run(self, stage: Stage, records: Sequence[Record], store: Store, report: Report) -> None:
        """As `Local.run`. Raises ValueError where no machine of a cluster started here has the GPUs that a worker needs."""
        ray = self._started()
        left = {record.id: record for record in records}
        for size in sorted({self.batch_size, 1}, reverse=True):
            for row in self._rows(ray, stage, list(left.values()), store, size):
                report(left.pop(row["id"]), Outcome(row["status"], row["reason"]))
            if not left:
                return
        writer = Writer(store, stage.name)
        for record in left.values():
            outcome = Outcome("failed", _LOST)
            writer.add(entry_of(stage, record, outcome))
            writer.commit()
            report(record, outcome)

    def _rows(
        self, ray: Any, stage: Stage, records: Sequence[Record], store: Store, batch_size: int
    ) -> Iterable[dict[str, Any]]:
        """id, status and reason of what was done; batches that lost their actor too often give none."""
        cpus, gpus = self._share(ray, stage)
        rows = [{"record": canonical(record.to_json())} for record in records]
        # One task at a time: what waits behind a task that kills its actor is charged with the death as well.
        pool = ray.data.ActorPoolStrategy(
            size=max(1, min(self.num_workers, len(records))), max_tasks_in_flight_per_actor=1
        )
        dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // batch_size))
        dataset.context.enable_progress_bars = False
        dataset.context.max_errored_blocks = -1
        # Ray's 0: the job ends when one worker is killed while it starts.
        dataset.context.max_consecutive_actor_init_deaths = ATTEMPTS
        done: Iterable[dict[str, Any]] = dataset.map_batches(
            _Actor,
            fn_constructor_args=(stage, store),
            compute=pool,
            batch_size=batch_size,
            num_cpus=cpus,
            num_gpus=gpus or None,
            max_restarts=-1,
            max_task_retries=ATTEMPTS - 1,  # Ray Data's -1: a task that kills its actor is tried without end
        ).iter_rows()
        return done

    def _share(self, ray: Any, stage: Stage) -> tuple[float, float]:
        """CPUs and GPUs to ask for: an actor that fits on no machine would be waited for without a word and without end."""
        need = stage.resources
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not self.address and need.gpus > max(machine.get("GPU", 0) for machine in machines):
            raise ValueError(
                f"stage {stage.name} needs {need.gpus:g} GPUs per worker, and no machine here has them; "
                "give the address of a cluster that has, or run without GPUs"
            )
        return min(need.cpus, max(machine.get("CPU", 0) for machine in machines)), need.gpus

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
                # Ray's 15 starves workers for minutes wherever another program keeps the processors busy.
                os.environ.setdefault("RAY_worker_niceness", "0")
                # Ray's -1: what is killed for want of memory is tried without end.
                os.environ.setdefault("RAY_task_oom_retries", str(ATTEMPTS - 1))
                cpus = self.num_workers + 1  # one for Ray Data itself
                ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
        return ray


class _Actor:
    """A worker in the pool. What it has done is in the ledger before it answers, so that a killed one costs one batch."""

    def __init__(self, stage: Stage, store: Store) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self._stage, self._store = stage, store
        self._hands = Child(stage)

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

"""Run a stage on this machine: threads that each drive one worker, in a child process where there are several or limits are asked for."""

import os
import queue
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from anyref.curation.ledger import Writer, entry_of
from anyref.curation.stage import Outcome, Record, Stage
from anyref.curation.store import Store
from anyref.curation.work import Child, Hands, Interrupted, open_hands

Report = Callable[[Record, Outcome], None]
"""Called for each record that is done, in no particular order, from any thread, one at a time."""


@dataclass(frozen=True)
class Local:
    """The engine for one machine."""

    num_workers: int = 1

    def run(self, stage: Stage, records: Sequence[Record], store: Store, report: Report) -> None:
        """Work on all records, committing to the ledger; raises what `report` raises, and KeyboardInterrupt, with all work committed.

        Warns where fewer workers than asked for fit on the GPUs, and raises ValueError where none does.
        """
        todo: queue.SimpleQueue[Record] = queue.SimpleQueue()
        for record in records:
            todo.put(record)
        places = self._places(stage, max(1, min(self.num_workers, len(records))))
        if len(places) == 1 and not stage.resources.isolated:
            _drive(stage, open_hands(stage), todo, store, report, threading.Event())
            return
        self._in_threads(places, stage, todo, store, report)

    def _places(self, stage: Stage, count: int) -> list[dict[str, str]]:
        """Up to `count` workers, each as the variables of its environment: which GPUs it sees."""
        share = stage.resources.gpus
        if share <= 0:
            return [{} for _ in range(count)]
        devices = _devices()
        each = ceil(share)  # one device for fractions of it, else whole ones
        groups = [devices[at : at + each] for at in range(0, len(devices) - each + 1, each)]
        # Neighbours in the list lie on different devices, so that few workers share none.
        rooms = [",".join(group) for group in groups] * max(1, int(1 / share))
        if not rooms:
            raise ValueError(
                f"stage {stage.name} needs {share:g} GPUs per worker, and this machine has {len(devices)}; run without --gpus"
            )
        if len(rooms) < count:
            warnings.warn(
                f"stage {stage.name}: {len(rooms)} of {count} workers, because each needs {share:g} of {len(devices)} GPUs",
                stacklevel=3,
            )
        return [{"CUDA_VISIBLE_DEVICES": room} for room in rooms[:count]]

    def _in_threads(
        self,
        places: Sequence[dict[str, str]],
        stage: Stage,
        todo: "queue.SimpleQueue[Record]",
        store: Store,
        report: Report,
    ) -> None:
        stop, lock, errors = threading.Event(), threading.Lock(), list[BaseException]()
        hands = [Child(stage, place) for place in places]

        def tell(record: Record, outcome: Outcome) -> None:
            with lock:
                report(record, outcome)

        def drive(mine: Child) -> None:
            try:
                _drive(stage, mine, todo, store, tell, stop)
            except BaseException as error:  # raised again in the main thread
                errors.append(error)
                stop.set()

        threads = [threading.Thread(target=drive, args=(mine,)) for mine in hands]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # in short waits, so that Ctrl-C is heard
        finally:
            stop.set()
            for mine in hands:
                mine.close()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]


def _devices() -> list[str]:
    """The GPUs that this process may use, as CUDA names them."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",")[:count] if visible else [str(number) for number in range(count)]


def _drive(
    stage: Stage,
    hands: Hands,
    todo: "queue.SimpleQueue[Record]",
    store: Store,
    report: Report,
    stop: threading.Event,
) -> None:
    writer = Writer(store, stage.name)
    try:
        while not stop.is_set():
            try:
                record = todo.get_nowait()
            except queue.Empty:
                return
            outcome = hands.work(record, store)
            writer.add(entry_of(stage, record, outcome))
            report(record, outcome)
    except Interrupted:
        return
    finally:
        writer.commit()
        hands.close()

"""What has been done: one entry per record, stage, version, settings and input, written in parts that are whole or not there.

`ledger/<stage>/entries.jsonl` is sorted and the same for equal runs; `ledger/<stage>/part-*.jsonl` hold what workers have finished since,
and go into it when the stage ends. An entry holds the values that the stage set, not the records it was given.
"""

import json
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from anyref.curation.stage import (
    Gathering,
    Outcome,
    Record,
    Stage,
    Status,
    canonical,
    config_hash,
    input_hash,
)
from anyref.curation.store import Store


class Key(NamedTuple):
    """What an entry is about."""

    record_id: str
    stage: str
    version: int
    config_hash: str
    input_hash: str


@dataclass(frozen=True)
class Entry:
    """What became of a record in a stage."""

    key: Key
    status: Status
    reason: str
    changes: tuple[Mapping[str, Any], ...]
    """Per resulting record: id, kind, the values set, and the names of those it no longer has."""

    def outcome(self, record: Record) -> Outcome:
        """The outcome, given the record that went in."""
        made = []
        for change in self.changes:
            kept = {name: value for name, value in record.values.items() if name not in change["gone"]}
            made.append(Record(change["id"], change["kind"], kept).with_values(change["set"]))
        return Outcome(self.status, self.reason, tuple(made))

    def line(self) -> str:
        """As a line of JSON."""
        return canonical(
            {
                "key": list(self.key),
                "status": self.status,
                "reason": self.reason,
                "changes": list(self.changes),
            }
        )

    @staticmethod
    def from_line(line: str) -> "Entry":
        """The inverse of `line`."""
        row = json.loads(line)
        return Entry(Key(*row["key"]), row["status"], row["reason"], tuple(row["changes"]))


def key_of(stage: Stage | Gathering, record: Record) -> Key:
    """The key of a record's entry in a stage."""
    return Key(record.id, stage.name, stage.version, config_hash(stage), input_hash(stage, record))


def entry_of(stage: Stage | Gathering, record: Record, outcome: Outcome) -> Entry:
    """The entry for an outcome."""
    changes = []
    for made in outcome.records:
        values = {name: made[name] for name in sorted(stage.writes) if name in made}
        gone = sorted(name for name in record.values if name not in made.values)
        changes.append({"id": made.id, "kind": made.kind, "set": values, "gone": gone})
    return Entry(key_of(stage, record), outcome.status, outcome.reason, tuple(changes))


@dataclass
class Writer:
    """Collects a worker's entries and commits them in parts: after `every` of them or `seconds`, and when closed."""

    store: Store
    stage: str
    every: int = 64
    seconds: float = 5.0
    _lines: list[str] = field(default_factory=list)
    _since: float = field(default_factory=time.monotonic)

    def add(self, entry: Entry) -> None:
        """Take an entry; it is lost if the process dies before the next commit, and then made again."""
        self._lines.append(entry.line())
        if len(self._lines) >= self.every or time.monotonic() - self._since >= self.seconds:
            self.commit()

    def commit(self) -> None:
        """Write what has come since the last part."""
        if self._lines:
            name = f"ledger/{self.stage}/part-{secrets.token_hex(8)}.jsonl"
            self.store.write(name, ("\n".join(self._lines) + "\n").encode())
            self._lines.clear()
        self._since = time.monotonic()


def entries(store: Store, stage: str) -> dict[Key, Entry]:
    """All entries of a stage. Where two have one key, the one that is not `failed`, then not quarantined, then the first by text, counts."""
    found: dict[Key, Entry] = {}
    for name in _files(store, stage):
        for entry in _lines(store, name):
            before = found.get(entry.key)
            if before is None or _rank(entry) < _rank(before):
                found[entry.key] = entry
    return found


def compact(store: Store, stage: str) -> dict[Key, Entry]:
    """Put all entries of a stage into one sorted file and delete the parts; the entries."""
    found = entries(store, stage)
    parts = [name for name in _files(store, stage) if "/part-" in name]
    if parts:
        _write(store, stage, found)
        for name in parts:
            store.remove(name)
    return found


def forget(store: Store, stage: str, keys: Collection[Key]) -> None:
    """Delete the entries with these keys; what stands in parts must have been compacted."""
    gone = set(keys)
    if gone:
        _write(store, stage, {key: e for key, e in entries(store, stage).items() if key not in gone})


def results(
    stage: Stage | Gathering, records: Iterable[Record], found: Mapping[Key, Entry]
) -> Iterator[tuple[Record, Outcome]]:
    """The records that have an entry, each with its outcome."""
    for record in records:
        entry = found.get(key_of(stage, record))
        if entry is not None:
            yield record, entry.outcome(record)


def _write(store: Store, stage: str, found: Mapping[Key, Entry]) -> None:
    text = "".join(found[key].line() + "\n" for key in sorted(found))
    store.write(f"ledger/{stage}/entries.jsonl", text.encode())


def _rank(entry: Entry) -> tuple[bool, bool, str]:
    return entry.status == "failed", entry.status == "quarantined", entry.line()


def _files(store: Store, stage: str) -> list[str]:
    return [name for name in store.names(f"ledger/{stage}") if name.endswith(".jsonl")]


def _lines(store: Store, name: str) -> Iterator[Entry]:
    try:
        with store.open(name) as file:
            for line in file:
                yield Entry.from_line(line.decode())
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{name} is damaged ({error}); delete it, and what it held is made again") from error

"""What a stage is: declared reads, writes, resources and version, and a worker that takes one record and says what became of it.

A stage is a frozen dataclass of settings (they make its configuration hash), cheap to make and to pickle; `open` loads models, once per
worker. A worker depends on what the stage reads and on nothing else: the same input gives the same outcome, to the byte, on any machine,
in any order, after any crash. Times, hosts and random numbers without a seed therefore never enter a record.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from anyref.curation.fingerprints import fingerprint
from anyref.curation.store import Store

JSON: TypeAlias = Any
"""None, bool, int, finite float, str, and lists and dicts of these."""
RecordKind = Literal["source", "clip"]
Status = Literal["ok", "dropped", "failed", "quarantined"]
STATUSES: tuple[Status, ...] = ("ok", "dropped", "failed", "quarantined")


@dataclass(frozen=True)
class Record:
    """What is known of a film or of a clip: values by the names of `anyref.curation.records`, changed by making another.

    A dot reaches one level in: `record["scores.blur"]` is `record["scores"]["blur"]`, and `with_values({"scores.blur": s})` leaves the
    other scores as they are, so that several stages can each write their own.
    """

    id: str
    """Unique among records of its kind, equal in every run: letters, digits, "-" and "_" only."""
    kind: RecordKind
    values: Mapping[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))

    def __reduce__(self) -> tuple[type["Record"], tuple[str, RecordKind, dict[str, JSON]]]:
        return Record, (self.id, self.kind, dict(self.values))

    def __getitem__(self, name: str) -> JSON:
        outer, _, inner = name.partition(".")
        return self.values[outer][inner] if inner else self.values[outer]

    def __contains__(self, name: object) -> bool:
        outer, _, inner = str(name).partition(".")
        return outer in self.values and (not inner or inner in (self.values[outer] or {}))

    def get(self, name: str, default: JSON = None) -> JSON:
        """The value of this name, or `default`."""
        outer, _, inner = name.partition(".")
        value = self.values.get(outer, default)
        return (value or {}).get(inner, default) if inner and outer in self.values else value

    def score(self, name: str) -> float | None:
        """The value of a stored score; None where it was not measured or does not apply."""
        stored = self.get(f"scores.{name}")
        return None if stored is None else stored["value"]

    def with_values(self, values: Mapping[str, JSON]) -> "Record":
        """A record with these values instead of its own of the same names."""
        changed = dict(self.values)
        for name, value in values.items():
            outer, _, inner = name.partition(".")
            changed[outer] = {**(changed.get(outer) or {}), inner: value} if inner else value
        return Record(self.id, self.kind, changed)

    def to_json(self) -> dict[str, JSON]:
        """Plain dict, for JSON."""
        return {"id": self.id, "kind": self.kind, "values": dict(self.values)}

    @staticmethod
    def from_json(row: Mapping[str, JSON]) -> "Record":
        """The inverse of `to_json`."""
        return Record(row["id"], row["kind"], row["values"])


@dataclass(frozen=True)
class Outcome:
    """What became of a record. A stage that fans out gives several records, one that only scores gives the same one with more values.

    `dropped` is a judgement about good input (nothing in it for us), `quarantined` says that the input itself is at fault (damaged,
    refused, crashes its reader, goes beyond a limit), `failed` that we are, so that the next run tries again. The three carry a reason,
    one sentence, and no records.
    """

    status: Status
    reason: str = ""
    records: tuple[Record, ...] = ()

    def __post_init__(self) -> None:
        assert self.status in STATUSES, self.status
        assert (self.status == "ok") == (not self.reason), "a reason for everything but ok"
        assert self.status == "ok" or not self.records, "what was not ok goes no further"

    @staticmethod
    def ok(*records: Record) -> "Outcome":
        """It goes on as these records."""
        return Outcome("ok", records=records)


@dataclass(frozen=True)
class Resources:
    """What one worker needs.

    `memory_gib` and `seconds` are limits in child processes only, that is with several workers, on Ray, or where `isolated` asks for one:
    a single worker that is not isolated works in the process that called it.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    """Fractions share a device."""
    memory_gib: float | None = None
    """Limit on the worker's own memory; None where a limit cannot be set (models on a GPU reserve more addresses than they use)."""
    seconds: float = 600.0
    """Limit on one record."""
    isolated: bool = False
    """Whether the worker runs in a child process with these limits enforced, because what it reads may crash it."""


class Worker(Protocol):
    """A stage with its models loaded."""

    def __call__(self, record: Record, store: Store) -> Outcome:
        """What becomes of one record. ValueError means bad input: the record is quarantined with the sentence. Anything else is ours."""


@runtime_checkable
class Stage(Protocol):
    """A step of curation that looks at one record at a time."""

    @property
    def name(self) -> str:
        """One word, or words with "-": names the stage's part of the ledger."""

    @property
    def version(self) -> int:
        """Counts changes of the code that change its outcomes."""

    @property
    def reads(self) -> frozenset[str]:
        """Names of the values that the outcome depends on; a dot reaches one level in."""

    @property
    def writes(self) -> frozenset[str]:
        """Names of the values that it may set; nothing else changes."""

    @property
    def resources(self) -> Resources:
        """What a worker needs."""

    def open(self) -> Worker:
        """Load what a worker needs; called once in each worker."""


@runtime_checkable
class Gathering(Protocol):
    """A step that compares records with one another (duplicates, identities across clips): called once, with all of them.

    It is computed again whenever any of its input changes, so what is dear (embeddings) belongs into a stage before it.
    """

    @property
    def name(self) -> str:
        """As for a stage."""

    @property
    def version(self) -> int:
        """As for a stage."""

    @property
    def reads(self) -> frozenset[str]:
        """As for a stage."""

    @property
    def writes(self) -> frozenset[str]:
        """As for a stage."""

    def gather(self, records: Sequence[Record], store: Store) -> Sequence[Outcome]:
        """One outcome per record, in the same order; `records` come sorted by id."""


def canonical(value: JSON) -> str:
    """The one JSON text of a value: sorted names, no spaces, ASCII. NaN and infinity are our bug."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def digest(value: JSON) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def config_hash(stage: Stage | Gathering) -> str:
    """Hash of a stage's settings: the fields of its dataclass, except `resources`, which change speed and not outcomes.

    And of what stands behind them: revisions and weights of its models, the contents of its files (see `fingerprints`).
    """
    instance: Any = stage
    settings: dict[str, JSON] = dataclasses.asdict(instance)  # fails on what is no instance of a dataclass
    settings.pop("resources", None)
    behind = fingerprint(stage)
    return digest(
        {"class": type(stage).__name__, "settings": settings, **({"behind": behind} if behind else {})}
    )


def input_hash(stage: Stage | Gathering, record: Record) -> str:
    """Hash of what a stage reads of a record. `source` stands for all of it but the licence; who looks at that reads `source.licence`."""
    read = {name: record.get(name) for name in sorted(stage.reads)}
    if isinstance(source := read.get("source"), Mapping):
        read["source"] = {name: value for name, value in source.items() if name != "licence"}
    return digest(read)


def _plain(value: Any) -> JSON:
    """What JSON does not know, in settings: sets, paths, mappings that are not dicts."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)

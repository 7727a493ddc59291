"""S4: the subjects that the caption names, each with its place in the caption and its class (MAGREF B.2, Kaleido 3.2 (2))."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

from anyref.curation.clips import ONE_CPU, device_of
from anyref.curation.records import TagRow, to_json
from anyref.curation.stage import Outcome, Record, Resources
from anyref.curation.store import Store
from anyref.curation.taxonomy import BODY_PARTS, OURS, Taxonomy, TaxonomyTagger, load_taxonomy
from anyref.perception import Tag, Tagger
from anyref.perception.models import Task
from anyref.samples import KINDS

TAXONOMY = "taxonomy"
"""The tagger that needs no model: Kaleido's matching of caption words against classes."""


@dataclass(frozen=True)
class TagStage:
    """Tags a caption with a language model (MAGREF) or by the taxonomy (Kaleido).

    A tag is a piece of the caption, letter by letter; what is not, and parts of bodies, are left out, as in OpenS2V's released prompt. The
    kind is that of the taxonomy's class where the words have one, because models sort "glasses" now here, now there.
    """

    model: str = TAXONOMY
    """A tagger of `anyref.perception.catalogue`, or "taxonomy"."""
    only_known: bool = False
    """Leave out what the taxonomy has no class for (Kaleido)."""
    taxonomy: str = ""
    """A file like anyref/curation/taxonomy.json; "" is that one."""
    resources: Resources = ONE_CPU
    name: ClassVar[str] = "tags"
    version: ClassVar[int] = 1
    reads: ClassVar[frozenset[str]] = frozenset({"caption"})
    writes: ClassVar[frozenset[str]] = frozenset({"tags"})

    def models(self) -> dict[Task, str]:
        """See `OpensModels`."""
        return {"tagger": self.model}

    def files(self) -> tuple[Path, ...]:
        """See `ReadsFiles`."""
        return (Path(self.taxonomy) if self.taxonomy else OURS,)

    def open(self) -> "TagWorker":
        """See `Stage`."""
        taxonomy = load_taxonomy(Path(self.taxonomy) if self.taxonomy else None)
        if self.model == TAXONOMY:
            return TagWorker(self, TaxonomyTagger(taxonomy), taxonomy)
        from anyref.perception.catalogue import open_model

        model = open_model("tagger", self.model, device_of(self.resources))
        return TagWorker(self, cast("Tagger", model), taxonomy)


@dataclass(frozen=True)
class TagWorker:
    """See `TagStage`."""

    stage: TagStage
    tagger: Tagger
    taxonomy: Taxonomy

    def __call__(self, record: Record, store: Store) -> Outcome:  # noqa: ARG002 - the protocol's
        """Writes `tags`; a clip without a subject keeps an empty list (Saber uses it all the same)."""
        text = record["caption"]["text"]
        rows = [row for tag in self.tagger.tags(text) if (row := self._row(tag, text)) is not None]
        kept: list[TagRow] = []
        for row in sorted(rows, key=lambda row: (row.start, -row.end)):
            if not kept or row.start >= kept[-1].end:
                kept.append(row)
        return Outcome.ok(record.with_values({"tags": to_json(kept)}))

    def _row(self, tag: Tag, text: str) -> TagRow | None:
        """The tag as it is kept; None where it is not a piece of the caption, or part of a body."""
        if not 0 <= tag.start < tag.end <= len(text):
            return None
        phrase = text[tag.start : tag.end]
        if phrase != phrase.strip() or phrase.lower().split()[-1] in BODY_PARTS:
            return None
        found = self.taxonomy.classify(phrase) or self.taxonomy.classify(tag.label)
        if found is None and (self.stage.only_known or tag.kind not in KINDS):
            return None
        kind = found.kind if found else tag.kind
        return TagRow(tag.start, tag.end, phrase, kind, tag.label, found.name if found else None)

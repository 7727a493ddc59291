"""What `anyref curate` and `anyref curate report` are asked for, and what they do."""

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from anyref.jobs import shown

if TYPE_CHECKING:
    from anyref.curation.decisions import Rules
    from anyref.curation.presets import Models
    from anyref.curation.run import Engine
    from anyref.curation.stage import Gathering, Stage
    from anyref.curation.store import Store
    from anyref.curation.survey import Survey

Preset = Literal["magref", "kaleido", "saber"]
Settings = Annotated[tuple[str, ...], tyro.conf.UseAppendAction]


@dataclass(frozen=True)
class CurateConfig:
    """Turn a folder of raw films into a training set: shots, captions, subjects, faces, variants, cross-pairs.

    Interrupted, it goes on where it stands. Another threshold (--bound) computes no score anew. Damaged films are set aside with a reason.
    """

    input: str
    """Folder of films, or an address such as s3://bucket/films."""
    output: str
    """Folder, or address, of the set: manifest.parquet, blobs, data_card.md and report.html."""
    preset: Preset = "magref"
    """magref: tagged subjects and faces; kaleido: taxonomy, people with a frontal face; saber: clips and captions only."""
    backend: str = "puppets"
    """puppets: the embedded models, for `anyref puppets films`; real; open: licences for commercial use; recorded:FOLDER."""
    model: Settings = ()
    """Another model for a role, such as captioner=endpoint@http://host:8000/v1#NAME. Repeat it for each; see anyref/curation/presets.py."""
    bound: Settings = ()
    """Another threshold, such as clip.flow_p95=2.5:20, object.area=:0.9 or clip.aesthetic=off. Repeat it for each."""
    engine: Literal["local", "ray"] = "local"
    """local: processes of this machine; ray: the cluster that RAY_ADDRESS names, or one started here."""
    workers: int = 1
    """Processes, or Ray workers, of each stage."""
    gpus: bool = False
    """Run the models on GPUs, several workers to one."""
    faces_every: int = 1
    """Look for faces in every so many frames; 1 is MAGREF's."""
    validation_share: float = 0.05
    """Share of clips for validation; whole films and identities stay on one side."""
    test_share: float = 0.05
    """Share of clips for testing."""
    commercial_only: bool = False
    """Refuse models whose licence forbids commercial use."""
    face_containment: bool = False
    """Keep what lies within a face, such as glasses, as part of it, however large; an addition to MAGREF's rule."""
    retry_quarantined: bool = False
    """Try all quarantined records once more, such as those that took too long or too much memory."""


@dataclass(frozen=True)
class CurateReportConfig:
    """Show what a curation did: funnel, thresholds over histograms, sheets of kept and dropped, variant mix; and write its data card.

    With --bound it shows what other thresholds would do, without computing anything anew.
    """

    folder: tyro.conf.Positional[str]
    """What `anyref curate` wrote."""
    output: Annotated[Path | None, shown("PATH", "FOLDER/report.html")] = None
    """The page. The data card stands beside it."""
    films: str = ""
    """Where the films are now, if they were moved; without films clips have no thumbnails."""
    bound: Settings = ()
    """Another threshold, as for `anyref curate`, on top of those that it was given."""
    examples: int = 7
    """Thumbnails on each side of each threshold."""


CONFIG, FILMS, PAGE, CARD = "curation.json", "films.jsonl", "report.html", "data_card.md"


def curate(config: CurateConfig) -> None:
    """Run all stages, write manifest, report and data card. Raises ValueError, one sentence, before anything runs."""
    from anyref.curation.assemble import sample_of, write_manifest
    from anyref.curation.run import curate as run
    from anyref.curation.stage import canonical
    from anyref.curation.stages.probe import film_records
    from anyref.curation.store import Store
    from anyref.curation.survey import lineages
    from anyref.provenance import record

    stages, _ = steps(config)
    store = Store(config.output, config.input)
    store.check_apart()
    films = film_records(store)
    store.write(CONFIG, (json.dumps(record(config), indent=2, default=str) + "\n").encode())
    store.write(FILMS, "".join(canonical(film.to_json()) + "\n" for film in films).encode())
    curated = run(
        stages,
        store,
        _engine(config),
        records=films,
        progress=True,
        retry_quarantined=config.retry_quarantined,
    )
    history = lineages(stages, films, store)
    rows = [clip.with_values({"lineage": history.get(clip.id, [])}) for clip in curated.records]
    write_manifest(store, [sample_of(row) for row in rows])
    _say(
        f"{len(rows)} clips are in {config.output}, of {len(films)} films; {len(curated.losses)} losses: losses.jsonl"
    )
    curate_report(CurateReportConfig(config.output))


def curate_report(config: CurateReportConfig) -> None:
    """Write the page and the data card."""
    from anyref.curation import report
    from anyref.curation.store import Store, escape
    from anyref.files import atomic, check_writable

    if config.output is not None:
        check_writable(config.output)
    said = _read_config(Store(config.folder))
    store = Store(config.folder, config.films or said.input)
    survey = survey_of(said, config.bound, store)
    title = f"Curation of {escape(said.input)}, {said.preset}"
    page = report.html(survey, store, title, config.examples)
    card = report.data_card(survey, title)
    if config.output is None:
        store.write(PAGE, page.encode())
        store.write(CARD, card.encode())
    else:
        for path, text in ((config.output, page), (config.output.with_name(CARD), card)):
            with atomic(path) as partial:
                partial.write_text(text, encoding="utf-8")
    _say(f"report: {config.output or f'{config.folder}/{PAGE}'}")


def survey_of(config: CurateConfig, bound: Settings, store: "Store") -> "Survey":
    """What a curation of this config did, read from its ledger; `bound` changes the decisions on it only."""
    from anyref.curation.stage import Record
    from anyref.curation.survey import walk

    stages, rules = steps(config)
    lines = store.read(FILMS).decode().splitlines()
    films = [Record.from_json(json.loads(line)) for line in lines]
    return walk(stages, films, store, rules.changed(bound))


def steps(config: CurateConfig) -> "tuple[tuple[Stage | Gathering, ...], Rules]":
    """All steps of a curation in their order, and its decisions. Raises ValueError for what cannot run here."""
    from anyref.curation.presets import content_steps, film_steps, output_steps, rules_of

    models, rules = models_and_rules(config.preset, config.backend, config.model, config.bound)
    rules = replace(rules, face_containment=config.face_containment)
    if config.commercial_only:
        check_licences(models, config.preset)
    check_installed(config.preset, models)
    base = rules_of(config.preset, config.backend)
    content = content_steps(
        config.preset, models, rules, base=base, gpus=config.gpus, faces_every=config.faces_every
    )
    output = output_steps(config.validation_share, config.test_share)
    return (*film_steps(models, rules, gpus=config.gpus), *content, *output), rules


def models_and_rules(
    preset: Preset, backend: str, model: Settings, bound: Settings
) -> "tuple[Models, Rules]":
    """The models and decisions that flags ask for. Raises ValueError, one sentence."""
    from anyref.curation.presets import models_of, rules_of

    return models_of(backend).changed(model), rules_of(preset, backend).changed(bound)


def check_licences(models: "Models", preset: Preset = "magref") -> None:
    """Raise ValueError naming the first model that a preset asks for anything and that may not be used commercially."""
    from anyref.curation.presets import PAPERS, roles
    from anyref.perception.catalogue import RECORDED, entry_for

    for role, task in roles():
        name = getattr(models, role)
        if not PAPERS[preset].asks(role):
            continue
        if name.startswith(RECORDED) or (name and not entry_for(task, name).commercial):
            raise ValueError(
                f"the {role} {name} may not be used commercially; name another with --model {role}=NAME, "
                "use --backend open, or leave --commercial-only out"
            )


def check_installed(preset: Preset, models: "Models") -> None:
    """Raise ValueError naming the first model of a preset that cannot run here, and the line that installs what it lacks."""
    from anyref.curation.presets import PAPERS, roles
    from anyref.curation.stages.tags import TAXONOMY
    from anyref.perception.catalogue import RECORDED, entry_for, missing

    for role, task in roles():
        name = getattr(models, role)
        if not name or name == TAXONOMY or name.startswith(RECORDED) or not PAPERS[preset].asks(role):
            continue
        if reason := missing(entry_for(task, name)):
            raise ValueError(reason)


def _engine(config: CurateConfig) -> "Engine":
    if config.workers < 1:
        raise ValueError(f"workers is {config.workers}; give 1 or more")
    if config.engine == "local":
        from anyref.curation.local import Local

        return Local(config.workers)
    from anyref.curation.ray import Ray

    return Ray(config.workers, address=os.environ.get("RAY_ADDRESS"))


def _read_config(store: "Store") -> CurateConfig:
    if not store.exists(CONFIG):
        raise FileNotFoundError(
            f"there is no {CONFIG} in {store.root}; name the folder that `anyref curate` wrote"
        )
    said: dict[str, Any] = json.loads(store.read(CONFIG))["config"]
    known = {field.name for field in fields(CurateConfig)}
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in said.items() if name in known
    }
    return CurateConfig(**values)


def _say(text: str) -> None:
    from rich.console import Console

    Console(highlight=False, markup=False, soft_wrap=True).print(text)

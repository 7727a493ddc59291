"""Which model answers in which role of a metric, and keeping open only those that the metric at hand needs."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from anyref.evaluation.metrics import Metric, Need
from anyref.perception import Model, ModelCard
from anyref.perception.catalogue import TASKS, NotCommercialError, Task, entry_for, missing, open_model

PUBLISHED = "published"
"""The backend of each metric's own defaults; any other backend is a name that answers every task."""
_RECORDED = "recorded:"


class Asked(NamedTuple):
    """A model by task and name in the catalogue."""

    task: Task
    name: str


@dataclass(frozen=True)
class Wishes:
    """Which models to ask. `backend`: "published", or a name for all tasks ("puppets", "recorded:DIR")."""

    backend: str = PUBLISHED
    by_task: Mapping[str, str] = field(default_factory=dict)
    by_role: Mapping[str, str] = field(default_factory=dict)
    """ "metric/role" -> name; goes before `by_task`."""

    def asked(self, metric: Metric) -> dict[str, Asked]:
        """Role -> model for a metric."""
        chosen = {}
        for role, task in metric.models.items():
            assert task in TASKS, f"{metric.name} asks for the task {task!r}"
            name = metric.defaults[role] if self.backend == PUBLISHED else self.backend
            name = self.by_role.get(f"{metric.name}/{role}", self.by_task.get(task, name))
            chosen[role] = Asked(task, name)
        return chosen


def read_wishes(backend: str, texts: Sequence[str]) -> Wishes:
    """Wishes from a backend and texts such as "detector=grounding-dino-tiny" or "magref.subj_sim/encoder=dino-b16".

    Raises ValueError for a text that is neither.
    """
    by_task: dict[str, str] = {}
    by_role: dict[str, str] = {}
    for text in texts:
        what, equals, name = text.partition("=")
        if not equals or not name or not ("/" in what or what in TASKS):
            raise ValueError(
                f"--use {text} is not understood; write TASK=NAME or METRIC/ROLE=NAME, where TASK is one of {', '.join(TASKS)}"
            )
        (by_role if "/" in what else by_task)[what] = name
    return Wishes(backend, by_task, by_role)


def loading_order(metrics: Sequence[Metric], wishes: Wishes) -> list[Metric]:
    """The metrics so that what one lets go of is hardly asked for again: after each the one that shares most models with it.

    Of several the one that opens fewest, then the first as given; so those without models come first of all.
    """
    left, ordered = list(metrics), list[Metric]()
    held: set[Asked] = set()

    def distance(metric: Metric) -> tuple[int, int]:
        wanted = set(wishes.asked(metric).values())
        return -len(wanted & held), len(wanted - held)

    while left:
        nearest = min(left, key=distance)
        left.remove(nearest)
        ordered.append(nearest)
        held = set(wishes.asked(nearest).values())
    return ordered


def is_local(asked: Asked) -> bool:
    """Whether a model is a recording, embedded, or in a folder of the user's: then its card, with a hash, is had by opening it."""
    if asked.name.startswith(_RECORDED):
        return True
    entry = entry_for(asked.task, asked.name)
    return not entry.revision and "://" not in entry.source


class Answerers:
    """The catalogue, with the models that are open."""

    def __init__(self, device: str = "cpu", commercial_only: bool = False) -> None:
        self.device = device
        self.commercial_only = commercial_only
        self._open: dict[Asked, Model] = {}
        self._cards: dict[Asked, ModelCard] = {}

    def card(self, asked: Asked) -> ModelCard:
        """Who would answer, without loading it where the catalogue knows its revision.

        Raises ValueError where it cannot run here, or may not be used.
        """
        if asked not in self._cards:
            if is_local(asked):
                return self.model(asked).card
            entry = entry_for(asked.task, asked.name)
            if self.commercial_only and not entry.commercial:
                raise NotCommercialError(
                    f"{entry.name} may not be used commercially ({entry.licence}); leave --commercial-only out, or name another with --use"
                )
            if reason := missing(entry):
                raise ValueError(reason)
            self._cards[asked] = ModelCard(
                asked.name, entry.source, entry.revision, entry.licence, entry.commercial
            )
        return self._cards[asked]

    def check(self, need: Need) -> None:
        """Raises ValueError where a program or package that is no model of the catalogue cannot run here, or may not be used."""
        if self.commercial_only and not need.commercial:
            raise NotCommercialError(
                f"{need.name} may not be used commercially ({need.licence}); leave --commercial-only out"
            )
        if need.missing is not None:
            raise ValueError(need.missing)

    def model(self, asked: Asked) -> Model:
        """The model, open. Raises ValueError for one that cannot be opened."""
        if asked not in self._open:
            model = self._opened(asked)
            self._open[asked] = model
            self._cards.setdefault(asked, model.card)
        return self._open[asked]

    def _opened(self, asked: Asked) -> Model:
        try:
            return open_model(asked.task, asked.name, self.device, self.commercial_only)
        except (ValueError, ImportError):
            raise
        except Exception as error:
            first = next(iter(str(error).strip().splitlines()), "")
            reason = f"{type(error).__name__}: {first[:150]}".rstrip(": ")
            raise ValueError(
                f"the {asked.task} {asked.name} cannot be opened ({reason}); if its weights are damaged, fetch them again, or name another "
                "with --use"
            ) from error

    def keep(self, wanted: Sequence[Asked]) -> None:
        """Let go of all other models, so that never more are in memory than one metric needs."""
        gone = [asked for asked in self._open if asked not in wanted]
        for asked in gone:
            self._cards.setdefault(asked, self._open[asked].card)
            del self._open[asked]
        if gone:
            gc.collect()
            if self.device != "cpu":
                import torch

                torch.accelerator.empty_cache()

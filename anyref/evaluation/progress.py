"""How far a run is: bars in a terminal; elsewhere plain lines, one for each metric, and in a long one every half minute."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY_S = 30.0
_MINUTES_FROM_S = 120


class Steps:
    """Shows steps of so many videos each, on a console; a context, because bars must be taken down."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def step(self, name: str, total: int) -> Callable[[], None]:
        """Begin a step; what is returned is called after each of its videos."""
        task, lines = self._bars.add_task(name, total=total), Lines(name, total, self._clock)

        def advance() -> None:
            self._bars.advance(task)
            line = lines.after_one_more()
            if self._bars.disable and line is not None:
                self._console.print(line)

        return advance


class Lines:
    """The lines of one step. What is left is guessed from the time since the first video, before which models were loaded."""

    def __init__(self, name: str, total: int, clock: Callable[[], float]) -> None:
        self._name, self._total, self._clock = name, total, clock
        self._start_s = self._said_s = clock()
        self._first_s = 0.0
        self._done = 0

    def after_one_more(self) -> str | None:
        """A line where one is due: after the last video, and when half a minute has passed."""
        now_s = self._clock()
        self._done += 1
        if self._done == 1:
            self._first_s = now_s
        if self._done < self._total and now_s - self._said_s < EVERY_S:
            return None
        self._said_s = now_s
        line = f"{self._name}: {self._done} of {self._total} videos, {_span(now_s - self._start_s)}"
        if self._done < self._total and self._done > 1:
            each_s = (now_s - self._first_s) / (self._done - 1)
            line += f", about {_span(each_s * (self._total - self._done))} left"
        return line


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < _MINUTES_FROM_S else f"{seconds / 60:.0f} min"

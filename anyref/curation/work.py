"""Do one stage's work on one record, here or in a child process with limits, and turn whatever happens into an outcome.

Bad input (ValueError) is quarantined with its sentence; our own errors are `failed` with theirs, files and addresses that are not there
among them; what may pass (a network, memory that others took, a killed process) is tried again. A record that takes its process down three
times, or goes beyond a limit, is quarantined: it is the input that does it. A process that does not even open its stage is no record's fault.
"""

import contextlib
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any, Protocol

from anyref.curation.stage import Outcome, Record, Stage, Worker
from anyref.curation.store import Store

ATTEMPTS = 3
_PAUSE_S = 0.5
_OPENING_S = 1800.0


class Hands(Protocol):
    """Something that works on records of one stage, one after the other."""

    def work(self, record: Record, store: Store) -> Outcome:
        """What becomes of the record; never raises for what the record or the stage does."""

    def close(self) -> None:
        """Let go of processes."""


class Interrupted(Exception):  # noqa: N818 -- it is no error
    """The work was called off from outside; the record in hand is not done."""


class _Unopened(Exception):  # noqa: N818 -- of the child, told apart from the record's errors
    """The child did not get as far as to be given records."""


def open_hands(stage: Stage) -> Hands:
    """A child process where the stage asks for one, else this process."""
    return Child(stage) if stage.resources.isolated else InProcess(stage)


class InProcess:
    """Works in this process, where no limit but the number of threads can be set."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._worker = stage.open()

    def work(self, record: Record, store: Store) -> Outcome:
        """As `Hands.work`."""
        for attempt in range(ATTEMPTS):
            outcome, passing = once(self._stage, self._worker, record, store, limited=False)
            if not passing or attempt == ATTEMPTS - 1:
                return outcome
            time.sleep(_PAUSE_S * 2**attempt)
        raise AssertionError

    def close(self) -> None:
        """Nothing to let go of."""


class Child:
    """Works in a child process, which it starts when first needed and again whenever it has died.

    `environment`: variables that the child has besides ours, such as the devices that it may see.
    """

    def __init__(self, stage: Stage, environment: Mapping[str, str] | None = None) -> None:
        self._stage = stage
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._opens = True

    def work(self, record: Record, store: Store) -> Outcome:
        """As `Hands.work`. Raises Interrupted when `close` is called meanwhile."""
        limits = self._stage.resources
        ended = ""
        # A stage that never opened gets one more chance with each record: models may take minutes to come to nothing.
        for attempt in range(ATTEMPTS if self._opens else 1):
            try:
                process = self._running()
                _send(process.stdin, (record, store))
                outcome, passing = _receive(process.stdout, limits.seconds)
            except _Unopened as error:
                if self._closed:
                    raise Interrupted from error
                ended = f"its worker could not be opened ({error})"
                self._opens = False
                continue
            except TimeoutError:
                self._stop()
                ended = f"it took longer than {limits.seconds:g} s"
                if attempt >= 1:
                    break
                continue
            except (EOFError, OSError) as error:
                if self._closed:
                    raise Interrupted from error
                code = self._stop()
                ended = f"its reader died ({_death(code)})"
                continue
            if not passing or attempt == ATTEMPTS - 1:
                return outcome
            time.sleep(_PAUSE_S * 2**attempt)
        if not self._opens:
            return Outcome("failed", f"{ended}; see what it printed, and run again with fewer workers")
        return Outcome("quarantined", f"{ended}, each time; leave the film out, or give the stage more")

    def close(self) -> None:
        """End the child at once."""
        self._closed = True
        self._stop()

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._closed:
            raise Interrupted
        if self._process is not None and self._process.poll() is None:
            return self._process
        try:
            process = self._start()
        except TimeoutError as error:
            self._stop()
            raise _Unopened(f"it took longer than {_OPENING_S:g} s") from error
        except (EOFError, OSError) as error:
            raise _Unopened(_death(self._stop()) if self._process else _sentence(error)) from error
        self._opens = True
        return process

    def _start(self) -> "subprocess.Popen[bytes]":
        # One thread each: several workers with as many threads as there are cores would wait for one another.
        threads = {"OMP_NUM_THREADS": "1", **os.environ, **self._environment}
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "anyref.curation.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**threads, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        _send(process.stdin, self._stage)
        _receive(process.stdout, _OPENING_S)  # loading models is not the record's time
        return process

    def _stop(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        code = process.poll()
        if code is None:
            # Its pipe may close a moment before it can be waited for.
            try:
                code = process.wait(0.2)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()
        return code


def once(
    stage: Stage, worker: Worker, record: Record, store: Store, *, limited: bool
) -> tuple[Outcome, bool]:
    """One attempt: the outcome, and whether another attempt may end better. `limited`: the stage's limit on memory is in force."""
    try:
        with _one_thread():
            outcome = worker(record, store)
        _check(stage, record, outcome)
    except OSError as error:  # first: some are ValueErrors as well
        return Outcome("failed", _sentence(error)), not isinstance(error, FileNotFoundError)
    except ValueError as error:
        return Outcome("quarantined", _sentence(error)), False
    except MemoryError:
        limit = stage.resources.memory_gib
        if not limited or limit is None:  # others may have taken it
            return Outcome("failed", "it needs more memory than there is"), True
        return Outcome("quarantined", f"it needs more memory than the {limit:g} GiB a worker may have"), True
    except Exception as error:  # a bug of a stage must not end a run over a million films
        return Outcome("failed", f"{type(error).__name__}: {_sentence(error)}"), False
    return outcome, False


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread, if it is loaded: how many there are changes the last bits of what it computes."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    if torch is None or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check(stage: Stage, record: Record, outcome: Outcome) -> None:
    """A stage keeps to what it declares, or the ledger would forget what it changed."""
    for made in outcome.records:
        for name, value in made.values.items():
            inner = {n.partition(".")[2] for n in stage.writes if n.startswith(f"{name}.")}
            same = _without(value, inner) == _without(record.values.get(name), inner)
            assert name in stage.writes or same, (
                f"{stage.name} changed {name!r}, which is not in its `writes`"
            )


def _without(value: Any, names: set[str]) -> Any:
    if not names:
        return value
    return {name: inside for name, inside in (value or {}).items() if name not in names}


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())[:500] or type(error).__name__
    return text.encode("utf-8", "backslashreplace").decode()  # a path may hold what no text file can


def _death(code: int) -> str:
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def _send(pipe: IO[bytes] | None, message: Any) -> None:
    assert pipe is not None
    data = pickle.dumps(message)
    pipe.write(struct.pack("<Q", len(data)) + data)
    pipe.flush()


def _receive(pipe: IO[bytes] | None, seconds: float | None = None) -> Any:
    """The next message. Raises EOFError when the other side is gone, TimeoutError after `seconds`."""
    assert pipe is not None
    deadline = None if seconds is None else time.monotonic() + seconds
    (length,) = struct.unpack("<Q", _exactly(pipe, 8, deadline))
    return pickle.loads(_exactly(pipe, length, deadline))


def _exactly(pipe: IO[bytes], count: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        if deadline is not None:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
        data = os.read(pipe.fileno(), min(count - len(parts), 1 << 20))
        if not data:
            raise EOFError
        parts += data
    return bytes(parts)


def serve() -> None:
    """The child's side: a stage comes first, then records, and each gets an answer; ends when the parent does."""
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    _die_with_the_parent()
    stage: Stage = _receive(source)
    if stage.resources.memory_gib is not None:
        import resource

        limit = int(stage.resources.memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    worker, refused = None, None
    try:
        worker = stage.open()
    except Exception as error:
        # No input is at fault: said for every record, and the run stops at the first few.
        refused = Outcome("failed", _sentence(error))
    _send(answers, "open")
    while True:
        try:
            record, store = _receive(source)
        except EOFError:
            return
        if worker is None:
            assert refused is not None
            _send(answers, (refused, False))
        else:
            _send(answers, once(stage, worker, record, store, limited=True))


def _die_with_the_parent() -> None:
    import threading

    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

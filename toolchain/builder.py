"""A content-addressed cache of pieces: each is built once, in a temporary place, and renamed when whole.

The layout:
    <cache>/pieces/<name>/<key>/         what the recipe made
    <cache>/pieces/<name>/<key>.json     its manifest: size, modification time and SHA-256 of every file
    <cache>/logs/<name>.log              what the last build of the piece printed
    <cache>/locks/<name>.lock            held while the piece is built
    <cache>/tmp/                         half-made pieces, swept under the lock
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import fcntl
import hashlib
import inspect
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from toolchain.paths import TOOLCHAIN, cache_directory
from toolchain.progress import Progress

STEP_TIMEOUT_S = 40 * 60
LOG_TAIL_LINES = 15
# While one waits for the network or links, the others compile; each compiles on all cores.
BUILDERS_AT_ONCE = 3

DISK_FULL = "the disk is full: free some space (`df -h`), then run the same command again"
NO_REGISTRY = "a package registry does not answer: check network and proxy, then run the same command again"
ADVICE: Mapping[str, str] = {
    "no space left on device": DISK_FULL,
    "cannot connect to the docker daemon": "no Docker Engine answers: run `python3 -m toolchain engine --start`",
    **dict.fromkeys(
        ("dial tcp", "i/o timeout", "temporary failure", "could not resolve", "eai_again", "connection refused"),
        NO_REGISTRY,
    ),
}
"""What a word in a failed step's log (in small letters) means for the user; the first that fits counts."""


class ToolchainError(Exception):
    """Something the user can fix; the message says how."""


class Recipe(Protocol):
    """How a piece is made. A frozen dataclass: its repr and the source of `make` are part of the piece's key."""

    def sources(self) -> Sequence[Path]:
        """Files and folders whose contents are part of the key."""
        ...

    def tools(self) -> Sequence[str]:
        """Programs that have to be on PATH."""
        ...

    def make(self, job: Job) -> None:
        """Fill `job.out`."""
        ...

    def intact(self, directory: Path) -> bool:
        """Whether what lies outside the cache (an image in the engine) is still there."""
        ...


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One thing the toolchain provides."""

    name: str
    version: str
    recipe: Recipe
    needs: tuple[str, ...] = ()
    system_packages: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Job:
    """One build in progress: where to put the result, and how to run a step into the log."""

    piece: Piece
    out: Path
    work: Path
    log: Path
    needs: Mapping[str, Path]
    cpu_s: float = 0.0

    def run(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> None:
        """Run one step with its output in the log, or its standard output in `output`.

        Raises:
            ToolchainError: the step failed or ran longer than STEP_TIMEOUT_S.
        """
        words = [str(word) for word in command]
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(self.log.open("ab"))
            log.write(f"$ {' '.join(words)}\n".encode())
            log.flush()
            stdout = stack.enter_context(output.open("wb")) if output else log
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=log,
                start_new_session=True,
            )
            stack.callback(_children.discard, process)
            _children.add(process)
            in_time = _ends(process, STEP_TIMEOUT_S)
            if not in_time:
                _kill(process)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_s += usage.ru_utime + usage.ru_stime
        if not in_time:
            raise self._failure(f"`{words[0]}` did not end within {STEP_TIMEOUT_S // 60} minutes")
        if process.returncode != 0:
            raise self._failure(f"`{' '.join(words[:3])}` ended with {process.returncode}")

    def _failure(self, what: str) -> ToolchainError:
        tail = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        text = "\n".join(tail)
        advice = next((say for word, say in ADVICE.items() if word in text.lower()), None)
        lines = [f"piece {self.piece.name}: {what}; log: {self.log}", *(f"  | {line}" for line in tail)]
        return ToolchainError("\n".join([*lines, advice] if advice else lines))


_children: set[subprocess.Popen[bytes]] = set()


def _ends(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    """Whether the step ends in time; it is left for `wait4`, which tells what it and its children used."""
    descriptor = os.pidfd_open(process.pid)
    try:
        # Not `select`, which takes no descriptor above 1,023.
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def end_children() -> None:
    """End every step in progress, with its own children."""
    for process in list(_children):
        _kill(process)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one piece; `cpu_s` is the processor time of its steps, without what the Docker Engine used."""

    name: str
    version: str
    state: str
    seconds: float
    cpu_s: float
    size_bytes: int


@dataclass
class Builder:
    """Builds pieces into the cache, each after those it needs."""

    pieces: Mapping[str, Piece]
    cache: Path = field(default_factory=cache_directory)
    _keys: dict[str, str] = field(default_factory=dict)

    def key(self, name: str) -> str:
        """The digest over everything that decides what the piece is."""
        if name not in self._keys:
            piece = self.pieces[name]
            digest = hashlib.sha256()
            # The method's source, not the class's: `inspect` parses a class's, and CPython 3.11's parser fails when
            # the garbage collector runs a finaliser meanwhile (seen).
            for part in (piece.name, piece.version, repr(piece.recipe), inspect.getsource(type(piece.recipe).make)):
                digest.update(part.encode() + b"\0")
            for need in piece.needs:
                digest.update(self.key(need).encode())
            for source in piece.recipe.sources():
                for file in _files(source):
                    digest.update(file.relative_to(TOOLCHAIN.parent).as_posix().encode() + b"\0")
                    digest.update(hashlib.sha256(file.read_bytes()).digest())
            self._keys[name] = digest.hexdigest()[:24]
        return self._keys[name]

    def directory(self, name: str) -> Path:
        """Where the piece lies, or will lie."""
        return self.cache / "pieces" / name / self.key(name)

    def manifest(self, name: str) -> Path:
        """The piece's list of files; it is written last, so a piece that has one is whole."""
        return self.directory(name).with_suffix(".json")

    def cached(self, name: str, *, thorough: bool = False) -> bool:
        """Whether the piece is there and whole.

        A file whose size and time are those of the manifest is taken as it is, unless `thorough`; any other
        has to have the manifest's digest.

        Raises:
            ToolchainError: a file of the piece is missing or differs from its digest.
        """
        directory, manifest = self.directory(name), self.manifest(name)
        if not manifest.exists():
            return False
        for path, (size, mtime_ns, digest) in json.loads(manifest.read_text())["files"].items():
            file = directory / path
            try:
                stat = file.stat()
            except FileNotFoundError:
                raise self._corrupted(name, f"{file} is missing") from None
            if not thorough and (stat.st_size, stat.st_mtime_ns) == (size, mtime_ns):
                continue
            if stat.st_size != size or _digest(file) != digest:
                raise self._corrupted(name, f"{file} does not have the digest it was stored with")
        return self.pieces[name].recipe.intact(directory)

    def _corrupted(self, name: str, what: str) -> ToolchainError:
        return ToolchainError(
            f"piece {name}: the cache is damaged: {what}; "
            f"run `python3 -m toolchain clean {name}`, then the same command again"
        )

    def build(self, names: Sequence[str], *, force: bool = False) -> list[Outcome]:
        """Build the named pieces and all they need, three at a time.

        Raises:
            ToolchainError: a piece could not be built; pieces that were whole stay whole.
        """
        wanted = self.closure(names)
        with concurrent.futures.ThreadPoolExecutor(BUILDERS_AT_ONCE) as pool:
            there = dict(zip(wanted, pool.map(lambda name: not force and self.cached(name), wanted), strict=True))
            done = {name: self._outcome(name, "cached") for name in wanted if there[name]}
            # In the table's order.
            waiting = [name for name in self.pieces if not there.get(name, True)]
            running: dict[concurrent.futures.Future[Outcome], str] = {}
            with Progress(waiting) as progress:
                try:
                    while waiting or running:
                        ready = [n for n in waiting if all(need in done for need in self.pieces[n].needs)]
                        for name in ready[: BUILDERS_AT_ONCE - len(running)]:
                            waiting.remove(name)
                            running[pool.submit(self._one, name, progress, force)] = name
                        finished, _ = concurrent.futures.wait(
                            running, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED
                        )
                        progress.tick()
                        for future in finished:
                            done[running.pop(future)] = future.result()
                except BaseException:
                    end_children()
                    raise
        return [done[name] for name in wanted]

    def closure(self, names: Sequence[str]) -> list[str]:
        """The named pieces and all they need, each after its needs."""
        ordered: list[str] = []

        def add(name: str) -> None:
            if name not in ordered:
                for need in self.pieces[name].needs:
                    add(need)
                ordered.append(name)

        for name in names:
            add(name)
        return ordered

    def _one(self, name: str, progress: Progress, force: bool) -> Outcome:
        began_s = time.monotonic()
        state, cpu_s = "cached", 0.0
        progress.begin(name)
        lock = self.cache / "locks" / f"{name}.lock"
        with _lock(lock, lambda: progress.note(name, "another builder has it; waiting")):
            if force or not self.cached(name):
                cpu_s = self._make(self.pieces[name])
                state = "built"
        progress.end(name, state)
        return self._outcome(name, state, seconds=time.monotonic() - began_s, cpu_s=cpu_s)

    def _outcome(self, name: str, state: str, *, seconds: float = 0.0, cpu_s: float = 0.0) -> Outcome:
        size_bytes = json.loads(self.manifest(name).read_text())["size_bytes"]
        return Outcome(
            name=name, version=self.pieces[name].version, state=state, seconds=seconds, cpu_s=cpu_s,
            size_bytes=size_bytes,
        )  # fmt: skip

    def _make(self, piece: Piece) -> float:
        """Build the piece; the seconds of processor time that its steps used."""
        for tool in piece.recipe.tools():
            if shutil.which(tool) is None:
                advice = TOOL_ADVICE.get(tool, "install it")
                raise ToolchainError(f"piece {piece.name}: `{tool}` is not on PATH; {advice}")
        directory, manifest = self.directory(piece.name), self.manifest(piece.name)
        scratch = self.cache / "tmp" / piece.name
        log = self.cache / "logs" / f"{piece.name}.log"
        try:
            # Under the lock nobody else builds this piece, so what lies here was left by a builder that was killed.
            shutil.rmtree(scratch, ignore_errors=True)
            for folder in (scratch / "out", scratch / "work", log.parent, directory.parent):
                folder.mkdir(parents=True, exist_ok=True)
            log.write_bytes(b"")
            needs = {need: self.directory(need) for need in piece.needs}
            job = Job(piece=piece, out=scratch / "out", work=scratch / "work", log=log, needs=needs)
            piece.recipe.make(job)
            manifest.unlink(missing_ok=True)
            shutil.rmtree(directory, ignore_errors=True)
            (scratch / "out").rename(directory)
            record = {
                path.relative_to(directory).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns, _digest(path))
                for path in _files(directory)
            }
            size = sum(size for size, _, _ in record.values())
            partial = manifest.with_suffix(".partial")
            partial.write_text(json.dumps({"version": piece.version, "size_bytes": size, "files": record}))
            partial.rename(manifest)
            return job.cpu_s
        except OSError as error:
            advice = DISK_FULL if error.errno == errno.ENOSPC else "see the log"
            raise ToolchainError(f"piece {piece.name}: {error}; {advice}; log: {log}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def clean(self, names: Sequence[str]) -> int:
        """Remove every stored version of the named pieces; the bytes given back."""
        freed = 0
        for name in names:
            with _lock(self.cache / "locks" / f"{name}.lock", lambda: None):
                folder = self.cache / "pieces" / name
                freed += sum(file.stat().st_size for file in _files(folder)) if folder.exists() else 0
                shutil.rmtree(folder, ignore_errors=True)
        return freed


TOOL_ADVICE: Mapping[str, str] = {
    "go": "install Go 1.26 or newer",
    "mmdebstrap": "on Debian or Ubuntu: `sudo apt-get install mmdebstrap`",
    "docker": "run `python3 -m toolchain engine --start`, or install Docker Engine",
}


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
            yield path


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _lock(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield

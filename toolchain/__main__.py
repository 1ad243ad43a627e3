"""The command line: `python3 -m toolchain build|status|clean|engine|env`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from toolchain import debian, engine, environment
from toolchain.builder import Builder, Outcome, ToolchainError
from toolchain.pieces import DRILLS, IMAGES, PIECES, PROGRAM


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m toolchain", description=__import__("toolchain").__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    build = commands.add_parser("build", help="build what is missing, then lay out the virtual environment")
    build.add_argument("piece", nargs="*", help="only these, and what they need (default: all but those of the drills)")
    build.add_argument("--program", action="store_true", help="what `pulumi preview` needs, and the named pieces")
    build.add_argument("--force", action="store_true", help="build even what is cached")

    status = commands.add_parser("status", help="say which pieces are there")
    status.add_argument("--verify", action="store_true", help="check the digest of every cached file")

    clean = commands.add_parser("clean", help="remove pieces from the cache")
    clean.add_argument("piece", nargs="*", help="only these (default: all)")

    motor = commands.add_parser("engine", help="say whether a Docker Engine answers")
    motor.add_argument("--start", action="store_true", help="start one where none runs (root, Debian or Ubuntu)")

    commands.add_parser("env", help='print shell exports: eval "$(python3 -m toolchain env)"')
    return parser


def _known(names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in PIECES]
    if unknown:
        raise ToolchainError(f"unknown piece: {', '.join(unknown)}; there are {', '.join(PIECES)}")
    return list(names) or list(PIECES)


def _table(rows: Sequence[Outcome]) -> str:
    lines = [f"{'piece':26} {'version':10} {'state':8} {'seconds':>8} {'CPU s':>8} {'MiB':>8}"]
    for row in rows:
        figures = f"{row.seconds:8.1f} {row.cpu_s:8.1f} {row.size_bytes / 2**20:8.1f}"
        lines.append(f"{row.name:26} {row.version:10} {row.state:8} {figures}")
    lines.append(f"{'all':54} {sum(row.cpu_s for row in rows):8.1f} {sum(row.size_bytes for row in rows) / 2**20:8.1f}")
    return "\n".join(lines)


def _build(arguments: argparse.Namespace) -> int:
    asked = _known([*(PROGRAM if arguments.program else ()), *arguments.piece])
    names = [name for name in asked if name not in DRILLS or name in arguments.piece]
    builder = Builder(PIECES)
    wanted = builder.closure(names)
    debian.ensure(sorted({package for name in wanted for package in PIECES[name].system_packages}))
    if any(name in IMAGES for name in wanted):
        engine.start()
    outcomes = builder.build(names, force=arguments.force)
    print(_table(outcomes))
    everything = not arguments.piece and not arguments.program
    if everything:
        debian.ensure(debian.TEST_PACKAGES)
    if everything or arguments.program:
        print(f"virtual environment: {environment.lay(builder)}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    builder = Builder(PIECES)
    whole = True
    for name, piece in PIECES.items():
        try:
            state = "cached" if builder.cached(name, thorough=arguments.verify) else "missing"
        except ToolchainError as error:
            state = str(error)
        whole &= state == "cached" or (state == "missing" and name in DRILLS)
        print(f"{name:26} {piece.version:10} {state}")
    return 0 if whole else 1


def _clean(arguments: argparse.Namespace) -> int:
    freed = Builder(PIECES).clean(_known(arguments.piece))
    print(f"gave back {freed / 2**20:.0f} MiB")
    return 0


def _engine(arguments: argparse.Namespace) -> int:
    found = engine.start() if arguments.start else engine.server_version()
    if found is None:
        print("no Docker Engine answers: run `python3 -m toolchain engine --start`", file=sys.stderr)
        return 1
    print(f"Docker Engine {found} answers")
    return 0


def _env(_: argparse.Namespace) -> int:
    print(environment.shell(Builder(PIECES)))
    return 0


def main() -> int:
    """Run one command; the exit code."""
    arguments = _parser().parse_args()
    # SIGTERM as Ctrl-C: the steps in progress are ended, nothing half-made stays.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    run = {"build": _build, "status": _status, "clean": _clean, "engine": _engine, "env": _env}[arguments.command]
    try:
        return run(arguments)
    except ToolchainError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was whole is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())

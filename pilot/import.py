"""Copy a project from elsewhere on the engine into a workspace's home: from a container, a volume or a folder. Says
first what it would copy; with --yes it copies, compares, and puts the whole in its place in one step. Overwrites
nothing; the source is only read."""

# ruff: noqa: N999  the name of the command

from __future__ import annotations

import argparse
import contextlib
import json
import re
import secrets
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pilot import archive, state
from pilot.archive import Contents
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.server import admin
from pilot.session import Session, open_session
from stack.jobs import coder, engine, names
from stack.settings import Settings
from toolchain.paths import CHECKOUT

HOME = "/home/coder"
SOURCE = "/source"
EDITOR = ".local/share/code-server"
EXTENSIONS = "extensions"
MANIFEST = f"{EXTENSIONS}/extensions.json"
SETTINGS = "User/settings.json"
SHOWN = 10
KIB = 1024
PLACE_TIMEOUT_S = 600
STAGED = ".import-"
"""What the name of a copy begins with until it is in its place; the rest is chosen at random."""

# Staged beside the target, in the same volume: to move it there is one step. What is there already stays.
LOOK = """
set -e
cd /home/coder
stat -c '%u %g' .
df -Pk . | tail -n 1 | { read -r _ _ _ free _; echo "$free"; }
if [ -L "$1" ] || { [ -e "$1" ] && [ ! -d "$1" ]; }; then echo file
elif [ -d "$1" ] && [ -n "$(ls -A "$1")" ]; then echo files
else echo free; fi
"""
PLACE = """
set -e
cd /home/coder
owner=$1 staged=$2
shift 2
while [ $# -gt 0 ]; do
  folder=$(dirname "$2")
  # Each folder that is missing above it, from the top, as its owner's.
  missing=
  while [ ! -d "$folder" ]; do missing="$folder
$missing"; folder=$(dirname "$folder"); done
  printf '%s' "$missing" | while IFS= read -r each; do mkdir "$each"; chown "$owner" "$each"; done
  # Through a link it would land in this container.
  case $(cd "$folder" && pwd -P)/ in /home/coder/*) ;; *) echo "$folder leads out of the home" >&2; exit 1 ;; esac
  [ ! -d "$2" ] || [ -L "$2" ] || rmdir "$2"
  if [ -e "$2" ] || [ -L "$2" ]; then echo "$2 is there already" >&2; exit 1; fi
  if [ "$1" = . ]; then mv -T "$staged" "$2"; else mv -T "$staged/$1" "$2"; fi
  shift 2
done
rm -rf "$staged"
"""
LIST = f"cd {HOME}/{EDITOR} 2>/dev/null && ls -d {EXTENSIONS}/* User/* 2>/dev/null || true"
WRITE_LIST = f"""
set -e
cd {HOME}/{EDITOR}
cat >{MANIFEST}.new
chown "$1" {MANIFEST}.new
mv {MANIFEST}.new {MANIFEST}
"""
OF_THE_USER = (SETTINGS, "User/keybindings.json", "User/tasks.json", "User/snippets")
_FOLDER = re.compile("[A-Za-z0-9][A-Za-z0-9._-]*")
_COPY = re.compile(rf"{re.escape(STAGED)}[0-9a-f]{{16}}(/|\Z)")


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument(
        "--editor", action="store_true", help="the extensions and settings of the code-server in SOURCE"
    )
    parser.add_argument("--yes", action="store_true", help="copy; without it, only say what would be")
    parser.add_argument("--to", default="", help="the folder in the home, default: the last part of the source's path")
    parser.add_argument("source", help="<container>:<path>, <volume>:<path> or a folder of this machine")
    parser.add_argument("name", help="the workspace: its name, or <owner>/<name>")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.source or not arguments.name:
        raise PilotError("say what to copy and where to: `make import FROM=<container>:<path> NAME=<workspace>`")
    session = open_session(arguments.stack)
    with admin(session) as api:
        workspace = _workspace(coder.workspaces(api), arguments.name)
    if workspace["template_name"] == names.KUBERNETES_TEMPLATE:
        raise PilotError(
            f"{workspace['name']} is on the cluster, where nobody but the workspace reaches its home: copy by SSH, "
            f"`rsync -a <folder> {workspace['name']}.coder:` (docs/use.md), or drag the folder into the editor"
        )
    home = _home(workspace)
    if arguments.editor:
        return _editor(session, arguments, workspace, home)
    return _project(session, arguments, workspace, home)


def _workspace(found: Sequence[coder.Workspace], name: str) -> coder.Workspace:
    chosen = [each for each in found if name in (each["name"], f"{each['owner_name']}/{each['name']}")]
    titles = sorted(f"{each['owner_name']}/{each['name']}" for each in chosen or found)
    if not chosen:
        raise PilotError(f"there is no workspace {name}; there are: {', '.join(titles) or 'none'}")
    if len(chosen) > 1:
        raise PilotError(f"{name} is the name of several workspaces; say which: NAME={' or NAME='.join(titles)}")
    return chosen[0]


def _home(workspace: coder.Workspace) -> str:
    home = names.home_volume(workspace["id"])
    if not engine.inspect(home):
        name = workspace["name"]
        raise PilotError(f"{name} has no home yet: start it once, `make workspace NAME={name}`")
    return home


@dataclass(frozen=True, kw_only=True)
class Target:
    """A home, and what it says of a place in it."""

    volume: str
    owner: tuple[int, int]
    free_kib: int
    place: str
    """ "free", or why it is not: "file" or "files" are there."""


@dataclass(frozen=True, kw_only=True)
class Helpers:
    """Makes containers of the stack that are never started, through which folders are read and written."""

    settings: Settings

    @contextlib.contextmanager
    def holding(self, *mount: str) -> Iterator[str]:
        """One with a mount; its id. Nothing runs in it, and it has no network."""
        made = engine.docker("create", *self._options(), *mount, self.settings.database.image)
        try:
            yield made
        finally:
            # With --volumes: Postgres's image makes one without a name.
            engine.docker("rm", "--force", "--volumes", made)

    def shell(self, home: str, script: str, *words: str, stdin: str = "") -> str:
        """Run a script as root in the home, and nowhere else; what it printed."""
        mount = ("--volume", f"{home}:{HOME}")
        return engine.docker(
            "run", *self._options(), *mount, "--rm", "--interactive", "--user", "0", "--entrypoint", "sh",
            self.settings.database.image, "-c", script, "sh", *words, stdin=stdin, timeout_s=PLACE_TIMEOUT_S,
        )  # fmt: skip

    def _options(self) -> tuple[str, ...]:
        return ("--network", "none", "--label", f"{names.STACK_LABEL}={self.settings.site.name}")

    def look(self, home: str, place: str) -> Target:
        """What the home says of a place in it."""
        owner, free, there = self.shell(home, LOOK, place).splitlines()
        user, group = map(int, owner.split())
        if user == 0:
            raise PilotError("the home is empty and nobody's yet: start the workspace once")
        return Target(volume=home, owner=(user, group), free_kib=int(free), place=there)


@contextlib.contextmanager
def _source(helpers: Helpers, source: str) -> Iterator[str]:
    """The source as `docker cp` takes it, <container>:<path>.

    Raises:
        PilotError: there is no such source, or it is two.
    """
    name, colon, path = source.partition(":")
    if not colon or "/" in name:
        folder = Path(source).expanduser().resolve()
        if not folder.is_dir():
            raise PilotError(f"there is no folder {folder}")
        # The option's value is a line of CSV.
        quoted = str(folder).replace('"', '""')
        with helpers.holding("--mount", f'type=bind,"source={quoted}",target={SOURCE},readonly') as container:
            yield f"{container}:{SOURCE}"
        return
    kinds = _kinds(name)
    if not kinds:
        raise PilotError(f"there is no container and no volume {name}; a folder is given by its whole path")
    if len(kinds) > 1:
        raise PilotError(
            f"both a container and a volume are called {name}: `docker rename {name} <other>`, and FROM=<other>:{path} "
            "is the container"
        )
    if not path.startswith("/"):
        raise PilotError(f"the path in {name} has to begin with a slash: FROM={name}:/…")
    if kinds == ["container"]:
        yield f"{name}:{path}"
        return
    with helpers.holding("--volume", f"{name}:{SOURCE}:ro") as container:
        yield f"{container}:{SOURCE}{path}"


def _kinds(name: str) -> list[str]:
    """What is called so, of "container" and "volume"."""
    found = []
    for kind in ("container", "volume"):
        with contextlib.suppress(engine.JobError):
            engine.docker(kind, "inspect", name)
            found.append(kind)
    return found


@contextlib.contextmanager
def _docker(*words: str, stdin: IO[bytes] | int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """A `docker` whose streams are the caller's.

    Raises:
        PilotError: it failed; with what it said. What the caller ran into then is only what follows from that.
    """
    with subprocess.Popen(["docker", *words], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        said: list[bytes] = []
        # Read meanwhile, or a docker that says much would wait for us.
        reader = threading.Thread(target=lambda: said.append(process.stderr.read() if process.stderr else b""))
        reader.start()
        broken: Exception | None = None
        try:
            yield process
        except (PilotError, BrokenPipeError) as error:
            broken = error
        finally:
            for stream in (process.stdin, process.stdout):
                if stream:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()
            code = process.wait()
            reader.join()
    text = b"".join(said).decode(errors="replace").strip().removeprefix("Error response from daemon: ")
    # The end of the other one of two is what follows from this one's, or the reason for it.
    if isinstance(broken, BrokenPipeError) != (stdin == subprocess.PIPE) and broken is not None:
        raise broken
    if code != 0:
        raise PilotError(text or f"`docker {words[0]}` ended with {code}")
    if broken is not None:
        raise broken


def _first(where: str, told: str, chosen: Callable[[str], bool] = lambda _: True) -> Contents:
    """What is in the source, which may not be there; `told` is what a person calls it."""
    try:
        return _read(where, chosen)
    except PilotError as error:
        if "Could not find the file" in str(error) or "not a directory" in str(error):
            raise PilotError(f"there is no folder {told}") from None
        raise PilotError(f"{told} cannot be read: {error}") from None


def _read(where: str, chosen: Callable[[str], bool] = lambda _: True) -> Contents:
    with _docker("cp", f"{where}/.", "-") as process:
        assert process.stdout is not None  # noqa: S101  as asked for above
        return archive.read(process.stdout, chosen)


def _copy(where: str, container: str, staged: str, target: Target, chosen: Callable[[str], bool]) -> Contents:
    """Copy into the folder `staged` of the home that `container` holds; what was sent."""
    with (
        _docker("cp", "-", f"{container}:{HOME}", stdin=subprocess.PIPE) as sink,
        _docker("cp", f"{where}/.", "-") as source,
    ):
        assert sink.stdin is not None and source.stdout is not None  # noqa: S101, PT018  as asked for above
        return archive.rewrite(source.stdout, sink.stdin, staged, target.owner, chosen)


def _transfer(
    helpers: Helpers, where: str, target: Target, pairs: Sequence[tuple[str, str]], chosen: Callable[[str], bool]
) -> Contents:
    """Stage, compare, and put each of `pairs`, from its path in the source, in its place; what was copied.

    Raises:
        PilotError: it failed, and nothing of it is left in the home.
    """
    staged = f"{STAGED}{secrets.token_hex(8)}"
    try:
        with helpers.holding("--volume", f"{target.volume}:{HOME}") as container:
            sent = _copy(where, container, staged, target, chosen)
            arrived = _read(f"{container}:{HOME}/{staged}", chosen)
            if arrived.entries != sent.entries:
                differs = sorted(set(arrived.entries.items()) ^ set(sent.entries.items()))
                raise PilotError(
                    f"what arrived is not what was sent, first {differs[0][0]!r}; nothing was put in its place"
                )
        owner = f"{target.owner[0]}:{target.owner[1]}"
        helpers.shell(target.volume, PLACE, owner, staged, *(word for pair in pairs for word in pair))
    except BaseException:
        with contextlib.suppress(engine.JobError):
            helpers.shell(target.volume, 'rm -rf "/home/coder/$1"', staged)
        raise
    return sent


@dataclass(frozen=True, kw_only=True)
class Editor:
    """What of an old code-server comes over."""

    extensions: Sequence[dict[str, Any]]
    """Their entries in the list that code-server keeps."""
    settings: Sequence[str]
    """Files and folders below EDITOR."""
    kept: Sequence[str]
    """What is there already and stays."""

    @property
    def folders(self) -> list[str]:
        return [f"{EXTENSIONS}/{each['relativeLocation']}" for each in self.extensions]

    def chosen(self, path: str) -> bool:
        """Whether a path below EDITOR is copied."""
        return any(path == each or path.startswith(f"{each}/") for each in (*self.folders, *self.settings))


def _editor(session: Session, arguments: argparse.Namespace, workspace: coder.Workspace, home: str) -> int:
    build = workspace["latest_build"]
    if build["transition"] != "stop" or build["job"]["status"] != "succeeded":
        raise PilotError(
            f"{workspace['name']} runs, and its editor would write over this: stop it in the dashboard first"
        )
    helpers = Helpers(settings=session.settings)
    target = helpers.look(home, EDITOR)
    with _source(helpers, arguments.source) as source, helpers.holding("--volume", f"{home}:{HOME}:ro") as container:
        where, there = f"{source}/{EDITOR}", f"{container}:{HOME}/{EDITOR}"
        files = _names(where, f"{arguments.source}/{EDITOR}, so that is no home of a code-server")
        ours = _listed(there)
        names_there = set(helpers.shell(home, LIST).splitlines())
        untouched = _text(there, SETTINGS) == _first_settings()
        editor = _wanted(_listed(where), ours, names_there, files, untouched=untouched)
        found = _read(where, editor.chosen)
        _refuse_without_space(found, target)
        _tell(found, f"{workspace['owner_name']}/{workspace['name']}'s editor")
        for title, listed in (
            ("extensions", [each["identifier"]["id"] for each in editor.extensions]),
            ("settings", editor.settings),
            ("there already, and kept", editor.kept),
        ):
            print(f"{title}: {', '.join(listed) or 'none'}")
        if not arguments.yes:
            return _dry()
        if SETTINGS in editor.settings and untouched:
            helpers.shell(home, f"rm -f {HOME}/{EDITOR}/{SETTINGS}")
        pairs = [(each, f"{EDITOR}/{each}") for each in (*editor.folders, *editor.settings)]
        sent = _transfer(helpers, where, target, pairs, editor.chosen) if pairs else Contents()
    if editor.extensions:
        _list(helpers, target, ours, editor)
    print(f"copied: {_counted(sent)}, checksum {sent.checksum}, compared after the copy")
    return 0


def _list(helpers: Helpers, target: Target, ours: Sequence[dict[str, Any]], editor: Editor) -> None:
    """Add what came to the list by which code-server knows its extensions."""
    merged = [*ours, *({**each, "location": _location(each)} for each in editor.extensions)]
    helpers.shell(target.volume, WRITE_LIST, f"{target.owner[0]}:{target.owner[1]}", stdin=json.dumps(merged))


def _location(entry: dict[str, Any]) -> dict[str, Any]:
    return {"$mid": 1, "path": f"{HOME}/{EDITOR}/{EXTENSIONS}/{entry['relativeLocation']}", "scheme": "file"}


def _wanted(
    theirs: Sequence[dict[str, Any]],
    ours: Sequence[dict[str, Any]],
    there: set[str],
    files: set[str],
    *,
    untouched: bool,
) -> Editor:
    """What comes over, of `theirs` and the settings among `files`; `untouched`: our settings are still those of the
    first start."""
    known = {str(each["identifier"]["id"]).lower() for each in ours}
    whole = [each for each in theirs if _FOLDER.fullmatch(str(each.get("relativeLocation")))]
    extensions = [
        each for each in whole
        if str(each["identifier"]["id"]).lower() not in known
        and f"{EXTENSIONS}/{each['relativeLocation']}" in files - there
    ]  # fmt: skip
    settings = [
        each for each in OF_THE_USER if each in files and (each not in there or (each == SETTINGS and untouched))
    ]
    kept = [each["identifier"]["id"] for each in whole if each not in extensions]
    return Editor(
        extensions=extensions, settings=settings,
        kept=[*kept, *(each for each in OF_THE_USER if each in files and each not in settings)],
    )  # fmt: skip


def _listed(where: str) -> list[dict[str, Any]]:
    """The extensions that a code-server lists."""
    try:
        found = json.loads(_text(where, MANIFEST) or "[]")
    except ValueError:
        raise PilotError(f"the editor's list of extensions {MANIFEST} is no JSON") from None
    return [each for each in found if isinstance(each, dict) and "id" in (each.get("identifier") or {})]


def _names(where: str, told: str) -> set[str]:
    """The paths of a code-server's extensions and settings, two deep."""
    found: set[str] = set()

    def note(path: str) -> bool:
        found.add("/".join(path.split("/")[:2]))
        return False

    _first(where, told, note)
    return found


def _text(where: str, path: str) -> str:
    """A file's text, "" where there is none."""
    with contextlib.suppress(PilotError, tarfile.TarError), _docker("cp", f"{where}/{path}", "-") as process:
        assert process.stdout is not None  # noqa: S101  as asked for above
        with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
            found = [content.read() for member in tar if (content := tar.extractfile(member))]
            while process.stdout.read(1 << 16):
                pass
        return found[0].decode(errors="replace") if found else ""
    return ""


def _first_settings() -> str:
    """What a workspace's first start writes."""
    script = (CHECKOUT / "terraform-template" / "scripts" / "code-server.sh").read_text()
    match = re.search(r"<<'JSON'.*?\n(.*?\n)JSON\n", script, re.DOTALL)
    return match[1] if match else ""


def _project(session: Session, arguments: argparse.Namespace, workspace: coder.Workspace, home: str) -> int:
    to = _folder(arguments.to or PurePosixPath(arguments.source.partition(":")[2] or arguments.source).name)
    helpers = Helpers(settings=session.settings)
    target = helpers.look(home, to)
    if target.place != "free":
        there = "has files" if target.place == "files" else "is no folder"
        raise PilotError(f"{HOME}/{to} is there and {there}; nothing is overwritten: choose another, TO=<folder>")
    with _source(helpers, arguments.source) as where:
        found = _first(where, arguments.source, _is_no_copy)
        _refuse_without_space(found, target)
        _tell(found, f"{workspace['owner_name']}/{workspace['name']}:{HOME}/{to}")
        if not arguments.yes:
            return _dry()
        state.say("copying")
        sent = _transfer(helpers, where, target, [(".", to)], _is_no_copy)
    print(f"copied: {_counted(sent)}, checksum {sent.checksum}, compared after the copy")
    return 0


def _is_no_copy(path: str) -> bool:
    """A home that is copied into itself has the copy in it."""
    return not _COPY.match(path)


def _folder(to: str) -> str:
    parts = PurePosixPath(to.removeprefix(f"{HOME}/")).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise PilotError(f"TO={to} is no folder in the home; give one such as TO=project, or TO=work/project")
    return "/".join(parts)


def _refuse_without_space(found: Contents, target: Target) -> None:
    if found.size // KIB > target.free_kib:
        raise PilotError(
            f"it has {_size(found.size)}, and the disk of the homes has {_size(target.free_kib * KIB)} left: free some"
        )


def _tell(found: Contents, to: str) -> None:
    print(f"{_counted(found)}, checksum {found.checksum}, to {to}")
    if found.left_out:
        more = f" and {len(found.left_out) - SHOWN} more" if len(found.left_out) > SHOWN else ""
        print(f"left out, devices and pipes: {', '.join(sorted(found.left_out)[:SHOWN])}{more}")


def _dry() -> int:
    print("nothing was copied yet: the same command with YES=yes copies it")
    return 0


def _counted(found: Contents) -> str:
    return f"{found.files:,} file{'' if found.files == 1 else 's'}, {_size(found.size)}"


def _size(count: int) -> str:
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", KIB)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} bytes"

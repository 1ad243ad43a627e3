"""Say which pins and images have moved on, and which have known holes. Asks the sources' own feeds, only when called.

Exit code 1: something runs that has a known hole. --json is for programs.
"""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import re
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pilot import configuration, proof
from pilot.arguments import add_stack
from pilot.configuration import PROJECT, PilotError
from pilot.session import select_engine
from pilot.status import table
from stack.jobs import engine, pilot_file, workspace_images
from stack.jobs.coder import Api, ApiError
from stack.settings import Settings, Site
from toolchain.pins import version as pinned

HERE_TIMEOUT_S = 4
FEED_TIMEOUT_S = 4
TIMEOUT_S = 5
"""For all feeds, side by side."""
LATE = "no answer in time"
GITHUB = "https://api.github.com/repos/{repository}/{feed}"
POSTGRES_RELEASES = "https://endoflife.date/api/postgresql/{major}.json"
REPOSITORIES: Mapping[str, str] = {
    "Coder": "coder/coder",
    "code-server": "coder/code-server",
    "Claude Code": "anthropics/claude-code",
    "Pulumi": "pulumi/pulumi",
    "pulumi-docker": "pulumi/pulumi-docker",
    "pulumi-random": "pulumi/pulumi-random",
    "pulumi-command": "pulumi/pulumi-command",
    "coder/coderd": "coder/terraform-provider-coderd",
    "coder/coder": "coder/terraform-provider-coder",
    "kreuzwerker/docker": "kreuzwerker/terraform-provider-docker",
}
"""Where each part is released."""
POSTGRES = "Postgres"
PRINTS = ("code-server", "claude")
"""Programs of a workspace that print their version."""
T = TypeVar("T")
_VERSION = re.compile(r"\d+(?:\.\d+)*")
_CONSTRAINT = re.compile(r"(<=|>=|<|>|=)?\s*v?(\d+(?:\.\d+)*)")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part: what is here, what its source has, and which holes of the one here are known."""

    name: str
    here: str
    newest: str = ""
    holes: tuple[str, ...] = ()
    not_asked: str = ""
    """Why the source could not be asked."""

    @property
    def behind(self) -> bool:
        """Whether the source has a newer one; a tag such as "17" stands for all of them."""
        here = number(self.here)
        return here < number(self.newest)[: len(here)]


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--json", action="store_true", help="print a list of objects")


def run(arguments: argparse.Namespace) -> int:
    found = ask(here(configuration.settings(arguments.stack)))
    if arguments.json:
        print(json.dumps([{**dataclasses.asdict(each), "behind": each.behind} for each in found], indent=2))
    else:
        rows = [[each.name, each.here, each.newest or "?", "; ".join(_remarks(each))] for each in found]
        print(table(["PART", "HERE", "NEWEST", ""], rows))
        for line in unasked(found):
            print(f"\n{line}")
        if any(each.behind for each in found):
            print(
                "\nan image: `pulumi config set coderImage <image>:<version>`, then `make upgrade`; a pin: "
                "toolchain/pins.py, pyproject.toml and terraform-template/, which renovate.json watches"
            )
    return 1 if any(each.holes for each in found) else 0


def unasked(parts: Sequence[Part]) -> list[str]:
    """One line for each reason why sources could not be asked."""
    names: dict[str, list[str]] = {}
    for each in parts:
        if each.not_asked:
            names.setdefault(each.not_asked, []).append(each.name)
    return [
        f"could not ask {'any source' if len(of) == len(parts) else 'the source of ' + ', '.join(of)}: {why}"
        for why, of in names.items()
    ]


def _remarks(part: Part) -> Iterator[str]:
    if part.behind:
        yield "moved on"
    yield from part.holes


def number(text: str) -> tuple[int, ...]:
    """The first version in `text` as numbers, () for none: they compare as versions do."""
    found = _VERSION.search(text)
    return tuple(int(each) for each in found[0].split(".")) if found else ()


def here(settings: Settings) -> list[Part]:
    """What this stack runs, or would run."""
    select_engine(settings)
    coder, postgres, image = _side_by_side(
        [lambda: _coder(settings), lambda: _postgres(settings), lambda: _in_workspaces(settings.site)], HERE_TIMEOUT_S
    )
    parts = _script_versions()
    in_image = dict(zip(PRINTS, (image or "").splitlines(), strict=False))
    return [
        Part(name="Coder", here=coder or _tag(settings.control_plane.image)),
        Part(name=POSTGRES, here=postgres or _tag(settings.database.image)),
        Part(name="code-server", here=in_image.get("code-server") or parts["code_server_version"]),
        Part(name="Claude Code", here=in_image.get("claude") or parts["claude_version"]),
        Part(name="Pulumi", here=pinned("pulumi")),
        *(Part(name=f"pulumi-{each}", here=pinned(each)) for each in ("docker", "random", "command")),
        Part(name="coder/coderd", here=pinned("coderd")),
        Part(name="coder/coder", here=pinned("terraform-provider-coder")),
        Part(name="kreuzwerker/docker", here=pinned("terraform-provider-docker")),
    ]


def _script_versions() -> dict[str, str]:
    """The versions that workspace-image/parts.sh installs."""
    text = (PROJECT / "workspace-image" / "parts.sh").read_text()
    return dict(re.findall(r"^(\w+_version)=(\S+)$", text, re.MULTILINE))


def _coder(settings: Settings) -> str:
    try:
        return proof.coder_version(Api(url=settings.site.coder_url), HERE_TIMEOUT_S)
    except ApiError:
        return ""


def _postgres(settings: Settings) -> str:
    try:
        return proof.postgres_version(settings.site)
    except (engine.JobError, ValueError):
        return ""


def _in_workspaces(site: Site) -> str:
    """What each of PRINTS answers in the image that workspaces start from, a line each: a base may have its own."""
    built = pilot_file.read(site.data_dir).get(workspace_images.KEY) or {}
    try:
        image = next(str(each["name"]) for each in built.values())
        # Before its version, code-server may tell where it wrote its configuration.
        script = "; ".join(f"echo $({each} --version | tail -n 1 | cut -d' ' -f1)" for each in PRINTS)
        return engine.docker("run", "--rm", "--network", "none", "--entrypoint", "bash", image, "-c", script)
    except (StopIteration, AttributeError, KeyError, TypeError, engine.JobError):
        return ""


def _tag(image: str) -> str:
    return image.partition("@")[0].rpartition(":")[2].removeprefix("v")


def ask(parts: list[Part]) -> list[Part]:
    """The same with what their sources say, side by side and within TIMEOUT_S."""
    answers = _side_by_side([partial(_asked, each) for each in parts], TIMEOUT_S)
    late = [dataclasses.replace(each, not_asked=LATE) for each in parts]
    return [answer or other for answer, other in zip(answers, late, strict=True)]


def _side_by_side(calls: Sequence[Callable[[], T]], timeout_s: float) -> list[T | None]:
    """What each gives, None for those that are late: they are left alone, for a look-up of a name takes no timeout."""
    given: list[T | None] = [None] * len(calls)

    def run(row: int) -> None:
        given[row] = calls[row]()

    # Daemons: unlike those of an executor, they do not hold up the end of this program.
    threads = [threading.Thread(target=run, args=(row,), daemon=True) for row in range(len(calls))]
    for each in threads:
        each.start()
    deadline_s = time.monotonic() + timeout_s
    for each in threads:
        each.join(max(0.0, deadline_s - time.monotonic()))
    return list(given)


def _asked(part: Part) -> Part:
    try:
        if part.name == POSTGRES:
            return _postgres_asked(part)
        repository = REPOSITORIES[part.name]
        released = _feed(GITHUB.format(repository=repository, feed="releases/latest"))
        newest = str(released.get("tag_name", "")) if isinstance(released, dict) else ""
        if not number(newest):
            raise PilotError(f'no version in "{newest}"' if newest else "no release in the answer")
        part = dataclasses.replace(part, newest=".".join(map(str, number(newest))))
        advisories = _feed(GITHUB.format(repository=repository, feed="security-advisories?per_page=100"))
    except PilotError as error:
        return dataclasses.replace(part, not_asked=str(error))
    found = [hole for each in advisories if (hole := _hole(each, part.here))] if isinstance(advisories, list) else []
    return dataclasses.replace(part, holes=tuple(found))


def _postgres_asked(part: Part) -> Part:
    (major, *_) = number(part.here) or (0,)
    told = _feed(POSTGRES_RELEASES.format(major=major))
    newest = str(told.get("latest", "")) if isinstance(told, dict) else ""
    if not number(newest):
        raise PilotError("no version in the answer")
    return dataclasses.replace(part, newest=newest)


def _hole(advisory: Any, version: str) -> str | None:
    """What to say of an advisory that is about `version`."""
    if not isinstance(advisory, dict):
        return None
    found = advisory.get("vulnerabilities")
    for each in found if isinstance(found, list) else []:
        if isinstance(each, dict) and within(str(each.get("vulnerable_version_range") or ""), version):
            severity, summary = advisory.get("severity") or "unrated", str(advisory.get("summary") or "")
            return f"{advisory.get('ghsa_id')} ({severity}): {summary[:80]}"
    return None


def within(ranges: str, version: str) -> bool:
    """Whether `version` lies in what an advisory gives, such as ">= 2.25.0, < 2.30.2"; never in what does not parse."""
    constraints = [_CONSTRAINT.fullmatch(each.strip()) for each in ranges.split(",")]
    if not number(version) or not all(constraints):
        return False
    return all(_holds(each[1] or "=", number(version), number(each[2])) for each in constraints if each)


def _holds(operator: str, one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return {
        "<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other, "=": one == other,
    }[operator]  # fmt: skip


def _feed(url: str) -> object:
    """The JSON of a feed.

    Raises:
        PilotError: it did not answer, or not with JSON.
    """
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310  https, above
    try:
        with urllib.request.urlopen(request, timeout=FEED_TIMEOUT_S) as answer:  # noqa: S310
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise PilotError(f"HTTP status {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        raise PilotError(_plain(getattr(error, "reason", error))) from None
    except ValueError:
        raise PilotError("the answer is no JSON") from None


def _plain(error: object) -> str:
    """Why nothing came of a request, in a person's words."""
    if isinstance(error, socket.gaierror):
        return "its name is not found; check the network, or set HTTPS_PROXY"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate is not trusted; where a proxy opens connections, set SSL_CERT_FILE to its CA"
    if isinstance(error, TimeoutError):
        return LATE
    return str(error)

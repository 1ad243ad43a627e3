"""Say which pins and images have moved on, and which have known holes. Asks the sources' own feeds, only when called.

Exit code 1: something runs that has a known hole. --json is for programs.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from pilot import configuration, proof
from pilot.arguments import add_stack
from pilot.configuration import PROJECT, PilotError
from pilot.session import select_engine
from pilot.status import table
from stack.jobs import engine
from stack.jobs.coder import Api, ApiError
from stack.settings import Settings
from toolchain.pins import version as pinned

FEED_TIMEOUT_S = 4
TIMEOUT_S = 9
"""For all of them, side by side."""
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
        """Whether the source has a newer one."""
        return bool(self.newest) and number(self.here) < number(self.newest)


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
        if any(each.behind for each in found):
            print(
                "\nan image: `pulumi config set coderImage <image>:<version>`, then `make upgrade`; a pin: "
                "toolchain/pins.py, pyproject.toml and terraform-template/, which renovate.json watches"
            )
    return 1 if any(each.holes for each in found) else 0


def _remarks(part: Part) -> Iterator[str]:
    if part.not_asked:
        yield f"could not be asked: {part.not_asked}"
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
    parts = _script_versions()
    return [
        Part(name="Coder", here=_coder(settings)),
        Part(name=POSTGRES, here=_postgres(settings)),
        Part(name="code-server", here=parts["code_server_version"]),
        Part(name="Claude Code", here=parts["claude_version"]),
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
        told = proof.coder_version(Api(url=settings.site.coder_url), FEED_TIMEOUT_S)
    except (ApiError, ValueError):
        told = ""
    return told or _tag(settings.control_plane.image)


def _postgres(settings: Settings) -> str:
    try:
        return proof.postgres_version(settings.site)
    except (engine.JobError, ValueError):
        return _tag(settings.database.image)


def _tag(image: str) -> str:
    return image.partition("@")[0].rpartition(":")[2].removeprefix("v")


def ask(parts: list[Part]) -> list[Part]:
    """The same with what their sources say, side by side and within TIMEOUT_S."""
    pool = concurrent.futures.ThreadPoolExecutor(len(parts))
    asked = {pool.submit(_asked, each): each for each in parts}
    done, _ = concurrent.futures.wait(asked, timeout=TIMEOUT_S)
    # Whoever still waits for an answer has a timeout of its own.
    pool.shutdown(wait=False, cancel_futures=True)
    late = partial(dataclasses.replace, not_asked=f"no answer within {TIMEOUT_S} s")
    return [each.result() if each in done else late(part) for each, part in asked.items()]


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
    (major, *minor) = number(part.here) or (0,)
    told = _feed(POSTGRES_RELEASES.format(major=major))
    newest = str(told.get("latest", "")) if isinstance(told, dict) else ""
    if not number(newest):
        raise PilotError("no version in the answer")
    # A tag such as "17" is whatever it was when it was pulled.
    return dataclasses.replace(part, newest=newest if minor else "", not_asked="" if minor else f"`{part.here}` moves")


def _hole(advisory: Any, version: str) -> str | None:
    """What to say of an advisory that is about `version`."""
    if not isinstance(advisory, dict):
        return None
    for each in advisory.get("vulnerabilities") or []:
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
    except OSError as error:
        raise PilotError(str(getattr(error, "reason", error))) from None
    except ValueError:
        raise PilotError("the answer is no JSON") from None

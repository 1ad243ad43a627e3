"""Say whether `up` would work on this machine, and for each problem the command that fixes it.

Exit code 0: it would. Changes nothing; --json is for programs.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import getpass
import grp
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from keeper import census
from keeper.engine import Engine, EngineError
from pilot import cluster, configuration, drift, health, keeper, proof, world
from pilot.arguments import add_stack
from pilot.configuration import PROJECT, PilotError
from pilot.server import admin
from pilot.session import (
    BUILT_IMAGE_PREFIX,
    GIVE_UP,
    PASSPHRASE,
    PASSPHRASE_VARIABLES,
    STACKS,
    STATE,
    has_passphrase,
    images_of,
    open_session,
    passphrase_fits,
    passphrase_variable,
    programs,
    published_pulumi,
    salted_file,
    second_passphrase,
    select_engine,
    with_state,
)
from stack import account_check
from stack.jobs import certificate, commands, disk, engine, names, workspace_world
from stack.jobs import world as engine_world
from stack.jobs.kubernetes import ClusterError
from stack.jobs.port import check_address, is_taken
from stack.settings import Settings, SettingsError, parse
from toolchain.builder import TOOL_ADVICE, Builder, ToolchainError
from toolchain.paths import CHECKOUT
from toolchain.pieces import IMAGES, PIECES, PROGRAM
from toolchain.pins import version

CALL_TIMEOUT_S = 10
"""None takes a second; on a machine that is busy, late is better than wrong."""

PYTHON_MIN = (3, 11)
DOCKER_MIN = (20, 10)
DISK_MIN_GB = 2
DISK_GOOD_GB = 10
MEMORY_GOOD_MB = 2048
DAEMON = Path("/etc/docker/daemon.json")
PRUNE_FILTERS_LOST = 28
"""Docker's command line of this major version and later skips each label in `pruneFilters` (seen with 28.2.2)."""
BARE_HOME = re.compile(rf"coder-[0-9a-f-]{{36}}-home (?!.*\b{re.escape(names.STACK_LABEL)}=)")
"""A line of `docker volume ls` with a home that Docker cannot give our label any more."""
START_TAILSCALED = "sudo systemctl start tailscaled"
KEEP_ALIVE_REFUSED = "keep-alive does not work on this Coder"
"""As terraform-template/scripts/keep-alive.sh has it."""
INOTIFY = Path("/proc/sys/fs/inotify")
INOTIFY_GOOD = {"max_user_instances": 512, "max_user_watches": 524288}
"""The users of all workspaces are one to the kernel: a few editors use up its defaults of 128 instances."""

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found; only a problem keeps `up` from working."""

    check: str
    level: Level
    found: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is examined: a stack and its settings."""

    stack: str
    settings: Settings
    published: bool

    @property
    def images(self) -> list[str]:
        return images_of(self.settings)

    @property
    def data(self) -> Path:
        return Path(self.settings.site.data_dir)

    def docker(self, *arguments: str) -> str | None:
        """The output of a `docker` command on the stack's engine; None where it failed."""
        variables = {**os.environ, "DOCKER_HOST": self.settings.site.docker_host}
        done = _call(["docker", *arguments], variables)
        return done.stdout.strip() if done is not None and done.returncode == 0 else None


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--json", action="store_true", help="print a list of objects")


def run(arguments: argparse.Namespace) -> int:
    findings = examine(arguments.stack)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(each) for each in findings], indent=2))
    else:
        for each in findings:
            mark = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}[each.level]
            print(f"{mark} {each.check:12} {each.found}")
            if each.fix:
                print(f"{'':21} -> {each.fix}")
    works = not any(each.level == "problem" for each in findings)
    if not arguments.json:
        print(f"\n`make up` {'would work' if works else 'would fail: fix the problems first'}")
    return 0 if works else 1


def examine(stack: str) -> list[Finding]:
    """All findings, in the order in which a person would fix them."""
    if not (PROJECT / f"Pulumi.{stack}.yaml").exists():
        known = " or ".join(sorted(file.name.split(".")[1] for file in PROJECT.glob("Pulumi.*.yaml")))
        found = f"there is no Pulumi.{stack}.yaml"
        return [Finding(check="stack", level="problem", found=found, fix=f"choose another, STACK={known}")]
    settings, told = _settings(stack)
    checks = [partial(check, stack) for check in _CHECKS]
    if settings is not None:
        subject = Subject(stack=stack, settings=settings, published=published_pulumi() is not None)
        checks = [*(partial(check, subject) for check in _CHECKS_OF_SETTINGS), *checks]
    with concurrent.futures.ThreadPoolExecutor(len(checks)) as pool:
        examined = pool.map(lambda check: list(check()), checks)
        findings = [*_python(), *told, *(each for found in examined for each in found)]
    return [
        dataclasses.replace(each, found=commands.for_stack(each.found, stack), fix=commands.for_stack(each.fix, stack))
        for each in findings
    ]


def _call(command: list[str], variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command, cwd=CHECKOUT, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=CALL_TIMEOUT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None


def _python() -> Iterator[Finding]:
    running = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_MIN:
        yield Finding(check="python", level="problem", found=running, fix="install Python 3.11 or newer")
    else:
        yield Finding(check="python", level="ok", found=running)


def _settings(stack: str) -> tuple[Settings | None, list[Finding]]:
    """The settings, None where they have problems; and what was found."""
    try:
        settings = parse(configuration.values(stack), PROJECT)
    except SettingsError as error:
        pairs = [problem.rpartition(" run `")[::2] for problem in error.problems]
        return None, [
            Finding(check="settings", level="problem", found=text.rstrip(":"), fix=fix.rstrip("`"))
            for text, fix in pairs
        ]
    except PilotError as error:
        text, _, fix = str(error).rpartition("; ")
        return None, [Finding(check="settings", level="problem", found=text, fix=fix)]
    return settings, [Finding(check="settings", level="ok", found=f"Pulumi.yaml, Pulumi.{stack}.yaml")]


def _programs(subject: Subject) -> Iterator[Finding]:
    if subject.published:
        yield from _published()
    else:
        yield from _built(subject)


def _published() -> Iterator[Finding]:
    done, wanted = _call(["pulumi", "version"]), version("pulumi")
    found = done.stdout.strip().removeprefix("v") if done is not None else "does not answer"
    if found == wanted:
        yield Finding(check="pulumi", level="ok", found=f"{found}, published")
    else:
        fix = f"install Pulumi {wanted}: https://www.pulumi.com/docs/install/versions/"
        yield Finding(check="pulumi", level="warning", found=f"{found}, tested is {wanted}", fix=fix)
    if shutil.which("uv") is None:
        fix = "install uv: https://docs.astral.sh/uv/getting-started/installation/"
        yield Finding(check="uv", level="problem", found="not on PATH, and `pulumi install` needs it", fix=fix)


def _built(subject: Subject) -> Iterator[Finding]:
    builder = Builder(PIECES)
    images = any(each.startswith(BUILT_IMAGE_PREFIX) for each in subject.images)
    missing = []
    for name in builder.closure([*PROGRAM, *(IMAGES if images else ())]):
        try:
            # A piece that only others are made of may be gone.
            if not builder.cached(name):
                missing.append(name)
        except ToolchainError as error:
            text, _, fix = str(error).rpartition("; ")
            yield Finding(check="toolchain", level="problem", found=text, fix=fix)
    if not missing:
        yield Finding(check="toolchain", level="ok", found=f"built here, pulumi {version('pulumi')}")
        return
    # The engine has a check of its own, and mmdebstrap is installed by the builder where it may.
    if any("go" in PIECES[name].recipe.tools() for name in missing) and shutil.which("go") is None:
        yield Finding(check="toolchain", level="problem", found="`go` is not on PATH", fix=TOOL_ADVICE["go"])
    found = f"to be built: {', '.join(missing)}"
    yield Finding(
        check="toolchain",
        level="warning",
        found=found,
        fix="`make up` builds it, which takes a quarter to half an hour on two cores",
    )


def _engine(subject: Subject) -> Iterator[Finding]:
    socket_path = Path(subject.settings.site.docker_socket)
    start = "python3 -m toolchain engine --start"
    if shutil.which("docker") is None:
        yield Finding(check="docker", level="problem", found="`docker` is not installed", fix=start)
        return
    shown = subject.docker("version", "--format", "{{.Server.Version}}")
    if shown is None and socket_path.exists() and not os.access(socket_path, os.W_OK):
        group = grp.getgrgid(socket_path.stat().st_gid).gr_name
        fix = f"sudo usermod --append --groups {group} {getpass.getuser()}, then log in again"
        yield Finding(check="docker", level="problem", found=f"{socket_path} is for the group {group}", fix=fix)
        return
    if shown is None:
        yield Finding(check="docker", level="problem", found="no engine answers", fix=start)
        return
    if tuple(int(part) for part in shown.split("+")[0].split("-")[0].split(".")[:2]) < DOCKER_MIN:
        fix = "install Docker Engine 20.10 or newer"
        yield Finding(check="docker", level="problem", found=f"engine {shown} is too old", fix=fix)
    else:
        yield Finding(check="docker", level="ok", found=f"engine {shown}")
    if not socket_path.is_socket():
        fix = "pulumi config set dockerSocket <path>"
        yield Finding(check="socket", level="problem", found=f"{socket_path} is no socket", fix=fix)
    else:
        yield Finding(check="socket", level="ok", found=f"{socket_path}, group {socket_path.stat().st_gid}")


def _sudo(subject: Subject) -> Iterator[Finding]:
    # Engines of before say nothing of it, so their file is looked at as well.
    try:
        set_there = json.loads(DAEMON.read_text()).get("no-new-privileges") is True
    except (OSError, ValueError, AttributeError):
        set_there = False
    if set_there or "name=no-new-privileges" in (subject.docker("info", "--format", "{{.SecurityOptions}}") or ""):
        fix = f"take `no-new-privileges` out of {DAEMON} or dockerd's options, `sudo systemctl restart docker`"
        found = "dockerd runs with no-new-privileges: `sudo` fails in every workspace"
        yield Finding(check="sudo", level="warning", found=found, fix=fix)


def _prune(subject: Subject) -> Iterator[Finding]:
    listed = subject.docker("volume", "ls", "--format", "{{.Name}} {{.Labels}}") or ""
    if bare := [each.split()[0] for each in listed.splitlines() if BARE_HOME.match(each)]:
        found = f"no label is on {', '.join(bare)}, taken over or put back: with any filter a prune deletes parked ones"
        yield Finding(check="prune", level="ok", found=found, fix="keep copies: docs/runbooks.md, Back up")
    file = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    kept = f"label!={names.STACK_LABEL}"
    client = subject.docker("version", "--format", "{{.Client.Version}}")
    if client is None:
        return
    found = (
        "`docker volume prune --all`, and before Docker 23 any prune of volumes, deletes the homes of parked workspaces"
    )
    if int(client.split(".")[0]) >= PRUNE_FILTERS_LOST:
        fix = f"prune with `--filter {kept}`: `docker` {client} ignores labels in the `pruneFilters` of {file}"
        yield Finding(check="prune", level="ok", found=found, fix=fix)
        return
    try:
        filters = json.loads(file.read_text()).get("pruneFilters") or []
    except (OSError, ValueError, AttributeError):
        filters = []
    if kept not in filters:
        fix = f'add "pruneFilters": ["{kept}"] to {file}, which keeps them, and containers and networks of ours'
        yield Finding(check="prune", level="ok", found=found, fix=fix)


def _images(subject: Subject) -> Iterator[Finding]:
    shown = subject.docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}} {{.Repository}}@{{.Digest}}")
    if shown is None:
        return
    present = set(shown.split())
    missing = [image for image in subject.images if image.split("@")[0] not in present and image not in present]
    if not missing:
        yield Finding(check="images", level="ok", found="present")
    for image in missing:
        fix = "`make up` builds it" if image.startswith(BUILT_IMAGE_PREFIX) else f"docker pull {image}, or `make up`"
        yield Finding(check="images", level="warning", found=f"{image} is not there yet", fix=fix)


def _ports(subject: Subject) -> Iterator[Finding]:
    """Who else has one is what `up` refuses, below."""
    site = subject.settings.site
    name = site.coder_container
    for port in (site.port, *([site.tls_port] if subject.settings.tailnet.domain else [])):
        # Not by `docker ps`, which makes one range of ports that follow each other.
        if not is_taken(port):
            yield Finding(check="port", level="ok", found=f"{port} is free")
        elif any(each.endswith(f"-> 127.0.0.1:{port}") for each in (subject.docker("port", name) or "").splitlines()):
            yield Finding(check="port", level="ok", found=f"{port} is ours, {name} has it")


def _disk(subject: Subject) -> Iterator[Finding]:
    there = next(folder for folder in (subject.data, *subject.data.parents) if folder.exists())
    free_gb = _free_gb(there)
    found = f"{free_gb} GiB free for {subject.data}"
    level: Level = "problem" if free_gb < DISK_MIN_GB else "warning" if free_gb < DISK_GOOD_GB else "ok"
    root = Path(subject.docker("info", "--format", "{{.DockerRootDir}}") or there)
    fix = "" if level == "ok" else disk.advice(subject.data, root)
    yield Finding(check="disk", level=level, found=found, fix=fix)
    if root.exists() and root.stat().st_dev != there.stat().st_dev and (free_gb := _free_gb(root)) < DISK_GOOD_GB:
        level = "problem" if disk.full(root) else "warning"
        found = f"{free_gb} GiB free for Docker's images and volumes, {root}"
        yield Finding(check="docker disk", level=level, found=found, fix=disk.advice(root, root))
    if not os.access(there, os.W_OK | os.X_OK) and not (subject.data / "postgres").exists():
        fix = f"sudo install -d -o {getpass.getuser()} {subject.data}"
        yield Finding(check="data", level="problem", found=f"{there} is not yours to write", fix=fix)


def _free_gb(folder: Path) -> int:
    return shutil.disk_usage(folder).free // 2**30


def _memory(_: str) -> Iterator[Finding]:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free_mb = int(lines["MemAvailable"].split()[0]) // 1024
    if free_mb < MEMORY_GOOD_MB:
        fix = "stop a workspace in the dashboard, `make status` shows what each has"
        yield Finding(check="memory", level="warning", found=f"{free_mb} MiB available", fix=fix)
    else:
        yield Finding(check="memory", level="ok", found=f"{free_mb} MiB available")


def _inotify(_: str) -> Iterator[Finding]:
    found = {name: int((INOTIFY / name).read_text()) for name in INOTIFY_GOOD}
    told = ", ".join(f"fs.inotify.{name} is {value}" for name, value in found.items())
    if all(found[name] >= good for name, good in INOTIFY_GOOD.items()):
        yield Finding(check="inotify", level="ok", found=told)
        return
    lines = "".join(f"fs.inotify.{name} = {max(found[name], good)}\\n" for name, good in INOTIFY_GOOD.items())
    fix = f"printf '{lines}' | sudo tee /etc/sysctl.d/60-coder-pilot.conf && sudo sysctl --system"
    yield Finding(check="inotify", level="warning", found=f"{told}: too few for several editors", fix=fix)


def _tailnet(subject: Subject) -> Iterator[Finding]:
    settings = subject.settings
    if not settings.tailnet.enabled:
        yield Finding(check="tailnet", level="ok", found="off for this stack")
        return
    variables = {**os.environ, **settings.tailnet.environment(settings.site)}
    # The same look as in `up`: tailscaled, HTTPS, the name, our right to serve, the ports.
    command = ["python3", "-S", "-E", "-m", "stack.jobs.serve", "check", "--report", "--timeout-s", "2"]
    done = _call(command, variables)
    answer: dict[str, Any] = {}
    if done is not None and done.stdout.startswith("{"):
        answer = json.loads(done.stdout)
    if "url" in answer:
        yield Finding(check="tailnet", level="ok", found=str(answer["url"]))
    else:
        problem = str(answer.get("problem", "tailscale does not answer"))
        text, _, fix = problem.partition(": run " if ": run " in problem else ": ")
        # A command alone is shown without its quotes.
        alone = re.fullmatch("`([^`]*)`", fix)
        yield Finding(check="tailnet", level="problem", found=text, fix=alone[1] if alone else fix or START_TAILSCALED)


def _origins(subject: Subject) -> Iterator[Finding]:
    if not subject.settings.apps_domain:
        found = (
            "apps are paths of Coder's own address: a page that a workspace serves can do all that its viewer may do "
            "in Coder, as an owner all on this machine"
        )
        fix = "a domain of your own ends it, docs/domain.md; until then open no port of code that you do not trust"
        yield Finding(check="origins", level="warning", found=found, fix=fix)


def _certificate(subject: Subject) -> Iterator[Finding]:
    tailnet = subject.settings.tailnet
    if not tailnet.domain or not tailnet.certificate or not tailnet.key:
        return
    paths = tailnet.certificate, tailnet.key
    try:
        found = certificate.read(*paths, tailnet.domain)
    except engine.JobError as error:
        text, _, fix = str(error).partition(": run `" if ": run `" in str(error) else ": ")
        yield Finding(check="certificate", level="problem", found=text, fix=fix.rstrip("`"))
        return
    told = f"for {tailnet.domain} and all names below it, until {found.ends:%Y-%m-%d}"
    if found.is_late:
        fix = "renew it, see docs/domain.md, then `make up`"
        yield Finding(check="certificate", level="warning", found=f"{told}, which is soon", fix=fix)
    elif not certificate.is_trusted(*paths, tailnet.domain):
        fix = f"tlsCertificate has to be the file with the whole chain: `grep -c BEGIN {paths[0]}` says 2 or more"
        found_ = f"{told}; no CA of this machine leads to it"
        yield Finding(check="certificate", level="warning", found=found_, fix=fix)
    else:
        yield Finding(check="certificate", level="ok", found=told)


def _kubernetes(subject: Subject) -> Iterator[Finding]:
    config = subject.settings.kubernetes
    if not config.kubeconfig:
        return
    good = True
    try:
        if config.agent_address:
            check_address(config.agent_address)
        for prevents, found, fix in cluster.examine(config):
            good = False
            yield Finding(check="kubernetes", level="problem" if prevents else "warning", found=found, fix=fix)
    except (PilotError, engine.JobError) as error:
        good = False
        # `up` needs no answer from the cluster, but all that stands in its kubeconfig.
        away = isinstance(error, ClusterError) and error.status == 0
        yield Finding(check="kubernetes", level="warning" if away else "problem", found=str(error))
    if good:
        found = f"{config.namespace}, with the rights that workspaces need"
        yield Finding(check="kubernetes", level="ok", found=found)


def _health(subject: Subject) -> Iterator[Finding]:
    stack, running = subject.stack, ("ps", "--quiet", "--filter", f"name=^{subject.settings.site.coder_container}$")
    if not has_passphrase() or not _state(stack).exists() or not subject.docker(*running):
        return
    try:
        with admin(open_session(stack)) as api:
            troubles = health.troubles(api)
            proved = proof.told(subject.settings.site, proof.servers(subject.settings.site, api))
    except (PilotError, engine.JobError) as error:
        yield Finding(check="health", level="warning", found=str(error), fix="make up")
        return
    for each in troubles:
        yield Finding(check="health", level="warning", found=each, fix="docs/runbooks.md, Coder's health")
    if not troubles:
        yield Finding(check="health", level="ok", found="Coder's health: ok")
    found, _, fix = proved.partition(": ")
    yield Finding(check="proof", level="warning" if "BROKEN" in found else "ok", found=found, fix=fix)


def _declared(subject: Subject) -> Iterator[Finding]:
    select_engine(subject.settings)
    try:
        refused = engine_world.refusal(drift.wanted(subject.settings, subject.stack))
    except engine.JobError:
        return
    if refused:
        found, _, fix = refused.partition("nothing was touched. ")
        yield Finding(check="declared", level="problem", found=found.rstrip(" ;."), fix=fix)
        return
    if refused := account_check.refusal(subject.settings):
        found, _, fix = refused.partition(": run ")
        yield Finding(check="accounts", level="problem", found=found, fix=fix.strip("`"))
    for each in drift.differences(subject.settings, subject.stack):
        yield Finding(check="declared", level="warning", found=each, fix="make up")


def _workspaces(subject: Subject) -> Iterator[Finding]:
    select_engine(subject.settings)
    try:
        found = workspace_world.look(subject.settings.site.name, cluster.known(subject.settings.kubernetes))
    except engine.JobError:
        # Nothing runs, or not yet.
        return
    for told, fix in world.findings(found, subject.settings):
        alone = re.fullmatch("`([^`]*)`", fix)
        yield Finding(check="workspaces", level="warning", found=told, fix=alone[1] if alone else fix)
    if of_administrators := [each.title for each in found.workspaces if each.of_administrator]:
        told = f"{', '.join(of_administrators)} belong to an administrator: pages in them may be shown with his rights"
        fix = "docs/runbooks.md, From the administrator's account to one for every day"
        yield Finding(check="workspaces", level="warning", found=told, fix=fix)
    for owner in sorted({each.owner for each in found.workspaces if each.of_suspended}):
        stopped = ", ".join(each.name for each in found.workspaces if each.owner == owner)
        told = f"the account {owner} is suspended in Coder, which stops its workspaces and starts none: {stopped}"
        fix = "activate it in the dashboard, Admin settings, Users"
        if owner == subject.settings.member.username:
            fix = "make up"
        yield Finding(check="workspaces", level="warning", found=told, fix=fix)


def _keep_alive(subject: Subject) -> Iterator[Finding]:
    ours = Engine(host=subject.settings.site.docker_host)
    try:
        claude = census.claude(ours, census.running(ours, subject.settings.site.name))
    except EngineError:
        return
    if KEEP_ALIVE_REFUSED in claude.values():
        fix = "move deadlines in the dashboard; docs/claude.md tells what keep-alive does"
        yield Finding(check="keep-alive", level="warning", found=KEEP_ALIVE_REFUSED, fix=fix)


def _keeper(subject: Subject) -> Iterator[Finding]:
    site = subject.settings.site
    if wrong := keeper.wrong_reserve(subject.settings):
        found, _, fix = wrong.partition("; run `")
        yield Finding(check="keeper", level="problem", found=found, fix=fix.rstrip("`"))
    if not keeper.is_declared(site):
        return
    troubles = [each for each in keeper.troubles(subject.settings) if each != wrong]
    for each in troubles:
        found, _, fix = each.partition(": run `") if ": run `" in each else each.partition("; run `")
        advice = f"docker logs {site.keeper_container}, then docs/runbooks.md"
        yield Finding(check="keeper", level="warning", found=found, fix=fix.rstrip("`") or advice)
    if not troubles:
        yield Finding(check="keeper", level="ok", found=keeper.work_line(site))


def _passphrase(stack: str) -> Iterator[Finding]:
    chosen = passphrase_variable()
    file = Path(os.environ[chosen]) if chosen == PASSPHRASE_VARIABLES[1] else PASSPHRASE
    is_set = file.exists() and file.stat().st_size > 0
    if chosen == PASSPHRASE_VARIABLES[0]:
        yield Finding(check="passphrase", level="ok", found=f"in ${chosen}")
    elif is_set and file.stat().st_mode & 0o077:
        found = f"{file} can be read by others"
        yield Finding(check="passphrase", level="warning", found=found, fix=f"chmod 600 {file}")
    elif is_set:
        yield Finding(check="passphrase", level="ok", found=f"in {file}")
    elif chosen or with_state():
        fix = (
            f"put your copy of it there, mode 0600, or set ${PASSPHRASE_VARIABLES[1]}; without one, `{GIVE_UP}` "
            "keeps all but the state"
        )
        yield Finding(check="passphrase", level="problem", found=f"{file} is missing or empty", fix=fix)
    else:
        yield Finding(check="passphrase", level="ok", found=f"none yet, `make up` makes {file.name}")


def _secrets(stack: str) -> Iterator[Finding]:
    if not has_passphrase() or not _state(stack).exists():
        return
    variables, _ = programs()
    if shutil.which("pulumi", path=variables["PATH"]) is None:
        return
    if not passphrase_fits(stack, salted_file(stack), variables):
        found, _, fix = second_passphrase(stack, variables).partition(": ")
        found = found or "wrong: it does not open the secrets of the state"
        fix = fix or f"put your copy of the right one there; without one, `{GIVE_UP}` keeps all but the state"
        yield Finding(check="passphrase", level="problem", found=found, fix=fix)


def _state(stack: str) -> Path:
    return STACKS / f"{stack}.json"


def _stack(stack: str) -> Iterator[Finding]:
    file = _state(stack)
    if not file.exists():
        yield Finding(check="stack", level="ok", found=f"{stack}, not made yet")
        return
    try:
        latest = json.loads(file.read_text())["checkpoint"].get("latest") or {}
    except ValueError:
        fix = "make up: it takes the newest whole copy"
        yield Finding(check="stack", level="problem", found=f"{file} was cut short", fix=fix)
        return
    found = f"{stack}, {len(latest.get('resources') or [])} resources"
    repair = "make up"
    if pending := latest.get("pending_operations"):
        found += f", {len(pending)} interrupted in the middle"
        yield Finding(check="stack", level="warning", found=found, fix=repair)
    else:
        yield Finding(check="stack", level="ok", found=found)
    for lock in (STATE / ".pulumi" / "locks" / "organization" / names.PROJECT / stack).glob("*.json"):
        try:
            holder = json.loads(lock.read_text())
        except ValueError:
            yield Finding(check="lock", level="problem", found=f"{lock.name} was cut short", fix=repair)
            continue
        here = holder.get("hostname") == socket.gethostname()
        if here and not Path(f"/proc/{holder.get('pid')}").exists():
            found, fix = f"held by pulumi {holder.get('pid')}, which is gone", repair
        else:
            found = f"pulumi {holder.get('pid')} of {holder.get('username')}@{holder.get('hostname')} is at work"
            fix = "wait until it has ended"
        yield Finding(check="lock", level="problem", found=found, fix=fix)


_CHECKS_OF_SETTINGS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    _programs, _engine, _sudo, _prune, _images, _ports, _disk, _tailnet, _origins, _certificate, _kubernetes, _health,
    _declared, _workspaces, _keep_alive, _keeper,
)  # fmt: skip
_CHECKS: tuple[Callable[[str], Iterator[Finding]], ...] = (_memory, _inotify, _passphrase, _secrets, _stack)
"""What can be looked at without the settings too."""

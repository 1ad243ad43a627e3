"""Try the promises on the running pilot, with a workspace that is made for it and deleted again whatever happens.

Exit code 0: all were kept. The result stays in pilot.json with the servers' versions; --json is for programs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import secrets
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from pilot import editor, proof
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.editor import APP
from pilot.server import acting_for, admin, agents, changed_password, member
from pilot.session import Session, open_session
from pilot.status import table
from pilot.workspace import create
from stack.jobs import backups, disk, engine, pilot_file, upgrade_guard
from stack.jobs.coder import CALL_TIMEOUT_S, Api, ApiError
from stack.jobs.names import (
    DATABASE,
    LOOPBACK,
    POSTGRES_ALIAS,
    ROLE,
    STACK_LABEL,
    WORKSPACE_LABEL,
    home_volume,
)
from stack.settings import Site

TIMEOUT_S = 170
"""For all of it but the deletion at its end."""
STEP_TIMEOUT_S = 90
REPORT_TIMEOUT_S = 15
DELETION_TIMEOUT_S = 60
POLL_INTERVAL_S = 0.5
CONNECT_TIMEOUT_S = 3
POSTGRES_PORT = 5432
EXTENSION_MIN = timedelta(minutes=31)
"""Coder refuses a deadline that is nearer than 30 minutes."""
BUMP_SHARE = 0.05
"""Coder moves a deadline again only after this share of the bump has gone by (activitybump.sql)."""
FILE = "~/.coder-pilot-prove"
NO_APP_PORT = 9
"""Of a page that nobody serves: what it is answered comes from elsewhere."""
FORWARDED_HOST_CLOSED = (2, 34, 0)
"""From this Coder on the header counts from trusted proxies alone, of which the pilot has none."""
REPORT = (
    'printf \'header = "Coder-Session-Token: %s"\\n\' "$CODER_AGENT_TOKEN" |'
    " curl --config - --silent --show-error --fail --noproxy '*' --max-time 20"
    " --request PATCH --header 'Content-Type: application/json'"
    f' --data \'{{"app_slug":"{APP}","state":"working","message":"make prove","uri":""}}\''
    ' "${CODER_AGENT_URL%/}/api/v2/workspaceagents/me/app-status"'
)
"""As terraform-template/scripts/keep-alive.sh reports; the token passes through standard input."""


class BrokenError(Exception):
    """A promise is not kept; the message says what was seen instead."""


class KnownError(BrokenError):
    """A promise is not kept by this version of Coder, as its makers say; the message says which one does."""


class NotTriedError(Exception):
    """A promise cannot be tried here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one promise stood the trial."""

    promise: str
    kept: bool | None
    """None: it was not tried."""
    found: str
    took_s: float
    known: bool = False
    """Not kept by this version of Coder, as its makers say and the README does: nothing is wrong with the pilot."""


@dataclass(kw_only=True)
class Trial:
    """What the promises are tried on."""

    session: Session
    api: Api
    name: str
    deadline_s: float
    coder_version: str = ""
    workspace: dict[str, Any] = field(default_factory=dict)

    @property
    def site(self) -> Site:
        return self.session.settings.site

    @property
    def container(self) -> str:
        """The id of the workspace's container.

        Raises:
            BrokenError: there is none.
        """
        if not self.workspace:
            raise NotTriedError("there is no workspace")
        found = _containers(self.workspace["id"])
        if not found:
            raise BrokenError("the workspace has no container")
        return found[0]

    def inside(self, command: str) -> str:
        """What a command prints in the workspace.

        Raises:
            engine.JobError: it failed.
        """
        return engine.docker("exec", self.container, "bash", "-c", command)

    def until(self, check: Callable[[], bool], what: str, timeout_s: float = STEP_TIMEOUT_S) -> None:
        """Wait, no longer than the whole trial may take.

        Raises:
            BrokenError: `check` stayed false.
        """
        began_s = time.monotonic()
        end_s = min(began_s + timeout_s, self.deadline_s)
        while not check():
            if time.monotonic() > end_s:
                raise BrokenError(f"{what}: not within {time.monotonic() - began_s:.0f} s")
            time.sleep(POLL_INTERVAL_S)

    def read(self) -> dict[str, Any]:
        """The workspace as Coder tells it now."""
        answer = self.api.call("GET", f"/api/v2/workspaces/{self.workspace['id']}")
        if not isinstance(answer, dict):
            raise BrokenError("Coder answered with something else than a workspace")
        self.workspace = answer
        return answer

    def build(self, transition: str) -> None:
        """Ask for a build and wait until it has ended.

        Raises:
            BrokenError: it failed, or took too long.
        """
        self.api.call("POST", f"/api/v2/workspaces/{self.workspace['id']}/builds", {"transition": transition})
        self.until(self._built, f"the {transition}")

    def until_it_runs(self) -> None:
        """Wait for the agent and the editor's own health check.

        Raises:
            BrokenError: the build failed, or it took too long.
        """

        def runs() -> bool:
            return self._built() and all(
                agent["status"] == "connected"
                and all(app["health"] in ("healthy", "disabled") for app in agent["apps"])
                for agent in agents(self.workspace)
            )

        self.until(runs, "the editor")

    def _built(self) -> bool:
        job = self.read()["latest_build"]["job"]
        if job["status"] in ("failed", "canceled"):
            raise BrokenError(f"the build failed: {job.get('error') or job['status']}")
        return bool(job["status"] == "succeeded")


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--json", action="store_true", help="print an object")


def run(arguments: argparse.Namespace) -> int:
    session = open_session(arguments.stack)
    # As Ctrl-C: the workspace goes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    outcomes, versions = prove(session)
    passed = all(each.kept is not False or each.known for each in outcomes)
    if versions:
        proof.record(session.settings.site, versions, passed=passed)
    if arguments.json:
        print(json.dumps({**versions, "passed": passed, "promises": [dataclasses.asdict(each) for each in outcomes]}))
        return 0 if passed else 1
    mark = {True: "kept", False: "BROKEN", None: "not tried"}
    rows = [
        [each.promise, "OPEN" if each.known else mark[each.kept], f"{each.took_s:.1f} s", each.found]
        for each in outcomes
    ]
    print(table(["PROMISE", "", "TIME", "FOUND"], rows))
    on = f" on Coder {versions['coder']}, Postgres {versions['postgres']}" if versions else ""
    but = ", but for what is OPEN" if any(each.known for each in outcomes) else ""
    print(f"\n{'proved' if passed else 'NOT proved'}{on}{but}")
    return 0 if passed else 1


def prove(session: Session) -> tuple[list[Outcome], dict[str, str]]:
    """Try every promise; the outcomes, and the versions of the servers, {} where nobody could sign in."""
    began_s = time.monotonic()
    outcomes: list[Outcome] = []
    versions: dict[str, str] = {}
    try:
        with admin(session) as api:
            email = _sign_in(session)
            versions = proof.servers(session.settings.site, api)
            took_s = time.monotonic() - began_s
            outcomes.append(Outcome(promise=SIGN_IN, kept=True, found=f"as {email}", took_s=took_s))
            with (
                acting_for(member(session), api) as own,
                _throw_away(session, own, versions["coder"]) as trial,
            ):
                outcomes.extend(_tried(promise, attempt, trial) for promise, attempt in PROMISES.items())
    except (PilotError, engine.JobError) as error:
        promise = DELETION if outcomes else SIGN_IN
        took_s = time.monotonic() - began_s
        outcomes.append(Outcome(promise=promise, kept=False, found=str(error), took_s=took_s))
    return outcomes, versions


def _sign_in(session: Session) -> str:
    """Sign in as a person does; the address.

    Raises:
        PilotError: Coder refused the password.
        ApiError: Coder refused for another reason.
    """
    outputs = session.outputs(secret=True)
    credentials = {"email": outputs["email"], "password": outputs["password"]}
    try:
        answer = Api(url=session.settings.site.coder_url).call("POST", "/api/v2/users/login", credentials)
    except ApiError as error:
        if error.status != HTTPStatus.UNAUTHORIZED:
            raise
        raise PilotError(changed_password(outputs["email"])) from None
    token = str(answer["session_token"]) if isinstance(answer, dict) else ""
    Api(url=session.settings.site.coder_url, token=token).call("POST", "/api/v2/users/logout")
    return str(outputs["email"])


def _tried(promise: str, attempt: Callable[[Trial], str], trial: Trial) -> Outcome:
    print(f"{promise} …", file=sys.stderr, flush=True)
    began_s = time.monotonic()
    kept: bool | None
    known = False
    try:
        found, kept = attempt(trial), True
    except NotTriedError as error:
        found, kept = str(error), None
    except (BrokenError, ApiError, PilotError, engine.JobError, OSError) as error:
        # Docker's and Coder's words may have several lines.
        found, kept = " ".join(disk.explained(str(error), trial.site.data_dir).split()), False
        known = isinstance(error, KnownError)
    return Outcome(promise=promise, kept=kept, found=found, took_s=time.monotonic() - began_s, known=known)


@contextlib.contextmanager
def _throw_away(session: Session, api: Api, coder_version: str) -> Iterator[Trial]:
    """A trial whose workspace is deleted in the end.

    Raises:
        PilotError: it could not be deleted; with what is left.
    """
    name = f"prove-{secrets.token_hex(4)}"
    deadline_s = time.monotonic() + TIMEOUT_S
    trial = Trial(session=session, api=api, name=name, deadline_s=deadline_s, coder_version=coder_version)
    try:
        yield trial
    finally:
        if trial.workspace:
            _delete(trial)


def _delete(trial: Trial) -> None:
    identifier, left = trial.workspace["id"], f"the workspace {trial.name} is left: delete it in the dashboard"
    deadline_s = time.monotonic() + DELETION_TIMEOUT_S
    print(f"deleting {trial.name} …", file=sys.stderr, flush=True)
    asked = False
    while time.monotonic() < deadline_s:
        try:
            if not asked:
                trial.api.call("POST", f"/api/v2/workspaces/{identifier}/builds", {"transition": "delete"})
                asked = True
            build = trial.read()["latest_build"]
            if build["transition"] == "delete" and build["job"]["status"] in ("failed", "canceled"):
                raise PilotError(f"{left}: {build['job'].get('error')}")
        except ApiError as error:
            if asked and error.status in (404, 410):
                break
            # 409: a build is under way, which has to end first.
            if error.status != 409:
                raise PilotError(f"{left}: {error}") from None
        time.sleep(POLL_INTERVAL_S)
    else:
        raise PilotError(f"{left}: it was not deleted within {DELETION_TIMEOUT_S} s")
    if _containers(identifier) or engine.inspect(home_volume(identifier)):
        raise PilotError(f"{trial.name} was deleted, but its container or its home {home_volume(identifier)} is left")


def _containers(workspace_id: str) -> list[str]:
    return engine.docker("ps", "--all", "--quiet", "--filter", f"label={WORKSPACE_LABEL}={workspace_id}").split()


def _create(trial: Trial) -> str:
    trial.workspace = create(trial.api, trial.name, pilot_file.template_name(trial.site.data_dir))
    trial.until_it_runs()
    return trial.name


def _keep_alive(trial: Trial) -> str:
    bump = timedelta(milliseconds=trial.session.settings.workspaces.idle_bump_ms)
    container = trial.container
    now = datetime.now(UTC)
    if bump * (1 - BUMP_SHARE) > EXTENSION_MIN:
        # Else the deadline of a start is further away than a report would move it.
        wanted = {"deadline": (now + EXTENSION_MIN).isoformat()}
        trial.api.call("PUT", f"/api/v2/workspaces/{trial.workspace['id']}/extend", wanted)
    elif _deadline(trial) > now + bump:
        raise NotTriedError(f"idleBump is too short beside idleTtl: {bump}")
    before = _deadline(trial)

    def moved() -> bool:
        engine.docker("exec", container, "bash", "-c", REPORT)
        return _deadline(trial) > before

    trial.until(moved, "a report of work moved no deadline", REPORT_TIMEOUT_S)
    return f"by {(_deadline(trial) - before).total_seconds() / 60:.0f} min"


def _deadline(trial: Trial) -> datetime:
    told = trial.read()["latest_build"].get("deadline")
    if not told:
        raise BrokenError("the workspace has no deadline: autostop is off")
    return datetime.fromisoformat(told)


def _editor(trial: Trial) -> str:
    if not trial.workspace:
        raise NotTriedError("there is no workspace")
    trial.until(lambda: editor.answers(trial.api, trial.workspace), "the editor's answer", REPORT_TIMEOUT_S)
    return "through Coder"


def _no_other_app(trial: Trial) -> str:
    """Ask as a page of one app does that names another app of the same person in the header X-Forwarded-Host."""
    if not trial.workspace:
        raise NotTriedError("there is no workspace")
    target = editor.host(trial.api, trial.workspace)
    if not target:
        raise NotTriedError("apps are paths of Coder's address, where every page reads all: docs/domain.md")
    page = target.replace(f"{APP}--", f"{NO_APP_PORT}--main--", 1)
    # Else an answer that never comes would pass for a refusal.
    trial.until(lambda: _is_editor(trial, target), "the editor's answer", REPORT_TIMEOUT_S)
    if not _is_editor(trial, page, forwarded=target):
        return f"X-Forwarded-Host of {page} is not heeded"
    told = "a page reads every other app of the same person by the header X-Forwarded-Host (GHSA-5g4w-3vw9-478w)"
    version = upgrade_guard.parse(f"v{trial.coder_version}")
    if version and version < FORWARDED_HOST_CLOSED:
        fixed = ".".join(map(str, FORWARDED_HOST_CLOSED[:2]))
        raise KnownError(
            f"{told}; Coder {trial.coder_version} has this hole, {fixed} has not: `pulumi config set coderImage`"
        )
    raise BrokenError(told)


def _is_editor(trial: Trial, host: str, *, forwarded: str = "") -> bool:
    """Whether the editor's own words are the answer at this host."""
    headers = {"Host": host, "Coder-Session-Token": trial.api.token}
    if forwarded:
        headers["X-Forwarded-Host"] = forwarded
    asked = urllib.request.Request(f"{trial.api.url}/healthz", headers=headers)  # noqa: S310  http on loopback
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=CALL_TIMEOUT_S) as answer:
            return b'"lastHeartbeat"' in answer.read()
    except (urllib.error.URLError, TimeoutError):
        return False


def _kept_file(trial: Trial) -> str:
    word = secrets.token_hex(16)
    trial.inside(f"echo {word} >{FILE}")
    trial.build("stop")
    if _containers(trial.workspace["id"]):
        raise BrokenError("its container is there after the stop")
    trial.build("start")
    trial.until_it_runs()
    if trial.inside(f"cat {FILE}") != word:
        raise BrokenError("the file is another")
    return "the same"


def _no_postgres(trial: Trial) -> str:
    (record,) = engine.inspect(trial.site.postgres_container)
    addresses = [each["IPAddress"] for each in record["NetworkSettings"]["Networks"].values() if each["IPAddress"]]
    for target in (POSTGRES_ALIAS, trial.site.postgres_container, *addresses):
        command = (
            f"timeout {CONNECT_TIMEOUT_S} bash -c 'exec 3<>/dev/tcp/{target}/{POSTGRES_PORT}' 2>/dev/null && echo open"
        )
        if trial.inside(f"{command} || true") == "open":
            raise BrokenError(f"a workspace reaches {target}:{POSTGRES_PORT}")
    return f"{len(addresses) + 2} addresses tried"


def _ports(trial: Trial) -> str:
    found = engine.docker("ps", "--quiet", "--filter", f"label={STACK_LABEL}={trial.site.name}").split()
    allowed = {LOOPBACK, trial.session.settings.kubernetes.agent_address}
    published = []
    for each in engine.inspect(*found):
        name = each["Name"].removeprefix("/")
        for bindings in each["NetworkSettings"]["Ports"].values():
            for binding in bindings or []:
                published.append(f"{name} on {binding['HostIp']}:{binding['HostPort']}")
                if name != trial.site.coder_container or binding["HostIp"] not in allowed:
                    raise BrokenError(f"published: {published[-1]}")
    address, on_tailnet = _own_address(), trial.session.settings.tailnet.enabled
    if address not in {"", *allowed} and not on_tailnet and _is_open(address, trial.site.port):
        raise BrokenError(f"Coder answers on {address}:{trial.site.port}")
    return ", ".join(published)


def _own_address() -> str:
    """This machine's address on its network, "" where it has none; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def _is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _secure(trial: Trial) -> str:
    url = str(trial.session.outputs()["url"])
    parts = urlsplit(url)
    if parts.scheme != "https":
        if trial.session.settings.tailnet.enabled:
            raise BrokenError(f"the tailnet is on, and the address is {url}")
        if parts.hostname in (LOOPBACK, "localhost"):
            raise NotTriedError("the tailnet is off; a browser takes this machine's own address for secure")
        raise BrokenError(f"{url} is no secure context: webviews and the clipboard fail")
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=20) as answer:  # noqa: S310  https, see above
            answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise BrokenError(f"{url}: {error}") from None
    return f"{url}, its certificate verified"


def _backup(trial: Trial) -> str:
    site = trial.site
    # A backup of its own, so that none of the kept ones goes for it.
    with tempfile.TemporaryDirectory(dir=site.data_dir, prefix="prove-") as folder:
        dump = backups.dump(site.postgres_container, ROLE, DATABASE, folder, name="prove")
        return f"{dump.stat().st_size / 2**20:.1f} MiB, read back"


SIGN_IN = "sign-in"
DELETION = "the workspace goes"
PROMISES: dict[str, Callable[[Trial], str]] = {
    "a workspace is made": _create,
    "work moves its deadline": _keep_alive,
    "its editor answers": _editor,
    "no page reads another app": _no_other_app,
    "stop and start keep a file": _kept_file,
    "Postgres is out of its reach": _no_postgres,
    "only Coder listens, on loopback": _ports,
    "https in the browser": _secure,
    "a backup can be read": _backup,
}

"""The queries of the verdict, all of them GET requests, and their raw answers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from keeper.engine import Engine, EngineError, Usage
from pilot.verdict import samples
from pilot.verdict.builds import PRESSURE
from stack.jobs import backups, engine, names
from stack.jobs.coder import LIST_TIMEOUT_S, Api, ApiError
from stack.jobs.kubernetes import Cluster

PAGE: Final = 250
LOGS: Final = 50
"""The logs of at most this many failed builds are read, the newest first."""
JOBS: Final = 2000
"""Deleted workspaces are searched for in so many of the newest jobs, and in more as long as all are of the period."""
AT_ONCE: Final = 4
POSTGRES_DATA: Final = "/var/lib/postgresql/data"

T = TypeVar("T")


class VerdictError(Exception):
    """There is no verdict; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where to ask."""

    stack: str
    """The setting `name`: the prefix of the containers."""
    coder_url: str
    token: str = field(repr=False)
    docker_host: str
    data_directory: Path
    standalone: str = ""
    """The setting `standaloneContainer`."""
    cluster: Cluster | None = None
    namespace: str = ""
    """Where workspaces on the cluster are."""


@dataclass(frozen=True, kw_only=True)
class Raw:
    """The answers. Workspaces, builds, templates and users are Coder's own records; sizes are in bytes."""

    since: datetime
    until: datetime
    """When the queries were made; also the end of the period."""
    user: Mapping[str, Any]
    templates: list[dict[str, Any]]
    workspaces: list[dict[str, Any]]
    """Deleted ones too."""
    builds: Mapping[str, list[dict[str, Any]]]
    """By workspace id, oldest first; if possible from the last build before the period on. The reason of those that the
    keeper asked for is `PRESSURE`."""
    stops: Mapping[str, Mapping[str, Any]]
    """What the keeper noted of the stops that it asked for, by build id."""
    errors: Mapping[str, str]
    """By build id, for the newest failures: the first error in the build's log."""
    parameters: Mapping[str, dict[str, str]]
    """By workspace id: the parameters of its newest start."""
    samples: list[samples.Sample]
    standalone: str
    """The name of the container that the pilot is compared with, "" for none."""
    usage: Mapping[str, Usage] | None
    """Of Coder, Postgres and the keeper at `until`; None where the engine does not answer."""
    workspace_usage: Mapping[str, Usage] | None
    containers: list[dict[str, Any]] | None
    networks: list[dict[str, Any]] | None
    disk: Mapping[str, Any] | None
    data_bytes: int | None
    dumps: list[tuple[str, int]] | None
    """Names and sizes of the backups, oldest first."""
    queries: list[str]
    """Every query, with the time it took."""


@dataclass
class Asking:
    """Queries Coder and records the queries."""

    api: Api
    queries: list[str] = field(default_factory=list)

    def get(self, path: str) -> Any:
        """The answer's JSON.

        Raises:
            VerdictError: Coder does not answer or refuses.
        """
        begin_s = time.monotonic()
        try:
            answer = self.api.call("GET", path, timeout_s=LIST_TIMEOUT_S)
        except ApiError as error:
            raise VerdictError(_words(self.api.url, error)) from None
        self.note(f"GET {path}", begin_s)
        return answer

    def note(self, what: str, begin_s: float) -> None:
        self.queries.append(f"{what} ({(time.monotonic() - begin_s) * 1000:.0f} ms)")


def collect(site: Site, days: int, now: datetime | None = None) -> Raw:
    """Ask for everything about the last `days` days.

    Raises:
        VerdictError: Coder does not answer. What the engine does not answer is None.
    """
    until = now or datetime.now(UTC)
    since = until - timedelta(days=days)
    asking = Asking(Api(url=site.coder_url, token=site.token))
    # First, because it shows at once whether the token is valid.
    user = asking.get("/api/v2/users/me")
    docker = Engine(host=site.docker_host)

    def of_engine(what: str, ask: Callable[[], T]) -> T | None:
        begin_s = time.monotonic()
        try:
            answer = ask()
        except (EngineError, engine.JobError, OSError, ValueError, KeyError) as error:
            asking.queries.append(f"{what}: {error}")
            return None
        asking.note(what, begin_s)
        return answer

    with ThreadPoolExecutor(AT_ONCE) as pool:
        usage = pool.submit(of_engine, "Docker GET /containers/{id}/stats", lambda: samples.usages(docker, site.stack))
        disk = pool.submit(of_engine, "Docker GET /system/df", docker.disk)
        postgres = names.postgres_container(site.stack)
        data = pool.submit(of_engine, f"docker exec {postgres} du", lambda: _data_bytes(postgres))
        # In one answer, as stack/jobs/coder.py asks for it.
        found = list(asking.get("/api/v2/workspaces?limit=0")["workspaces"])
        found += _deleted(asking, user["organization_ids"], {each["id"] for each in found}, since)
        builds, parameters = _histories(asking, found, since)
        stops = samples.stops(site.data_directory)
        usages = usage.result()
        there = of_engine("the cluster's metrics API", lambda: _on_cluster(site)) if site.cluster else None
        return Raw(
            since=since,
            until=until,
            user=user,
            templates=asking.get("/api/v2/templates") or [],
            workspaces=found,
            builds={key: [_told(each, stops) for each in history] for key, history in builds.items()},
            stops=stops,
            errors=_errors(asking, builds, since),
            parameters=parameters,
            samples=samples.read(site.data_directory, since, until),
            standalone=site.standalone,
            usage=usages[0] if usages else None,
            workspace_usage={**(usages[1] if usages else {}), **(there or {})} if usages or there else None,
            containers=of_engine("Docker GET /containers/json", lambda: docker.containers(site.stack)),
            networks=of_engine("Docker GET /networks", lambda: docker.networks(site.stack)),
            disk=disk.result(),
            data_bytes=data.result(),
            dumps=of_engine("the folder of the backups", lambda: _dumps(site.data_directory)),
            queries=asking.queries,
        )


def _on_cluster(site: Site) -> dict[str, Usage]:
    return samples.usages_on_cluster(site.cluster, site.namespace) if site.cluster else {}


def _told(build: dict[str, Any], stops: Mapping[str, Any]) -> dict[str, Any]:
    """The build, with the reason that Coder does not know where the keeper asked for it."""
    return {**build, "reason": PRESSURE} if build["id"] in stops else build


def _deleted(asking: Asking, organizations: list[str], known: set[str], since: datetime) -> list[dict[str, Any]]:
    """The deleted workspaces: Coder 2.30 lists none, but the jobs that built them name them."""
    gone: dict[str, None] = {}
    for organization in organizations:
        for job in _jobs(asking, organization, since):
            workspace = job["metadata"].get("workspace_id")
            if workspace and workspace not in known and datetime.fromisoformat(job["created_at"]) >= since:
                gone[workspace] = None
    return [asking.get(f"/api/v2/workspaces/{each}?include_deleted=true") for each in gone]


def _jobs(asking: Asking, organization: str, since: datetime) -> list[dict[str, Any]]:
    """The newest jobs, those of the period at least; Coder has no pages of them."""
    limit = JOBS
    while True:
        jobs = asking.get(f"/api/v2/organizations/{organization}/provisionerjobs?limit={limit}") or []
        if len(jobs) < limit or datetime.fromisoformat(jobs[-1]["created_at"]) < since:
            return list(jobs)
        limit *= 4


def _histories(
    asking: Asking, workspaces: list[dict[str, Any]], since: datetime
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, dict[str, str]]]:
    # A pool of its own: the other one is waiting for the engine.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        histories = list(pool.map(lambda each: _builds(asking, each["id"], since), workspaces))
        builds = {each["id"]: history for each, history in zip(workspaces, histories, strict=True)}
        parameters = list(pool.map(lambda history: _parameters(asking, history), histories))
    return builds, {each["id"]: found for each, found in zip(workspaces, parameters, strict=True)}


def _builds(asking: Asking, workspace_id: str, since: datetime) -> list[dict[str, Any]]:
    """The builds of the period and at least one before it, which tells the state in which the period began."""
    found: list[dict[str, Any]] = []
    while True:
        page = asking.get(f"/api/v2/workspaces/{workspace_id}/builds?limit={PAGE}&offset={len(found)}") or []
        found += page
        if len(page) < PAGE or datetime.fromisoformat(page[-1]["created_at"]) < since:
            break
    return sorted(found, key=lambda each: int(each["build_number"]))


def _parameters(asking: Asking, history: list[dict[str, Any]]) -> dict[str, str]:
    starts = [each for each in history if each["transition"] == "start"] or history
    if not starts:
        return {}
    answer = asking.get(f"/api/v2/workspacebuilds/{starts[-1]['id']}/parameters") or []
    return {each["name"]: each["value"] for each in answer}


def _errors(asking: Asking, builds: Mapping[str, list[dict[str, Any]]], since: datetime) -> dict[str, str]:
    """What Terraform said: the job's own error is only an exit status."""
    failed = [
        each
        for history in builds.values()
        for each in history
        if each["job"]["status"] == "failed" and datetime.fromisoformat(each["created_at"]) >= since
    ]
    newest = sorted(failed, key=lambda each: str(each["created_at"]))[-LOGS:]
    found = {}
    for each in newest:
        log = asking.get(f"/api/v2/workspacebuilds/{each['id']}/logs") or []
        lines = [line["output"].strip() for line in log if line["log_level"] == "error"]
        if any(lines):
            found[each["id"]] = next(filter(None, lines))
    return found


def _data_bytes(container: str) -> int:
    # In Postgres's own container: nobody else may read the cluster's files.
    shown = engine.docker("exec", container, "du", "-s", "-B1", POSTGRES_DATA)
    return int(shown.split()[0])


def _dumps(directory: Path) -> list[tuple[str, int]]:
    found = []
    for file in sorted((directory / backups.FOLDER).iterdir()):
        # One that a backup prunes meanwhile is none.
        with contextlib.suppress(FileNotFoundError):
            if file.name.endswith(backups.DUMP_SUFFIX):
                found.append((file.name, file.stat().st_size))
    return found


def _words(url: str, error: ApiError) -> str:
    if error.status == 0:
        return (
            f"Coder at {url} does not answer, so there is no verdict: run `make up`, which starts what is stopped, "
            f"and try again ({error})"
        )
    if error.status in (401, 403):
        return f"Coder at {url} does not accept the token: run `make up`, which replaces it, and try again"
    return f"Coder at {url} refused a query: {error}"

"""Retire the pilot before Pulumi removes its containers: park every workspace and dump the database.

Coder stops the workspaces, all at once: their containers go, their home volumes stay. A workspace that Coder cannot
stop, because it is dead, no longer knows our token or fails at it, is found by its label and its container removed
all the same: Docker would not remove a network that something is attached to. What could not be done so far is a
warning and no failure, for a `destroy` that fails half-way helps nobody, and nothing that is skipped loses anything.
A database that cannot be dumped is a failure: Postgres and Coder stay, and the next `destroy` goes on from here. With
CODER_PILOT_WITHOUT_DUMP=yes in the environment of `pulumi destroy` there is no dump.

With PURGE=true Coder deletes the workspaces; their homes, whatever the pilot was called when they were made, and the
other volumes that carry our label go too. On a cluster it is by their workspaces' ids alone: another pilot of our name
may be in the same namespace. The data directory's turn comes when Postgres is gone, see data_directory.py. `list` only
prints what those are, one a line.
"""

from __future__ import annotations

import contextlib
import http
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from stack.jobs import adoption, backups, coder, data_directory, engine, kubernetes, names, postgres, program
from stack.jobs.kubernetes import Cluster, ClusterError
from stack.jobs.names import STACK_LABEL, WORKSPACE_LABEL

SETTLE_TIMEOUT_S = 300
"""Without any that ends; how long all of them take depends on their number."""
POLL_INTERVAL_S = 0.25
LOOKING_MAX = 0.2
"""The share of time that looking may take: with hundreds of workspaces Coder is busy for a second to answer."""
REMOVED_AT_ONCE = 16
WITHOUT_DUMP = "CODER_PILOT_WITHOUT_DUMP"
BUILDING = ("pending", "running", "canceling")
EVERY_WORKSPACE = f"""
SELECT workspaces.id, workspaces.deleted, {adoption.OURS_ON_CLUSTER}, users.username || '/' || workspaces.name
FROM workspaces JOIN users ON users.id = workspaces.owner_id JOIN templates ON templates.id = template_id ORDER BY 4;
"""  # noqa: S608  constants


def title(workspace: coder.Workspace) -> str:
    """owner/name."""
    return f"{workspace['owner_name']}/{workspace['name']}"


@dataclass
class Settling:
    """Brings every workspace to the end of `transition` ("stop" or "delete"); `step` is one look at all of them."""

    api: coder.Api
    transition: str
    ours: dict[str, str] = field(default_factory=dict)
    """Workspace id to the id of the build that we asked for."""
    failed: dict[str, str] = field(default_factory=dict)
    """Workspace's title to what Coder said."""
    cancelled: set[str] = field(default_factory=set)

    def step(self, found: list[coder.Workspace]) -> int:
        """Ask for what is still to be asked; how many workspaces are neither settled nor failed."""
        return sum(not self._one(each) for each in found)

    def _one(self, workspace: coder.Workspace) -> bool:
        build = workspace["latest_build"]
        status = build["job"]["status"]
        if title(workspace) in self.failed:
            return True
        if build["transition"] == self.transition:
            if status == "succeeded" or status in BUILDING:
                return bool(status == "succeeded")
            if build["id"] == self.ours.get(workspace["id"]):
                self.failed[title(workspace)] = build["job"].get("error") or status
                return True
        elif status in BUILDING:
            # Not waited for: a start may be in the middle of a long download.
            if build["id"] not in self.cancelled:
                self.cancelled.add(build["id"])
                self._call(workspace, "PATCH", f"/api/v2/workspacebuilds/{build['id']}/cancel")
            return False
        answer = self._call(
            workspace, "POST", f"/api/v2/workspaces/{workspace['id']}/builds", {"transition": self.transition}
        )
        if isinstance(answer, dict):
            self.ours[workspace["id"]] = str(answer["id"])
        return title(workspace) in self.failed

    def _call(self, workspace: coder.Workspace, method: str, path: str, body: object = None) -> object:
        try:
            return self.api.call(method, path, body)
        except coder.ApiError as error:
            # 409: somebody's build got in between, 412: it ended before it was cancelled; the next look sees which.
            if error.status not in (409, 412):
                self.failed[title(workspace)] = str(error)
            return None


def settle(
    api: coder.Api,
    transition: str,
    say: Callable[[str], None],
    *,
    timeout_s: float = SETTLE_TIMEOUT_S,
    interval_s: float = POLL_INTERVAL_S,
) -> list[str]:
    """Stop or delete all workspaces through Coder, side by side; what went wrong, one sentence each.

    Raises:
        coder.ApiError: Coder cannot be asked at all.
    """
    settling, looked_s = Settling(api, transition), 0.0
    found = coder.workspaces(api)
    if found:
        say(f"workspaces to {transition}: {', '.join(map(title, found))}")
    deadline_s, fewest = time.monotonic() + timeout_s, len(found)
    while left := settling.step(found):
        now_s = time.monotonic()
        if left < fewest:
            deadline_s, fewest = now_s + timeout_s, left
        if now_s > deadline_s:
            return [f"Coder did not {transition} every workspace: {left} left, and none ended for {timeout_s:.0f} s"]
        time.sleep(max(interval_s, looked_s * (1 / LOOKING_MAX - 1)))
        began_s = time.monotonic()
        found = coder.workspaces(api)
        looked_s = time.monotonic() - began_s
    return [f"Coder could not {transition} {name}: {reason}" for name, reason in settling.failed.items()]


def _through_coder(api: coder.Api, transition: str) -> list[str]:
    # Each stop is two seconds of Terraform's CPU time.
    with _all_cores(program.variable("CODER_CONTAINER")):
        try:
            return settle(api, transition, _say)
        except coder.ApiError as error:
            reason = "no longer knows our token" if error.status in (401, 403) else f"cannot be asked ({error})"
            return [f"Coder {reason}: no workspace was told to {transition}"]


@contextlib.contextmanager
def _all_cores(container: str) -> Iterator[None]:
    """Lift the container's limit of CPUs, where it has one: it may stay, if there can be no dump."""
    limit = 0.0
    with contextlib.suppress(engine.JobError, ValueError):
        limit = int(engine.docker("container", "inspect", "--format", "{{.HostConfig.NanoCpus}}", container)) / 1e9
    if limit:
        with contextlib.suppress(engine.JobError):
            engine.docker("update", "--cpus", str(os.cpu_count() or 1), container)
    yield
    if limit:
        with contextlib.suppress(engine.JobError):
            engine.docker("update", "--cpus", str(limit), container)


def _remove_stragglers(stack: str) -> list[str]:
    labels = (f"{STACK_LABEL}={stack}", WORKSPACE_LABEL)
    chosen = [word for each in labels for word in ("--filter", f"label={each}")]
    found = engine.docker("ps", "--all", *chosen, "--format", "{{.Names}}").splitlines()
    if not found:
        return []
    with ThreadPoolExecutor(REMOVED_AT_ONCE) as pool:
        list(pool.map(engine.remove_container, found))
    return [f"stopped without Coder: {', '.join(found)}; a start in Coder brings each back with its home"]


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The homes of the pilot's workspaces on a cluster."""

    cluster: Cluster
    namespace: str

    def has(self, workspace: str) -> bool:
        """Whether the workspace of that id has one.

        Raises:
            ClusterError: the cluster refused or did not answer.
        """
        try:
            found = self.cluster.call("GET", kubernetes.claim(self.namespace, workspace))
        except ClusterError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return False
            raise
        # One that is being deleted goes when its last pod has.
        return "deletionTimestamp" not in found["metadata"]

    def delete(self, workspace: str) -> None:
        """Delete it, with what runs on it.

        Raises:
            ClusterError: the cluster refused or did not answer.
        """
        for path in (kubernetes.deployment, kubernetes.start_secret, kubernetes.claim):
            try:
                self.cluster.call("DELETE", path(self.namespace, workspace))
            except ClusterError as error:
                if error.status != http.HTTPStatus.NOT_FOUND:
                    raise


@dataclass(frozen=True, kw_only=True)
class Doomed:
    """What a purge deletes."""

    titles: dict[str, str]
    """The title of each workspace that Coder has, by its id."""
    volumes: dict[str, str]
    """The id of the workspace whose home it is, "" for none, by the volume's name."""
    claims: dict[str, str] = field(default_factory=dict)
    """The same of the claims on a cluster."""
    untold: str = ""
    """Why the cluster did not tell which of those it has."""

    def lines(self) -> list[str]:
        """One line for each workspace with its home, and for each other volume and claim."""
        unsure = f", if it is there: {self.untold}" if self.untold else ""
        homes = [
            *((f"volume {name}", workspace) for name, workspace in self.volumes.items()),
            *((f"claim {name}{unsure}", workspace) for name, workspace in self.claims.items()),
        ]
        of_workspace = {workspace: home for home, workspace in homes}
        return [
            *(
                f"workspace {title}, {of_workspace.get(each, 'which has no home')}"
                for each, title in self.titles.items()
            ),
            *(home for home, workspace in homes if workspace not in self.titles),
        ]


def doomed(stack: str, claims: Claims | None = None) -> Doomed:
    """What a purge of the stack would delete now, of what people have; without the database, as labels tell.

    Raises:
        engine.JobError: the engine does not answer.
    """
    titles, ids, there = {}, set(), []
    with contextlib.suppress(engine.JobError):
        for row in postgres.query(names.postgres_container(stack), names.ROLE, names.DATABASE, EVERY_WORKSPACE):
            workspace, deleted, on_cluster, called = row.split("|", 3)
            ids.add(workspace)
            if deleted == "f":
                titles[workspace] = called
            if on_cluster == "t":
                there.append(workspace)
    form = f'{{{{.Name}}}}|{{{{.Label "{STACK_LABEL}"}}}}|{{{{.Label "{WORKSPACE_LABEL}"}}}}'
    volumes = {}
    homes = {names.home_volume(each): each for each in ids}
    for line in engine.docker("volume", "ls", "--format", form).splitlines():
        volume, of_stack, label = line.split("|", 2)
        workspace = homes.get(volume, label)
        # A home keeps the label of its first day; a workspace's id is nobody else's.
        if of_stack == stack or workspace in ids:
            volumes[volume] = workspace
    found, untold = _claims(claims, there) if claims else ([], "")
    return Doomed(
        titles=titles, volumes=volumes, claims={names.home_volume(each): each for each in found}, untold=untold
    )


def _claims(claims: Claims, workspaces: Sequence[str]) -> tuple[list[str], str]:
    """Those of the workspaces that have a claim, or may have one, and why that cannot be told."""
    try:
        return [each for each in workspaces if claims.has(each)], ""
    except ClusterError as error:
        return list(workspaces), str(error)


def _remove_claims(found: Doomed, claims: Claims) -> list[str]:
    """Delete those that Coder left; what went wrong, or was done without Coder."""
    deleted = []
    for claim, workspace in found.claims.items():
        try:
            if claims.has(workspace):
                claims.delete(workspace)
                deleted.append(claim)
        except ClusterError as error:
            rest = [each for each in found.claims if each not in deleted]
            return [f"the cluster could not be told to delete {', '.join(rest)} in {claims.namespace}: {error}"]
    return [f"claims deleted without Coder: {', '.join(deleted)}"] if deleted else []


def _remove_volumes(found: Doomed) -> list[str]:
    there = set(engine.docker("volume", "ls", "--quiet").splitlines())
    left = [each for each in found.volumes if each in there]
    if not left:
        return []
    try:
        engine.docker("volume", "rm", *left)
    except engine.JobError as error:
        return [str(error)]
    return [f"volumes deleted without Coder: {', '.join(left)}"]


def _remove_images(stack: str) -> None:
    found = engine.docker("image", "ls", "--quiet", "--filter", f"label={STACK_LABEL}={stack}").split()
    if found:
        engine.docker("image", "rm", "--force", *set(found))


def _dump() -> None:
    """Dump the database, if there is one.

    Raises:
        engine.JobError: it could not be dumped.
    """
    directory, container = program.variable("DATA_DIRECTORY"), program.variable("POSTGRES_CONTAINER")
    files = Path(directory) / data_directory.POSTGRES
    if os.environ.get(WITHOUT_DUMP) == "yes":
        _say(f"the database is not dumped, as you said; its files stay in {files}")
        return
    try:
        file = backups.dump(
            container, program.variable("ROLE"), program.variable("DATABASE"), directory, name=backups.timestamp()
        )
        backups.prune(directory, int(program.variable("BACKUPS_KEPT")))
    except engine.JobError as error:
        if not _has_database(files, container):
            _say("there is no database yet, and so no dump")
            return
        raise engine.JobError(
            f"the database was not dumped, so Postgres and Coder stay: {error}. Then run `make down` again, or "
            f"`make down WITHOUT_DUMP=yes`, which leaves the database's files alone in {files}"
        ) from None
    _say(f"dumped the database to {file}")


def _has_database(files: Path, container: str) -> bool:
    """Whether Postgres ever made one; yes where nobody can tell."""
    image = ""
    with contextlib.suppress(engine.JobError):
        image = engine.docker("container", "inspect", "--format", "{{.Image}}", container)
    try:
        return data_directory.data_major(files, image) is not None
    except (engine.JobError, OSError, ValueError):
        return True


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    # Where the program has a cluster and is to purge it.
    claims = (
        Claims(cluster=kubernetes.of_environment(), namespace=program.variable("NAMESPACE"))
        if "SERVER" in os.environ
        else None
    )
    if sys.argv[1:] == ["list"]:
        print("\n".join(doomed(program.variable("STACK"), claims).lines()))
        return
    api = coder.Api(url=program.variable("CODER_URL"), token=program.variable("CODER_TOKEN"))
    purge, stack = program.variable("PURGE") == "true", program.variable("STACK")
    # Before Coder deletes the workspaces: what was listed goes, and nothing else.
    found = doomed(stack, claims) if purge else None
    warnings = _through_coder(api, "delete" if purge else "stop")
    warnings += _remove_stragglers(stack)
    if found is not None:
        warnings += _remove_volumes(found)
        warnings += _remove_claims(found, claims) if claims else []
        _remove_images(stack)
    for each in warnings:
        _say(f"warning: {each}")
    if not purge:
        _dump()


if __name__ == "__main__":
    program.run(main)

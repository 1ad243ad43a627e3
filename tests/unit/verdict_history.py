"""Histories as Coder 2.30.0 answers them, and a server on loopback that does; the e2e test uses the real Coder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from keeper.engine import Usage
from pilot.verdict.collect import Raw
from pilot.verdict.samples import Sample
from tests.http_server import QuietHandler, serving

UNTIL = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOKEN = "the-token-of-this-test"
TEMPLATE = {"id": "t", "name": "project", "display_name": "", "activity_bump_ms": 3_600_000}


def at(days: float, hours: float = 0, minutes: float = 0) -> datetime:
    """So long before the end of the period."""
    return UNTIL - timedelta(days=days, hours=hours, minutes=minutes)


@dataclass
class Workspace:
    """One workspace and its builds; each method adds one."""

    name: str
    ttl_ms: int | None = 2 * 3_600_000
    memory_mb: str = "4096"
    template: str = "project"
    last_used_at: datetime = UNTIL
    deleted: bool = False
    builds: list[dict[str, Any]] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)
    """Of each of its builds: level and line."""

    @property
    def id(self) -> str:
        return f"id-{self.name}"

    def build(
        self, transition: str, created: datetime, *, seconds: float = 5, status: str = "succeeded",
        reason: str = "initiator", error: str = "", deadline: datetime | None = None, ready_s: float | None = None,
        reports: list[tuple[datetime, str, str]] | None = None, agent_restarted: bool = False, apps_moved: bool = False,
    ) -> Workspace:  # fmt: skip
        """A build that took `seconds`; with `ready_s`, an agent that was ready then."""
        done = created + timedelta(seconds=seconds)
        settled = status in ("succeeded", "failed", "canceled")
        ready = None if ready_s is None else created + timedelta(seconds=ready_s)
        statuses = [
            {"created_at": _text(time), "state": state, "message": message}
            # The server's order: newest first.
            for time, state, message in reversed(reports or [])
        ]
        agent = {
            "first_connected_at": ready and _text(ready),
            "started_at": ready and _text(ready + timedelta(hours=3 * agent_restarted)),
            "ready_at": ready and _text(ready + timedelta(hours=3 * agent_restarted)),
            # The next start takes over the apps of a session.
            "apps": [] if apps_moved else [{"slug": "code-server", "statuses": statuses}],
        }
        number = len(self.builds) + 1
        self.builds.append(
            {
                "id": f"{self.id}-{number}",
                "build_number": number,
                "transition": transition,
                "reason": reason,
                "created_at": _text(created),
                "updated_at": _text(done),
                "deadline": _text(deadline) if deadline else "0001-01-01T00:00:00Z",
                "job": {"status": status, "error": error, **({"completed_at": _text(done)} if settled else {})},
                "resources": [{"type": "docker_container", "agents": [agent]}, {"type": "docker_volume"}]
                if transition == "start"
                else [],
            }
        )
        return self

    def start(self, created: datetime, **more: Any) -> Workspace:
        return self.build("start", created, **{"ready_s": 10, **more})

    def stop(self, created: datetime, **more: Any) -> Workspace:
        return self.build("stop", created, **more)

    def autostop(self, created: datetime, **more: Any) -> Workspace:
        return self.build("stop", created, reason="autostop", **more)

    def record(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "owner_name": "admin",
            "name": self.name,
            "template_id": TEMPLATE["id"],
            "template_name": self.template,
            "template_display_name": "",
            "ttl_ms": self.ttl_ms,
            "last_used_at": _text(self.last_used_at),
        }


def _text(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def raw(*workspaces: Workspace, days: int = 7, **more: Any) -> Raw:
    """What `collect` would return; the engine has measured nothing unless `more` says so."""
    return Raw(
        **{  # type: ignore[arg-type]
            "since": at(days),
            "until": UNTIL,
            "user": {"created_at": _text(at(30))},
            "templates": [TEMPLATE],
            "workspaces": [each.record() for each in workspaces],
            "builds": {each.id: each.builds for each in workspaces},
            "stops": {},
            "standalone": "",
            "errors": {},
            "parameters": {each.id: {"memory_mb": each.memory_mb} for each in workspaces},
            "samples": [],
            "usage": {
                "coder": Usage(ram_mib=256, cpu_percent=2.0),
                "postgres": Usage(ram_mib=128, cpu_percent=1.0),
                "keeper": Usage(ram_mib=16, cpu_percent=0.1),
            },
            "workspace_usage": {},
            "containers": [],
            "networks": [],
            "disk": {"Images": [], "Volumes": []},
            "data_bytes": 1024**3,
            "dumps": [],
            "queries": [],
            **more,
        }
    )


def sample(
    time: datetime, *, answers: bool = True, uptime_s: float | None = None, claude: dict[str, str] | None = None,
    host_total_mib: float | None = None, **workspace_ram_mib: float,
) -> Sample:  # fmt: skip
    """A sample from a box that has been up for a long time."""
    return Sample(
        time=time,
        boot="one",
        uptime_s=(time - at(60)).total_seconds() if uptime_s is None else uptime_s,
        answers=answers,
        ram_mib={"keeper": 16.0, "postgres": 100.0, **({"coder": 300.0} if answers else {})},
        cpu_percent={"keeper": 0.1, "postgres": 1.0, **({"coder": 3.0} if answers else {})},
        workspace_ram_mib={f"id-{name}": value for name, value in workspace_ram_mib.items()},
        claude={f"id-{name}": value for name, value in (claude or {}).items()},
        host_total_mib=host_total_mib,
    )


@dataclass(kw_only=True)
class Server:
    """A Coder that knows some workspaces and records its requests."""

    url: str
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def serve(*workspaces: Workspace, born: datetime | None = None) -> Iterator[Server]:
    """Serve the workspaces on a free port of loopback, to requests with TOKEN."""
    served = Server(url="")
    known = {each.id: each for each in workspaces}

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # noqa: N802  http.server's name
            served.requests.append((self.command, self.path))
            if self.headers.get("Coder-Session-Token") != TOKEN:
                self.answer(401, {"message": "You are signed out or your session has expired."})
                return
            self.answer(200, self._found())

        def _found(self) -> object:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            offset = int(query.get("offset", ["0"])[0])
            # Of 0, as of none, there is no limit.
            end = offset + (int(query.get("limit", ["0"])[0]) or 1_000_000)
            match parts.path.removeprefix("/api/v2/").split("/"):
                case ["users", "me"]:
                    return {"created_at": _text(born or at(30)), "organization_ids": ["o"]}
                case ["templates"]:
                    return [TEMPLATE]
                case ["workspaces"]:
                    return {"workspaces": [each.record() for each in workspaces if not each.deleted][offset:end]}
                case ["organizations", "o", "provisionerjobs"]:
                    jobs = [{"created_at": _text(UNTIL), "metadata": {"template_name": "project"}}] + [
                        {"created_at": build["created_at"], "metadata": {"workspace_id": each.id}}
                        for each in workspaces
                        for build in each.builds
                    ]
                    return sorted(jobs, key=lambda job: str(job["created_at"]), reverse=True)[:end]
                case ["workspaces", key] if query.get("include_deleted") == ["true"]:
                    return known[key].record()
                case ["workspaces", key, "builds"]:
                    return known[key].builds[::-1][offset:end]
                case ["workspacebuilds", key, "logs"]:
                    log = known[key.rpartition("-")[0]].log
                    return [{"log_level": level, "output": output} for level, output in log]
                case ["workspacebuilds", key, "parameters"]:
                    return [{"name": "memory_mb", "value": known[key.rpartition("-")[0]].memory_mb}]
            raise AssertionError(self.path)

    with serving(Handler) as served.url:
        yield served

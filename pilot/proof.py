"""The last result of `make prove`, kept in pilot.json, and the versions of the servers that it is about."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime

from stack.jobs import pilot_file, postgres
from stack.jobs.coder import CALL_TIMEOUT_S, Api
from stack.jobs.names import DATABASE, ROLE
from stack.settings import Site


def servers(site: Site, api: Api) -> dict[str, str]:
    """The versions of both servers, as they tell them.

    Raises:
        engine.JobError: Postgres does not answer.
        ApiError: Coder does not.
    """
    return {"coder": coder_version(api) or "unknown", "postgres": postgres_version(site)}


def coder_version(api: Api, timeout_s: float = CALL_TIMEOUT_S) -> str:
    """What Coder says, without a token too; "" where it says none.

    Raises:
        ApiError: it does not answer.
    """
    told = api.call("GET", "/api/v2/buildinfo", timeout_s=timeout_s)
    version = str(told.get("version", "")) if isinstance(told, dict) else ""
    return version.removeprefix("v").partition("+")[0]


def postgres_version(site: Site) -> str:
    """What Postgres says.

    Raises:
        engine.JobError: it does not answer.
    """
    (version, *_) = postgres.query(site.postgres_container, ROLE, DATABASE, "SHOW server_version;")
    return version.partition(" ")[0]


def told(site: Site, versions: Mapping[str, str]) -> str:
    """Whether the promises were tried on these versions, and when."""
    last = pilot_file.read(site.data_dir).get("proved")
    on = f"Coder {versions['coder']}, Postgres {versions['postgres']}"
    if not isinstance(last, dict) or any(last.get(key) != value for key, value in versions.items()):
        return f"not proved on {on}: `make prove` tries every promise"
    day = str(last.get("at"))[:10]
    return f"proved on {on} on {day}" if last.get("passed") else f"a promise was BROKEN on {on} on {day}: `make prove`"


def record(site: Site, versions: Mapping[str, str], *, passed: bool) -> None:
    """Keep how the promises stood the trial."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):
        pilot_file.update(site.data_dir, proved={**versions, "at": now, "passed": passed})

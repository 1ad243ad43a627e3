"""Where a workspace's editor is: at a name of its own, or at a path of Coder's address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from pilot.server import agents
from stack.jobs.coder import Api, ApiError

APP = "code-server"


def address(api: Api, workspace: Mapping[str, Any], coder_url: str) -> str:
    """The URL that leads to the editor, by way of the log-in page where there is no session yet."""
    own = host(api, workspace)
    return f"{urlsplit(coder_url).scheme}://{own}/" if own else f"{coder_url.rstrip('/')}{_through_log_in(workspace)}"


def answers(api: Api, workspace: Mapping[str, Any]) -> bool:
    """Whether the editor answers through Coder."""
    own = host(api, workspace)
    try:
        # By Coder's own port, whatever the name resolves to here.
        api.call("GET", "/healthz" if own else f"{_path(workspace)}healthz", host=own)
    except ApiError:
        return False
    return True


def host(api: Api, workspace: Mapping[str, Any]) -> str:
    """The editor's own host, "" where apps are paths: what Coder does now, whatever the workspace's build knew."""
    answer = api.call("GET", "/api/v2/applications/host")
    pattern = str(answer.get("host", "")) if isinstance(answer, dict) else ""
    return pattern.replace("*", f"{APP}--{workspace['name']}--{workspace['owner_name']}").lower()


def _path(workspace: Mapping[str, Any]) -> str:
    (agent,) = agents(workspace)
    return f"/@{quote(workspace['owner_name'])}/{quote(workspace['name'])}.{quote(agent['name'])}/apps/{APP}/"


def _through_log_in(workspace: Mapping[str, Any]) -> str:
    """The path that leads to the editor's.

    After a log-in the dashboard asks the server for addresses of its API alone; any other it takes for a page of its
    own, and says 404 for an app (LoginPage.tsx, Coder 2.30.0 and later). A browser resolves the dots after that choice.
    """
    return f"/login?redirect=/api/v2/../..{_path(workspace)}"

"""Hold Coder's template to what is declared, write it beside the data, and bring a new idle time to the workspaces that
have the earlier one; archive what no workspace uses any more.

The provider compares with Pulumi's state, and so does not see what somebody changed in the dashboard. A later state
adopts the template by its id, see stack/template.py. Coder gives a template's idle time to new workspaces alone; one
that its owner gave another time keeps that.
"""

from __future__ import annotations

import json
import os
from typing import Any

from stack.jobs import coder, engine, pilot_file, program

# Coder takes a missing one of these for false or zero.
KEPT = (
    "allow_user_autostart", "allow_user_autostop", "failure_ttl_ms",
    "time_til_dormant_ms", "time_til_dormant_autodelete_ms", "require_active_version", "use_classic_parameter_flow",
)  # fmt: skip


def _hold(api: coder.Api, template_id: str, declared: dict[str, Any]) -> None:
    live = api.call("GET", f"/api/v2/templates/{template_id}")
    if not isinstance(live, dict):
        raise engine.JobError("Coder answered the question for the template with something else than an object")
    fields = {key: value for key, value in declared.items() if key != "active_version_id"}
    if live["active_version_id"] != declared["active_version_id"]:
        api.call("PATCH", f"/api/v2/templates/{template_id}/versions", {"id": declared["active_version_id"]})
    if any(live.get(key) != value for key, value in fields.items()):
        kept = {key: live[key] for key in KEPT if key in live}
        api.call("PATCH", f"/api/v2/templates/{template_id}", {**kept, **fields})


def _archive(api: coder.Api, template_id: str) -> None:
    """Archive what no workspace uses: nobody shall create from it, with other limits and a key that was removed."""
    api.call("POST", f"/api/v2/templates/{template_id}/versions/archive", {"all": True})


def _bring(api: coder.Api, template_id: str, before_ms: int, now_ms: int) -> None:
    for workspace in coder.workspaces(api):
        # None of its own, and none of an adopted template: these two are the same.
        if workspace["template_id"] == template_id and (workspace.get("ttl_ms") or 0) == before_ms:
            api.call("PUT", f"/api/v2/workspaces/{workspace['id']}/ttl", {"ttl_ms": now_ms})


def main() -> None:
    directory, template_id = program.variable("DATA_DIRECTORY"), program.variable("TEMPLATE_ID")
    declared = json.loads(program.variable("TEMPLATE"))
    # Of the template for a cluster; the other one's is not set.
    prefix = os.environ.get("RECORD_PREFIX", "")
    before_ms, now_ms = pilot_file.default_ttl_ms(directory, prefix), declared["default_ttl_ms"]
    api = coder.Api(url=program.variable("CODER_URL"), token=program.variable("CODER_TOKEN"))
    try:
        _hold(api, template_id, declared)
        if before_ms is not None and before_ms != now_ms:
            _bring(api, template_id, before_ms, now_ms)
        _archive(api, template_id)
    except coder.ApiError as error:
        raise engine.JobError(f"the template, or its idle time in a workspace, could not be set: {error}") from None
    record = {"template_id": template_id, "default_ttl_ms": now_ms, "template": declared}
    pilot_file.update(directory, **{f"{prefix}{key}": value for key, value in record.items()})


if __name__ == "__main__":
    program.run(main)

"""Write the template beside the data, and bring a new idle time to the workspaces that have the earlier one.

A later state adopts the template by its id, see stack/template.py. Coder gives a template's idle time to new workspaces
alone; one that its owner gave another time keeps that.
"""

from __future__ import annotations

from stack.jobs import coder, engine, pilot_file, program


def _bring(api: coder.Api, template_id: str, before_ms: int, now_ms: int) -> None:
    for workspace in coder.workspaces(api):
        if workspace["template_id"] == template_id and workspace.get("ttl_ms") == before_ms:
            api.call("PUT", f"/api/v2/workspaces/{workspace['id']}/ttl", {"ttl_ms": now_ms})


def main() -> None:
    directory, template_id = program.variable("DATA_DIRECTORY"), program.variable("TEMPLATE_ID")
    now_ms = int(program.variable("DEFAULT_TTL_MS"))
    before_ms = pilot_file.default_ttl_ms(directory)
    if before_ms is not None and before_ms != now_ms:
        api = coder.Api(url=program.variable("CODER_URL"), token=program.variable("CODER_TOKEN"))
        try:
            _bring(api, template_id, before_ms, now_ms)
        except coder.ApiError as error:
            raise engine.JobError(f"the new idle time did not reach every workspace: {error}") from None
    pilot_file.update(directory, template_id=template_id, default_ttl_ms=now_ms)


if __name__ == "__main__":
    program.run(main)

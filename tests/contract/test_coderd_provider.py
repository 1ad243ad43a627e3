"""The stand-in for coder/coderd does what the pilot relies on in the published provider: it is loaded by the real
engine through the real dynamic bridge with the generated SDK, and drives a real Coder server.

Most of it changes with the stand-in alone, and is a drill."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import secrets
import socket
import subprocess
import tempfile
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi_coderd
import pytest
from coder_fixture import CoderServer, until

PULUMI_TIMEOUT_S = 180
PROVIDER_EXIT_S = 20.0

TEMPLATE = """\
variable "greeting" {
  type    = string
  default = "hello"
}

variable "password" {
  type      = string
  default   = ""
  sensitive = true
}

output "answer" {
  value     = "${var.greeting}${var.password}"
  sensitive = true
}
"""
BROKEN_TEMPLATE = f"""{TEMPLATE}
output "missing" {{
  value = file("${{path.module}}/no-such-file")
}}
"""

# Reads its arguments from a file, so that every test runs the same program.
PROGRAM = """\
import json
import os
from pathlib import Path

import pulumi
import pulumi_coderd as coderd

arguments = json.loads(Path("arguments.json").read_text())
provider = {
    name: pulumi.Output.from_input(pulumi.output.UNKNOWN) if value == "UNKNOWN" else value
    for name, value in arguments["provider"].items()
}
if "token" in provider:
    provider["token"] = pulumi.Output.secret(provider["token"])
template = arguments["template"]
template["versions"] = [
    coderd.TemplateVersionArgs(**{
        **version,
        "tf_vars": [
            coderd.TemplateVersionTfVarArgs(name=name, value=pulumi.Output.secret(value))
            for name, value in version.get("tf_vars", {}).items()
        ],
    })
    for version in template["versions"]
]
coder = coderd.Provider("coder", **provider)
made = coderd.Template(
    "template",
    **template,
    opts=pulumi.ResourceOptions(provider=coder, import_=arguments.get("import")),
)
pulumi.export("id", made.id)
pulumi.export("versions", made.versions)
"""


class Project:
    """A Pulumi project with one provider and one template, in a directory and a state of its own."""

    def __init__(self, directory: Path, server: CoderServer) -> None:
        self.directory = directory
        self.server = server
        self.name = f"t-{secrets.token_hex(4)}"
        self.provider: dict[str, Any] = {"url": server.url, "token": server.token}
        self.arguments: dict[str, Any] = {}
        self.version: dict[str, Any] = {"directory": "template", "active": True}
        self.imported: str | None = None
        self.environment: dict[str, str] = {}
        (directory / "Pulumi.yaml").write_text("name: coderd-contract\nruntime: python\n")
        (directory / "__main__.py").write_text(PROGRAM)
        (directory / "state").mkdir()
        (directory / "template").mkdir()
        self.main_tf = directory / "template" / "main.tf"
        self.main_tf.write_text(TEMPLATE)
        self.pulumi("stack", "init", "test")

    def pulumi(self, *command: str, fails: bool = False) -> str:
        """Everything that the command printed; it must fail exactly when `fails`."""
        versions = self.arguments.get("versions", [self.version])
        arguments = {
            "provider": self.provider,
            "template": {"name": self.name, **self.arguments, "versions": versions},
            "import": self.imported,
        }
        (self.directory / "arguments.json").write_text(json.dumps(arguments))
        done = subprocess.run(
            ["pulumi", *command, "--non-interactive", "--color", "never"],
            cwd=self.directory, capture_output=True, text=True, check=False, timeout=PULUMI_TIMEOUT_S,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("CODER_")},
                "PULUMI_BACKEND_URL": f"file://{self.directory}/state",
                "PULUMI_CONFIG_PASSPHRASE": "contract",
                **self.environment,
            },
        )  # fmt: skip
        printed = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, printed
        return printed

    def up(self, *flags: str, fails: bool = False) -> str:
        return self.pulumi("up", "--yes", "--skip-preview", *flags, fails=fails)

    def state(self) -> str:
        (file,) = (self.directory / "state" / ".pulumi" / "stacks").rglob("test.json")
        return file.read_text()

    def outputs(self) -> dict[str, Any]:
        listed: dict[str, Any] = json.loads(self.pulumi("stack", "output", "--json", "--show-secrets"))
        return listed

    def versions(self) -> list[dict[str, Any]]:
        """The template's versions on the server, oldest first."""
        return self.server.versions(self.name)

    def active_version(self) -> str:
        return str(self.server.template(self.name)["active_version_id"])


@pytest.fixture
def project(tmp_path: Path, coder_server: CoderServer) -> Project:
    return Project(tmp_path, coder_server)


@pytest.fixture
def template(project: Project) -> Project:
    """A project that is up."""
    project.up()
    return project


def _unused_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# The schema


def test_the_sdk_takes_every_argument_that_the_published_one_takes() -> None:
    def parameters(of: Callable[..., Any]) -> set[str]:
        return set(inspect.signature(of).parameters) - {"__self__"}

    assert parameters(pulumi_coderd.TemplateArgs.__init__) == {
        "acl", "activity_bump_ms", "allow_user_auto_start", "allow_user_auto_stop", "allow_user_cancel_workspace_jobs",
        "auto_start_permitted_days_of_weeks", "auto_stop_requirement", "cors_behavior", "default_ttl_ms",
        "deprecation_message", "description", "display_name", "failure_ttl_ms", "icon", "max_port_share_level", "name",
        "organization_id", "require_active_version", "time_til_dormant_autodelete_ms", "time_til_dormant_ms",
        "use_classic_parameter_flow", "versions",
    }  # fmt: skip
    assert parameters(pulumi_coderd.TemplateVersionArgs.__init__) == {
        "active", "directory", "directory_hash", "id", "message", "name", "provisioner_tags", "tf_vars",
    }  # fmt: skip
    assert parameters(pulumi_coderd.ProviderArgs.__init__) == {"url", "token", "default_organization_id"}
    assert parameters(pulumi_coderd.TemplateAclArgs.__init__) == {"users", "groups"}
    assert parameters(pulumi_coderd.TemplateAutoStopRequirementArgs.__init__) == {"days_of_weeks", "weeks"}


# The provider's configuration


def test_a_preview_with_an_unknown_url_and_token_contacts_nobody(project: Project) -> None:
    project.provider = {"url": "UNKNOWN", "token": "UNKNOWN"}
    project.environment = {"CODER_URL": _unused_url(), "CODER_SESSION_TOKEN": "junk"}
    assert re.search(r"coderd:index:Template +template +create", project.pulumi("preview"))


@pytest.mark.drill
def test_a_refused_token_is_named_with_url_and_status_but_not_printed(project: Project) -> None:
    project.provider["token"] = "wrong-token-0123456789"
    printed = project.up(fails=True)
    assert f"Coder at {project.server.url} refused the token (status 401)" in printed
    assert "wrong-token-0123456789" not in printed


@pytest.mark.drill
def test_a_server_that_does_not_answer_is_named(project: Project) -> None:
    project.provider["url"] = _unused_url()
    printed = project.up(fails=True)
    assert f"Coder at {project.provider['url']} does not answer" in printed
    assert project.server.token not in printed


@pytest.mark.drill
def test_an_empty_url_and_token_come_from_the_environment(project: Project) -> None:
    project.provider = {}
    assert "url or $CODER_URL is required" in project.up(fails=True)
    project.environment = {"CODER_URL": project.server.url, "CODER_SESSION_TOKEN": project.server.token}
    project.up()
    assert len(project.versions()) == 1


@pytest.mark.drill
def test_explicit_values_win_over_junk_in_the_environment(project: Project) -> None:
    project.environment = {"CODER_URL": _unused_url(), "CODER_SESSION_TOKEN": "junk"}
    project.up()
    assert len(project.versions()) == 1


@pytest.mark.drill
def test_no_provider_process_and_no_socket_outlives_the_command(project: Project) -> None:
    def running() -> str:
        listed = subprocess.run(
            ["pgrep", "--full", "terraform-provider-coderd"], capture_output=True, text=True, check=False, timeout=10
        )
        # Ours are known by their directory: other projects may run at the same time.
        return "".join(pid for pid in listed.stdout.split() if _directory_of(pid) == str(project.directory))

    # Not below tmp_path: a socket's path has at most 107 characters.
    with tempfile.TemporaryDirectory() as temporary:
        project.environment = {"TMPDIR": temporary}
        project.up()
        until("every provider of this project has ended", lambda: "" if running() else "ended", PROVIDER_EXIT_S)
        assert [each for each in Path(temporary).rglob("*") if each.is_socket()] == []


def _directory_of(pid: str) -> str:
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""


# Versions


def test_a_new_template_has_one_active_version_with_the_hash_of_its_directory(project: Project) -> None:
    (project.directory / "template" / "README.md").write_text("# A template\n")
    project.arguments = {"default_ttl_ms": 7_200_000, "activity_bump_ms": 1_800_000, "description": "for tests"}
    project.up()
    (version,) = project.versions()
    (output,) = project.outputs()["versions"]
    assert project.active_version() == version["id"] == output["id"]
    assert output["directoryHash"] == hashlib.sha256(f"# A template\n{TEMPLATE}".encode()).hexdigest()
    made = project.server.template(project.name)
    assert (made["default_ttl_ms"], made["activity_bump_ms"], made["description"], made["display_name"]) == (
        7_200_000, 1_800_000, "for tests", project.name,
    )  # fmt: skip


def test_without_a_change_there_is_no_update_and_no_new_version(template: Project) -> None:
    template.up("--expect-no-changes")
    template.up("--refresh", "--expect-no-changes")
    template.pulumi("preview", "--refresh", "--expect-no-changes")
    assert len(template.versions()) == 1


def test_changed_contents_make_exactly_one_new_version_and_it_is_the_active_one(template: Project) -> None:
    for edit in (1, 2):
        template.main_tf.write_text(f"{TEMPLATE}# edit {edit}\n")
        template.up()
        template.up("--expect-no-changes")
        versions = template.versions()
        assert len(versions) == 1 + edit
        assert template.active_version() == versions[-1]["id"] == template.outputs()["versions"][0]["id"]


@pytest.mark.drill
def test_changed_variables_make_exactly_one_new_version_and_it_is_the_active_one(template: Project) -> None:
    for count, variables in enumerate(({"greeting": "hi"}, {"greeting": "hey"}, {}), start=2):
        template.version["tf_vars"] = variables
        template.up()
        template.up("--expect-no-changes")
        versions = template.versions()
        assert len(versions) == count
        assert template.active_version() == versions[-1]["id"]


@pytest.mark.drill
def test_another_setting_makes_no_new_version(template: Project) -> None:
    template.arguments = {"default_ttl_ms": 3_600_000, "display_name": "For tests"}
    template.up()
    template.up("--expect-no-changes")
    made = template.server.template(template.name)
    assert (made["default_ttl_ms"], made["display_name"]) == (3_600_000, "For tests")
    assert len(template.versions()) == 1


@pytest.mark.drill
def test_of_two_versions_the_one_that_the_program_names_is_active(project: Project) -> None:
    first, second = {"directory": "template", "name": "one"}, {"directory": "other", "name": "two"}
    (project.directory / "other").mkdir()
    (project.directory / "other" / "main.tf").write_text(f"{TEMPLATE}# other\n")
    project.arguments["versions"] = [{**first, "active": False}, {**second, "active": True}]
    project.up()
    names = {version["id"]: version["name"] for version in project.versions()}
    assert names[project.active_version()] == "two"
    project.arguments["versions"] = [{**first, "active": True}, {**second, "active": False}]
    project.up()
    assert names[project.active_version()] == "one"
    project.arguments["versions"] = [{**first, "active": True}, {**second, "active": True}]
    assert "only one version can have active = true" in project.up(fails=True)
    assert len(project.versions()) == 2


@pytest.mark.drill
def test_a_version_name_used_for_other_files_is_refused_and_a_new_name_passes(template: Project) -> None:
    template.version["name"] = "v1"
    template.up()
    assert [version["name"] for version in template.versions()] == ["v1"]
    template.main_tf.write_text(f"{TEMPLATE}# edited\n")
    printed = template.up(fails=True)
    assert 'A template version with name "v1" already exists' in printed
    assert "name has to change whenever its directory's contents" in printed
    template.version["name"] = "v2"
    template.up()
    assert [version["name"] for version in template.versions()] == ["v1", "v2"]


def test_a_failed_import_shows_the_provisioners_log_and_leaves_the_old_version_active(template: Project) -> None:
    old = template.active_version()
    template.main_tf.write_text(BROKEN_TEMPLATE)
    template.arguments = {"default_ttl_ms": 3_600_000}
    printed = template.up(fails=True)
    assert "no-such-file" in printed
    assert "on main.tf line" in printed
    assert template.active_version() == old
    template.main_tf.write_text(f"{TEMPLATE}# fixed\n")
    template.up()
    assert template.active_version() not in (old, "")


def test_secret_variables_are_neither_printed_nor_in_the_state(project: Project) -> None:
    secret = f"hunter-{secrets.token_hex(8)}"
    project.version["tf_vars"] = {"greeting": "hi", "password": secret}
    printed = [project.up(), project.pulumi("preview", "--refresh", "--diff")]
    project.main_tf.write_text(f"{TEMPLATE}# edited\n")
    printed += [project.pulumi("preview", "--diff"), project.up("--diff")]
    project.main_tf.write_text(BROKEN_TEMPLATE)
    printed.append(project.up("--diff", fails=True))
    assert secret not in "\n".join(printed)
    assert secret not in project.state()
    assert project.server.token not in "\n".join(printed) + project.state()
    variables = project.server.api("GET", f"/api/v2/templateversions/{project.active_version()}/variables")
    assert {variable["name"]: variable["sensitive"] for variable in variables} == {"greeting": False, "password": True}


# What the server refuses


@pytest.mark.drill
def test_an_existing_name_is_refused(template: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Project(tmp_path_factory.mktemp("other"), template.server)
    other.name = template.name
    printed = other.up(fails=True)
    assert "status code 409" in printed
    assert f'Template with name "{template.name}" already exists' in printed


@pytest.mark.drill
def test_a_template_with_workspaces_is_not_deleted(template: Project) -> None:
    workspace = f"w-{secrets.token_hex(4)}"
    template.server.build_workspace(template.name, workspace, "start")
    printed = template.pulumi("destroy", "--yes", "--skip-preview", fails=True)
    assert "status code 400" in printed
    assert "All workspaces must be deleted before a template can be removed" in printed
    template.server.build_workspace(template.name, workspace, "delete")
    template.pulumi("destroy", "--yes", "--skip-preview")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        template.server.template(template.name)


@pytest.mark.drill
def test_licensed_fields_are_refused_by_name(project: Project) -> None:
    project.arguments = {
        "acl": {"users": [], "groups": []},
        "auto_stop_requirement": {"days_of_weeks": ["monday"], "weeks": 1},
        "auto_start_permitted_days_of_weeks": ["monday"],
        "allow_user_auto_start": False,
        "allow_user_auto_stop": False,
        "failure_ttl_ms": 1000,
        "time_til_dormant_ms": 1000,
        "time_til_dormant_autodelete_ms": 1000,
        "require_active_version": True,
        "max_port_share_level": "owner",
    }
    fields = ", ".join(project.arguments).replace("days_of_weeks", "days_of_week")
    assert f"not entitled to use {fields}:" in project.up(fails=True)


# Adoption and drift


@pytest.mark.drill
@pytest.mark.parametrize("reference", ["{id}", "coder/{name}", "{name}"])
def test_an_import_adopts_the_template(
    template: Project, tmp_path_factory: pytest.TempPathFactory, reference: str
) -> None:
    there = template.server.template(template.name)
    other = Project(tmp_path_factory.mktemp("other"), template.server)
    other.name = template.name
    other.imported = reference.format(**there)
    other.up()
    assert other.outputs()["id"] == there["id"]
    assert len(other.versions()) == 2
    assert other.active_version() == other.versions()[-1]["id"]
    other.up("--expect-no-changes")
    other.imported = None
    other.up("--expect-no-changes")


@pytest.mark.drill
def test_a_change_in_the_dashboard_is_seen_and_put_right(template: Project) -> None:
    there = template.server.template(template.name)
    fields = ("display_name", "description", "icon", "allow_user_cancel_workspace_jobs", "allow_user_autostart",
              "allow_user_autostop", "activity_bump_ms")  # fmt: skip
    changed = {**{field: there[field] for field in fields}, "name": f"{template.name}-x", "default_ttl_ms": 60_000}
    template.server.api("PATCH", f"/api/v2/templates/{there['id']}", changed)
    seen = template.pulumi("preview", "--refresh", "--diff")
    assert f"{template.name}-x" in seen
    assert "60000" in seen
    template.up("--refresh")
    restored = template.server.template(template.name)
    assert (restored["id"], restored["default_ttl_ms"]) == (there["id"], 0)
    assert len(template.versions()) == 1


@pytest.mark.drill
def test_a_version_made_active_elsewhere_is_seen_and_put_right(template: Project) -> None:
    old = template.active_version()
    template.main_tf.write_text(f"{TEMPLATE}# edited\n")
    template.up()
    new = template.active_version()
    template.server.api("PATCH", f"/api/v2/templates/{template.server.template(template.name)['id']}/versions",
                        {"id": old})  # fmt: skip
    assert "1 to update" in template.pulumi("preview", "--refresh")
    template.up("--refresh")
    assert template.active_version() == new
    assert len(template.versions()) == 2


def test_a_refresh_keeps_a_template_that_was_deleted_in_the_dashboard_with_the_id_of_none(template: Project) -> None:
    # As the published 0.0.13 does, for ever: what is there must not rely on a refresh for this.
    template.server.api("DELETE", f"/api/v2/templates/{template.server.template(template.name)['id']}")
    for _ in range(2):
        refused = template.up("--refresh", fails=True)
        assert "/api/v2/templates/00000000-0000-0000-0000-000000000000" in refused

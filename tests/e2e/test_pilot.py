"""`pulumi up` converges the pilot from nothing and from every broken state, and a second one changes nothing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from stack.jobs import names, processes
from tests.e2e.pilot_fixture import CHECKOUT, Pilot, docker, eventually, free_port, request
from tests.e2e.retirement_fixture import command
from tests.e2e.workspace_fixture import container_of, inside, member_session
from toolchain.paths import PULUMI_HOME
from toolchain.recipes import link_or_copy

API_KEY = "sk-ant-a-key-that-nobody-may-see"
HOUR_MS = 3_600_000
# What tells a Terraform provider that it was not started by a person (terraform-plugin-go, tf6server).
TERRAFORMS_COOKIE = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2"
JUNK = {"CODER_URL": "http://127.0.0.1:9", "CODER_SESSION_TOKEN": "junk"}


def _changes(output: str) -> set[str]:
    """Logical names of the resources that an `up` created, updated, replaced or deleted."""
    step = re.compile(r"^ *[+~-]+ +\S+ (\S+) (?:created|updated|replaced|deleted)", re.MULTILINE)
    return set(step.findall(output))


def _container(pilot: Pilot, name: str) -> dict[str, str]:
    shown = docker("container", "inspect", "--format", "{{.Id}} {{.State.Status}}", f"{pilot.name}-{name}")
    identifier, _, status = shown.partition(" ")
    return {"id": identifier, "status": status}


def test_a_preview_of_a_fresh_stack_needs_no_docker_and_heeds_no_junk(
    make_pilot: Callable[..., Pilot],
) -> None:
    fresh = make_pilot(dockerHost="unix:///nonexistent/docker.sock", dockerSocket="/nonexistent/docker.sock")
    shown = fresh.pulumi("preview", **JUNK)
    assert "to create" in shown
    assert not fresh.data.exists()


def test_the_outputs_let_the_admin_in(pilot: Pilot) -> None:
    assert pilot.call("GET", "/api/v2/users/me")["username"] == "admin"
    outputs = pilot.outputs()
    (template,) = pilot.call("GET", "/api/v2/templates")
    version = pilot.call("GET", f"/api/v2/templateversions/{template['active_version_id']}")
    assert version["name"] == outputs["templateVersion"]
    assert outputs["url"] == pilot.url
    assert outputs["workspaceNetwork"] == f"{pilot.name}-workspaces"


def test_coder_reports_no_error_of_itself(pilot: Pilot) -> None:
    report = pilot.call("GET", "/api/v2/debug/health")
    # Slow, which it is on a machine without a core to spare.
    slow = [each["code"] for each in report["database"]["warnings"]] == ["EDB02"]
    assert {name: each["severity"] for name, each in report.items() if isinstance(each, dict)} == {
        "derp": "ok", "access_url": "ok", "websocket": "ok", "database": "warning" if slow else "ok",
        "workspace_proxy": "ok", "provisioner_daemons": "ok",
    }  # fmt: skip


def test_a_second_up_and_a_refreshed_preview_change_nothing(pilot: Pilot) -> None:
    pilot.up("--expect-no-changes")
    pilot.pulumi("preview", "--refresh", "--expect-no-changes")
    pilot.up("--refresh", "--expect-no-changes")


def test_only_loopback_listens_and_postgres_is_out_of_reach(pilot: Pilot) -> None:
    port = pilot.config["port"]
    assert docker("port", f"{pilot.name}-server") == f"{port}/tcp -> 127.0.0.1:{port}"
    assert docker("port", f"{pilot.name}-postgres") == ""
    networks = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", f"{pilot.name}-postgres"))
    assert set(networks) == {f"{pilot.name}-control"}


def address_of(container: str, network: str) -> str:
    """The container's address on the network."""
    networks = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", container))
    found = str(networks[network]["IPAddress"])
    assert re.fullmatch(r"[\d.]+", found)
    return found


def forged(container: str, address: str) -> list[str]:
    """What of tests/e2e/forger.py its root could do to others on the network, in the name of `address`."""
    program = Path(__file__).with_name("forger.py").read_text()
    return docker("exec", "--interactive", container, "sudo", "python3", "-", address, stdin=program).splitlines()


@pytest.mark.drill
def test_ping_and_apt_go_on_without_what_a_forger_needs_and_with_it_all_of_that_succeeds(pilot: Pilot) -> None:
    workspace = pilot.create_workspace("pings")
    container = container_of(pilot, workspace)
    install = "sudo apt-get update --quiet && sudo apt-get install --quiet --yes --no-install-recommends iputils-ping"
    inside(pilot, workspace, install)
    assert " 0% packet loss" in inside(pilot, workspace, "ping -c 1 coder && sudo ping -c 1 coder")
    # Elsewhere, and nobody's address: what it does is true.
    image = docker("inspect", "--format", "{{.Config.Image}}", container)
    network = docker("network", "create", "--label", f"coder-pilot.stack={pilot.name}", f"{pilot.name}-forgers")
    forger = docker(
        "run", "--detach", "--rm", "--network", network, "--cap-add", "NET_RAW", "--cap-add", "NET_ADMIN",
        "--label", f"coder-pilot.stack={pilot.name}", "--entrypoint", "sleep", image, "100",
    )  # fmt: skip
    base = address_of(forger, f"{pilot.name}-forgers").rpartition(".")[0]
    assert forged(forger, f"{base}.77") == [
        "ARP answer", "DHCP answer", "datagram of another", "IPv6 router advertisement", "address of another",
    ]  # fmt: skip
    docker("rm", "--force", forger)
    docker("network", "rm", network)
    pilot.transition(workspace["id"], "delete")


def test_a_workspace_becomes_ready_and_cannot_see_postgres_or_secrets(pilot: Pilot) -> None:
    pilot.pulumi("config", "set", "--secret", "claudeCodeOauthToken", API_KEY)
    pilot.up()
    pilot.up("--expect-no-changes")
    with _command_lines_with(API_KEY) as seen:
        workspace = pilot.create_workspace("first")
    assert seen == set()
    container = container_of(pilot, workspace)
    assert API_KEY in _given(pilot, workspace)
    assert forged(container, address_of(f"{pilot.name}-server", f"{pilot.name}-workspaces")) == []
    networks = json.loads(docker("inspect", "--format", "{{json .NetworkSettings.Networks}}", container))
    assert set(networks) == {f"{pilot.name}-workspaces"}
    assert _reaches(container, "coder", int(pilot.config["port"]))
    address = address_of(f"{pilot.name}-postgres", f"{pilot.name}-control")
    for postgres in ("postgres", address):
        assert not _reaches(container, postgres, 5432), postgres

    inspected = docker("container", "inspect", container)
    database = docker("exec", f"{pilot.name}-postgres", "pg_dump", "--username", "coder", "coder")
    assert API_KEY not in database
    console = (pilot.directory / "console.log").read_text()
    state = pilot.state_file.read_text()
    for name, secret in _secrets(pilot).items():
        assert len(secret) > 20, name
        for place, text in {"state": state, "console": console, "workspace": inspected}.items():
            assert secret not in text, f"{name} stands in plain text in: {place}"
    pilot.pulumi("config", "rm", "claudeCodeOauthToken")
    pilot.up()
    pilot.transition(workspace["id"], "stop")
    pilot.transition(workspace["id"], "start")
    pilot.wait_workspace(workspace["id"])
    assert "CLAUDE_CODE_OAUTH_TOKEN" not in _given(pilot, workspace)
    pilot.transition(workspace["id"], "delete")


def _given(pilot: Pilot, workspace: Mapping[str, Any]) -> str:
    """The environment of the editor, and so of what a person starts in it."""
    return inside(pilot, workspace, "tr '\\0' '\\n' </proc/$(pgrep -of code-server)/environ")


@contextlib.contextmanager
def _command_lines_with(needle: str) -> Iterator[set[str]]:
    """The programs of this machine that had `needle` on their command lines meanwhile."""
    found: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    line = file.read_bytes()
                    if needle.encode() in line:
                        found.add(line.split(b"\0")[0].decode())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def _reaches(container: str, host: str, port: int) -> bool:
    # The engine drops packets between its networks and refuses nothing, so only time tells.
    line = ["timeout", "5", "bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}"]
    done = subprocess.run(["docker", "exec", container, *line], check=False, capture_output=True, timeout=60)
    return done.returncode == 0


def _secrets(pilot: Pilot) -> dict[str, str]:
    shown = subprocess.run(
        ["pulumi", "stack", "export", "--show-secrets", "--stack", pilot.stack],
        cwd=pilot.directory, env={**pilot.variables, "HOME": str(pilot.directory)}, capture_output=True, text=True,
        check=True, timeout=60,
    ).stdout  # fmt: skip
    found = {each["urn"].rsplit("::", 1)[1]: each for each in json.loads(shown)["deployment"]["resources"]}
    return {
        "the role's password": json.loads(found["postgres-password"]["outputs"]["result"]["plaintext"]),
        "the admin's password": json.loads(found["admin-password"]["outputs"]["result"]["plaintext"]),
        "the member's password": json.loads(found["member-password"]["outputs"]["result"]["plaintext"]),
        "Anthropic's key": API_KEY,
        "the API token": json.loads(found["admin-account"]["outputs"]["stdout"]["plaintext"]),
    }


@pytest.mark.parametrize("stopped", [
    pytest.param(("server",), marks=pytest.mark.drill), pytest.param(("postgres",), marks=pytest.mark.drill),
    ("postgres", "server"),
], ids="+".join)  # fmt: skip
def test_a_plain_up_starts_what_is_stopped_and_shows_no_change(pilot: Pilot, stopped: tuple[str, ...]) -> None:
    for name in stopped:
        docker("stop", f"{pilot.name}-{name}")
    pilot.up("--expect-no-changes")
    assert pilot.call("GET", "/api/v2/users/me")["username"] == "admin"


@pytest.mark.drill
def test_a_preview_with_coder_stopped_works_and_starts_nothing(pilot: Pilot) -> None:
    docker("stop", f"{pilot.name}-server")
    pilot.pulumi("preview", **JUNK)
    assert _container(pilot, "server")["status"] == "exited"
    pilot.up("--expect-no-changes")


def test_a_preview_from_a_machine_that_has_only_the_state_works(pilot: Pilot) -> None:
    pilot.write_config(dockerHost="unix:///nonexistent/docker.sock")
    try:
        pilot.pulumi("preview")
    finally:
        pilot.write_config(dockerHost="unix:///var/run/docker.sock")


def _tokens(pilot: Pilot) -> list[Any]:
    """Those of the program; the keeper has one of its own."""
    found = pilot.call("GET", "/api/v2/users/me/keys/tokens")
    return [each for each in found if each["token_name"].startswith(names.TOKEN_PREFIX)]


@pytest.mark.parametrize("why", ["revoked", pytest.param("ends-in-13-days", marks=pytest.mark.drill)])
def test_a_token_that_does_not_last_is_replaced_by_the_next_up_and_only_once(pilot: Pilot, why: str) -> None:
    (token,) = _tokens(pilot)
    if why == "revoked":
        pilot.call("DELETE", f"/api/v2/users/me/keys/{token['id']}")
    else:
        soon = f"UPDATE api_keys SET expires_at = now() + interval '13 days' WHERE id = '{token['id']}'"  # noqa: S608  an id of Coder's
        changed = docker("exec", f"{pilot.name}-postgres", "psql", "--username", "coder", "coder", "--command", soon)
        assert changed == "UPDATE 1"
    pilot.pulumi("preview")
    # Three jobs keep the token for their day: a new idle time has to reach workspaces, the other account may have to be
    # put right, and the pilot to be retired. The keeper's own is made with it.
    assert _changes(pilot.up()) == {
        "admin-account", "member-account", "coderd", "template-record", "retire", "keeper-token", "keeper",
    }  # fmt: skip
    pilot.up("--expect-no-changes")
    (replaced,) = _tokens(pilot)
    assert replaced["id"] != token["id"]


def test_an_edit_of_the_template_makes_one_version_of_its_own_files_alone(pilot: Pilot) -> None:
    folder = pilot.directory / "terraform-template"
    strays = ("terraform.tfvars", ".env", ".main.tf.swp", "main.tf~", ".terraform.lock.hcl", "scripts/clone.sh.bak")
    for name in strays:
        (folder / name).write_text("TOKEN=very-secret")
    (folder / ".terraform").mkdir()
    (folder / ".terraform" / "state.tf").write_text("very-secret")
    pilot.up("--expect-no-changes")

    (template,) = pilot.call("GET", "/api/v2/templates")
    listed = f"/api/v2/templates/{template['id']}/versions?include_archived=true"
    before = pilot.call("GET", listed)
    readme = folder / "README.md"
    readme.write_text(readme.read_text() + "\nOne more line.\n")
    assert _changes(pilot.up()) == {"template", "template-record"}
    after = sorted(pilot.call("GET", listed), key=lambda each: str(each["created_at"]))
    assert len(after) == len(before) + 1
    # Nobody uses the one before: nobody can create from it.
    assert [each["archived"] for each in after][-2:] == [True, False]

    asked = urllib.request.Request(  # noqa: S310  http on loopback
        f"{pilot.url}/api/v2/files/{after[-1]['job']['file_id']}",
        headers={"Coder-Session-Token": pilot.variables["token"]},
    )
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
        stored = answer.read()
    with tarfile.open(fileobj=io.BytesIO(stored)) as archive:
        sent = {each.name.removeprefix("./") for each in archive if each.isfile()}
    assert b"very-secret" not in stored
    git = ["git", "ls-files", "terraform-template"]
    tracked = subprocess.run(git, cwd=CHECKOUT, capture_output=True, text=True, check=True, timeout=60).stdout
    own = {path.removeprefix("terraform-template/") for path in tracked.splitlines()}
    assert sent == own | {"scripts/parts.sh"}
    for name in strays:
        (folder / name).unlink()
    shutil.rmtree(folder / ".terraform")
    pilot.up("--expect-no-changes")


def test_a_template_that_does_not_plan_shows_why_and_leaves_the_old_version_active(pilot: Pilot) -> None:
    (before,) = pilot.call("GET", "/api/v2/templates")
    broken = pilot.directory / "terraform-template" / "broken.tf"
    broken.write_text('resource "docker_nothing" "x" {}\n')
    try:
        assert "docker_nothing" in pilot.up(check=False)
    finally:
        broken.unlink()
    (after,) = pilot.call("GET", "/api/v2/templates")
    assert after["active_version_id"] == before["active_version_id"]
    pilot.up("--expect-no-changes")


def test_a_changed_coder_setting_replaces_only_that_container(pilot: Pilot) -> None:
    postgres = _container(pilot, "postgres")["id"]
    pilot.write_config(coderMemory="1GiB")
    assert _changes(pilot.up()) == {"coder"}
    assert _container(pilot, "postgres")["id"] == postgres
    assert pilot.call("GET", "/api/v2/users/me")["username"] == "admin"


@pytest.mark.drill
def test_a_new_idle_time_reaches_the_workspaces_that_have_the_earlier_one(pilot: Pilot) -> None:
    followed, own = pilot.create_workspace("followed"), pilot.create_workspace("own")
    pilot.call("PUT", f"/api/v2/workspaces/{own['id']}/ttl", {"ttl_ms": 5 * HOUR_MS})
    pilot.write_config(idleTtl="3h")
    assert _changes(pilot.up()) == {"template", "template-record"}
    pilot.up("--expect-no-changes")
    assert pilot.workspace(followed["id"])["ttl_ms"] == 3 * HOUR_MS
    assert pilot.workspace(own["id"])["ttl_ms"] == 5 * HOUR_MS

    pilot.transition(followed["id"], "stop")
    pilot.transition(followed["id"], "start")
    build = pilot.workspace(followed["id"])["latest_build"]
    runs = datetime.fromisoformat(build["deadline"]) - datetime.fromisoformat(build["job"]["completed_at"])
    assert abs(runs.total_seconds() - 3 * 3600) < 60
    for each in (followed, own):
        pilot.transition(each["id"], "delete")


@pytest.fixture
def broken_image(pilot: Pilot) -> Iterator[str]:
    """Coder's image with an entry point that ends at once."""
    tag = f"{pilot.name}/broken:v2.30.0"
    recipe = f'FROM {pilot.config["coderImage"]}\nENTRYPOINT ["sh", "-c", "echo the server gave up >&2; exit 1"]\n'
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", tag, "-"], input=recipe, text=True, check=True, timeout=120,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    yield tag
    docker("image", "rm", "--force", tag)


@pytest.mark.drill
def test_a_server_that_never_becomes_ready_shows_its_log_and_a_good_image_heals(
    pilot: Pilot, broken_image: str
) -> None:
    good = pilot.config["coderImage"]
    pilot.write_config(coderImage=broken_image)
    try:
        shown = pilot.up(check=False)
        assert f"the container {pilot.name}-server keeps ending; its last log lines:" in shown
        assert "the server gave up" in shown
        assert "Traceback" not in shown
    finally:
        pilot.write_config(coderImage=good)
    pilot.up()
    pilot.up("--expect-no-changes")


def test_an_image_that_does_not_exist_is_named_and_the_running_one_stays(pilot: Pilot) -> None:
    good, running = pilot.config["coderImage"], _container(pilot, "server")
    pilot.write_config(coderImage="coder-pilot/no-such-image:1")
    try:
        assert "coder-pilot/no-such-image:1" in pilot.up(check=False)
    finally:
        pilot.write_config(coderImage=good)
    assert _container(pilot, "server") == running
    assert _changes(pilot.up()) <= {"coder-image"}
    pilot.up("--expect-no-changes")


@pytest.mark.drill
def test_a_docker_that_does_not_answer_is_named(pilot: Pilot) -> None:
    pilot.write_config(dockerHost="unix:///nonexistent/docker.sock")
    try:
        shown = pilot.up(check=False)
        assert "unix:///nonexistent/docker.sock" in shown
        assert "Traceback" not in shown
    finally:
        pilot.write_config(dockerHost="unix:///var/run/docker.sock")
    pilot.up()
    pilot.up("--expect-no-changes")


@pytest.mark.drill
def test_a_data_directory_that_cannot_be_made_is_named_with_its_setting(pilot: Pilot, tmp_path: Path) -> None:
    good = pilot.config["dataDir"]
    (tmp_path / "file").write_text("")
    pilot.write_config(dataDir=str(tmp_path / "file" / "data"))
    try:
        shown = pilot.up(check=False)
        assert "pulumi config set dataDir" in shown
    finally:
        pilot.write_config(dataDir=good)
    pilot.up("--expect-no-changes")


@pytest.mark.drill
def test_a_taken_port_is_named_and_another_pilot_comes_up_beside_this_one(
    pilot: Pilot, make_pilot: Callable[..., Pilot]
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", free_port()))
        holder.listen()
        port = holder.getsockname()[1]
        second = make_pilot(port=str(port))
        said = second.up(check=False)
        assert f"port {port} of 127.0.0.1 is taken by " in said
        assert f", process {os.getpid()}; nothing was touched. End that, or run `pulumi config" in said
    second.up()
    second.up("--expect-no-changes")
    for each in (pilot, second):
        assert each.call("GET", "/api/v2/users/me")["username"] == "admin"
    ours, theirs = pilot.outputs(), second.outputs()
    credentials = {"email": ours["adminEmail"], "password": ours["adminPassword"]}
    with pytest.raises(urllib.error.HTTPError, match="401"):
        request(second.url, "POST", "/api/v2/users/login", credentials)
    assert ours["workspaceNetwork"] != theirs["workspaceNetwork"]


@pytest.mark.built_here
def test_at_most_one_provider_that_never_ends_is_left_by_pulumi_alone(pilot: Pilot, tmp_path: Path) -> None:
    # A PULUMI_HOME of its own: programs of other tests would end what this one waits for.
    home = tmp_path / "pulumi-home"
    for folder in processes.FOLDERS:
        shutil.copytree(PULUMI_HOME / folder, home / folder, copy_function=link_or_copy)
    (provider,) = home.rglob("terraform-provider-coderd_v*")
    stays = {"PULUMI_HOME": str(home), "CODERD_PROVIDER_STAYS": "1"}

    def left() -> list[int]:
        return [pid for pid, exe in processes._processes() if exe.startswith(str(home))]

    try:
        # As an earlier `pulumi` leaves it: nobody is above it any more.
        subprocess.run(
            ["bash", "-c", f"{provider} </dev/null >/dev/null 2>&1 &"],
            env={**os.environ, **stays, "TF_PLUGIN_MAGIC_COOKIE": TERRAFORMS_COOKIE}, check=True, timeout=10,
        )  # fmt: skip
        eventually(left, timeout_s=10, what="the provider")
        (first,) = left()
        pilot.pulumi("preview", **stays)
        assert first not in left()
        assert len(left()) <= 1
    finally:
        processes.end_left_behind(home)
    assert left() == []


OWN_PASSWORD = "a password of the owner's own"
CHANGED_PASSWORD = "changed in the dashboard 1!"


def _admin(pilot: Pilot, password: str = "") -> dict[str, Any]:
    """The admin's account, signed in with `password` or with that of the outputs."""
    outputs = pilot.outputs()
    credentials = {"email": outputs["adminEmail"], "password": password or outputs["adminPassword"]}
    pilot.variables["token"] = request(pilot.url, "POST", "/api/v2/users/login", credentials)["session_token"]
    found: dict[str, Any] = pilot.call("GET", "/api/v2/users/me")
    return found


def test_what_is_changed_at_the_admin_in_the_dashboard_stays_or_is_set_back_with_a_line(pilot: Pilot) -> None:
    before = _admin(pilot)
    _spoil_the_member(pilot)
    pilot.call("PUT", "/api/v2/users/me/profile", {"username": "chief", "name": "The Chief"})
    passwords = {"old_password": pilot.outputs()["adminPassword"], "password": CHANGED_PASSWORD}
    # Coder drops the admin's tokens with it.
    pilot.call("PUT", "/api/v2/users/me/password", passwords)
    said = command(pilot, "status", check=False)
    assert "the password of admin@framework.local was changed there" in said
    assert (
        "`make up STACK=test` makes a new one, and sets the password back to that of "
        "`make password WHO=admin STACK=test`; to keep" in said
    )
    said = pilot.up()
    assert "warning: the password of chief was changed in Coder: set back to that of `make password WHO=admin" in said
    assert "`pulumi config set --secret adminPassword --stack test`" in said
    after = _admin(pilot)
    assert (after["id"], after["username"], after["name"]) == (before["id"], "chief", "The Chief")
    for told in (
        "the account of dev@framework.local was suspended in Coder: it is activated",
        "dev@framework.local was given a role in Coder (owner): a plain member again",
        "the password of dev@framework.local was changed in Coder: set back to that of `make password STACK=test`; to",
    ):
        assert told in said
    found = pilot.call("GET", f"/api/v2/users/{_member(pilot)['id']}")
    assert (found["status"], found["roles"], found["username"], found["name"]) == ("active", [], "renamed", "Own Name")
    pilot.call("PUT", f"/api/v2/users/{found['id']}/profile", {"username": "dev", "name": ""})


def _member(pilot: Pilot) -> dict[str, Any]:
    """The account for every day, signed in with the password of the outputs."""
    found: dict[str, Any] = pilot.call("GET", "/api/v2/users/me", token=member_session(pilot))
    return found


def _spoil_the_member(pilot: Pilot) -> None:
    path = f"/api/v2/users/{_member(pilot)['id']}"
    pilot.call("PUT", f"{path}/profile", {"username": "renamed", "name": "Own Name"})
    pilot.call("PUT", f"{path}/password", {"password": CHANGED_PASSWORD})
    # In this order: Coder suspends no owner.
    pilot.call("PUT", f"{path}/status/suspend")
    pilot.call("PUT", f"{path}/roles", {"roles": ["owner"]})


@pytest.mark.drill
def test_the_settings_change_the_accounts_or_are_refused_before_anything_is_touched(pilot: Pilot) -> None:
    before = _admin(pilot)
    containers = [_container(pilot, name) for name in ("server", "postgres")]
    organization = before["organization_ids"][0]
    taken = {"username": "taken", "email": "taken@example.org", "password": CHANGED_PASSWORD,
             "organization_ids": [organization]}  # fmt: skip
    other = pilot.call("POST", "/api/v2/users", taken)
    # One that would replace a container stands beside what is refused.
    pilot.write_config(adminUsername="Taken", coderMemory="1900MiB")
    assert "`pulumi config set adminUsername admin --stack test`" in pilot.up(check=False)
    pilot.write_config(adminUsername="boss", adminEmail="boss@example.org")
    assert f"`pulumi config set adminEmail {before['email']} --stack test`" in pilot.up(check=False)
    pilot.write_config(adminUsername="boss", adminEmail=before["email"], username="Taken")
    assert "`pulumi config set username dev --stack test`" in pilot.up(check=False)
    pilot.write_config(username="dev", email="taken@example.org")
    assert "the address of another user of this Coder, taken: choose" in pilot.up(check=False)
    pilot.write_config(email="new@example.org")
    assert "`pulumi config set email dev@framework.local --stack test`" in pilot.up(check=False)
    pilot.write_config(username="ada", fullName="Ada Lovelace", email="dev@framework.local", coderMemory="2GiB")
    assert [_container(pilot, name) for name in ("server", "postgres")] == containers
    pilot.call("DELETE", f"/api/v2/users/{other['id']}")

    member = _member(pilot)
    for setting in ("password", "adminPassword"):
        pilot.pulumi("config", "set", "--secret", setting, OWN_PASSWORD)
    said = pilot.up()
    assert "was changed in Coder" not in said
    after = _admin(pilot, OWN_PASSWORD)
    assert (after["id"], after["username"], after["name"]) == (before["id"], "boss", before["name"])
    after = _member(pilot)
    assert (after["id"], after["username"], after["name"]) == (member["id"], "ada", "Ada Lovelace")
    assert command(pilot, "password").strip() == OWN_PASSWORD
    assert command(pilot, "password", "--who", "admin").splitlines() == [
        "sign in as admin@framework.local with",
        OWN_PASSWORD,
    ]
    for text in (said, pilot.state_file.read_text(), (pilot.data / "pilot.json").read_text()):
        assert OWN_PASSWORD not in text
    pilot.up("--expect-no-changes")

    for setting in ("password", "adminPassword"):
        pilot.pulumi("config", "rm", setting)
    pilot.write_config(adminUsername="admin", username="dev", fullName="")
    pilot.up()
    assert _admin(pilot)["username"] == "admin"
    assert pilot.outputs()["adminPassword"] != OWN_PASSWORD


@pytest.mark.drill
def test_an_older_pilots_owner_becomes_a_plain_member_and_keeps_his_workspaces(pilot: Pilot) -> None:
    """The lines of docs/runbooks.md; before there were two accounts all workspaces were the administrator's."""
    before = _admin(pilot)
    pilot.call("DELETE", f"/api/v2/users/{_member(pilot)['id']}")
    assert "the account of dev@framework.local is gone from Coder: it is made anew" in pilot.up()
    assert _member(pilot)["username"] == "dev"
    workspace = pilot.create_workspace("kept")
    container = docker("inspect", "--format", "{{.Id}}", container_of(pilot, workspace))
    assert "admin/kept" in (told := command(pilot, "doctor"))
    assert "belong to an administrator" in told
    owner = {"username": "root", "email": "root@example.org", "password": CHANGED_PASSWORD,
             "organization_ids": before["organization_ids"]}  # fmt: skip
    made = pilot.call("POST", "/api/v2/users", owner)
    pilot.write_config(adminUsername="root", adminEmail="root@example.org", username="admin", email=before["email"])
    # Not an owner yet.
    assert f"run `pulumi config set adminEmail {before['email']} --stack test`" in pilot.up(check=False)
    pilot.call("PUT", f"/api/v2/users/{made['id']}/roles", {"roles": ["owner"]})
    command(pilot, "up")
    pilot.up("--expect-no-changes")
    after = _member(pilot)
    assert (after["id"], after["roles"]) == (before["id"], [])
    assert _admin(pilot)["id"] == made["id"]
    assert "code-server--kept--admin." in command(pilot, "workspace", "kept")
    assert docker("inspect", "--format", "{{.Id}}", container_of(pilot, workspace)) == container
    assert "belong to an administrator" not in command(pilot, "doctor")

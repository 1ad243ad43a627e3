"""Nobody's work is ever lost: users, workspaces, templates and homes are there after every end, accident and return.

One pilot with a workspace goes through all of it; each test finds it up and leaves it up, but the last, which deletes
it. What it has is counted before and after by ids and checksums.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from stack.jobs import backups, pilot_file
from tests.e2e.parts import CODER_IMAGE, CODER_VERSION, POSTGRES_IMAGE
from tests.e2e.pilot_fixture import Pilot, docker, eventually
from tests.e2e.retirement_fixture import (
    Belongings,
    assert_whole,
    belongings,
    command,
    container_of,
    derived_image,
    furnished,
    identity,
    kill_at,
    left_over,
    new_state,
    sql,
    states,
    variables,
)  # fmt: skip

BACKUPS_KEPT = 7
NEVER_READY = 'if [ "$1" = version ]; then exec /opt/coder.real "$@"; fi; echo "this server is broken" >&2; exit 1'


@pytest.fixture(scope="module")
def workspace(pilot: Pilot) -> dict[str, Any]:
    """A running workspace with files in its home."""
    return furnished(pilot)


@pytest.fixture
def owned(pilot: Pilot, workspace: dict[str, Any]) -> Belongings:
    """What the pilot has before the test; its workspace runs."""
    pilot.variables.pop("token", None)
    if pilot.workspace(workspace["id"])["latest_build"]["status"] != "running":
        pilot.transition(workspace["id"], "start")
    found = belongings(pilot)
    assert (len(found.workspaces), len(found.templates)) == (1, 1)
    return found


@pytest.mark.drill
def test_without_retirement_a_template_and_a_network_could_not_be_removed(
    pilot: Pilot, owned: Belongings, workspace: dict[str, Any]
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        pilot.call("DELETE", f"/api/v2/templates/{workspace['template_id']}")
    assert refused.value.code == 400
    assert "All workspaces must be deleted" in refused.value.read().decode()
    attached = subprocess.run(
        ["docker", "network", "rm", f"{pilot.name}-workspaces"], capture_output=True, text=True, check=False, timeout=60
    )
    assert "active endpoints" in attached.stderr


def test_a_second_up_while_one_runs_is_refused_and_so_is_make_up(pilot: Pilot, owned: Belongings) -> None:
    first = subprocess.Popen(
        ["pulumi", "up", "--yes", "--skip-preview", "--stack", pilot.stack, "--non-interactive"],
        cwd=pilot.directory, env=variables(pilot), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        locks = pilot.directory / ".pulumi-state" / ".pulumi" / "locks"
        eventually(
            lambda: list(locks.rglob("*.json")), timeout_s=30, interval_s=0.01, what="the lock of the first `up`"
        )
        # On a busy machine it would end before the others begin.
        first.send_signal(signal.SIGSTOP)
        second = pilot.up(check=False)
        third = command(pilot, "up", check=False)
    finally:
        first.send_signal(signal.SIGCONT)
        first.wait(120)
    assert "the stack is currently locked by 1 lock" in second
    assert "pulumi cancel" in second
    assert f"a `pulumi` (process {first.pid}) works on {pilot.stack}" in third
    assert first.returncode == 0


@pytest.mark.drill
def test_a_postgres_of_another_major_is_refused_before_anything_is_touched(
    pilot: Pilot, owned: Belongings, tmp_path: Path
) -> None:
    before = identity(f"{pilot.name}-postgres"), identity(f"{pilot.name}-server")
    program = docker("run", "--rm", "--entrypoint", "sh", POSTGRES_IMAGE, "-c", "command -v postgres")
    image = derived_image(f"{pilot.name}/postgres:18", POSTGRES_IMAGE, program, "echo '(PostgreSQL) 18.1'", tmp_path)
    pilot.write_config(postgresImage=image)
    try:
        said = pilot.up(check=False)
    finally:
        pilot.write_config(postgresImage=POSTGRES_IMAGE)
        pilot.up()
        docker("image", "rm", "--force", image)
    assert f"is of Postgres 17, and {image} is Postgres 18; nothing was touched" in said
    assert "make upgrade-postgres" in said
    assert (identity(f"{pilot.name}-postgres"), identity(f"{pilot.name}-server")) == before
    assert_whole(pilot, owned)


@pytest.mark.drill
def test_a_downgrade_of_coder_is_refused_before_anything_is_touched(
    pilot: Pilot, owned: Belongings, tmp_path: Path
) -> None:
    before = identity(f"{pilot.name}-server")
    image = derived_image(f"{pilot.name}/coder:old", CODER_IMAGE, "/opt/coder", "echo Coder v2.29.9", tmp_path)
    pilot.write_config(coderImage=image)
    try:
        said = pilot.up(check=False)
    finally:
        pilot.write_config(coderImage=CODER_IMAGE)
        pilot.up()
        docker("image", "rm", "--force", image)
    assert f"{image} is Coder 2.29.9, and the database was already moved to {CODER_VERSION}" in said
    assert identity(f"{pilot.name}-server") == before
    assert_whole(pilot, owned)


def test_a_destroyed_pilot_comes_back_whole_with_a_new_state_and_new_passwords(
    pilot: Pilot, owned: Belongings, workspace: dict[str, Any]
) -> None:
    password, dumps = pilot.outputs()["adminPassword"], set((pilot.data / "backups").glob("*.dump"))
    said = pilot.pulumi("destroy", "--yes", "--skip-preview")
    assert "workspaces to stop: admin/demo" in said
    assert left_over(pilot) == []
    (dump,) = set((pilot.data / "backups").glob("*.dump")) - dumps
    assert dump.stat().st_mode & 0o777 == 0o600
    new_state(pilot)
    pilot.up()
    assert pilot.outputs()["adminPassword"] != password
    assert states(pilot.call("GET", "/api/v2/workspaces")["workspaces"]) == {"stopped"}
    assert_whole(pilot, owned)
    pilot.transition(workspace["id"], "start")
    pilot.wait_workspace(workspace["id"])
    assert docker("exec", container_of(workspace["id"]), "cat", "/home/coder/kept/marker") == "marker"


@pytest.mark.drill
def test_with_the_token_revoked_down_retires_through_coder_and_ends_before_containers_go_where_it_cannot_dump(
    pilot: Pilot, owned: Belongings
) -> None:
    for token in pilot.call("GET", "/api/v2/users/me/keys/tokens"):
        pilot.call("DELETE", f"/api/v2/users/me/keys/{token['id']}")
    docker("exec", "--user", "0", f"{pilot.name}-postgres", "sh", "-c", "mv $(command -v pg_dump) /tmp/aside")
    said = command(pilot, "down", check=False)
    assert "workspaces to stop: admin/demo" in said
    assert "stopped without Coder" not in said
    assert "the database was not dumped, so Postgres and Coder stay" in said
    assert {f"{pilot.name}-server", f"{pilot.name}-postgres"} <= set(left_over(pilot))
    command(pilot, "down", "--without-dump")
    assert left_over(pilot) == []
    assert "is down already" in command(pilot, "down")
    pilot.up()
    assert_whole(pilot, owned)


@pytest.mark.drill
def test_an_admin_that_was_renamed_in_the_dashboard_goes_on_in_every_command(pilot: Pilot, owned: Belongings) -> None:
    def rename(username: str) -> None:
        pilot.variables.pop("token", None)
        pilot.call("PUT", "/api/v2/users/me/profile", {"username": username, "name": ""})

    rename("chief")
    assert "chief/demo" in command(pilot, "status")
    assert "--demo--chief." in command(pilot, "workspace", "demo")
    assert pilot.outputs()["adminPassword"] in command(pilot, "password", "--who", "admin")
    dump = command(pilot, "backup").strip()
    command(pilot, "restore", dump)
    pilot.pulumi("config", "set", "--secret", "adminPassword", "too weak")
    said = pilot.up(check=False)
    assert "Coder does not take the adminPassword, insecure password" in said
    assert "too weak" not in said
    pilot.pulumi("config", "rm", "adminPassword")
    assert "chief/demo" in command(pilot, "status")
    # By hand, which leaves the token: `up` sees it all the same.
    line = ["docker", "exec", "--interactive", f"{pilot.name}-server", "/opt/coder", "reset-password", "chief"]
    subprocess.run(line, input="an0ther password\n" * 2, text=True, check=True, timeout=60, capture_output=True)
    assert "the password of chief was changed in Coder: set back" in pilot.up()
    assert "workspaces to stop: chief/demo" in command(pilot, "down")
    new_state(pilot)
    pilot.write_config(adminEmail="chief@example.org")
    assert "run `pulumi config set adminEmail admin@framework.local" in command(pilot, "up", check=False)
    # Where nothing is recorded, as by an earlier release, the job finds the same.
    pilot_file.update(str(pilot.data), admin=None)
    assert "run `pulumi config set adminEmail admin@framework.local" in command(pilot, "up", check=False)
    pilot.write_config(adminEmail="admin@framework.local")
    assert "the password of chief was another one in Coder: set to that of" in command(pilot, "up")
    assert "chief/demo" in command(pilot, "status")
    rename("admin")
    assert_whole(pilot, owned)


@pytest.mark.drill
def test_with_coder_dead_for_good_down_ends_and_the_pilot_comes_back(
    pilot: Pilot, owned: Belongings, tmp_path: Path
) -> None:
    image = derived_image(f"{pilot.name}/coder:broken", CODER_IMAGE, "/opt/coder", NEVER_READY, tmp_path)
    docker("kill", f"{pilot.name}-server")
    alone = pilot.pulumi("destroy", "--yes", "--skip-preview", check=False)
    assert "does not answer" in alone
    assert f"{pilot.name}.admin.demo" in left_over(pilot)
    pilot.write_config(coderImage=image)
    try:
        said = command(pilot, "down")
    finally:
        pilot.write_config(coderImage=CODER_IMAGE)
    assert "this server is broken" in said
    assert f"stopped without Coder: {pilot.name}.admin.demo" in said
    assert left_over(pilot) == []
    pilot.up()
    docker("image", "rm", "--force", image)
    assert_whole(pilot, owned)


@pytest.mark.drill
def test_a_pulumi_killed_in_a_destroy_and_in_an_up_leaves_what_one_command_mends(
    pilot: Pilot, owned: Belongings
) -> None:
    kill_at(pilot, "Container coder deleting", "destroy")
    said = pilot.pulumi("destroy", "--yes", "--skip-preview", check=False)
    # The second where the kill came while `pulumi` wrote its state.
    assert "locked by 1 lock" in said or "failed to load checkpoint" in said
    command(pilot, "down")
    assert left_over(pilot) == []
    kill_at(pilot, "Container coder creating", "up")
    command(pilot, "up")
    assert_whole(pilot, owned)


@pytest.mark.drill
def test_a_backup_is_restored_into_an_empty_data_directory(
    pilot: Pilot, owned: Belongings, workspace: dict[str, Any]
) -> None:
    versions = "SELECT id || ' ' || name FROM template_versions ORDER BY 1"
    before = sql(pilot, versions)
    dump = Path(command(pilot, "backup").strip())
    assert dump.with_name(dump.name.replace(".dump", ".state.json")).stat().st_mode & 0o777 == 0o600
    command(pilot, "down")
    lost = pilot.directory / "lost"
    pilot.data.rename(lost)
    try:
        command(pilot, "restore", str(lost / "backups" / dump.name))
        # Adoption adds a version; none is gone.
        assert set(before) <= set(sql(pilot, versions))
        assert_whole(pilot, owned)
        pilot.transition(workspace["id"], "start")
    finally:
        shutil.rmtree(lost, ignore_errors=True)


@pytest.mark.drill
def test_the_oldest_of_a_full_set_of_backups_is_restored_while_the_pilot_is_down(
    pilot: Pilot, owned: Belongings
) -> None:
    oldest = Path(command(pilot, "backup").strip())
    # As restores leave them that are killed.
    for left in ("coder_restored", "coder_before"):
        sql(pilot, f"CREATE DATABASE {left}")
    for each in oldest.parent.glob("*.dump"):
        if each != oldest:
            each.unlink()
    command(pilot, "down")
    # The one of `down` is a second; what the `up` of the restore dumps takes the place of the oldest.
    for _ in range(BACKUPS_KEPT - 2):
        shutil.copy2(oldest, oldest.with_name(f"{backups.timestamp()}.dump"))
        time.sleep(0.002)
    command(pilot, "restore", str(oldest))
    assert_whole(pilot, owned)
    assert sql(pilot, "SELECT datname FROM pg_database WHERE datname LIKE 'coder_%'") == []
    assert len(list(oldest.parent.glob("*.dump"))) > BACKUPS_KEPT
    command(pilot, "backup")
    assert not oldest.exists()
    assert len(list(oldest.parent.glob("*.dump"))) == BACKUPS_KEPT


def test_a_dump_that_is_none_or_only_half_leaves_everything_as_it_was(
    pilot: Pilot, owned: Belongings, tmp_path: Path
) -> None:
    before = identity(f"{pilot.name}-server")
    (tmp_path / "nonsense.dump").write_text("nonsense")
    assert "is no dump" in command(pilot, "restore", str(tmp_path / "nonsense.dump"), check=False)
    assert "there is no dump" in command(pilot, "restore", str(tmp_path / "absent.dump"), check=False)
    assert identity(f"{pilot.name}-server") == before
    whole = Path(command(pilot, "backup").strip()).read_bytes()
    (tmp_path / "half.dump").write_bytes(whole[: len(whole) // 2])
    assert "`pg_restore` failed" in command(pilot, "restore", str(tmp_path / "half.dump"), check=False)
    assert_whole(pilot, owned)


def test_purge_says_what_goes_and_deletes_everything_of_ours_and_nothing_else(
    pilot: Pilot, owned: Belongings, workspace: dict[str, Any]
) -> None:
    volume, foreign = f"coder-{workspace['id']}-home", f"{pilot.name}-somebody-elses"
    pilot.write_config(purgeOnDestroy="true")
    assert volume in pilot.pulumi("preview")
    pilot.up()
    docker("volume", "create", foreign)
    (pilot.data / "somebody-elses").write_text("stays")
    try:
        refused = command(pilot, "down", check=False)
        assert f"workspace admin/demo, volume {volume}" in refused
        assert "make down YES=yes" in refused
        assert belongings(pilot) == owned
        command(pilot, "down", "--yes")
        volumes = docker("volume", "ls", "--format", "{{.Name}}").splitlines()
        assert foreign in volumes
    finally:
        docker("volume", "rm", foreign)
    assert volume not in volumes
    assert left_over(pilot) == []
    assert [each.name for each in pilot.data.iterdir()] == ["somebody-elses"]

"""What a newcomer types works, in a clone with a HOME of its own, and leaves the clone's `git status` clean."""

from __future__ import annotations

import dataclasses
import json
import re
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.clone_fixture import COMMAND_TIMEOUT_S, STACK, Clone, cloned
from tests.e2e.parts import CODER_VERSION
from tests.e2e.pilot_fixture import CHECKOUT, docker, free_port, request


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    with cloned(tmp_path_factory.mktemp("front-door"), "door") as made:
        yield made


@pytest.fixture(scope="module")
def up(clone: Clone) -> str:
    """What the first `make up` printed on its standard output."""
    return clone.make("up").stdout


def test_help_lists_every_target(clone: Clone) -> None:
    listed = {line.split()[0] for line in clone.make("help").stdout.splitlines()}
    makefile = (clone.directory / "Makefile").read_text()
    targets = {word for line in makefile.splitlines() if line.startswith(".PHONY:") for word in line.split()[1:]}
    assert listed == targets


def test_doctor_says_before_the_first_up_that_it_would_work(clone: Clone) -> None:
    found = json.loads(clone.make("doctor", "ARGS=--json").stdout)
    assert not [each for each in found if each["level"] == "problem"]


def test_up_ends_with_a_box_of_what_a_person_needs(clone: Clone, up: str) -> None:
    lines = up.strip().splitlines()
    box = lines[lines.index(next(line for line in lines if line.startswith("┌"))) :]
    assert clone.url in box[1]
    assert "dev@framework.local" in box[2]
    assert "make password" in box[3]
    assert "make workspace NAME=demo" in box[4]
    assert len({len(line) for line in box}) == 1


@pytest.mark.usefixtures("up")
def test_the_password_signs_in_and_is_in_no_other_output(clone: Clone, up: str) -> None:
    password = clone.make("password").stdout.strip()
    credentials = {"email": "dev@framework.local", "password": password}
    assert request(clone.url, "POST", "/api/v2/users/login", credentials)["session_token"]
    assert password not in up


@pytest.mark.usefixtures("up")
def test_the_passphrase_is_the_owners_alone(clone: Clone) -> None:
    file = clone.directory / ".passphrase"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(file.read_text()) > 32


@pytest.mark.usefixtures("up")
def test_a_workspace_is_made_then_found_and_its_url_answers(clone: Clone) -> None:
    first = clone.make("workspace", "NAME=demo")
    (url,) = first.stdout.split()
    host = f"code-server--demo--dev.localhost:{clone.port}"
    assert url == f"http://{host}/"
    assert "demo: creating" in first.stderr
    password = clone.make("password").stdout.strip()
    credentials = {"email": "dev@framework.local", "password": password}
    token = request(clone.url, "POST", "/api/v2/users/login", credentials)["session_token"]
    # Not every machine knows where *.localhost is.
    headers = {"Coder-Session-Token": token, "Host": host}
    asked = urllib.request.Request(f"{clone.url}/healthz", headers=headers)  # noqa: S310
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
        assert "status" in json.load(answer)
    again = clone.make("workspace", "NAME=demo")
    assert again.stdout == first.stdout
    assert "creating" not in again.stderr
    assert password not in first.stderr + again.stderr


@pytest.mark.parametrize("name", ["", "two words", "-x", "a" * 33])
@pytest.mark.usefixtures("up")
def test_a_workspace_with_a_bad_name_is_refused_with_an_example(clone: Clone, name: str) -> None:
    done = clone.make("workspace", f"NAME={name}", check=False)
    assert done.returncode != 0
    assert "make workspace NAME=demo" in done.stderr


@pytest.mark.usefixtures("up")
def test_a_repository_with_a_password_is_refused_in_a_line_that_does_not_show_it(clone: Clone) -> None:
    done = clone.make("workspace", "NAME=demo2", "REPO=https://me:hunter2@example.com/repo", check=False)
    assert done.returncode != 0
    told = done.stdout + done.stderr
    assert "error: REPO: Give an https://" in told
    assert "hunter2" not in told
    assert "/api/" not in told


@pytest.mark.usefixtures("up")
def test_status_shows_servers_and_the_workspace_with_deadline_and_memory(clone: Clone) -> None:
    clone.make("workspace", "NAME=demo")
    servers, workspaces, health = clone.make("status").stdout.strip().split("\n\n")
    # On a busy machine the database may answer too slowly for Coder's taste.
    assert health.startswith("Coder's health: ")
    assert f"not proved on Coder {CODER_VERSION}, Postgres 17" in health
    rows = {line.split()[0]: line for line in servers.splitlines()[1:]}
    assert set(rows) == {f"{clone.name}-{part}" for part in ("keeper", "postgres", "server")}
    keeper = rows.pop(f"{clone.name}-keeper")
    assert all("(healthy)" in line and "GiB" in line for line in rows.values())
    # It is asked for its health once a minute.
    assert "(unhealthy)" not in keeper
    assert "/ 256MiB" in keeper
    (line,) = workspaces.splitlines()[1:]
    assert line.split()[:2] == ["dev/demo", "running"]
    assert " in 1 h " in line
    assert " / 4GiB" in line
    assert line.endswith(" not started")
    heads, line = clone.make("status", "HOMES=yes").stdout.strip().split("\n\n")[1].splitlines()
    assert heads.split()[-1] == "HOME"
    assert re.fullmatch(r"[0-9.]+[kM]B", line.split()[-1])


@pytest.mark.drill
@pytest.mark.usefixtures("up")
def test_a_workspace_whose_container_is_gone_or_stopped_is_started_again_at_once_with_its_home(clone: Clone) -> None:
    clone.make("workspace", "NAME=demo")
    container = f"{clone.name}.dev.demo"
    docker("exec", container, "bash", "-c", "echo kept >~/note.txt")
    docker("rm", "--force", container)
    told = f"dev/demo: its container is gone -> `make workspace NAME=demo STACK={STACK}`"
    assert told in clone.make("status").stdout
    assert told in clone.make("up").stderr
    assert "demo: its container is gone: starting it" in clone.make("workspace", "NAME=demo").stderr
    assert docker("exec", container, "cat", "/home/coder/note.txt") == "kept"
    docker("stop", "--time", "0", container)
    assert "demo: its container is stopped: starting it" in clone.make("workspace", "NAME=demo").stderr
    assert docker("exec", container, "cat", "/home/coder/note.txt") == "kept"


@pytest.mark.drill
@pytest.mark.usefixtures("up")
def test_a_home_that_is_gone_is_told_before_a_new_empty_one_is_made(clone: Clone) -> None:
    clone.make("workspace", "NAME=demo")
    container = f"{clone.name}.dev.demo"
    mounts = '{{range .Mounts}}{{if eq .Destination "/home/coder"}}{{.Name}}{{end}}{{end}}'
    home = docker("inspect", "--format", mounts, container)
    docker("rm", "--force", container)
    docker("volume", "rm", home)
    refused = clone.make("workspace", "NAME=demo", check=False)
    assert refused.returncode != 0
    assert f"its home is gone, the volume {home}" in refused.stderr
    assert f"`make workspace NAME=demo NEW_HOME=yes STACK={STACK}`" in refused.stderr
    assert home not in docker("volume", "ls", "--quiet").split()
    clone.make("workspace", "NAME=demo", "NEW_HOME=yes")
    assert docker("exec", container, "ls", "/home/coder/project") == ""


@pytest.mark.usefixtures("up")
def test_doctor_knows_the_port_as_ours_and_ends_in_time(clone: Clone) -> None:
    found = {each["check"]: each for each in json.loads(clone.make("doctor", "ARGS=--json").stdout)}
    assert f"{clone.port} is ours" in found["port"]["found"]
    assert found["settings"]["level"] == "ok"
    assert found["images"]["level"] == "ok"
    assert not [each for each in found.values() if each["level"] == "problem"]


@pytest.mark.usefixtures("up")
def test_a_second_up_changes_nothing(clone: Clone) -> None:
    again = clone.make("up").stdout
    assert " unchanged" in again
    assert not any(word in again for word in (" created", " updated", " replaced", " deleted"))


def _review(clone: Clone, *options: str) -> tuple[int, str]:
    """Exit code and report of the script that the workflows run."""
    report = clone.directory.with_name("report.md")
    report.unlink(missing_ok=True)
    done = subprocess.run(
        ["ci/review.sh", report, *options], cwd=clone.directory, env=clone.variables, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S,
    )  # fmt: skip
    return done.returncode, report.read_text()


def test_review_shows_the_boxs_stack_without_state_or_passphrase(clone: Clone) -> None:
    code, report = _review(clone, "--stack", "framework", "--fresh")
    assert code == 0, report
    assert "Nothing is deleted or replaced." in report
    assert "- **coder** (Container)" in report
    assert "- **serve** (Command)" in report


def test_a_review_whose_preview_fails_says_so(clone: Clone) -> None:
    code, report = _review(clone, "--stack", "nonesuch", "--fresh")
    assert code != 0
    assert "The preview failed" in report


@pytest.mark.usefixtures("up")
def test_review_tells_what_a_change_replaces_and_what_breaks_the_policy(clone: Clone) -> None:
    assert "Nothing changes." in _review(clone, "--stack", STACK)[1]
    settings = clone.directory / f"Pulumi.{STACK}.yaml"
    before = settings.read_text()
    try:
        settings.write_text(before.replace(str(clone.port), str(free_port())))
        code, report = _review(clone, "--stack", STACK)
        settings.write_text(f"{before}  coder-pilot:purgeOnDestroy: 'true'\n")
        purged, purge = _review(clone, "--stack", STACK)
        settings.write_text(before.replace(".local/data", ".local/other"))
        moved, move = _review(clone, "--stack", STACK)
    finally:
        settings.write_text(before)
    assert code == 0
    replaced = report.partition("### Replaces\n")[2].partition("\n###")[0]
    assert "- **coder** (Container): because of" in replaced
    assert "`ports`" in replaced
    assert purged == 1
    assert "- retire: purgeOnDestroy is on" in purge.partition("### Against the policy\n")[2]
    # As `up` would: it refuses before there is a plan.
    assert moved != 0
    assert f"`make down STACK={STACK}`, `sudo mv -T" in move


@pytest.mark.drill
@pytest.mark.usefixtures("up")
def test_the_weekly_look_finds_a_limit_that_somebody_changed(clone: Clone, tmp_path: Path) -> None:
    # In a checkout of its own, as on the runner: the workflow's step gives it state and passphrase of the pilot's.
    runner = dataclasses.replace(clone, directory=tmp_path / "runner")
    subprocess.run(["git", "clone", "--quiet", clone.directory, runner.directory], check=True, timeout=60)
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "box.yml").read_text())
    (step,) = [each for each in workflow["jobs"]["preview"]["steps"] if "passphrase" in each.get("name", "")]
    variables = {**clone.variables, "PILOT_CHECKOUT": str(clone.directory)}
    subprocess.run(["bash", "-ec", step["run"]], cwd=runner.directory, env=variables, check=True, timeout=60)
    settings = (clone.directory / f"Pulumi.{STACK}.yaml").read_text()
    (runner.directory / f"Pulumi.{STACK}.yaml").write_text(settings.replace(".local/", f"{clone.directory}/.local/"))

    def limit(memory_mb: int) -> None:
        docker("update", f"--memory={memory_mb}m", f"--memory-swap={memory_mb}m", f"{clone.name}-server")

    limit(1900)
    try:
        assert _review(runner, "--stack", STACK, "--drift")[0] != 0
    finally:
        limit(2048)
    code, report = _review(runner, "--stack", STACK, "--drift")
    assert code == 0, report


@pytest.mark.usefixtures("up")
def test_a_clone_that_failed_is_no_success(clone: Clone) -> None:
    done = clone.make("workspace", "NAME=lost", "REPO=http://127.0.0.1:1/lost", check=False)
    assert done.returncode != 0
    assert "lost: it runs, but one of its start scripts failed:" in done.stderr
    assert "http://127.0.0.1:1/lost could not be cloned; the reason is above." in done.stderr
    assert "//code-server--lost--dev." in done.stdout
    assert " running, a start script failed " in clone.make("status").stdout


@pytest.mark.usefixtures("up")
def test_down_takes_the_containers_and_keeps_the_data(clone: Clone) -> None:
    clone.make("workspace", "NAME=demo")
    volumes = docker("volume", "ls", "--quiet", "--filter", f"label=coder-pilot.stack={clone.name}")
    assert volumes
    clone.make("down")
    assert "make up STACK=" in clone.make("backup", check=False).stderr
    assert not docker("ps", "--all", "--quiet", "--filter", f"label=coder-pilot.stack={clone.name}")
    assert not docker("network", "ls", "--quiet", "--filter", f"label=coder-pilot.stack={clone.name}")
    assert docker("volume", "ls", "--quiet", "--filter", f"label=coder-pilot.stack={clone.name}") == volumes
    assert (clone.directory / ".local" / "data" / "postgres" / "PG_VERSION").exists()


@pytest.mark.usefixtures("up")
def test_git_status_is_clean_after_all_of_it(clone: Clone) -> None:
    assert clone.git("status", "--porcelain") == ""
    private = [".passphrase", f".pulumi-state/{STACK}.salt", ".local"]
    assert clone.git("check-ignore", *private).split() == private


@pytest.mark.built_here
def test_the_readmes_lines_for_pulumi_alone_work_on_a_fresh_checkout(tmp_path: Path) -> None:
    readme = (CHECKOUT / "README.md").read_text()
    found = re.search(r"```sh\n(export PULUMI_CONFIG_PASSPHRASE_FILE=.*?)```", readme, re.DOTALL)
    assert found
    # Two things this machine cannot: its language host generates no SDK, which the toolchain has laid instead; and
    # `up` of the box's stack would pull published images.
    assert "pulumi install && " in found[1]
    typed = found[1].replace("pulumi install && ", "").replace("pulumi up ", "pulumi preview ")
    with cloned(tmp_path, "alone") as clone:
        # A pilot that lives on this machine may have the box's name.
        with (clone.directory / "Pulumi.framework.yaml").open("a") as config:
            config.write(f"  coder-pilot:name: {clone.name}\n")
        clone.git("-c", "user.name=x", "-c", "user.email=x@y.z", "commit", "--all", "--quiet", "--message=name")
        (Path(clone.variables["HOME"]) / "coder-pilot.passphrase").write_text("a passphrase of mine")

        def shell(script: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["bash", "-euo", "pipefail", "-c", f'eval "$(python3 -m toolchain env)"\n{script}'],
                cwd=clone.directory, env=clone.variables, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                check=False, timeout=120,
            )  # fmt: skip

        assert shell("python3 -m toolchain build --program").returncode == 0
        installed = shell("pulumi install")
        assert "unknown method GeneratePackage" in installed.stderr
        done = shell(typed)
        assert done.returncode == 0, done.stdout + done.stderr
        assert " to create" in done.stdout
        changed = [line for line in clone.git("diff", "--unified=0").splitlines() if re.match(r"[+-](?![+-])", line)]
        assert [line.split(":")[0] for line in changed] == ["+encryptionsalt"]


def test_pulumi_alone_finds_the_folder_of_its_state(clone: Clone) -> None:
    assert (clone.directory / ".pulumi-state").is_dir()

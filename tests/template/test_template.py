"""The template says what a workspace is: home is kept, limits hold, and bad input is refused with its reason."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from stack.jobs import pilot_file
from stack.template import bundle
from tests.template.template_support import PARTS, SCRIPTS, TESTS, Tofu

PROVIDER = 'provider["registry.opentofu.org/kreuzwerker/docker"]'
VARIABLES = {
    "TF_VAR_workspace_network": "pilot-workspaces",
    "TF_VAR_agent_url": "http://coder:7080",
    "TF_VAR_secrets_directory": "/srv/secrets",
    "TF_VAR_workspace_images": '["image-a", "image-b"]',
    "CODER_WORKSPACE_OWNER": "ann",
    "CODER_WORKSPACE_NAME": "alpha",
}


def plan_with(tofu: Tofu, **parameters: str) -> subprocess.CompletedProcess[str]:
    """A plan with the real providers, with what a person filled into the form."""
    chosen = {
        # The coder provider's own way to hand a parameter over.
        f"CODER_PARAMETER_{hashlib.sha256(name.encode()).hexdigest()}": value
        for name, value in parameters.items()
    }
    return tofu("plan", "-no-color", "-input=false", "-compact-warnings", environment={**VARIABLES, **chosen})


def test_the_template_is_formatted(tofu: Tofu) -> None:
    checked = tofu("fmt", "-check", "-diff", "-recursive", "-no-color")
    assert checked.returncode == 0, checked.stdout


def test_the_template_is_valid(tofu: Tofu) -> None:
    checked = tofu("validate", "-no-color")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("file", sorted(path.name for path in TESTS.glob("*.tftest.hcl")))
def test_every_run_of_the_template_s_tests_passes(tofu: Tofu, file: str) -> None:
    tested = tofu("test", "-no-color", f"-filter=tests/{file}")
    runs = (TESTS / file).read_text().count('\nrun "')
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert f"Success! {runs} passed, 0 failed." in tested.stdout


@pytest.mark.parametrize(
    ("parameter", "value", "reason"),
    [
        ("memory_mb", "16385", "Memory must be between 512 and 16384 MiB"),
        ("memory_mb", "511", "Memory must be between 512 and 16384 MiB"),
        ("cpus", "9", "CPU cores must be between 1 and 8"),
        ("cpus", "0", "CPU cores must be between 1 and 8"),
        ("keep_alive_hours", "13", "The keep-alive limit must be between 0 and 12 hours"),
        ("keep_alive_hours", "-1", "The keep-alive limit must be between 0 and 12 hours"),
        ("image", "image-c", "image-c"),
        *(
            ("git_repository", address, "no password or token")
            for address in (
                "https://me:password@example.com/repo",
                "https://:password@example.com/repo",
                "ssh://me:password@example.com/repo",
                f"https://ghp_{'x' * 36}@example.com/repo",
                f"https://glpat-{'x' * 20}@example.com/repo",
                "https://me@evil.example@example.com/repo",
                "https://example.com/repo?private_token=x",
                "oauth2@example.com:secret@example.com/repo",
                "--upload-pack=touch /tmp/x",
                "--upload-pack=x@example.com:repo",
                "ext::sh -c id",
                f"https://example.com/{'x' * 5000}",
                "https://example.com/repo#--upload-pack=x",
                "https://example.com/repo#a#b",
                "https://example.com/repo#a b",
                f"https://example.com/repo#{'x' * 252}",
                "#main",
            )
        ),
        ("dotfiles_repository", f"https://example.com/{'x' * 5000}", "at most 1000 characters"),
        ("dotfiles_repository", "https://example.com/repo#main", "no password or token"),
        ("dotfiles_repository", "not an address", "no password or token"),
        ("dotfiles_repository", "--symlink-dir@example.com:/x", "no password or token"),
    ],
)
def test_a_bad_parameter_is_refused_with_its_reason(tofu: Tofu, parameter: str, value: str, reason: str) -> None:
    planned = plan_with(tofu, **{parameter: value})
    assert planned.returncode == 1
    assert reason in " ".join(planned.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/group/repo.git",
        "https://some-organisation@dev.azure.com/some-organisation/project/_git/repo",
        "https://me.myself@bitbucket.org/group/repo.git",
        "git@ssh.dev.azure.com:v3/organisation/project/repo",
        "ssh://example.com/repo",
        "https://example.com:8443/@user/repo",
        "ssh://git@example.com/repo",
        "git@example.com:group/repo.git",
        "git://10.0.0.1:9418/repo",
    ],
)
def test_a_usual_git_address_is_accepted(tofu: Tofu, address: str) -> None:
    planned = plan_with(tofu, git_repository=address, dotfiles_repository=address)
    assert planned.returncode == 0, planned.stderr


@pytest.mark.parametrize("branch", ["main", "feature/one"])
def test_a_branch_behind_the_repository_is_accepted(tofu: Tofu, branch: str) -> None:
    planned = plan_with(tofu, git_repository=f"git@example.com:group/repo.git#{branch}")
    assert planned.returncode == 0, planned.stderr


def plan_over_the_seed(tofu: Tofu, folder: Path, **files: str) -> subprocess.CompletedProcess[str]:
    """A plan over the state of a workspace that a template in the shape of Coder's own Docker example made."""
    volume = {
        "mode": "managed", "type": "docker_volume", "name": "home_volume", "provider": PROVIDER,
        "instances": [{"schema_version": 1, "attributes": {
            "id": "coder-w1-home", "name": "coder-w1-home", "driver": "local", "driver_opts": None, "cluster": [],
            "mountpoint": "/m", "labels": [{"label": "coder.workspace_name_at_creation", "value": "alpha"}],
        }}],
    }  # fmt: skip
    state = folder / "seed.tfstate"
    state.write_text(json.dumps({"version": 4, "serial": 1, "lineage": "x", "resources": [volume]}))
    options = ("-no-color", "-input=false", "-refresh=false", "-compact-warnings", f"-state={state}")
    return tofu("plan", *options, environment=VARIABLES, files={f"{name}.tf": text for name, text in files.items()})


def test_an_update_destroys_an_old_home_unless_the_block_that_adopt_notes_leads_it_to_ours(
    tofu: Tofu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = plan_over_the_seed(tofu, tmp_path)
    assert "docker_volume.home_volume will be destroyed" in without.stdout, without.stdout + without.stderr
    monkeypatch.chdir(tmp_path)
    pilot_file.update(str(tmp_path), adoption={"template": "t", "home": "docker_volume.home_volume"})
    planned = plan_over_the_seed(tofu, tmp_path, adopted=bundle(str(tmp_path)).sources["adopted.tf"].read_text())
    assert planned.returncode == 0, planned.stderr
    assert "docker_volume.home_volume has moved to docker_volume.home" in planned.stdout
    assert " 0 to destroy" in planned.stdout
    assert "docker_volume.home will be" not in planned.stdout


def test_a_service_environment_that_is_refused_is_not_shown(tofu: Tofu) -> None:
    spoiled = json.dumps({"EXPANDED": "$HOME", "TOKEN": "sk-very-secret"})
    variables = {**VARIABLES, "TF_VAR_service_environment": spoiled}
    planned = tofu("plan", "-no-color", "-input=false", environment=variables)
    assert planned.returncode == 1
    assert "without '$'" in " ".join(planned.stderr.split())
    assert "sk-very-secret" not in planned.stdout + planned.stderr


def test_the_scripts_are_clean() -> None:
    checked = subprocess.run(
        ["shellcheck", *sorted(SCRIPTS.glob("*.sh")), PARTS], capture_output=True, text=True, check=False, timeout=60
    )
    assert checked.returncode == 0, checked.stdout

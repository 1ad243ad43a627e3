"""The front door reads the settings of a stack in every form in which YAML may write them, and no secret with them.

That Pulumi reads the same, tests/contract/test_pulumi_configuration.py asks Pulumi itself.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pilot import configuration
from pilot.configuration import PilotError
from stack.settings import Encrypted
from tests.yaml_forms import FORMS

CHECKOUT = Path(__file__).resolve().parents[2]
VALUES = {"name": "other", "port": "17001", "dataDir": ".local/other", "workspaceImages": "a/b:1,c/d:2"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "Pulumi.yaml").write_text((CHECKOUT / "Pulumi.yaml").read_text())
    monkeypatch.setattr(configuration, "PROJECT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_values(project: Path, form: str) -> None:
    (project / "Pulumi.x.yaml").write_text(FORMS[form](VALUES))
    settings = configuration.settings("x")
    assert (settings.site.name, settings.site.port) == ("other", 17001)
    assert settings.site.data_dir == str(project / ".local/other")
    assert settings.workspaces.images == ("a/b:1", "c/d:2")
    nested = {"OLLAMA_HOST": "http://127.0.0.1:11434", "WORKERS": "4"}
    assert settings.workspaces.service_environment == (nested if form == "a list and an object" else {})


def test_what_a_stack_does_not_set_is_the_projects_default(project: Path) -> None:
    (project / "Pulumi.x.yaml").write_text("# nothing\n")
    settings = configuration.settings("x")
    assert (settings.site.name, settings.site.port, settings.site.data_dir) == ("coder", 7080, "/srv/docker/coder")


def test_settings_of_others_are_left_alone(project: Path) -> None:
    (project / "Pulumi.x.yaml").write_text("config:\n  docker:host: unix:///x\n  coder-pilot:port: 17001\n")
    assert configuration.settings("x").site.port == 17001


ENCRYPTED = """
encryptionsalt: v1:x
config:
  coder-pilot:port: 17001
  coder-pilot:anthropicApiKey:
    secure: v1:abc
  coder-pilot:serviceEnvironment:
    TOKEN: {secure: v1:def}
    OLLAMA_HOST: http://127.0.0.1:11434
"""


def test_an_encrypted_value_is_unknown_here_and_the_rest_is_not(project: Path) -> None:
    (project / "Pulumi.x.yaml").write_text(ENCRYPTED)
    settings = configuration.settings("x")
    assert settings.site.port == 17001
    assert settings.workspaces.anthropic_api_key == settings.workspaces.service_environment == Encrypted()


def test_a_reviewer_gets_the_settings_without_what_is_encrypted(project: Path) -> None:
    (project / "Pulumi.x.yaml").write_text(ENCRYPTED)
    own = configuration.document(project / "Pulumi.x.yaml")["config"]
    assert configuration.without_encrypted(own) == {
        "coder-pilot:port": 17001,
        "coder-pilot:serviceEnvironment": {"OLLAMA_HOST": "http://127.0.0.1:11434"},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("config: [", "Pulumi.x.yaml is not YAML"),
        ("- config", "Pulumi.x.yaml is not a mapping"),
        ("config: [a]", "`config` in Pulumi.x.yaml is not a mapping"),
        ("config: {coder-pilot:port: none}", 'port is "none", allowed is a whole number'),
        ("config: {coder-pilot:prot: 1}", "did you mean port"),
        ("config: {coder-pilot:port: {a: 1}}", "port is "),
        ("config: {coder-pilot:port: {secure: v1:abc}}", "port is encrypted, but must be plain text"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_file_and_the_reason(project: Path, text: str, said: str) -> None:
    (project / "Pulumi.x.yaml").write_text(text)
    with pytest.raises(PilotError) as refused:
        configuration.settings("x")
    assert said in str(refused.value)
    assert "Pulumi.x.yaml" in str(refused.value)


def test_a_python_without_packages_takes_the_library_of_the_virtual_environment_and_nothing_else_of_it() -> None:
    code = (
        "import sys; from pilot import configuration; before = list(sys.path)\n"
        "print(configuration.settings('local').site.port)\n"
        "assert sys.path == before; assert 'yaml' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout.strip()) == (0, "7080"), done.stderr

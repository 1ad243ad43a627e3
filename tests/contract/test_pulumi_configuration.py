"""The front door and the program have the same settings: what we read from a stack's file is what Pulumi reads."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pilot import configuration, session
from stack.settings import Encrypted, parse
from tests.yaml_forms import FORMS
from toolchain import environment
from toolchain.builder import Builder
from toolchain.pieces import PIECES

CHECKOUT = Path(__file__).resolve().parents[2]
VALUES = {"name": "other", "port": "17001", "dataDir": ".local/other", "workspaceImages": "a/b:1,c/d:2"}

Pulumi = Callable[..., str]


@pytest.fixture(scope="module")
def pulumi(tmp_path_factory: pytest.TempPathFactory) -> Pulumi:
    """Runs `pulumi` in a project folder of its own, on its stack `x`."""
    folder = tmp_path_factory.mktemp("configuration")
    (folder / "Pulumi.yaml").write_text((CHECKOUT / "Pulumi.yaml").read_text())
    (folder / ".pulumi-state").mkdir()
    variables = {**os.environ, **environment.variables(Builder(PIECES)), "PULUMI_CONFIG_PASSPHRASE": "of the tests"}

    def call(*words: str) -> str:
        done = subprocess.run(
            ["pulumi", *words, "--stack", "x"], cwd=folder, env=variables, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configuration, "PROJECT", folder)
        call("stack", "init")
        yield call


def _of_pulumi(pulumi: Pulumi) -> dict[str, str | Encrypted[str]]:
    shown: Mapping[str, Mapping[str, str]] = json.loads(pulumi("config", "--json", "--show-secrets"))
    return {
        key.removeprefix("coder-pilot:"): Encrypted() if each["secret"] else each["value"]
        for key, each in shown.items()
        if key.startswith("coder-pilot:")
    }


def _write(text: str) -> None:
    """Make this the stack's file; the salt of its secrets stays."""
    file = configuration.PROJECT / "Pulumi.x.yaml"
    salt = configuration.document(file)["encryptionsalt"]
    file.write_text(f"encryptionsalt: {salt}\n{text}")


def test_a_second_passphrase_in_the_settings_is_told_from_a_wrong_one(
    pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = configuration.PROJECT / "Pulumi.x.yaml"
    salt = file.read_text()
    monkeypatch.setattr(session, "PROJECT", configuration.PROJECT)
    monkeypatch.setattr(session, "STATE", configuration.PROJECT / ".pulumi-state")
    variables = {**os.environ, **environment.variables(Builder(PIECES))}
    right, other = ({**variables, "PULUMI_CONFIG_PASSPHRASE": each} for each in ("of the tests", "another"))
    # As `make up` keeps it: the salt is not among the settings.
    (session.STATE / "x.salt").write_text(salt)
    file.write_text("config: {}\n")
    words = ["pulumi", "config", "set", "--secret", "password", "word", "--stack", "x"]
    try:
        assert session.second_passphrase("x", right) == ""
        subprocess.run(words, cwd=session.PROJECT, env=other, check=True, timeout=60)
        assert not session.passphrase_fits("x", session.salted_file("x"), right)
        assert "`encryptionsalt`" in session.wrong_passphrase("x", right)
        # That one is not the state's.
        assert session.second_passphrase("x", other) == ""
    finally:
        file.write_text(salt)
        (session.STATE / "x.salt").unlink()


@pytest.mark.parametrize("form", FORMS)
def test_pulumi_reads_the_same_settings_in_every_form(pulumi: Pulumi, form: str) -> None:
    _write(FORMS[form](VALUES))
    ours = configuration.settings("x")
    assert ours == parse(_of_pulumi(pulumi), configuration.PROJECT)
    assert ours.site.name == "other"


WORDS = [
    "17001", "017", "0x1F90", "1_000", "0b11", "-1", "0", "+1", "true", "True", "false", "yes", "no", "on", "off", "y",
    "~", "null", "", "''", "1:30", "12:30:45", "2h", "a", "'~'", '"true"', "!!str 17", "a # b", "'a # b'", "'a: b'",
]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_pulumi_reads_the_same_word(pulumi: Pulumi, word: str) -> None:
    _write(f"config:\n  coder-pilot:accessUrl: {word}\n")
    assert configuration.values("x")["accessUrl"] == _of_pulumi(pulumi)["accessUrl"]


def test_pulumi_takes_a_list_and_an_object_set_by_path_and_so_do_we(pulumi: Pulumi) -> None:
    _write("config: {}\n")
    pulumi("config", "set", "--path", "workspaceImages[0]", "a/b:1")
    pulumi("config", "set", "--path", "workspaceImages[1]", "c/d:2")
    pulumi("config", "set", "--path", "serviceEnvironment.OLLAMA_HOST", "http://127.0.0.1:11434")
    pulumi("config", "set", "--path", "serviceEnvironment.WORKERS", "4")
    ours = configuration.settings("x")
    assert ours == parse(_of_pulumi(pulumi), configuration.PROJECT)
    assert ours.workspaces.images == ("a/b:1", "c/d:2")
    assert ours.workspaces.service_environment == {"OLLAMA_HOST": "http://127.0.0.1:11434", "WORKERS": "4"}


def test_text_in_their_place_is_still_taken(pulumi: Pulumi) -> None:
    _write("config: {}\n")
    pulumi("config", "set", "workspaceImages", "a/b:1, c/d:2")
    pulumi("config", "set", "serviceEnvironment", '{"OLLAMA_HOST": "http://127.0.0.1:11434"}')
    ours = configuration.settings("x")
    assert ours == parse(_of_pulumi(pulumi), configuration.PROJECT)
    assert ours.workspaces.images == ("a/b:1", "c/d:2")
    assert ours.workspaces.service_environment == {"OLLAMA_HOST": "http://127.0.0.1:11434"}


@pytest.mark.parametrize(
    ("words", "key"),
    [(["anthropicApiKey"], "anthropicApiKey"), (["--path", "serviceEnvironment.TOKEN"], "serviceEnvironment")],
)
def test_what_pulumi_encrypts_is_encrypted_for_us(pulumi: Pulumi, words: list[str], key: str) -> None:
    _write("config: {}\n")
    pulumi("config", "set", "--secret", *words, "s3cret")
    assert configuration.values("x")[key] == _of_pulumi(pulumi)[key] == Encrypted()
    assert configuration.settings("x") == parse(_of_pulumi(pulumi), configuration.PROJECT)

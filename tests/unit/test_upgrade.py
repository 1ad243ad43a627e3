"""`make upgrade` makes a backup before it pulls, and says how to go back from what moved."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pilot import backup, converge, prove, upgrade
from pilot.__main__ import main
from pilot.configuration import PilotError
from stack.jobs import disk, processes
from stack.jobs.engine import JobError

TAGS = {"coderImage": "ghcr.io/coder/coder:v2.38.8", "postgresImage": "postgres:17", "workspaceImages": "base:ubuntu"}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What happened, in its order; the engine has others but for Postgres after the pull."""
    happened: list[str] = []

    def images(*tags: str) -> list[dict[str, Any]]:
        pulled = any(each.startswith("pull") for each in happened)
        digests = {tag: "new" if pulled and "postgres" not in tag else "old" for tag in tags}
        return [
            {"Id": digest, "RepoTags": [tag], "RepoDigests": [f"{tag.split(':')[0]}@sha256:{digest}"]}
            for tag, digest in digests.items()
        ]

    settings = SimpleNamespace(
        control_plane=SimpleNamespace(image=TAGS["coderImage"]),
        database=SimpleNamespace(image=TAGS["postgresImage"]),
        workspaces=SimpleNamespace(images=(TAGS["workspaceImages"], "coder-pilot/workspace:1", "base@sha256:1")),
    )
    session = SimpleNamespace(stack="framework", settings=settings)
    monkeypatch.setattr(upgrade, "open_session", lambda *_, **__: session)
    monkeypatch.setattr(converge, "refuse_whatever_up_refuses", lambda _: happened.append("looked"))
    monkeypatch.setattr(backup, "back_up", lambda _: happened.append("backup") or Path("/b.dump"))
    monkeypatch.setattr(upgrade.engine, "inspect", images)
    monkeypatch.setattr(upgrade.engine, "docker", lambda *words, **_: happened.append(" ".join(words)) or "")
    monkeypatch.setattr(converge, "converge", lambda _, *flags: happened.append(f"up {flags}") or 0)
    monkeypatch.setattr(prove, "run", lambda _: happened.append("prove") or 0)
    return happened


def test_the_backup_comes_before_the_pull_and_the_proof_after_the_up(
    said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert upgrade.run(argparse.Namespace(stack="framework", json=False)) == 0
    assert said == [
        "looked", "backup", *(f"pull --quiet {each}" for each in TAGS.values()), "up ('--refresh',)", "prove",
    ]  # fmt: skip
    printed = capsys.readouterr()
    told = printed.out + printed.err
    assert "`pulumi config set coderImage ghcr.io/coder/coder@sha256:old`" in told
    # With what has not moved: it is one setting.
    images = "base@sha256:old,coder-pilot/workspace:1,base@sha256:1"
    assert f"`pulumi config set workspaceImages {images}`" in told
    assert "postgresImage postgres@" not in told


def test_without_a_backup_nothing_is_pulled(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_: object) -> Path:
        raise PilotError("the database does not run")

    monkeypatch.setattr(backup, "back_up", down)
    with pytest.raises(PilotError):
        upgrade.run(argparse.Namespace(stack="framework", json=False))
    assert said == ["looked"]


@pytest.mark.parametrize("error", ["dial tcp: no such host", "write /var/lib/docker/tmp: no space left on device"])
def test_where_a_tag_cannot_be_pulled_nothing_is_changed_and_the_backup_stays(
    said: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: str
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise JobError(f"`docker pull` failed: {error}")

    monkeypatch.setattr(upgrade.engine, "docker", fail)
    monkeypatch.setattr(disk, "docker_root", lambda: None)
    monkeypatch.setattr(processes, "end_left_behind", lambda _: None)
    assert main(["upgrade"]) == 1
    told = capsys.readouterr().err
    assert said == ["looked", "backup"]
    assert error in told
    assert "Traceback" not in told
    assert ("ran out of space" in told) == ("no space" in error)

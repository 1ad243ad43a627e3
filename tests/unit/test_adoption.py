"""A template that is not ours becomes ours only where an update keeps every workspace's home: one volume by the
workspace's id, at one address, and nothing beside it that holds files."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from stack import template
from stack.jobs import adoption, pilot_file
from stack.jobs.adoption import Workspace

OURS = frozenset({"docker_volume.home", "docker_container.workspace", "coder_agent.main"})
PROVIDER = 'provider["registry.terraform.io/kreuzwerker/docker"]'


def resource(type_: str, name: str, *instances: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "mode": "managed", "type": type_, "name": name, "provider": PROVIDER, **more,
        "instances": [each if "attributes" in each else {"attributes": each} for each in instances],
    }  # fmt: skip


def volume(workspace: str = "w1", name: str = "home_volume", **more: Any) -> dict[str, Any]:
    return resource("docker_volume", name, {"name": f"coder-{workspace}-home"}, **more)


def container(**mounts: Any) -> dict[str, Any]:
    whole = {"volumes": [{"container_path": "/home/coder", "volume_name": "coder-w1-home"}], **mounts}
    return resource("docker_container", "workspace", {"index_key": 0, "attributes": whole})


def state(*resources: dict[str, Any], **more: Any) -> str:
    return json.dumps({"version": 4, "resources": [*resources, {"mode": "data", "type": "coder_workspace"}], **more})


def workspace(now: str, started: str = "", name: str = "w1", status: str = "succeeded") -> Workspace:
    return Workspace(
        title=f"me/{name}", id=name, transition="stop", status=status, state=now, started=started or now
    )  # fmt: skip


def test_the_shape_of_coder_s_own_docker_example_becomes_ours() -> None:
    agent = resource("coder_agent", "main", {})
    stopped = workspace(state(volume(), agent), state(volume(), agent, container()))
    running = workspace(state(volume("w2"), agent), name="w2")
    judged = adoption.judge([stopped, running], OURS)
    assert (judged.home, judged.problems) == ("docker_volume.home_volume", [])
    assert [each.home for each in judged.fates] == ["docker_volume.home_volume"] * 2
    assert judged.fates[0].replaced == ["docker_container.workspace"]
    assert judged.fates[0].destroyed == []


def test_what_an_update_would_destroy_is_told() -> None:
    image = resource("docker_image", "main", {"name": "x"})
    (fate,) = adoption.judge([workspace(state(volume(), image))], OURS).fates
    assert (fate.destroyed, fate.problems) == (["docker_image.main"], [])


@pytest.mark.parametrize("empty", ["", state()])
def test_a_workspace_without_a_state_has_nothing_to_lose_and_takes_its_volume_by_name(empty: str) -> None:
    judged = adoption.judge([workspace(empty, "")], OURS)
    assert (judged.problems, judged.fates[0].home, judged.home) == ([], None, "docker_volume.home")


REFUSED = {
    "no volume by its id": (state(resource("docker_volume", "home", {"name": "me-home"})), "no Docker volume"),
    "no volume at all": (state(container()), "no Docker volume coder-w1-home holds its home"),
    "two volumes": (state(volume(), resource("docker_volume", "data", {"name": "d"})), "docker_volume.data would be"),
    "another volume at our address": (
        state(volume(), resource("docker_volume", "home", {"name": "d"})), "docker_volume.home would be destroyed",
    ),
    "an index": (
        state(resource("docker_volume", "home", {"index_key": "a", "attributes": {"name": "coder-w1-home"}})),
        "has an index",
    ),
    "a module": (state(volume(module="module.home")), "is in a module"),
    "another provider": (state(volume(provider='provider["x/y/docker"]')), "is not of the provider"),
    "a bind mount": (
        state(volume(), container(volumes=[{"host_path": "/srv/work", "container_path": "/work"}])),
        "it mounts the host's /srv/work, which ours would not",
    ),
    "a bind mount of the other kind": (
        state(volume(), container(mounts=[{"type": "bind", "source": "/srv/work", "target": "/work"}])),
        "it mounts /srv/work at /work",
    ),
    "a volume of somewhere else": (
        state(volume(), container(volumes=[{"volume_name": "cache", "container_path": "/cache"}])),
        "it mounts the volume cache at /cache",
    ),
    "the home elsewhere": (
        state(volume(), container(volumes=[{"volume_name": "coder-w1-home", "container_path": "/root"}])),
        "its home is mounted at /root, and ours at /home/coder",
    ),
    "what nobody knows": (state(volume(), resource("aws_ebs_volume", "disk", {})), "aws_ebs_volume.disk would be"),
    "no JSON": ("{half", "cannot be read"),
    "no state": ("[]", "cannot be read"),
    "another format": (json.dumps({"version": 5, "resources": []}), "its format is 5"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_workspace_that_would_lose_files_keeps_the_template_beside_ours(kind: str) -> None:
    text, why = REFUSED[kind]
    (problem, *_) = adoption.judge([workspace(text)], OURS).problems
    assert problem.startswith("me/w1: ")
    assert why in problem
    # An `up` goes on where an update would only lose sight of something, or cannot be.
    destroys = {"two volumes", "another volume at our address", "a module", "what nobody knows", "an index"}
    assert bool(adoption.endangered([workspace(text)], "docker_volume.home_volume")) == (kind in destroys)


def test_a_mount_that_only_the_running_container_had_is_seen_in_the_newest_start() -> None:
    started = state(volume(), container(volumes=[{"host_path": "/srv/work", "container_path": "/work"}]))
    assert adoption.judge([workspace(state(volume()), started)], OURS).problems


def test_homes_at_two_addresses_cannot_both_be_moved() -> None:
    judged = adoption.judge([workspace(state(volume())), workspace(state(volume("w2", "data")), name="w2")], OURS)
    (problem,) = judged.problems
    assert "docker_volume.data in me/w2, docker_volume.home_volume in me/w1" in problem


def test_an_up_sends_nothing_that_would_destroy_a_home_that_changed_since_the_look() -> None:
    assert adoption.endangered([workspace(state(volume()))], "docker_volume.home_volume") == []
    assert adoption.endangered([workspace(state(volume(name="home")))], "docker_volume.home_volume") == []
    for noted in ("", "docker_volume.other"):
        (told,) = adoption.endangered([workspace(state(volume()))], noted)
        assert told == "me/w1: docker_volume.home_volume would be destroyed, and nothing leads it to ours"


def test_a_row_of_the_database_is_read_and_none_of_its_secrets_shown() -> None:
    secret = state(volume(), resource("coder_agent", "main", {"token": "very-secret"}))
    row = {"title": "me/w1", "id": "w1", "transition": "stop", "status": "failed", "started": None}
    found = adoption.workspace(json.dumps({**row, "state": base64.encodebytes(secret.encode()).decode()}))
    judged = adoption.judge([found], OURS)
    assert judged.fates[0].home == "docker_volume.home_volume"
    told = [*judged.problems, *judged.fates[0].destroyed, *judged.fates[0].replaced, *judged.fates[0].problems]
    assert "very-secret" not in str(told)


def test_the_moved_block_goes_beside_the_template_s_files_and_into_the_digest(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert template.bundle(str(tmp_path)) is template.BUNDLE
    for home, sent in (
        ("docker_volume.home_volume", True), ("docker_volume.home", False), ("", False), ('x" } evil {', False),
    ):  # fmt: skip
        pilot_file.update(str(tmp_path), adoption={"template": "t", "home": home})
        found = template.bundle(str(tmp_path))
        assert ("adopted.tf" in found.sources) == sent
        if sent:
            assert found.digest() != template.BUNDLE.digest()
            assert (found.lay() / "adopted.tf").read_text() == (
                "moved {\n  from = docker_volume.home_volume\n  to   = docker_volume.home\n}\n"
            )
        assert pilot_file.template_name(str(tmp_path)) == ("project" if not home else "code-server")

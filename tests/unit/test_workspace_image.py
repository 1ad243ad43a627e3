"""A workspace image is built anew exactly when what it is made of changes, and holds and is sent nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stack import bundle, workspace_image
from stack.bundle import Bundle, sources
from stack.jobs import engine, pilot_file, postgres, program, workspace_images
from tests.unit.program import CHECKOUT, LOCAL, declare

BASE = "example/workspace:1"
IMAGE = "docker:index/remoteImage:RemoteImage"


def test_every_base_of_the_settings_has_its_image_and_the_template_knows_them() -> None:
    declared = declare({**LOCAL, "workspaceImages": "a/one:1,a/two:2"})
    built = {each.name: each.inputs for each in declared.of(IMAGE) if each.name.startswith("workspace-image-")}
    assert {inputs["build"]["buildArgs"]["BASE"] for inputs in built.values()} == {"a/one:1", "a/two:2"}
    (template,) = declared.of("coderd:index/template:Template")
    variables = {each["name"]: each["value"] for each in template.inputs["versions"][0]["tfVars"]}
    assert json.loads(variables["workspace_images"]) == ["a/one:1", "a/two:2"]
    assert json.loads(variables["built_images"]) == {
        inputs["build"]["buildArgs"]["BASE"]: inputs["name"] for inputs in built.values()
    }


def test_no_build_argument_is_a_secret_or_could_be_one() -> None:
    declared = declare({**LOCAL, "anthropicApiKey": "sk-secret"}, secrets=("anthropicApiKey",))
    for each in declared.of(IMAGE):
        arguments = each.inputs.get("build", {}).get("buildArgs", {})
        assert set(arguments) <= {"BASE", "STACK", "ATTEMPT"}, each.name
        assert not each.secrets, each.name
        assert "sk-secret" not in json.dumps(each.inputs)


def test_an_image_of_ours_is_looked_for_in_no_registry() -> None:
    """Docker takes the part before the first slash for a registry's name only if it is one: `localhost` is."""
    (built,) = [each for each in declare(LOCAL).of(IMAGE) if each.name.startswith("workspace-image-")]
    assert built.inputs["name"].startswith("localhost/coder-workspace:example-workspace-1-")
    assert built.inputs["keepLocally"] is True


@pytest.mark.parametrize(
    ("change", "another"),
    [
        (lambda folder: (folder / "parts.sh").write_text("echo other\n"), True),
        (lambda folder: (folder / "Dockerfile").write_text("FROM scratch\n"), True),
        (lambda folder: (folder / "README.md").write_text("Other words.\n"), False),
        (lambda folder: (folder / ".install.sh.swp").write_text("of an editor\n"), False),
    ],
    ids=["script", "Dockerfile", "README", "editor's file"],
)
def test_a_changed_script_gives_another_image_and_a_changed_readme_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Any], another: bool
) -> None:
    folder = tmp_path / "workspace-image"
    folder.mkdir()
    for file in (CHECKOUT / "workspace-image").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())

    def name() -> str:
        found = Bundle(name="workspace-image", sources=sources(folder, "Dockerfile", "*.sh"))
        monkeypatch.setattr(workspace_image, "BUNDLE", found)
        return workspace_image.image_name("coder", "base", "base:1", "sha256:1")

    before = name()
    change(folder)
    assert (name() != before) is another


def test_another_base_of_the_same_name_gives_another_image() -> None:
    names = {
        workspace_image.image_name("coder", "base", "base:1", identifier) for identifier in ("sha256:1", "sha256:2")
    }
    assert len(names) == 2


# --- the folder that is sent


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a folder of sources, in which the program runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "main.tf").write_text("one\n")
    return tmp_path


def _lay(checkout: Path) -> dict[str, str]:
    folder = Bundle(name="copy", sources=sources(checkout / "source", "*.tf", "scripts/*.sh")).lay()
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_copy_holds_the_sources_and_nothing_that_lies_beside_them(checkout: Path) -> None:
    for name in (".env", "terraform.tfvars", ".main.tf.swp", "main.tf~", ".terraform.lock.hcl"):
        (checkout / "source" / name).write_text("secret\n")
    (checkout / "source" / "linked.tf").symlink_to("/etc/passwd")
    (checkout / "source" / ".terraform").mkdir()
    assert _lay(checkout) == {"main.tf": "one\n"}


def test_the_copy_follows_a_change_and_forgets_what_is_gone(checkout: Path) -> None:
    scripts = checkout / "source" / "scripts"
    scripts.mkdir()
    (scripts / "a.sh").write_text("a\n")
    assert _lay(checkout) == {"main.tf": "one\n", "scripts/a.sh": "a\n"}
    (scripts / "a.sh").unlink()
    (checkout / "source" / "main.tf").write_text("two\n")
    (checkout / bundle.ROOT / "copy" / "stray").write_text("by hand\n")
    assert _lay(checkout) == {"main.tf": "two\n"}


def test_what_is_right_already_is_not_written_again(checkout: Path) -> None:
    _lay(checkout)
    before = (checkout / bundle.ROOT / "copy" / "main.tf").stat()
    _lay(checkout)
    after = (checkout / bundle.ROOT / "copy" / "main.tf").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


# --- the job beside the state


class Engine:
    """An engine with some images, of which it refuses to remove those in use."""

    def __init__(self) -> None:
        self.images: set[str] = set()
        self.in_use: set[str] = set()
        self.lacking: set[str] = set()
        self.says = ""

    def docker(self, *words: str, **_: object) -> str:
        if words[:2] == ("image", "ls"):
            return "\n".join(f"{name} sha256:{name}" for name in sorted(self.images))
        if words[:2] == ("image", "rm"):
            if words[2] in self.in_use:
                raise engine.JobError("image is being used by running container")
            self.images.remove(words[2])
            return ""
        assert words[0] == "run", words
        if self.says:
            return self.says
        return "without-extension" if any(f"id-of-{name}" in words for name in self.lacking) else ""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    found = Engine()
    monkeypatch.setattr(engine, "docker", found.docker)
    for name, value in {
        "DATA_DIRECTORY": str(tmp_path), "STACK": "coder", "BASES": json.dumps([BASE]), "DOCKER_HOST": "unix:///none",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(postgres, "query", lambda *_: [])
    return found


def _run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["workspace_images", *words])
    workspace_images.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def _built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, attempt: int
) -> dict[str, Any]:
    monkeypatch.setenv("IMAGES", json.dumps({BASE: {"name": name, "id": f"id-of-{name}"}}))
    monkeypatch.setenv("ATTEMPTS", json.dumps({BASE: attempt}))
    return _run(monkeypatch, capsys)


def test_an_image_that_is_there_and_whole_is_not_built_again(
    fake: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, capsys, "look") == {BASE: 1}
    fake.images = {"image:1"}
    assert _built(monkeypatch, capsys, "image:1", 1) == {"incomplete": [], "lacking": {}}
    assert _run(monkeypatch, capsys, "tend") == {BASE: 1}


@pytest.mark.parametrize("fault", ["gone from the engine", "without the extension"])
def test_an_image_that_is_gone_or_lacks_the_extension_is_built_again(
    fake: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    fake.images = {"image:1"}
    fake.lacking = {"image:1"} if fault == "without the extension" else set()
    answer = _built(monkeypatch, capsys, "image:1", 1)
    assert answer == {"incomplete": [BASE] if fake.lacking else [], "lacking": {}}
    if not fake.lacking:
        fake.images = set()
    assert _run(monkeypatch, capsys, "look") == {BASE: 2}
    # A build that failed left no record: the number stays until one succeeds.
    assert _run(monkeypatch, capsys, "tend") == {BASE: 2}
    fake.images, fake.lacking = {"image:1"}, set()
    _built(monkeypatch, capsys, "image:1", 2)
    assert _run(monkeypatch, capsys, "look") == {BASE: 2}


@pytest.mark.parametrize(("says", "attempt"), [("without-tools\ntmux\nnode", 2), ("tmux\nnode", 1)])
def test_tools_that_are_not_in_are_told_and_tried_again_only_where_that_may_help(
    fake: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], says: str, attempt: int
) -> None:
    fake.images, fake.says = {"image:1"}, says
    answer = _built(monkeypatch, capsys, "image:1", 1)
    assert answer == {"incomplete": [], "lacking": {BASE: {"tools": ["tmux", "node"], "again": attempt == 2}}}
    assert _run(monkeypatch, capsys, "tend") == {BASE: attempt}


def test_an_engine_that_does_not_answer_is_not_taken_for_one_without_the_image(
    fake: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _built(monkeypatch, capsys, "image:1", 1)

    def refuse(*_: str, **__: object) -> str:
        raise engine.JobError("no engine")

    monkeypatch.setattr(engine, "docker", refuse)
    assert _run(monkeypatch, capsys, "look") == {BASE: 1}


def test_an_older_image_goes_when_neither_a_container_nor_a_parked_workspace_has_it(
    fake: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.images = {"image:1", "image:2", "image:3", "image:4"}
    fake.in_use = {"image:2"}
    monkeypatch.setattr(postgres, "query", lambda *_: [json.dumps({BASE: "image:3"})])
    _built(monkeypatch, capsys, "image:4", 1)
    _run(monkeypatch, capsys, "look")
    assert fake.images == {"image:1", "image:2", "image:3", "image:4"}
    _run(monkeypatch, capsys, "tend")
    assert fake.images == {"image:2", "image:3", "image:4"}


def test_nothing_is_removed_while_the_database_cannot_tell_who_needs_it(
    fake: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: str) -> list[str]:
        raise engine.JobError("no database")

    fake.images = {"image:1", "image:2"}
    _built(monkeypatch, capsys, "image:2", 1)
    monkeypatch.setattr(postgres, "query", refuse)
    _run(monkeypatch, capsys, "tend")
    assert fake.images == {"image:1", "image:2"}


def test_nothing_is_removed_before_a_build_was_recorded(
    fake: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: a data directory that could not be made had no record, and the current image went."""
    fake.images = {"image:1"}
    assert _run(monkeypatch, capsys, "tend") == {BASE: 1}
    assert fake.images == {"image:1"}


def test_the_record_keeps_what_else_is_known_of_the_data(
    fake: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pilot_file.update(str(tmp_path), token_generation=3)
    _built(monkeypatch, capsys, "image:1", 1)
    assert pilot_file.token_generation(program.variable("DATA_DIRECTORY")) == 3

"""The command plugin that the toolchain builds behaves like the published pulumi-command 1.2.1.

The published Python package drives it on the real engine. Our stack relies on each behaviour tested here, so a
difference would be a program that works on one of our two kinds of machine only.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import Any

import pulumi
import pytest
from pulumi import automation
from pulumi_command import local

PROJECT, STACK = "command-contract", "test"
INTERRUPT_DEADLINE_S = 20.0
SECRET = "correct-horse-battery"
# The longest line that a line scanner with its usual buffer takes is 64 KiB.
LONG_LINE = 70 * 1024
UNREAD_STDIN = 200 * 1024
# The engine marks an encrypted value in a state file with this key.
SECRET_MARK = "4dabf18193072939515e22adb298388d"

Program = Callable[[], None]


def _plugins() -> Path:
    """The folder of the plugins that the toolchain installed."""
    plugins = Path(os.environ.get("PULUMI_HOME", "")) / "plugins"
    assert plugins.is_dir(), 'PULUMI_HOME has no plugins; run: eval "$(python3 -m toolchain env)"'
    return plugins.absolute()


@dataclass(kw_only=True)
class Run:
    """What one run of the engine showed."""

    text: str = ""
    changes: Mapping[str, int] = field(default_factory=dict)
    logged: dict[str, list[str]] = field(default_factory=dict)
    operations: dict[str, str] = field(default_factory=dict)
    outputs: Mapping[str, automation.OutputValue] = field(default_factory=dict)

    def note(self, event: automation.EngineEvent) -> None:
        """Keep a resource's log lines and what is planned for it, by the resource's name."""
        if (diagnostic := event.diagnostic_event) and diagnostic.severity != "debug":
            name = (diagnostic.urn or "").rpartition("::")[2]
            self.logged.setdefault(name, []).append(diagnostic.message.rstrip("\n"))
        if step := event.resource_pre_event:
            name = step.metadata.urn.rpartition("::")[2]
            self.operations.setdefault(name, str(getattr(step.metadata.op, "value", step.metadata.op)))


class Engine:
    """One stack with an inline program, a state file and a PULUMI_HOME of its own."""

    def __init__(self, directory: Path) -> None:
        home = directory / "home"
        home.mkdir()
        (home / "plugins").symlink_to(_plugins())
        (directory / "backend").mkdir()
        self.directory = directory
        self.environment = {
            "PULUMI_HOME": str(home),
            "PULUMI_BACKEND_URL": f"file://{directory / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE": "contract",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }
        self.stack = automation.create_stack(
            STACK,
            project_name=PROJECT,
            program=lambda: None,
            opts=automation.LocalWorkspaceOptions(work_dir=str(directory), env_vars=self.environment),
        )

    def _using(self, program: Program) -> None:
        self.stack.workspace.program = program

    def up(self, program: Program, *, refresh: bool = False) -> Run:
        """Converge.

        Raises:
            automation.CommandError: the engine failed.
        """
        self._using(program)
        run = Run()
        result = self.stack.up(on_event=run.note, refresh=refresh)
        run.text, run.outputs = result.stdout, result.outputs
        run.changes = {str(kind): count for kind, count in (result.summary.resource_changes or {}).items()}
        return run

    def preview(self, program: Program) -> Run:
        """Plan only."""
        self._using(program)
        run = Run()
        run.text = self.stack.preview(on_event=run.note).stdout
        return run

    def destroy(self) -> Run:
        """Delete every resource."""
        run = Run()
        run.text = self.stack.destroy(on_event=run.note).stdout
        return run

    @property
    def state_text(self) -> str:
        """The state file as it lies on the disk: encrypted values are encrypted in it."""
        return next((self.directory / "backend").rglob(f"stacks/**/{STACK}.json")).read_text()

    def state(self) -> dict[str, dict[str, Any]]:
        """Every resource's outputs in the state file, by the resource's name."""
        resources = json.loads(self.state_text)["checkpoint"]["latest"]["resources"]
        return {resource["urn"].rpartition("::")[2]: resource.get("outputs", {}) for resource in resources}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """A stack of its own for one test."""
    return Engine(tmp_path)


class Lifecycle:
    """One program with a resource for each behaviour, taken through preview, up, a change and destroy.

    Its second generation changes what a resource's name says. All tests but the few that need an engine of their own
    read from what this one run left: an engine's run takes more than a second.
    """

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        self.journal = directory / "journal"
        self.journal.touch()
        self.work = directory / "work"
        (self.work / "logos").mkdir(parents=True)
        for name in ("a.txt", "logos/b.txt", "logos/secret.txt", "c.md"):
            (self.work / name).write_text(name)
        self.known: set[str] = set()

        self.first_preview = self.engine.preview(self.program(1))
        self.known_at_first_preview = set(self.known)
        self.ran_at_first_preview = self.take_journal()
        self.first_up = self.engine.up(self.program(1))
        self.first_state, self.first_state_text = engine.state(), engine.state_text
        self.ran_at_first_up = self.take_journal()
        self.second_up = self.engine.up(self.program(1), refresh=True)
        self.ran_at_second_up = self.take_journal()
        self.known.clear()
        self.change_preview = self.engine.preview(self.program(2))
        self.known_at_change_preview = set(self.known)
        self.ran_at_change_preview = self.take_journal()
        self.change_up = self.engine.up(self.program(2))
        self.changed_state, self.changed_state_text = engine.state(), engine.state_text
        self.ran_at_change_up = self.take_journal()
        self.destroy = self.engine.destroy()
        self.ran_at_destroy = self.take_journal()

    def take_journal(self) -> list[str]:
        """What commands wrote since the last call, sorted: resources are made in parallel."""
        lines = self.journal.read_text().splitlines()
        self.journal.write_text("")
        return sorted(lines)

    def write(self, words: str) -> str:
        """A command that adds a line to the journal."""
        return f'echo "{words}" >> {self.journal}'

    def note_if_known(self, name: str, output: pulumi.Output[str]) -> None:
        """Put `name` into `known` if the output has a value in this run."""
        output.apply(lambda _: self.known.add(name))

    def program(self, generation: int) -> Program:
        """The program as of `generation`, 1 or 2."""

        def declare() -> None:
            previous = "[$PULUMI_COMMAND_STDOUT|$PULUMI_COMMAND_STDERR]"
            changed = {"GENERATION": str(generation)}

            # The whole life of a command. Its update prints something new, which delete must see.
            updated = local.Command(
                "updated",
                create=f"{self.write(f'updated create {previous}')}; echo out-1; echo err-1 >&2",
                update=f"{self.write(f'updated update $GENERATION {previous}')}; echo out-2; echo err-2 >&2",
                delete=self.write(f"updated delete $GENERATION {previous}"),
                environment=changed,
            )
            local.Command("no-update", create=self.write("no-update create $GENERATION"), environment=changed)
            unchanged = local.Command("unchanged", create=f"{self.write('unchanged create')}; echo same")
            local.Command(
                "delete-text",
                create=self.write("delete-text create"),
                update=self.write("delete-text update"),
                delete=self.write(f"delete-text delete of generation {generation}"),
            )
            local.Command(
                "triggered",
                create=f"{self.write(f'triggered create {previous}')}; echo made-{generation}",
                update=self.write("triggered update"),
                delete=self.write(f"triggered delete {previous}"),
                triggers=[{"number": generation}, ["same"], 1, True],
                opts=pulumi.ResourceOptions(delete_before_replace=True),
            )
            local.Command("only-delete", delete=self.write("only-delete delete"))
            local.Command(
                "no-previous",
                create="echo out-1; echo err-1 >&2",
                update=self.write(f"no-previous update {previous}"),
                environment=changed,
                add_previous_output_in_env=False,
            )
            # Depends on what is unknown until the first up.
            local.Command("dependent", create='echo "got $WORD"', environment={"WORD": updated.stdout})

            local.Command("trimmed", create="printf 'out\\n\\n'; printf 'err\\n\\n' >&2")
            local.Command("silent", create="true")
            local.Command(
                "process",
                create="print(__import__('sys').stdin.read() + ' ' + __import__('os').getcwd(), end='')",
                interpreter=["python3", "-c"],
                stdin="read",
                dir=str(self.work),
            )
            local.Command("default-process", create='echo "$(ps -o args= -p $$ | head -1)"; pwd; cat')
            local.Command("long-line", create=f"head -c {LONG_LINE} /dev/zero | tr '\\0' x")
            local.Command("unread-stdin", create="true", stdin="x" * UNREAD_STDIN)
            local.Command(
                "files",
                create="echo made > made.txt",
                dir=str(self.work),
                asset_paths=["**.txt", "!**secret.*"],
                archive_paths=["*.txt", "*.md", "!a.txt"],
                triggers=[pulumi.StringAsset("text")],
            )
            for logging in (None, *local.Logging):
                local.Command(
                    f"logging-{logging.value if logging else 'default'}",
                    create="echo out; echo err >&2",
                    logging=logging,
                )

            local.Command(
                "secret",
                create='printf %s "$PASSWORD"; cat >&2',
                update='printf %s "$PASSWORD"; cat >&2',
                environment={"PASSWORD": pulumi.Output.secret(SECRET), **changed},
                stdin=pulumi.Output.secret(SECRET),
                logging=local.Logging.NONE,
                opts=pulumi.ResourceOptions(additional_secret_outputs=["stdout", "stderr"]),
            )
            secret_input = local.Command(
                "secret-input", create="echo no secret", environment={"PASSWORD": pulumi.Output.secret(SECRET)}
            )

            ran = local.run_output(command=f"{self.write('run')}; echo out; echo err >&2; cat", stdin="-in")
            ran_on_unknown = local.run_output(
                command=pulumi.Output.concat("WORD=", updated.stdout, "; ", self.write("run on $WORD"))
            )
            ran_on_secret = local.run_output(
                command='printf %s "$PASSWORD"',
                environment=pulumi.Output.secret({"PASSWORD": SECRET}),
                logging=local.Logging.NONE,
            )

            self.note_if_known("updated", updated.stdout)
            self.note_if_known("unchanged", unchanged.stdout)
            self.note_if_known("ran", ran.stdout)
            self.note_if_known("ran-on-unknown", ran_on_unknown.stdout)
            pulumi.export("ran", pulumi.Output.all(ran.stdout, ran.stderr))
            pulumi.export("ran-on-secret", ran_on_secret.stdout)
            pulumi.export("stdout-of-secret-input", secret_input.stdout)

        return declare


@pytest.fixture(scope="module")
def command_lifecycle(tmp_path_factory: pytest.TempPathFactory) -> Lifecycle:
    """The life of one program, run once for all tests that read it."""
    return Lifecycle(Engine(tmp_path_factory.mktemp("lifecycle")), tmp_path_factory.mktemp("machine"))


# The schema


@pytest.fixture(scope="module")
def command_schema() -> dict[str, Any]:
    """The schema that the installed plugin answers."""
    plugin = _plugins() / "resource-command-v1.2.1" / "pulumi-resource-command"
    pulumi_cli = shutil.which("pulumi")
    assert pulumi_cli, 'pulumi is not on PATH; run: eval "$(python3 -m toolchain env)"'
    done = subprocess.run(
        [pulumi_cli, "package", "get-schema", str(plugin)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    schema: dict[str, Any] = json.loads(done.stdout)
    return schema


def _properties(of: type) -> dict[str, str]:
    """The Pulumi names of a generated class's properties, and the type that each is annotated with."""
    getters = [member.fget for member in vars(of).values() if isinstance(member, property) and member.fget]
    return {getattr(get, "_pulumi_name", get.__name__): str(get.__annotations__["return"]) for get in getters}


def _kind(annotation: str) -> str:
    """The schema's word for a generated annotation: the innermost container decides, else the plain type."""
    for mark, kind in (("Sequence[", "array"), ("Mapping[", "object"), ("Logging", "logging"), ("bool", "boolean"),
                       ("Archive", "archive"), ("str", "string")):  # fmt: skip
        if mark in annotation:
            return kind
    raise AssertionError(f"no schema type for {annotation}")


def _schema_kinds(properties: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    references = {"#/types/command:local:Logging": "logging", "pulumi.json#/Archive": "archive"}
    return {name: str(value.get("type") or references[value["$ref"]]) for name, value in properties.items()}


def test_the_plugin_has_the_version_of_the_python_package(command_schema: dict[str, Any]) -> None:
    published = json.loads((Path(inspect.getfile(local)).parents[1] / "pulumi-plugin.json").read_text())
    assert (command_schema["name"], command_schema["version"]) == (published["name"], published["version"])


def test_the_resource_has_exactly_the_inputs_and_outputs_of_the_python_class(command_schema: dict[str, Any]) -> None:
    resource = command_schema["resources"]["command:local:Command"]
    inputs = {name: _kind(kind) for name, kind in _properties(local.CommandArgs).items()}
    outputs = {name: _kind(kind) for name, kind in _properties(local.Command).items()}
    assert _schema_kinds(resource["inputProperties"]) == inputs
    assert _schema_kinds(resource["properties"]) == outputs
    optional = {name for name, kind in _properties(local.Command).items() if "Optional[" in kind}
    assert set(resource["required"]) == set(outputs) - optional
    assert not resource.get("requiredInputs")


def test_the_function_has_exactly_the_arguments_and_results_of_the_python_function(
    command_schema: dict[str, Any],
) -> None:
    function = command_schema["functions"]["command:local:run"]
    results = _properties(local.RunResult)
    assert _schema_kinds(function["outputs"]["properties"]) == {name: _kind(kind) for name, kind in results.items()}
    assert set(function["outputs"]["required"]) == {n for n, kind in results.items() if "Optional[" not in kind}
    camel = {name: f"{head}{rest.title().replace('_', '')}" for name in inspect.signature(local.run).parameters
             for head, rest in [(name.partition("_")[0], name.partition("_")[2])]}  # fmt: skip
    assert set(function["inputs"]["properties"]) == set(camel.values()) - {"opts"}
    assert function["inputs"]["required"] == ["command"]


def test_logging_has_exactly_the_values_of_the_python_enumeration(command_schema: dict[str, Any]) -> None:
    values = {value["value"] for value in command_schema["types"]["command:local:Logging"]["enum"]}
    assert values == {member.value for member in local.Logging}


# Create, update, delete


def test_a_preview_runs_no_resource_command(command_lifecycle: Lifecycle) -> None:
    assert command_lifecycle.ran_at_first_preview == ["run"]
    assert command_lifecycle.ran_at_change_preview == ["run"]


def test_outputs_of_a_command_to_be_created_are_unknown_in_a_preview(command_lifecycle: Lifecycle) -> None:
    assert not {"updated", "unchanged"} & command_lifecycle.known_at_first_preview


def test_outputs_are_unknown_in_a_preview_only_where_an_input_changed(command_lifecycle: Lifecycle) -> None:
    assert "unchanged" in command_lifecycle.known_at_change_preview
    assert "updated" not in command_lifecycle.known_at_change_preview


def test_create_runs_once_without_a_previous_output(command_lifecycle: Lifecycle) -> None:
    ran = command_lifecycle.ran_at_first_up
    assert ran == [
        "delete-text create",
        "no-update create 1",
        "run",
        "run on out-1",
        "triggered create [|]",
        "unchanged create",
        "updated create [|]",
    ]


def test_a_second_up_with_a_refresh_changes_nothing(command_lifecycle: Lifecycle) -> None:
    assert set(command_lifecycle.second_up.changes) == {"same"}
    assert command_lifecycle.ran_at_second_up == ["run", "run on out-1"]


def test_a_changed_input_runs_update_with_the_output_of_create(command_lifecycle: Lifecycle) -> None:
    assert command_lifecycle.change_up.operations["updated"] == "update"
    assert "updated update 2 [out-1|err-1]" in command_lifecycle.ran_at_change_up
    assert command_lifecycle.changed_state["updated"]["stdout"] == "out-2"
    assert command_lifecycle.changed_state["updated"]["stderr"] == "err-2"


def test_a_changed_input_runs_create_again_where_there_is_no_update(command_lifecycle: Lifecycle) -> None:
    assert command_lifecycle.change_up.operations["no-update"] == "update"
    assert "no-update create 2" in command_lifecycle.ran_at_change_up


def test_a_changed_delete_text_runs_update_too(command_lifecycle: Lifecycle) -> None:
    assert command_lifecycle.change_up.operations["delete-text"] == "update"
    assert "delete-text update" in command_lifecycle.ran_at_change_up


def test_an_unchanged_command_does_not_run_beside_changed_ones(command_lifecycle: Lifecycle) -> None:
    assert command_lifecycle.change_up.operations["unchanged"] == "same"
    assert not [line for line in command_lifecycle.ran_at_change_up if line.startswith("unchanged")]


def test_a_changed_trigger_replaces_even_where_there_is_an_update(command_lifecycle: Lifecycle) -> None:
    ran = [line for line in command_lifecycle.ran_at_change_up if line.startswith("triggered")]
    assert ran == ["triggered create [|]", "triggered delete [made-1|]"]
    assert command_lifecycle.changed_state["triggered"]["stdout"] == "made-2"
    assert "replace" in command_lifecycle.change_preview.operations["triggered"]


def test_previous_output_stays_out_of_the_environment_where_asked(command_lifecycle: Lifecycle) -> None:
    assert "no-previous update [|]" in command_lifecycle.ran_at_change_up


def test_delete_runs_with_the_text_environment_and_output_of_the_last_update(command_lifecycle: Lifecycle) -> None:
    assert command_lifecycle.ran_at_destroy == [
        "delete-text delete of generation 2",
        "only-delete delete",
        "triggered delete [made-2|]",
        "updated delete 2 [out-2|err-2]",
    ]


def test_a_command_gets_what_another_printed(command_lifecycle: Lifecycle) -> None:
    assert command_lifecycle.first_state["dependent"]["stdout"] == "got out-1"
    assert command_lifecycle.changed_state["dependent"]["stdout"] == "got out-2"


# The process


def test_stdout_and_stderr_lose_their_last_newline_only(command_lifecycle: Lifecycle) -> None:
    trimmed, silent = (command_lifecycle.first_state[name] for name in ("trimmed", "silent"))
    assert (trimmed["stdout"], trimmed["stderr"]) == ("out\n", "err\n")
    assert (silent["stdout"], silent["stderr"]) == ("", "")


def test_interpreter_dir_and_stdin_reach_the_process(command_lifecycle: Lifecycle) -> None:
    assert command_lifecycle.first_state["process"]["stdout"] == f"read {command_lifecycle.work}"


def test_by_default_a_shell_runs_in_the_directory_of_the_program_with_empty_stdin(command_lifecycle: Lifecycle) -> None:
    arguments, directory = command_lifecycle.first_state["default-process"]["stdout"].splitlines()
    assert arguments.startswith("/bin/sh -c ")
    # For an inline program that is the directory of the Python process.
    assert directory == str(Path.cwd())


def test_a_line_of_any_length_is_captured(command_lifecycle: Lifecycle) -> None:
    assert command_lifecycle.first_state["long-line"]["stdout"] == "x" * LONG_LINE


def test_a_command_need_not_read_its_stdin(command_lifecycle: Lifecycle) -> None:
    assert len(command_lifecycle.first_state["unread-stdin"]["stdin"]) == UNREAD_STDIN


def test_assets_and_archive_hold_the_files_that_the_globs_choose(command_lifecycle: Lifecycle) -> None:
    files = command_lifecycle.first_state["files"]
    work = command_lifecycle.work
    assert {name: asset["path"] for name, asset in files["assets"].items()} == {
        name: str(work / name) for name in ("a.txt", "logos/b.txt", "made.txt")
    }
    assert set(files["archive"]["assets"]) == {"made.txt", "c.md"}


# Logging


@pytest.mark.parametrize(
    ("logging", "lines"),
    [
        ("default", ["err", "out"]),
        ("stdoutAndStderr", ["err", "out"]),
        ("stdout", ["out"]),
        ("stderr", ["err"]),
        ("none", []),
    ],
)
def test_logging_chooses_the_streams_that_are_shown_but_not_what_is_captured(
    command_lifecycle: Lifecycle, logging: str, lines: list[str]
) -> None:
    name = f"logging-{logging}"
    assert sorted(command_lifecycle.first_up.logged.get(name, [])) == lines
    state = command_lifecycle.first_state[name]
    assert (state["stdout"], state["stderr"]) == ("out", "err")


# Secrets


def test_secrets_are_nowhere_in_plain_text(command_lifecycle: Lifecycle) -> None:
    for text in (
        command_lifecycle.first_state_text,
        command_lifecycle.changed_state_text,
        command_lifecycle.first_preview.text,
        command_lifecycle.first_up.text,
        command_lifecycle.change_preview.text,
        command_lifecycle.change_up.text,
        command_lifecycle.destroy.text,
        str(command_lifecycle.first_up.logged),
        str(command_lifecycle.change_up.logged),
    ):
        assert SECRET not in text


@pytest.mark.parametrize("output", ["stdout", "stderr", "stdin"])
def test_outputs_declared_secret_and_secret_inputs_are_encrypted_in_the_state(
    command_lifecycle: Lifecycle, output: str
) -> None:
    for state in (command_lifecycle.first_state, command_lifecycle.changed_state):
        assert set(state["secret"][output]) == {SECRET_MARK, "ciphertext"}


def test_a_secret_input_alone_makes_stdout_no_secret(command_lifecycle: Lifecycle) -> None:
    output = command_lifecycle.first_up.outputs["stdout-of-secret-input"]
    assert (output.value, output.secret) == ("no secret", False)


# The function


def test_run_returns_what_its_command_printed(command_lifecycle: Lifecycle) -> None:
    assert command_lifecycle.first_up.outputs["ran"].value == ["out\n-in", "err"]


def test_run_runs_at_every_evaluation_also_in_a_preview(command_lifecycle: Lifecycle) -> None:
    assert "ran" in command_lifecycle.known_at_first_preview
    for ran in (
        command_lifecycle.ran_at_first_preview,
        command_lifecycle.ran_at_first_up,
        command_lifecycle.ran_at_second_up,
        command_lifecycle.ran_at_change_preview,
        command_lifecycle.ran_at_change_up,
    ):
        assert ran.count("run") == 1


def test_run_with_an_unknown_input_does_not_run_and_is_unknown(command_lifecycle: Lifecycle) -> None:
    assert "ran-on-unknown" not in command_lifecycle.known_at_first_preview
    assert not [line for line in command_lifecycle.ran_at_first_preview if line.startswith("run on")]


def test_run_with_a_secret_input_returns_a_secret(command_lifecycle: Lifecycle) -> None:
    output = command_lifecycle.first_up.outputs["ran-on-secret"]
    assert (output.value, output.secret) == (SECRET, True)


# Failure


def test_a_failed_command_names_status_command_and_output_but_no_environment_or_stdin(engine: Engine) -> None:
    def fails() -> None:
        local.Command(
            "fails",
            create="echo some-out; echo some-err >&2; exit 37",
            environment={"PASSWORD": pulumi.Output.secret(SECRET)},
            stdin=pulumi.Output.secret(SECRET),
            logging=local.Logging.NONE,
        )

    with pytest.raises(automation.CommandError) as failure:
        engine.up(fails)
    text = str(failure.value)
    for words in ("exit status 37", "exit 37", "some-out", "some-err"):
        assert words in text
    assert SECRET not in text + engine.state_text
    assert "fails" not in engine.state(), "the next up must run create again"


@pytest.mark.drill
def test_a_dir_that_does_not_exist_fails_the_command_by_name(engine: Engine) -> None:
    def no_dir() -> None:
        local.Command("no-dir", create="true", dir="/does/not/exist")

    with pytest.raises(automation.CommandError, match="/does/not/exist: no such file or directory"):
        engine.up(no_dir)


@pytest.mark.drill
def test_a_failed_run_fails_the_program_with_its_status_and_stderr(engine: Engine) -> None:
    with pytest.raises(automation.CommandError) as failure:
        engine.up(lambda: pulumi.export("never", local.run_output(command="echo why >&2; exit 41").stdout))
    for words in ("exit status 41", "why"):
        assert words in str(failure.value)


# Interruption


def _children(parent: int) -> Iterator[tuple[int, str]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = stat.read_text().partition(" (")
        except OSError:
            continue  # ended since the listing
        name, _, fields = rest.rpartition(") ")
        if int(fields.split()[1]) == parent:
            yield int(pid), name


def _ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def _await(what: str, condition: Callable[[], object], deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.05)


@pytest.mark.drill
@pytest.mark.parametrize("interrupts", [1, 2], ids=["one Ctrl-C", "two Ctrl-C"])
def test_an_interrupt_ends_the_command_and_its_children_without_a_hang(engine: Engine, interrupts: int) -> None:
    pids = engine.directory / "pids"
    # Both ignore what a terminal would send, and the child holds no output: only a kill of both ends them.
    create = f"trap '' INT TERM; sleep 300 >/dev/null 2>&1 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"
    failures: list[automation.CommandError] = []

    def endless() -> None:
        local.Command("endless", create=create)

    def up() -> None:
        try:
            engine.up(endless)
        except automation.CommandError as failure:
            failures.append(failure)

    before = dict(_children(os.getpid()))
    thread = threading.Thread(target=up, daemon=True)
    thread.start()
    started: list[int] = []
    try:
        _await("the command runs", pids.exists, INTERRUPT_DEADLINE_S)
        started = [pid for pid, name in _children(os.getpid()) if name == "pulumi" and pid not in before]
        assert len(started) == 1, "exactly one engine runs"
        for _ in range(interrupts):
            os.kill(started[0], SIGINT)
        thread.join(INTERRUPT_DEADLINE_S)
        assert not thread.is_alive(), "the engine did not end"
        assert failures, "an interrupted up is a failed one"
        for pid in map(int, pids.read_text().split()):
            _await(f"process {pid} of the command ends", partial(_ended, pid), INTERRUPT_DEADLINE_S)
    except BaseException:
        # An engine that hangs would keep Python from ending.
        for pid in [*started, *map(int, pids.read_text().split() if pids.exists() else ())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, SIGKILL)
        raise

"""Say what `up` would change; changes nothing.

With --plan the plan goes to a file as JSON, for `python3 -m ci.plan_words` and `python3 -m ci.plan_policy`. With
--fresh the stack is taken for one that does not exist yet: no state is read, no engine asked, no passphrase is needed
and encrypted settings are left out, so that a reviewer without access to the box can see what the program declares.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from pilot import configuration
from pilot.arguments import add_stack
from pilot.configuration import PROJECT, PilotError
from pilot.session import QUICK_TIMEOUT_S, Session, open_session, prepare
from stack.jobs import names

PLAN_TIMEOUT_S = 300


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("--fresh", action="store_true", help="as if the stack did not exist yet")
    parser.add_argument("--drift", action="store_true", help="look at the world first, fail on any change")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="write the plan to FILE as JSON")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.fresh:
        return _preview(open_session(arguments.stack, build=True, images=False), arguments.plan, arguments.drift)
    with tempfile.TemporaryDirectory() as folder:
        return _preview(fresh_session(arguments.stack, Path(folder)), arguments.plan, drift=False)


def fresh_session(stack: str, folder: Path) -> Session:
    """A session of the stack on a new, empty state in `folder`.

    Raises:
        PilotError: the stack has no configuration, or the state could not be made.
    """
    committed = configuration.file_of(stack)
    variables, published = prepare(stack, images=False)
    variables = {
        **{name: value for name, value in variables.items() if name != "PULUMI_CONFIG_PASSPHRASE_FILE"},
        "PULUMI_CONFIG_PASSPHRASE": "of a state that ends with this preview",
        "PULUMI_BACKEND_URL": f"file://{folder}",
    }
    (folder / "Pulumi.yaml").write_text(f"name: {names.PROJECT}\nruntime: python\n")
    done = subprocess.run(
        ["pulumi", "stack", "init", stack, "--secrets-provider", "passphrase"],
        cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=QUICK_TIMEOUT_S,
    )  # fmt: skip
    if done.returncode != 0:
        raise PilotError(f"no state could be made for the preview: {done.stderr.strip()}")
    config_file = folder / committed.name
    made, own = configuration.document(config_file), configuration.document(committed)
    # No engine either: a pilot of the same name that lives on this one is not the stack that does not exist yet.
    nowhere = {f"{names.PROJECT}:dockerHost": f"unix://{folder}/docker.sock"}
    config = {**configuration.without_encrypted(own.get("config") or {}), **nowhere}
    # JSON is YAML.
    config_file.write_text(json.dumps({**made, "config": config}))
    settings = configuration.settings(stack)
    return Session(stack=stack, settings=settings, environment=variables, config_file=config_file, published=published)


def _preview(session: Session, plan: Path | None, drift: bool) -> int:
    # The program lays what the state names, such as the template's files, and a fresh checkout has none of it yet.
    options = ("--refresh", "--run-program", "--expect-no-changes") if drift else ()
    if plan is None:
        return session.pulumi("preview", "--suppress-outputs", *options)
    with plan.open("w") as stream:
        done = subprocess.run(
            session.command("preview", "--json", *options),
            cwd=PROJECT, env=session.environment, stdin=subprocess.DEVNULL, stdout=stream, check=False,
            timeout=PLAN_TIMEOUT_S,
        )  # fmt: skip
    return done.returncode

"""Move the data to the Postgres that the setting `postgresImage` names, one of another major version: dump, new
directory, restore. The old directory stays beside the new one until you remove it."""

from __future__ import annotations

import argparse
from pathlib import Path

from pilot import backup, converge, restore, state
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import open_session
from stack.jobs import backups, data_directory, engine, pilot_file, postgres
from stack.jobs.names import DATABASE, ROLE

STOP_GRACE_S = 60


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    # The new server begins with an empty one, into which the dump goes.
    converge.say_words(["NEW_DATABASE"])
    session = open_session(arguments.stack)
    converge.refuse_other_owner(session)
    converge.recover(session)
    site, image = session.settings.site, session.settings.database.image
    directory = Path(site.data_dir) / data_directory.POSTGRES
    wanted = data_directory.image_major(image)
    found = data_directory.data_major(directory, image)
    if found is None or found == wanted:
        print(f"nothing to do: the data is of Postgres {found or 'no version yet'}, the image of {wanted}")
        return 0
    if not postgres.ready(site.postgres_container, ROLE, DATABASE):
        raise PilotError(
            f"Postgres {found} does not run, and only it can read the data: "
            f"run `pulumi config set postgresImage postgres:{found}` and `make up`, then set the new image again"
        )
    # Stopped first: what somebody did after the dump would be lost.
    engine.docker("stop", "--time", str(restore.STOP_GRACE_S), site.coder_container, timeout_s=2 * STOP_GRACE_S)
    dump = backup.back_up(session)
    engine.docker("stop", "--time", str(STOP_GRACE_S), site.postgres_container, timeout_s=2 * STOP_GRACE_S)
    kept = directory.with_name(f"{data_directory.POSTGRES}-{found}-{backups.timestamp()}")
    directory.rename(kept)
    state.say(f"dumped to {dump}; the data of Postgres {found} is now in {kept}")
    # The new cluster begins empty: what would be adopted is not in it before the dump is.
    for each in converge.templates(session):
        pilot_file.record_template(site.data_dir, each.prefix, None)
    state.forget_template(session)
    if code := converge.up(session) or restore.restore(session, dump):
        state.say(
            f"the upgrade did not succeed. Mend what is said above and run `make restore FILE={dump}`; or go back: "
            f"`pulumi config set postgresImage postgres:{found}`, `make down`, put {kept} in the place of {directory}, "
            "`make up`"
        )
        return code
    print(f"Postgres {wanted} has everything; when you are sure, remove {kept}")
    return 0

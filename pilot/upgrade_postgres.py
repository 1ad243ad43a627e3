"""Move the data to the Postgres that the setting `postgresImage` names, one of another major version: dump, new
directory, restore. The old directory stays beside the new one until you remove it. What was cut short, the same command
goes on with; with the old image set again, it goes back."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import asdict
from pathlib import Path

from pilot import backup, converge, restore, state
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import Session, open_session
from stack.jobs import backups, data_directory, engine, pilot_file, postgres
from stack.jobs.names import DATABASE, ROLE
from stack.jobs.pilot_file import Upgrade

STOP_GRACE_S = 60


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)


def run(arguments: argparse.Namespace) -> int:
    # The new server begins with an empty one, into which the dump goes.
    converge.say_words(["NEW_DATABASE"])
    session = open_session(arguments.stack)
    converge.refuse_whatever_up_refuses(session)
    converge.recover(session)
    site, image = session.settings.site, session.settings.database.image
    directory = Path(site.data_dir) / data_directory.POSTGRES
    wanted = data_directory.image_major(image)
    found = data_directory.data_major(directory, image)
    begun = pilot_file.upgrade(site.data_dir)
    if begun is None:
        if found is None or found == wanted:
            print(
                f"nothing to do: the data is of Postgres {found or 'no version yet'}, the image of {wanted}; what does "
                "not run, `make up` starts"
            )
            return 0
        begun, found = _move_away(session, directory, found), None
    elif begun.major == wanted:
        return _go_back(session, directory, begun)
    if found is None:
        # The new cluster begins empty: what would be adopted is not in it before the dump is.
        for each in converge.templates(session):
            pilot_file.record_template(site.data_dir, each.prefix, None)
        state.forget_template(session)
    dump, kept = Path(site.data_dir) / backups.FOLDER / begun.dump, directory.with_name(begun.kept)
    state.say(f"the data of Postgres {begun.major} is in {kept}, its dump {dump} goes to {wanted}")
    if code := converge.converge(session) or restore.restore(session, dump):
        again, back = "make upgrade-postgres", "`make upgrade-postgres`"
        if pilot_file.upgrade(site.data_dir) is None:
            again, back = "make up", f"`make down`, put {kept} in the place of {directory}, `make up`"
        state.say(
            f"the upgrade did not succeed. Mend what is said above and run `{again}`; or go back: "
            f"`pulumi config set postgresImage postgres:{begun.major}`, {back}"
        )
        return code
    print(f"Postgres {wanted} has everything; when you are sure, remove {kept}")
    return 0


def _move_away(session: Session, directory: Path, major: int) -> Upgrade:
    """Dump the data and move them away, from when on the upgrade is noted.

    Raises:
        PilotError: their Postgres does not run.
        engine.JobError: they could not be dumped.
    """
    site = session.settings.site
    # An upgrade that was cut short before may have stopped it.
    with contextlib.suppress(engine.JobError):
        engine.start_and_wait(site.postgres_container, lambda: postgres.ready(site.postgres_container, ROLE, DATABASE))
    if not postgres.ready(site.postgres_container, ROLE, DATABASE):
        raise PilotError(
            f"Postgres {major} does not run, and only it can read the data: "
            f"run `pulumi config set postgresImage postgres:{major}` and `make up`, then set the new image again"
        )
    # Stopped first: what somebody did after the dump would be lost.
    with restore.coder_stopped(site):
        dump = backup.back_up(session)
    engine.docker("stop", "--time", str(STOP_GRACE_S), site.postgres_container, timeout_s=2 * STOP_GRACE_S)
    kept = directory.with_name(f"{data_directory.POSTGRES}-{major}-{backups.timestamp()}")
    begun = Upgrade(major=major, kept=kept.name, dump=dump.name)
    pilot_file.update(site.data_dir, upgrade=asdict(begun))
    directory.rename(kept)
    return begun


def _go_back(session: Session, directory: Path, begun: Upgrade) -> int:
    """Put the data back in their place, for the settings name their Postgres again; the exit code of the `up`."""
    site = session.settings.site
    for container in (site.coder_container, site.postgres_container):
        if engine.state(container) is not None:
            engine.docker("stop", "--time", str(STOP_GRACE_S), container, timeout_s=2 * STOP_GRACE_S)
    if directory.exists():
        aside = directory.with_name(f"{data_directory.POSTGRES}-given-up-{backups.timestamp()}")
        directory.rename(aside)
        state.say(f"what was begun is in {aside}")
    directory.with_name(begun.kept).rename(directory)
    # The admin's account is found again by its address.
    pilot_file.update(site.data_dir, admin=None, upgrade=None)
    state.say(f"gone back to the data of Postgres {begun.major}")
    return converge.converge(session)

"""Replace the database by a dump: the same users, workspaces and template versions as when it was made. What is there
now is dumped first, unless the data directory is empty. Homes are Docker volumes and are not touched."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from pilot import converge, state, world
from pilot.arguments import add_stack
from pilot.configuration import PilotError
from pilot.session import Session, open_session
from stack.jobs import backups, engine, pilot_file, postgres
from stack.jobs.names import DATABASE, ROLE, TOKEN_PREFIX
from stack.settings import Site

STOP_GRACE_S = 30


def configure(parser: argparse.ArgumentParser) -> None:
    add_stack(parser)
    parser.add_argument("file", type=Path, help="a .dump in <dataDir>/backups")


def run(arguments: argparse.Namespace) -> int:
    file: Path = arguments.file
    if file == Path():
        raise PilotError("no file is given: run `make restore FILE=<dataDir>/backups/<time>.dump`")
    if not file.is_file():
        raise PilotError(f"there is no dump {str(file)!r}: run `make restore FILE=<dataDir>/backups/<time>.dump`")
    try:
        is_dump = backups.looks_like_dump(file)
    except OSError as error:
        raise PilotError(f"{file} cannot be read: {error.strerror}; nothing was touched") from None
    if not is_dump:
        raise PilotError(f"{file} is no dump of `make backup`, nothing was touched: choose a <dataDir>/backups/*.dump")
    # What is restored takes the place of the empty one.
    converge.say_words(["NEW_DATABASE"])
    session = open_session(arguments.stack)
    site = session.settings.site
    converge.refuse_other_owner(session)
    converge.recover(session)
    if file.resolve().parent == (Path(site.data_dir) / backups.FOLDER).resolve():
        # Until it is read: the dumps that are made meanwhile would push it out. Not only until this command ends, for
        # the same one goes on where it was cut short.
        pilot_file.update(site.data_dir, restoring=file.resolve().name)
    there = engine.state(site.coder_container) is not None
    if not (there and postgres.ready(site.postgres_container, ROLE, DATABASE)) and (code := converge.converge(session)):
        return code
    backups.check(site.postgres_container, file)
    before = backups.dump(site.postgres_container, ROLE, DATABASE, site.data_dir, name=backups.timestamp())
    state.say(f"dumped what is there now to {before}")
    code = restore(session, file)
    if code == 0:
        with world.report(session):
            print(
                f"restored {file.name}: users, workspaces and templates are those of then; "
                "`make password` prints your password, `make password WHO=admin` the administrator's"
            )
    return code


@contextlib.contextmanager
def coder_stopped(site: Site) -> Iterator[None]:
    """Stop Coder; where what is done meanwhile fails, or is interrupted, it is started again."""
    try:
        engine.docker("stop", "--time", str(STOP_GRACE_S), site.coder_container, timeout_s=2 * STOP_GRACE_S)
        yield
    except BaseException:
        engine.docker("start", site.coder_container)
        raise


def restore(session: Session, file: Path) -> int:
    """Put the dump in the place of the running database and converge; the exit code of the `up`.

    Raises:
        engine.JobError: the dump could not be read; the database is what it was.
    """
    site = session.settings.site
    with coder_stopped(site):
        backups.restore(site.postgres_container, ROLE, DATABASE, file)
    # The dump's token has the name that ours has, and not its value.
    converge.ask(site, f"DELETE FROM api_keys WHERE token_name LIKE '{TOKEN_PREFIX}%';")  # noqa: S608  a constant
    # The admin's account is found again by its address; the other's password is the dump's, and nobody changed it.
    pilot_file.update(site.data_dir, admin=None, member=_member_of_the_dump(site), restoring=None, upgrade=None)
    for each in converge.templates(session):
        pilot_file.record_template(site.data_dir, each.prefix, converge.find_template(site, each))
    state.forget_template(session)
    return converge.up(session)


def _member_of_the_dump(site: Site) -> dict[str, str] | None:
    """The account for every day as it was noted, with the password that it has in the dump, where that has it."""
    member = pilot_file.member(site.data_dir)
    if member is None:
        return None
    sql = f"SELECT {postgres.PASSWORD_DIGEST} FROM users WHERE id::text = {postgres.literal(member.id)};"  # noqa: S608
    digests = converge.ask(site, sql)
    return asdict(replace(member, password_digest=digests[0]) if digests else member)

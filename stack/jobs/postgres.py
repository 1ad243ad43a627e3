"""Postgres as jobs see it: `psql` in its container over the local socket, which asks for no password."""

from __future__ import annotations

from stack.jobs import engine

PASSWORD_DIGEST = "encode(sha256(users.hashed_password), 'hex')"  # noqa: S105  an SQL expression
"""Another exactly when a user's password in Coder is another."""


def ready(container: str, role: str, database: str) -> bool:
    """Whether the server that stays accepts connections; the one that initialises does not listen on TCP."""
    try:
        engine.docker(
            "exec", container, "pg_isready", "--quiet", "--host", "127.0.0.1",
            "--username", role, "--dbname", database,
        )  # fmt: skip
    except engine.JobError:
        return False
    return True


def query(container: str, role: str, database: str, sql: str) -> list[str]:
    """Run `sql` from standard input, so that no secret in it stands in an argument; the rows, one string each.

    Raises:
        engine.JobError: the server does not answer or refuses.
    """
    shown = engine.docker(
        "exec", "--interactive", container, "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only",
        "--set", "ON_ERROR_STOP=1", "--username", role, "--dbname", database,
        stdin=sql,
    )  # fmt: skip
    return shown.splitlines()


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"

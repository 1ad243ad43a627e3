"""Make the role's password equal to the state's.

POSTGRES_PASSWORD counts only when the data directory is empty; a kept directory has the password of an earlier state.
"""

from __future__ import annotations

from stack.jobs import engine, postgres, program


def main() -> None:
    container = program.variable("CONTAINER")
    role, database = program.variable("ROLE"), program.variable("DATABASE")
    engine.start_and_wait(container, lambda: postgres.ready(container, role, database))
    password = postgres.literal(program.variable("ROLE_PASSWORD"))
    # The statement must not reach the server's log, where a failed one would be written with the password.
    postgres.query(
        container, role, database,
        f"SET log_min_error_statement = panic; SET log_statement = none;\nALTER ROLE {role} PASSWORD {password};\n",
    )  # fmt: skip


if __name__ == "__main__":
    program.run(main)

"""Make the first admin and its API token, whatever state the server is in; print the token.

No user yet: create it. A user with another password: reset it inside the container, as Coder's own command does.
Then replace every API token of ours by a new one, and check it: a job that printed nothing would surface as a
misleading error two resources later.
"""

from __future__ import annotations

from stack.jobs import coder, engine, pilot_file, postgres, program

NANOSECONDS_PER_HOUR = 3600 * 10**9


def _first_user(api: coder.Api, email: str, username: str, password: str) -> None:
    try:
        api.call("GET", "/api/v2/users/first")
        return
    except coder.ApiError as error:
        if error.status != 404:
            raise
    try:
        api.call(
            "POST", "/api/v2/users/first",
            {"email": email, "username": username, "name": "", "password": password, "trial": False},
        )  # fmt: skip
    except coder.ApiError as error:
        # 409: somebody was faster, which is as good.
        if error.status != 409:
            raise


def _session(api: coder.Api, email: str, password: str) -> str:
    answer = api.call("POST", "/api/v2/users/login", {"email": email, "password": password})
    if not isinstance(answer, dict) or not answer.get("session_token"):
        raise engine.JobError("Coder answered a log-in without a session token")
    return str(answer["session_token"])


def _reset_password(email: str, username: str, password: str) -> None:
    rows = postgres.query(
        program.variable("POSTGRES_CONTAINER"), program.variable("ROLE"), program.variable("DATABASE"),
        "SELECT username, email FROM users WHERE NOT deleted AND 'owner' = ANY (rbac_roles) ORDER BY created_at;",
    )  # fmt: skip
    owners = dict(row.split("|", 1) for row in rows)
    if username not in owners:
        raise engine.JobError(
            f"this Coder has no owner called {username}, its owners are {', '.join(owners) or 'none'}: "
            f"run `pulumi config set adminUsername {next(iter(owners), '<name>')}`"
        )
    if owners[username] != email:
        raise engine.JobError(
            f"the owner {username} has the address {owners[username]}, not {email}: "
            f"run `pulumi config set adminEmail {owners[username]}`"
        )
    # The database's URL is in the container's own environment; the password is asked for twice.
    engine.docker(
        "exec", "--interactive", program.variable("CODER_CONTAINER"), "/opt/coder", "reset-password", username,
        stdin=f"{password}\n{password}\n",
    )  # fmt: skip


def main() -> None:
    email, username = program.variable("ADMIN_EMAIL"), program.variable("ADMIN_USERNAME")
    password = program.variable("ADMIN_PASSWORD")
    prefix, generation = program.variable("TOKEN_PREFIX"), int(program.variable("TOKEN_GENERATION"))
    anonymous = coder.Api(url=program.variable("CODER_URL"))
    try:
        _first_user(anonymous, email, username, password)
        try:
            session = _session(anonymous, email, password)
        except coder.ApiError as error:
            if error.status != 401:
                raise
            _reset_password(email, username, password)
            session = _session(anonymous, email, password)
        api = coder.Api(url=anonymous.url, token=session)
        tokens = api.call("GET", "/api/v2/users/me/keys/tokens")
        for token in tokens if isinstance(tokens, list) else []:
            if str(token["token_name"]).startswith(prefix):
                api.call("DELETE", f"/api/v2/users/me/keys/{token['id']}")
        answer = api.call(
            "POST", "/api/v2/users/me/keys/tokens",
            {
                "token_name": f"{prefix}{generation}",
                "scope": "all",
                "lifetime": int(program.variable("TOKEN_LIFETIME_H")) * NANOSECONDS_PER_HOUR,
            },
        )  # fmt: skip
        key = str(answer["key"]) if isinstance(answer, dict) and answer.get("key") else ""
        if not key:
            raise engine.JobError("Coder answered the request for an API token without one")
        coder.Api(url=anonymous.url, token=key).call("GET", "/api/v2/users/me")
        api.call("POST", "/api/v2/users/logout")
    except coder.ApiError as error:
        raise engine.JobError(f"Coder at {anonymous.url} refused: {error}") from None
    pilot_file.update(program.variable("DATA_DIRECTORY"), token_generation=generation)
    print(key)


if __name__ == "__main__":
    program.run(main)

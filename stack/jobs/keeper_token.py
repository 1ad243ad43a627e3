"""Make the keeper's own token, with the least that Coder can give it; print it.

It may see and stop workspaces, and no more than these kinds of things: templates, which Coder reads to stop a
workspace, and members of the organization. With the scopes `workspace:read`, `workspace:stop` and `template:read` alone
Coder 2.30.0 refuses a stop, because it looks up the owner, and no scope for that can be asked for.
"""

from __future__ import annotations

from stack.jobs import coder, engine, names, pilot_file, program
from stack.jobs.admin import NANOSECONDS_PER_HOUR

SCOPES = ["coder:all"]
KINDS = ["workspace:*", "template:*", "organization_member:*"]


def make(api: coder.Api, name: str, prefix: str, lifetime_h: int) -> str:
    """A token of that name, in the place of all whose names begin with `prefix`.

    Raises:
        coder.ApiError: Coder refused or did not answer.
        engine.JobError: it answered without a token.
    """
    tokens = api.call("GET", "/api/v2/users/me/keys/tokens?include_expired=true")
    for token in tokens if isinstance(tokens, list) else []:
        if str(token["token_name"]).startswith(prefix):
            api.call("DELETE", f"/api/v2/users/me/keys/{token['id']}")
    answer = api.call(
        "POST", "/api/v2/users/me/keys/tokens",
        {"token_name": name, "scopes": SCOPES, "allow_list": KINDS, "lifetime": lifetime_h * NANOSECONDS_PER_HOUR},
    )  # fmt: skip
    key = str(answer["key"]) if isinstance(answer, dict) and answer.get("key") else ""
    if not key:
        raise engine.JobError("Coder answered the request for the keeper's token without one")
    return key


def main() -> None:
    api = coder.Api(url=program.variable("CODER_URL"), token=program.variable("CODER_TOKEN"))
    prefix, generation = names.KEEPER_TOKEN_PREFIX, int(program.variable("TOKEN_GENERATION"))
    try:
        key = make(api, f"{prefix}{generation}", prefix, int(program.variable("TOKEN_LIFETIME_H")))
    except coder.ApiError as error:
        raise engine.JobError(f"Coder at {api.url} refused: {error}") from None
    pilot_file.update(program.variable("DATA_DIRECTORY"), keeper_token_generation=generation)
    print(key)


if __name__ == "__main__":
    program.run(main)

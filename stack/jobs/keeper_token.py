"""Make the keeper's own token, with the least that Coder can give it; print it.

It may see and stop workspaces, and no more than these kinds of things: templates, which Coder reads to stop a
workspace, and members of the organization. With the scopes `workspace:read`, `workspace:stop` and `template:read` alone
Coder 2.30.0 refuses a stop, because it looks up the owner, and no scope for that can be asked for.
"""

from __future__ import annotations

from stack.jobs import api_token, coder, engine, names, pilot_file, program

SCOPES = ["coder:all"]
KINDS = ["workspace:*", "template:*", "organization_member:*"]


def main() -> None:
    api = coder.Api(url=program.variable("CODER_URL"), token=program.variable("CODER_TOKEN"))
    prefix, generation = names.KEEPER_TOKEN_PREFIX, int(program.variable("TOKEN_GENERATION"))
    try:
        lifetime_h = int(program.variable("TOKEN_LIFETIME_H"))
        key = api_token.replace(api, f"{prefix}{generation}", prefix, lifetime_h, scopes=SCOPES, allow_list=KINDS)
    except coder.ApiError as error:
        raise engine.JobError(f"Coder at {api.url} refused: {error}") from None
    pilot_file.update(program.variable("DATA_DIRECTORY"), keeper_token_generation=generation)
    print(key)


if __name__ == "__main__":
    program.run(main)

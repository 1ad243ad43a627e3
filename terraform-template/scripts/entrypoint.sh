#!/usr/bin/env bash
# Starts the agent, or says in the agent's log why this image cannot be a workspace.
# Usage: entrypoint.sh AGENT_INIT_SCRIPT
set -euo pipefail

# Without curl there is no agent, and so nobody but this script to tell Coder: bash's own /dev/tcp does (plain http).
refuse() {
  local message="This image cannot be a workspace: $1" hostport body
  echo "$message" >&2
  if [[ $CODER_AGENT_URL =~ ^http://([^/:]+)(:([0-9]+))?$ ]]; then
    hostport="${BASH_REMATCH[1]}/${BASH_REMATCH[3]:-80}"
    printf -v body '{"logs":[{"created_at":"%(%Y-%m-%dT%H:%M:%SZ)T","output":"%s","level":"error"}]}' -1 "$message"
    {
      printf 'PATCH /api/v2/workspaceagents/me/logs HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n' "${hostport/\//:}"
      printf 'Coder-Session-Token: %s\r\nContent-Type: application/json\r\n' "$CODER_AGENT_TOKEN"
      printf 'Content-Length: %d\r\n\r\n%s' "${#body}" "$body"
    } 2>/dev/null >"/dev/tcp/$hostport" || echo "Coder at $CODER_AGENT_URL could not be told." >&2
  fi
  # Not an exit: the restart policy would try again for ever.
  exec sleep infinity
}

command -v curl >/dev/null || refuse "it has no curl, which the agent needs. Choose another image, or install curl in it."
[[ -w $HOME ]] || refuse "its user $(id -un) cannot write $HOME. Create $HOME in the image and give it to that user."

# A fixed place, so that a restart of the container does not leave one more copy of the agent behind.
export BINARY_DIR=/tmp/coder-agent
mkdir -p "$BINARY_DIR"
exec sh -c "$1"

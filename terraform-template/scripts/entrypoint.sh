#!/usr/bin/env bash
# Starts the agent, or says in the agent's log why this image cannot be a workspace.
# Usage: entrypoint.sh AGENT_INIT_SCRIPT
set -euo pipefail

# tell MESSAGE: puts it into the agent's log, by bash's own /dev/tcp: without curl there is no agent that could.
tell() (
  [[ $CODER_AGENT_URL =~ ^http://([^/:]+)(:([0-9]+))?$ ]] || exit
  host=${BASH_REMATCH[1]} port=${BASH_REMATCH[3]:-80}
  printf -v body '{"logs":[{"created_at":"%(%Y-%m-%dT%H:%M:%SZ)T","output":"%s","level":"error"}]}' -1 "$1"
  exec 3<>"/dev/tcp/$host/$port" || exit
  {
    printf 'PATCH /api/v2/workspaceagents/me/logs HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n' "$host:$port"
    printf 'Coder-Session-Token: %s\r\nContent-Type: application/json\r\n' "$CODER_AGENT_TOKEN"
    printf 'Content-Length: %d\r\n\r\n%s' "${#body}" "$body"
  } >&3
  read -r _ status _ <&3
  [[ $status == 200 ]]
)

refuse() {
  local message="This image cannot be a workspace: $1" attempt
  echo "$message" >&2
  # Coder knows the token only after the build that started this container has ended.
  for ((attempt = 0; attempt < 60; attempt++)); do
    tell "$message" && break
    sleep 1
  done
  # Not an exit: the restart policy would try again forever.
  exec sleep infinity
}

command -v curl >/dev/null || refuse "it has no curl, which the agent needs. Choose another image, or install curl in it."
[[ -w $HOME ]] || refuse "its user $(id -un) cannot write $HOME. Create $HOME in the image and give it to that user."

# Git's lowest file names the workspace's owner; whatever a person sets with `git config --global` wins.
name_the_author() {
  command -v git >/dev/null || return 0
  git config --file "$GIT_CONFIG_SYSTEM" include.path /etc/gitconfig
  git config --file "$GIT_CONFIG_SYSTEM" user.name "$CODER_PILOT_GIT_NAME"
  git config --file "$GIT_CONFIG_SYSTEM" user.email "$CODER_PILOT_GIT_EMAIL"
  git config user.email >/dev/null && return
  # Git before 2.32 does not read that file.
  git config --global user.name "$CODER_PILOT_GIT_NAME"
  git config --global user.email "$CODER_PILOT_GIT_EMAIL"
}

mkdir -p "$CODER_PILOT_STATE_DIR"
name_the_author || echo "Git could not be told whose workspace this is; the reason is above." >&2

# The image may come with a proxy.
export no_proxy="${no_proxy:+$no_proxy,}${NO_PROXY:+$NO_PROXY,}$CODER_PILOT_NO_PROXY"
export NO_PROXY=$no_proxy

# A fixed place, so that a restart of the container does not leave one more copy of the agent behind.
export BINARY_DIR=/tmp/coder-agent
mkdir -p "$BINARY_DIR"
exec sh -c "$1"

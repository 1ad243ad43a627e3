#!/usr/bin/env bash
# Applies the owner's dotfiles. A failing one is reported in the agent's log and stops nothing else.
set -euo pipefail

readonly repository=$CODER_PILOT_DOTFILES_REPOSITORY
readonly timeout_s=900

# Nobody can answer a question here. Hosts are trusted as in clone.sh: `coder dotfiles` would trust any key at any time, and
# ssh takes the first of two values.
export GIT_TERMINAL_PROMPT=0
export GIT_SSH_COMMAND="${GIT_SSH_COMMAND:-ssh} -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=$HOME/.ssh/known_hosts"
timeout "$timeout_s" coder dotfiles --yes -- "$repository" </dev/null || {
  echo "ERROR: the dotfiles from $repository were not applied; the reason is above. The workspace works without them; correct the parameter \"Dotfiles repository\" or its install script, and restart." >&2
  exit 1
}

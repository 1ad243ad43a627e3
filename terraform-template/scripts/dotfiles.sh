#!/usr/bin/env bash
# Applies the owner's dotfiles. A failing one is reported in the agent's log and stops nothing else.
set -euo pipefail

readonly repository=$CODER_PILOT_DOTFILES_REPOSITORY
readonly timeout_s=900

# Nobody can answer a question here.
export GIT_TERMINAL_PROMPT=0
timeout "$timeout_s" coder dotfiles --yes "$repository" </dev/null || {
  echo "ERROR: the dotfiles from $repository were not applied; the reason is above. The workspace works without them; correct the parameter \"Dotfiles repository\" or its install script, and restart." >&2
  exit 1
}

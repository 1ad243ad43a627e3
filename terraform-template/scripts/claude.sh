#!/usr/bin/env bash
# What the tile "Claude" opens: Claude Code in a terminal of tmux, which goes on when the browser closes.
# Usage: claude.sh        opens that terminal, the same one each time
#        claude.sh run    is what runs in it
#        claude.sh check  says in the agent's log if the image lacks what the tile needs
set -euo pipefail

# Where the start installs Claude Code in an image that has none.
export PATH=$PATH:$HOME/.local/bin
readonly no_tmux="This image has no tmux, which keeps Claude's terminal open when the browser closes. Install tmux in the \
image, or choose another one."

open() {
  local defaults=$CODER_PILOT_STATE_DIR/tmux.conf
  if ! command -v tmux >/dev/null; then
    echo "$no_tmux"
    exec bash
  fi
  mkdir -p "$CODER_PILOT_PROJECT_DIR"
  # A server of its own: the person's tmux stays as it is, and their settings come last.
  printf '%s\n' "set -g status off" "set -g mouse on" "set -g focus-events on" "source-file -q ~/.tmux.conf" >"$defaults"
  exec tmux -u -L coder-pilot -f "$defaults" new-session -A -s claude -c "$CODER_PILOT_PROJECT_DIR" "$0" run
}

# Whether Claude lives in this folder already, in the editor for one, and may have the last conversation open: two would
# write into the same one.
another_lives() {
  local sessions
  sessions=$(timeout 10 claude agents --json 2>/dev/null) && [[ $sessions == *"\"cwd\": \"$PWD\""* ]]
}

run() {
  # Nothing of the kind in a home where there was no conversation at all: it would say so, in red, on a first visit.
  if ! compgen -G "${CLAUDE_CONFIG_DIR:-$HOME/.claude}/projects/*/*.jsonl" >/dev/null ||
    another_lives || ! claude --continue; then
    claude || true
  fi
  echo
  echo "Claude Code has ended: \`claude --continue\` goes on with the conversation, \`claude\` begins a new one."
  exec bash
}

case ${1-} in
  run) run ;;
  check) command -v tmux >/dev/null || echo "WARNING: no tile \"Claude\": $no_tmux" >&2 ;;
  *) open ;;
esac

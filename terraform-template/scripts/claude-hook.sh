#!/usr/bin/env bash
# Run by Claude Code's hooks (claude-hooks.json): notes what the Claude that runs it is doing.
# Usage: claude-hook.sh working|idle
# Prints nothing and always succeeds: Claude Code acts on a hook's output and exit code.
set -euo pipefail
trap 'exit 0' EXIT
exec >/dev/null 2>&1

# shellcheck source-path=SCRIPTDIR source=claude-processes.sh
source "${BASH_SOURCE[0]%/*}/claude-processes.sh"

# The event itself is of no interest, but Claude Code waits for it to be read.
cat

readonly claims=$CODER_PILOT_STATE_DIR/claims
mkdir -p "$claims"
pid=$PPID
while ((pid > 1)); do
  read_stat "$pid"
  if is_claude "$pid"; then
    # The start time tells this process from a later one with the same id.
    echo "$1 $start_ticks" >"$claims/.$pid.$$"
    mv "$claims/.$pid.$$" "$claims/$pid"
    break
  fi
  pid=$parent_pid
done

#!/usr/bin/env bash
# Tells Coder once a minute that Claude is at work, which moves the workspace's deadline. Coder itself counts only
# connections, so a long run with the browser closed would be stopped in the middle.
#
# A Claude works if its hooks say so (claude-hook.sh) or if it and the programs that it started use the CPU. A prompt
# that waits for its user does neither. After the cap a run no longer counts, so a hung process cannot hold the memory.
set -euo pipefail

# shellcheck source-path=SCRIPTDIR source=claude-processes.sh
source "${BASH_SOURCE[0]%/*}/claude-processes.sh"

readonly cap_s=$CODER_PILOT_KEEP_ALIVE_CAP_S
readonly interval_s=${CODER_PILOT_KEEP_ALIVE_INTERVAL_S:-60}
# Of one core. A waiting prompt redraws itself now and then and stays far below.
readonly busy_percent=10
# A shorter rest belongs to the same run, or a hung process with pauses would begin a new cap each time.
readonly rest_s=$((10 * interval_s))
# Esc ends a turn without a hook, so a claim needs renewal. Claude Code gives a command at most 10 minutes by default
# and each one is an event.
readonly claim_lifetime_s=$((20 * interval_s))

readonly state_dir=$CODER_PILOT_STATE_DIR
ticks_per_s=$(getconf CLK_TCK 2>/dev/null || echo 100)
readonly ticks_per_s

# Not the wall clock: it may be set, and a suspended laptop must not look like a rest of no time.
now_s() {
  local uptime
  read -r uptime _ </proc/uptime
  echo "${uptime%.*}"
}

# The CPU time of every Claude and all that descends from it, in ticks. A program that ends passes its ticks on to its
# parent, so the sum only grows while the tree stands.
claude_ticks() {
  local -A parents=() own=() belongs=()
  local pid ancestor total=0 directory
  for directory in /proc/[0-9]*; do
    pid=${directory#/proc/}
    read_stat "$pid" || continue
    parents[$pid]=$parent_pid
    own[$pid]=$cpu_ticks
    if is_claude "$pid"; then belongs[$pid]=1; fi
  done
  for pid in "${!parents[@]}"; do
    ancestor=$pid
    while [[ -n $ancestor && -z ${belongs[$ancestor]-} ]]; do
      ancestor=${parents[$ancestor]-}
    done
    if [[ -n $ancestor ]]; then
      total=$((total + own[$pid]))
    fi
  done
  echo "$total"
}

# True if a living Claude said less than claim_lifetime_s ago that it works. Drops the claims of ended ones.
a_hook_says_working() {
  local file state claimed_start age_s result=1
  for file in "$state_dir"/claims/[0-9]*; do
    [[ -e $file ]] || continue
    read -r state claimed_start <"$file" || continue
    if ! read_stat "${file##*/}" || [[ $start_ticks != "$claimed_start" ]]; then
      rm -f "$file"
      continue
    fi
    age_s=$(($(date +%s) - $(stat --format %Y "$file")))
    if [[ $state == working ]] && ((age_s < claim_lifetime_s)); then
      result=0
    fi
  done
  return "$result"
}

# report STATE MESSAGE. The token goes through standard input, where no process list shows it.
report() {
  printf 'header = "Coder-Session-Token: %s"\n' "$CODER_AGENT_TOKEN" |
    curl --config - --silent --show-error --fail --output /dev/null --max-time 20 --request PATCH \
      --header 'Content-Type: application/json' \
      --data "{\"app_slug\":\"code-server\",\"state\":\"$1\",\"message\":\"$2\",\"uri\":\"\"}" \
      "${CODER_AGENT_URL%/}/api/v2/workspaceagents/me/app-status" ||
    { echo "Coder could not be told \"$1\"; trying again in $interval_s s." >&2 && return 1; }
}

show() {
  echo "$1" >"$state_dir/status"
}

mkdir -p "$state_dir"
run_start_s='' last_busy_s='' told=idle
show idle
ticks=$(claude_ticks)
while sleep "$interval_s"; do
  previous_ticks=$ticks
  ticks=$(claude_ticks)
  now=$(now_s)
  working=0
  if a_hook_says_working || ((ticks - previous_ticks >= interval_s * ticks_per_s * busy_percent / 100)); then
    working=1
    last_busy_s=$now
    run_start_s=${run_start_s:-$now}
  elif [[ -n $run_start_s ]] && ((now - last_busy_s >= rest_s)); then
    run_start_s=''
  fi

  if ((working)) && ((now - run_start_s < cap_s)); then
    show "working for $(((now - run_start_s) / 60)) min"
    # Also when it was told already: each report moves the deadline once more.
    if report working "Claude is working"; then told=working; fi
  else
    message="Claude is idle"
    if ((working)); then message="Claude is working, but past the keep-alive limit"; fi
    show "${message#Claude is }"
    if [[ $told == working ]] && report idle "$message"; then told=idle; fi
  fi
done

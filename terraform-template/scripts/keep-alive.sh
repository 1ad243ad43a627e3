#!/usr/bin/env bash
# Usage: keep-alive.sh watch          tells Coder once a minute that Claude is at work
#        keep-alive.sh working|idle   run by Claude Code's hooks (claude-hooks.json): notes what that Claude is doing
#
# A report of work moves the workspace's deadline. Coder itself counts only connections, so a long run with the browser
# closed would be stopped in the middle.
#
# A Claude works if its hooks say so or if it and the programs that it started use the CPU. A prompt that waits for its
# user does neither. After the cap a run no longer counts, so a hung process cannot hold the memory.
set -euo pipefail

# A hook may run where the variable was taken away, under sudo for one.
readonly state_dir=${CODER_PILOT_STATE_DIR:-/tmp/coder-pilot}
readonly interval_s=${CODER_PILOT_KEEP_ALIVE_INTERVAL_S:-60}
# Of one core. Claude Code 2.1.332 takes up to 1.4 in a minute at a prompt or a question, 5 in its first seconds, and 8
# while it waits for a command: that one is told by the hooks.
readonly busy_percent=10
# A shorter rest belongs to the same run, or a hung process with pauses would begin a new cap each time.
readonly rest_s=$((10 * interval_s))
# Esc ends a turn without a hook, so a claim needs renewal. Claude Code gives a command at most 10 minutes by default
# and each one is an event.
readonly claim_lifetime_s=$((20 * interval_s))

# is_claude PID: the command line tool (it names itself "claude"), or the program that the extension carries.
is_claude() {
  local name argv=()
  { read -r name <"/proc/$1/comm"; } 2>/dev/null || return 1
  [[ $name == claude ]] && return 0
  { mapfile -d '' -n 2 -t argv <"/proc/$1/cmdline"; } 2>/dev/null || return 1
  # A zombie has none.
  ((${#argv[@]} > 0)) || return 1
  [[ ${argv[0]##*/} == claude ]] && return 0
  [[ ${argv[0]##*/} == @(node|bun) && ${argv[1]-} == @(*/claude|*/claude-code/cli.js) ]]
}

# read_stat PID: sets parent_pid, start_ticks, and cpu_ticks (its own and those of its reaped children).
# Fields: proc(5), /proc/pid/stat. The name in brackets may hold spaces and brackets itself, so count from the last one.
read_stat() {
  local line fields=()
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
  read -ra fields <<<"${line##*) }"
  # It may end while it is read.
  ((${#fields[@]} > 19)) || return 1
  parent_pid=${fields[1]}
  start_ticks=${fields[19]}
  cpu_ticks=$((fields[11] + fields[12] + fields[13] + fields[14]))
}

# note STATE: leaves it as the claim of the Claude that runs this.
note() {
  local claims=$state_dir/claims pid=$PPID
  # The event itself is of no interest, but Claude Code waits for it to be read.
  cat
  while ((pid > 1)); do
    read_stat "$pid" || return
    if is_claude "$pid"; then
      mkdir -p "$claims"
      # The start time tells this process from a later one with the same id.
      echo "$1 $start_ticks" >"$claims/.$pid.$$"
      mv "$claims/.$pid.$$" "$claims/$pid"
      break
    fi
    pid=$parent_pid
  done
}

# Not the wall clock, which may be set.
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
    curl --config - --noproxy '*' --silent --show-error --fail --output /dev/null --max-time 20 --request PATCH \
      --header 'Content-Type: application/json' \
      --data "{\"app_slug\":\"code-server\",\"state\":\"$1\",\"message\":\"$2\",\"uri\":\"\"}" \
      "${CODER_AGENT_URL%/}/api/v2/workspaceagents/me/app-status" ||
    { echo "Coder could not be told \"$1\"; trying again in $interval_s s." >&2 && return 1; }
}

show() {
  echo "$1" >"$state_dir/status"
}

watch() {
  local cap_s=$CODER_PILOT_KEEP_ALIVE_CAP_S ticks_per_s
  local ticks previous_ticks now working message run_start_s last_busy_s told
  ticks_per_s=$(getconf CLK_TCK 2>/dev/null || echo 100)
  mkdir -p "$state_dir"
  run_start_s='' last_busy_s='' told=idle
  # It starts with the container, so no Claude has used the CPU yet.
  ticks=0
  show idle
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
}

case ${1-} in
  watch) watch ;;
  working | idle)
    # Claude Code acts on a hook's output and exit code, and a note is not worth a disturbance.
    note "$1" >/dev/null 2>&1 || true
    ;;
  *)
    echo "Usage: $0 watch|working|idle" >&2
    exit 2
    ;;
esac

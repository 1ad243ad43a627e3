#!/usr/bin/env bash
# Usage: keep-alive.sh watch      tells Coder once a minute that Claude is working
#        keep-alive.sh ask PID    prints the sessions that the Claude with this process id knows, as JSON
#
# A report of work moves the workspace's deadline. Coder itself counts only connections, so a long run with the browser
# closed would be stopped in the middle.
#
# Claude Code says which of its sessions work, are idle or wait for their user (`claude agents --json`). A Claude that is
# in no answer works if it and the programs that it started use the CPU: an older one, one whose home is full, one that
# does not answer. After the cap a run no longer counts, so a hung process cannot hold the memory.
set -euo pipefail

readonly state_dir=${CODER_PILOT_STATE_DIR:-/tmp/coder-pilot}
readonly interval_s=${CODER_PILOT_KEEP_ALIVE_INTERVAL_S:-60}
readonly ask_timeout_s=$((interval_s < 10 ? interval_s : 10))
# A session takes 250.
readonly answer_limit_bytes=65536
# Of one core. Claude Code 2.1.332 takes up to 1.4 in a minute at a prompt or a question, and 5 in its first seconds.
readonly busy_percent=10
# A shorter rest belongs to the same run, or a hung process with pauses would begin a new cap each time.
readonly rest_s=$((10 * interval_s))
readonly own_program=$0
ticks_per_s=$(getconf CLK_TCK 2>/dev/null || echo 100)
readonly ticks_per_s

# From one look at the processes to the next: what the sessions said, by process id, and the CPU time of each Claude and all
# that descends from it, in ticks, by process id and start.
declare -A statuses=() trees=()

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

# read_environment PID: sets environment to what says where this Claude keeps its sessions.
read_environment() {
  local variable variables=()
  environment=()
  { mapfile -d '' -t variables <"/proc/$1/environ"; } 2>/dev/null || return 1
  for variable in "${variables[@]}"; do
    case $variable in HOME=* | CLAUDE_CONFIG_DIR=*) environment+=("$variable") ;; esac
  done
}

# ask PID: by the program of that process, which may be another one than that on PATH, or already replaced on the disk.
# Not in the folder of a project, whose settings would be read, and with no secret of the agent's.
ask() {
  local environment
  cd /
  read_environment "$1"
  # shellcheck disable=SC2016  # the inner bash expands it
  exec timeout --kill-after=2 "$ask_timeout_s" bash -o pipefail -c '"$@" | head -c "$0"' "$answer_limit_bytes" \
    env -i PATH="$PATH" DISABLE_AUTOUPDATER=1 "${environment[@]}" "/proc/$1/exe" agents --json
}

# answer_of PID: sets answer. Through a file: a pipe would be waited for as long as any child of the program holds it.
answer_of() {
  local as_user=()
  # Only its user and root may know where its home is.
  [[ -O /proc/$1 ]] || as_user=(sudo -n -u "#$(stat --format %u "/proc/$1")")
  "${as_user[@]}" "$BASH" "$own_program" ask "$1" </dev/null >"$state_dir/answer" 2>/dev/null || return 1
  { answer=$(<"$state_dir/answer"); } 2>/dev/null
}

# read_answer: sets the statuses in answer, by process id.
read_answer() {
  local parts=() i pid='' status=''
  [[ $answer =~ ^[[:space:]]*'['.*']'[[:space:]]*$ ]] || return 1
  # Without escaped characters every second part is what stands in quotes, whatever a session's name is.
  mapfile -d '"' -t parts <<<"${answer//\\?/}"
  for ((i = 1; i < ${#parts[@]}; i += 2)); do
    if [[ ${parts[i - 1]} =~ '}'[[:space:]]*,[[:space:]]*'{' ]]; then pid='' status=''; fi
    if [[ ${parts[i]} == pid && ${parts[i + 1]-} =~ ^[[:space:]]*:[[:space:]]*([0-9]+) ]]; then
      pid=${BASH_REMATCH[1]}
    elif [[ ${parts[i]} == status && ${parts[i + 1]-} =~ ^[[:space:]]*:[[:space:]]*$ ]]; then
      status=${parts[i + 2]-}
    fi
    if [[ -n $pid && $status == @(busy|idle|waiting) ]]; then statuses[$pid]=$status; fi
  done
}

# ask_claudes PID…: fills statuses. Those of one program and one home know of each other.
ask_claudes() {
  local pid user program question answer environment
  local -A asked=()
  for pid in "$@"; do
    [[ -z ${statuses[$pid]-} ]] || continue
    # It may have ended, or be another user's.
    user=$(stat --format %u "/proc/$pid" 2>/dev/null) || continue
    program=$(readlink "/proc/$pid/exe" 2>/dev/null) || program=''
    read_environment "$pid" || environment=()
    question="$user $program ${environment[*]}"
    [[ -z ${asked[$question]-} ]] || continue
    asked[$question]=1
    if answer_of "$pid"; then read_answer || true; fi
  done
}

# look: sets found to "working", "waiting", "idle", or "absent" where there is no Claude.
look() {
  local -A parents=() own=() claudes=()
  local -A previous_statuses=() previous_trees=()
  local pid ancestor directory tree session
  for directory in /proc/[0-9]*; do
    pid=${directory#/proc/}
    read_stat "$pid" || continue
    parents[$pid]=$parent_pid
    own[$pid]=$cpu_ticks
    if is_claude "$pid"; then claudes[$pid]="$pid $start_ticks"; fi
  done

  for tree in "${!trees[@]}"; do previous_trees[$tree]=${trees[$tree]}; done
  trees=()
  # A program that ends passes its ticks on to its parent, so a tree's sum only grows.
  for pid in "${!parents[@]}"; do
    ancestor=$pid
    while [[ -n $ancestor && -z ${claudes[$ancestor]-} ]]; do ancestor=${parents[$ancestor]-}; done
    if [[ -n $ancestor ]]; then
      tree=${claudes[$ancestor]}
      trees[$tree]=$((${trees[$tree]:-0} + own[$pid]))
    fi
  done

  for pid in "${!statuses[@]}"; do previous_statuses[$pid]=${statuses[$pid]}; done
  statuses=()
  ask_claudes "${!claudes[@]}"

  found=absent
  for pid in "${!claudes[@]}"; do
    # What a session starts, another Claude for one, is that session's work.
    session=$pid
    while [[ -n $session && -z ${statuses[$session]-} ]]; do session=${parents[$session]-}; done
    tree=${claudes[$pid]}
    case ${statuses[${session:-0}]-} in
      busy) found=working ;;
      idle) [[ $found != absent ]] || found=idle ;;
      waiting) [[ $found == working ]] || found=waiting ;;
      *)
        # An answer that is missing once is not the end of a run.
        if [[ ${previous_statuses[$pid]-} == busy ]] ||
          ((trees[$tree] - ${previous_trees[$tree]:-0} >= interval_s * ticks_per_s * busy_percent / 100)); then
          found=working
        elif [[ $found == absent ]]; then
          found=idle
        fi
        ;;
    esac
  done
}

# report STATE MESSAGE: sets refused where this Coder does not take such reports at all. The token goes through standard
# input, where no process list shows it.
report() {
  local status
  status=$(printf 'header = "Coder-Session-Token: %s"\n' "$CODER_AGENT_TOKEN" |
    curl --config - --noproxy '*' --silent --show-error --output /dev/null --write-out '%{http_code}' --max-time 20 \
      --request PATCH --header 'Content-Type: application/json' \
      --data "{\"app_slug\":\"code-server\",\"state\":\"$1\",\"message\":\"$2\",\"uri\":\"\"}" \
      "${CODER_AGENT_URL%/}/api/v2/workspaceagents/me/app-status") || true
  case $status in
    2??) refused='' && return 0 ;;
    404 | 405 | 410)
      if [[ -z $refused ]]; then
        refused=$status
        tell error "Keep-alive does not work on this Coder, which answers the watcher's report with HTTP status $status: a \
Claude at work does not move the deadline. Move it yourself, in the dashboard." || true
      fi
      ;;
  esac
  echo "Coder could not be told \"$1\" (HTTP status $status); trying again in $interval_s s." >&2
  return 1
}

show() {
  echo "$1" >"$state_dir/status" || true
}

# Not the wall clock, which may be set.
now_s() {
  local uptime
  read -r uptime _ </proc/uptime
  echo "${uptime%.*}"
}

watch() {
  local cap_s=$CODER_PILOT_KEEP_ALIVE_CAP_S
  local found state now since_s message run_start_s last_busy_s told refused=''
  mkdir -p "$state_dir"
  run_start_s='' last_busy_s='' told=idle state=absent since_s=$(now_s)
  show "not started"
  while sleep "$interval_s"; do
    look
    now=$(now_s)
    # One that has ended is idle since its last turn.
    [[ $found != absent || $state == absent ]] || found=idle
    if [[ $found != "$state" ]]; then
      state=$found
      since_s=$now
    fi
    if [[ $state == working ]]; then
      last_busy_s=$now
      run_start_s=${run_start_s:-$now}
    elif [[ -n $run_start_s ]] && ((now - last_busy_s >= rest_s)); then
      run_start_s=''
    fi

    if [[ $state == working ]] && ((now - run_start_s < cap_s)); then
      show "working for $(((now - run_start_s) / 60)) min"
      # Also when it was told already: each report moves the deadline once more.
      if report working "Claude is working"; then
        told=working
      elif [[ -n $refused ]]; then
        show "keep-alive does not work on this Coder"
      fi
    else
      case $state in
        working) message="Claude is working, but past the keep-alive limit" ;;
        waiting) message="Claude waits for you" ;;
        idle | absent) message="Claude is idle" ;;
      esac
      case $state in
        working) show "${message#Claude is }" ;;
        waiting) show "waits for you for $(((now - since_s) / 60)) min" ;;
        idle) show "idle for $(((now - since_s) / 60)) min" ;;
        absent) show "not started" ;;
      esac
      if [[ $told == working ]] && report idle "$message"; then told=idle; fi
    fi
  done
}

case ${1-} in
  watch) watch ;;
  ask) ask "$2" ;;
  *)
    echo "Usage: $0 watch | ask PID" >&2
    exit 2
    ;;
esac

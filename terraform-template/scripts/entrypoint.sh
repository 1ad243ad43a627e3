#!/usr/bin/env bash
# Starts the agent, or says in the agent's log why this image cannot be a workspace. Stays process 1, so that every stop
# (Coder's, `docker stop`, the box's own shutdown) comes here first and what runs can end in order; process 1 also takes
# away the zombies that others leave. Runs behind tell.sh.
# Usage: bash -c "$(cat tell.sh entrypoint.sh)" entrypoint AGENT_INIT_SCRIPT
set -euo pipefail

# Without it process 1 would not notice that it is stopped.
trap 'exit 0' TERM

# A fixed place, so that a restart of the container does not leave one more copy of the agent behind.
export BINARY_DIR=${BINARY_DIR:-/tmp/coder-agent}
# From files, or `ps` would show both scripts whole.
if [[ -n ${BASH_EXECUTION_STRING-} ]]; then
  mkdir -p "$BINARY_DIR"
  printf '%s\n' "$BASH_EXECUTION_STRING" >"$BINARY_DIR/entrypoint.sh"
  printf '%s\n' "$1" >"$BINARY_DIR/init.sh"
  exec bash "$BINARY_DIR/entrypoint.sh"
fi

# None is readonly, or a secret of its name would not reach the agent.
stop_grace_s=${CODER_PILOT_STOP_GRACE_S:-10}
# For the terminals and what holds them, once the programs have ended.
terminals_grace_s=2
term_bit=$((1 << 14))

refuse() {
  local message="This image cannot be a workspace: $1" attempt
  echo "$message" >&2
  # Coder knows the token only after the build that started this container has ended.
  for ((attempt = 0; attempt < 60; attempt++)); do
    tell error "$message" && break
    sleep 1
  done
  # Not an exit: the restart policy would try again forever.
  sleep infinity &
  wait
}

# read_status PID: sets name, parent and ignored (a mask of signals); fails for a process that has ended.
# Fields: proc(5), /proc/pid/status.
read_status() {
  local key value
  name='' parent=0 ignored=0
  {
    while IFS=$':\t' read -r key value; do
      case $key in
        Name) name=$value ;;
        State) [[ $value != [ZX]* ]] || return 1 ;;
        PPid) parent=$value ;;
        SigIgn) ignored=$((16#$value)) ;;
      esac
    done <"/proc/$1/status"
  } 2>/dev/null || return 1
}

# end SIGNAL SECONDS PID...: sends the signal and waits until they have ended; sets left to those that have not.
end() {
  local signal=$1 deadline=$((SECONDS + $2)) pid foreign=()
  shift 2
  for pid; do
    # A suspended program takes a signal only when it goes on.
    if ! { kill -s "$signal" "$pid" && kill -s CONT "$pid"; } 2>/dev/null && read_status "$pid"; then
      foreign+=("$pid")
    fi
  done
  if ((${#foreign[@]})) && command -v sudo >/dev/null; then
    # Services that were started with sudo.
    # shellcheck disable=SC2016  # expands there
    timeout 2 sudo -n bash -c 'kill -s "$0" "$@"; kill -s CONT "$@"' "$signal" "${foreign[@]}" 2>/dev/null || true
  fi
  left=("$@")
  while :; do
    local still=()
    for pid in "${left[@]}"; do
      if read_status "$pid"; then still+=("$pid"); fi
    done
    left=("${still[@]}")
    ((${#left[@]} && SECONDS < deadline)) || break
    sleep 0.1
  done
}

# What holds a terminal (the editor, tmux, the agent) ends last, with all that it descends from, and so does what ignores TERM,
# as an interactive shell does: with any of them the programs in the terminal get a HUP, in the middle of their own end.
stop() {
  local directory pid programs=() shells=() holders=() left=() names=()
  local -A last=(["$agent"]=1)
  trap '' TERM
  # Elsewhere these are other people's processes.
  if (($$ == 1)); then
    for pid in $(find /proc/[0-9]*/fd -maxdepth 1 -lname '*/ptmx' 2>/dev/null | cut -d / -f 3); do
      while ((pid > 1)) && read_status "$pid"; do
        last[$pid]=1
        pid=$parent
      done
    done
    for directory in /proc/[0-9]*; do
      pid=${directory#/proc/}
      if ((pid == 1 || pid == agent)) || ! read_status "$pid"; then
        continue
      elif [[ -n ${last[$pid]-} ]]; then
        holders+=("$pid")
      elif ((ignored & term_bit)); then
        shells+=("$pid")
      else
        programs+=("$pid")
      fi
    done
    end TERM "$stop_grace_s" "${programs[@]}"
    name_left
    end HUP "$terminals_grace_s" "${shells[@]}"
    name_left
    end TERM "$terminals_grace_s" "${holders[@]}"
    if ((${#names[@]})); then
      printf -v names '%s, ' "${names[@]}"
      tell warn "At the stop these did not end within $stop_grace_s s and were killed: ${names%, }." &
    fi
  fi
  kill -s TERM "$agent" 2>/dev/null || true
  wait
}

name_left() {
  for pid in "${left[@]}"; do
    if read_status "$pid"; then names+=("$name ($pid)"); fi
  done
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

# With job control: without it a program in the background, and all that it starts, would ignore Ctrl-C.
set -m
# In a shell of its own, for a secret may have the name of something in this script.
(
  # Here and not in a variable of the container, which everybody with the engine's socket can read. Written by `up`.
  if [[ -r $CODER_PILOT_SECRETS_DIR/environment ]]; then
    # A name that bash keeps read-only it complains of, and goes on.
    # shellcheck source=/dev/null
    . "$CODER_PILOT_SECRETS_DIR/environment" || true
  fi

  # The image may come with a proxy.
  export no_proxy="${no_proxy:+$no_proxy,}${NO_PROXY:+$NO_PROXY,}$CODER_PILOT_NO_PROXY"
  export NO_PROXY=$no_proxy
  exec sh "$BINARY_DIR/init.sh"
) &
agent=$!
set +m
trap 'stop; exit 0' TERM
status=0
wait "$agent" || status=$?
stop
exit "$status"

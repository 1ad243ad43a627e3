# shellcheck shell=bash disable=SC2034
# How a Claude process is recognised and measured; sourced by keep-alive.sh and claude-hook.sh.

# is_claude PID: the command line tool (it names itself "claude"), or the program that the extension carries.
is_claude() {
  local name argv=()
  { read -r name <"/proc/$1/comm"; } 2>/dev/null || return 1
  [[ $name == claude ]] && return 0
  { mapfile -d '' -n 2 -t argv <"/proc/$1/cmdline"; } 2>/dev/null || return 1
  # A thread of the kernel has none.
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

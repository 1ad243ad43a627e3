#!/usr/bin/env bash
# Usage: tools.sh lacking|install
#
# The tools that people reach for first in a workspace. `lacking` prints those that the image does not have; `install`, as
# root in a base with apt, installs them.
set -euo pipefail

readonly packages=(
  curl git git-lfs jq less locales make nano openssh-client python3-venv ripgrep tmux tzdata vim
)
readonly seconds_without_an_answer=30

# has TOOL: by what it is for and not by its package, for an image may have it from elsewhere.
has() {
  case $1 in
    # A terminal of the editor asks for it, and so does an SSH client of most people.
    locales) [[ $(locale -a) =~ en_US\.utf-?8 ]] ;;
    node) command -v node && command -v npm ;;
    openssh-client) command -v ssh ;;
    python3-venv) python3 -c 'import ensurepip, venv' ;;
    ripgrep) command -v rg ;;
    tzdata) [[ -e /usr/share/zoneinfo/Europe/London ]] ;;
    *) command -v "$1" ;;
  esac
} >/dev/null 2>&1

lacking() {
  local tool
  for tool; do
    has "$tool" || echo "$tool"
  done
}

apt() {
  apt-get --option "Acquire::http::Timeout=$seconds_without_an_answer" \
    --option "Acquire::https::Timeout=$seconds_without_an_answer" "$@"
}

install() {
  local absent known=() package failed=
  mapfile -t absent < <(lacking "${packages[@]}")
  ((${#absent[@]})) || return 0
  apt --option APT::Update::Error-Mode=any update || failed=yes
  # apt installs nothing at all where one name is unknown to it.
  for package in "${absent[@]}"; do
    if apt-cache show "$package" >/dev/null 2>&1; then known+=("$package"); fi
  done
  ((${#known[@]} == 0)) || apt --yes --no-install-recommends install "${known[@]}" || failed=yes
  has locales || localedef --inputfile en_US --charmap UTF-8 en_US.UTF-8 || true
  if [[ $failed && $(lacking "${packages[@]}") ]]; then
    # As without-extension: the next `up` tries again.
    mkdir -p /usr/local/share/coder-pilot
    touch /usr/local/share/coder-pilot/without-tools
  fi
}

# Ubuntu marks ping to get the capability for raw sockets. Workspaces have none of it, and the kernel runs no program that
# asks for more than there is; without the mark it sends as every user may. A copy has no mark.
unmark_ping() {
  local ping
  ping=$(command -v ping) || return 0
  cp "$ping" "$ping.unmarked"
  mv "$ping.unmarked" "$ping"
}

case $1 in
  lacking) lacking "${packages[@]}" node ;;
  install)
    export DEBIAN_FRONTEND=noninteractive HOME=/root
    install
    unmark_ping
    ;;
esac

#!/usr/bin/env bash
# Usage: check.sh base|parts
#
# Whether the base can be a workspace, before anything is downloaded for it, and whether the parts run in it: as the user
# that workspaces run as.
set -euo pipefail

fail() {
  echo "ERROR: $*" >&2
  exit 1
}

# Where the template mounts the home volume, which begins as a copy of this folder.
readonly home=/home/coder

case $1 in
  base)
    command -v curl >/dev/null || fail "it has no curl, which the workspace's agent needs. Install curl in the base image."
    [[ -w $home ]] ||
      fail "its user $(id -un) cannot write $home. Create $home in the base image and give it to that user."
    ;;
  parts)
    HOME=$(mktemp -d)
    export HOME
    trap 'rm -rf "$HOME"' EXIT
    for program in code-server claude; do
      "$program" --version || fail "$program does not run in it; the reason is above."
    done
    ;;
esac

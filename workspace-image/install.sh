#!/usr/bin/env bash
# Usage: install.sh code-server|claude|extension
#
# Puts one part into the folder that the image's build lays over the base image, unless the base has it. The base's own
# files stay as they are: what was installed before is found by its place in that folder.
set -euo pipefail
# shellcheck source=parts.sh
. "$(dirname "$0")/parts.sh"

readonly overlay=/opt/coder-pilot/overlay
mkdir -p "$overlay/usr/local/bin"
HOME=$(mktemp -d)
export HOME
trap 'rm -rf "$HOME"' EXIT
PATH=$PATH:$overlay/usr/local/bin

fail() {
  echo "ERROR: $*" >&2
  exit 1
}

case $1 in
  code-server)
    if command -v code-server; then
      echo "The base image has code-server."
      exit
    fi
    mkdir -p "$overlay/opt"
    install_code_server "$overlay/opt/code-server" ||
      fail "code-server $code_server_version could not be downloaded; the reason is above."
    ln -s /opt/code-server/bin/code-server "$overlay/usr/local/bin/code-server"
    ;;
  claude)
    if command -v claude; then
      echo "The base image has Claude Code."
      exit
    fi
    install_claude "$overlay/usr/local/bin/claude" ||
      fail "Claude Code $claude_version could not be downloaded; the reason is above."
    ;;
  extension)
    if [[ -d $overlay/opt/code-server ]]; then
      code_server=$overlay/opt/code-server/bin/code-server
    else
      code_server=$(command -v code-server)
    fi
    if has_extension "$code_server"; then
      echo "The base image has the extension."
      exit
    fi
    bundled=$(bundled_extensions "$code_server") ||
      fail "its code-server, $code_server, has no folder of extensions where code-server's releases have it."
    if install_extension "$code_server" --extensions-dir "$HOME/extensions"; then
      [[ $bundled == "$overlay"* ]] || bundled=$overlay$bundled
      mkdir -p "$bundled"
      mv "$HOME/extensions/$extension"-* "$bundled/$extension"
    else
      # Not a failure: everything else works, and a start tries again. check.sh's caller reads this file.
      echo "WARNING: the Claude Code extension could not be installed; the reason is above." >&2
      mkdir -p "$overlay/usr/local/share/coder-pilot"
      touch "$overlay/usr/local/share/coder-pilot/without-extension"
    fi
    ;;
esac

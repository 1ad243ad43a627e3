#!/usr/bin/env bash
# Starts code-server with the Claude Code extension. Both come from the image if it has them; otherwise they are
# installed into the home volume, where the next start finds them.
set -euo pipefail

readonly code_server_version=4.100.3
readonly extension=anthropic.claude-code
# The newest extension whose `engines.vscode` fits the code-server above and that is known to be on Open VSX.
readonly extension_version=2.1.120
readonly attempts=3 attempt_timeout_s=180

readonly port=$CODER_PILOT_CODE_SERVER_PORT
readonly installed=$HOME/.local/lib/code-server-$code_server_version
readonly log=$CODER_PILOT_STATE_DIR/code-server.log

retry() {
  local attempt
  for ((attempt = 1; attempt <= attempts; attempt++)); do
    timeout "$attempt_timeout_s" "$@" && return
    ((attempt == attempts)) || sleep $((attempt * 2))
  done
  return 1
}

install_code_server() {
  local arch archive=$HOME/.cache/code-server.tar.gz partial=$installed.partial
  case $(uname -m) in
    x86_64) arch=amd64 ;;
    aarch64) arch=arm64 ;;
    *) arch=$(uname -m) ;;
  esac
  rm -rf "$partial"
  mkdir -p "$partial" "${archive%/*}"
  retry curl --fail --silent --show-error --location --output "$archive" \
    "https://github.com/coder/code-server/releases/download/v$code_server_version/code-server-$code_server_version-linux-$arch.tar.gz" || return
  tar --extract --gzip --file "$archive" --directory "$partial" --strip-components 1 || return
  rm "$archive"
  # Only a whole installation gets the name that the next start looks for.
  mv "$partial" "$installed"
}

find_code_server() {
  if command -v code-server; then
    return
  fi
  if [[ ! -x $installed/bin/code-server ]]; then
    echo "The image has no code-server; installing $code_server_version into the home folder." >&2
    install_code_server || {
      echo "ERROR: code-server $code_server_version could not be installed; the reason is above." \
        "Restart the workspace to try again, or choose an image that has it." >&2
      return 1
    }
  fi
  echo "$installed/bin/code-server"
}

# Quiet defaults for a first visit. From then on the file is the user's.
write_first_settings() {
  local settings=$HOME/.local/share/code-server/User/settings.json
  [[ -e $settings ]] && return
  mkdir -p "${settings%/*}"
  cat >"$settings" <<'JSON'
{
  "extensions.ignoreRecommendations": true,
  "telemetry.telemetryLevel": "off",
  "workbench.startupEditor": "none",
  "workbench.tips.enabled": false,
  "workbench.welcomePage.walkthroughs.openOnInstall": false
}
JSON
}

has_extension() {
  local root
  # Bundled in the image's code-server, or installed into the home volume.
  root=$(dirname "$(dirname "$(readlink -f "$1")")")
  compgen -G "$root/lib/vscode/extensions/$extension*" >/dev/null ||
    compgen -G "$root/../lib/vscode/extensions/$extension*" >/dev/null ||
    compgen -G "$HOME/.local/share/code-server/extensions/$extension-*" >/dev/null
}

wait_until_it_answers() {
  local deadline=$((SECONDS + 60))
  until curl --silent --fail --output /dev/null --max-time 2 "http://127.0.0.1:$port/healthz"; do
    if ((SECONDS >= deadline)) || ! kill -0 "$1" 2>/dev/null; then
      echo "ERROR: code-server does not answer. The end of its log ($log):" >&2
      tail -n 20 "$log" >&2
      return 1
    fi
    sleep 0.5
  done
}

mkdir -p "$CODER_PILOT_STATE_DIR" "$CODER_PILOT_PROJECT_DIR"
write_first_settings
code_server=$(find_code_server)

# No password of its own: it listens on loopback, and Coder lets only the workspace's owner through.
setsid "$code_server" --auth none --bind-addr "127.0.0.1:$port" \
  --disable-telemetry --disable-update-check --disable-workspace-trust --disable-getting-started-override \
  </dev/null >>"$log" 2>&1 &
wait_until_it_answers $!
echo "code-server is up."

# After the start: a slow or closed market must delay nobody.
if ! has_extension "$code_server"; then
  echo "The image has no Claude Code extension; installing $extension $extension_version."
  if retry "$code_server" --install-extension "$extension@$extension_version" >>"$log" 2>&1; then
    echo "The Claude Code extension is installed; reload the editor's page if it is open already."
  else
    echo "WARNING: the Claude Code extension could not be installed ($attempts attempts, log: $log)." \
      "Everything else works; restart the workspace to try again, or install it from the editor." >&2
  fi
fi

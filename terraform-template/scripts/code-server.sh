#!/usr/bin/env bash
# Starts code-server with the Claude Code extension. All parts come from the image if it has them; otherwise they are
# installed into the home volume, where the next start finds them. Runs behind parts.sh, which has the functions.
# shellcheck disable=SC2154  # parts.sh sets what is not set here
set -euo pipefail

readonly port=$CODER_PILOT_CODE_SERVER_PORT
readonly log=$CODER_PILOT_STATE_DIR/code-server.log

find_code_server() {
  local installed=$HOME/.local/lib/code-server-$code_server_version
  if command -v code-server; then
    return
  fi
  if [[ ! -x $installed/bin/code-server ]]; then
    echo "The image has no code-server; installing $code_server_version into the home folder." >&2
    install_code_server "$installed" || {
      echo "ERROR: code-server $code_server_version could not be installed; the reason is above." \
        "Restart the workspace to try again, or choose an image that has it." >&2
      return 1
    }
  fi
  echo "$installed/bin/code-server"
}

# Quiet defaults for a first visit; the editor's own chat asks for an account elsewhere, and Claude Code is there. From then
# on the file is the user's.
write_first_settings() {
  local settings=$HOME/.local/share/code-server/User/settings.json
  [[ -e $settings ]] && return
  mkdir -p "${settings%/*}"
  cat >"$settings" <<'JSON'
{
  "chat.disableAIFeatures": true,
  "extensions.ignoreRecommendations": true,
  "telemetry.telemetryLevel": "off",
  "workbench.secondarySideBar.defaultVisibility": "hidden",
  "workbench.startupEditor": "none",
  "workbench.tips.enabled": false,
  "workbench.welcomePage.walkthroughs.openOnInstall": false
}
JSON
}

# Jupyter lets in hosts other than localhost only if a file says so. Its token is asked for all the same.
write_jupyter_settings() {
  mkdir -p "$JUPYTER_CONFIG_PATH"
  echo '{"ServerApp": {"allow_remote_access": true}}' >"$JUPYTER_CONFIG_PATH/jupyter_server_config.json"
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
write_jupyter_settings
code_server=$(find_code_server)

# No password of its own: it listens on loopback, and Coder lets only the workspace's owner through.
setsid "$code_server" --auth none --bind-addr "127.0.0.1:$port" \
  ${CODER_PILOT_EDITOR_PATH:+--abs-proxy-base-path "$CODER_PILOT_EDITOR_PATH"} \
  --disable-telemetry --disable-update-check --disable-workspace-trust --disable-getting-started-override \
  </dev/null >>"$log" 2>&1 &
wait_until_it_answers $!
echo "code-server is up."

# After the start: a slow or closed download delays nobody.
if ! has_extension "$code_server"; then
  echo "The image has no Claude Code extension; installing it into the home folder."
  if retry install_extension "$code_server" >>"$log" 2>&1; then
    echo "The Claude Code extension is installed; reload the editor's page if it is open already."
  else
    echo "WARNING: the Claude Code extension could not be installed ($attempts attempts, log: $log)." \
      "Everything else works; restart the workspace to try again, or install it from the editor." >&2
  fi
fi
if ! command -v claude >/dev/null && [[ ! -x $HOME/.local/bin/claude ]]; then
  echo "The image has no Claude Code; installing $claude_version into the home folder."
  install_claude "$HOME/.local/bin/claude" ||
    echo "WARNING: Claude Code $claude_version could not be installed; the reason is above." \
      "Everything else works; restart the workspace to try again." >&2
fi

#!/usr/bin/env bash
# Clones the project into its folder, once. Never touches a folder that has something in it.
set -euo pipefail

readonly repository=$CODER_PILOT_GIT_REPOSITORY
readonly project=$CODER_PILOT_PROJECT_DIR
readonly timeout_s=1800

fail() {
  echo "ERROR: $*" >&2
  exit 1
}

mkdir -p "$project"
if [[ -e $project/.git ]]; then
  echo "$project is there already; left as it is."
  exit
fi
if [[ -n $(ls -A "$project") ]]; then
  fail "$project is not empty and not a clone, so $repository was not cloned into it. Move its content away and restart."
fi
command -v git >/dev/null || fail "the image has no git, so $repository was not cloned. Choose another image."

# Beside the project and moved in at the end: a clone that a stop interrupts must not pass for a whole one. The folder
# itself stays, because the editor has it open by now.
partial=$HOME/.cache/coder-pilot-clone
rm -rf "$partial"
mkdir -p "${partial%/*}"
# Nobody can answer a question here. A host that is new is trusted and remembered in the home; one with another key than
# it had is refused.
export GIT_TERMINAL_PROMPT=0
export GIT_SSH_COMMAND="${GIT_SSH_COMMAND:-ssh} -o StrictHostKeyChecking=accept-new"
timeout "$timeout_s" git clone -- "$repository" "$partial" || {
  rm -rf "$partial"
  # As the browser shows a folder or a file: GitHub, GitLab, Bitbucket, Gitea.
  if [[ $repository =~ ^(https?://[^/]+(/[^/]+){2,}/-|https?://[^/]+/[^/]+/[^/]+)/(tree|blob|src|commits?)/ ]]; then
    fail "$repository is a page of a repository. Give the repository itself, ${BASH_REMATCH[1]%/-}, in the parameter \"Git repository\", and restart."
  fi
  fail "$repository could not be cloned; the reason is above. Correct the parameter \"Git repository\" or the access to it, and restart."
}
find "$partial" -mindepth 1 -maxdepth 1 ! -name .git -exec mv -t "$project" -- {} +
mv "$partial/.git" "$project/"
rmdir "$partial"

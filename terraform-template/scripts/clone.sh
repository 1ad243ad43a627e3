#!/usr/bin/env bash
# Clones the project into its folder, once, with its submodules and its files in Git LFS. Never touches a folder that has
# something in it.
set -euo pipefail

readonly repository=$CODER_PILOT_GIT_REPOSITORY
readonly branch=$CODER_PILOT_GIT_BRANCH
readonly shallow=$CODER_PILOT_GIT_SHALLOW
readonly project=$CODER_PILOT_PROJECT_DIR
readonly timeout_s=1800
readonly progress_interval_s=10
# Files in Git LFS are fetched when the clone is there: neither a server that fails nor a missing git-lfs costs the clone.
readonly git=(git -c filter.lfs.process= -c filter.lfs.smudge= -c filter.lfs.required=false)

fail() {
  echo "ERROR: $*" >&2
  exit 1
}

warn() {
  echo "WARNING: $*" >&2
}

# place URL: host and path alone, to compare by and to show: a remote of the person's own may have a password in it.
place() {
  local place=${1#*://}
  [[ $place =~ ^[^/]*@(.*) ]] && place=${BASH_REMATCH[1]}
  place=${place/://}
  while [[ $place == */ ]]; do place=${place%/}; done
  echo "${place%.git}"
}

# Reads Git's progress, which overwrites a terminal's line: the log gets the last of it every ten seconds.
paced() {
  local chunk shown_s=$SECONDS
  while IFS= read -r -d $'\r' chunk; do
    if [[ $chunk == *$'\n'* ]] || ((SECONDS - shown_s >= progress_interval_s)); then
      echo "$chunk"
      shown_s=$SECONDS
    fi
  done
  printf '%s' "$chunk"
}

# fetch COMMAND…: all it says to standard error, where our own warnings go: the agent reads the two side by side, and the
# reason would stand below the warning.
fetch() {
  timeout "$timeout_s" "$@" </dev/null 2>&1 | paced >&2
}

# One by one: a submodule that fails does not take the others along.
fetch_submodules() {
  local path
  [[ -e $project/.gitmodules ]] || return 0
  while IFS= read -r -d '' path; do
    path=${path#*$'\n'}
    echo "Fetching the submodule $path."
    fetch "${git[@]}" -C "$project" submodule update --init --recursive --progress -- "$path" ||
      warn "the submodule $path could not be fetched; the reason is above. To try again, run \`git submodule update --init --recursive\` in $project."
  done < <(git config --null --file "$project/.gitmodules" --get-regexp '^submodule\..*\.path$')
}

# fetch_lfs FOLDER: of the project or of a submodule.
fetch_lfs() {
  local count
  count=$(git -C "$1" ls-files -- ':(attr:filter=lfs)' | wc -l)
  ((count)) || return 0
  if ! git lfs version >/dev/null 2>&1; then
    warn "the image has no git-lfs, so files in $1 are placeholders of Git LFS ($count). Choose an image that has it, or install it and run \`git lfs install && git lfs pull\` there."
    return
  fi
  echo "Fetching the files of Git LFS in $1 ($count)."
  # It says what to do where the person has hooks of their own.
  git -C "$1" lfs install --local >/dev/null || true
  GIT_LFS_FORCE_PROGRESS=1 fetch git -C "$1" lfs pull ||
    warn "files of Git LFS in $1 could not be fetched and are placeholders; the reason is above. To try again, run \`git lfs pull\` there."
}

# tell_of_another_remote: for a clone that is there already.
tell_of_another_remote() {
  local wanted found='' each
  wanted=$(place "$repository")
  while read -r _ each; do
    found=$(place "$each")
    [[ $found == "$wanted" ]] && return
  done < <(git -C "$project" config --get-regexp '^remote\..*\.url$')
  warn "$project is no clone of $wanted but of ${found:-nothing}. To clone $wanted, move the folder away and restart."
}

mkdir -p "$project"
if [[ -e $project/.git ]]; then
  echo "$project is there already; left as it is."
  ! command -v git >/dev/null || tell_of_another_remote
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
options=(--progress)
[[ -z $branch ]] || options+=("--branch=$branch")
[[ $shallow != true ]] || options+=(--depth=1)
status=0
fetch "${git[@]}" clone "${options[@]}" -- "$repository" "$partial" || status=$?
if ((status)); then
  rm -rf "$partial"
  # As the browser shows a folder or a file: GitHub, GitLab, Bitbucket, Gitea.
  if [[ $repository =~ ^(https?://[^/]+(/[^/]+){2,}/-|https?://[^/]+/[^/]+/[^/]+)/(tree|blob|src|commits?)/ ]]; then
    fail "$repository is a page of a repository. Give the repository itself, ${BASH_REMATCH[1]%/-}, in the parameter \"Git repository\", and restart."
  fi
  if ((status == 124)); then
    fail "$repository was not cloned within $((timeout_s / 60)) minutes. Choose \"Shallow clone\" in the parameters, and restart."
  fi
  fail "$repository could not be cloned; the reason is above. Correct the parameter \"Git repository\" or the access to it, and restart."
fi
find "$partial" -mindepth 1 -maxdepth 1 ! -name .git -exec mv -t "$project" -- {} +
mv "$partial/.git" "$project/"
rmdir "$partial"
if [[ $shallow == true ]]; then
  # A shallow clone knows one branch alone.
  git -C "$project" remote set-branches origin '*'
  echo "Only the newest commit was cloned; \`git fetch --unshallow\` brings the history."
fi
fetch_submodules
fetch_lfs "$project"
while IFS= read -r folder; do
  fetch_lfs "$folder"
done < <(git -C "$project" submodule --quiet foreach --recursive pwd)

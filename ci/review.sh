#!/usr/bin/env bash
# A preview in words, what it deletes or replaces first, held to the policy. The report goes to FILE and to standard
# output; the exit code is that of the first part that failed.
#
#     ci/review.sh FILE [options of `python3 -m pilot preview`]
set -euo pipefail
cd "$(dirname "$0")/.."

report=$(realpath "$1")
shift
plan=$(mktemp)
trap 'rm -f "$plan"' EXIT
code=0

python3 -m pilot preview "$@" --plan "$plan" || code=$?
{
  echo "## Preview of \`pilot preview $*\`"
  echo
  if python3 -m ci.plan_words "$plan"; then
    python3 -m ci.plan_policy "$plan" > "$plan.policy" || code=$?
    if [ -s "$plan.policy" ]; then
      printf '\n### Against the policy\n'
      sed 's/^policy: /- /' "$plan.policy"
    fi
    rm -f "$plan.policy"
  else
    echo "The preview failed; the log of this job says why."
    code=2
  fi
} > "$report"
cat "$report"
exit "$code"

#!/usr/bin/env bash
# Write the generated documentation anew: docs/settings.md and the table in toolchain/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
eval "$(python3 -m toolchain env)"

write() {
  python -m "$1" > "$2.new"
  mv "$2.new" "$2"
}
write ci.settings_doc docs/settings.md
write ci.toolchain_doc toolchain/README.md

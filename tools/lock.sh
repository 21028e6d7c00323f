#!/bin/bash
# Updates every lock file to the newest versions that the .in files and package.json allow, with hashes.
#   lock.sh            all lock files of GridHub
#   lock.sh INVENTORY  only the lock file of a site's own notebook packages, from INVENTORY/notebook.in
set -euo pipefail
inventory=${1:+$(realpath --no-symlinks "$1")}
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/uv"
"$work/uv/bin/pip" install --quiet --only-binary :all: --require-hashes -r requirements/lock.txt
if [ -n "$inventory" ]; then
  python3 tools/notebook_lock.py lock "$inventory" "$work/uv/bin/uv"
  exit
fi
lock() {
  "$work/uv/bin/uv" pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate "$1.in" --output-file "$1.txt"
}
# The hub comes first: its versions constrain the others.
for name in roles/jupyterhub/files roles/sge_exec/files roles/proxy/files tests/operate/jupyterhub5; do lock "$name/requirements"; done
for name in controller dev lock; do lock "requirements/$name"; done
(cd roles/proxy/files/node && npm update --package-lock-only --ignore-scripts)

#!/bin/bash
# scenario.sh NAME PORT LEAST: runs a Molecule scenario on a cluster of its own, which at least
# LEAST tests must pass. Its name stands before each line: another one may run beside it.
set -uo pipefail
cd "$(dirname "$0")/.."
name=$1 port=$2 least=$3

run() {
  rm -f ".cache/$name.xml"
  tools/setup.sh check "gridhub-$name" "$port" || return
  molecule test --scenario-name "$name"
  local status=$?
  python tools/count_tests.py ".cache/$name.xml" "$least" && return $status
}

run 2>&1 | sed -u "s/^/$name | /"

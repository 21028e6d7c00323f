#!/bin/bash
# scenarios.sh PREFIX PORT NAME LEAST …: runs Molecule scenarios one after another on one cluster,
# and removes it. At least LEAST tests of each must pass. The scenario's name stands before each
# line: other ones may run beside it. What it printed is in .cache/NAME.log as well.
set -uo pipefail
cd "$(dirname "$0")/.."
prefix=$1 port=$2 cluster=$3
shift 2

run() {
  local name=$1 least=$2 status
  # What Molecule remembers of an earlier run, such as containers that are gone by now.
  molecule reset --scenario-name "$name" &&
    molecule test --scenario-name "$name" --destroy never
  status=$?
  python tools/count_tests.py ".cache/$name.xml" "$least" && return $status
}

# What an earlier run left goes first, and in the end all that this one made.
remove() { molecule destroy --scenario-name "$cluster"; }

all() {
  local failed=0
  tools/setup.sh check "$prefix" "$port" && remove || return 1
  while [ $# -gt 0 ]; do
    mkdir -p .cache && rm -f ".cache/$1.xml"
    run "$1" "$2" 2>&1 | tee ".cache/$1.log" | sed -u "s/^/$1 | /" || failed=1
    shift 2
  done
  remove || failed=1
  return $failed
}

all "$@"

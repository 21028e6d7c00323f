#!/bin/bash
# scenarios.sh PREFIX PORT NAME TESTS …: runs Molecule scenarios one after another on one cluster,
# then removes the cluster. For each scenario, all tests in the folder TESTS must run and pass. Each line of output
# starts with the scenario's name, because others may run at the same time. The output is also in .cache/NAME.log.
set -uo pipefail
cd "$(dirname "$0")/.."
prefix=$1 port=$2 cluster=$3
shift 2

run() {
  local name=$1 tests=$2 status
  # Clear Molecule's state of an earlier run, such as containers that no longer exist.
  molecule reset --scenario-name "$name" &&
    molecule test --scenario-name "$name" --destroy never
  status=$?
  python tools/count_tests.py ".cache/$name.xml" "$tests" && return $status
}

# At the start, removes what an earlier run left; at the end, everything that this run made.
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

#!/usr/bin/env bash
# All tests of the main environment, in two halves at a time: they wait for processes more than they
# compute. Each half keeps its order. (pytest-xdist changes it, and loses the failures of
# schemathesis' subtests.)
#
#   scripts/tests.sh PYTHON LOG [PYTEST_OPTION ...]     LOG: holds one half's output until its end
set -euo pipefail
python=$1 log=$2
shift 2

echo "pytest tests/integration (its output follows), beside pytest of all other tests"
set -m # in a process group of its own, which Ctrl-C would not reach
"$python" -m pytest "$@" tests/integration >"$log" 2>&1 &
half=$!
set +m
trap 'kill -INT "$half"' INT TERM

failed=0
"$python" -m pytest "$@" --ignore=tests/integration || failed=$?
wait "$half" || failed=$?
cat "$log"
exit "$failed"

#!/usr/bin/env bash
# venv.sh DIR: make an empty environment in DIR with Python 3.11 or newer, unless one is there.
set -euo pipefail

dir=$1
python=${PYTHON:-python3}

command -v "$python" >/dev/null || { echo "There is no '$python' here. Try: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Lakeport needs Python 3.11 or newer; '$python' is $("$python" -V 2>&1). Try: make setup PYTHON=python3.12" >&2
  exit 1
}
if [ -x "$dir/bin/python" ] && { [ -x "$dir/bin/uv" ] || "$dir/bin/python" -m pip --version >/dev/null 2>&1; }; then
  exit 0
fi

rm -rf "$dir"
if "$python" -c 'import ensurepip' 2>/dev/null; then
  "$python" -m venv "$dir"
elif command -v uv >/dev/null; then
  # Debian splits ensurepip off; uv does without it.
  uv venv --quiet --seed --python "$python" "$dir"
else
  echo "'$python' cannot make environments: on Debian and Ubuntu, apt install python3-venv" >&2
  exit 1
fi

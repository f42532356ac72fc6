#!/bin/sh
# Runs the live-client tests against the binary in MESHLAKE_BIN; further arguments go to pytest (-k mesh, -x, a file name).
# The clients are installed into a venv outside the checkout, which later runs use again.
set -eu

: "${MESHLAKE_BIN:?set MESHLAKE_BIN to the meshlake binary, for example target/release/meshlake}"
here=$(cd "$(dirname "$0")" && pwd)
venv="${XDG_CACHE_HOME:-$HOME/.cache}/meshlake-live"

# One installation at a time, and again when the requirements change.
mkdir -p "$venv"
(
    flock 9
    if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
        rm -f "$venv/installed.txt"
        python3 -m venv --clear "$venv/env"
        "$venv/env/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
        cp "$here/requirements.txt" "$venv/installed.txt"
    fi
) 9>"$venv/lock"

MESHLAKE_BIN=$(realpath "$MESHLAKE_BIN")
export MESHLAKE_BIN
export PYTHONDONTWRITEBYTECODE=1
cd "$here"
exec "$venv/env/bin/python" -m pytest -p no:cacheprovider "$@"

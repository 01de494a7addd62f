#!/usr/bin/env bash
# Builds the wheel, installs it into an empty environment, first the library and then the server,
# and runs the demo. All of it happens in a folder with an `app` and a `worker` package of its own,
# as a user's project may have: nothing may import them, and nothing may need the repository.
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
repository=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

step() { printf '\n[wheel, %3d s] %s\n' "$SECONDS" "$1"; }
# What the demo imports is compiled as it does: a small part of it all.
install() {
    "$scratch/venv/bin/python" -m pip install -qq --disable-pip-version-check --no-compile \
        -c "$repository/constraints.txt" "$@"
}

step "building"
mkdir "$scratch/source" "$scratch/dist"
# A copy of the tracked files, so that no leftover of an earlier build gets in.
git ls-files -z | while IFS= read -r -d '' file; do
    if [ -e "$file" ]; then printf '%s\0' "$file"; fi
done | xargs -0 cp --parents -t "$scratch/source"
"$PYTHON" -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip wheel -qq --disable-pip-version-check --no-deps \
    --wheel-dir "$scratch/dist" "$scratch/source"
wheel=$(echo "$scratch"/dist/*.whl)

mkdir -p "$scratch/project/app" "$scratch/project/worker"
for package in app worker; do
    echo "raise RuntimeError('the $package of the current folder was imported')" \
        >"$scratch/project/$package/__init__.py"
done
cd "$scratch/project"

step "installing the library alone"
install "$wheel"
git -C "$repository" ls-files app chesboard worker templates static migrations |
    "$scratch/venv/bin/python" "$repository/tests/packaging/check_library.py"

step "installing the server"
install "$wheel[server]"

step "running the demo"
export CHESBOARD_MODELS_DIR=${CHESBOARD_TEST_MODELS:-$HOME/.cache/chesboard-tests}
CHESBOARD_PORT=$("$scratch/venv/bin/python" -c \
    'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export CHESBOARD_PORT
if ! "$scratch/venv/bin/chesboard" demo --no-browser --quit --quick; then
    tail -n 40 chesboard-data/logs/*.log >&2
    exit 1
fi

step "backing up what the demo made, and restoring it elsewhere"
"$scratch/venv/bin/chesboard" backup "$scratch/all.tar"
CHESBOARD_DATA_DIR="$scratch/restored" "$scratch/venv/bin/chesboard" restore "$scratch/all.tar"

step "done"

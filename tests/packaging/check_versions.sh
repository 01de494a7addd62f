#!/usr/bin/env bash
# Runs the tests of what watches a training beside other versions than those in constraints.txt, in
# an empty environment:
#
#     tests/packaging/check_versions.sh torch==2.6.0 transformers==4.55.4 trl==0.21.0
#
# TESTS names other tests. What else the tests need is installed in its newest version; the tests'
# fixtures import the server, too.
set -euo pipefail
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$PYTHON" -m venv "$scratch/venv"
"$scratch/venv/bin/python" - >"$scratch/requirements.txt" <<'END'
import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
own = {"chesboard", "huggingface-hub", "torch", "transformers", "trl"}  # as they are asked for
test = [one for one in extras["test"] if re.match("accelerate|hypothesis|pytest", one)]
for one in (*project["dependencies"], *extras["server"], *test):
    if one in project["dependencies"] or re.match(r"[\w-]+", one)[0] not in own:
        print(one)
END
"$scratch/venv/bin/python" -m pip install -qq --disable-pip-version-check --no-compile \
    -r "$scratch/requirements.txt" "$@"
"$scratch/venv/bin/python" -m pip list --disable-pip-version-check |
    grep -E '^(torch|transformers|trl|peft|accelerate|deepspeed|huggingface.hub) '
read -ra tests <<<"${TESTS:-tests/chesboard/client}"
PYTHONPATH=$PWD "$scratch/venv/bin/python" -m pytest -n 0 -p no:cacheprovider "${tests[@]}"

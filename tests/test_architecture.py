"""What the parts load and read at run time. The import contracts are in pyproject.toml."""

import json
import subprocess
import sys
from pathlib import Path

from tests import PROJECT_ROOT

HEAVY = {"torch", "transformers", "peft", "tokenizers", "gguf", "safetensors", "worker"}


def files(package: str) -> list[Path]:
    found = sorted((PROJECT_ROOT / package).rglob("*.py"))
    assert len(found) > 5
    return found


def test_nothing_but_the_settings_reads_the_environment() -> None:
    # Passing the environment on to child processes is not reading a setting from it.
    launchers = {"processes.py", "embedded.py", "postgres.py", "stack.py", "tables.py", "cli.py"}
    launchers |= {"gpus.py"}  # what a driver and its users read
    launchers |= {"launching.py", "ranks.py"}  # torchrun tells its processes who they are in it
    # In a training process there are no settings of the server.
    launchers |= {"environment.py"}
    for path in [*files("app"), *files("chesboard"), *files("worker")]:
        if path.name not in launchers:
            assert "os.environ" not in path.read_text(), path
            assert "getenv" not in path.read_text(), path


def test_the_web_process_loads_nothing_heavy() -> None:
    code = (
        "import json, sys\n"
        "from app.main import create_app\n"
        "create_app()\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert HEAVY & set(json.loads(done.stdout)) == set()

"""The exceptions that core, store and worker share stay free of the web framework."""

import json
import subprocess
import sys

from tests import PROJECT_ROOT

WEB = {"fastapi", "starlette", "uvicorn"}


def test_core_and_store_load_no_web_framework() -> None:
    code = (
        "import importlib, json, pkgutil, sys\n"
        "import app.core, app.store\n"
        "for package in (app.core, app.store):\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert WEB & set(json.loads(done.stdout)) == set()

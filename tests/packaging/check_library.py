"""Checks an environment that holds the library without the server; run by check_wheel.sh.

`import chesboard` loads no torch; no module of it needs a package that only the server needs.
"""

import importlib
import pkgutil
import sys
from importlib.metadata import files
from importlib.util import find_spec

SERVER = ("fastapi", "sqlalchemy", "psycopg", "celery", "redis", "pydantic_settings", "alembic")

chesboard = importlib.import_module("chesboard")

assert "torch" not in sys.modules, "import chesboard loads torch"
assert "transformers" not in sys.modules, "import chesboard loads transformers"
installed = [name for name in SERVER if find_spec(name) is not None]
assert not installed, f"the library's dependencies bring {installed}"

modules = [module.name for module in pkgutil.walk_packages(chesboard.__path__, prefix="chesboard.")]
for name in modules:
    importlib.import_module(name)
assert len(modules) > 10, modules
assert any(path.name == "LICENSE" for path in files("chesboard") or ()), "the license is missing"
print(f"{len(modules)} modules import without the server's packages.")

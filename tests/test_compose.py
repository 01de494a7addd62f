"""docker-compose.yml: what its containers are told. Its form is checked in CI by its own tool."""

import re
import shlex
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from typer.main import get_command

from app.cli import cli
from app.core.settings import Settings
from tests import PROJECT_ROOT

SERVICES: dict[str, Any] = yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())[
    "services"
]
OURS = {name: one for name, one in SERVICES.items() if one["image"] == "chesboard"}
FOREIGN = {"DATABASE_URL", "REDIS_URL", "HF_HOME", "HF_TOKEN"}


@pytest.mark.parametrize("name", OURS)
def test_every_command_and_setting_exists(name: str) -> None:
    program, command, *_ = OURS[name]["command"]
    assert program == "chesboard"
    assert command in get_command(cli).commands  # type: ignore[attr-defined]
    known = {f"CHESBOARD_{field.upper()}" for field in Settings.model_fields} | FOREIGN
    assert set(OURS[name]["environment"]) <= known


def test_what_is_not_set_is_as_without_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OURS["worker"]["environment"].items():
        default = re.fullmatch(r"\$\{\w+:-(.*)\}", value)
        if default:
            monkeypatch.setenv(name, default[1])
    settings = Settings()
    assert (settings.gpus, settings.judge_url) == (1, None)


def test_models_of_the_hub_are_kept_where_all_containers_see_them() -> None:
    for one in OURS.values():
        assert one["environment"]["HF_HOME"].startswith("/data/")
        assert "data:/data" in one["volumes"]


def test_processes_that_train_together_have_more_than_the_64_megabytes_of_the_default() -> None:
    assert OURS["worker"]["shm_size"] == "1gb"


def test_the_check_of_a_worker_s_health_is_python() -> None:
    _, check = OURS["worker"]["healthcheck"]["test"]
    program, option, code = shlex.split(check)
    assert (program, option) == ("python", "-c")
    compile(code, "healthcheck", "exec")

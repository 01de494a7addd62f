"""What the arguments of `chesboard.watch` say: how probes are measured, what creates the run."""

from collections.abc import Mapping
from typing import Any

from chesboard.client.recording import new_key
from chesboard.client.versions import versions
from chesboard.configs import TrainConfig
from chesboard.record_json import plain

OBJECTIVES = ("cross_entropy", "sft")
PROBING = (
    *("ledger_top", "ledger_positions", "answer_every", "answer_tokens", "token_groups"),
    *("opposite_groups", "max_prompt_tokens", "max_response_tokens", "batch_tokens"),
)


def probe_settings(
    described: Mapping[str, Any], probing: Mapping[str, Any], every: int
) -> TrainConfig:
    """The part of a TrainConfig that the library's probes read.

    described: what is told of the training. probing: arguments of `watch` named in PROBING, and
    `prompts`; None is the default. every: steps between looks.

    Raises:
        TypeError: `watch` has no such argument.
        pydantic.ValidationError: a value is none of its field.
    """
    unknown = sorted(set(probing) - {*PROBING, "prompts"})
    if unknown:
        raise TypeError(f"chesboard.watch has no argument {unknown[0]}")
    given = {name: value for name, value in probing.items() if value is not None}
    prompts = given.pop("prompts", ())
    objective = "cross_entropy" if described.get("objective") in OBJECTIVES else "dpo"
    return TrainConfig.model_validate(
        {
            **given,
            "objective": objective,
            "probe_every": every,
            "probes": {"prompts": [_as_prompt(prompt) for prompt in prompts]},
        }
    )


def _as_prompt(prompt: Any) -> Any:
    return {"prompt": prompt} if isinstance(prompt, str | list) else prompt


def new_run(
    model: Any,
    described: Mapping[str, Any],
    settings: TrainConfig,
    probes: list[dict[str, Any]],
    *,
    name: str | None,
    dataset_id: int | None,
    dataset_sha256: str | None,
) -> dict[str, Any]:
    """The body of the request that creates a run, with a new key.

    probes: of the watched pairs, as `choosing.as_config` gives them.
    """
    body: dict[str, Any] = {"kind": "external", "key": new_key()}
    if name:
        body["name"] = name
    if dataset_id is not None:
        body["dataset_id"] = dataset_id
    if dataset_sha256:
        body["dataset_sha256"] = dataset_sha256
    body["config"] = {
        "trainer": "a loop of its own",
        **_model_name(model),
        **plain(dict(described)),
        "versions": versions(),
        "probe_every": settings.probe_every,
        "probes": probes,
        **_said(settings),
    }
    return body


def _said(settings: TrainConfig) -> dict[str, Any]:
    """What the run's page needs to know of the probes' settings."""
    plain = settings.model_dump(mode="json", include={*PROBING, "probes"})
    return {
        **{name: plain[name] for name in PROBING},
        "prompts": plain["probes"]["prompts"],
    }


def _model_name(model: Any) -> dict[str, str]:
    name = getattr(getattr(model, "config", None), "_name_or_path", None)
    return {"model": str(name)[:500]} if name else {}

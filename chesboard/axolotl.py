"""The plugin for axolotl: `plugins: [chesboard.axolotl.Plugin]` in its configuration."""

from typing import Any

from axolotl.integrations.base import BasePlugin
from pydantic import BaseModel

from chesboard.client.callback import Callback


class ChesboardArgs(BaseModel):
    """What the plugin adds to axolotl's configuration. axolotl derives one class from those of all
    plugins, by their bare names, so no other plugin's may have this one."""

    chesboard: dict[str, Any] | None = None
    """Arguments of `chesboard.Callback`."""


class Plugin(BasePlugin):  # type: ignore[misc]
    def get_input_args(self) -> str:
        return "chesboard.axolotl.ChesboardArgs"

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Callback]:
        return [Callback(**dict(cfg.chesboard or {}))]

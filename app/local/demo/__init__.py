"""The demo: likelihood displacement on one small model, as runs through the public API."""

from app.local.demo.api import DemoError
from app.local.demo.story import run_demo

__all__ = ["DemoError", "run_demo"]

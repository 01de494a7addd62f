"""`import chesboard.hf` lets Hugging Face trainers take `report_to="chesboard"`."""

from transformers.integrations import integration_utils

from chesboard.client.callback import Callback

__all__ = ["Callback"]

integration_utils.INTEGRATION_TO_CALLBACK["chesboard"] = Callback

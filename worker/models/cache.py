"""The model cache: loads a run's model and keeps the last one that no run has changed."""

import torch

from app.core.settings import Settings
from chesboard import cpu
from chesboard.causal_lm import ModelError
from chesboard.configs import ForwardOnlyConfig, ModelConfig, ObjectiveConfig
from chesboard.cpu.precision import computed_in
from chesboard.forward.layer_stream import stream_of
from chesboard.loading import asked_dtype, choose_device
from chesboard.model import LoadedModel
from worker.models.files import Source, find_source, folder_source, with_adapter
from worker.models.gguf import dequantized_folder
from worker.models.loading import load_model, prepare_files
from worker.models.progress import OnPhase, ignore_phase


class ModelCache:
    """Holds at most one model, and none while a training run has it. Not thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key: tuple[object, ...] | None = None
        self._kept: LoadedModel | None = None

    def load(self, config: ModelConfig, on_phase: OnPhase = ignore_phase) -> LoadedModel:
        """The model of a run's configuration, in eval mode on its device.

        A model to be trained, or differentiated for a pre-flight, has float32 master weights
        whatever it computes in; any other has its weights in the precision that was asked for.

        Raises:
            ModelError: unknown, unreadable, or too large for the device.
            RunStoppedError: `on_phase` raised it.
        """
        training = isinstance(config, ObjectiveConfig)
        device = choose_device(config.device)
        asked = asked_dtype(config.dtype, device)
        weights_dtype = torch.float32 if training else asked
        compute_dtype = computed_in(asked, device)
        source = self._find(config.model, on_phase)
        key = (source, config.revision, device, weights_dtype, compute_dtype)
        if self._kept is not None and key == self._key and _serves(self._kept, config):
            return self._kept if not training else self._hand_over()
        self.forget()
        loaded = load_model(config, source, device, weights_dtype, compute_dtype, on_phase)
        if not training:
            self._key, self._kept = key, loaded
        return loaded

    def prepare(self, config: ModelConfig, on_phase: OnPhase, gpus: int) -> str:
        """The folder of a run's model, for so many processes to load parts of it; downloads it and
        drops what is kept.

        Raises:
            ModelError: unknown, too large for so many GPUs, or an adapter.
            RunStoppedError: `on_phase` raised it.
        """
        source = self._find(config.model, on_phase)
        if source.adapter is not None:
            raise ModelError(
                f"The model “{config.model}” is an adapter, which is merged into its base model "
                "only where one process loads both. Train it on one GPU, or merge it before."
            )
        self.forget()
        device = choose_device(config.device)
        return prepare_files(config, source, device, torch.float32, on_phase, gpus).location

    def _find(self, name: str, on_phase: OnPhase) -> Source:
        source = find_source(name, self._settings)
        if source.is_gguf:
            assert source.path is not None
            folder = folder_source(dequantized_folder(source.path, self._settings, on_phase))
            return folder if source.adapter is None else with_adapter(folder, source.adapter)
        return source

    def _hand_over(self) -> LoadedModel:
        """Return the kept model to a caller that will change it, and drop it from the cache."""
        loaded = self._kept
        assert loaded is not None
        self._key = self._kept = None
        cpu.install(loaded.model, blockwise_attention=False)  # a training run attends by SDPA
        return loaded

    def forget(self) -> None:
        """Drop the kept model and free its GPU memory."""
        self._key = self._kept = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _serves(kept: LoadedModel, config: ModelConfig) -> bool:
    """Whether a run may use a model that is there as a whole, or one layer at a time."""
    allowed = config.stream if isinstance(config, ForwardOnlyConfig) else "never"
    return allowed in (("auto", "never") if stream_of(kept.model) is None else ("auto", "always"))

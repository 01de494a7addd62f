"""Tiny models of random weights, a byte-level tokenizer, and a reporter that keeps what it gets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from chesboard import cpu
from chesboard.model import LoadedModel
from chesboard.pairs import TokenizedPair
from chesboard.records import (
    AnswerRecord,
    FilterRecord,
    FinalRecord,
    FindingRecord,
    GenerationRecord,
    JudgmentRecord,
    MetricRecord,
    PositionRecord,
    PositionStepRecord,
    PreflightRecord,
    ProbeRecord,
    ProbeStepRecord,
    Record,
    ReferenceRecord,
    ScoreRecord,
)
from chesboard.reporting import RunInterruptedError
from chesboard.tokenization import find_fork

torch.set_num_threads(1)

VOCABULARY = 300
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MERGED = ("Ġt", "he", "Ġthe", "in", "Ġa", "ĠY", "es", "ĠYes", "Yes", "No", "ĠNo", "Ċb")
"""Beyond single bytes: words, and a line break that grows into the response it meets."""


def build_tokenizer(chat: bool) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("Ġ", "a"), ("Ġ", "Y"), ("e", "s"),
        ("ĠY", "es"), ("Y", "es"), ("N", "o"), ("Ġ", "No"), ("Ċ", "b"),
    ]  # fmt: skip
    vocabulary = {token: i for i, token in enumerate([*alphabet, *MERGED])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(chat=False)


@pytest.fixture(scope="session")
def chat_tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(chat=True)


def build_llama(tied: bool = True) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            tie_word_embeddings=tied,
            attn_implementation="sdpa",
        )
    )


def build_gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=512)
    )


def build_gemma2() -> Gemma2ForCausalLM:
    """Caps its logits, so they are no linear map of the hidden states."""
    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            sliding_window=512,
            attn_implementation="eager",
        )
    )


def rope_settings(parameters: dict[str, Any]) -> dict[str, Any]:
    """A configuration's arguments for rotary positions, as transformers 5 has them or 4 had."""
    if hasattr(LlamaConfig(), "rope_parameters"):
        return {"rope_parameters": parameters}
    told = dict(parameters)
    theta = told.pop("rope_theta")
    told.pop("original_max_position_embeddings", None)  # an argument of its own
    return {"rope_scaling": {"type": told.pop("rope_type"), **told}, "rope_theta": theta}


def build_other(architecture: str, **settings: Any) -> Any:
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **sizes | settings))


BUILDERS: dict[str, Callable[[], Any]] = {
    "llama": build_llama,
    "untied llama": lambda: build_llama(tied=False),
    "gpt2": build_gpt2,
    "gemma2": build_gemma2,
    # Its head reads what a part of its base model gives.
    "opt": lambda: build_other("opt", ffn_dim=64, word_embed_proj_dim=32),
    # Multiplies its logits by a sixteenth.
    "cohere": lambda: build_other("cohere"),
    # A mixture of experts, and not told by its name which part is the base model.
    "llama4": lambda: build_other(
        "llama4_text", num_local_experts=2, intermediate_size_mlp=64, head_dim=8
    ),
    # No attention at all, and weights that are multiplied without calling their layers.
    "mamba": lambda: build_other("mamba", state_size=8),
    # A convolution over the tokens, whatever the mask.
    "lfm2": lambda: build_other("lfm2", layer_types=["conv", "full_attention"]),
}


def load(kind: str = "llama", dtype: torch.dtype = torch.float32) -> LoadedModel:
    """A fresh model; the same weights each time.

    Weights are larger than at the usual start, so that attention and logits are far from
    uniform and an error in a mask or an index is far from small.
    """
    torch.manual_seed(7)
    model = BUILDERS[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(8)
            elif kind == "gpt2":
                parameter.add_(torch.randn_like(parameter) / 4)
    model = model.to(dtype).eval()
    cpu.install(model, blockwise_attention=False)  # as the worker does for a training run
    return LoadedModel(
        model, build_tokenizer(chat=False), torch.device("cpu"), dtype, f"tiny {kind}"
    )


@pytest.fixture
def llama() -> LoadedModel:
    return load("llama")


def make_pair(
    pair: int, prompt: Sequence[int], preferred: Sequence[int], dispreferred: Sequence[int]
) -> TokenizedPair:
    return TokenizedPair(
        pair=pair,
        prompt_ids=list(prompt),
        preferred_ids=list(preferred),
        dispreferred_ids=list(dispreferred),
        fork_position=find_fork(preferred, dispreferred),
        prompt_cut=0,
        preferred_cut=0,
        dispreferred_cut=0,
        retokenized=False,
        preferred_ends=list(range(1, len(preferred) + 1)),
        dispreferred_ends=list(range(1, len(dispreferred) + 1)),
    )


END = 270


def random_pairs(count: int, seed: int = 0, longest: int = 12) -> list[TokenizedPair]:
    """Ragged pairs: some share a beginning, some responses are one token, one is identical."""
    generator = torch.Generator().manual_seed(seed)

    def draw(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (1,), generator=generator))

    def ids(count: int) -> list[int]:
        return torch.randint(0, 256, (count,), generator=generator).tolist()

    pairs = []
    for pair in range(count):
        common = ids(draw(0, 3)) if pair % 3 == 0 else []
        preferred = [*common, *ids(draw(0, longest)), END]
        dispreferred = [*common, *ids(draw(0, longest)), END]
        if pair == 4:
            dispreferred = list(preferred)
        pairs.append(make_pair(pair, ids(draw(1, longest)), preferred, dispreferred))
    return pairs


@dataclass
class KeepingReporter:
    """A reporter that keeps everything."""

    metrics: list[MetricRecord] = field(default_factory=list)
    probes: list[ProbeRecord] = field(default_factory=list)
    probe_steps: list[ProbeStepRecord] = field(default_factory=list)
    positions: list[PositionRecord] = field(default_factory=list)
    position_steps: list[PositionStepRecord] = field(default_factory=list)
    answers: list[AnswerRecord] = field(default_factory=list)
    final_records: list[FinalRecord] = field(default_factory=list)
    score_records: list[ScoreRecord] = field(default_factory=list)
    findings: list[FindingRecord] = field(default_factory=list)
    preflights: list[PreflightRecord] = field(default_factory=list)
    generations: list[GenerationRecord] = field(default_factory=list)
    judgments: list[JudgmentRecord] = field(default_factory=list)
    filtered: list[FilterRecord] = field(default_factory=list)
    references: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    progresses: list[tuple[int, int, str]] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    flushes: int = 0
    checkpoints: int = 0

    def phase(self, name: str, *_: object) -> None:
        self.phases.append(name)

    def progress(self, done: int, total: int, unit: str) -> None:
        self.progresses.append((done, total, unit))

    def message(self, text: str) -> None:
        self.messages.append(text)

    def put(self, *records: Record) -> None:
        for record in records:
            match record:
                case ReferenceRecord():
                    tails = (record.preferred_tail, record.dispreferred_tail)
                    both = (record.preferred, record.dispreferred)
                    self.references[record.pair] = both if tails == (None, None) else both + tails
                case _:
                    self._lists()[type(record)].append(record)

    def _lists(self) -> dict[type[Record], list[Any]]:
        return {
            MetricRecord: self.metrics,
            ProbeRecord: self.probes,
            ProbeStepRecord: self.probe_steps,
            PositionRecord: self.positions,
            PositionStepRecord: self.position_steps,
            AnswerRecord: self.answers,
            FinalRecord: self.final_records,
            ScoreRecord: self.score_records,
            FindingRecord: self.findings,
            PreflightRecord: self.preflights,
            GenerationRecord: self.generations,
            JudgmentRecord: self.judgments,
            FilterRecord: self.filtered,
        }

    def flush(self) -> None:
        self.flushes += 1

    def checkpointed(self) -> None:
        self.checkpoints += 1


@pytest.fixture
def reporter() -> KeepingReporter:
    return KeepingReporter()


class GoOn:
    """A control that never stops the run."""

    def check(self) -> None:
        return


class StopAfter:
    """A control that interrupts at a given check."""

    def __init__(self, checks: int) -> None:
        self.left = checks

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RunInterruptedError("asked to stop")

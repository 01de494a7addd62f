"""The public API: what importing it loads, and scores equal to the server's, without a trace."""

import pkgutil
import subprocess
import sys
from typing import cast

import pytest
import torch

import chesboard
from chesboard import cpu
from chesboard.configs import ScoreConfig
from chesboard.cpu import onednn, precision
from chesboard.pairs import Pair
from chesboard.scoring import score_pairs
from chesboard.tokenization import tokenize_pairs
from tests.tiny_models import BUILDERS, GoOn, KeepingReporter, load

PAIRS = [
    Pair(prompt="Is the sky green?", preferred=" No", dispreferred=" Never"),
    Pair("The answer is", " Yes, in the end.", " Yes, at the start.", pair=99),
    Pair([{"role": "user", "content": "Say a word"}], "the", "a"),
    Pair("x" * 90, "same", "same"),
]
SERVER_ONLY = (
    "fastapi", "starlette", "sqlalchemy", "psycopg", "celery", "redis", "pydantic_settings",
    "app", "worker",
)  # fmt: skip


FOR_TRAINERS = ("chesboard.axolotl", "chesboard.client.swift_plugin.chesboard_plugin")
"""They import trainers that need not be installed."""


def loaded_by(code):
    """The top-level modules that a fresh interpreter has loaded after running the code."""
    tops = "{name.partition('.')[0] for name in sys.modules}"
    program = f"{code}\nimport sys; print(*{tops})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_configs_records_and_command_loads_nothing_heavy():
    code = "import chesboard, chesboard.configs, chesboard.records, chesboard.pairs, chesboard.cli"
    heavy = {"torch", "transformers", "numpy", "huggingface_hub", "app"}
    assert heavy.isdisjoint(loaded_by(code))


def test_no_module_of_the_library_loads_what_only_the_server_needs():
    names = [
        module.name
        for module in pkgutil.walk_packages(chesboard.__path__, "chesboard.")
        if not module.name.endswith("table_child") and module.name not in FOR_TRAINERS
    ]
    assert len(names) > 30
    loaded = loaded_by("import " + ", ".join(names))
    assert "torch" in loaded
    assert loaded.isdisjoint(SERVER_ONLY)


def test_the_names_of_the_public_api():
    assert {"Pair", "ScoreRecord", "score"} <= set(chesboard.__all__) <= set(dir(chesboard))
    for name in chesboard.__all__:
        assert getattr(chesboard, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        _ = chesboard.scores


def server_scores(loaded, pairs, max_tokens=1024):
    """As the worker computes them, of a model that it has loaded."""
    numbered = [
        Pair(p.prompt, p.preferred, p.dispreferred, pair=number) for number, p in enumerate(pairs)
    ]
    tokenized = tokenize_pairs(loaded.tokenizer, numbered, max_tokens, max_tokens)
    reporter = KeepingReporter()
    cpu.install(loaded.model, compute_dtype=loaded.compute_dtype)  # as worker/models/loading.py
    score_pairs(loaded, tokenized, ScoreConfig(), reporter, GoOn())
    return sorted(reporter.score_records, key=lambda record: record.pair)


def fresh(kind, dtype=torch.float32):
    """A model as transformers loads it, with the weights of `load`."""
    model = load(kind, dtype).model
    for module in model.modules():
        if type(module) is onednn.OneDNNLinear:
            module.__class__ = torch.nn.Linear  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("kind", list(BUILDERS))
def test_scores_equal_the_server_s_to_the_last_bit(kind):
    loaded = load(kind)
    assert chesboard.score(fresh(kind), loaded.tokenizer, PAIRS) == server_scores(loaded, PAIRS)


@pytest.mark.parametrize("kind", ["llama", "untied llama", "mamba"])
@pytest.mark.parametrize("with_instructions", [True, False])
def test_scores_in_bfloat16_equal_the_server_s(monkeypatch, kind, with_instructions):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: with_instructions)
    loaded = load(kind, torch.bfloat16)
    loaded.compute_dtype = precision.computed_in(torch.bfloat16, loaded.device)
    model = fresh(kind, torch.bfloat16)
    assert chesboard.score(model, loaded.tokenizer, PAIRS) == server_scores(loaded, PAIRS)


def state_of(model):
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    return (
        {name: (id(m), type(m), m.training) for name, m in modules.items()},
        {name: (id(p), p.data_ptr(), p.dtype, p.requires_grad) for name, p in parameters.items()},
        {name: (id(buffer), buffer.dtype) for name, buffer in model.named_buffers()},
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules.values()],
        model.config.to_dict(),
        model.config._attn_implementation,
    )


@pytest.mark.parametrize("kind", list(BUILDERS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_instructions", [True, False])
def test_the_model_is_as_before(tokenizer, monkeypatch, kind, dtype, with_instructions):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: with_instructions)
    model = fresh(kind, dtype)
    model.train()
    next(iter(model.children())).eval()  # a frozen part stays so
    before = state_of(model)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chesboard.score(model, tokenizer, PAIRS)
    assert state_of(model) == before
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in weights.items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_model_is_as_before_where_scoring_fails(tokenizer):
    model = fresh("gpt2").train()
    before = state_of(model)
    with pytest.raises(ValueError, match="Pair 1 has 700 tokens"):
        chesboard.score(model, tokenizer, [PAIRS[0], Pair("x" * 695, "yyyyy", "zzzzz")])
    assert state_of(model) == before


def test_training_goes_on_as_if_nothing_was_scored(tokenizer):
    """In the middle of a step, under the caller's autocast."""

    expected = server_scores(load("llama"), PAIRS)

    def gradient(scored):
        model = fresh("llama").train()
        ids = torch.arange(20)[None]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
            if scored:
                assert chesboard.score(model, tokenizer, PAIRS) == expected
        loss.backward()
        return model.model.embed_tokens.weight.grad

    assert torch.equal(gradient(scored=True), gradient(scored=False))


def test_records_are_in_order_and_progress_is_reported(llama):
    calls = []
    pairs = [Pair("a" * n, "b", "c" * n) for n in range(1, 30)]
    records = chesboard.score(
        fresh("llama"), llama.tokenizer, pairs, batch_tokens=64,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert [record.pair for record in records] == list(range(29))
    assert [record.prompt_tokens for record in records] == list(range(1, 30))
    assert calls[0] == (0, 29)
    assert calls[-1] == (29, 29)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert chesboard.score(fresh("llama"), llama.tokenizer, []) == []


def test_what_is_cut_is_counted_and_logged(llama, caplog):
    records = chesboard.score(
        fresh("llama"), llama.tokenizer, PAIRS, max_prompt_tokens=8, max_response_tokens=4
    )
    assert [record.cut_tokens > 0 for record in records] == [True, True, True, True]
    assert "4 of 4 pairs were too long" in caplog.text
    with pytest.raises(ValueError, match="max_prompt_tokens"):
        chesboard.score(fresh("llama"), llama.tokenizer, PAIRS, max_prompt_tokens=0)


@pytest.mark.parametrize(
    ("pair", "error", "message"),
    [
        (Pair("", "a", "b"), ValueError, "prompt of pair 1 is empty"),
        (Pair("a", "", "b"), ValueError, "preferred response of pair 1 is empty"),
        (("a", "b", "c"), TypeError, "Pair 1 is a tuple"),
        (Pair("a", cast(str, None), "b"), TypeError, "preferred response of pair 1 is not text"),
        (Pair([{"from": "human"}], "a", "b"), TypeError, "prompt of pair 1 is neither"),
    ],
)
def test_an_error_names_the_pair(llama, pair, error, message):
    with pytest.raises(error, match=message):
        chesboard.score(fresh("llama"), llama.tokenizer, [PAIRS[0], pair])


REFUSES_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
)
WITH_SYSTEM = Pair([{"role": "system", "content": "Be brief."}], "a", "b")


def test_a_prompt_that_the_chat_template_refuses_is_named(chat_tokenizer, monkeypatch):
    template = REFUSES_SYSTEM + chat_tokenizer.chat_template
    monkeypatch.setattr(chat_tokenizer, "chat_template", template)
    with pytest.raises(ValueError, match=r"1 of 2 prompts\. Pair 1: no system"):
        chesboard.score(fresh("llama"), chat_tokenizer, [PAIRS[0], WITH_SYSTEM])


def test_a_refused_pair_is_skipped_on_request(chat_tokenizer, caplog):
    pairs = [WITH_SYSTEM, PAIRS[0]]
    template = REFUSES_SYSTEM + chat_tokenizer.chat_template
    model = fresh("llama")
    [record] = chesboard.score(
        model, chat_tokenizer, pairs, chat_template=template, on_refused="skip"
    )
    assert record.pair == 1
    assert any("1 of 2 pairs (0), which are left out" in text for text in caplog.messages)
    with pytest.raises(ValueError, match="refuses every prompt"):
        chesboard.score(model, chat_tokenizer, pairs[:1], chat_template=template, on_refused="skip")


def test_a_template_and_its_arguments_are_those_of_the_call(chat_tokenizer):
    model, own = fresh("llama"), chat_tokenizer.chat_template
    template = own.replace("assistant\n{%", "assistant\n{{ mood }}{%")
    plain, moody = (
        chesboard.score(
            model,
            chat_tokenizer,
            PAIRS[:1],
            chat_template=template,
            chat_template_kwargs={"mood": mood},
        )
        for mood in ("", "gladly")
    )
    assert plain == chesboard.score(model, chat_tokenizer, PAIRS[:1])
    assert moody != plain
    assert chat_tokenizer.chat_template == own


def test_a_prompt_rendered_before_scores_as_its_turns(chat_tokenizer):
    turns = [{"role": "user", "content": "Is it?"}]
    rendered = chat_tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    model = fresh("llama")
    [before], [as_turns] = (
        chesboard.score(model, chat_tokenizer, [Pair(prompt, preferred, dispreferred)])
        for prompt, preferred, dispreferred in (
            (rendered, "Yes<|im_end|>\n", "No<|im_end|>\n"),
            (turns, "Yes", "No"),
        )
    )
    assert before == as_turns

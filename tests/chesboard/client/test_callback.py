"""The callback in TRL's own trainer: whose tokens, which steps, and going on from a checkpoint."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import chesboard
from chesboard.client.choosing import Cut, of_dataset, pair_of_ids
from chesboard.client.trainer_config import cut_of, trainer_config
from chesboard.client.wire import Wire
from tests import PROJECT_ROOT
from tests.chesboard.client.trainings import ROWS, make_trainer, row, tokenizer, trained
from tests.chesboard.client.wire_server import wire_server
from tests.tiny_models import build_tokenizer, make_pair


def test_the_probes_are_the_trainers_own_tokens(tmp_path, server) -> None:
    callback = chesboard.Callback(url=server.url, probe_every=3)
    left = trained(tmp_path, callbacks=[callback], max_steps=4)
    config = server.only.body["config"]
    assert [one["pair"] for one in config["probes"]] == [0, 1, 2, 3]
    assert [one["preferred_ids"] for one in config["probes"]] == [
        row["chosen_ids"] for row in ROWS[:4]
    ]
    assert server.only.looks == [0, 3, 4]
    assert server.only.steps == [1, 2, 3, 4]
    metric = server.only.records["metric", 1]
    assert metric["margin"] == pytest.approx(metric["extra"]["rewards/margins"] / 0.1)
    assert metric["preferred_logprob"] < 0
    for name in ("loss", "accuracy", "grad_norm", "learning_rate"):
        assert metric[name] is not None, name
    assert metric["tokens_seen"] == left.logs[0].get("num_tokens")  # of older TRLs, none
    expected = {"trainer": "trl DPOConfig", "objective": "dpo", "beta": 0.1, "world_size": 1}
    assert expected.items() <= config.items()
    assert config["max_steps"] == 4
    assert {"torch", "transformers", "trl"} <= set(config["versions"])


def test_rows_texts_and_a_number_of_pairs_can_be_asked_for(tmp_path, server) -> None:
    for probes, expected in (
        ([5, 2], [5, 2]),
        (1, [0]),
        ([chesboard.Pair("Is it?", " Yes", " No")], [0]),
        ([99], []),
    ):
        server.runs.clear()
        callback = chesboard.Callback(probes, url=server.url)
        trained(tmp_path, callbacks=[callback], max_steps=1)
        found = [key[1] for key in server.only.records if key[0] == "probe"]
        assert sorted(found) == sorted(expected)


def test_a_run_that_is_resumed_goes_on_where_its_checkpoint_is(tmp_path, server) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    with wire_server() as other:
        callback = chesboard.Callback(probe_every=1, url=other.url)
        trained(undisturbed, callbacks=[callback], save_strategy="steps", save_steps=3)
        expected = other.only.records
    first = chesboard.Callback(probe_every=1, url=server.url)
    trainer = make_trainer(killed, callbacks=[first], save_strategy="steps", save_steps=3)

    class KilledError(Exception):
        pass

    def die(*_: object, **__: object) -> None:
        if trainer.state.global_step == 5:
            raise KilledError

    trainer.training_step = _before(die, trainer.training_step)
    with pytest.raises(KilledError):
        trainer.train()
    assert first.watch is not None
    first.watch.finish("failed", "killed")
    again = chesboard.Callback(probe_every=1, url=server.url)
    resumed = make_trainer(killed, callbacks=[again], save_strategy="steps", save_steps=3)
    resumed.train(resume_from_checkpoint=True)
    assert again.watch is not None
    assert again.watch.key == first.watch.key
    run = server.only
    assert run.attempt == 2
    assert run.status == "succeeded"
    assert run.steps == [1, 2, 3, 4, 5, 6]

    def without_clock(records):
        return {
            key: {**one, "tokens_per_second": None}
            for key, one in records.items()
            if key[0] != "metric"
        }

    assert without_clock(run.records) == without_clock(expected)


def _before(first, then):
    def both(*args, **kwargs):
        first(*args, **kwargs)
        return then(*args, **kwargs)

    return both


def test_a_cancel_stops_only_who_allows_it(tmp_path, server) -> None:
    server.cancel_requested = True
    for allow_stop in (False, True):
        server.runs.clear()
        callback = chesboard.Callback(probe_every=1, url=server.url, allow_stop=allow_stop)
        trainer = make_trainer(tmp_path, callbacks=[callback], max_steps=40)
        trainer.train()
        assert (trainer.state.global_step == 40) is not allow_stop
        assert server.only.status == ("cancelled" if allow_stop else "succeeded")


def test_a_server_that_refuses_or_is_gone_changes_nothing(tmp_path, server, monkeypatch) -> None:
    monkeypatch.setattr("chesboard.client.watch.FINISH_SECONDS", 0.1)
    server.status = 401
    for url in (server.url, "http://127.0.0.1:9"):
        callback = chesboard.Callback(url=url)
        assert len(trained(tmp_path, callbacks=[callback], max_steps=2).logs) > 1


def test_report_to_chesboard(tmp_path, server, monkeypatch) -> None:
    import chesboard.hf

    assert chesboard.hf.Callback is chesboard.Callback
    monkeypatch.setenv("CHESBOARD_URL", server.url)
    trained(tmp_path, report_to="chesboard", max_steps=2)
    assert server.only.status == "succeeded"
    assert server.only.looks == [0, 2]


def test_the_callback_can_be_pickled_before_training() -> None:
    pickle.loads(pickle.dumps(chesboard.Callback(probes=[1], name="mine")))


@pytest.mark.parametrize(("keep", "tokens"), [("keep_start", 6), ("keep_end", 6), ("keep_end", 9)])
def test_pairs_are_cut_as_trl_cuts_them(keep, tokens, tmp_path) -> None:
    whole = make_pair(0, [1, 2, 3, 4], [5, 6, 7], [5, 8, 9])
    trainer = make_trainer(
        tmp_path, rows=[row(whole)], max_length=tokens, truncation_mode=keep, max_steps=1
    )
    read = []

    def record(_model, given, named):
        ids = given[0] if given else named["input_ids"]
        read.extend(
            one[mask.bool()].tolist()
            for one, mask in zip(ids, named["attention_mask"], strict=True)
        )

    trainer.model.register_forward_pre_hook(record, with_kwargs=True)
    trainer.train()
    ids = whole.prompt_ids, whole.preferred_ids, whole.dispreferred_ids
    pair = pair_of_ids(tokenizer(), 0, *ids, Cut(tokens, keep))
    assert pair is not None
    assert read == [
        [*pair.prompt_ids, *pair.preferred_ids],
        [*pair.prompt_ids, *pair.dispreferred_ids],
    ]
    assert pair.preferred_ids[0] == pair.dispreferred_ids[0] == 5


def test_rows_that_cannot_be_watched_are_passed_over() -> None:
    rows = [
        {"prompt_ids": [], "chosen_ids": [1], "rejected_ids": [2]},
        {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [3]},
        {"prompt_ids": [1, 2, 3, 4], "chosen_ids": [3], "rejected_ids": [4]},
        {"prompt_ids": [1], "chosen_ids": [3, 4], "rejected_ids": [4, 5]},
    ]
    found = of_dataset(rows, build_tokenizer(chat=False), 4, Cut(3))
    assert [(pair.pair, pair.preferred_ids) for pair in found] == [(3, [3, 4])]
    assert of_dataset(iter(rows), None, 4, Cut()) == [], "a row read is a row less for the training"


def test_rewards_of_a_trainer_without_a_reference_are_no_changes() -> None:
    class CPOConfig:
        loss_type = "simpo"
        beta = 2.0
        max_length = 64

    config = trainer_config(CPOConfig(), 10)
    assert config["objective"] == "simpo"
    assert config["reward_beta"] is None
    assert cut_of(CPOConfig()) == Cut(64, "keep_start")


BARE = """
import sys
sys.path.insert(0, {decoys!r})
import chesboard
loaded = set(sys.modules)
assert not loaded & {{"torch", "transformers", "numpy", "httpx"}}, loaded
import torch
by_torch = set(sys.modules)
chesboard.Callback, chesboard.watch
server = {{"fastapi", "sqlalchemy", "psycopg", "celery", "redis", "starlette", "uvicorn"}}
assert not (set(sys.modules) - by_torch) & (server | {{"app", "worker"}}), sys.modules
"""


def test_a_script_with_modules_of_our_names_beside_it_loads_no_server(tmp_path: Path) -> None:
    for name in ("app.py", "worker.py"):
        (tmp_path / name).write_text("raise SystemExit('the decoy was imported')")
    done = subprocess.run(
        [sys.executable, "-c", BARE.format(decoys=str(tmp_path))],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT_ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_wire_says_what_a_page_that_is_no_server_answers(server) -> None:
    from chesboard.client.wire import RefusedError

    server.status = 400
    with pytest.raises(RefusedError, match="answered 400 to /runs: told to answer 400"):
        Wire(server.url, None).create({"kind": "external", "key": "k"})

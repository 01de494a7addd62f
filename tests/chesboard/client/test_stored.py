"""Probes that are pairs of a dataset on the server, and what is said where they cannot be read."""

import pickle
from typing import Any

import pytest

import chesboard
from chesboard.client import pace, stored
from chesboard.client.environment import ClientError, Destination
from chesboard.pairs import Pair
from tests.chesboard.client.trainings import trained
from tests.chesboard.client.wire_server import WireServer
from tests.tiny_models import load


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LEAST_SECONDS", 0.01)


@pytest.fixture
def server(server: WireServer) -> WireServer:
    """Dataset 7 has ten pairs."""
    for pair in range(10):
        texts = {"prompt": f"Is it {pair}?", "preferred": " Yes", "dispreferred": f" No {pair}"}
        server.texts[7, pair] = texts
    return server


def watch(server: WireServer, pairs: Any, folder: Any, **settings: Any) -> Any:
    loaded = load()
    settings = {"url": server.url, "output_dir": folder, "probe_every": 1, **settings}
    return chesboard.watch(loaded.model, loaded.tokenizer, pairs, **settings)


def test_they_are_watched_by_their_ordinals(tmp_path, server) -> None:
    with watch(server, chesboard.stored(7, [4, 2]), tmp_path) as watched:
        watched.step(1, {"loss": 1.0})
    assert watched.failures == 0
    run = server.only
    assert run.body["dataset_id"] == 7
    assert [one["pair"] for one in run.body["config"]["probes"]] == [4, 2]
    assert "".join(run.body["config"]["probes"][0]["dispreferred_tokens"]).startswith(" No 4")
    assert {key[1] for key in run.records if key[0] == "probe_step"} == {2, 4}


def test_the_callback_takes_them_too_and_the_form_of_configuration_files(tmp_path, server) -> None:
    named = chesboard.stored(7, [3])
    assert pickle.loads(pickle.dumps(chesboard.Callback(named)))._probes == named
    for probes, expected in (
        (named, [3]),
        ({"dataset_id": 7, "pairs": [5, 6]}, [5, 6]),
        ({"dataset_id": 7}, [0, 1, 2, 3]),
    ):
        server.runs.clear()
        callback = chesboard.Callback(probes, url=server.url)
        trained(tmp_path, callbacks=[callback], max_steps=1)
        assert [one["pair"] for one in server.only.body["config"]["probes"]] == expected


def test_the_dataset_that_is_trained_on_may_be_another(tmp_path, server) -> None:
    watch(server, chesboard.stored(7, [1]), tmp_path, dataset_id=8).finish()
    assert server.only.body["dataset_id"] == 8


@pytest.mark.parametrize(
    ("told", "asked", "said"),
    [
        ({"token": "secret"}, chesboard.stored(7), "an access token of the role recorder"),
        ({"status": 403}, chesboard.stored(7), "it needs the role recorder"),
        ({"status": 503}, chesboard.stored(7), "answered 503"),
        ({}, chesboard.stored(7, [99]), "Dataset 7 has no such pair."),
        ({}, chesboard.stored(7, []), "takes 1 to 64 pairs"),
        ({}, chesboard.stored(7, [-1]), "the ordinals of pairs"),
    ],
)
def test_where_they_cannot_be_read_it_is_said_and_the_rest_is_recorded(
    tmp_path, server, caplog, told, asked, said
) -> None:
    for name, value in told.items():
        setattr(server, name, value)
    watched = watch(server, asked, tmp_path, token=None)
    server.status = server.token = None
    watched.step(1, {"loss": 1.0})
    watched.finish()
    assert watched.failures == 0
    assert said in caplog.text
    run = server.only
    assert "dataset_id" not in run.body, "of a dataset that is not there the server would refuse"
    assert (run.steps, run.looks) == ([1], [])
    [message] = run.messages
    assert message.startswith("No pair is watched.")
    assert said in message


def test_a_server_that_is_away_is_asked_a_few_times(tmp_path, server) -> None:
    server.forget_answers = stored.TRIES - 1
    found = stored.read(chesboard.stored(7, [0]), Destination(server.url, None, tmp_path))
    assert found == [Pair("Is it 0?", " Yes", " No 0", pair=0)]
    assert len(server.requests) == stored.TRIES


def test_without_a_server_there_is_nothing_to_read(tmp_path) -> None:
    with pytest.raises(ClientError, match="set CHESBOARD_URL"):
        stored.read(chesboard.stored(7), Destination(None, None, tmp_path))


def test_pairs_that_were_edited_since_the_checkpoint_are_not_taken_for_the_same(
    tmp_path, server
) -> None:
    """The server would refuse their records, and with them all others."""
    asked = chesboard.stored(7, [1, 2])
    with watch(server, asked, tmp_path) as first:
        first.step(1, {"loss": 1.0})
        first.save(tmp_path, 1)
    with watch(server, asked, tmp_path, resume=tmp_path, resumed_step=1) as again:
        again.step(2, {"loss": 0.5})
    assert again.key == first.key
    assert (server.only.steps, server.only.looks) == ([1, 2], [0, 1, 2])
    server.texts[7, 2] = {**server.texts[7, 2], "preferred": " Maybe"}
    with watch(server, asked, tmp_path, resume=tmp_path, resumed_step=1) as edited:
        edited.step(2, {"loss": 0.25})
    assert (server.only.steps, server.only.looks) == ([1, 2], [0, 1])
    assert "pair 2 has other tokens than at the checkpoint of step 1" in server.only.messages[-1]

"""The pages of a server, in this process: answers are the ranker's, and everything else is refused with what, where and how."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil

import numpy as np
import pytest
from pyarrow import fs
from starlette.testclient import TestClient

from thinkrec.data.interactions import Interactions
from thinkrec.errors import ArtefactError, EnvironmentFault, PackageError
from thinkrec.model.kept_prefixes import KeptPrefixes
from thinkrec.recommend.histories import of_users, sent_along
from thinkrec.score.scorer import Scorer
from thinkrec.serve.app import make_app
from thinkrec.serve.messages import Event, ExplainRequest, RecommendRequest, ScoreRequest
from thinkrec.serve.opened import open_package, places_of
from thinkrec.serve.options import MAX_BODY_BYTES, MAX_CANDIDATES, MAX_HISTORY, ServeOptions, sha256_of_key
from thinkrec.serve.service import Service
from thinkrec.store.cache import CACHE_GIB, local_copy

KEY = "a key of more than sixteen characters"
ASKED = {"/recommend": {"user_id": "u003"}, "/score": {"user_id": "u003", "items": ["i001"]}}
ASKED["/explain"] = ASKED["/score"]


FAULTS = {
    "s3://nobody": EnvironmentFault("this address does not answer", "s3://nobody", "check the address"),
    "s3://torn": ArtefactError("a stored JSON file is not whole", "s3://torn/base/base.json", "make it again"),
}


class Changing:
    """Stands for the deployment: knows one other package."""

    replica, previous = "replica-0", ""

    async def change(self, address):
        if address in FAULTS:
            raise FAULTS[address]
        if address != "s3://other":
            raise PackageError("a file of the package has changed", address, "copy it again")
        return "0123456789abcdef"

    async def rollback(self):
        return "fedcba9876543210"


@pytest.fixture(scope="module")
def ranker(packaged):
    return open_package(str(packaged))


@pytest.fixture(scope="module")
def service(ranker) -> Service:
    return Service(*ranker)


def client_of(service, **options):
    return TestClient(make_app(service, ServeOptions(**options), Changing()), raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(service):
    with client_of(service) as client:
        yield client


@pytest.fixture(scope="module")
def locked(service):
    with client_of(service, key_sha256=sha256_of_key(KEY)) as client:
        yield client


def ask(client, page, body, status=200):
    response = client.post(page, json=body)
    assert response.status_code == status, response.text
    return response.json()


def ranked(ranker, log, items):
    at = {item: place for place, item in enumerate(ranker.items.item_ids)}
    return ranker.rank(log, [np.array([at[item] for item in items])])


def log_of(ranker, user):
    return of_users(Interactions.load(ranker.places.path("ingest"), users={user}), [user])


@pytest.mark.parametrize("user", ["u003", "u017", "u039", "nobody"])
def test_scores_are_the_rankers(client, ranker, user):
    items = ["i004", "i001", "i029"]
    answer = ask(client, "/score", {"user_id": user, "items": items})
    expected = ranked(ranker[0], log_of(ranker[0], user), items)
    np.testing.assert_allclose([item["score"] for item in answer["items"]], expected.score[0], atol=1e-5)
    np.testing.assert_allclose([item["prior"] for item in answer["items"]], expected.prior[0], atol=1e-5)
    assert [item["item_id"] for item in answer["items"]] == items
    assert (answer["route"], answer["is_known_user"]) == (expected.route[0], user != "nobody")
    assert answer["package"] == ranker[1].key
    assert answer["items"][0]["p_like"] == pytest.approx(1 / (1 + np.exp(-answer["items"][0]["score"])))


def test_a_history_sent_along_stands_for_the_users_own(client, ranker):
    model, items = ranker[0], ["i004", "i001", "i029"]
    events = [{"item_id": "i003", "liked": True}, {"item_id": "unheard-of", "liked": True}, {"item_id": "i005", "liked": False}]
    answer = ask(client, "/score", {"history": events, "items": items})
    own = sent_along(model.items, [""], [[(3, 1, 0), (5, 0, 2)]])
    np.testing.assert_allclose([item["score"] for item in answer["items"]], ranked(model, own, items).score[0], atol=1e-5)
    assert (answer["num_unknown_items"], answer["route"]) == (1, "global")
    for event, ts in zip(events, (9, 8, 7), strict=True):
        event["ts"] = ts
    turned = ask(client, "/score", {"history": events, "items": items})
    assert turned["items"] != answer["items"]
    of_user = ask(client, "/score", {"user_id": "u003", "history": events, "items": items})
    assert of_user["items"] != turned["items"]  # his own mixture serves
    assert of_user["route"] == ask(client, "/score", {"user_id": "u003", "items": items})["route"]


def test_lists_are_ordered_by_score_and_leave_out_what_was_seen(client, ranker):
    model = ranker[0]
    answer = ask(client, "/recommend", {"history": [{"item_id": "i003", "liked": True}], "top": 7})
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    assert [item["rank"] for item in answer["items"]] == list(range(1, 8))
    assert "i003" not in {item["item_id"] for item in answer["items"]}
    items = [item["item_id"] for item in answer["items"]]
    expected = ranked(model, sent_along(model.items, [""], [[(3, 1, 0)]]), items)
    np.testing.assert_allclose(scores, expected.score[0], atol=1e-5)
    again = ask(client, "/recommend", {"history": [{"item_id": "i003", "liked": True}], "top": 100, "seen": True})
    assert {item["item_id"] for item in again["items"]} == set(model.items.item_ids)


def test_given_candidates_are_the_only_ones(client):
    body = {"user_id": "nobody", "candidates": ["i004", "unheard-of", "i001", "i004"], "top": 5}
    answer = ask(client, "/recommend", body)
    assert sorted(item["item_id"] for item in answer["items"]) == ["i001", "i004"]  # one that is named twice is listed once
    assert {item["source"] for item in answer["items"]} == {"given"}
    assert (answer["num_unknown_items"], answer["is_known_user"]) == (1, False)


def test_everything_seen_is_an_empty_list(client, ranker):
    assert len(log_of(ranker[0], "u003")) == len(ranker[0].items.item_ids)
    assert ask(client, "/recommend", {"user_id": "u003"})["items"] == []


def test_explanations_tell_what_was_said_and_whether_it_is_so(client):
    answer = ask(client, "/explain", {"user_id": "u003", "items": ["i001", "i002"]})
    assert [item["item_id"] for item in answer["items"]] == ["i001", "i002"]
    assert {item["verdict"] for item in answer["items"]} <= {"Yes", "No", ""}
    assert all(isinstance(item["is_grounded"], bool) and isinstance(item["text"], str) for item in answer["items"])
    assert answer["items"][0]["score"] == pytest.approx(
        ask(client, "/score", {"user_id": "u003", "items": ["i001"]})["items"][0]["score"], abs=1e-5
    )


@pytest.mark.parametrize("order", ["first", "after"])
def test_what_is_explained_is_asked_once(ranker, order, monkeypatch):
    """In one batch for all who ask; a model that thinks first is scored after the very thoughts that are shown."""
    model, asked, speak = copy.copy(ranker[0]), [], Scorer.speak
    model.config = model.config.model_copy(update={"prompt": model.config.prompt.model_copy(update={"answer": order})})
    monkeypatch.setattr(Scorer, "speak", lambda self, prompts, *rest: asked.append(len(prompts)) or speak(self, prompts, *rest))
    requests = [
        ExplainRequest(user_id="u003", items=["i001", "i002"]),
        ScoreRequest(user_id="u039", items=["i004"]),
        ExplainRequest(user_id="u017", items=["i009"]),
    ]
    answers = Service(model, ranker[1]).answer(requests)
    assert asked == [3 if order == "first" else 4]
    assert [len(answer.items) for answer in answers] == [2, 1, 1]
    assert all(item.text for answer in (answers[0], answers[2]) for item in answer.items)


def test_users_of_one_batch_get_the_answers_they_get_alone(service, client):
    histories = [[Event(item_id=f"i{item:03}", liked=True) for item in own] for own in (range(5), range(5, 30))]
    requests = [
        ScoreRequest(user_id="u003", items=["i001", "i002"]),
        RecommendRequest(user_id="nobody", top=3),
        ScoreRequest(user_id="u017", items=["i009"]),
        RecommendRequest(user_id="u039", seen=True, top=3),
        ScoreRequest(user_id="u003", items=["i002"]),
        *(RecommendRequest(history=own, top=3) for own in histories),  # two strangers
        *(RecommendRequest(user_id="u039", history=own, top=3) for own in histories),
    ]
    for together, request in zip(service.answer(requests), requests, strict=True):
        (alone,) = service.answer([request])
        assert [item.item_id for item in together.items] == [item.item_id for item in alone.items]
        np.testing.assert_allclose([item.score for item in together.items], [item.score for item in alone.items], atol=1e-5)


def test_the_copy_of_a_package_is_held_for_as_long_as_it_is_served(ranker, packaged, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(CACHE_GIB, "0")
    folder, model = tmp_path / ".cache/thinkrec/package", copy.copy(ranker[0])
    shutil.copytree(packaged, folder)
    model.places = places_of(folder)
    service = Service(model, ranker[1])
    for is_served in (True, False):
        os.utime(folder, (0, 0))
        local_copy(fs.LocalFileSystem(), str(packaged), f"another-{is_served}")
        assert folder.is_dir() == is_served
        service._held.close()


def test_a_history_that_was_read_for_one_request_is_not_read_for_the_next_and_no_score_moves(ranker):
    """Of the user's own and of one sent along, in any page; another history is another one, also in one batch."""
    model = copy.copy(ranker[0])
    kept, history = KeptPrefixes(2**20, 60.0), [Event(item_id="i003", liked=True), Event(item_id="i005", liked=False)]
    asked = [
        ScoreRequest(user_id="u003", items=["i001", "i002"]),
        RecommendRequest(user_id="u003", candidates=["i004"], seen=True),
        ScoreRequest(history=history, items=["i001"]),
        RecommendRequest(history=history, top=3),
        ScoreRequest(user_id="u003", history=history, items=["i001"]),  # his own mixture
        ScoreRequest(user_id="u003", history=history[:1], items=["i001"]),
    ]
    expected = Service(model, ranker[1]).answer(asked)
    service = Service(model, ranker[1], kept)
    found = [service.answer([request])[0] for request in asked]
    assert (kept.num_found, kept.num_computed) == (2, 4)
    found += service.answer(asked)
    assert (kept.num_found, kept.num_computed) == (8, 4)
    for one, other in zip(found, expected * 2, strict=True):
        assert [item.item_id for item in one.items] == [item.item_id for item in other.items]
        np.testing.assert_allclose([item.score for item in one.items], [item.score for item in other.items], atol=1e-5)
    with client_of(service) as client:
        assert re.search(r"thinkrec_histories_reused{.*} 8.0", client.get("/metrics").text)


EVENT = {"item_id": "i001", "liked": True}
BAD = {
    "no-json": ("/score", "{", 422),
    "no-body": ("/score", "", 422),
    "a-list": ("/score", "[]", 422),
    "a-number": ("/score", "7", 422),
    "deep": ("/score", "[" * 100_000, 400),
    "nobody": ("/score", {"items": ["i001"]}, 422),
    "no-items": ("/score", {"user_id": "u003"}, 422),
    "empty-items": ("/score", {"user_id": "u003", "items": []}, 422),
    "empty-id": ("/score", {"user_id": "", "items": ["i001"]}, 422),
    "empty-item": ("/score", {"user_id": "u003", "items": [""]}, 422),
    "number-as-id": ("/score", {"user_id": 3, "items": ["i001"]}, 422),
    "number-as-item": ("/score", {"user_id": "u003", "items": [1]}, 422),
    "long-id": ("/score", {"user_id": "u" * 600, "items": ["i001"]}, 422),
    "misspelt": ("/score", {"user_id": "u003", "item": ["i001"]}, 422),
    "unknown-items": ("/score", {"user_id": "u003", "items": ["../../etc/passwd", "none"]}, 404),
    "too-many-items": ("/score", {"user_id": "u003", "items": ["i001"] * (MAX_CANDIDATES + 1)}, 422),
    "a-million-items": ("/score", {"user_id": "u003", "items": ["i001"] * 10**6}, 413),
    "too-large": ("/score", " " * (MAX_BODY_BYTES + 1), 413),
    "long-history": ("/score", {"history": [EVENT] * (MAX_HISTORY + 1), "items": ["i001"]}, 422),
    "history-of-words": ("/score", {"history": ["i001"], "items": ["i001"]}, 422),
    "liked-as-number": ("/score", {"history": [EVENT | {"liked": 1}], "items": ["i001"]}, 422),
    "nan-as-time": ("/score", '{"history": [{"item_id": "i001", "liked": true, "ts": NaN}], "items": ["i001"]}', 422),
    "negative-time": ("/score", {"history": [EVENT | {"ts": -1}], "items": ["i001"]}, 422),
    "far-future": ("/score", {"history": [EVENT | {"ts": 10**15}], "items": ["i001"]}, 422),
    "half-of-the-times": ("/score", {"history": [EVENT, EVENT | {"ts": 5}], "items": ["i001"]}, 422),
    "no-top": ("/recommend", {"user_id": "u003", "top": 0}, 422),
    "top-as-word": ("/recommend", {"user_id": "u003", "top": "ten"}, 422),
    "large-top": ("/recommend", {"user_id": "u003", "top": 10**6}, 422),
    "no-candidates": ("/recommend", {"user_id": "u003", "candidates": []}, 422),
    "unknown-candidates": ("/recommend", {"user_id": "u003", "candidates": ["none"]}, 404),
    "seen-as-word": ("/recommend", {"user_id": "u003", "seen": "yes"}, 422),
    "much-to-explain": ("/explain", {"user_id": "u003", "items": ["i001"] * 6}, 422),
    "no-such-page": ("/recommendations", {"user_id": "u003"}, 404),
    "climbing-page": ("/../package.json", {"user_id": "u003"}, 404),
    "health-by-post": ("/healthz", {}, 405),
    "change-without-a-key": ("/admin/package", {"package": "s3://other"}, 403),
    "rollback-without-a-key": ("/admin/rollback", {}, 403),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_refused_with_what_where_and_how(client, packaged, name):
    page, body, status = BAD[name]
    headers = {"content-type": "application/json"}
    response = client.post(page, content=body if isinstance(body, str) else json.dumps(body), headers=headers)
    assert response.status_code == status, response.text
    told = response.json()
    assert list(told) == ["what", "where", "how"]
    assert all(told.values())
    assert str(packaged) not in response.text
    assert "Traceback" not in response.text
    assert "passwd" not in response.text


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}, {"Authorization": KEY}])
@pytest.mark.parametrize("page", [*ASKED, "/admin/package", "/admin/rollback", "/metrics"])
def test_without_the_key_nobody_is_answered(locked, page, headers):
    response = locked.request(
        "GET" if page == "/metrics" else "POST", page, json=ASKED.get(page, {"package": "s3://other"}), headers=headers
    )
    assert response.status_code == 401
    assert list(response.json()) == ["what", "where", "how"]


def test_with_the_key_everybody_is(locked):
    headers = {"Authorization": f"Bearer {KEY}"}
    assert locked.post("/score", json=ASKED["/score"], headers=headers).status_code == 200
    changed = locked.post("/admin/package", json={"package": "s3://other"}, headers=headers)
    assert (changed.status_code, changed.json()["package"]) == (202, "0123456789abcdef")
    refused = locked.post("/admin/package", json={"package": "../other"}, headers=headers)
    told = {"what": "a file of the package has changed", "where": "../other", "how": "copy it again"}
    assert (refused.status_code, refused.json()) == (422, told)
    for address, fault in FAULTS.items():
        refused = locked.post("/admin/package", json={"package": address}, headers=headers)
        assert (refused.status_code, refused.json()) == (503, {"what": fault.what, "where": fault.where, "how": fault.fix})
    assert locked.post("/admin/rollback", headers=headers).status_code == 409


def test_health_figures_and_the_page_of_docs(client, ranker):
    health = client.get("/healthz").json()
    assert health == {"status": "ok", "package": ranker[1].key, "previous": ""}
    text = client.get("/metrics").text
    assert f'thinkrec_requests_total{{package="{ranker[1].key}",path="/score",replica="replica-0",status="422"}}' in text
    assert "thinkrec_unknown_items_total" in text
    assert "recommendations" not in text  # a page that is not there is no label
    assert client.get("/docs").status_code == 200
    assert {"/recommend", "/score", "/explain"} <= client.get("/openapi.json").json()["paths"].keys()


def test_what_is_too_much_is_shed_and_what_is_too_late_is_told(service):
    with client_of(service, num_queued=0) as client:
        response = client.post("/score", json=ASKED["/score"])
        assert (response.status_code, response.headers["Retry-After"]) == (429, "1")
    with client_of(service, deadline_s=0.0) as client:
        assert client.post("/score", json=ASKED["/score"]).status_code == 504


@pytest.mark.parametrize("fault", [ZeroDivisionError("division"), FAULTS["s3://torn"]])
def test_a_fault_of_the_server_shows_nothing_and_is_counted(service, monkeypatch, fault):
    def fail(requests):
        raise fault

    monkeypatch.setattr(service, "answer", fail)
    with client_of(service) as client:
        response = client.post("/score", json=ASKED["/score"])
        figures = client.get("/metrics").text
    assert response.status_code == 500
    assert response.json()["what"] == "the server failed"
    assert str(fault.args[0]) not in response.text
    assert f'thinkrec_requests_total{{package="{service.key}",path="/score",replica="replica-0",status="500"}} 1.0' in figures

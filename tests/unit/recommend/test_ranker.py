"""Scores of candidates are those of a row each, and everybody is served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from thinkrec.artefacts.ingest import bucket_of, read_counts
from thinkrec.artefacts.scores import read_scores
from thinkrec.data.interactions import Interactions
from thinkrec.prompt.catalogue import ArtefactPaths, Catalogue, load_tables
from thinkrec.recommend.histories import asking, of_users, sent_along
from thinkrec.recommend.ranker import Ranker, _parts

STRANGER = "nobody has heard of"


@pytest.fixture(scope="module")
def ranker(whole_run) -> Ranker:
    return Ranker(whole_run.settings, ArtefactPaths({stage: artefact.uri for stage, artefact in whole_run.artefacts.items()}))


@pytest.fixture(scope="module")
def log(ranker):
    return Interactions.load(ranker.places.path("ingest"))


def without(log, user: str, items: list[int]):
    """The user's own rows but for those with `items`."""
    own = of_users(log, [user])
    keep = ~np.isin(own.item, items)
    history = list(zip(own.item[keep].tolist(), own.label[keep].tolist(), own.ts[keep].tolist(), strict=True))
    return sent_along(log, [user], [history])


def test_candidates_are_scored_as_rows_of_their_own(ranker, log):
    """Three users at once, of different histories, against each candidate by itself."""
    users, items = ["u001", "u007", "u039"], [np.array([3, 5, 8]), np.array([1]), np.array([2, 0, 9, 4])]
    together = ranker.rank(of_users(log, users), items)
    for place, user in enumerate(users):
        alone = [ranker.rank(of_users(log, [user]), [np.array([item])]) for item in items[place]]
        np.testing.assert_allclose(together.score[place], [one.score[0][0] for one in alone], atol=1e-5)
        np.testing.assert_allclose(together.prior[place], [one.prior[0][0] for one in alone], atol=1e-6)
        assert together.route[place] == alone[0].route[0]
    assert len(set(np.round(np.concatenate(together.score), 3))) > 6


def test_a_test_row_asked_after_the_rows_before_it_has_the_score_of_the_file(whole_run, ranker, log):
    """The last row of a user, taken out of his history and asked about as a candidate: what the stages `score` and `prior` wrote."""
    files = read_scores(whole_run.artefacts["score"].path(), "fusion")
    offsets = pl.read_parquet(whole_run.artefacts["prior"].path("offsets") / "*/*.parquet")
    for user in ("u003", "u039"):
        own = of_users(log, [user])
        item, number = int(own.item[-1]), int(own.row[-1])
        found = ranker.rank(without(log, user, [item]), [np.array([item])])
        prior = float(found.prior[0][0])
        model = files.filter(pl.col("row") == number)["model"][0]
        assert float(found.score[0][0]) - prior == pytest.approx(model, abs=1e-4)
        assert prior == pytest.approx(offsets.filter(pl.col("row") == number)["offset"][0], abs=0.5)  # asked a second earlier
        assert abs(prior) > 1e-3


@pytest.mark.parametrize("same_second", ["seen", "hidden"])
def test_a_new_pair_in_python_has_the_score_of_the_lists(run, same_second):
    """It comes after all rows of its user, also where rows of one second do not see each other."""
    settings = run.report["settings"]
    prior = settings["prior"] | {"same_second": same_second}
    changed = replace(run, report={**run.report, "settings": settings | {"prior": prior}})
    ranker = Ranker(changed.settings, ArtefactPaths({stage: artefact.uri for stage, artefact in run.artefacts.items()}))
    log = Interactions.load(ranker.places.path("ingest"))
    own = of_users(log, ["u001"])
    items = np.setdiff1d(np.arange(30), own.item)[:3]
    found = ranker.rank(own, [items])
    np.testing.assert_allclose(changed.score("u001", [log.item_ids[item] for item in items]), found.score[0], atol=1e-5)


def test_everybody_is_served(ranker, log):
    """Unknown to the run, known without rows, with a history sent along: never an error, and the global adapter without a vector."""
    items = np.arange(12)
    strangers = of_users(log, [STRANGER, "u001"])
    found = ranker.rank(strangers, [items, items])
    assert np.isfinite(np.concatenate(found.score)).all()
    assert found.route[0] == "global"
    assert ranker.without_vector(strangers).tolist() == [True, False]
    told = ranker.rank(sent_along(log, [STRANGER], [[(3, 1, 5_000), (4, 0, 9_000)]]), [items])
    assert np.abs(told.score[0] - found.score[0]).max() > 1e-3
    same = ranker.rank(sent_along(log, [STRANGER], [[(4, 0, 9_000), (3, 1, 5_000)]]), [items])
    np.testing.assert_array_equal(told.score[0], same.score[0])


def test_who_has_no_candidates_gets_none(ranker, log):
    found = ranker.rank(of_users(log, ["u001", STRANGER, "u002"]), [np.array([], np.int64), np.array([1]), np.array([], np.int64)])
    assert [len(scores) for scores in found.score] == [0, 1, 0]
    assert ranker.rank(of_users(log, []), []).score == []


def test_without_a_prior_the_model_speaks_alone(ranker, log):
    places = ArtefactPaths({stage: uri for stage, uri in ranker.places.uris.items() if stage != "prior"})
    own, items = of_users(log, ["u001"]), [np.array([3, 5])]
    both, alone = ranker.rank(own, items), Ranker(ranker.config, places).rank(own, items)
    np.testing.assert_array_equal(alone.prior[0], [0, 0])
    np.testing.assert_allclose(both.score[0] - both.prior[0], alone.score[0], atol=1e-5)


def test_what_is_counted_of_items_is_counted_once_for_all_users(ranker, log, monkeypatch):
    """Users of two buckets asked about one after another, and once more: the prompts of tables that have all users."""
    read: list[Path] = []
    monkeypatch.setattr("thinkrec.prompt.counted_rates.read_counts", lambda folder: read.append(folder) or read_counts(folder))
    one, other = ([bucket_of(user, 2) for user in log.user_ids].index(bucket) for bucket in range(2))
    catalogue, users = Catalogue.load(ranker.config, ranker.places), [one, other, one]
    prompts = [catalogue.tables_of(of_users(log, [log.user_ids[user]])).prompt(9) for user in users]
    assert len(read) == 1
    whole = load_tables(ranker.config, ranker.places)
    assert prompts == [whole.prompt(int(log.offsets[user]) + 9) for user in users]
    assert "of 20 like it" in whole.template.text(prompts[0])


def test_before_test_its_rows_are_gone(log):
    own = of_users(log, ["u001", "u002"], until_test=True)
    assert np.diff(own.offsets).tolist() == [20, 20]
    assert len(of_users(log, ["u001", "u002"])) == 60


def test_candidates_stand_behind_the_history_and_in_none(log):
    rows, begin = asking(of_users(log, ["u001", STRANGER, "u002"]), [np.array([7, 8]), np.array([9]), np.array([], np.int64)])
    assert begin.tolist() == [30, 32, 63]
    assert rows.item[30:33].tolist() == [7, 8, 9]
    assert (rows.row < 0).nonzero()[0].tolist() == [30, 31, 32]
    assert rows.ts[30] == rows.ts[29]
    assert rows.ts[32] == 0
    assert rows.offsets.tolist() == [0, 32, 33, 63]


def test_parts_are_bounded_and_whole(monkeypatch):
    monkeypatch.setattr("thinkrec.recommend.ranker.MAX_PROMPTS", 10)
    parts = _parts([4, 0, 4, 4, 9, 1])
    assert [user for part in parts for user in part] == [0, 2, 3, 4, 5]
    assert len(parts) > 1
    assert _parts([0, 0]) == []

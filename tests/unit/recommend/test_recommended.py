"""Lists: the best of all candidates, nothing seen, everybody served, the same after a stop, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from thinkrec.artefacts.ingest import bucket_of
from thinkrec.artefacts.recommendations import LISTS
from thinkrec.errors import ConfigError, DataError, MissingFileError
from thinkrec.evaluate.metrics.user_groups import by_group
from thinkrec.evaluate.report.lists import lists_text
from thinkrec.events import BucketListed, Listed, Noted
from thinkrec.prompt.catalogue import ArtefactPaths
from thinkrec.recommend.histories import of_users
from thinkrec.recommend.judged import judge
from thinkrec.recommend.lists import Lists
from thinkrec.recommend.ranker import Ranker
from thinkrec.recommend.request import Request
from thinkrec.store.address import read_json

STRANGER = "nobody has heard of"


def read(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "*/part-0.parquet", hive_partitioning=False)


def write(folder: Path, name: str, **columns) -> str:
    pl.DataFrame(columns).write_csv(folder / name)
    return str(folder / name)


def test_the_best_of_all_candidates_and_nothing_seen(recommend, run, log):
    """Against every item of the catalogue scored by itself, for three users; and no seen item in any list."""
    table, counts, reported = recommend(settings={"num_candidates": 30})
    assert table.columns == LISTS.names
    seen = pl.DataFrame({"user_id": [log.user_ids[user] for user in log.user], "item_id": [log.item_ids[item] for item in log.item]})
    assert seen.height == 39 * 20
    assert table.join(seen, on=["user_id", "item_id"]).is_empty()
    assert table.group_by("user_id").len()["len"].to_list() == [5] * 39
    ranker = Ranker(run.settings, ArtefactPaths({stage: artefact.uri for stage, artefact in run.artefacts.items()}))
    for user in log.user_ids[:3]:
        own = of_users(log, [user])
        rest = np.setdiff1d(np.arange(30), own.item)
        each = np.array([ranker.rank(own, [np.array([item])]).score[0][0] for item in rest])
        best = np.argsort(-each, kind="stable")[:5]
        mine = table.filter(pl.col("user_id") == user)
        assert mine["item_id"].to_list() == [log.item_ids[item] for item in rest[best]]
        np.testing.assert_allclose(mine["score"], each[best], atol=1e-5)
        np.testing.assert_allclose(mine["p_like"], 1 / (1 + np.exp(-each[best])), atol=1e-5)
        assert mine["rank"].to_list() == [1, 2, 3, 4, 5]
    assert (counts.num_users, counts.num_candidates, counts.num_listed, counts.num_short) == (39, 390, 195, 0)
    assert [type(event) for event in reported] == [BucketListed, BucketListed, Listed]
    again = recommend("again", {"num_candidates": 30, "seen": True})[0]
    assert not again.join(seen, on=["user_id", "item_id"]).is_empty()  # the control


def test_a_run_that_was_stopped_goes_on_with_the_same_lists(recommend, in_process, tmp_path):
    """Stopped between two buckets, and within one, of which a torn file is left."""
    whole = recommend("whole")[0]
    assert in_process == [0, 1]
    assert set(whole["source"]) == {"vector", "history", "popular"}
    recommend("stopped")
    torn = tmp_path / "stopped/bucket=001"
    (torn / "counts.json").unlink()
    (torn / "part-0.parquet").write_bytes(b"PAR1 and no more")
    in_process.clear()
    table, counts, _ = recommend("stopped")
    assert in_process == [1]
    assert table.equals(whole)
    assert counts.num_users == whole["user_id"].n_unique() == 39
    recommend("stopped")
    assert in_process == [1]
    with pytest.raises(ConfigError, match="other lists lie here"):
        recommend("stopped", top=4)
    first = recommend("one", bucket=0)[0]
    assert 0 < first["user_id"].n_unique() < 39
    assert recommend("one")[0].equals(whole)


def test_counts_are_read_once_a_bucket(recommend, tmp_path, monkeypatch):
    """To see what is there, when the bucket is done, and for the total: never all of them after each."""
    asked: list[str] = []
    monkeypatch.setattr("thinkrec.artefacts.recommendations.read_json", lambda uri: asked.append(uri) or read_json(uri))
    recommend(top=1)
    assert [Counter(asked)[f"{tmp_path}/lists/bucket={bucket:03d}/counts.json"] for bucket in range(2)] == [3, 3]


def test_named_users_are_served_known_or_not(recommend, tmp_path):
    """One whom nobody knows, one without rows, one without a vector beside one who has all."""
    users = write(tmp_path, "users.csv", user_id=["u001", STRANGER, "u039", "u001"])
    table, counts, _ = recommend(users=users)
    assert set(table["user_id"]) == {"u001", STRANGER, "u039"}
    assert (counts.num_users, counts.num_unknown, counts.num_without_vector, counts.num_without_history) == (3, 2, 2, 2)
    stranger = table.filter(pl.col("user_id") == STRANGER)
    assert set(stranger["route"]) == {"global"}
    assert set(stranger["source"]) == {"popular"}
    assert set(table.filter(pl.col("user_id") == "u001")["source"]) > {"vector"}
    assert set(table["route"]) > {"global"}


def test_users_of_one_cluster(recommend, run):
    from thinkrec.artefacts.clusters import read_assignment

    parts = [read_assignment(run.artefacts["cluster"].path(), bucket, ["user_id", "cluster"]) for bucket in range(2)]
    table, counts, _ = recommend(cluster=1)
    members = set(pl.concat(parts).filter(pl.col("cluster") == 1)["user_id"])
    assert set(table["user_id"]) == members
    assert 0 < counts.num_users == len(members) < 39


def test_allowed_and_denied_items(recommend, tmp_path):
    allow = write(tmp_path, "allow.csv", item_id=[f"i{n:03d}" for n in range(20)] + ["gone", "away"])
    deny = write(tmp_path, "deny.csv", item_id=[f"i{n:03d}" for n in range(10)])
    table, counts, reported = recommend(allow=allow, deny=deny)
    assert set(table["item_id"]) <= {f"i{n:03d}" for n in range(10, 20)}
    assert counts.num_short > 0
    assert [event.text for event in reported if isinstance(event, Noted)] == [f"2 ids of {allow} are no items of this run"]


def test_given_candidates_alone_and_together_with_others(recommend, log, tmp_path):
    unseen = {user: sorted(set(range(30)) - set(of_users(log, [user]).item.tolist())) for user in ("u001", "u002")}
    rows = [("u001", log.item_ids[item]) for item in unseen["u001"][:3]] + [("u002", log.item_ids[log.item[0]]), ("u002", "gone")]
    rows += [("u001", log.item_ids[of_users(log, ["u001"]).item[0]])]  # seen
    given = write(tmp_path, "given.csv", user_id=[user for user, _ in rows], item_id=[item for _, item in rows])
    table, counts, _ = recommend(candidates=given)
    own = table.filter(pl.col("user_id") == "u001")
    assert sorted(own["item_id"]) == [item for _, item in rows[:3]]
    assert set(own["source"]) == {"given"}
    assert (counts.num_not_given, counts.num_unknown_items) == (37, 1)
    assert table.filter(pl.col("user_id") == "u003").height == 5
    both = recommend("both", {"given": 0.25}, candidates=given)[0].filter(pl.col("user_id") == "u001")
    assert both.height == 5
    assert (both["source"] == "given").sum() <= 2


def test_reasons_of_the_first_are_told_and_checked(recommend, tmp_path):
    users = write(tmp_path, "users.csv", user_id=["u001", "u002"])
    table, counts, _ = recommend(users=users, explain=2)
    assert table.filter(pl.col("rank") <= 2)["explanation"].null_count() == 0
    assert table.filter(pl.col("rank") > 2)["explanation"].null_count() == 6
    assert counts.num_explained == 4
    assert counts.num_grounded == table["is_grounded"].sum()


def test_judged_lists_know_nothing_of_test(recommend, whole_run, tmp_path):
    """Of those who like something in test; they see no row of it, so its items may come, and the last user has no history."""
    table, counts, _ = recommend("judged", of=whole_run, until_test=True, top=3)
    log = pl.read_parquet(whole_run.artefacts["ingest"].path("interactions") / "*/*.parquet", hive_partitioning=False)
    test = log.filter(pl.col("split") == "test")
    assert set(table["user_id"]) == set(test.filter(pl.col("label") == 1)["user_id"])
    assert counts.num_without_history == 1
    known = table.filter(pl.col("user_id") != "u039")
    assert known.join(test, on=["user_id", "item_id"]).height == known.height
    orders = pl.read_parquet(tmp_path / "judged/*/orders.parquet", hive_partitioning=False)
    assert set(orders["order"]) == {"retrieval", "prior", "model", "vector", "history", "popular"}
    listed = orders.filter(pl.col("order") != "retrieval").group_by("user_id", "order").len()["len"]
    assert listed.min() == listed.max() == 3


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"top": 0}, ConfigError, "a list of 0 items"),
        ({"top": 9}, ConfigError, "a list of 9 items from 8 candidates"),
        ({"explain": 6}, ConfigError, "6 of 5 items"),
        ({"explain": -1}, ConfigError, "-1 of 5 items"),
        ({"sampled": 9}, ConfigError, "likes among 9 items cannot be judged"),
        ({"bucket": 2}, ConfigError, "there is no bucket 2"),
        ({"bucket": -1}, ConfigError, "there is no bucket -1"),
        ({"cluster": 7}, ConfigError, "there is no cluster 7"),
        ({"users": "gone.csv"}, MissingFileError, "no such file"),
        ({"candidates": "gone.parquet"}, MissingFileError, "no such file"),
        ({"candidates": "users.csv"}, DataError, "no column 'item_id'"),
        ({"users": "items.csv"}, DataError, "no column 'user_id'"),
        ({"users": "empty.csv"}, DataError, "there are no rows"),
        ({"users": "torn.parquet"}, DataError, "cannot be read"),
        ({"allow": "items.csv"}, DataError, "no item is left"),
        ({"deny": "users.csv"}, DataError, "no column 'item_id'"),
    ],
)
def test_what_cannot_be_done_is_said(recommend, tmp_path, options, error, said):
    write(tmp_path, "users.csv", user_id=["u001"])
    write(tmp_path, "items.csv", item_id=["gone"])
    (tmp_path / "empty.csv").write_text("user_id\n")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    files = {name: str(tmp_path / value) for name, value in options.items() if isinstance(value, str)}
    with pytest.raises(error, match=said):
        recommend(**(options | files))


def test_the_key_follows_what_decides_the_lists(run, tmp_path, monkeypatch):
    def key(num_candidates: int = 8, **options) -> str:
        section = run.settings.recommend.model_copy(update={"num_candidates": num_candidates})
        config = run.settings.model_copy(update={"recommend": section})
        return Request(**options).key(config, run.artefacts)

    users = write(tmp_path, "users.csv", user_id=["u001"])
    keys = {key(), key(9), key(top=3), key(explain=1), key(cluster=0), key(users=users), key(until_test=True), key(sampled=9)}
    write(tmp_path, "users.csv", user_id=["u002"])
    assert len(keys | {key(users=users)}) == 9
    assert key(bucket=1) == key()
    monkeypatch.setattr("thinkrec.recommend.request.VERSION", 0)
    assert key() not in keys


def test_by_default_lists_lie_in_the_run(run):
    lists = Lists.plan(run.settings, run.artefacts, Request())
    assert lists.out == f"{run.dir}/recommendations/{lists.key}"
    assert lists.num_users() == 40  # as ingest counted them, without a look at the rows, where one has none any more
    assert json.dumps(Request().made_from(run.settings, run.artefacts))


def judged(recommend, run, folder: Path, **options) -> dict:
    """The report of lists that are made for it."""
    recommend(folder.name, of=run, until_test=True, **options)
    config = run.settings.model_copy(update={"recommend": run.settings.recommend.model_copy(update={"num_candidates": 8})})
    return judge(Lists.plan(config, run.artefacts, Request(top=5, until_test=True, **options), str(folder)))


def test_only_who_was_asked_for_is_judged(recommend, whole_run, tmp_path):
    """One named user beside one whom nobody knows, alone in the other bucket; the users of a cluster; and nobody at all."""
    stranger = next(name for name in map(str, range(99)) if bucket_of(name, 2) != bucket_of("u001", 2))
    report = judged(recommend, whole_run, tmp_path / "named", users=write(tmp_path, "both.csv", user_id=["u001", stranger]))
    assert report["num_users"] == 1
    assert {row["metrics"]["recall@5"]["num_users"] for row in report["metrics"]} == {1}
    log = pl.read_parquet(whole_run.artefacts["ingest"].path("interactions") / "*/*.parquet", hive_partitioning=False)
    likes = log.filter((pl.col("split") == "test") & (pl.col("label") == 1))
    assert report["num_likes"] == likes.filter(pl.col("user_id") == "u001").height
    report = judged(recommend, whole_run, tmp_path / "cluster", cluster=1)
    assert report["num_users"] == read(tmp_path / "cluster")["user_id"].n_unique() < likes["user_id"].n_unique()
    with pytest.raises(DataError, match="none of these users likes"):
        judged(recommend, whole_run, tmp_path / "nobody", users=write(tmp_path, "nobody.csv", user_id=[stranger]))


def test_likes_among_sampled_items_are_judged_apart(recommend, whole_run, tmp_path):
    """Against a loop; who orders by chance would rank a like and a stranger alike, and the catalogue's figures stay what they are."""
    plain = judged(recommend, whole_run, tmp_path / "plain")
    report = judged(recommend, whole_run, tmp_path / "sampled", sampled=4)
    assert plain["sampled"] is None
    assert (report["metrics"], report["groups"]) == (plain["metrics"], plain["groups"])
    found = {row["name"]: row["metrics"]["ndcg@1"] for row in report["sampled"]["metrics"]}
    assert list(found) == ["prior+fusion", "prior", "fusion", "sasrec", "popular"]
    log = pl.read_parquet(whole_run.artefacts["ingest"].path("interactions") / "*/*.parquet", hive_partitioning=False)
    likes = set(log.filter((pl.col("split") == "test") & (pl.col("label") == 1)).select("user_id", "item_id").iter_rows())
    rows = pl.read_parquet(tmp_path / "sampled/*/orders.parquet", hive_partitioning=False)
    first = rows.filter((pl.col("order") == "sampled:popular") & (pl.col("rank") == 1)).select("user_id", "item_id").rows()
    assert found["popular"]["value"] == pytest.approx(np.mean([row in likes for row in first]))
    assert (report["sampled"]["num_short"], report["sampled"]["num_fewest"]) == (report["num_users"], 0)  # they have met every item
    text = lists_text(report)
    assert "among 4 items drawn at random" in text
    assert f"for {report['num_users']} users fewer were left to draw, 0 at the least" in text
    report["sampled"]["num_short"] = 0
    assert "fewer" not in lists_text(report)


def test_the_order_of_the_model_does_not_follow_its_weight(recommend, whole_run, tmp_path, monkeypatch):
    """Also where it weighs nothing; the control: then the lists have the prior's order."""
    users, orders = write(tmp_path, "few.csv", user_id=["u001", "u002", "u003"]), []
    for weight in (1.0, 0.0):
        monkeypatch.setattr("thinkrec.recommend.ranker.read_model_weight", lambda folder, weight=weight: weight)
        table, _, _ = recommend(f"weight {weight}", of=whole_run, until_test=True, users=users)
        rows = pl.read_parquet(tmp_path / f"weight {weight}/*/orders.parquet", hive_partitioning=False)
        orders.append({name: part["item_id"].to_list() for (name,), part in rows.partition_by("order", as_dict=True).items()})
    assert orders[0]["model"] == orders[1]["model"] != orders[1]["prior"]
    assert table["item_id"].to_list() == orders[1]["prior"]


def test_judging_counts_every_like_of_test(recommend, whole_run, tmp_path):
    """The same numbers as a loop over the lists; every order has the same users."""
    report = judged(recommend, whole_run, tmp_path / "judged")
    log = pl.read_parquet(whole_run.artefacts["ingest"].path("interactions") / "*/*.parquet", hive_partitioning=False)
    likes = log.filter((pl.col("split") == "test") & (pl.col("label") == 1)).select("user_id", "item_id")
    assert (report["num_likes"], report["num_repeated"]) == (likes.height, 0)
    table = read(tmp_path / "judged").join(likes, on=["user_id", "item_id"], how="semi")
    found = {row["name"]: row["metrics"] for row in report["metrics"]}
    assert list(found) == ["prior+fusion", "retrieval", "prior", "fusion", "sasrec", "history", "popular", "item_knn", "two_hop"]
    shares = table.group_by("user_id").len().join(likes.group_by("user_id").len(), on="user_id", suffix="_all")
    assert found["prior+fusion"]["recall@5"]["value"] == pytest.approx(
        (shares["len"] / shares["len_all"]).sum() / likes["user_id"].n_unique()
    )
    assert {metrics["ndcg@5"]["num_users"] for metrics in found.values()} == {likes["user_id"].n_unique()}
    assert report["candidate_recall"]["recall"] >= found["retrieval"]["recall@5"]["value"]
    assert json.loads((tmp_path / "judged/ranking.json").read_text())["metrics"] == report["metrics"]
    groups = report["groups"]["history"]["groups"]
    assert sum(row["num_users"] for row in groups) == report["num_users"]
    mean = sum(row["num_users"] * row["means"]["prior+fusion"]["value"] for row in groups) / report["num_users"]
    assert mean == pytest.approx(found["prior+fusion"]["ndcg@5"]["value"])
    assert {row["group"] for row in report["groups"]["cluster"]["groups"]} == {"none", "0", "1"}
    text = lists_text(report)
    assert "NDCG@5 by history of the user: 0 to " in text
    report["groups"]["history"] = by_group({"prior+fusion": np.arange(20.0)}, np.repeat([0, 1], 10), ["few", "many"], 9, 0)
    assert "p 0.100" in next(line for line in lists_text(report).splitlines() if ", by chance " in line)
    assert "Prior + language model" in text
    assert text.splitlines()[-1].startswith("in NDCG@5, Prior + language model ")

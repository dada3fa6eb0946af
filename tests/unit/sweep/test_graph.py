"""What trials share is read from the keys: one node, made by the first trial that needs it."""

from __future__ import annotations

from thinkrec.config.run import Config
from thinkrec.pipeline.stages import select_stages
from thinkrec.store.artefacts import Store
from thinkrec.sweep.graph import graph, places, plan_text

NAMES = [stage.name for stage in select_stages(Config())]
TWO = "set.traces.enabled = false\n[trials.a]\n[trials.b]\n"


def makers(sweep) -> dict[str, list[str]]:
    """Stage -> the trials that make one."""
    found: dict[str, list[str]] = {name: [] for name in NAMES}
    for (stage, _), node in graph(sweep.trials, places(sweep.trials)).items():
        found[stage].append(node.trial)
    return found


def test_equal_trials_share_everything(load):
    assert set(map(tuple, makers(load(TWO)).values())) == {("a",)}


def test_a_changed_setting_parts_what_depends_on_it_and_nothing_else(load):
    found = makers(load(TWO + "set.cluster.num_clusters = 3"))
    assert {stage for stage, by in found.items() if by == ["a", "b"]} == {"cluster", "experts", "score", "evaluate"}
    assert all(by == ["a"] for stage, by in found.items() if stage not in ("cluster", "experts", "score", "evaluate"))


def test_traces_are_drawn_from_clusters_so_with_them_the_adapters_part_too(load):
    """The control of the test above: only traces that are off may leave the clusters out of their key."""
    found = makers(load("[trials.a]\n[trials.b]\nset.cluster.num_clusters = 3"))
    assert {stage for stage, by in found.items() if by == ["a", "b"]} == {
        "cluster",
        "traces",
        "instances",
        "global",
        "projector",
        "experts",
        "score",
        "references",
        "evaluate",
    }


def test_another_variant_of_the_same_scores_is_no_work(load):
    assert set(map(tuple, makers(load(TWO + "variant = 'experts'")).values())) == {("a",)}


def test_a_borrowed_model_is_the_lenders_and_what_builds_on_it_is_keyed_by_it(load):
    text = "set.traces.enabled = false\n[trials.b]\nset.run.seed = 7\nmodel_of = 'a'\n[trials.a]\n[trials.own]\nset.run.seed = 7"
    sweep = load(text)
    where = places(sweep.trials)
    nodes = graph(sweep.trials, where)
    for stage in ("base", "global"):
        assert where["b"][stage] == where["a"][stage] != where["own"][stage]
        assert nodes[where["b"][stage]].trial == "a"
        assert nodes[where["b"][stage]].inputs["ingest"] == where["a"]["ingest"]
    for stage in ("ingest", "encode", "cluster", "extractor", "keywords"):
        assert where["b"][stage] == where["own"][stage]
    assert len({where[name]["score"] for name in ("a", "b", "own")}) == 3
    assert nodes[where["b"]["score"]].inputs["base"] == where["a"]["base"]
    assert nodes[where["b"]["score"]].inputs["ingest"] == where["own"]["ingest"]


def test_every_input_is_a_node_and_stands_before(load):
    sweep = load("[trials.b]\nmodel_of = 'a'\n[trials.a]\n[trials.c]\ngrid.cluster.num_clusters = [1, 3]")
    nodes = graph(sweep.trials, places(sweep.trials))
    order = list(nodes)
    for place, node in nodes.items():
        assert all(order.index(need) < order.index(place) for need in node.inputs.values())


def test_the_plan_says_what_each_trial_makes_shares_and_has(load):
    sweep = load(TWO + "set.cluster.num_clusters = 3")
    place = places(sweep.trials)["a"]["ingest"]
    with Store(sweep.settings.dir).create(*place, {}, {}):
        pass
    text = plan_text(sweep)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[1] == "a (reference)"
    assert "committed ingest" in lines
    assert "to do cluster experts score evaluate" in lines
    assert "from a encode extractor keywords prior base teacher traces instances global projector references" in lines
    assert lines[-1] == "32 stages asked for, 20 of them different, 1 committed, 19 to do"


def test_a_lender_of_a_model_lends_what_it_began_with(load):
    early = "set.traces.start_share = 0.5\nset.train.global_adapter.num_epochs = 2\n"
    where = places(load(f"{early}[trials.a]\n[trials.b]\nset.run.seed = 7\nmodel_of = 'a'").trials)
    assert where["b"]["global-first"] == where["a"]["global-first"]
    assert where["b"]["traces-first"] != where["a"]["traces-first"]

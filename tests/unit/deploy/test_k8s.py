"""The manifests: of the published form, in step with the examples in cluster/, sized for the run, and without secrets."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from thinkrec.config import run as run_file
from thinkrec.deploy.k8s import num_nodes, render, render_service
from thinkrec.errors import ConfigError, EnvironmentFault

CLUSTER = Path(__file__).parents[3] / "cluster"
RUN_FILE = CLUSTER / "kuberay" / "run.toml"
SCHEMA = Draft202012Validator(json.loads((Path(__file__).parent / "kuberay.schema.json").read_text()))
KUBERNETES = "1.33"
REFUSED = (ValidationError, kubernetes_validate.ValidationError)


def documents(*overrides: str, kind="RayJob") -> list[dict]:
    config = run_file.load(RUN_FILE, overrides)
    return list(yaml.safe_load_all(render(config, RUN_FILE.read_text(), overrides, kind)))


def check(document: dict) -> None:
    """Against KubeRay's form, and each pod and plain object against the schema that Kubernetes publishes."""
    plain = [document]
    if document["apiVersion"].startswith("ray.io/"):
        SCHEMA.validate(document)
        spec = document["spec"]
        cluster = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
        templates = [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
        plain = [{"apiVersion": "v1", "kind": "Pod", **template} for template in templates]
    for one in plain:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


@pytest.mark.parametrize(("name", "kind"), [("rayjob", "RayJob"), ("raycluster", "RayCluster")])
def test_the_examples_are_in_step_and_of_the_published_form(name, kind):
    text = (CLUSTER / "kuberay" / f"{name}.yaml").read_text()
    assert render(run_file.load(RUN_FILE), RUN_FILE.read_text(), (), kind) == text
    for document in yaml.safe_load_all(text):
        check(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "backoffLimit"), "3"),
        (("spec", "entryPoint"), "misspelt"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "basic"),
        (("spec", "rayClusterSpec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "restartPolice"), "Never"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "containers"), [{"image": "nameless"}]),
    ],
)
def test_the_schema_refuses_what_kubernetes_would(path, value):
    job = documents()[1]
    check(job)
    at = job
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(REFUSED):
        check(job)


@pytest.mark.parametrize(
    ("scheduler", "labels", "suspended"),
    [
        ("kueue", {"kueue.x-k8s.io/queue-name": "research"}, True),
        ("volcano", {"ray.io/scheduler-name": "volcano", "volcano.sh/queue-name": "research"}, False),
        ("none", {}, False),
    ],
)
def test_the_job_is_admitted_as_a_whole(scheduler, labels, suspended):
    job = documents(f"ray.k8s.scheduler={scheduler}")[1]
    check(job)
    assert job["metadata"]["labels"] == {"app.kubernetes.io/name": "thinkrec", **labels}
    assert job["spec"]["suspend"] is suspended
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == 16


@pytest.mark.parametrize(
    ("overrides", "nodes"),
    [
        ((), 16),  # 32 groups of 4, two a node
        (("train.num_workers=256",), 32),
        (("train.workers_per_group=3", "train.experts.batch_size=63"), 16),  # two GPUs of each node stay idle
        (("train.use_gpu=false", "ray.k8s.cpus_per_node=34"), 4),
    ],
)
def test_there_are_nodes_for_the_widest_stage(overrides, nodes):
    assert num_nodes(run_file.load(RUN_FILE, overrides)) == nodes


def test_a_group_wider_than_a_node_is_refused():
    with pytest.raises(ConfigError, match="does not fit a node of 2"):
        num_nodes(run_file.load(RUN_FILE, ["ray.k8s.gpus_per_node=2"]))


def test_the_head_holds_a_controller_a_group_and_pods_ask_for_what_is_named():
    job = documents("train.num_groups=128", 'ray.k8s.node_resources=["rdma/hca=1"]')[1]
    check(job)
    cluster = job["spec"]["rayClusterSpec"]
    head, workers = (group["template"]["spec"]["containers"][0] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]))
    assert head["resources"]["limits"]["memory"] == "64Gi"
    assert "rdma/hca" not in head["resources"]["limits"]
    assert workers["resources"]["limits"]["rdma/hca"] == workers["resources"]["requests"]["rdma/hca"] == "1"


def test_a_cpu_run_asks_for_no_gpu_and_overrides_travel():
    job = documents("train.use_gpu=false", "prompt.domain=board game")[1]
    assert "nvidia.com/gpu" not in json.dumps(job)
    assert job["spec"]["entrypoint"].endswith("--set train.use_gpu=false --set 'prompt.domain=board game'")


def test_secrets_are_named_and_never_held(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    for kind in ("RayJob", "RayCluster"):
        text = json.dumps(documents(kind=kind))
        assert "planted-secret" not in text
        assert text.count('{"name": "thinkrec-env", "key": "AWS_SECRET_ACCESS_KEY"}') == 2  # head and workers
        assert '"authOptions": {"mode": "token", "secretName": "thinkrec-token"}' in text


def test_the_slurm_script_parses_and_asks_for_its_run_file():
    script = CLUSTER / "slurm" / "thinkrec.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "usage" in done.stderr


def test_the_dashboard_shows_each_metric_once():
    board = json.loads((CLUSTER / "grafana" / "thinkrec.json").read_text())
    shown = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    for metric in ("expert_step", "expert_tokens_per_s", "expert_loss", "gpu_idle_share"):
        assert shown.count(f"ray_thinkrec_{metric})") == 1
    assert len({panel["id"] for panel in board["panels"]}) == 4


def test_the_example_of_a_service_is_in_step_and_of_the_published_form():
    text = (CLUSTER / "kuberay" / "rayservice.yaml").read_text()
    assert render_service(run_file.load(RUN_FILE), "packages/mine", "THINKREC_KEY", 2) == text
    (document,) = yaml.safe_load_all(text)
    check(document)
    document["spec"]["serveConfig"] = document["spec"].pop("serveConfigV2")
    with pytest.raises(REFUSED):
        check(document)


def test_ray_serve_reads_the_config_of_a_service_and_its_builder_makes_the_application(packaged, monkeypatch):
    from ray.serve import Application
    from ray.serve._private.utils import import_attr
    from ray.serve.schema import ServeDeploySchema

    settings = run_file.load(RUN_FILE, ["train.use_gpu=false"])
    (document,) = yaml.safe_load_all(render_service(settings, str(packaged), "THINKREC_KEY", 3))
    assert document["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]["replicas"] == 3
    (told,) = ServeDeploySchema.model_validate(yaml.safe_load(document["spec"]["serveConfigV2"])).applications
    build = import_attr(told.import_path)
    monkeypatch.delenv("THINKREC_KEY", raising=False)
    with pytest.raises(EnvironmentFault, match="THINKREC_KEY is not set"):
        build(told.args)
    monkeypatch.setenv("THINKREC_KEY", "planted-secret-of-a-length")
    assert isinstance(build(told.args), Application)
    assert "planted-secret" not in json.dumps(document)
    assert '{"name": "thinkrec-env", "key": "THINKREC_KEY"}' in json.dumps(document)

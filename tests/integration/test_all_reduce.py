"""The collective check on two real ranks over gloo, without Ray: a sum that is right, and one that a broken link has spoilt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thinkrec.deploy import preflight
from thinkrec.deploy.probe import Reduced

RANK = """
import sys
import torch.distributed as dist
from thinkrec.deploy.probe import ReduceTask, all_reduce
from thinkrec.distributed.worker_group import Worker

dist.init_process_group("gloo")
real = dist.all_reduce
def broken(tensor, *arguments):
    real(tensor, *arguments)
    if dist.get_rank() == 1 and tensor.numel() > 1:
        tensor[7] += 1
if sys.argv[2] == "broken":
    dist.all_reduce = broken
all_reduce(Worker(dist.get_rank(), world_size=2), ReduceTask(sys.argv[1], num_bytes=4096, num_repeats=2))
dist.destroy_process_group()
"""


@pytest.mark.parametrize(("link", "state"), [("sound", "ok"), ("broken", "fail")])
def test_two_ranks_sum_a_buffer(link, state, tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, tmp_path / "rank.py", tmp_path / "out.json", link], check=True, env=environment, timeout=300)
    found = Reduced(**json.loads((tmp_path / "out.json").read_text()))
    assert found.gbytes_per_s > 0
    check = preflight.judge_collective(found)
    assert (check.state, "2 workers over gloo" in check.detail) == (state, True)

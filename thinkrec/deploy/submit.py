"""Sending a run to a Ray cluster as a job: the exact `ray job submit` line, or the same through Ray's client.

The job runs the same command that a person would; artefacts live in `run.dir`, so sending it again resumes.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thinkrec.config.run import Config
from thinkrec.distributed.address import check_address
from thinkrec.errors import ConfigError, EnvironmentFault

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

EXCLUDES = (".git", ".venv", "runs", "dist", "build")  # of the working directory; Ray also obeys .gitignore
LIVE = ("PENDING", "RUNNING")


@dataclass(frozen=True)
class Submission:
    """A job as Ray takes it."""

    address: str
    entrypoint: str
    runtime_env: dict[str, object]
    run_dir: str

    def line(self) -> str:
        """The command that sends it, for a shell."""
        env = {key: value for key, value in self.runtime_env.items() if key != "working_dir"}
        words = ["ray", "job", "submit", "--address", self.address, "--working-dir", str(self.runtime_env["working_dir"])]
        metadata = json.dumps({"run_dir": self.run_dir})
        words += ["--runtime-env-json", json.dumps(env), "--metadata-json", metadata, "--", *shlex.split(self.entrypoint)]
        return shlex.join(words)


def make_submission(config: Config, file: Path, overrides: Sequence[str] = (), until: str | None = None) -> Submission:
    """The job that runs this file; raises ConfigError unless the file travels with the working directory and the run folder stays."""
    if "://" not in config.run.dir and not Path(config.run.dir).is_absolute():
        raise ConfigError(
            f"run.dir = {config.run.dir!r} is relative: a job works in a copy of the working directory, so nothing could be resumed",
            "run.dir",
            "name an absolute folder that all nodes share, or an s3:// or gs:// address",
        )
    folder = Path(config.ray.working_dir).absolute()
    if not folder.is_dir():
        raise ConfigError("the working directory is not there", str(folder), "fix ray.working_dir")
    inside = os.path.relpath(file.absolute(), folder)
    if inside.startswith(".."):
        raise ConfigError(
            f"the run file lies outside the working directory {folder}",
            str(file),
            "move it there, or set ray.working_dir: the job takes that folder along and nothing else",
        )
    words = ["python", "-m", "thinkrec", "run", inside]
    words += [word for override in overrides for word in ("--set", override)]
    words += ["--until", until] if until else []
    return Submission(
        config.ray.dashboard, shlex.join(words), {"working_dir": config.ray.working_dir, "excludes": list(EXCLUDES)}, config.run.dir
    )


def send(submission: Submission, insecure: bool, echo: Callable[[str], None]) -> int:
    """Send the job, echo its log as it comes, and return its exit code; raises EnvironmentFault when Ray does not take it.

    A run that is being made by a living job is not sent twice: two drivers would write the same artefacts.
    """
    from ray.job_submission import JobSubmissionClient

    check_address(submission.address, insecure)
    try:
        client = JobSubmissionClient(submission.address)
        _refuse_second(client, submission)
        job = client.submit_job(
            entrypoint=submission.entrypoint,
            runtime_env=submission.runtime_env,
            metadata={"run_dir": submission.run_dir},
            submission_id=f"thinkrec-{uuid.uuid4().hex[:12]}",
        )
    except (ConnectionError, RuntimeError) as error:
        raise EnvironmentFault(
            f"Ray did not take the job: {error}", submission.address, "look at ray.dashboard, RAY_AUTH_MODE and the token"
        ) from None
    asyncio.run(_follow(client, job, echo))
    found = client.get_job_info(job)
    echo(f"job {job}: {found.status}\n")
    code: int | None = found.driver_exit_code
    return code if code is not None else EnvironmentFault.exit_code


def _refuse_second(client: JobSubmissionClient, submission: Submission) -> None:
    for job in client.list_jobs():
        if str(job.status) in LIVE and (job.metadata or {}).get("run_dir") == submission.run_dir:
            raise EnvironmentFault(
                f"job {job.submission_id} is making this run already",
                submission.run_dir,
                f"wait for it, or stop it: ray job stop --address {submission.address} {job.submission_id}",
            )


async def _follow(client: JobSubmissionClient, job: str, echo: Callable[[str], None]) -> None:
    async for lines in client.tail_job_logs(job):
        echo(lines)

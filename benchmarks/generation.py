"""How much of an engine's speed does the driver of generation let through, and how many accepted traces a second come of it?

The engine is a mock behind a real server of its own process: so many slots, each some milliseconds a token, lengths after Zipf, all seeded
by the prompt. So the ideal is known: slots / seconds a token. On the same server, one after the other, with equal connections, in a quarter
of an hour:

  driver      `stream`: Ray Data, the http engine, guard and ledger (shards synced to disk)
  asyncio     a plain loop over a semaphore that keeps answers in memory and commits nothing
  datatrove   InferenceRunner with checkpoints, the runner people would take instead (pip install 'datatrove[inference]')
  traces      the driver again over a quarter as many rows, with the dialogue of the trace stage: wrong verdicts are asked again

All must bring the same text for each prompt before a ratio is printed. Starting Ray is not timed; what the arm itself needs, from the first
row handed over to the last answer at hand, is; `start_s` of it passed before the server saw a request.

    python benchmarks/generation.py            print the ratios as JSON
    python benchmarks/generation.py --store    and keep them in benchmarks/baselines/generation.json

With a GPU the same questions are put to vLLM's own server (engine.kind = "http"):
    python -m vllm.entrypoints.openai.api_server --model FOLDER --dtype bfloat16 --max-model-len 4096 --max-num-seqs 256 \\
        --enable-prefix-caching --enable-chunked-prefill --gpu-memory-utilization 0.92
    engine.http.num_parallel = 320 (a quarter above max-num-seqs, so that no slot waits for us), engine.shard_rows = 256
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aiohttp
import pyarrow as pa
from _baseline import show

from thinkrec.config import run as run_file
from thinkrec.config.generation import TracesSection
from thinkrec.distributed.session import ray_session
from thinkrec.generate.engines.open import open_engine
from thinkrec.generate.keywords.stage import KEYWORD_ANSWERS, Extract
from thinkrec.generate.keywords.stage import KEYWORD_QUESTIONS as PROMPTS
from thinkrec.generate.rows.stream import stream
from thinkrec.generate.traces.dialogue import TEACHER_ATTEMPTS, TEACHER_QUESTIONS, AskTeacher, judge
from thinkrec.job import Job
from thinkrec.nano.analyses import write_lesson
from thinkrec.prompt.claims import Facts
from thinkrec.store.artefacts import Store

NUM_ROWS, NUM_SLOTS, NUM_PARALLEL, TOKEN_S, MAX_TOKENS, EXPONENT = 40_000, 32, 48, 0.02, 400, 0.9
SHARD_ROWS = 256
RIGHT_SHARE = 0.6  # of the verdicts
GOAL = 0.95
FACTS = Facts(((("noir",), True), (("heist",), False)), ("noir", "heist"), "(noir): liked (heist): disliked (noir, heist)")


def draw(prompt: str, seed: int) -> float:
    """A number in [0, 1) that follows from prompt and seed."""
    return int(hashlib.sha256(f"{seed} {prompt}".encode()).hexdigest()[:12], 16) / 16**12


def num_tokens(prompt: str) -> int:
    """Zipf-like: short answers are many, the longest has MAX_TOKENS."""
    return max(8, int(MAX_TOKENS / (1 + draw(prompt, 0) * (MAX_TOKENS - 1)) ** EXPONENT))


def text_of(prompt: str, seed: int) -> str:
    """A reasoning that holds, of the length drawn, and a verdict that is right as often as RIGHT_SHARE says (every row is liked)."""
    words = " ".join(f"w{int(draw(prompt, n) * 1e6)}" for n in range(1, num_tokens(prompt) - 6))
    return f"{write_lesson(FACTS)} {words} {'Yes' if draw(prompt, seed) < RIGHT_SHARE else 'No'}"


class MockServer:
    """Slots that take TOKEN_S a token; what is asked beyond them waits. Tells what it has done at /stats, and forgets it."""

    def __init__(self) -> None:
        self.slots, self.stats = asyncio.Semaphore(NUM_SLOTS), dict[str, float]()

    async def complete(self, request: Any) -> Any:
        self.stats.setdefault("begun_s", time.monotonic())
        body = await request.json()
        prompt, tokens = body["prompt"], num_tokens(body["prompt"])
        async with self.slots:
            await asyncio.sleep(tokens * TOKEN_S)
        self.stats["tokens"] = self.stats.get("tokens", 0) + tokens
        choice = {"text": text_of(prompt, body.get("seed") or 0), "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        return aiohttp.web.json_response({"choices": [choice], "usage": usage})

    async def models(self, request: Any) -> Any:
        return aiohttp.web.json_response({"data": [{"id": "mock"}]})

    async def tell(self, request: Any) -> Any:
        told, self.stats = self.stats, {}
        return aiohttp.web.json_response(told)


def serve() -> None:
    """Run the mock server on a free port, which it prints."""
    import aiohttp.web

    async def main() -> None:
        mock, app = MockServer(), aiohttp.web.Application()
        app.router.add_post("/v1/completions", mock.complete)
        app.router.add_get("/v1/models", mock.models)
        app.router.add_get("/stats", mock.tell)
        runner = aiohttp.web.AppRunner(app, access_log=None)
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())


@contextmanager
def serving() -> Iterator[str]:
    """The address of a mock server in a process of its own."""
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"  # type: ignore[union-attr]
    finally:
        process.terminate()


def run_stream(url: str, folder: Path, recipe: dict[str, Any], rows: pa.Table, ask: Any, schema: pa.Schema) -> list[dict[str, Any]]:
    """The driver itself."""
    http = {"url": f"{url}/v1", "num_parallel": NUM_PARALLEL}
    config = run_file.parse({"run": {"dir": str(folder)}, "engine": {"kind": "http", "shard_rows": SHARD_ROWS, "http": http}})
    store = Store(str(folder))
    with store.create("bench", "k", {}, {}) as draft:
        job = Job(config, {}, draft, store, "k", lambda event: None)
        answers: list[dict[str, Any]] = stream(
            job, "bench", recipe, rows, ask, schema, partial(open_engine, config.engine, "mock")
        ).to_pylist()
    return answers


def driver(url: str, folder: Path, prompts: list[str]) -> dict[str, str]:
    rows = pa.table({"id": [str(n) for n in range(len(prompts))], "prompt": prompts}, schema=PROMPTS)
    answers = run_stream(url, folder, {"arm": "driver"}, rows, Extract(MAX_TOKENS), KEYWORD_ANSWERS)
    return {prompts[int(answer["id"])]: answer["text"] for answer in answers}


def plain_asyncio(url: str, folder: Path, prompts: list[str]) -> dict[str, str]:
    async def main() -> dict[str, str]:
        gate, connector = asyncio.Semaphore(NUM_PARALLEL), aiohttp.TCPConnector(limit=NUM_PARALLEL)

        async def ask(prompt: str) -> str:
            async with gate, session.post(f"{url}/v1/completions", json={"prompt": prompt, "seed": 0}) as response:
                answer = await response.json()
            return str(answer["choices"][0]["text"])

        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as session:
            return dict(zip(prompts, await asyncio.gather(*map(ask, prompts)), strict=True))

    return asyncio.run(main())


def datatrove(url: str, folder: Path, prompts: list[str]) -> dict[str, str]:
    from datatrove.data import Document
    from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
    from datatrove.pipeline.writers import JsonlWriter

    async def rollout(document: Document, generate: Callable[[dict[str, Any]], Any]) -> str:
        return str((await generate({"prompt": document.text, "seed": 0})).text)

    config = InferenceConfig(
        server_type="endpoint",
        model_name_or_path="mock",
        use_chat=False,
        endpoint_url=url,
        max_concurrent_generations=NUM_PARALLEL,
        server_ready_delay_sec=0.1,
    )
    writer = JsonlWriter(str(folder / "datatrove"), output_filename="${rank}_${chunk_index}.jsonl", compression=None)
    runner = InferenceRunner(rollout, config, writer, checkpoints_local_dir=str(folder / "checkpoints"), records_per_chunk=SHARD_ROWS)
    runner.run((Document(prompt, str(n)) for n, prompt in enumerate(prompts)), 0, 1)
    lines = [json.loads(line) for file in (folder / "datatrove").glob("*.jsonl") for line in file.read_text().splitlines()]
    return {line["text"]: line["metadata"]["rollout_results"][0] for line in lines}


def traces(url: str, folder: Path, prompts: list[str]) -> int:
    """The accepted traces of the dialogue about as many rows."""
    facts, settings = json.dumps(asdict(FACTS)), TracesSection(max_tokens=MAX_TOKENS)
    rows = [
        {"id": str(n), "user_id": "u", "label": 1, "parts": [], "texts": [prompt, "", ""], "facts": facts}
        for n, prompt in enumerate(prompts)
    ]
    ask = AskTeacher(settings, 0, frozenset({"noir", "heist"}))
    answers = run_stream(url, folder, {"arm": "traces"}, pa.Table.from_pylist(rows, schema=TEACHER_QUESTIONS), ask, TEACHER_ATTEMPTS)
    return sum(not judge(rows[int(answer["id"])], answer, settings, ask.vocabulary)["reason"] for answer in answers)


def timed(arm: Callable[..., Any], url: str, prompts: list[str]) -> tuple[Any, dict[str, float]]:
    """What an arm brought, and its share of the ideal tokens a second."""
    urlopen(f"{url}/stats").read()
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        brought = arm(url, Path(folder), prompts)
        wall_s = time.monotonic() - begun
    told = json.loads(urlopen(f"{url}/stats").read())
    share = told["tokens"] / wall_s * TOKEN_S / NUM_SLOTS
    figures = {"wall_s": wall_s, "start_s": told["begun_s"] - begun, "tokens": told["tokens"], "share_of_ideal": share}
    return brought, {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    """Print, and with --store keep, the ratios."""
    prompts = [f"question {n}" for n in range(NUM_ROWS)]
    arms: dict[str, Callable[..., Any]] = {"asyncio": plain_asyncio, "driver": driver, "datatrove": datatrove}
    with serving() as url, ray_session(run_file.parse({"ray": {"num_cpus": 4}})):
        timed(driver, url, prompts[:64])  # the first actor imports what every later one finds in the page cache
        found = {name: timed(arm, url, prompts) for name, arm in arms.items()}
        num_accepted, told = timed(traces, url, prompts[: NUM_ROWS // 4])
    expected = {prompt: text_of(prompt, 0) for prompt in prompts}
    for name, (brought, _) in found.items():
        if name != "driver":  # its requests carry the seed of their own parameters, which is 0, too
            assert brought == expected, f"{name} brought other texts"
    assert found["driver"][0] == expected
    figures = {name: share for name, (_, share) in found.items()}
    ours = figures["driver"]["share_of_ideal"]
    result = {
        "question": "share of the ideal tokens/s that the driver lets through, beside a plain asyncio loop and datatrove's runner",
        "goal": GOAL,
        "accepted_traces_per_s": round(num_accepted / told["wall_s"], 2),
        "tokens_per_accepted_trace": round(told["tokens"] / num_accepted, 1),
        "traces": told,
        **figures,
        "driver_over_asyncio": round(ours / figures["asyncio"]["share_of_ideal"], 3),
        "driver_over_datatrove": round(ours / figures["datatrove"]["share_of_ideal"], 3),
        "mock": {"rows": NUM_ROWS, "slots": NUM_SLOTS, "connections": NUM_PARALLEL, "token_s": TOKEN_S, "shard_rows": SHARD_ROWS},
    }
    show(__file__, result)


if __name__ == "__main__":
    serve() if "--serve" in sys.argv[1:] else main()

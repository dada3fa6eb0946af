"""Explanations: what the fused model says by itself to a sample of scored rows, and how their scores respond to what it cites."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinkrec.config.run import Config
from thinkrec.prompt.catalogue import ArtefactPaths, PromptData, load_tables
from thinkrec.prompt.claims import Facts, cited, facts_of
from thinkrec.prompt.template import VERDICTS
from thinkrec.routing.gate_table import Routing
from thinkrec.score.counterfactual import History, responses
from thinkrec.score.scorer import Answer, Scorer
from thinkrec.score.serving import serving_model

Explained = list[dict[str, Any]]


def explain_rows(config: Config, places: ArtefactPaths, rows: Explained) -> tuple[Explained, Explained]:
    """Scored rows of the fusion (columns SCORES) as rows of EXPLANATIONS and COUNTERFACTUALS, see artefacts/scores.py."""
    tables, routing = load_tables(config, places, users={row["user_id"] for row in rows}), Routing(places)
    speaker = Scorer(config, serving_model(config, places, tables, routing.num_experts), tables)
    position_of = {int(row): at for at, row in enumerate(tables.interactions.row)}
    positions = [position_of[row["row"]] for row in rows]
    gates = routing.gates(routing.variants[-1], [row["user_id"] for row in rows])
    served = np.array([row["score"] for row in rows], np.float32)
    speeches = speaker.speak([tables.prompt(at) for at in positions], tables.interactions.user[positions].tolist(), gates, served)
    explained, rescored = [], []
    for row, position, speech, own_gates in zip(rows, positions, speeches, gates, strict=True):
        explained.append(explanation(speaker, row, position, speech))
        history, facts = _shown(tables, position)
        for response in _responses(speaker, position, history, cited(speaker.text(speech), facts), own_gates):
            item_id = tables.interactions.item_ids[response.pop("item")]
            rescored.append({"row": row["row"], "user_id": row["user_id"], "item_id": item_id, **response})
    return explained, rescored


def _shown(tables: PromptData, position: int) -> tuple[History, Facts]:
    """The interactions that the prompt at `position` shows, and its facts."""
    history, prompt = tables.history(position), tables.prompt(position)
    facts = facts_of(tables.template, history, int(tables.interactions.item[position]), prompt)
    return history[len(history) - prompt.num_history :], facts


def explanation(speaker: Scorer, row: Mapping[str, Any], position: int, speech: Answer) -> dict[str, Any]:
    """The columns of EXPLANATIONS about the scored row at `position`, of which `row` has those of SCORES."""
    tables = speaker.tables
    _, facts = _shown(tables, position)
    return {
        **row,
        "title": tables.template.items[int(tables.interactions.item[position])].title,
        "verdict": VERDICTS[int(row["score"] > 0)],
        "said": "" if speech.verdict is None else VERDICTS[speech.verdict],
        "text": speaker.text(speech),
        "finish_reason": "stop" if speech.finished else "length",
        "prompt": facts.shown,
        "facts": json.dumps(asdict(facts)),
    }


def _responses(speaker: Scorer, position: int, history: History, named: Sequence[bool], gates: NDArray[np.float32]) -> Explained:
    tables = speaker.tables
    target, user = int(tables.interactions.item[position]), int(tables.interactions.user[position])

    def score(histories: Sequence[History]) -> NDArray[np.float32]:
        prompts = [tables.template.write(history, target, tables.counted(position)) for history in histories]
        return speaker.scores(prompts, [user] * len(prompts), np.tile(gates, (len(prompts), 1)))

    return responses(history, named, score)

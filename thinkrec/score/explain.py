"""Explanations: the fused model says its verdict, then goes on to reason."""

from __future__ import annotations

from typing import Any

import torch

from thinkrec.config import Config, parse
from thinkrec.model.batch import Row, collate
from thinkrec.model.prompt import VERDICTS
from thinkrec.model.recommender import Recommender
from thinkrec.model.tables import Places, Tables, load_tables
from thinkrec.score.routing import Routing, serving_model

MIN_TOKENS = 4  # a model that mostly saw bare verdicts would end at once


def explain_rows(config: dict[str, Any], places: dict[str, str], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Explanations of scored rows (row, user_id, item_id, label, score, p_like, route), as columns of explanations.parquet."""
    settings, where = parse(config), Places(places)
    tables = load_tables(settings, where, users={row["user_id"] for row in rows})
    routing = Routing(where)
    recommender = serving_model(settings, where, tables, routing.num_experts)
    position_of = {int(row): at for at, row in enumerate(tables.interactions.row)}
    explained = []
    for row in rows:
        gates = torch.from_numpy(routing.gates("fusion", [row["user_id"]]))
        position = position_of[row["row"]]
        text, finished = explain(settings, recommender, tables, position, gates, liked=row["score"] > 0)
        explained.append(
            {
                **{name: row[name] for name in ("row", "user_id", "item_id", "label", "score", "p_like", "route")},
                "title": tables.template.items[int(tables.interactions.item[position])].title,
                "verdict": VERDICTS[int(row["score"] > 0)],
                "text": text,
                "finish_reason": "stop" if finished else "length",
                "prompt": tables.template.text(tables.prompt(position)),
            }
        )
    return explained


def explain(config: Config, recommender: Recommender, tables: Tables, position: int, gates: torch.Tensor, liked: bool) -> tuple[str, bool]:
    """The reasoning after the verdict (answer = "first") or before it, greedy, and whether it came to its own end."""
    template = tables.template
    prompt = tables.prompt(position)
    verdict = template.verdict_ids[int(liked)]
    answer = [verdict, verdict] if config.prompt.answer == "first" else [verdict]  # collate drops the last answer token
    row = Row(prompt, answer, 0, int(tables.interactions.user[position]), 0.0, 0.0, 0.0)
    pad_id = template.tokenizer.pad_token_id
    batch = collate([row], gates, tables.item_vectors, tables.user_vectors, pad_id, text_loss=False).to(recommender.device)
    recommender.bank.gates.rows, recommender.bank.gates.fusion = batch.gates, config.evaluate.fusion
    with torch.inference_mode():
        embedded = recommender.embed(batch)
        ids = recommender.llm.generate(
            inputs_embeds=embedded,
            attention_mask=torch.ones(embedded.shape[:2], dtype=torch.int64, device=embedded.device),
            max_new_tokens=config.prompt.max_answer_tokens,
            min_new_tokens=MIN_TOKENS,
            do_sample=False,
            pad_token_id=pad_id,
            eos_token_id=template.tokenizer.eos_token_id,
        )[0].tolist()
    finished = template.tokenizer.eos_token_id in ids
    text = template.tokenizer.decode([token for token in ids if token != template.tokenizer.eos_token_id], skip_special_tokens=True)
    return str(text).strip(), finished

"""The chat template of a base or a teacher: what it puts around the user's words, on any day the same."""

from __future__ import annotations

import re
from datetime import date

from thinkrec.errors import ModelError
from thinkrec.prompt.tokenizer import Tokenizer

# Stands for a prompt while the template is tried: as long, with the line breaks, quotes and capitals that a prompt may have.
MARKER = "\n".join(f'"Item {number}" (<b>It\'s</b> & THAT, ü): liked' for number in range(60))
QUOTES = ("''", '""', "``", "“”", "«»")
FIX = "fix the template, or remove it from the folder: prompts are then plain text"


def surroundings(tokenizer: Tokenizer, day: str) -> tuple[str, str]:
    """What stands before and after the words of a lone user message, up to where the answer begins.

    `day`, an ISO date, is today for a template that asks. Raises ModelError unless the words come through once, unchanged and ahead of the
    answer's own header.
    """
    where = str(tokenizer.name_or_path or "tokenizer")
    if re.search(r"\|\s*random\b", str(tokenizer.chat_template)):
        raise ModelError("the chat template draws lots", where, FIX)
    whole, asked = (_render(tokenizer, day, where, opens_answer) for opens_answer in (True, False))
    head, _, tail = whole.partition(MARKER)
    if (num_found := whole.count(MARKER)) != 1 or "Item 0" in (head + tail).title():
        raise ModelError(f"the chat template does not show the user's words once as they are ({num_found} times)", where, FIX)
    if not asked.startswith(head + MARKER):
        raise ModelError("the chat template opens the answer before the user's words", where, FIX)
    if head[-1:] + tail[:1] in QUOTES:
        raise ModelError("the chat template quotes the user's words", where, FIX)
    return head, tail


def _render(tokenizer: Tokenizer, day: str, where: str, opens_answer: bool) -> str:
    messages = [{"role": "user", "content": MARKER}]
    try:
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=opens_answer, strftime_now=date.fromisoformat(day).strftime
            )
        )
    except Exception as error:  # whatever a template may do
        raise ModelError(f"the chat template fails: {error}", where, FIX) from error

"""What a chat template puts around the user's words: tried with words that must come through, and without the clock."""

from __future__ import annotations

from datetime import datetime

import pytest
from tiny_folder import CHAT, make_tokenizer

from thinkrec.config.model import PromptSection
from thinkrec.errors import ConfigError, ModelError
from thinkrec.prompt.chat import surroundings
from thinkrec.prompt.template import ItemText, Template, verdict_ids

DAY = "2024-07-26"
# As Llama 3.2 and Granite ask for the day.
DATED = "Today is {% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}never{% endif %}. " + CHAT


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def test_the_words_stand_between_what_the_template_says(tokenizer):
    tokenizer.chat_template = CHAT
    assert surroundings(tokenizer, DAY) == ("<user>", "</user><assistant>")


def test_a_template_that_asks_for_the_day_is_told_the_settings(tokenizer, monkeypatch):
    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 1, 2)

    tokenizer.chat_template = DATED
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    today = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert today.startswith("Today is 02 Jan 2031")  # the control: asked for the clock, the template has it
    assert surroundings(tokenizer, DAY)[0] == "Today is 26 Jul 2024. <user>"
    prompts = [Template(tokenizer, [ItemText("x")], PromptSection(date=day)).write([], 0).ids for day in (DAY, DAY, "2025-01-01")]
    assert prompts[0] == prompts[1] != prompts[2]


def test_the_day_is_in_the_keys_of_the_stages_that_write_prompts(make_config):
    from thinkrec.pipeline.keys import stage_keys
    from thinkrec.pipeline.stages import select_stages

    one, other = (stage_keys(make_config({"prompt": {"date": day}})) for day in (DAY, "2025-01-01"))
    changed = {stage for stage in one if one[stage] != other[stage]}
    assert changed == {stage.name for stage in select_stages(make_config())} - {
        "ingest",
        "encode",
        "cluster",
        "extractor",
        "keywords",
        "prior",
    }


def test_a_day_that_is_none_is_refused(make_config):
    with pytest.raises(ConfigError, match=r"prompt\.date"):
        make_config({"prompt": {"date": "26 Jul 2024"}})


def test_named_templates_need_a_default(tokenizer):
    tokenizer.chat_template = {"default": CHAT, "tool_use": "x"}
    assert surroundings(tokenizer, DAY)[0] == "<user>"
    tokenizer.chat_template = {"tool_use": CHAT}
    with pytest.raises(ModelError, match="no default"):
        surroundings(tokenizer, DAY)


def test_verdicts_that_are_one_unknown_token_are_refused(tokenizer):
    class Deaf:
        chat_template = None

        def encode(self, text, add_special_tokens):
            return [0]

    with pytest.raises(ModelError, match="the same token"):
        verdict_ids(Deaf())
    tokenizer.chat_template = None
    assert len(set(verdict_ids(tokenizer))) == 2

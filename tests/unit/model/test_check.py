"""Who uses a model folder decides what it must hold."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from tiny_folder import make_folder, put, without

from thinkrec.errors import ModelError
from thinkrec.model.check import BaseFolder, GeneratorFolder

DAY = "2024-07-26"
QUANTISED = put("config.json", quantization_config={"quant_method": "awq"})


def speaker(folder, kind):
    return GeneratorFolder(str(folder), "traces.teachers", DAY, kind)


@pytest.mark.parametrize(("kind", "taken"), [("hf", False), ("vllm", True), ("http", True)])
def test_a_quantised_teacher_is_for_who_can_read_it(kind, taken, tmp_path):
    QUANTISED(make_folder(tmp_path))
    with nullcontext() if taken else pytest.raises(ModelError, match="quantised"):
        speaker(tmp_path, kind).check()


@pytest.mark.parametrize(("kind", "taken"), [("hf", False), ("vllm", False), ("http", True)])
def test_a_teacher_without_a_head_is_refused_where_its_weights_are_loaded(kind, taken, tmp_path):
    without("lm_head.weight")(make_folder(tmp_path))
    with nullcontext() if taken else pytest.raises(ModelError, match=r"lm_head\.weight"):
        speaker(tmp_path, kind).check()


def test_a_model_that_does_not_say_its_length_writes_nothing(tmp_path):
    folder = make_folder(tmp_path, "bloom", n_layer=1, n_head=4)
    put("config.json", max_position_embeddings=None)(folder)
    with pytest.raises(ModelError, match="max_position_embeddings"):
        speaker(folder, "hf").check()


def test_transformers_is_as_loud_as_before(tmp_path):
    from transformers.utils import logging

    folder = make_folder(tmp_path)
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    BaseFolder(str(folder), ("q_proj",), DAY).check()
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before

"""The tables of the run file that say what is learned: [encoder], [cluster], [base], [prompt] and [adapter]; see run.py."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from thinkrec.config.section import Count, Positive, Section, Share

FITS: dict[str, dict[str, float]] = {  # what EncoderSection defaults to where it differs from MF
    "lightgcn": {"dim": 64, "lr": 0.005},
    "sasrec": {"dim": 64, "num_epochs": 20, "batch_size": 64, "lr": 1e-3, "weight_decay": 0.1},
}


class LightGCNSection(Section):
    num_layers: Count = 2


class SASRecSection(Section):
    length: Count = 25  # rows of a user that a state sees
    num_blocks: Count = 2
    num_heads: Count = 1
    dropout: Share = 0.2
    feedback: bool = True  # the sequence says which rows were liked; false: it says only which items came, as published


class EncoderSection(Section):
    source: Literal["mf", "lightgcn", "sasrec", "given"] = "mf"
    users_path: str = ""  # source = "given": parquet with (id, vector)
    items_path: str = ""
    # Of the encoder that is learned; these defaults are MF's, FITS has the others'.
    dim: Count = 16
    num_epochs: Count = 20
    batch_size: Count = 1024  # rows; SASRec: pieces of sequences
    lr: Positive = 0.01
    weight_decay: float = Field(default=0.05, ge=0)
    lightgcn: LightGCNSection = LightGCNSection()
    sasrec: SASRecSection = SASRecSection()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_source(cls, tree: Any) -> Any:
        return FITS.get(str(tree.get("source")), {}) | tree if isinstance(tree, dict) else tree

    @model_validator(mode="after")
    def _paths_are_named(self) -> Self:
        if self.source == "given" and not (self.users_path and self.items_path):
            raise ValueError('encoder.source = "given" needs encoder.users_path and encoder.items_path')
        return self

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.source == "sasrec" and self.dim % self.sasrec.num_heads:
            raise ValueError(f"encoder.dim {self.dim} does not divide by encoder.sasrec.num_heads {self.sasrec.num_heads}")
        return self


class ClusterSection(Section):
    num_clusters: int = Field(default=2, ge=0)  # 0: chosen between 2 and max_clusters by the silhouette on train users
    max_clusters: int = Field(default=6, ge=2)
    num_iterations: Count = 25
    max_points_per_centroid: Count = 256
    temperature: Positive = 0.1
    expert_threshold: float = 0.5  # one expert alone when max gate > expert_threshold + expert_slope / K
    expert_slope: float = 0.6
    entropy_share: Share = 0.95  # global when the entropy of the gates reaches this share of ln K


class NanoSection(Section):
    """A small Llama and its tokenizer, trained here on train text; head_dim 32 is one that vLLM has kernels for."""

    hidden_size: int = Field(default=64, ge=32, multiple_of=32)
    num_layers: Count = 2
    vocab_size: Count = 1024  # word pieces, before titles are added
    title_tokens: bool = True  # one token for each title seen in train
    window: Count = 24  # interactions in one line of train text
    num_epochs: Count = 10
    batch_size: Count = 32
    lr: Positive = 2e-3
    weight_decay: float = Field(default=0.05, ge=0)
    dropout: Share = 0.0
    title_dropout: Share = 0.8  # lines that withhold the title: few rows a title invite learning it by heart, and new items have none
    question_share: Share = 0.4  # share of lines asked as the prompt's question instead of told with a mark
    ds_config: str = "nano"  # as train.ds_config; too small to cut up: ZeRO-3's gathers took a third of a step on two CPU workers
    num_spoken: int = Field(default=0, ge=0)  # train rows that go on to an analysis written by rule, so that the base can speak
    text_weight: float = Field(default=0.1, ge=0)  # loss weight of tokens that are neither a mark nor a verdict, whose weight is 1


class BaseSection(Section):
    source: Literal["nano", "folder"] = "nano"
    path: str = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    nano: NanoSection = NanoSection()

    @model_validator(mode="after")
    def _path_is_named(self) -> Self:
        if self.source == "folder" and not self.path:
            raise ValueError('base.source = "folder" needs base.path, a Hugging Face folder with safetensors')
        return self


class PromptSection(Section):
    history_length: Count = 10
    history_policy: Literal["rolling", "train_only"] = "rolling"
    history_dislikes: bool = True  # false: a history shows the last likes alone; counted rates (priors) still count dislikes
    domain: str = "item"  # the noun of the question: movie, book, business
    keywords_in_history: bool = True
    titles: bool = True  # false: items are told by keywords and counts alone, for logs with few rows a title
    priors: bool = True  # counted like rates of items and user as words (method.md 14); the paper's prompt has none
    slots: Literal["none", "target", "all"] = "none"  # where projected encoder vectors stand: nowhere, user + target, or history too
    answer: Literal["first", "after"] = "first"  # verdict before or after the reasoning (D11)
    date: str = "2024-07-26"  # ISO; today, to a chat template that asks: a prompt is the same on any day. Llama 3.2's own
    max_tokens: Count = 1024
    max_answer_tokens: Count = 128

    @field_validator("date")
    @classmethod
    def _date_is_one(cls, value: str) -> str:
        return date.fromisoformat(value).isoformat()


class AdapterSection(Section):
    rank: Count = 8
    alpha: Positive = 16.0
    dropout: Share = 0.0
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    last_layers: int = Field(default=0, ge=0)  # experts train only the last n layers; 0 = all (the paper: 8)

"""The tables of the run file that say what is learned: [encoder], [prior], [cluster], [base], [prompt] and [adapter]; see run.py."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from thinkrec.config.section import Count, Positive, Section, Share

FITS: dict[str, dict[str, float]] = {  # what EncoderSection defaults to where it differs from MF
    "lightgcn": {"dim": 64, "lr": 0.005},
    "sasrec": {"dim": 64, "num_epochs": 20, "batch_size": 64, "lr": 1e-3, "weight_decay": 0.1},
}


class LightGCNSection(Section):
    """What LightGCN alone reads, for encoder.source = "lightgcn"."""

    num_layers: Count = 2
    """Steps of propagation over the graph of users and items."""


class SASRecSection(Section):
    """What SASRec alone reads, for encoder.source = "sasrec"."""

    length: Count = 25
    """Rows of a user that a state sees."""
    num_blocks: Count = 2
    """Transformer blocks."""
    num_heads: Count = 1
    """Attention heads; divides encoder.dim."""
    dropout: Share = 0.2
    """Dropout of embeddings, attention and the feed-forward layers."""
    feedback: bool = True
    """True: the sequence says which rows were liked; false: it says only which items came, as published."""


class EncoderSection(Section):
    """Vectors of users and items from the log: for clusters, routing and soft slots in the prompt.

    The defaults shown are MF's; LightGCN and SASRec have their own of dim, num_epochs, batch_size, lr and weight_decay.
    """

    source: Literal["mf", "lightgcn", "sasrec", "given"] = "mf"
    """mf: matrix factorisation with biases; lightgcn; sasrec; given: vectors of your own, see users_path."""
    users_path: str = ""
    """For source = "given": Parquet with the columns id and vector, a row a user."""
    items_path: str = ""
    """For source = "given": the same for items."""
    dim: Count = 16
    """Numbers of a vector; 64 for lightgcn and sasrec unless set."""
    num_epochs: Count = 20
    """Passes over the train rows at most; the epoch that is best on valid is kept."""
    batch_size: Count = 1024
    """Rows of a step; sasrec: pieces of sequences, 64 unless set."""
    lr: Positive = 0.01
    """Learning rate; .005 for lightgcn and .001 for sasrec unless set."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay; .1 for sasrec unless set."""
    lightgcn: LightGCNSection = LightGCNSection()
    sasrec: SASRecSection = SASRecSection()

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_source(cls, tree: object) -> object:
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


class PriorSection(Section):
    """What counting alone knows of a row: the item's rate, the user's level and his tastes, as a posterior before every row."""

    kind: Literal["counted", "none"] = "counted"
    """counted: fitted on train, a row of the report; none: no prior, as in the paper."""
    within_user: float = Field(default=0.3, ge=0)
    """Weight of the within-user pairwise term of its logistic regression, in which every user counts the same."""
    num_factors: Count = 8
    """Factors of an item, by who likes what; shrunk to what its keywords and year promise."""
    max_history: int = Field(default=256, ge=2, multiple_of=2)
    """Rows of a user that are seen at most; of a longer history always more than half as many."""
    same_second: Literal["seen", "hidden"] = "seen"
    """Whether a row sees the labels of its user's earlier rows of the same second, as a page of ratings sent at once has them."""
    max_rows: Count = 1_000_000
    """Train rows, of whole users, that factors, variances and weights are fitted on at most; item rates are counted on all."""

    @property
    def is_counted(self) -> bool:
        """Whether the run has the stage `prior`."""
        return self.kind == "counted"


class ClusterSection(Section):
    """Clusters of users, one expert each, and the rule that gives a user one expert, the global adapter or a mixture."""

    num_clusters: int = Field(default=2, ge=0)
    """Clusters and experts; 0 = chosen between 2 and max_clusters by the silhouette on train users, 1 = a run without experts."""
    max_clusters: int = Field(default=6, ge=2)
    """Highest number that is tried, if num_clusters = 0."""
    num_iterations: Count = 25
    """Iterations of k-means."""
    max_points_per_centroid: Count = 256
    """Users a cluster that k-means learns from; more are sampled."""
    temperature: Positive = 0.1
    """Temperature of the softmax over cosines to the centroids; higher mixes more."""
    expert_threshold: float = 0.5
    """One expert alone where the largest gate is above expert_threshold + expert_slope / number of clusters."""
    expert_slope: float = 0.6
    """See expert_threshold."""
    entropy_share: Share = 0.95
    """The global adapter alone where the entropy of the gates reaches this share of its maximum."""


class NanoSection(Section):
    """A small Llama and its tokenizer, trained here on train text; head_dim 32 is one that vLLM has kernels for."""

    hidden_size: int = Field(default=64, ge=32, multiple_of=32)
    """Width of the model, a multiple of 32."""
    num_layers: Count = 2
    """Transformer layers."""
    vocab_size: Count = 1024
    """Word pieces of the tokenizer, before titles are added."""
    title_tokens: bool = True
    """One token for each title seen in train."""
    window: Count = 24
    """Interactions in one line of train text."""
    num_epochs: Count = 10
    """Passes over the train text."""
    batch_size: Count = 32
    """Lines of one optimizer step."""
    lr: Positive = 2e-3
    """Learning rate."""
    weight_decay: float = Field(default=0.05, ge=0)
    """Weight decay of AdamW."""
    dropout: Share = 0.0
    """Dropout of attention weights."""
    title_dropout: Share = 0.8
    """Share of interactions told without the title: few rows a title invite learning it by heart, and new items have none."""
    question_share: Share = 0.4
    """Share of interactions asked as the prompt's question instead of told with a mark."""
    ds_config: str = "nano"
    """DeepSpeed settings, as train.ds_config; nothing so small is worth cutting up."""
    num_spoken: int = Field(default=0, ge=0)
    """Train rows that go on to an analysis written by rule, so that the base can reason in words; 0 = none."""
    reason_share: Share = 0.0
    """Share of the questions whose answer goes on to the rule that decided, for data.source = "world" alone: the truth table says it of
    every train row, and the base learns to state rules."""
    text_weight: float = Field(default=0.1, ge=0)
    """Loss weight of tokens that are neither a mark nor a verdict, whose weight is 1."""


class BaseSection(Section):
    """The frozen language model that adapters are trained on."""

    source: Literal["nano", "folder"] = "nano"
    """nano: a small Llama trained here on two CPU cores; folder: a model of yours, see path."""
    path: str = ""
    """A Hugging Face folder with config.json, tokenizer and safetensors, for source = "folder", by path or address; no hub is asked."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of its weights while training and scoring; bfloat16 on GPUs."""
    nano: NanoSection = NanoSection()

    @model_validator(mode="after")
    def _path_is_named(self) -> Self:
        if self.source == "folder" and not self.path:
            raise ValueError('base.source = "folder" needs base.path, a Hugging Face folder with safetensors')
        return self


class PromptSection(Section):
    """What the language model is told about a user and a target item."""

    history_length: Count = 10
    """Last interactions of the user that a prompt shows."""
    history_policy: Literal["rolling", "train_only"] = "rolling"
    """rolling: everything before the row, valid and test rows too; train_only: train rows alone."""
    targets_per_history: Count = 1
    """Consecutive train rows of a user that are asked about on one history, the one before the first of them: learning costs a part.
    1 = each row on its own, as the paper does; scores are always made so."""
    history_dislikes: bool = True
    """False shows the last likes alone; counted rates (priors) still count dislikes. Must be false for label_rule = "implicit"."""
    domain: str = "item"
    """The noun of the question: movie, book, business."""
    keywords_in_history: bool = True
    """Show keywords of the items of the history, too, not of the target alone."""
    titles: bool = True
    """False: items are told by keywords and counts alone, for logs with few rows a title."""
    priors: bool = True
    """Tell counted like rates of the items and of the user as words; the paper's prompt has none."""
    slots: Literal["none", "target", "all"] = "none"
    """Where projected encoder vectors stand: nowhere, for user and target, or for items of the history, too."""
    answer: Literal["first", "after"] = "first"
    """The verdict stands before or after the reasoning."""
    date: str = "2024-07-26"
    """ISO date told to chat templates that ask for today, so that a prompt is the same on any day; the default is Llama 3.2's own."""
    max_tokens: Count = 1024
    """Tokens of a prompt at most; older interactions are left out beyond it."""
    max_answer_tokens: Count = 128
    """Tokens of a reasoning at most, in training and when explaining."""

    @field_validator("date")
    @classmethod
    def _date_is_one(cls, value: str) -> str:
        return date.fromisoformat(value).isoformat()


class AdapterSection(Section):
    """The LoRA adapters: one global, one for each expert."""

    rank: Count = 8
    """Rank of the low-rank matrices."""
    alpha: Positive = 16.0
    """Scale: an adapter's output is multiplied by alpha / rank."""
    dropout: Share = 0.0
    """Dropout before the adapters while training."""
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Names of the linear layers that get an adapter."""
    last_layers: int = Field(default=0, ge=0)
    """Experts train only the last so many layers; 0 = all (the paper: 8). The global adapter trains all."""

"""The tables of the run file that say where text comes from and what may be learned from it; see run.py."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from thinkrec.config.section import Count, Positive, Section, Share, VariableName

DOMAIN_STOP_WORDS = {  # what every item of the domain is
    "movie": ("movie", "movies", "film", "films"),
    "book": ("book", "books", "novel", "amazon", "kindle"),
    "business": ("business", "businesses", "place", "yelp"),
}


class HttpSection(Section):
    """A server that speaks OpenAI's API, for engine.kind = "http"."""

    url: str = ""
    """Address of the server up to and with /v1."""
    model: str = ""
    """What the server calls the model that reads keywords; teachers are called by their own names."""
    key_variable: VariableName | Literal[""] = ""
    """Name of the environment variable that holds the API key; preflight looks for it if ray.secrets names it, too."""
    chat: bool = False
    """True asks /chat/completions, which takes text only; false asks /completions."""
    num_parallel: Count = 32
    """Requests under way at once, of one actor."""
    requests_per_s: float = Field(default=0.0, ge=0)
    """Requests a second of one actor, tries again included; 0 = no limit."""
    timeout_s: Positive = 120.0
    """Seconds one try may take."""
    max_tries: Count = 6
    """Tries of one request before it counts as an error."""
    backoff_s: Positive = 1.0
    """Seconds before the second try; each later pause is twice as long."""

    @model_validator(mode="after")
    def _address_is_no_secret(self) -> Self:
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError("url is not an http address")
        if "@" in self.url.partition("://")[2].partition("/")[0]:  # not repeated in the message
            raise ValueError("url holds a user name or a password; name the variable of the key as key_variable")
        return self


class VllmSection(Section):
    """vLLM in the run's own actors, for engine.kind = "vllm". Names are vLLM's, and what is not here keeps vLLM's default."""

    tensor_parallel_size: Count = 1
    """GPUs of one engine, all in one node, for models that one GPU cannot hold; to go faster raise engine.num_actors instead."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of weights and activations; auto = as the weights were saved. It decides answers."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """Type of cached keys and values; fp8 caches twice the tokens and changes answers a little."""
    max_model_len: int = Field(default=0, ge=0)
    """Tokens of prompt and answer together; 0 = all the model takes, which may ask for more cache than there is."""
    max_num_seqs: int = Field(default=0, ge=0)
    """Rows decoded side by side; 0 = what vLLM deems right for the device."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of each GPU's memory for weights and cache; nothing else runs on it."""
    kv_cache_gib: float = Field(default=0.0, ge=0)
    """Cache of one GPU, GiB; 0 = what gpu_memory_utilization leaves (on a CPU 1, since it would be most of the RAM)."""
    enable_prefix_caching: bool = True
    """Compute the shared beginning of prompts once; answers stay the same."""
    enforce_eager: bool = False
    """True starts faster and decodes slower: for tests."""
    max_loras: int = Field(default=0, ge=0)
    """Adapters that may answer in one batch; each costs memory. No stage uses any, but `thinkrec vllm` (0: eight at most)."""
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = 64
    """Highest rank of such an adapter; a mixture of experts that is baked into one adds up their ranks."""


class EngineSection(Section):
    """What generates text (keywords, traces) and how many do it side by side; num_actors also is the number of scoring actors."""

    kind: Literal["hf", "http", "vllm"] = "hf"
    """hf: Transformers in static batches; vllm: vLLM in the run's own actors; http: a server that is there."""
    batch_size: Count = 64
    """Rows that are decoded together (hf) or travel together (vllm)."""
    num_actors: Count = 1
    """Engines side by side, each with the whole model; raise it to the number of free GPUs."""
    shard_rows: Count = 256
    """Rows that are committed together; a kill costs at most this many an actor holds, times those it holds at once."""
    max_error_share: Share = 0.1
    """Share of a shard's rows that an engine may fail to answer; with more the engine itself is taken to be at fault."""
    http: HttpSection = HttpSection()
    vllm: VllmSection = VllmSection()

    @model_validator(mode="after")
    def _server_is_named(self) -> Self:
        if self.kind == "http" and not self.http.url:
            raise ValueError('engine.kind = "http" needs engine.http.url')
        return self

    @property
    def deciding(self) -> dict[str, str | int]:
        """Which of these settings decide an answer, beside the model. None does where a server or `hf` answers."""
        return self.vllm.model_dump(include={"dtype", "kv_cache_dtype", "max_model_len"}) if self.kind == "vllm" else {}

    @property
    def num_gpus(self) -> int:
        """GPUs of one engine, on a cluster that has them."""
        return {"hf": 1, "http": 0, "vllm": self.vllm.tensor_parallel_size}[self.kind]

    @property
    def num_shards_at_once(self) -> int:
        """Shards one actor answers side by side, so that the long answers of one leave no slot idle; `hf` decodes one batch at a time."""
        return 1 if self.kind == "hf" else 8


class KeywordsSection(Section):
    """Keywords of items. An item without text has those of its categories that may stay, else none."""

    source: Literal["engine", "categories", "none"] = "engine"
    """engine: a language model reads them out of texts; categories: the items' own categories; none: no keywords."""
    extractor: str = Field(default="nano", min_length=1)
    """The model that reads: "nano", a small one trained here, or a Hugging Face folder; a server's is engine.http.model."""
    max_per_item: Count = 10
    """Keywords of one item at most."""
    max_tokens: Count = 32
    """Tokens of one answer at most."""
    max_words: Count = 100
    """Words of an item's text that the model reads."""
    stop_words: tuple[str, ...] = ()
    """Words that are never keywords, in any domain."""
    domain_stop_words: dict[str, tuple[str, ...]] = Field(default=DOMAIN_STOP_WORDS)
    """Nor these, by prompt.domain: what every item of the domain is."""
    lessons: Literal["categories", "words"] = "categories"
    """What the nano extractor learns to name: categories where texts say them; or a text's telling words, found by counting, for
    catalogues whose texts seldom say their categories (of MovieLens-1M's plots one in fourteen does)."""
    num_lessons: Count = 16000
    """Texts the nano extractor learns from: those of the catalogue and variations of them."""
    lr: Positive = 5e-3
    """Learning rate of the nano extractor."""

    def refused(self, domain: str) -> tuple[str, ...]:
        """The stop words of this domain."""
        return (*self.stop_words, *self.domain_stop_words.get(domain, ()))


class TeacherSection(Section):
    """One source of reasoning."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w./-]{0,127}$")]
    """Name of the teacher; with engine.kind = "http" what the server calls it."""
    path: str = ""
    """"nano", a small one trained here; a Hugging Face folder; with a server the folder of its tokenizer, or empty: prompts go as text;
    "planted", the truth table of data.source = "world": of every row the rule that decided it."""
    weight: Positive = 1.0
    """Its share of the questions, against the other teachers'."""

    @property
    def has_folder(self) -> bool:
        """Whether `path` is one of the user's own."""
        return self.path not in ("", "nano", "planted")


class TracesSection(Section):
    """Reasoning traces: which train rows teachers explain, and which of their texts are accepted."""

    enabled: bool = True
    """False trains without reasoning and asks no teacher."""
    num_instances: Count = 400
    """Train rows a teacher is asked about, balanced over clusters and labels."""
    max_share: Share = 1.0
    """Share of the train rows, if that is fewer than num_instances."""
    start_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the instances whose traces the global adapter begins with while the others are written; 1 waits for all."""
    hard_share: Share = 0.5
    """Share of the instances that are rows which a label-only model gets wrong."""
    max_attempts: Count = 3
    """Questions about one row until a trace is accepted."""
    allow_hint: bool = False
    """After that, tell the teacher the right verdict and ask once more; such traces are marked in the table."""
    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature of teachers; 0 is greedy, which makes asking again pointless."""
    max_tokens: Count = 64
    """Tokens of one answer at most; reasoning models need some hundred."""
    min_words: Count = 4
    """A shorter reasoning is refused."""
    max_words: Count = 1000
    """And a longer one."""
    min_right_share: Share = 0.75
    """Share of a trace's claims about the data that must be right."""
    min_taste_share: Share = 0.5
    """Share of the likes and dislikes a trace names that must be the prompt's own."""
    max_contrary: int = Field(default=-1, ge=-1)
    """Tastes a trace may state against its verdict beyond those for it; -1 = not looked at."""
    same_share: Share = 0.9
    """Two texts are the same if they share this much of their word trigrams (Jaccard)."""
    max_same_text: Count = 3
    """Traces that may be the same."""
    teachers: Annotated[tuple[TeacherSection, ...], Field(min_length=1)] = (TeacherSection(name="nano", path="nano"),)
    """Who is asked: a list of tables with name, path and weight, [[traces.teachers]]."""
    num_lessons: Count = 8000
    """Texts the nano teacher learns from, from at most half of the train rows."""
    num_epochs: Count = 6
    """Passes of the nano teacher over them."""
    lr: Positive = 3e-3
    """Learning rate of the nano teacher."""

    @model_validator(mode="after")
    def _teachers_differ(self) -> Self:
        names = [teacher.name for teacher in self.teachers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two of traces.teachers are called {twice[0]!r}; give each a name of its own")
        if sum(teacher.path == "nano" for teacher in self.teachers) > 1:
            raise ValueError('two of traces.teachers have path = "nano"; the run teaches one')
        return self

    @property
    def starts_early(self) -> bool:
        """Whether the global adapter begins with the first traces while the rest is written."""
        return self.enabled and self.start_share < 1

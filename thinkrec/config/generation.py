"""The tables of the run file that say where text comes from and what may be learned from it; see config.py."""

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

    url: str = ""  # up to and with /v1
    model: str = ""  # what the server calls the model that reads keywords; teachers are called by their own names
    key_variable: VariableName | Literal[""] = ""  # the variable that holds the key; preflight looks for it if ray.secrets names it, too
    chat: bool = False  # ask /chat/completions, which takes text only; false: /completions
    num_parallel: Count = 32  # requests under way at once, of one actor
    requests_per_s: float = Field(default=0.0, ge=0)  # of one actor, tries again included; 0 = no limit
    timeout_s: Positive = 120.0  # of one try
    max_tries: Count = 6
    backoff_s: Positive = 1.0  # the pause before the second try; each later one is twice as long

    @model_validator(mode="after")
    def _address_is_no_secret(self) -> Self:
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError("url is not an http address")
        if "@" in self.url.partition("://")[2].partition("/")[0]:  # not repeated in the message
            raise ValueError("url holds a user name or a password; name the variable of the key as key_variable")
        return self


class VllmSection(Section):
    """vLLM in the run's own actors, for engine.kind = "vllm". Names are vLLM's, and what is not here keeps vLLM's default."""

    tensor_parallel_size: Count = 1  # GPUs of one engine, all in one node: for models that one cannot hold; else num_actors
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"  # as the weights were saved; decides answers
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"  # fp8 caches twice the tokens and changes answers a little
    max_model_len: int = Field(default=0, ge=0)  # prompt and answer; 0 = all the model takes, which may ask for more cache than there is
    max_num_seqs: int = Field(default=0, ge=0)  # rows decoded side by side; 0 = what vLLM deems right for the device
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9  # share of each GPU for weights and cache; nobody else is on it
    kv_cache_gib: float = Field(default=0.0, ge=0)  # of one GPU; 0 = what that share leaves (on a CPU 1: it would be most of the RAM)
    enable_prefix_caching: bool = True  # instructions and tries again share their beginnings, and answers stay the same
    enforce_eager: bool = False  # true starts faster and decodes slower: for tests
    max_loras: int = Field(default=0, ge=0)  # adapters that may answer in one batch; each costs memory, and no stage names any
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512] = 64  # a mixture of experts, baked into one, adds up their ranks


class EngineSection(Section):
    """Where generated text comes from."""

    kind: Literal["hf", "http", "vllm"] = "hf"
    batch_size: Count = 64  # rows that are decoded together (hf) or travel together (vllm)
    num_actors: Count = 1  # engines side by side, each with the whole model
    shard_rows: Count = 256  # rows that are committed together; a kill costs at most this many an actor holds, times those it holds at once
    max_error_share: Share = 0.1  # of a shard's rows that an engine may fail to answer before it is the engine that is at fault
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
    extractor: str = Field(
        default="nano", min_length=1
    )  # "nano" learns to read here; else a Hugging Face folder. A server's: engine.http.model
    max_per_item: Count = 10
    max_tokens: Count = 32
    max_words: Count = 100  # of an item's text that the engine reads
    stop_words: tuple[str, ...] = ()  # never keywords, in any domain
    domain_stop_words: dict[str, tuple[str, ...]] = Field(default=DOMAIN_STOP_WORDS)  # nor these, by prompt.domain
    # What the nano extractor learns to name: categories an editor wrote down, where texts say them; or a text's telling words, found by
    # counting, for catalogues whose texts seldom say their categories (of MovieLens-1M's plots one in fourteen does).
    lessons: Literal["categories", "words"] = "categories"
    num_lessons: Count = 16000  # texts it learns from: those of the catalogue and variations of them
    lr: Positive = 5e-3

    def refused(self, domain: str) -> tuple[str, ...]:
        """The stop words of this domain."""
        return (*self.stop_words, *self.domain_stop_words.get(domain, ()))


class TeacherSection(Section):
    """One source of reasoning."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w./-]{0,127}$")]  # engine.kind = "http": what the server calls it
    path: str = ""  # "nano" is taught here; a Hugging Face folder; with a server the folder of its tokenizer, or empty: prompts go as text
    weight: Positive = 1.0  # its share of the questions, against the other teachers'


class TracesSection(Section):
    enabled: bool = True
    num_instances: Count = 400  # train rows a teacher is asked about, balanced over clusters and labels
    max_share: Share = 1.0  # of the train rows, if that is fewer
    start_share: Annotated[float, Field(gt=0, le=1)] = (
        1.0  # of the instances; the global adapter begins with their traces, if less than all
    )
    hard_share: Share = 0.5  # of the instances: rows that a label-only model gets wrong
    max_attempts: Count = 3
    allow_hint: bool = False  # after the unhinted attempts, tell the teacher the answer once; kept apart in the table
    temperature: float = Field(default=0.7, ge=0)
    max_tokens: Count = 64
    min_words: Count = 4  # a shorter reasoning is refused
    max_words: Count = 1000  # and a longer one
    min_right_share: Share = 0.75  # of its claims, or the trace is refused
    min_taste_share: Share = 0.5  # of the likes and dislikes it speaks of that must be the prompt's own, or the trace is refused
    max_contrary: int = Field(default=-1, ge=-1)  # tastes it states against its verdict beyond those for it; -1 = not looked at
    same_share: Share = 0.9  # two texts are the same if they share this much of their word trigrams (Jaccard)
    max_same_text: Count = 3  # traces that may be the same
    teachers: Annotated[tuple[TeacherSection, ...], Field(min_length=1)] = (TeacherSection(name="nano", path="nano"),)
    num_lessons: Count = 8000  # texts the nano teacher learns from, from at most half of the train rows
    num_epochs: Count = 6
    lr: Positive = 3e-3

    @model_validator(mode="after")
    def _teachers_differ(self) -> Self:
        names = [teacher.name for teacher in self.teachers]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two of traces.teachers are called {twice[0]!r}; give each a name of its own")
        if sum(teacher.path == "nano" for teacher in self.teachers) > 1:
            raise ValueError('two of traces.teachers have path = "nano"; the run teaches one')
        return self

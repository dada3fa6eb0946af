"""What a DeepSpeed JSON may hold, as DeepSpeed 0.19 knows it: every key with its type, all of them optional; no DeepSpeed is imported."""

from __future__ import annotations

from typing import TypedDict


class OffloadParam(TypedDict, total=False):
    """Where ZeRO-3 keeps parameters meanwhile."""

    device: str
    nvme_path: str
    buffer_count: int
    buffer_size: int
    max_in_cpu: int
    pin_memory: bool


class OffloadOptimizer(TypedDict, total=False):
    """Where the optimizer's state lies."""

    device: str
    nvme_path: str
    buffer_count: int
    pin_memory: bool
    pipeline_read: bool
    pipeline_write: bool
    fast_init: bool
    ratio: float


class ZeroOptimization(TypedDict, total=False):
    """What is parted between workers, and how it is sent."""

    stage: int
    contiguous_gradients: bool
    reduce_scatter: bool
    reduce_bucket_size: int
    use_multi_rank_bucket_allreduce: bool
    allgather_partitions: bool
    allgather_bucket_size: int
    overlap_comm: bool
    load_from_fp32_weights: bool
    offload_param: OffloadParam
    offload_optimizer: OffloadOptimizer
    sub_group_size: int
    stage3_prefetch_bucket_size: int
    stage3_param_persistence_threshold: int
    stage3_model_persistence_threshold: int
    stage3_max_live_parameters: int
    stage3_max_reuse_distance: int
    stage3_module_granularity_threshold: int
    stage3_use_all_reduce_for_fetch_params: bool
    stage3_allgather_sequential: bool
    ignore_unused_parameters: bool
    round_robin_gradients: bool
    zero_hpz_partition_size: int
    zero_quantized_weights: bool
    zero_quantized_nontrainable_weights: bool
    zero_quantized_gradients: bool
    memory_efficient_linear: bool
    override_module_apply: bool
    log_trace_cache_warnings: bool
    enable_sanity_checks: bool


class ActivationCheckpointing(TypedDict, total=False):
    """DeepSpeed's own."""

    partition_activations: bool
    contiguous_memory_optimization: bool
    cpu_checkpointing: bool
    number_checkpoints: int
    profile: bool
    synchronize_checkpoint_boundary: bool


class FlopsProfiler(TypedDict, total=False):
    """What modules cost."""

    enabled: bool
    recompute_fwd_factor: float
    profile_step: int
    module_depth: int
    top_modules: int
    detailed: bool
    output_file: str


class Aio(TypedDict, total=False):
    """Reading and writing NVMe."""

    block_size: int
    queue_depth: int
    intra_op_parallelism: int
    single_submit: bool
    overlap_events: bool
    use_gds: bool


class Bf16(TypedDict, total=False):
    """Weights of 16 bits."""

    enabled: bool
    check_grad_overflow: bool
    bf16_master_weights_and_grads: bool
    bf16_optimizer_states: bool


class DataTypes(TypedDict, total=False):
    """Of what micro batches add up in."""

    grad_accum_dtype: str


class CommsLogger(TypedDict, total=False):
    """What collectives cost."""

    enabled: bool
    prof_all: bool
    prof_ops: list[str]
    verbose: bool
    debug: bool


class DeepSpeedFile(TypedDict, total=False):
    """The whole file."""

    zero_optimization: ZeroOptimization
    zero_force_ds_cpu_optimizer: bool
    zero_allow_untested_optimizer: bool
    bf16: Bf16
    gradient_clipping: float
    data_types: DataTypes
    communication_data_type: str
    prescale_gradients: bool
    gradient_predivide_factor: float
    activation_checkpointing: ActivationCheckpointing
    comms_logger: CommsLogger
    flops_profiler: FlopsProfiler
    wall_clock_breakdown: bool
    steps_per_print: int
    memory_breakdown: bool
    aio: Aio

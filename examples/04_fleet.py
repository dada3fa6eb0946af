"""How long 1,024 GPUs take to train 256 experts of unequal size, by packs and groups, beside the bound that no schedule beats."""

import numpy as np

from thinkrec import fleet

num_gpus, num_experts = 1024, 256
rng = np.random.default_rng(0)
hours = 64 * rng.lognormal(sigma=0.7, size=num_experts)  # GPU-hours of each expert alone: clusters are of unequal size
work = dict(enumerate(hours.tolist()))
print(f"{num_experts} experts, {hours.sum():,.0f} GPU-hours, the largest {hours.max():,.0f}, the smallest {hours.min():,.1f}")

print("\nGPUs a group  groups  packs  largest pack  hours  bound  GPUs idle")
for size in (4, 8, 16, 32, 64):
    costs = {expert: cost / size for expert, cost in work.items()}
    num_groups = num_gpus // size
    cut = fleet.packs(costs, num_groups, max_pack=8)
    plan = fleet.simulate(cut, num_groups)
    largest = max(len(pack.experts) for pack in cut)
    print(f"{size:>12} {num_groups:>7} {len(cut):>6} {largest:>13} {plan.makespan:>6.1f} {plan.lower_bound:>6.1f} {plan.idle_share:>10.1%}")

print(
    "\nSmall groups wait for the largest expert; large ones share the work evenly, until talk between their GPUs costs more than it saves."
)

"""How a fleet of worker groups trains many experts: packs, their schedule, and the bound that no schedule beats. No Ray, no torch.

cut = packs({0: 5.0, 1: 2.0, 2: 1.0}, num_groups=2, max_pack=2)     # expert -> its cost alone, in tokens or seconds
simulate(cut, num_groups=2).makespan
"""

from thinkrec.train.fleet.queue import Pack, Schedule, lower_bound, packs, simulate

__all__ = ["Pack", "Schedule", "lower_bound", "packs", "simulate"]

"""thinkrec: distributed training of LLM recommenders that reason, one LoRA expert per user cluster."""

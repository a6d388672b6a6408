"""The network: how items are represented, behaviors attended to (ESU: `target_attention.py`) and candidates
scored."""

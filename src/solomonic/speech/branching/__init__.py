"""A small and a large encoder, and a decision for every frame whether the large one is run.

Source: Macoskey et al., "Amortized neural networks for low-latency speech recognition", arXiv
2108.01553; Louizos et al., arXiv 1712.01312, for gates that are exactly 0 or 1 in training too.
"""

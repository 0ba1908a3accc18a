"""The cloud side: reranking with memory, language models and speech behind existing protocols."""

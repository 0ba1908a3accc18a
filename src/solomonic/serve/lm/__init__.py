"""Language models behind the server: loading, continuous batching, the OpenAI-compatible routes."""

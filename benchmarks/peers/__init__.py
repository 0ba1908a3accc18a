"""Contenders of `make bench ARGS=speed`: every one is a worker process with the same commands.

`protocol` is the pipe between runner and worker and needs only the standard library, because
llama.cpp runs in a virtual environment of its own (`environment`).
"""

"""When an utterance begins, when it is probably over and when it is over: two end-pointers."""

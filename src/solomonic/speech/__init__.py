"""Level 4: streaming speech recognition, from audio to words, lattices and end-points."""

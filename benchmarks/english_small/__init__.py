"""How the English model in the package is made: corpus, training, shipping."""

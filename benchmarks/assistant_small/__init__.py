"""How the language model of the package was made: texts, training, what is shipped."""

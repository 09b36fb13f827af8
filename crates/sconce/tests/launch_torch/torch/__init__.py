"""A torch for tests of `sconce launch`: what torchrun does, as far as a launcher sees it."""

"""Whether lots of one material can be told apart."""

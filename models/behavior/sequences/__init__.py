"""Events as arrays and tensors: the catalogue, sequences of behaviors, masked slots among them."""

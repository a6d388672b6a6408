"""The step that trains the model, fits the weights of its score and measures it."""

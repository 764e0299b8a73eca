"From probabilities to labels, honestly."

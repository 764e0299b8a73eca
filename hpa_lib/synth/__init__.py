"A synthetic atlas whose truth is known."

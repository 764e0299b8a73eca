"One engine from pictures to a run folder, and what travels."

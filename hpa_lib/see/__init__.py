"Pictures of what happened and why, from tables, stores and networks."

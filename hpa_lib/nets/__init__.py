"What turns a picture into numbers: stems, heads, weights, networks."

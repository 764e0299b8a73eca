"From files to tables, stores and folds that leak nothing; what a probability table is and what it is worth."

"DataLoaders, Learners and what watches them; asking a network in views."

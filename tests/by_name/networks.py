"Rooms of networks: weights, loaders, learners, predictions."
from walk import *

ROOMS = [
    'learn.tensors', 'learn.sampling', 'learn.augment', 'learn.loaders', 'learn.losses', 'learn.metrics', 'learn.schedules', 'learn.learner',
    'learn.callbacks', 'learn.views', 'learn.resume', 'learn.predict', 'nets.stems', 'nets.heads', 'nets.weights', 'nets.models',
]
TAKES = set()
ENTRIES = {}
EXEMPT = {}

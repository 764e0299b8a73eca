"Rooms of pictures: labels, samples, files, stores, the synthetic atlas."
from walk import *

ROOMS = [
    'data.labels', 'data.samples', 'data.download', 'data.reading', 'data.images', 'data.store', 'data.sources',
    'synth.label_sets', 'synth.cells', 'synth.patterns', 'synth.atlas',
]
TAKES = set()
ENTRIES = {}
EXEMPT = {}

"Rooms of runs: bundles, recipes, folders, steps, the pipeline."
from walk import *

ROOMS = [
    'run.bundle', 'run.recipes', 'run.folder', 'run.steps', 'run.pipeline',
]
TAKES = set()
ENTRIES = {}
EXEMPT = {}

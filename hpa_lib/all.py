"Everything for notebooks: `from hpa_lib.all import *` gives fastai's vision names and this library's on top of them"
from fastai.vision.all import *  # noqa: F403

from hpa_lib.core import (  # noqa: F401
    DataError, DecisionError, HPAError, LearnError, NetError, RunError, SynthError,
)
from hpa_lib.data.labels import *  # noqa: F403
from hpa_lib.data.samples import *  # noqa: F403
from hpa_lib.data.download import *  # noqa: F403
from hpa_lib.data.reading import *  # noqa: F403
from hpa_lib.data.images import *  # noqa: F403
from hpa_lib.data.store import *  # noqa: F403
from hpa_lib.data.sources import *  # noqa: F403
from hpa_lib.data.duplicates import *  # noqa: F403
from hpa_lib.data.folds import *  # noqa: F403
from hpa_lib.data.shared_folds import *  # noqa: F403
from hpa_lib.data.scores import *  # noqa: F403
from hpa_lib.data.probs import *  # noqa: F403
from hpa_lib.synth.atlas import make_atlas  # noqa: F401, the drawing functions have names of their own
from hpa_lib.nets.stems import *  # noqa: F403
from hpa_lib.nets.heads import *  # noqa: F403
from hpa_lib.nets.weights import *  # noqa: F403
from hpa_lib.nets.models import *  # noqa: F403
from hpa_lib.learn.tensors import *  # noqa: F403
from hpa_lib.learn.sampling import *  # noqa: F403
from hpa_lib.learn.augment import *  # noqa: F403
from hpa_lib.learn.loaders import *  # noqa: F403
from hpa_lib.learn.losses import *  # noqa: F403
from hpa_lib.learn.metrics import *  # noqa: F403
from hpa_lib.learn.schedules import *  # noqa: F403
from hpa_lib.learn.learner import *  # noqa: F403
from hpa_lib.learn.callbacks import *  # noqa: F403
from hpa_lib.learn.views import *  # noqa: F403
from hpa_lib.learn.resume import *  # noqa: F403
from hpa_lib.learn.predict import *  # noqa: F403
from hpa_lib.decide.thresholds import *  # noqa: F403
from hpa_lib.decide.calibrate import *  # noqa: F403
from hpa_lib.decide.threshold_rules import *  # noqa: F403
from hpa_lib.decide.prior_shift import *  # noqa: F403
from hpa_lib.decide.blend import *  # noqa: F403
from hpa_lib.decide.decision import *  # noqa: F403
from hpa_lib.decide.submit import *  # noqa: F403
from hpa_lib.see.report import *  # noqa: F403
from hpa_lib.run.bundle import *  # noqa: F403
from hpa_lib.run.recipes import *  # noqa: F403
from hpa_lib.run.folder import *  # noqa: F403
from hpa_lib.run.steps import *  # noqa: F403
from hpa_lib.run.pipeline import *  # noqa: F403

"Everything for notebooks: `from hpa_lib.all import *` gives fastai's vision names and this library's on top of them"
from fastai.vision.all import *  # noqa: F403

from hpa_lib.augment import *  # noqa: F403
from hpa_lib.blend import *  # noqa: F403
from hpa_lib.bundle import *  # noqa: F403
from hpa_lib.calibrate import *  # noqa: F403
from hpa_lib.data import *  # noqa: F403
from hpa_lib.decide import *  # noqa: F403
from hpa_lib.download import *  # noqa: F403
from hpa_lib.duplicates import *  # noqa: F403
<<<<<<< HEAD
from hpa_lib.graph import *  # noqa: F403
=======
from hpa_lib.heads import *  # noqa: F403
>>>>>>> models
from hpa_lib.images import *  # noqa: F403
from hpa_lib.labels import *  # noqa: F403
from hpa_lib.losses import *  # noqa: F403
from hpa_lib.metrics import *  # noqa: F403
from hpa_lib.models import *  # noqa: F403
from hpa_lib.predict import *  # noqa: F403
from hpa_lib.prior_shift import *  # noqa: F403
from hpa_lib.recipes import *  # noqa: F403
from hpa_lib.report import *  # noqa: F403
from hpa_lib.rules import *  # noqa: F403
from hpa_lib.runs import *  # noqa: F403
from hpa_lib.sampling import *  # noqa: F403
from hpa_lib.samples import *  # noqa: F403
from hpa_lib.scores import *  # noqa: F403
from hpa_lib.shared_folds import *  # noqa: F403
from hpa_lib.sources import *  # noqa: F403
from hpa_lib.splits import *  # noqa: F403
<<<<<<< HEAD
from hpa_lib.steps import *  # noqa: F403
=======
from hpa_lib.stems import *  # noqa: F403
>>>>>>> models
from hpa_lib.store import *  # noqa: F403
from hpa_lib.submit import *  # noqa: F403
from hpa_lib.synth import make_atlas  # noqa: F401, the drawing functions have names of their own
from hpa_lib.tensors import *  # noqa: F403
from hpa_lib.thresholds import *  # noqa: F403
from hpa_lib.training import *  # noqa: F403
<<<<<<< HEAD
from hpa_lib.views import *  # noqa: F403
=======
from hpa_lib.weights import *  # noqa: F403
>>>>>>> models

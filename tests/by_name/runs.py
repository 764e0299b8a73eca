"Rooms of runs: bundles, recipes, folders, steps, the pipeline."
import json
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pandas as pd

from walk import *

ROOMS = [
    'run.bundle', 'run.pieces', 'run.recipes', 'run.folder', 'run.steps', 'run.pipeline',
]
TAKES = {
    'weights', 'names', 'channels', 'mean', 'std', 'members', 'vocab', 'store', 'rows', 'samples', 'packed', 'folds', 'run', 'which',
    'pictures', 'twins', 'duplicates', 'sample', 'cbs',
}

# Two dozen samples of three classes and twelve groups, packed once at 32 px; random networks; nothing is trained
IDS = [f's{i:02}' for i in range(24)]
CLASSES = ['Nucleoplasm', 'Cytosol', 'Golgi apparatus']
CHANNELS = ['red', 'green', 'blue', 'yellow']
RECIPE = [
    'data.size=32', 'split.folds=2', 'split.twins=none', 'model.arch=test_resnet', 'model.weights=none', 'model.hidden=8', 'train.epochs=1',
    'train.bs=8', 'train.log=false', 'views.names=flips',
]


def table_of_samples():
    rng = np.random.default_rng(0)
    hot = rng.random((24, 3)) < [.6, .5, .4]
    hot[~hot.any(1), 0] = True
    labels = [[o for o, v in zip(CLASSES, r) if v] for r in hot]
    return pd.DataFrame(dict(id=IDS, labels=pd.Series(labels, dtype=object), group=[f'g{i//2}' for i in range(24)], is_test=[i >= 20 for i in range(24)]))


@cache
def root():
    "A folder with a packed store, weights, and a run whose folds were answered by random numbers"
    from PIL import Image
    from hpa_lib.data.labels import Vocab
    from hpa_lib.data.samples import save_samples, tidy_samples
    from hpa_lib.data.store import pack
    d, rng = Path(mkdtemp(prefix='runs')), np.random.default_rng(1)
    table = table_of_samples()
    for c in CHANNELS:
        table[c] = [str(d/f'{o}_{c}.png') for o in IDS]
        for i, o in enumerate(table[c]): Image.fromarray(rng.integers(0, 40 + 8*i, (32, 32)).astype(np.uint8)).save(o)
    samples = tidy_samples(table)
    save_samples(samples, d/'samples.parquet')
    pack(samples, d/'s.zarr', 32, vocab=Vocab(CLASSES), progress=False)
    network(d/'net.safetensors')
    made_run(d)
    return d


def network(path, channels=CHANNELS, seed=0):
    import torch
    from hpa_lib.nets.models import rgby_model, save_model
    torch.manual_seed(seed)
    model = rgby_model('test_resnet', 3, channels, weights=None, hidden=8)
    model.about['classes'] = CLASSES
    return save_model(model, path)


def made_run(d):
    "A run folder as the steps leave it, with answers that were drawn and a decision"
    from hpa_lib.core import write_json
    from hpa_lib.data.folds import grouped_folds, save_folds
    from hpa_lib.data.labels import Vocab
    from hpa_lib.run.recipes import load_recipe, save_recipe
    from hpa_lib.data.samples import load_samples, save_samples
    from hpa_lib.run.folder import Run, decide_run, submit_run
    run = d/'run'
    run.mkdir()
    samples = load_samples(d/'s.zarr/samples.parquet')
    known = samples[~samples.is_test].reset_index(drop=True)
    folds = grouped_folds(known, Vocab(CLASSES), n=2)
    save_recipe(load_recipe('default', RECIPE), run/'recipe.toml')
    write_json(run/'manifest.json', dict(vocab=dict(name='own', names=CLASSES, codes=[0, 1, 2]), store='../s.zarr', trained=[0, 1]))
    save_samples(samples.drop(columns=CHANNELS), run/'tied.parquet')
    save_folds(folds, run/'folds.parquet')
    rng = np.random.default_rng(2)
    for k in range(2):
        (run/f'fold{k}').mkdir()
        write_json(run/f'fold{k}/fold.json', {})
        pd.DataFrame(dict(epoch=[0], train_loss=[.5], valid_loss=[.6], valid_focal=[.6], macro_f1=[.3], mean_ap=[.3])).to_csv(run/f'fold{k}/history.csv', index=False)
        network(run/f'fold{k}/model.safetensors', seed=k)
        for name, ids in dict(oof=folds.id[folds.fold == k], test=samples.id[samples.is_test]).items():
            answers(ids, k, rng).to_parquet(run/f'fold{k}/{name}.parquet')
    decide_run(Run(run))
    submit_run(Run(run))


def answers(ids, k, rng, views=2):
    "A probability table of some samples: views and classes"
    rows = [(o, k, v) for o in ids for v in range(views)]
    return pd.DataFrame(rows, columns=['id', 'fold', 'view']).join(pd.DataFrame(rng.random((len(rows), 3)), columns=CLASSES))


@cache
def store():
    from hpa_lib.data.store import Store
    return Store(root()/'s.zarr')


@cache
def folds(): return pd.read_parquet(root()/'run/folds.parquet')


@cache
def recipe():
    from hpa_lib.run.recipes import load_recipe
    return load_recipe('default', RECIPE)


def run_with(**files):
    "A copy of the run, with tables in place of its own; opened"
    from hpa_lib.run.folder import Run
    d = Path(mkdtemp(prefix='run'))
    shutil.copytree(root()/'run', d/'run')
    facts = json.loads((d/'run/manifest.json').read_text())
    (d/'run/manifest.json').write_text(json.dumps(facts | dict(store=str(root()/'s.zarr'))))
    for name, table in files.items(): table.to_parquet(d/'run'/f"{name.replace('__', '/')}.parquet", index=table.index.name is not None)
    return Run(d/'run')


def answered(name): return pd.read_parquet(root()/f'run/{name}.parquet')


# --- changes of answers, of samples and of folds in files ---

def of_classes(x): return x[[o for o in x if o not in CLASSES] + [o for o in x if o in CLASSES][::-1]]
def view_less(x): return x.iloc[1:]
def view_twice(x): return pd.concat([x, x.iloc[:1]])
def gap(x): return x.assign(Cytosol=[None, *x.Cytosol[1:]])
def class_lost(x): return x.drop(columns='Cytosol')
def class_new(x): return x.assign(Actin=.5)


ANSWERS = [permuted_rows, other_index, same_index, of_classes, view_less, view_twice, gap, class_lost, class_new]
SAMPLES = [permuted_rows, other_index, same_index, doubled_row, without_id, shorter, renamed_id]


def decided(run):
    from hpa_lib.run.folder import decide_run
    decision, score = decide_run(run)
    return dict(thresholds=decision.thresholds, nested=score.nested, in_sample=score.in_sample)


def submitted(run):
    from hpa_lib.decide.submit import read_submission
    from hpa_lib.run.folder import submit_run
    return read_submission(submit_run(run), run.vocab).map(sorted).sort_index().to_dict()


def rows_of(learn):
    dls = learn.dls
    return {k: sorted(store().samples.id.to_numpy()[np.asarray(o.dataset.rows)]) for k, o in dict(train=dls.train, valid=dls.valid).items()}


BUNDLE, RECIPES, FOLDER, PIPELINE = (load(f'run.{o}') for o in ('bundle', 'recipes', 'folder', 'pipeline'))


def one(**more):
    "The bundle of one network"
    from hpa_lib.data.labels import Vocab
    from hpa_lib.decide.decision import Decision
    how = dict(views='none', overwrite=True) | more
    path = Path(mkdtemp(prefix='bundle'))/'b'
    half = Decision(thresholds=dict.fromkeys(CLASSES, .5))
    return BUNDLE.save_bundle(path, how.pop('weights', root()/'net.safetensors'), how.pop('store', store()), how.pop('vocab', Vocab(CLASSES)), how.pop('decision', half), **how)


@cache
def bundle(): return BUNDLE.Bundle(one(), 'cpu')


def said(table): return table.set_index('id')[CLASSES].sort_index()
def by_channel(x, names=CHANNELS): return pd.Series(list(x), index=list(names))
def turned(x): return x[::-1]
def fewer(x): return x.iloc[1:]
def channel_nan(x): return x.where(np.arange(len(x)) != 1)


def member(mean, std):
    m = BUNDLE.Member([root()/'net.safetensors'], CLASSES, CHANNELS, 32, mean, std)
    return dict(zip(m.channels, m.mean)) | {f'{k} std': v for k, v in zip(m.channels, m.std)}


def masked(x): return x.to_numpy()
def of_others(x): return x.set_axis(range(7, 7 + len(x)))
def short_mask(x): return x.to_numpy()[1:]
def as_ids(x): return store().samples.id[x.to_numpy()]


@dataclass
class Late:
    "An `Entry` whose parts are made when they are asked for"
    call: object
    make: object
    exact: bool = True
    @property
    def parts(self): return self.make()


def samples():
    from hpa_lib.data.samples import load_samples
    return load_samples(root()/'samples.parquet')


def own_store():
    "The store anew, as its table is changed"
    from hpa_lib.data.store import Store
    return Store(root()/'s.zarr')


def tied(changes): return (pd.read_parquet(root()/'run/tied.parquet'), changes)
def first_answers(): return (answered('fold0/oof'), ANSWERS)
def of_folds(call, exact=True): return Late(call, lambda: dict(folds=(folds(), OF_FOLDS)), exact)


def bundled(names):
    "Answers of a bundle that is told other class names"
    from hpa_lib.data.labels import Vocab
    return said(BUNDLE.Bundle(one(vocab=Vocab(list(names))), 'cpu').predict(store(), progress=False))


def gathered(fold0__oof): return run_with(oof=pd.concat([fold0__oof, answered('fold1/oof')])).probs().set_index('id')


def predicted(table):
    "Of a table of answers, by id and view"
    table = table.set_index(['id', 'view'])[CLASSES].sort_index()
    return table.set_axis([f'{i} {v}' for i, v in table.index])


def started(given):
    to = Path(mkdtemp(prefix='walk'))
    return by_id(PIPELINE.start_run(store(), recipe(), given, to/'run').folds, 'fold')


def handed(given):
    to = Path(mkdtemp(prefix='walk'))
    return by_id(load('data.folds').read_folds(PIPELINE.hand_in(to, folds=given)['folds'], known()), 'fold')


def known(): return store().samples[~store().samples.is_test].reset_index(drop=True)
def learner(given): return FOLDER.recipe_learner(store(), given, 0, recipe(), Path(mkdtemp(prefix='walk')))


def reported(tied):
    page = FOLDER.report_run(run_with(tied=tied), store(), n=2)
    return json.loads((page.parent/'report.json').read_text())['per_class']


ENTRIES = {
    'run.bundle': {
        'Member': Late(member, lambda: dict(
            mean=(by_channel(store().mean), [turned, fewer, channel_nan]), std=(by_channel(store().std), [turned, fewer, channel_nan]),
        )),
        'save_bundle': Late(lambda names: bundled(names), lambda: dict(names=(pd.Series(CLASSES), [turned]))),
        'Bundle.predict': Late(
            lambda samples: said(bundle().predict(samples, progress=False)),
            lambda: dict(samples=(samples(), [permuted_rows, other_index, same_index, doubled_row, without_id, objects, categories])), exact=False,
        ),
        'Bundle.predict_store': Late(
            lambda rows: predicted(bundle().predict_store(store(), rows, progress=False)),
            lambda: dict(rows=(store().samples.is_test, [masked, of_others, short_mask, as_ids])),
        ),
        'Bundle.scales': Late(
            lambda samples: dict(zip(samples.id, bundle().scales(FOLDER.with_table(own_store(), samples, store().vocab)))),
            lambda: dict(samples=(store().samples, SAMPLES)),
        ),
    },
    'run.folder': {
        'Run.probs': Late(gathered, lambda: dict(fold0__oof=first_answers())),
        'with_table': Late(
            lambda samples: by_id(FOLDER.with_table(own_store(), samples, store().vocab).samples, 'labels', 'group'),
            lambda: dict(samples=(store().samples, SAMPLES)),
        ),
        'match_table': Late(
            lambda packed, samples: by_id(FOLDER.match_table(packed, samples), 'labels', 'group'),
            lambda: dict(packed=(store().samples, SAMPLES), samples=(store().samples, SAMPLES)),
        ),
        'recipe_learner': of_folds(lambda folds: rows_of(learner(folds))),
        'training_key': Late( # of other folds another key
            lambda folds: FOLDER.training_key(store(), folds, 0, recipe()),
            lambda: dict(folds=(folds(), [o for o in OF_FOLDS if o not in (shorter, renamed_id)])),
        ),
        'check_seen': of_folds(lambda folds: sorted(FOLDER.check_seen(seen_recipe(), store(), folds, 0).ids)),
        'predict_fold': of_folds(
            lambda folds: predicted(pd.read_parquet(FOLDER.predict_fold(run_with(folds=folds), store(), 0, progress=False)/'oof.parquet')), exact=False,
        ),
        'decide_run': Late(
            lambda fold0__oof, tied: decided(run_with(fold0__oof=fold0__oof, tied=tied)),
            lambda: dict(fold0__oof=first_answers(), tied=tied([permuted_rows, other_index, same_index, doubled_row, without_id])), exact=False,
        ),
        'submit_run': Late(
            lambda fold1__test: submitted(run_with(fold1__test=fold1__test)), lambda: dict(fold1__test=(answered('fold1/test'), ANSWERS)),
        ),
        'report_run': Late(reported, lambda: dict(tied=tied([permuted_rows, doubled_row]))),
    },
    'run.pipeline': {
        'hand_in': of_folds(lambda folds: handed(folds)),
        'start_run': of_folds(lambda folds: started(folds)),
    },
}


def by_id(table, *columns): return table.set_index(table.id.astype(str))[list(columns)].astype(str).apply(tuple, axis=1).sort_index().to_dict()


@cache
def seen_recipe():
    "A recipe that begins with weights which were trained on the other half"
    from hpa_lib.run.recipes import load_recipe
    from hpa_lib.nets.models import save_model
    trained = FOLDER.recipe_learner(store(), folds(), 1, recipe(), Path(mkdtemp(prefix='walk')))
    file = save_model(trained.model, root()/'seen.safetensors')
    return load_recipe('default', [*RECIPE, f'model.weights={file}', 'model.seen=mark'])


EXEMPT = {
    'run.bundle': {
        'save_members': 'asked by save_bundle, by the same checks',
    },
    'run.recipes': {
        'SourceSettings.source': 'channels of the recipe itself, in its order', 
    },
    'run.folder': {
        'Run.blended': 'Run.probs, blended by name', 'recipe_vocab': 'classes by code or name', 
        'callback_names': 'gives names', 'fit_fold': 'trains the Learner of recipe_learner', 'train_fold': 'check_seen and fit_fold on the folds of the run',
        'seen_facts': 'counts of files that train_fold wrote', 'bundle_run': 'files of the run, by save_members',
    },
    'run.steps': {'Step': 'work that is named'},
    'run.pipeline': {
        'with_sources': 'sources by path', 'recipe_steps': 'says what run_recipe does', 'run_recipe': 'asked by start_run and by the commands',
        'train_run': 'run_recipe on a store', 'training_estimate': 'a number of rows',
    },
}

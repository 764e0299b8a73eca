#!/usr/bin/env python3
"""Where the five solutions contradict each other, measured: one small fixed setting (EfficientNet-Lite0, 64 px, 5 epochs, two grouped
folds, three seeds, which also draw the folds), one thing changed at a time, on single cells (folder `cells256`) and on the synthetic atlas.
Scores are nested macro F1 and mean average precision of the out-of-fold rows. A difference is paired: both arms have the same folds and
seeds, and its 95 % interval resamples groups and seeds together. Finished trainings are kept in --work, and the same command goes on.

    python benchmarks/ablation.py --work FOLDER [--data cells256] [--seeds 0 1 2] [--part 0/1] [--out data/ablation.csv]

With --part 0/2 and --part 1/2 two processes share the trainings; run once more without it for the table. On 2 cores: about 2 hours.
"""
import argparse
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd

BASE = ['train.opt=adamw', 'train.epochs=5', 'train.lr=2e-3', 'train.bs=16', 'train.keep=0', 'train.log=false', 'train.val_batches=1',
        'train.augment=dihedral', 'model.hidden=256', 'model.ps=.25', 'data.size=64', 'split.folds=2']
QUESTIONS = {  # question -> arm -> (changes, view rule, threshold rule); the first arm is what the others are compared to
    'loss': dict(focal=[], bce=['train.loss=bce'], focal_lovasz=['train.loss="0.5*focal + 0.5*lovasz"'], focal_soft_f1=['train.loss=focal_f1']),
    'channels': dict(RGBY=[], RGB=['data.channels=["red", "green", "blue"]']),
    'sampler': dict(none=[], max_log=['train.sampler=max_log']),
    'optimiser': dict(AdamW=[], Adam=['train.opt=adam']),
    'schedule': dict(one_cycle=[], warm_restarts=['train.schedule=cosine', 'train.at=[2]'], steps=['train.schedule=steps', 'train.lr=[1e-3, 3e-4, 1e-4]', 'train.at=[3, 4]']),
    'start': dict(pretrained=[], scratch=['model.weights=none']),
    'network, from scratch': dict(efficientnet_lite0=['model.weights=none'], resnet18=['model.weights=none', 'model.arch=resnet18']),
    'stem': dict(red_copy=[], zeros=['model.stem=zeros'], red_blue=['model.stem=red_blue'], mean=['model.stem=mean'], random=['model.stem=random']),
    'extra data (synthetic)': dict(none=[], clean=['extra=clean'], conflicts=['extra=conflicts']),
}
VIEWS = dict(none='none', mean='mean', max='max')


def stores(work: Path, data: Path | None) -> dict:
    "Packed pictures: real cells, and the synthetic atlas with an extra source whose labels are right or partly wrong."
    from hpa_lib.data.samples import read_samples
    from hpa_lib.data.store import Store, pack
    from hpa_lib.synth.atlas import make_atlas
    out = {}
    for channels in (['red', 'green', 'blue', 'yellow'], ['red', 'green', 'blue']):
        made = {}
        if data:
            made['cells256'] = lambda: read_samples(data, channels=channels)
        made['synthetic'] = lambda: atlas(work, make_atlas, read_samples)
        for name, read in made.items():
            path = work/f'{name}-{len(channels)}.zarr'
            out[name, len(channels)] = Store(path) if (path/'samples.parquet').is_file() else pack(read(), path, 64, channels, progress=False)
    return out


def atlas(work, make_atlas, read_samples):
    "500 samples to score, and 250 of other antibodies that only train."
    from hpa_lib.data.samples import join_samples
    main = read_samples(make_atlas(work/'atlas', n=500, size=64, seed=1, temper=.25, progress=False))
    more = read_samples(make_atlas(work/'extra', n=250, size=64, seed=2, temper=.25, progress=False))
    more = more.assign(id='extra-' + more.id, source='extra', **{k: 'extra-' + more[k] for k in ('group', 'antibody') if k in more})
    return join_samples(main, more)


def conflicted(labels: pd.Series, share: float, seed: int) -> pd.Series:
    "The label sets of `share` of the samples dealt out anew among themselves, as where two sources label one picture differently."
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(labels))[:round(share*len(labels))]
    out = labels.tolist()
    for a, b in zip(rows, np.roll(rows, 1)):
        out[a] = labels.iloc[b]
    return pd.Series(out, index=labels.index)


def train_arm(store, dataset: str, changes: list, seed: int, path: Path, work: Path) -> None:
    "Out-of-fold probabilities of one arm and one seed in eight views."
    from hpa_lib.data.folds import grouped_folds
    from hpa_lib.learn.predict import predict_rows
    from hpa_lib.run.folder import fit_fold, recipe_vocab
    from hpa_lib.run.recipes import load_recipe
    extra = next((o.partition('=')[2] for o in changes if o.startswith('extra')), None)
    classes = ['data.classes="0 2 21 23 25"'] if dataset == 'cells256' else []
    recipe = load_recipe('default', BASE + classes + [f'train.seed={100*seed}', f'split.seed={seed}'] + [o for o in changes if not o.startswith('extra')])
    vocab, s, begun = recipe_vocab(recipe, store), store.samples, time.perf_counter()
    if dataset == 'synthetic':
        s = s.copy()
        mine = s.source == 'extra'
        if extra == 'conflicts':
            s.loc[mine, 'labels'] = conflicted(s.labels[mine], .4, 0)
        s['is_test'] = mine & (extra is None)
        s['labels'] = s.labels.where(~s.is_test, None)
        store.samples = s
    rows = s[~s.is_test.astype(bool)]
    folds = grouped_folds(rows.assign(labels=vocab.only(rows.labels)).reset_index(drop=True), vocab, 2, seed, train_only=['extra'] if extra else ())
    parts = []
    for k in range(2):
        learn = fit_fold(store, folds, k, recipe, work/'fits'/f'{path.stem}-{k}', progress=False)
        held = set(folds.id[(folds.fold == k) & folds.get('valid', True)])
        parts.append(predict_rows(learn.model, store, np.flatnonzero(s.id.isin(held)), vocab, 'dihedral8', k, progress=False))
    part = path.with_name(f'.{path.name}.partial')
    pd.concat(parts, ignore_index=True).assign(seconds=time.perf_counter() - begun).to_parquet(part)
    part.replace(path)


def jobs(datasets: list, seeds: list) -> list:
    "Every training once, in an order that finishes questions early: (dataset, name, changes, seed)."
    seen, out = set(), []
    for seed in seeds:
        for question, arms in QUESTIONS.items():
            for changes in arms.values():
                for d in datasets:
                    name = '+'.join(o.replace('"', '').replace(' ', '').replace('*', 'x') for o in changes) or 'base'
                    if (d, name, seed) in seen or (d != 'synthetic' and 'synthetic' in question):
                        continue
                    seen.add((d, name, seed))
                    out.append((d, name, changes, seed))
    return out


def file(work: Path, dataset: str, changes: list, seed: int) -> Path:
    name = '+'.join(o.replace('"', '').replace(' ', '').replace('*', 'x') for o in changes) or 'base'
    return work/'arms'/f"{dataset}-{name.replace('/', '_')}-{seed}.parquet"


def decided(path: Path, store, views: str, rule: str) -> tuple:
    "Targets, nested decisions, probabilities and groups of one arm and one seed."
    from hpa_lib.data.probs import reduce_views
    from hpa_lib.decide.threshold_rules import threshold_rule
    from hpa_lib.decide.thresholds import nested_score
    t = pd.read_parquet(path).drop(columns='seconds')
    fold = t.drop_duplicates('id').set_index('id').fold
    p = reduce_views(t[t['view'] == 0] if views == 'none' else t, 'mean' if views == 'none' else views)
    s = store.samples.set_index('id').loc[p.index]
    vocab = store.vocab.subset(list(p.columns))
    y = vocab.multi_hot(vocab.only(s.labels))
    score = nested_score(p, pd.DataFrame(y, p.index, p.columns), fold, fit=threshold_rule(rule))
    order = np.argsort(p.index.to_numpy())
    return y[order], score.hard[order], p.to_numpy()[order], s.group.to_numpy()[order], score.nested


def difference(a: list, b: list, draws: int = 1000) -> tuple:
    "Mean of b - a over seeds in macro F1, with its 95 % interval over groups and seeds."
    groups = np.unique(a[0][3])
    def counts(o):  # groups x 3 x classes
        code = np.searchsorted(groups, o[3])
        out = np.zeros((len(groups), 3, o[0].shape[1]))
        for i, v in enumerate((o[0] * o[1], o[1], o[0])):
            np.add.at(out[:, i], code, v.astype(float))
        return out
    def f1(c):
        keep = c[..., 2, :] > 0
        return np.where(keep, 2*c[..., 0, :]/np.maximum(c[..., 1, :] + c[..., 2, :], 1), 0).sum(-1)/keep.sum(-1)
    ca, cb = (np.stack([counts(o) for o in x]) for x in (a, b))                # seeds x groups x 3 x classes
    rng, found = np.random.default_rng(0), []
    for _ in range(draws):
        w = np.bincount(rng.integers(len(groups), size=len(groups)), minlength=len(groups))
        k = rng.integers(len(a), size=len(a))
        found.append((f1(np.tensordot(cb[k], w, (1, 0))) - f1(np.tensordot(ca[k], w, (1, 0)))).mean())
    return float((f1(cb.sum(1)) - f1(ca.sum(1))).mean()), *np.quantile(found, [.025, .975])


def table(work: Path, packed: dict, datasets: list, seeds: list) -> pd.DataFrame:
    "One row a question, dataset and arm whose trainings are all there."
    from hpa_lib.data.scores import mean_ap
    rows, questions = [], {q: {k: (c, 'mean', 'exact') for k, c in arms.items()} for q, arms in QUESTIONS.items()}
    questions['views'] = {k: ([], v, 'exact') for k, v in VIEWS.items()}
    questions['thresholds'] = dict(per_class=([], 'mean', 'exact'), one=([], 'mean', 'single'), at_half=([], 'mean', 'fixed(.5)'))
    for q, arms in questions.items():
        for d in datasets:
            if 'synthetic' in q and d != 'synthetic':
                continue
            first = None
            for arm, (changes, views, rule) in arms.items():
                files = [file(work, d, changes, s) for s in seeds]
                if not all(o.is_file() for o in files):
                    continue
                found = [decided(o, packed[d, 4], views, rule) for o in files]
                nested = [o[4] for o in found]
                row = dict(question=q, dataset=d, arm=arm, macro_f1=np.mean(nested), spread=np.std(nested, ddof=1), mean_ap=np.mean([mean_ap(o[0], o[2]) for o in found]),
                           seconds=np.mean([pd.read_parquet(o, columns=['seconds']).seconds.iloc[0] for o in files]))
                if first is None:
                    first = (arm, found)
                else:
                    diff, low, high = difference(first[1], found)
                    row |= dict(against=first[0], difference=diff, low=low, high=high, verdict='better' if low > 0 else 'worse' if high < 0 else 'cannot tell')
                rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--work', type=Path, required=True)
    p.add_argument('--data', type=Path, help='folder cells256; without it only the synthetic atlas')
    p.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    p.add_argument('--part', default='', help='K/N: this process does every N-th training, beginning with the K-th')
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    (a.work/'arms').mkdir(exist_ok=True)
    from filelock import FileLock
    with FileLock(a.work/'.lock'):
        packed = stores(a.work, a.data)
    datasets = list(dict.fromkeys(k for k, _ in packed))
    from hpa_lib.data.store import Store
    todo = [(d, c, s, file(a.work, d, c, s)) for d, _, c, s in jobs(datasets, a.seeds)]
    k, n = map(int, a.part.split('/')) if a.part else (0, 1)
    for i, (d, changes, seed, path) in enumerate(todo):
        if i % n != k or path.is_file():
            continue
        begun = time.perf_counter()
        train_arm(Store(packed[d, 3 if any('channels' in o for o in changes) else 4].path), d, changes, seed, path, a.work)
        print(f'{i + 1}/{len(todo)} {path.stem}: {time.perf_counter() - begun:.0f} s', flush=True)
    if a.part:
        return
    found = table(a.work, packed, datasets, a.seeds)
    commit = subprocess.run(['git', 'rev-parse', '--short', 'HEAD'], capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()
    found['command'], found['commit'] = f"python benchmarks/ablation.py --seeds {' '.join(map(str, a.seeds))}", commit
    if a.out:
        part = a.out.with_name(f'.{a.out.name}.partial')
        found.to_csv(part, index=False, float_format='%.4f')
        os.replace(part, a.out)
    print(found.drop(columns=['command', 'commit']).round(3).to_string(index=False))


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
"""Single cells of five classes (folder `cells256` in Kaggle layout with groups.csv): `hpa pack` and `hpa train`, several seeds,
on the folds of scikit-learn's StratifiedGroupKFold(5, shuffle=True, random_state=0). With --reference SCRIPT that script is run too
(a plain fastai training on the same folds), so that scores and seconds are measured side by side; the difference in nested macro F1 is
paired, with its 95 % interval over groups and seeds, both decided by the library's rule. The script must leave `df` (Id), `vocab` (codes) and `oof` (probabilities).

    python benchmarks/cells256.py --data FOLDER [--seeds 0 1 2] [--reference SCRIPT] [--out results.csv]
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from ablation import difference
from sklearn.model_selection import StratifiedGroupKFold

CLASSES = '0 2 21 23 25'


def run(*words) -> float:
    "Run a command; seconds it took."
    begun = time.perf_counter()
    subprocess.run([str(o) for o in words], check=True)
    return time.perf_counter() - begun


def reference_folds(data: Path) -> pd.DataFrame:
    "Id and fold as the reference cuts them."
    df = pd.read_csv(data/'train.csv', dtype=str).merge(pd.read_csv(data/'groups.csv', dtype=str))
    df['fold'] = -1
    for k, (_, valid) in enumerate(StratifiedGroupKFold(5, shuffle=True, random_state=0).split(df, df.Target, df.group)):
        df.loc[valid, 'fold'] = k
    return df[['Id', 'fold']]


REFERENCE = """import runpy, sys
import pandas as pd
script, out = sys.argv[1:]
sys.argv = [script]
g = runpy.run_path(script)
pd.DataFrame(g['oof'], columns=[str(o) for o in g['vocab']]).assign(id=g['df'].Id.to_numpy()).to_parquet(out)
"""


def decided(probs: pd.DataFrame, store, folds: pd.DataFrame) -> tuple:
    "Targets, nested decisions, probabilities, groups and score of id x class probabilities, in order of the ids."
    from hpa_lib.decide.threshold_rules import DEFAULT_RULE, threshold_rule
    from hpa_lib.decide.thresholds import nested_score
    probs = probs.sort_index()
    rows, vocab = store.samples.set_index('id').loc[probs.index], store.vocab.subset(list(probs.columns))
    truth = pd.DataFrame(vocab.multi_hot(vocab.only(rows.labels)), probs.index, probs.columns)
    fold = folds.set_index('Id').fold.astype(int).loc[probs.index]
    score = nested_score(probs, truth, fold, fit=threshold_rule(DEFAULT_RULE))
    return truth.to_numpy(), score.hard, probs.to_numpy(), rows.group.to_numpy(), score.nested


def compare(work: Path, store: Path, folds: pd.DataFrame, seeds: list) -> str:
    "The paired difference to the reference, in words."
    from hpa_lib.data.probs import class_table
    from hpa_lib.data.scores import mean_ap
    from hpa_lib.data.store import Store
    from hpa_lib.run.folder import Run
    packed, theirs = Store(store), pd.read_parquet(work/'reference.parquet').set_index('id')
    theirs.columns = packed.vocab.parse(' '.join(theirs.columns))
    a = decided(theirs, packed, folds)
    b = [decided(class_table(Run(work/f'seed{o}').probs('oof')), packed, folds) for o in seeds]
    diff, low, high = difference([a]*len(b), b)
    return (f'reference: nested macro F1 {a[4]:.3f}, mAP {mean_ap(a[0], a[2]):.3f}; ours: {np.mean([o[4] for o in b]):.3f}, {np.mean([mean_ap(o[0], o[2]) for o in b]):.3f}; '
            f'paired difference in macro F1 {diff:+.3f} (95 % interval over groups and seeds {low:+.3f} to {high:+.3f})')


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', type=Path, required=True)
    p.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    p.add_argument('--set', nargs='+', default=[], help='changes to the recipe')
    p.add_argument('--reference', type=Path, help='script of the plain training, run once before')
    p.add_argument('--work', type=Path, help='keep store and runs here; finished folds are not trained again')
    p.add_argument('--out', type=Path, help='CSV, one row a seed')
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        work = a.work or Path(tmp)
        work.mkdir(parents=True, exist_ok=True)
        if a.reference and not (work/'reference.parquet').is_file():
            print(f"reference: {run(sys.executable, '-c', REFERENCE, a.reference, work/'reference.parquet'):.0f} s", flush=True)
        store, folds, rows = work/'cells.zarr', work/'folds.csv', []
        reference_folds(a.data).to_csv(folds, index=False)
        if not store.exists():
            print(f"pack: {run(sys.executable, '-m', 'hpa_lib', 'pack', a.data, '--out', store, '--size', 160, '--quiet'):.0f} s", flush=True)
        for seed in a.seeds:
            path = work/f'seed{seed}'
            run(sys.executable, '-m', 'hpa_lib', 'train', store, '--run', path, '--folds', folds, '--classes', CLASSES, '--quiet', '--set', f'train.seed={100*seed}', *a.set)
            r = json.loads((path/'report.json').read_text())
            spent = [json.loads(o.read_text()) for o in sorted(path.glob('fold*/fold.json'))]
            rows.append(dict(seed=seed, nested=r['nested'], low=r['low'], high=r['high'], in_sample=r['in_sample'], at_half=r['at_half'], mean_ap=r['mean_ap'])
                        | {k: v['nested'] for k, v in r['per_class'].items()} | dict(training_seconds_a_fold=sum(o['train_seconds'] for o in spent)/len(spent)))
            table = pd.DataFrame(rows).set_index('seed')
            if a.out:
                table.to_csv(a.out)
        table.loc['mean'] = table.mean()
        print(table.T.round(3).to_string())
        if a.reference:
            print(compare(work, store, pd.read_csv(folds, dtype=str), a.seeds))


if __name__ == '__main__':
    main()

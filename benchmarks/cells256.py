#!/usr/bin/env python3
"""Single cells of five classes (folder `cells256` in Kaggle layout with groups.csv): `hpa pack` and `hpa train`, several seeds,
on the folds of scikit-learn's StratifiedGroupKFold(5, shuffle=True, random_state=0). With --reference SCRIPT that script is run too
(a plain fastai training on the same folds), so that scores and seconds are measured side by side.

    python benchmarks/cells256.py --data FOLDER [--seeds 0 1 2] [--reference SCRIPT] [--out results.csv]
"""
import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
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
        if a.reference:
            print(f'reference: {run(sys.executable, a.reference):.0f} s', flush=True)
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


if __name__ == '__main__':
    main()

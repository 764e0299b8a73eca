#!/usr/bin/env python3
"""How often do the intervals of macro F1 hold what they are meant to hold? Simulated samples from the label tables of Kaggle and HPAv18.

    python benchmarks/coverage.py --tables FOLDER                          # kaggle_train.csv.gz and hpav18.csv.gz; 300 and 4,000 pictures

`results/coverage.csv` was made by three commands, about 45 minutes on one core:

    python benchmarks/coverage.py --tables FOLDER --sizes 300 --samples 1000 --percentile --out coverage.csv
    python benchmarks/coverage.py --tables FOLDER --sizes 4000 --percentile --out coverage.csv
    python benchmarks/coverage.py --tables FOLDER --sizes 31000 --draws 100 --out coverage.csv

With --percentile the percentile bootstrap is measured beside it: groups drawn with replacement, absent classes leaving the mean.

The population: groups of pictures with their labels are drawn from the table with replacement, as many as give `--sizes` pictures on average
(HPAv18: the pictures of an antibody, Kaggle: each picture by itself). Two deciders look at them. What a decider sees of a class is normal: a part
that all classes of a group share (variance .2), one of the group and the class (.3) and one of the picture (.5); the second decider sees it with
correlation .8. It says yes above a fixed cut, which differs for positives and negatives so that it has a given recall and precision in the
population: `fair` deciders .1 to .6, `good` ones .4 to .95, drawn for each class, and for the second decider a little off. So the true F1 of
each class is known exactly, and the truth asked for is its mean over the classes that have a positive in the sample.

Printed for macro F1 (`bootstrap_f1`) and the difference of both deciders (`paired_f1`): coverage of nominal 95 % with its Monte Carlo error, how
often the truth lay below and above the interval, mean width, the bias of the sample's score in standard deviations, classes in fewer than five
groups and classes without a positive (means), and whether each interval held its own score.
"""
import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from hpa_lib.data.labels import HPA28
from hpa_lib.data.scores import counts_f1
from hpa_lib.decide.blend import paired_f1
from hpa_lib.decide.thresholds import bootstrap_f1, group_counts

TABLES = {"kaggle": "kaggle_train.csv.gz", "hpav18": "hpav18.csv.gz"}
SKILLS = {"fair": (.1, .6), "good": (.4, .95)}


class Population:
    "Groups of pictures with labels, and two deciders whose F1 is known"

    def __init__(self, table: pd.DataFrame, grouped: bool, skill: str, seed: int = 0):
        group = table.Id.str.split("_").str[0] if grouped else table.Id
        table = table.iloc[np.argsort(pd.factorize(group)[0], kind="stable")]
        self.grouped = grouped
        self.targs = HPA28.multi_hot(table.Target.map(HPA28.parse)).astype(bool)
        self.sizes = group.value_counts(sort=False).to_numpy()
        self.starts = np.cumsum(self.sizes) - self.sizes
        rng = np.random.default_rng(seed)
        low, high = SKILLS[skill]
        classes = self.targs.shape[1]
        recall, precision = rng.uniform(low, high, (2, classes))
        self.deciders = [self.decider(recall, precision)]
        recall = recall + rng.normal(.03, .07, classes)
        precision = precision + rng.normal(0, .07, classes)
        self.deciders.append(self.decider(np.clip(recall, .05, .97), np.clip(precision, .05, .97)))
        self.f1 = np.stack([o["f1"] for o in self.deciders])

    def decider(self, recall: np.ndarray, precision: np.ndarray) -> dict:
        "Cuts for positives and for negatives, and the F1 that they give"
        share = self.targs.mean(0)
        wrong = np.minimum(share*recall*(1 - precision)/precision/(1 - share), .3)        # of the negatives
        f1 = 2*share*recall / (share + share*recall + (1 - share)*wrong)
        return dict(yes=norm.isf(recall), no=norm.isf(wrong), f1=f1)

    def seen(self, group: np.ndarray, groups: int, rng: np.random.Generator) -> np.ndarray:
        "What a decider sees of every picture and class, standard normal"
        shape = (len(group), self.targs.shape[1])
        shared = rng.standard_normal((groups, 1), dtype="float32")
        of_class = rng.standard_normal((groups, shape[1]), dtype="float32")
        return ((.2**.5*shared + .3**.5*of_class)[group] + .5**.5*rng.standard_normal(shape, dtype="float32"))

    def sample(self, pictures: int, rng: np.random.Generator) -> tuple:
        "Targets, decisions of both, groups"
        groups = max(2, round(pictures/self.sizes.mean()))
        drawn = rng.integers(len(self.sizes), size=groups)
        sizes = self.sizes[drawn]
        group = np.repeat(np.arange(groups), sizes)
        within = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        targs = self.targs[self.starts[drawn][group] + within]
        first = self.seen(group, groups, rng)
        both = first, .8*first + .6*self.seen(group, groups, rng)
        hard = [seen > np.where(targs, o["yes"], o["no"]) for seen, o in zip(both, self.deciders)]
        return targs, hard, group if self.grouped else None


def percentile(targs: np.ndarray, hard: list, groups, n: int, rng: np.random.Generator) -> tuple:
    "Percentiles of macro F1 and of the difference when groups are drawn with replacement and absent classes leave the mean"
    macro = []
    counts = [group_counts(targs, h, groups) for h in hard]
    draws = rng.multinomial(len(counts[0]), np.full(len(counts[0]), 1/len(counts[0])), size=n).astype("float32")
    for o in counts:
        f1 = counts_f1((draws @ o.reshape(len(o), -1).astype("float32")).reshape(n, 3, -1))
        macro.append(np.nanmean(f1, axis=1))
    return [np.nanquantile(o, [.025, .975]) for o in (macro[0], macro[0] - macro[1])]


def one(population: Population, pictures: int, n: int, seed: int, old: bool) -> list:
    "The score and the difference of one sample, with their truths and intervals"
    rng = np.random.default_rng(seed)
    targs, hard, groups = population.sample(pictures, rng)
    seen = targs.any(0)
    truth = population.f1[:, seen].mean(1)
    score = bootstrap_f1(targs, hard[0], groups, n=n, seed=seed)
    pair = paired_f1(targs, *hard, groups, n=n, seed=seed)
    rows = [
        dict(what="macro F1", found=score["score"], truth=truth[0], low=score["low"], high=score["high"]),
        dict(what="difference", found=pair["difference"], truth=truth[0] - truth[1], low=pair["low"], high=pair["high"]),
    ]
    if old:
        for row, (low, high) in zip(rows, percentile(targs, hard, groups, n, rng)):
            row |= dict(old_low=low, old_high=high)
    return [row | dict(few=len(score["few_groups"]), absent=len(score["absent"])) for row in rows]


def summary(rows: pd.DataFrame) -> dict:
    "One line of the table"
    held = (rows.low <= rows.truth) & (rows.truth <= rows.high)
    error = rows.found - rows.truth
    line = dict(
        score=rows.found.mean(),
        coverage=held.mean(),
        error=np.sqrt(held.mean()*(1 - held.mean())/len(held)),
        below=(rows.truth < rows.low).mean(),
        above=(rows.truth > rows.high).mean(),
        width=(rows.high - rows.low).mean(),
        bias=error.mean()/error.std(),
        few=rows.few.mean(),
        absent=rows.absent.mean(),
        holds_score=((rows.low <= rows.found) & (rows.found <= rows.high)).all(),
    )
    if "old_low" in rows:
        line["percentile"] = ((rows.old_low <= rows.truth) & (rows.truth <= rows.old_high)).mean()
    return line


def append(path: Path, lines: list) -> None:
    "Add lines to a CSV"
    found = pd.DataFrame(lines).round(4)
    if path.is_file():
        found = pd.concat([pd.read_csv(path), found], ignore_index=True)
    found.to_csv(path, index=False)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tables", type=Path, required=True, help="folder with kaggle_train.csv.gz and hpav18.csv.gz")
    p.add_argument("--sizes", type=int, nargs="+", default=[300, 4000], help="pictures of a sample")
    p.add_argument("--samples", type=int, default=500, help="simulated samples of each size")
    p.add_argument("--draws", type=int, default=300, help="of each interval")
    p.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES))
    p.add_argument("--skills", nargs="+", choices=list(SKILLS), default=list(SKILLS))
    p.add_argument("--percentile", action="store_true", help="also the percentile bootstrap")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, help="CSV, one row per table, skill, size and quantity; rows are added to it")
    a = p.parse_args()
    lines = []
    for name in a.only:
        table = pd.read_csv(a.tables / TABLES[name], dtype=str)
        for skill in a.skills:
            population = Population(table, name == "hpav18", skill)
            for size in a.sizes:
                begun = time.perf_counter()
                rows = pd.DataFrame([row for k in range(a.samples) for row in one(population, size, a.draws, a.seed + k, a.percentile)])
                for what, part in rows.groupby("what", sort=False):
                    lines.append(dict(table=name, skill=skill, pictures=size, what=what, samples=a.samples, draws=a.draws) | summary(part))
                spent = time.perf_counter() - begun
                shown = pd.DataFrame(lines[-2:]).round(3)
                if len(lines) == 2:
                    print(" ".join(f"{o:>10}" for o in shown))
                for line in shown.itertuples(index=False):
                    print(" ".join(f"{o!s:>10}" for o in line), flush=True)
                print(f"{spent:.0f} s", flush=True)
                if a.out:
                    append(a.out, lines[-2:])


if __name__ == "__main__":
    main()

"Rooms of tables: probabilities, targets, folds, groups, samples."
import numpy as np
import pandas as pd

from walk import *

ROOMS = [
    'data.probs', 'data.scores', 'decide.thresholds', 'decide.threshold_rules', 'decide.calibrate', 'decide.prior_shift',
    'decide.blend', 'decide.decision', 'decide.submit', 'see.report', 'data.folds', 'data.shared_folds', 'data.duplicates',
]

TAKES = {
    'probs', 'targs', 'hard', 'tables', 'table', 'folds', 'thresh', 'thresholds', 'labels', 'groups', 'weights', 'twins',
    'known', 'y', 'p', 'known_probs', 'known_targs', 'a', 'b', 'old', 'new', 'ratios', 'truth', 'samples', 'pairs', 'hashes',
}

# What the functions are asked about: 60 samples with names, three classes, folds, groups, labels
rng = np.random.default_rng(0)
IDS = pd.Index([f's{i:02}' for i in range(60)], name='id')
NAMES = ['Cytosol', 'Golgi apparatus', 'Nucleoli']
Y = pd.DataFrame(rng.random((60, 3)) < [.5, .3, .2], IDS, NAMES)
P = pd.DataFrame(np.clip(.25 + .5*Y + rng.normal(0, .15, Y.shape), .01, .99), IDS, NAMES)
Q = pd.DataFrame(np.clip(.3 + .4*Y + rng.normal(0, .2, Y.shape), .01, .99), IDS, NAMES)
HARD = P > .5
FOLDS = pd.Series(np.arange(60) % 4, IDS, name='fold')
GROUPS = pd.Series([f'g{i//3}' for i in range(60)], IDS, name='group')
TWINS = pd.Series([f't{i//2}' for i in range(60)], IDS, name='twin')
LABELS = pd.Series([[o for o in NAMES if Y.loc[i, o]] for i in IDS], IDS, name='labels', dtype=object)
SAMPLES = pd.DataFrame(dict(id=IDS, labels=LABELS.to_numpy(), group=GROUPS.to_numpy(), twin=TWINS.to_numpy()))
THRESH = pd.Series([.4, .5, .6], NAMES)
RATIOS = pd.Series([.5, .3, .2], NAMES)


def pair(call, p=P, y=Y, names=('probs', 'targs'), exact=True):
    "A function of probabilities and targets"
    return Entry(call, {names[0]: (p, TABLE), names[1]: (y, TABLE)}, exact)


def column(call):
    "A function of the probabilities and targets of one class"
    rows = [*ROWS, as_text]
    return Entry(call, dict(p=(P['Cytosol'], rows), y=(Y['Cytosol'], rows)))


S, R = load('data.scores'), load('data.probs')
T, U, C = load('decide.thresholds'), load('decide.threshold_rules'), load('decide.calibrate')
X, B, D, W, V = load('decide.prior_shift'), load('decide.blend'), load('decide.decision'), load('decide.submit'), load('see.report')
CALIBRATION = C.fit_calibration(P, Y, 'platt')
OFFSET = C.fit_calibration(P, Y, 'offset')
BROKEN = P.copy()
BROKEN.loc['s07'] = .5
FAULTS = C.find_faults(BROKEN, Y)
DECISION = D.Decision(thresholds=THRESH.to_dict(), calibration=CALIBRATION)
MEETING = D.Decision(thresholds=THRESH.to_dict(), rates=RATIOS.to_dict())
MOVABLE = D.Decision(thresholds=THRESH.to_dict(), calibration=OFFSET, ratios=OFFSET.apply(P).mean().to_dict())
BLEND = B.Blend(how='mean', weights=dict(one=1., two=2.), classes=NAMES)
POOL = B.log_pool(dict(one=P, two=Q), Y)
OOF = P.assign(fold=FOLDS)


def found_faults(o): return dict(rows=sorted(o.rows), most=o.most, curves=pd.DataFrame(o.curves)[NAMES].to_numpy())


def two(call, **more):
    "A function of two tables; a part each, as they are changed one by one"
    return lambda one, two, **kw: call(dict(one=one, two=two), **kw, **more)


def tables(call, targs=True, exact=True, **parts):
    more = dict(targs=(Y, TABLE)) if targs else {}
    return Entry(call, dict(one=(P, TABLE), two=(Q, TABLE)) | more | parts, exact)


ENTRIES = {
    'data.scores': {
        'class_counts': pair(lambda targs, hard: S.class_counts(targs, hard), Y, HARD, ('targs', 'hard')),
        'f1_per_class': pair(lambda targs, hard: S.f1_per_class(targs, hard), Y, HARD, ('targs', 'hard')),
        'macro_f1': pair(lambda targs, hard: S.macro_f1(targs, hard), Y, HARD, ('targs', 'hard')),
        'average_precision': column(lambda p, y: S.average_precision(p, y)),
        'mean_ap': pair(lambda targs, probs: S.mean_ap(targs, probs), Y, P, ('targs', 'probs')),
    },
    'data.probs': {
        'check_probs': Entry(lambda probs: R.check_probs(probs), dict(probs=(P, ALONE))),
        'class_table': Entry(lambda table: R.class_table(table), dict(table=(P, [*ALONE, counted, doubled]))),
        'align_tables': Entry(lambda one, two: R.align_tables(dict(one=one, two=two))['two'], dict(one=(P, TABLE), two=(Q, TABLE))),
        'reduce_views': Entry(
            lambda table: R.reduce_views(table.reset_index().assign(fold=0, view=0)), dict(table=(P, [permuted_rows, permuted_classes, nan_in])),
        ),
        'write_probs': Entry(lambda table: R.read_probs(R.write_probs(table, 'walk.csv')), dict(table=(P, [*ALONE, counted]))),
    },
    'decide.thresholds': {
        'class_cuts': column(lambda p, y: T.class_cuts(p, y)[1]),
        'threshold_curve': column(lambda p, y: T.threshold_curve(p, y).to_numpy()),
        'best_threshold': column(lambda p, y: T.best_threshold(p, y)),
        'threshold_facts': column(lambda p, y: T.threshold_facts(p, y)),
        'fit_thresholds': pair(lambda probs, targs: T.fit_thresholds(probs, targs)),
        'plot_thresholds': pair(lambda probs, targs: T.plot_thresholds(probs, targs).get_title()),
        'apply_thresholds': Entry(lambda probs, thresh: T.apply_thresholds(probs, thresh), dict(probs=(P, ALONE), thresh=(THRESH, BY_CLASS))),
        'cap_labels': pair(lambda p, hard: T.cap_labels(p, THRESH, hard, 1), P, HARD, ('p', 'hard')),
        'nested_score': Entry(
            lambda probs, targs, folds: T.nested_score(probs, targs, folds).nested,
            dict(probs=(P, TABLE), targs=(Y, TABLE), folds=(FOLDS, ROWS)),
        ),
        'bootstrap_f1': Entry(
            lambda targs, hard, groups: T.bootstrap_f1(targs, hard, groups, n=20)['score'],
            dict(targs=(Y, TABLE), hard=(HARD, TABLE), groups=(GROUPS, ROWS)),
        ),
    },
    'decide.threshold_rules': {
        **{
            o: pair(lambda probs, targs, o=o: getattr(U, o)(probs, targs), exact=False)
            for o in (
                'single_threshold', 'soft_f1_thresholds', 'ratio_thresholds', 'calibrated_thresholds', 'bagged_thresholds',
                'shrunk_thresholds', 'scaled_thresholds',
            )
        },
        # Its folds are dealt in the order of the rows of the probabilities
        'fold_mean_thresholds': Entry(
            lambda probs, targs: U.fold_mean_thresholds(probs, targs),
            dict(probs=(P, [o for o in TABLE if o is not permuted_rows]), targs=(Y, TABLE)),
        ),
        'fixed_thresholds': Entry(lambda probs: U.fixed_thresholds(probs, Y), dict(probs=(P, [permuted_rows, nan_in]))),
        'expected_f1_thresholds': Entry(lambda probs: U.expected_f1_thresholds(probs), dict(probs=(P, ALONE))),
        'rank_rules': tables(
            lambda one, two, targs, groups: U.rank_rules(
                dict(one=one, two=two), targs, ['exact'], repeats=1, groups=groups,
            ).scores.set_index('model').nested.to_dict(),
            groups=(GROUPS, ROWS),
        ),
        'apply_fallbacks': pair(lambda probs, hard: U.apply_fallbacks(probs, hard, ['argmax']), P, P > .9, ('probs', 'hard')),
    },
    'decide.calibrate': {
        'reliability': column(lambda p, y: C.reliability(p, y).to_numpy()),
        'ece': pair(lambda probs, targs: C.ece(probs, targs)),
        'ece_per_class': pair(lambda probs, targs: C.ece_per_class(probs, targs)),
        'brier': pair(lambda probs, targs: C.brier(probs, targs)),
        'Calibration.apply': Entry(lambda probs: CALIBRATION.apply(probs), dict(probs=(P, [*ALONE, class_less, class_more]))),
        'fit_calibration': pair(lambda probs, targs: C.fit_calibration(probs, targs).apply(P), exact=False),
        'cross_fit': Entry(
            lambda probs, targs, folds: C.cross_fit(probs, targs, folds),
            dict(probs=(P, TABLE), targs=(Y, TABLE), folds=(FOLDS, ROWS)), exact=False,
        ),
        'trusted_slope': pair(lambda probs, targs: C.trusted_slope(probs, targs)[2], exact=False),
        'find_faults': pair(lambda probs, targs: found_faults(C.find_faults(probs, targs)), exact=False),
        'Faults.silent': Entry(lambda probs: FAULTS.silent(probs), dict(probs=(BROKEN, [*ALONE, class_less, class_more]))),
    },
    'decide.prior_shift': {
        'adjust': Entry(
            lambda probs, old, new: X.adjust(probs, old, new),
            dict(probs=(P, ALONE), old=(RATIOS, BY_CLASS), new=(RATIOS*.5, BY_CLASS)),
        ),
        'em_ratios': Entry(lambda probs, old: X.em_ratios(probs, old), dict(probs=(P, ALONE), old=(RATIOS, BY_CLASS)), exact=False),
        'em_table': Entry(
            lambda probs, old: X.em_table(probs, old, n=5).ratio, dict(probs=(P, ALONE), old=(RATIOS, BY_CLASS)), exact=False,
        ),
        'matrix_ratios': Entry(
            lambda probs, known_probs, known_targs: X.matrix_ratios(probs, known_probs, known_targs),
            dict(probs=(Q, ALONE), known_probs=(P, TABLE), known_targs=(Y, TABLE)), exact=False,
        ),
        'estimate_ratios': Entry(
            lambda probs, known_probs, known_targs: X.estimate_ratios(probs, known_probs, known_targs, n=5).ratio,
            dict(probs=(Q, ALONE), known_probs=(P, TABLE), known_targs=(Y, TABLE)), exact=False,
        ),
        'match_ratios': Entry(
            lambda probs, ratios: X.match_ratios(probs, ratios), dict(probs=(P, ALONE), ratios=(RATIOS, BY_CLASS)),
        ),
    },
    'decide.blend': {
        'blend': tables(two(B.blend), targs=False),
        'Blend.apply': tables(two(BLEND.apply), targs=False),
        'log_loss': pair(lambda targs, probs: B.log_loss(targs, probs), Y, P, ('targs', 'probs')),
        'simplex_weights': tables(two(lambda t, targs: B.simplex_weights(t, targs).weights), exact=False),
        'log_pool': tables(two(lambda t, targs: B.log_pool(t, targs).weights), exact=False),
        'Blend.set_aside': tables(two(POOL.set_aside), targs=False),
        'hill_climb': tables(two(lambda t, targs: B.hill_climb(t, targs, rounds=3).weights), exact=False),
        'stack': tables(two(lambda t, targs: B.stack(t, targs).apply(dict(one=P, two=Q))), exact=False),
        'nested_blend': tables(two(lambda t, targs, folds: B.nested_blend(t, targs, folds, 'mean').nested), folds=(FOLDS, ROWS)),
        'paired_f1': Entry(
            lambda targs, a, b, groups: B.paired_f1(targs, a, b, groups, n=20)['difference'],
            dict(targs=(Y, TABLE), a=(HARD, TABLE), b=(Q > .5, TABLE), groups=(GROUPS, ROWS)),
        ),
        'compare_blends': tables(
            two(lambda t, targs, folds: B.compare_blends(t, targs, folds, dict(both='mean')).nested.to_dict()), folds=(FOLDS, ROWS),
        ),
        'average_twins': Entry(
            lambda table, twins: B.average_twins(table, twins)[0],
            dict(table=(P, [permuted_rows, permuted_classes, nan_in]), twins=(TWINS, [permuted_rows, doubled])),
        ),
    },
    'decide.decision': {
        'Decision.probs': Entry(lambda tables: DECISION.probs(tables), dict(tables=(P, [*ALONE, counted, doubled, class_less, class_more]))),
        'Decision.hard': Entry(lambda tables: DECISION.hard(tables), dict(tables=(P, [*ALONE, counted, doubled, class_less]))),
        'Decision.decide': Entry(
            lambda tables: DECISION.decide(tables).map(sorted), dict(tables=(P, [*ALONE, counted, doubled, class_less])),
        ),
        'fit_decision': Entry(
            lambda tables, samples: D.fit_decision(tables, samples.reset_index(drop='id' in samples), draws=20)[0].scores['nested'],
            dict(tables=(OOF, [permuted_rows, counted, doubled, categorical_ids, as_text]), samples=(SAMPLES.set_index('id'), ROWS)),
            exact=False,
        ),
        'refit_decision': Entry(
            lambda tables: pd.Series(D.refit_decision(MEETING, tables).thresholds), dict(tables=(P, [*ALONE, counted, doubled, class_less])),
        ),
        'fit_apart': Entry(
            lambda apart, tables, samples: D.fit_apart(apart, tables, samples.reset_index(drop='id' in samples), draws=20)[0].scores['nested'],
            dict(
                apart=(OOF[:30], [permuted_rows, counted, doubled, categorical_ids, as_text]),
                tables=(OOF[30:], [permuted_rows, counted, doubled, categorical_ids, as_text]),
                samples=(SAMPLES.set_index('id'), ROWS),
            ),
            exact=False,
        ),
        'shift_decision': Entry(
            lambda tables: D.shift_decision(MOVABLE, tables, n=5)[1].ratio, dict(tables=(Q, [*ALONE, counted, doubled, class_less])), exact=False,
        ),
    },
    'decide.submit': {
        'write_submission': Entry(
            lambda labels: W.read_submission(W.write_submission('walk.csv', IDS, labels)).map(sorted),
            dict(labels=(LABELS, [permuted_rows, shorter, doubled, replaced_id, categorical_ids])),
        ),
        'compare_submissions': Entry(
            lambda a, b: W.compare_submissions(W.write_submission('a.csv', a.index, a), W.write_submission('b.csv', b.index, b)).changed.to_dict(),
            dict(a=(LABELS, [permuted_rows, shorter, replaced_id]), b=(LABELS[::-1], [permuted_rows, shorter, replaced_id])),
        ),
    },
    'see.report': {
        'sample_losses': pair(lambda probs, targs: V.sample_losses(probs, targs)),
        'plot_curves': Entry(
            lambda probs, targs: [o.get_title() for o in V.plot_curves(probs, targs, THRESH.to_dict()).axes],
            dict(probs=(P, [permuted_rows, counted_and_permuted, shorter, doubled]), targs=(Y, [permuted_rows, counted_and_permuted, shorter])),
        ),
    },
}
# --- tables of samples: a row by the id in it ---

F, Z, K = load('data.folds'), load('data.shared_folds'), load('data.duplicates')
ATLAS = load('data.samples').tidy_samples(pd.DataFrame(dict(
    id=IDS, labels=LABELS.map(lambda o: o or ['Nucleoli']).to_numpy(), antibody=GROUPS.to_numpy(),
    source=['one', 'two']*30, is_test=np.arange(60) >= 54,
)))
TIED = ATLAS.assign(twin=[f't{i%20}' if i < 40 else None for i in range(60)])
DEALT = F.grouped_folds(ATLAS, n=3)
PAIRS = pd.DataFrame(dict(id_a=['s00', 's10'], id_b=['s59', 's20']))


def by_id(table, *columns):
    "Columns of a table of samples or folds, by id"
    return table.set_index(table.id.astype(str))[list(columns)].astype(str).apply(tuple, axis=1).sort_index().to_dict()


def of_samples(call, samples=ATLAS): return Entry(lambda samples: call(samples), dict(samples=(samples, IN_COLUMNS)))


def of_folds(call):
    "A function of samples and their folds"
    return Entry(lambda samples, folds: call(samples, folds), dict(samples=(ATLAS, IN_COLUMNS), folds=(DEALT, OF_FOLDS)))


def ids_of(samples, rows): return sorted(samples.id.astype(str).to_numpy()[np.asarray(rows)])


ENTRIES |= {
    'data.folds': {
        'grouped_folds': of_samples(lambda s: by_id(F.grouped_folds(s, n=3), 'fold')),
        'holdout': of_samples(lambda s: by_id(F.holdout(s), 'fold')),
        'fold_rows': of_folds(lambda s, f: [ids_of(s, o) for o in F.fold_rows(s, f, 0)]),
        'fold_numbers': Entry(lambda folds: list(F.fold_numbers(folds)), dict(folds=(DEALT, [permuted_rows, other_index, objects]))),
        'cut_groups': of_folds(lambda s, f: sorted(map(str, F.cut_groups(s, f)))),
        'check_folds': of_folds(lambda s, f: by_id(F.check_folds(s, f) if F.check_folds(s, f) is not None else f, 'fold')),
        'leak_report': of_folds(lambda s, f: F.leak_report(s, f).verdict.tolist()),
        'fold_balance': of_folds(lambda s, f: F.fold_balance(s, f).worst.to_dict()),
        'save_folds': Entry(
            lambda folds: by_id(F.read_folds(F.save_folds(folds, 'walk.csv'), ATLAS), 'fold'), dict(folds=(DEALT, OF_FOLDS)),
        ),
    },
    'data.shared_folds': {
        'leave_out': of_samples(lambda s: by_id(Z.leave_out(s, 'source'), 'fold')),
        'purge': of_folds(lambda s, f: by_id(Z.purge(s, f, 0), 'fold')),
    },
    'data.duplicates': {
        'add_twins': Entry(
            lambda samples, pairs: same_parts(K.add_twins(samples, pairs), 'group'),
            dict(samples=(ATLAS, IN_COLUMNS), pairs=(PAIRS, [permuted_rows, other_index, same_index])),
        ),
        # The rows come back as they are, also one whose id is missing
        'inherit_antibodies': Entry(
            lambda samples: by_id(K.inherit_antibodies(samples), 'antibody', 'inherited'),
            dict(samples=(TIED, [o for o in IN_COLUMNS if o is not without_id])),
        ),
        'twin_table': of_samples(lambda s: sorted(tuple(sorted(o)) for o in K.twin_table(s)[['id_a', 'id_b']].astype(str).to_numpy()), TIED),
        'leak_list': of_samples(lambda s: sorted(map(tuple, K.leak_list(s)[['test_id', 'id']].astype(str).to_numpy())), TIED),
        'label_conflicts': of_samples(
            lambda s: sorted(tuple(sorted(o)) for o in K.label_conflicts(s)[['id_a', 'id_b']].astype(str).to_numpy()), TIED,
        ),
    },
}


def same_parts(table, column):
    "Which samples share a value, whatever the value is called"
    return sorted(sorted(o) for o in table.id.astype(str).groupby(table[column].astype(str).to_numpy()).agg(list))


# What takes such arguments by name alone, or is none of these things
EXEMPT = {
    'data.folds': {'plot_balance': 'draws fold_balance', 'read_folds': 'asked by save_folds'},
    'data.shared_folds': {'closed_folds': 'its images are drawn in the order of the rows'},
    'data.duplicates': {
        'unjudged': 'a HashTable, which holds ids', 'near_pairs': 'arrays of bits', 'match_score': 'pictures', 'find_twins': 'a HashTable',
        'show_pairs': 'draws', 'hash_pictures': 'reads pictures', 'HashTable': 'holds ids', 'TwinRule': 'numbers',
    },
    'data.probs': {
        'check_hot': 'checks values, and is asked beside check_probs', 'name_tables': 'gives names', 'match': 'is the door itself', 'by_class': 'the door of what there is once per class',
        'read_table': 'reads files', 'write_csv': 'writes any table', 'read_probs': 'reads files', 'ProbTable': 'holds what read_table found', 'row_names': 'the door',
    },
    'decide.thresholds': {
        'check_pair': 'the door of pairs', 'check_class': 'the door of one class', 'class_names': 'gives names', 'classes_of': 'gives names', 'like_classes': 'gives names', 'explore_thresholds': 'a slider over plot_thresholds', 'check_thresholds': 'checks values',
        'score_ways': 'counts arrays of nested_score', 'fold_array': 'checks values', 'NestedScore': 'holds what nested_score found',
        'group_counts': 'counts arrays of bootstrap_f1', 'NestedScore.save': 'writes', 'NestedScore.load': 'reads',
    },
    'decide.threshold_rules': {'wanted_ratios': 'asked by ratio_thresholds', 'plot_ranking': 'a table of ranking_table', 'threshold_rule': 'a name', 'ranking_table': 'a ranking'},
    'decide.calibrate': {
        'plot_reliability': 'draws reliability', 'like_table': 'gives names back', 'shared_slope': 'arrays of logits',
        'Calibration': 'holds what fit_calibration found', 'Faults': 'holds what find_faults found', 'clipped_logits': 'numbers of any shape',
    },
    'decide.prior_shift': {'most_probable': 'arrays of match_ratios and Decision.hard'},
    'decide.blend': {
        'target_table': 'makes names', 'Blend': 'holds weights by name', 'NestedBlend': 'holds what nested_blend found',
        'twin_groups': 'asked by average_twins', 'overwrite': 'labels by id, asked by Decision.decide', 'read_known': 'reads a file',
        'blend_fitter': 'a name',
    },
    'decide.decision': {'Decision': 'holds thresholds by name', 'DecisionOptions': 'settings', 'DecisionOptions.rates': 'asked by fit_decision', 'load_decision': 'reads a file'},
    'decide.submit': {
        'labels_a_row': 'counts', 'read_submission': 'reads a file', 'check_submission': 'reads files', 'plot_comparison': 'draws a table',
    },
    'see.report': {'plot_classes': 'a NestedScore', 'plot_samples': 'ids of a store', 'plot_history': 'histories', 'write_report': 'words'},
}

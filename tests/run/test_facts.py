"Recipes of the published solutions, held to the table of what their authors did; and the parts that only such a recipe uses, against torch and by hand."
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpa_lib.core import RunError
from hpa_lib.data.labels import HPA28
from hpa_lib.decide.decision import Decision, DecisionOptions, fit_decision, refit_decision
from hpa_lib.learn.callbacks import EarlyStop, Plateau
from hpa_lib.learn.losses import FocalLoss, HardLogLoss, LovaszLoss, SoftF1Loss, get_loss, loss_terms
from hpa_lib.learn.schedules import Schedule
from hpa_lib.run.recipes import load_recipe, recipe_facts, save_recipe, solution_facts

FIVE = ['bestfitting', 'resnet50_rgb', 'densenet_pipeline', 'fastai_silver', 'z2g']
ROWS = [(name, fact) for name in FIVE for fact in solution_facts()[name]]


# --- the table and the recipes ---

def setting(recipe, key):
    section, name = key.split('.')
    return getattr(getattr(recipe, section), name)


@pytest.mark.parametrize('name,fact', ROWS, ids=[f'{a}-{b}' for a, b in ROWS])
def test_a_recipe_has_the_settings_of_its_fact(name, fact):
    row = solution_facts()[name][fact]
    recipe = load_recipe(name, scale=row.get('scale'))
    assert {k: setting(recipe, k) for k in row.get('recipe', {})} == row.get('recipe', {})


@pytest.mark.parametrize('name', FIVE)
def test_what_no_setting_holds_is_told(name):
    facts, told = solution_facts()[name], load_recipe(name).deviations
    assert set(told) <= set(facts) and len(facts) >= 15 and all(len(o) > 15 for o in told.values())
    for fact, row in facts.items():
        assert set(row) <= {'did', 'recipe', 'scale', 'same'} and row['did']
        assert bool(row.get('recipe')) or row.get('same') or fact in told, fact
        if 'not told' in row['did']: assert 'not known' in told[fact], fact
        if row.get('same'): assert fact not in told


def test_what_is_not_as_it_was_is_told():
    "facts whose setting is known to be another than what was done"
    for name in FIVE: assert 'no antibody' in load_recipe(name).deviations['split'] or name == 'z2g'
    other = dict(bestfitting=['split', 'extra', 'normalisation', 'leaks', 'leftovers', 'scores'], resnet50_rgb=['split', 'extra', 'views', 'leaks', 'schedule'],
                 densenet_pipeline=['split', 'extra', 'decision'], fastai_silver=['nets', 'split', 'extra', 'views', 'blend', 'decision', 'leaks', 'normalisation'],
                 z2g=['input', 'nets', 'search', 'restart', 'split', 'blend', 'decision'])
    for name, facts in other.items(): assert set(facts) <= set(load_recipe(name).deviations)


@pytest.mark.parametrize('name', FIVE)
def test_facts_are_shown_beside_the_recipe(name):
    table, facts = recipe_facts(name), solution_facts()[name]
    assert list(table.index) == list(facts) and list(table) == ['its author', 'the recipe', 'what differs, and why']
    assert {k: v for k, v in table['what differs, and why'].items() if v} == load_recipe(name).deviations
    assert f"train.loss = {load_recipe(name).train.loss}" in table.loc['loss', 'the recipe']


def test_deviations_go_into_the_run_folder(tmp_path):
    r = load_recipe('z2g')
    assert load_recipe(save_recipe(r, tmp_path/'recipe.toml')).deviations == r.deviations != {}
    assert load_recipe('default').deviations == {}


def test_a_recipe_of_nobody_has_no_facts():
    with pytest.raises(RunError, match="no published solution is called 'fastai_silvr': did you mean 'fastai_silver'"): recipe_facts('fastai_silvr')


# --- losses that the recipes build ---

def test_loss_objects():
    kinds = {o: {k: type(t) for k, t in loss_terms(load_recipe(o).train.loss).items()} for o in ('bestfitting', 'densenet_pipeline', 'fastai_silver')}
    assert kinds == dict(bestfitting=dict(focal=FocalLoss, lovasz=LovaszLoss, hardlog=HardLogLoss), densenet_pipeline=dict(soft_f1=SoftF1Loss, focal=FocalLoss), fastai_silver=dict(focal=FocalLoss, soft_f1=SoftF1Loss))
    weights = {o: get_loss(load_recipe(o).train.loss).weights for o in kinds}
    assert weights == dict(bestfitting=[.5]*3, densenet_pipeline=[1, 1], fastai_silver=[.5, .5])
    lovasz = loss_terms(load_recipe('bestfitting').train.loss)['lovasz']
    assert (lovasz.over, lovasz.symmetric, lovasz.of) == ('batch', True, 'jaccard')


@pytest.mark.parametrize('mix', ['mixup', 'cutmix'])
def test_mixing_is_refused_when_the_recipe_is_read(mix):
    with pytest.raises(RunError, match=rf"train.mix = '{mix}' makes targets between 0 and 1, which lovasz does not take"):
        load_recipe('bestfitting', [f'train.mix={mix}'])
    for loss in ('focal', 'soft_f1 + focal', 'hardlog', 'bce'): assert load_recipe('default', [f'train.mix={mix}', f'train.loss={loss}']).train.mix == mix
    for loss in ('lovasz', 'lovasz_image', 'focal + f1_lovasz'):
        with pytest.raises(RunError, match='set train.mix = "none"'): load_recipe('default', [f'train.mix={mix}', f'train.loss={loss}'])


# --- schedules ---

def test_search_is_torchs_cosine_with_warm_restarts():
    t, n = load_recipe('z2g', scale='search').train, 50
    ours, opt = Schedule(t.schedule, t.lr, t.epochs, t.at), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], t.lr)
    theirs = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=13*n)
    for i in range(t.epochs*n):
        assert ours(i/(t.epochs*n)) == pytest.approx(opt.param_groups[0]['lr'], abs=1e-7), i
        opt.step()
        theirs.step()
    rest = {k: v for k, v in load_recipe('z2g').train.model_dump().items() if k not in ('schedule', 'at')}
    assert {k: v for k, v in t.model_dump().items() if k not in ('schedule', 'at')} == rest


def rates(watch, scores, lr=1e-3):
    "Rates of the epochs, by a callback on made-up scores"
    learn = SimpleNamespace(lr_scale=1., pct_train=0., rate=lambda pct: lr, recorder=SimpleNamespace(metric_names=['epoch', watch.monitor, 'time'], values=[]))
    watch.learn, found = learn, []
    for s in scores:
        found.append(lr*learn.lr_scale)
        learn.recorder.values.append([s])
        watch.after_epoch()
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([0, .1, .2, .3, .4, .5]), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 3), st.sampled_from([0., 1e-6, 2e-5, 5e-4]))
def test_plateau_is_torchs_with_one_epoch_less(scores, patience, cooldown, least):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1e-3)
    theirs, want = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, 'max', .1, patience - 1, threshold=0, cooldown=cooldown, min_lr=least, eps=0), []
    for s in scores:
        want.append(opt.param_groups[0]['lr'])
        theirs.step(s)
    assert rates(Plateau('single_f1', patience, .1, cooldown=cooldown, min_lr=least), scores) == pytest.approx(want, rel=1e-9)


def test_resnet50_waits_rests_and_stops_falling():
    t = load_recipe('resnet50_rgb').train
    found = rates(Plateau(t.column, t.plateau, t.factor, t.restart, cooldown=t.cooldown, min_lr=t.min_lr), [.5]*26)
    assert found == pytest.approx([1e-3]*5 + [1e-4]*5 + [1e-5]*5 + [1e-6]*11)              # four that count, then four and one at rest


def test_early_stop_asks_for_a_gain():
    t = load_recipe('resnet50_rgb').train
    stop, heard = EarlyStop(t.column, t.stop_after, gain=t.stop_gain), []
    stop.give_up = lambda: heard.append(len(stop.learn.recorder.values))
    rates(stop, [.5, *(.5 + .0009*(i % 2) for i in range(1, 20))])
    assert heard == [8, 15]                                                                # .0009 is no gain: seven after the first
    heard.clear()
    rates(EarlyStop(t.column, t.stop_after, gain=t.stop_gain), [.5 + .002*i for i in range(20)])
    assert heard == []


@pytest.mark.parametrize('change,says', [
    ('train.stop_gain=.1', 'train.stop_gain belongs to train.stop_after'), ('train.cooldown=1', 'train.cooldown belongs to train.plateau'), ('train.min_lr=1e-6', 'train.min_lr belongs to train.plateau'),
    ('train.weighted_validation=true', 'set train.sampler'), ('train.power=1.5', 'train.power'), ('train.stop_gian=1', 'did you mean stop_gain'), ('train.cooldwn=1', 'did you mean cooldown'),
    ('train.weighted_validaton=true', 'did you mean weighted_validation'), ('model.priors=true', 'did you mean prior'), ('views.tests=none', 'did you mean test'), ('views.test=draws10(sized_crp)', "did you mean 'sized_crop'"),
    ('decide.ratio_in=oof', 'did you mean ratio_on'), ('decide.ratio_on=test', "'oof' or 'decided'"), ('train.monitor=singel_f1', "did you mean 'single_f1'")])
def test_new_settings_are_checked_when_they_are_read(change, says):
    with pytest.raises(RunError, match=says): load_recipe('default', [change])


def test_an_overlay_that_is_not_there():
    with pytest.raises(RunError, match="bestfitting has no scale 'search'; it has small"): load_recipe('bestfitting', scale='search')


# --- rates of positives met on what is decided ---

def answers(n, share, skill, seed):
    "Truth with classes of given shares, and probabilities of it"
    rng = np.random.default_rng(seed)
    y = rng.random((n, len(share))) < share
    return pd.DataFrame(1/(1 + np.exp(-(rng.normal(size=y.shape) + skill*y + np.log(share)))), columns=HPA28.names[:len(share)]).assign(id=[f'{seed}-{i:04}' for i in range(n)]), y


def bestfittings(n=600, seed=0):
    d, share = load_recipe('bestfitting').decide, np.array([.4, .25, .08, .02])
    table, y = answers(n, share, 2., seed)
    samples = pd.DataFrame(dict(id=table.id, labels=HPA28.subset(HPA28.names[:4]).decode(y), group=table.id))
    return d, table.assign(fold=np.arange(n) % 3), samples, y


def by_force(p, wanted):
    "His procedure: the most probable class to 1, then of all cuts the one nearest to the rate"
    forced = p.copy()
    forced[np.arange(len(p)), p.argmax(1)] = 1
    out = np.zeros(p.shape, bool)
    for j, rate in enumerate(wanted):
        cuts = [forced[:, j] >= o for o in np.unique(forced[:, j])[::-1]] + [forced[:, j] > 1]
        cuts = [o for o in cuts if o[p.argmax(1) == j].all()]
        out[:, j] = min(cuts, key=lambda o: (abs(o.sum() - rate*len(p)), o.sum()))
    return out


@pytest.mark.parametrize('seed', range(3))
def test_bestfitting_meets_trainings_rates_on_the_test(seed):
    d, oof, samples, y = bestfittings(seed=seed)
    decision, score = fit_decision(oof, samples, d.fallbacks, d.cap, rule=d.rule, ratio_on=d.ratio_on, draws=5)
    assert decision.rates == pytest.approx(dict(zip(HPA28.names, y.mean(0))))
    test, _ = answers(500, np.array([.2, .5, .15, .05]), 3., seed + 10)
    hard = refit_decision(decision, test).hard(test)
    p = test.drop(columns='id').to_numpy()
    np.testing.assert_array_equal(hard, by_force(p, y.mean(0)))
    assert hard.to_numpy()[np.arange(500), p.argmax(1)].all()
    # A score by the same way: each fold's own answers, the other folds' labels
    for k in range(3):
        rows = (oof.fold == k).to_numpy()
        np.testing.assert_array_equal(score.hard[rows], by_force(oof.loc[rows, list(decision.thresholds)].to_numpy(), y[~rows].mean(0)))
    # The other way, on offer too
    carried, _ = fit_decision(oof, samples, d.fallbacks, d.cap, rule=d.rule, ratio_on='oof', draws=5)
    assert not carried.rates and (carried.hard(oof).sum() - y.sum(0)).abs().max() <= d_forced(oof, carried)


def d_forced(oof, decision): # rows that only the fallback filled
    p = oof[list(decision.thresholds)].to_numpy()
    return int((~(p > list(decision.thresholds.values())).any(1)).sum())


def test_the_mean_of_training_and_public_test():
    options = DecisionOptions(rule='ratio(ratios=[.1, .3], weight=.5)', ratio_on='decided')
    assert options.rates(pd.DataFrame(dict(a=[1, 1, 0, 0], b=[0, 0, 0, 1]))) == pytest.approx(dict(a=.3, b=.275))
    assert DecisionOptions(rule='exact', ratio_on='decided').rates(pd.DataFrame(dict(a=[1, 0]))) == {}      # of the rule ratio only


def test_a_decision_with_rates_reads_back_and_decides_one_alone(tmp_path):
    d, oof, samples, _ = bestfittings()
    decision, _ = fit_decision(oof, samples, d.fallbacks, d.cap, rule=d.rule, ratio_on=d.ratio_on, draws=5)
    decision.save(tmp_path/'d.json')
    again = Decision.model_validate_json((tmp_path/'d.json').read_text())
    assert again == decision and again.decide(oof[:1]).iloc[0] == decision.decide(oof).iloc[0]
    with pytest.raises(ValueError, match='rates has other classes'): Decision(thresholds=dict(a=.5), rates=dict(b=.5))

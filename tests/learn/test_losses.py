"Every loss by name against plain definitions, on cases no page has room for; texts; fastai around them."
import copy
import pickle
from itertools import permutations
from math import exp, log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import sigmoid_focal_loss

from hpa_lib.core import LearnError
from hpa_lib.learn.losses import (
    AsymmetricLoss, BCELoss, FocalLoss, HardLogLoss, LovaszLoss, PointwiseLoss, SoftF1ClassLoss, SoftF1Loss, SumLoss,
    get_loss, hard_negatives, loss_terms, losses, lovasz_weights,
)

WINNER = "0.5*focal + 0.5*lovasz + 0.5*hardlog"
ALL = [
    *losses, "focal(alpha=.25)", "soft_f1_class(absent=bce)", "lovasz(symmetric=False)",
    "asymmetric(margin=0, gamma_no=.5, gamma_yes=.5)", "focal(gamma=.5)", WINNER,
]
BINARY = ("lovasz", "lovasz_image", "f1_lovasz")
COARSE = st.sampled_from([-100., -3., -1., 0., 0., .5, 1., 2., 100.])


@st.composite
def cases(draw, rows=st.integers(1, 7), cols=st.integers(1, 4), logits=COARSE, targets=st.sampled_from([0., 1.])):
    "Logits with many ties and extremes, and targets: N x C, float64"
    n, c = draw(rows), draw(cols)
    z, y = (draw(st.lists(o, min_size=n*c, max_size=n*c)) for o in (logits, targets))
    return torch.tensor(z, dtype=torch.float64).view(n, c), torch.tensor(y, dtype=torch.float64).view(n, c)


def distinct(n, c, seed):
    "Logits without ties, and targets"
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, c, generator=g, dtype=torch.float64)*2, (torch.rand(n, c, generator=g) > .6).double()


def close(a, b, tol=1e-9):
    torch.testing.assert_close(torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64), rtol=tol, atol=tol)


# --- one law, every name ---

@pytest.mark.parametrize("name", ALL)
@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_law_finite_and_order_of_samples(name, case):
    z, y = case
    loss, z = get_loss(name), z.clone().requires_grad_()
    value, each = loss(z, y), loss.per_sample(z, y)
    assert each.shape == (len(z),) and (each >= -1e-12).all() and torch.isfinite(value)
    close(each.mean(), value)
    close(loss.elementwise(*loss.check(z, y)).sum(1), each)
    value.backward()
    assert torch.isfinite(z.grad).all()
    close(loss(z.flip(0), y.flip(0)), value)                   # ties may change who pays, never how much
    close(loss(z.flip(1), y.flip(1)), value)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extremes_in_every_precision(name, dtype):
    for n, c in ((1, 1), (1, 28), (8, 1), (8, 28)):
        for t in (torch.zeros(n, c), torch.ones(n, c), (torch.arange(n*c) % 3 == 0).float().view(n, c)):
            for far in (-100., 0., 100.):
                z = (far*(2*t - 1)).to(dtype).requires_grad_()
                value = get_loss(name)(z, t.long())
                value.backward()
                assert value.dtype == torch.float32, (far, n, c)
                assert torch.isfinite(value) and torch.isfinite(z.grad).all(), (far, n, c)


@pytest.mark.parametrize("name", ALL)
def test_gradient_is_that_of_finite_differences(name):
    for seed in range(3):
        z, y = distinct(6, 4, seed)
        assert torch.autograd.gradcheck(get_loss(name), (z.requires_grad_(), y))


@pytest.mark.parametrize("name", ALL)
def test_sample_losses_move_with_their_samples(name):
    z, y = distinct(9, 5, 3)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    close(get_loss(name).per_sample(z[order], y[order]), get_loss(name).per_sample(z, y)[order])


@pytest.mark.parametrize("name", ALL)
def test_right_is_cheaper_than_wrong_and_copies_travel(name):
    z, y = distinct(8, 5, 1)
    loss = get_loss(name)
    assert loss(3*(2*y - 1), y) < loss(torch.zeros_like(y), y) < loss(-3*(2*y - 1), y)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), loss.double()):
        close(other(z, y), get_loss(name)(z, y), 1e-6)


# --- oracles ---

@settings(max_examples=200, deadline=None)
@given(cases(), st.sampled_from([0., .5, 1., 2., 3.7]), st.sampled_from([None, 0., .25, 1.]))
def test_focal_is_torchvisions(case, gamma, alpha):
    z, y = case
    theirs = sigmoid_focal_loss(z, y, -1 if alpha is None else alpha, gamma, "sum")/len(z)
    close(FocalLoss(gamma, alpha=alpha)(z, y), theirs, 1e-7)


@settings(max_examples=200, deadline=None)
@given(cases(targets=st.sampled_from([0., .3, .5, 1.])), st.sampled_from([0., .1, 1.]))
def test_bce_is_torchs(case, smooth):
    z, y = case
    close(BCELoss(smooth)(z, y), torch.nn.BCEWithLogitsLoss()(z, y*(1 - smooth) + smooth/2))


@settings(max_examples=200, deadline=None)
@given(
    case=cases(logits=st.sampled_from([-3., -1., 0., .5, 2.])),
    yes=st.sampled_from([0., 1., 2.]),
    no=st.sampled_from([0., 4.]),
    margin=st.sampled_from([0., .05, .4]),
)
def test_asymmetric_by_its_formula(case, yes, no, margin):
    def one(z, y):
        p = 1/(1 + exp(-z))
        q = max(p - margin, 0)
        return -(1 - p)**yes*log(p) if y else -q**no*log(1 - q)
    z, y = case
    total = sum(one(*o) for o in zip(z.flatten().tolist(), y.flatten().tolist()))
    close(AsymmetricLoss(yes, no, margin)(z, y), total/len(z), 1e-6)


MIXABLE = [BCELoss(), BCELoss(.1), FocalLoss(), FocalLoss(1., alpha=.3, smooth=.1), AsymmetricLoss()]


@pytest.mark.parametrize("loss", MIXABLE)
@settings(max_examples=50, deadline=None)
@given(case=cases(targets=st.sampled_from([0., .3, 1.])), share=st.floats(0, 1))
def test_pointwise_losses_mix_as_targets_do(loss, case, share):
    z, y = case
    assert isinstance(loss, PointwiseLoss)
    mixed = loss.per_sample(z, share*y + (1 - share)*y.flip(0))
    close(mixed, share*loss.per_sample(z, y) + (1 - share)*loss.per_sample(z, y.flip(0)), 1e-6)


@settings(max_examples=200, deadline=None)
@given(cases(targets=st.sampled_from([0., .3, 1.])))
def test_soft_f1_is_counting_with_probabilities(case):
    z, y = case
    p = z.sigmoid()
    if (y.sum(1) > 0).all():
        close(SoftF1Loss().per_sample(z, y), 1 - 2*(p*y).sum(1)/(p.sum(1) + y.sum(1)))
    there = y.sum(0) > 0
    f1 = (1 - 2*(p*y).sum(0)/(p.sum(0) + y.sum(0)))[there]
    close(SoftF1ClassLoss()(z, y), f1.mean() if len(f1) else 0.)
    bce = torch.nn.functional.softplus(z, threshold=200).mean(0)[~there]
    close(SoftF1ClassLoss("bce")(z, y), torch.cat([f1, bce]).mean())


def test_soft_f1_of_a_sample_without_labels_costs_one_and_teaches_nothing():
    z = torch.tensor([[0., 2.]], dtype=torch.float64, requires_grad=True)
    value = SoftF1Loss()(z, torch.zeros(1, 2))
    value.backward()
    close(value, 1.)
    close(z.grad, torch.zeros(1, 2))


def hardlog_by_hand(z, y):
    "Class by class, sample by sample"
    total = 0.
    for c in range(z.shape[1]):
        pairs = list(zip(z[:, c].tolist(), y[:, c].tolist()))
        pos = [o for o in pairs if o[1] > 0]
        neg = sorted((o for o in pairs if o[1] == 0), reverse=True)
        k = min(len(neg), len(pos) + max(2, len(neg)//2), 7*len(neg)//10 + 2)
        asked = torch.tensor(pos + neg[:k], dtype=torch.float64)
        total += torch.nn.functional.binary_cross_entropy_with_logits(asked[:, 0], asked[:, 1])
    return total/z.shape[1]


@settings(max_examples=200, deadline=None)
@given(cases(rows=st.integers(1, 24), targets=st.sampled_from([0., 0., 0., .3, 1.])))
def test_hardlog_is_its_definition(case):
    z, y = case
    close(HardLogLoss()(z, y), hardlog_by_hand(z, y))
    chosen = hard_negatives(z, y)
    assert not (chosen & (y > 0)).any()
    for c in range(z.shape[1]):
        left = (y[:, c] == 0) & ~chosen[:, c]
        if left.any(): assert z[left, c].max() <= z[chosen[:, c], c].min()


# --- Lovász ---

def jaccard_loss(wrong, t):
    "1 - TP/(TP + FP + FN), when the answers `wrong` are"
    if not wrong:
        return 0.
    false = sum(1 for i in wrong if not t[i])
    return len(wrong)/(sum(t) + false)


def f1_loss(wrong, t):
    "1 - F1, when the answers `wrong` are"
    j = 1 - jaccard_loss(wrong, t)
    return 1 - 2*j/(1 + j)


def in_order(errors, t, order, loss):
    "What this order of going wrong costs"
    steps = [loss(order[:k], t) for k in range(len(order) + 1)]
    return sum(errors[i]*(b - a) for i, a, b in zip(order, steps, steps[1:]))


def by_levels(errors, t, loss):
    "The extension without any order: the integral over levels of the loss of all errors above the level"
    levels = sorted({0., *errors})
    return sum((b - a)*loss([i for i, e in enumerate(errors) if e >= b], t) for a, b in zip(levels, levels[1:]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0., .25, .5, 1., 1., 3.]), st.booleans()), min_size=1, max_size=5))
def test_lovasz_is_the_extension(case):
    errors, t = [o[0] for o in case], [o[1] for o in case]
    e, y = (torch.tensor(o, dtype=torch.float64)[:, None] for o in (errors, t))
    for of, loss in (("jaccard", jaccard_loss), ("f1", f1_loss)):
        w = lovasz_weights(e, y, of)
        assert (w >= -1e-12).all()
        close(w.sum(), 1.)
        close((e*w).sum(), by_levels(errors, t, loss))
    dearest = max(in_order(errors, t, o, jaccard_loss) for o in permutations(range(len(t))))
    close((e*lovasz_weights(e, y)).sum(), dearest)


@settings(max_examples=150, deadline=None)
@given(cases(rows=st.integers(1, 6), logits=st.sampled_from([-3., -1., 0., .5, .5, 1., 2.])))
def test_lovasz_losses_are_their_sums(case):
    z, y = case

    def column(z, y, loss):
        errors = [max(0., 1 - a*(2*b - 1)) for a, b in zip(z.tolist(), y.tolist())]
        return by_levels(errors, y.tolist(), loss)

    def both(z, y, loss):
        return (column(z, y, loss) + column(-z, 1 - y, loss))/2

    columns = list(zip(z.T, y.T))
    close(get_loss("lovasz")(z, y), sum(both(*o, jaccard_loss) for o in columns)/len(columns))
    close(get_loss("f1_lovasz")(z, y), sum(both(*o, f1_loss) for o in columns)/len(columns))
    close(get_loss("lovasz(symmetric=False)")(z, y), sum(column(*o, jaccard_loss) for o in columns)/len(columns))
    close(get_loss("lovasz_image").per_sample(z, y), [column(*o, jaccard_loss) for o in zip(z, y)])


@settings(max_examples=100, deadline=None)
@given(cases(targets=st.sampled_from([0., 1.])), st.integers(0, 99), st.floats(0, 1))
def test_lovasz_of_jaccard_is_convex(case, seed, share):
    z, y = case
    other = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)*3
    loss = LovaszLoss()
    assert loss(share*z + (1 - share)*other, y) <= share*loss(z, y) + (1 - share)*loss(other, y) + 1e-9


def test_lovasz_meets_the_counted_loss_at_the_corners():
    y = torch.tensor([[1.], [1.], [0.], [0.]])
    for bits in range(16):
        wrong = [i for i in range(4) if bits >> i & 1]
        e = torch.tensor([[float(i in wrong)] for i in range(4)])
        close((e*lovasz_weights(e, y)).sum(), jaccard_loss(wrong, y.flatten().tolist()), 1e-6)
        close((e*lovasz_weights(e, y, "f1")).sum(), f1_loss(wrong, y.flatten().tolist()), 1e-6)


@pytest.mark.parametrize("name", ALL)
def test_fractions_are_taken_or_refused_by_name(name):
    z, y = distinct(6, 4, 0)
    binary = name.split("(")[0] in BINARY or name == WINNER
    assert get_loss(name).fractions is not binary
    if binary:
        with pytest.raises(LearnError, match="takes targets of 0 and 1 only"):
            get_loss(name)(z, y*.7)
    else:
        assert torch.isfinite(get_loss(name)(z, y*.7))


# --- texts ---

@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(.01, 100), st.sampled_from(list(losses))), min_size=1, max_size=4, unique_by=lambda o: o[1]))
def test_a_text_is_its_weighted_sum(terms):
    z, y = distinct(5, 3, 2)
    loss = get_loss(" + ".join(f"{w!r}*{k}" for w, k in terms))
    each = sum(w*get_loss(k).per_sample(z, y) for w, k in terms)
    close(loss.per_sample(z, y), each)
    close(loss(z, y), each.mean())
    assert list(loss_terms(loss)) == [k for _, k in terms] and loss.weights == [w for w, _ in terms]


WRONG = ["", "focal(**x)", "focal(gamma=1, gamma=2)", "0*focal", "1e999*focal", "True*focal", "\0", "focal.bce", "[focal]", "2*(focal + bce)",
         "focal*2", "focal(1)", "focal(gamma=two)", "focal(gamma=1+1)", "focal(alpha=high)", "focal(alpha=2)", "focal(alpha=[])",
         "lovasz(symmetric=no)", "bce(smooth=2)", "focal(thresh=.2)", "focal_f1(gamma=1)", "focal(gamma=-1)", "focal(gamma={1: 2})",
         "focal(alpha={1: 2})", "lovasz(over=class)"]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=20), st.text(alphabet="focalbe_sumd1f.5*+-() =,[]{}':", max_size=25)))
def test_no_text_fails_but_by_name(text):
    try: assert torch.isfinite(get_loss(text)(*distinct(2, 2, 0)))
    except LearnError as e: assert str(e)


@pytest.mark.parametrize("text", WRONG)
def test_wrong_texts_are_refused(text):
    with pytest.raises(LearnError): get_loss(text)


@pytest.mark.parametrize("text, says", [
    ("lovas", "did you mean 'lovasz'"),
    ("focal(gama=1)", "did you mean 'gamma'"),
    ("focal_f1(gamma=1)", "it has none"),
    ("focal + focal", "occurs more than once"),
    ("focal - bce", "weight first"),
    ("0*focal", "above 0"),
    ("focal(1)", "is no loss"),
    ("lovasz(over=batches)", "'batch' or 'classes'"),
    ("bce(smooth=2)", "1 or less"),
    ("focal(alpha=[.1, 2])", "from 0 to 1"),
    ("", "write a name"),
])
def test_messages_name_the_cure(text, says):
    with pytest.raises(LearnError, match=says): get_loss(text)


def test_the_winners_total():
    z, y = distinct(16, 28, 5)
    total = .5*sigmoid_focal_loss(z, y, -1, 2, "sum")/16 + .5*LovaszLoss()(z, y) + .5*hardlog_by_hand(z, y)
    close(get_loss(WINNER)(z, y), total)
    assert list(loss_terms(WINNER)) == ["focal", "lovasz", "hardlog"]
    assert list(loss_terms("focal(gamma=1) + bce")) == ["focal(gamma=1)", "bce"]
    assert list(loss_terms(torch.nn.BCEWithLogitsLoss())) == ["BCEWithLogitsLoss"]
    with pytest.raises(LearnError, match="of this library"): SumLoss({"torch": torch.nn.BCEWithLogitsLoss()}, [1.])


def test_inputs_that_do_not_fit_are_named():
    for z, y in (((4, 28), (4, 1)), ((4,), (4,)), ((0, 28), (0, 28))):
        with pytest.raises(LearnError, match="N x C"):
            BCELoss()(torch.zeros(z), torch.zeros(y))
    for bad in (2., -1., float("nan")):
        with pytest.raises(LearnError, match="targets from"):
            BCELoss()(torch.zeros(1, 2), torch.tensor([[0., bad]]))


@pytest.mark.parametrize("name", ALL)
def test_nan_logits_give_a_nan_loss(name):
    z = torch.tensor([[float("nan")], [0.], [1.]])
    assert torch.isnan(get_loss(name)(z, torch.tensor([[0.], [0.], [1.]])))


# --- fastai around it ---

@pytest.mark.parametrize("name", ["focal(alpha=[.2, .3, .4])", WINNER, "soft_f1_class", "focal_f1"])
def test_a_learner_trains_and_predicts(name, tmp_path):
    import fastai.callback.progress  # noqa: F401  (no_bar)
    from fastai.callback.mixup import MixUp
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=g)
    y = (x[:, :3] > .5).float()
    data = list(zip(x, y))
    dls = DataLoaders(DataLoader(data, bs=16, shuffle=True, drop_last=True), DataLoader(data, bs=16), device="cpu")
    torch.manual_seed(0)
    learn = Learner(dls, torch.nn.Linear(8, 3), loss_func=get_loss(name), path=tmp_path, lr=.1)
    with learn.no_bar(), learn.no_logging():
        before = learn.validate()[0]
        learn.fit(3)
        assert learn.validate()[0] < before
        probs, targs, decoded = learn.get_preds(with_decoded=True)
        assert ((probs >= 0) & (probs <= 1)).all() and (decoded == (probs > .5)).all()
        if name == WINNER:
            with pytest.raises(LearnError, match="without mixup"):
                learn.fit(1, cbs=MixUp())
        else:
            learn.fit(1, cbs=MixUp())

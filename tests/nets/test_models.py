"""The networks of the five solutions, built, filled, frozen and saved

Every body with every number of channels, every head, every stem rule, every kind of file.
"""
import copy
import json
import subprocess
import sys
import time

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from hpa_lib.core import NetError
from hpa_lib.nets.heads import GeM, heads
from hpa_lib.nets.models import body_head_split, load_model, load_weights, rgby_model, save_model
from hpa_lib.nets.stems import first_convs, pool_stem, stems, widen_stem
from hpa_lib.nets.weights import find_prefix, match_state, read_about, read_state, seen_ids

pytestmark = pytest.mark.slow
RGBY = ['red', 'green', 'blue', 'yellow']
CHANNELS = (RGBY, RGBY[:3], ['green', 'yellow'])
ARCHS = {
    'densenet121': 1024, 'densenet169': 1664, 'resnet18': 512, 'resnet34': 512, 'resnet50': 2048, 'resnet101': 2048,
    'inception_v3': 2048, 'legacy_xception': 2048, 'tf_efficientnet_b1': 1280, 'tf_efficientnet_b2': 1408,
    'tf_efficientnet_lite0': 1280,
}
# The stem's last layer, where one more pool follows in large networks
STEM_ENDS = {
    'densenet121': 'features.pool0', 'resnet18': 'maxpool', 'inception_v3': 'Pool1', 'legacy_xception': 'act2',
    'tf_efficientnet_lite0': 'bn1',
}


def picture(n_channels, side=128, n=1, seed=0):
    return torch.randn(n, n_channels, side, side, generator=torch.manual_seed(seed))


def same(a, b):
    return a.keys() == b.keys() and all(v.equal(b[k]) for k, v in a.items())


@pytest.fixture(scope='module')
def plain():
    "A three-channel ResNet-18 with 1000 classes"
    torch.manual_seed(0)
    return timm.create_model('resnet18').state_dict()


@pytest.mark.parametrize('arch', list(ARCHS))
def test_bodies(arch, tmp_path):
    "Each body, filled from a plain three-channel file, reads 4, 3 and 2 channels, with the stem widened by name"
    torch.manual_seed(0)
    three = timm.create_model(arch)
    torch.save(three.state_dict(), tmp_path/'three.pth')
    for channels in CHANNELS:
        net = rgby_model(arch, n_out=5, channels=channels, head='linear', weights=tmp_path/'three.pth').eval()
        with torch.inference_mode():
            features = net.features(picture(len(channels)))
            assert features.shape[:2] == (1, ARCHS[arch]) and features.ndim == 4
            assert net(picture(len(channels))).shape == (1, 5)
        name, = first_convs(net.body)
        stem = net.body.get_submodule(name)
        assert isinstance(stem, nn.Conv2d) and stem.in_channels == len(channels)
        in_order = next(m for m in net.body.modules() if isinstance(m, nn.Conv2d))
        assert stem is in_order, 'the first convolution in order, too'
        assert stem.weight.equal(widen_stem(three.get_submodule(name).weight, channels))
        assert not any('aux' in k.lower() for k in net.state_dict())
    with torch.inference_mode():
        rgb = rgby_model(arch, channels=RGBY[:3], head='linear', weights=tmp_path/'three.pth').eval()
        torch.testing.assert_close(rgb.features(picture(3)), three.eval().forward_features(picture(3)))


@pytest.mark.parametrize('arch', STEM_ENDS)
def test_large(arch, tmp_path):
    "The large network has the weights of the plain one, and half its map; what follows the stem sees the pooled stem"
    net, large = (rgby_model(arch, n_out=3, head='linear', weights=None, large=o).eval() for o in (False, True))
    assert {k: v.shape for k, v in net.state_dict().items()} == {k: v.shape for k, v in large.state_dict().items()}
    large.load_state_dict(net.state_dict())
    with torch.inference_mode():
        side, half = (o.features(picture(4, 192)).shape[-1] for o in (net, large))
        assert 0 < half <= (side + 1)//2
    again = load_model(save_model(large, tmp_path/'large.safetensors'))
    with torch.inference_mode():
        assert again(picture(4, 192)).equal(large(picture(4, 192)))


def test_large_by_hand():
    "The stem's output of the large network is the plain one's, pooled by 2"
    for arch, end in STEM_ENDS.items():
        seen = []
        body = timm.create_model(arch, num_classes=0, global_pool='').eval()
        large = pool_stem(copy.deepcopy(body))
        for o in (body, large):
            o.get_submodule(end).register_forward_hook(lambda m, a, y: seen.append(y.clone()))
            with torch.inference_mode():
                o(picture(3, 192))
        assert seen[1].equal(F.max_pool2d(seen[0], 2)), arch
    for arch in ('convnext_atto', 'repvgg_a0'):
        with pytest.raises(NetError, match='no end of the stem'):
            rgby_model(arch, weights=None, large=True)


def test_two_first_convolutions(tmp_path):
    "RepVGG reads the picture twice, and both convolutions are widened"
    three = timm.create_model('repvgg_a0')
    torch.save(three.state_dict(), tmp_path/'rep.pth')
    net = rgby_model('repvgg_a0', weights=tmp_path/'rep.pth', stem='zeros')
    assert len(first_convs(net.body)) == 2
    for o in first_convs(net.body):
        assert net.body.get_submodule(o).weight.equal(widen_stem(three.get_submodule(o).weight, RGBY, 'zeros'))
    assert load_weights(net, tmp_path/'rep.pth').widened == [f'body.{o}.weight' for o in first_convs(net.body)]
    assert len(body_head_split(net)[1]) == 2 + len(list(net.head.parameters()))


def test_bodies_without_a_map():
    for arch in ('vit_tiny_patch16_224', 'swin_tiny_patch4_window7_224'):
        with pytest.raises(NetError, match='no map'):
            rgby_model(arch, weights=None, head='linear')(picture(4, 224))


@pytest.mark.parametrize('stem', stems)
def test_stems(stem, plain, tmp_path):
    "With yellow at zero all rules answer as three channels do (times 3/4); the answer to yellow is the rule's slice"
    torch.save(plain, tmp_path/'plain.pth')
    torch.manual_seed(3)
    net = rgby_model('resnet18', weights=tmp_path/'plain.pth', stem=stem)
    conv, w = net.body.conv1, plain['conv1.weight']
    x = picture(4, 32)
    dark = x.clone()
    dark[:, 3] = 0
    three = F.conv2d(x[:, :3], w*.75, stride=2, padding=3)
    torch.manual_seed(3)
    timm.create_model('resnet18', in_chans=4, num_classes=0, global_pool='')
    r, g, b = w.unbind(1)
    rules = dict(red_copy=r, zeros=0*r, red_blue=(r + b)/2, mean=(r + g + b)/3, random=torch.randn_like(r)*w.std())
    torch.testing.assert_close(conv(dark), three)
    yellow = F.conv2d(x[:, 3:], rules[stem][:, None]*.75, stride=2, padding=3)
    torch.testing.assert_close(conv(x) - three, yellow, atol=1e-4, rtol=1e-3)
    net.eval().features(x).square().mean().backward()
    assert conv.weight.grad[:, 3].abs().max() > 0
    with torch.inference_mode():
        assert net.features(x).equal(net.features(dark)) == (stem == 'zeros')
    kept = load_model(save_model(net, tmp_path/'net.safetensors'))
    assert kept.config['stem'] == stem and kept.body.conv1.weight.equal(conv.weight)
    torch.manual_seed(3)
    assert rgby_model('resnet18', weights=tmp_path/'plain.pth', stem=stem).body.conv1.weight.equal(conv.weight)


def test_same_start_as_before():
    "What a seed gives: the stem and body first, then the head"
    torch.manual_seed(0)
    net = rgby_model('resnet18', n_out=3, weights=None)
    torch.manual_seed(0)
    body = timm.create_model('resnet18', in_chans=4, num_classes=0, global_pool='')
    head = heads['concat_pool'](512, 3, hidden=512, ps=.5)
    assert same(net.body.state_dict(), body.state_dict()) and same(net.head.state_dict(), head.state_dict())


LAYERS = dict(
    concat_pool='AdaptiveConcatPool BatchNorm1d Dropout Linear ReLU BatchNorm1d Dropout Linear',
    avg512='AdaptiveAvgPool2d Flatten Linear BatchNorm1d Linear',
    linear='AdaptiveAvgPool2d Flatten Dropout Linear',
    fastai='AdaptiveConcatPool BatchNorm1d Dropout Linear ReLU BatchNorm1d Dropout Linear',
    gem='GeM Dropout Linear',
    attention='AttentionPool Dropout Linear',
)


@pytest.mark.parametrize('name', heads)
def test_heads(name):
    "Layer by layer; places in any order give the same; every parameter gets a gradient; the last layer has a bias"
    torch.manual_seed(0)
    head = heads[name](16, 5, hidden=8, ps=.5)
    assert [type(o).__name__ for o in head] == LAYERS[name].split()
    x = torch.rand(6, 16, 4, 4) + .1
    out = head(x)
    out.square().sum().backward()
    silent = [k for k, p in head.named_parameters() if p.grad is None]
    assert not silent and out.shape == (6, 5) and head[-1].bias is not None
    mixed = x.flatten(2)[..., torch.randperm(16)].view_as(x)
    torch.testing.assert_close(head.eval()(x), head(mixed), atol=1e-5, rtol=1e-4)
    assert same(copy.deepcopy(head).state_dict(), head.state_dict())


def test_fastai_head():
    "fastai's own layers, dropouts and biases, but for the bias of zeros at the end; and with its weights its answers"
    from fastai.vision.learner import create_head
    reference, head = create_head(16, 5, ps=.4), heads['fastai'](16, 5, ps=.4)
    kinds = (nn.BatchNorm1d, nn.Dropout, nn.Linear, nn.ReLU)
    theirs = [repr(o) for o in reference.modules() if isinstance(o, kinds)]
    theirs[-1] = theirs[-1].replace('bias=False', 'bias=True')
    assert [repr(o) for o in head if isinstance(o, kinds)] == theirs
    with torch.no_grad():
        for a, b in zip(list(head.parameters())[:-1], reference.parameters(), strict=True):
            a.copy_(b)
    x = torch.randn(4, 16, 3, 3)
    torch.testing.assert_close(head.eval()(x), reference.eval()(x))


def test_gem():
    "Limits, growth with p, scale, values below zero, and a half-precision map that a plain power would overflow"
    x = torch.rand(3, 4, 5, 5, generator=torch.manual_seed(0)) + .01
    torch.testing.assert_close(GeM(1)(x), x.mean((2, 3)))
    torch.testing.assert_close(GeM(3)(x), x.pow(3).mean((2, 3)).pow(1/3))
    torch.testing.assert_close(GeM(1e4)(x), x.amax((2, 3)), rtol=1e-3, atol=0)
    steps = torch.stack([GeM(p)(x) for p in (1, 2, 3, 8, 30)])
    assert (steps.diff(dim=0) > 0).all()
    torch.testing.assert_close(GeM(3)(7*x), 7*GeM(3)(x))
    assert GeM()(1e20*x).isfinite().all() and GeM()(-x).isfinite().all()


def frozen_step(net, n_out=3):
    "The names that one step of a frozen learner moved"
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    items = [(torch.randn(len(net.channels), 32, 32), torch.rand(n_out).round()) for _ in range(4)]
    dls = DataLoaders(DataLoader(items, bs=4), DataLoader(items, bs=4), device='cpu')
    learn = Learner(dls, net, nn.BCEWithLogitsLoss(), splitter=body_head_split, lr=.01)
    before = copy.deepcopy(net.state_dict())
    learn.freeze()
    with learn.no_logging():
        learn.fit(1)
    return {k for k, v in net.state_dict().items() if not v.equal(before[k])}, learn


@pytest.mark.parametrize('arch', ['resnet18', 'tf_efficientnet_lite0', 'repvgg_a0'])
def test_frozen(arch):
    "Frozen, the stem of RGBY moves and no other convolution; that of RGB stays; batch norms learn as fastai lets them"
    for channels in (RGBY, RGBY[:3]):
        torch.manual_seed(0)
        net = rgby_model(arch, n_out=3, weights=None, stem='zeros', head='linear', channels=channels)
        moved, learn = frozen_step(net)
        firsts = {f'body.{o}.weight' for o in first_convs(net.body)}
        convs = {f'{k}.weight' for k, m in net.named_modules() if isinstance(m, nn.Conv2d)}
        assert moved & convs == (firsts if channels == RGBY else set())
        assert {k for k in moved if k.startswith('head.')} and any('running_mean' in k for k in moved)
        assert any(k.startswith('body.') and k.endswith('bias') for k in moved), 'train_bn'
        learn.unfreeze()
        assert all(p.requires_grad for p in net.parameters())
        assert sum(len(o) for o in body_head_split(net)) == len(list(net.parameters()))


def test_rates():
    "With slice(low, high) the stem learns at the head's rate"
    _, learn = frozen_step(rgby_model('resnet18', n_out=3, weights=None, head='linear'))
    learn.opt.set_hyper('lr', slice(1e-5, 1e-3))
    rate = {id(p): h['lr'] for group, h in zip(learn.opt.param_lists, learn.opt.hypers) for p in group}
    assert rate[id(learn.model.body.conv1.weight)] == rate[id(learn.model.head[-1].weight)] == pytest.approx(1e-3)
    assert rate[id(learn.model.body.layer1[0].conv1.weight)] == pytest.approx(1e-5)


WRAPS = (
    'backbone.', 'encoder.', '', 'module.', 'model.', '_orig_mod.', 'module.model.', '0.model.',
    'module.body.', 'body.', 'model.body.',
)


@pytest.mark.parametrize('prefix', WRAPS)
def test_prefixes(prefix, plain, tmp_path):
    torch.save({prefix + k: v for k, v in plain.items()}, tmp_path/'file.pt')
    net = rgby_model('resnet18', weights=None)
    report = load_weights(net, tmp_path/'file.pt')
    assert not report.wrong_shape and report.unexpected == [prefix + 'fc.weight', prefix + 'fc.bias']
    assert report.widened == ['body.conv1.weight'] and all(k.startswith('head.') for k in report.missing)
    assert net.body.layer4[1].conv2.weight.equal(plain['layer4.1.conv2.weight'])
    assert len(report.matched) == len(net.body.state_dict())


def test_prefix_given(plain, tmp_path):
    torch.save({'student.net.' + k: v for k, v in plain.items()}, tmp_path/'file.pt')
    net = rgby_model('resnet18', weights=None)
    with pytest.raises(NetError, match='do names have a prefix.*student.net.conv1'):
        load_weights(net, tmp_path/'file.pt')
    assert len(load_weights(net, tmp_path/'file.pt', prefix='student.net.').matched) == len(net.body.state_dict())


def test_auxiliary_logits_are_reported(tmp_path):
    torch.save(timm.create_model('inception_v3', aux_logits=True).state_dict(), tmp_path/'aux.pth')
    report = load_weights(rgby_model('inception_v3', weights=None), tmp_path/'aux.pth')
    assert {o.split('.')[0] for o in report.unexpected} == {'AuxLogits', 'fc'}


def test_whole_network(tmp_path):
    "A file of this library fills everything, strictly; as `weights` it fills the body; another head stays as it was"
    torch.manual_seed(0)
    first = rgby_model('resnet18', n_out=4, weights=None, stem='random')
    file = save_model(first, tmp_path/'first.safetensors')
    twin = rgby_model('resnet18', n_out=4, weights=None)
    report = load_weights(twin, file, strict=True)
    assert same(twin.state_dict(), first.state_dict()) and not report.widened and not report.missing
    other = rgby_model('resnet18', n_out=6, weights=None)
    last = other.head[-1].weight.clone()
    report = load_weights(other, file)
    assert set(report.wrong_shape) == {'head.7.weight', 'head.7.bias'} and other.head[-1].weight.equal(last)
    body = rgby_model('resnet18', n_out=4, weights=file)
    assert same(body.body.state_dict(), first.body.state_dict())
    assert not body.head[-1].weight.equal(first.head[-1].weight)
    assert body.config['weights'] == 'first.safetensors' and len(body.config['weights_sha256']) == 64
    json.dumps(body.config)
    again = load_model(save_model(body, tmp_path/'second.safetensors'))
    assert again.config == body.config
    with pytest.raises(NetError, match="the first is .head.7"):
        load_weights(other, file, strict=True)
    with pytest.raises(NetError, match='build one for the channels of the file'):
        rgby_model('resnet18', channels=['yellow', 'red', 'green', 'blue'], weights=file)


@pytest.mark.parametrize('head', heads)
def test_head_by_class(head, tmp_path):
    "A permuted, shorter and longer list of classes: the new network answers for those it shares as the old one did"
    torch.manual_seed(0)
    old = rgby_model('resnet18', weights=None, head=head, hidden=16, classes=list('ABCD')).eval()
    with torch.no_grad():
        for p in old.head.parameters(): p.add_(torch.rand_like(p))
    file = save_model(old, tmp_path/'old.safetensors')
    for names in ('DCBA', 'CA', 'XDYAZ'):
        new = rgby_model('resnet18', head=head, hidden=16, weights=file, classes=list(names)).eval()
        both = [o for o in names if o in 'ABCD']
        with torch.inference_mode():
            a = new(picture(4, 64, 2))[:, [names.index(o) for o in both]]
            b = old(picture(4, 64, 2))[:, ['ABCD'.index(o) for o in both]]
        torch.testing.assert_close(a, b)
        assert new.filled.classes == tuple(both) and new.filled.fresh == tuple(o for o in names if o not in 'ABCD')
        assert new.filled.unused == tuple(o for o in 'ABCD' if o not in names)
        assert {names[i] for i in new.filled_outputs} == set(both)
        again = load_model(save_model(new, tmp_path/'new.safetensors'))
        assert again.about == new.about == dict(classes=list(names))


def test_head_by_class_only_where_it_fits(tmp_path):
    "Another head, another hidden width, no class in common, or no names: nothing of the last layer, not even its bias"
    old = rgby_model('resnet18', weights=None, hidden=512, classes=list('ABC'))
    file = save_model(old, tmp_path/'old.safetensors')
    nameless = rgby_model('resnet18', weights=None, hidden=512, n_out=3)
    cases = [
        dict(head='avg512', classes=list('ABC')),
        dict(hidden=8, classes=list('ABC')),
        dict(classes=list('XYZ')),
        dict(n_out=3),
        dict(classes=list('ABC'), weights=save_model(nameless, tmp_path/'nameless.safetensors')),
    ]
    for how in cases:
        torch.manual_seed(1)
        net = rgby_model('resnet18', **dict(weights=file) | how)
        assert not net.filled.classes and net.filled_outputs == set(), how
        assert net.filled.fresh == tuple(how.get('classes', ())), how
        source = read_state(how.get('weights', file))[0]
        assert not net.head[-1].bias.equal(source['head.7.bias'])
        assert same(net.body.state_dict(), old.body.state_dict()) == ('weights' not in how)
    gem = save_model(rgby_model('resnet18', weights=None, head='gem', classes=list('ABC')), tmp_path/'gem.safetensors')
    # A layer of the same name and shape, over other features
    net = rgby_model('resnet18', weights=gem, head='attention', classes=list('CBA'))
    assert net.filled.fresh == tuple('CBA') and net.filled_outputs == set()
    assert not any(o.startswith('head.') for o in net.filled.matched)
    report = load_weights(rgby_model('resnet18', weights=None, head='avg512', classes=list('CB')), file)
    assert report.fresh == ('C', 'B') and report.unused == ('A',) and 'head.7.weight' in report.unexpected
    plain = rgby_model('resnet18', n_out=3, weights=None)
    load_weights(plain, tmp_path/'nameless.safetensors')
    assert plain.head[-1].bias.equal(nameless.head[-1].bias) and plain.filled_outputs == {0, 1, 2} and plain.about == {}
    load_weights(plain, tmp_path/'nameless.safetensors', head=False)
    assert plain.filled_outputs == {0, 1, 2}, 'what was filled stays known'


def test_same_draws_with_a_file_without_names(tmp_path):
    "A start from a nameless file draws what it drew before classes had names"
    torch.save(timm.create_model('resnet18').state_dict(), tmp_path/'plain.pth')
    nets = []
    for classes in (None, list('ABC')):
        torch.manual_seed(4)
        net = rgby_model('resnet18', 3, weights=tmp_path/'plain.pth', stem='random', classes=classes)
        nets.append(net.state_dict())
    assert same(*nets)


def test_about_of_a_hundred_thousand(tmp_path):
    "Ids and groups of a large training cost a few megabytes and a moment, and the file's bytes do not depend on chance"
    net = rgby_model('resnet18', n_out=3, weights=None, head='linear')
    bare = save_model(net, tmp_path/'bare.safetensors').stat().st_size
    ids = [f'{i:05d}-bbac-11e8-b2ba-ac1f6b6435d0' for i in range(100_000)]
    net.about['trained_on'] = dict(ids=ids, groups=[f'ENSG{i:011d}' for i in range(20_000)])
    began = time.perf_counter()
    file = save_model(net, tmp_path/'large.safetensors')
    saved = time.perf_counter()
    assert seen_ids(file, [*ids[:3], 'x'], [None, None, None, 'ENSG00000000007']).ids == [*ids[:3], 'x']
    asked = time.perf_counter()
    assert saved - began < 3 and asked - saved < 3                                # about half a second each
    assert file.stat().st_size - bare < 6e6
    once = file.read_bytes()
    for _ in range(4): assert save_model(net, file).read_bytes() == once
    assert load_model(file).about == net.about


def test_seen_ids_of_any_file(plain, tmp_path):
    "Ids and groups of any type are compared as text; files that do not know say so; damaged ones are refused"
    torch.save(plain, tmp_path/'plain.pth')
    assert seen_ids(tmp_path/'plain.pth', [1, 2], [1, 2]) == ([], [], False)
    net = rgby_model('test_resnet', n_out=3, weights=None)
    assert seen_ids(save_model(net, tmp_path/'net.safetensors'), ['a']).known is False
    file = save_model(net, tmp_path/'net.safetensors', dict(trained_on=dict(ids=[7, 'b'], groups=[3])))
    assert seen_ids(file, [7, '7', 'b', 'c'], [float('nan'), None, 3, '3']) == (['7', '7', 'b', 'c'], ['3'], True)
    assert net.about == {} and read_about(file)['trained_on']['groups'] == ['3']
    (tmp_path/'cut.safetensors').write_bytes(file.read_bytes()[:500])
    with pytest.raises(NetError, match='copied whole'): seen_ids(tmp_path/'cut.safetensors', ['a'])
    with pytest.raises(NetError, match='lists and mappings'):
        save_model(net, tmp_path/'odd.safetensors', dict(when={1, 2}))
    assert not (tmp_path/'odd.safetensors').exists() and not list(tmp_path.glob('.*partial'))


def test_channels_of_a_file(plain, tmp_path):
    "Three channels are red, green and blue; as many as the network has are taken in its order; others are refused"
    torch.save(plain, tmp_path/'plain.pth')
    mine = ['yellow', 'green', 'red']
    net = rgby_model('resnet18', channels=mine, weights=tmp_path/'plain.pth')
    assert net.body.conv1.weight.equal(plain['conv1.weight'][:, [0, 1, 0]])      # yellow is a copy of red
    load_weights(net, tmp_path/'plain.pth', channels=mine)
    assert net.body.conv1.weight.equal(plain['conv1.weight'])
    wide = rgby_model('resnet18', weights=tmp_path/'plain.pth')
    torch.save(wide.body.state_dict(), tmp_path/'wide.pth')
    report = load_weights(wide, tmp_path/'wide.pth')
    assert not report.widened and 'body.conv1.weight' in report.matched
    with pytest.raises(NetError, match="body.conv1.weight' is not"):
        load_weights(net, tmp_path/'wide.pth')


def test_wrong_files_leave_the_network_alone(plain, tmp_path):
    net = rgby_model('resnet18', weights=None)
    before, config = copy.deepcopy(net.state_dict()), dict(net.config)
    torch.save(timm.create_model('resnet34').state_dict(), tmp_path/'deep.pth')
    torch.save({k: v for k, v in plain.items() if not k.startswith('layer4')}, tmp_path/'shallow.pth')
    torch.save({k: v for k, v in plain.items() if k != 'conv1.weight'}, tmp_path/'stemless.pth')
    (tmp_path/'text.pth').write_text('not weights')
    (tmp_path/'empty.pt').write_bytes(b'')
    torch.save([1, 2], tmp_path/'list.pth')
    torch.save({}, tmp_path/'none.pth')
    (tmp_path/'text.safetensors').write_text('not weights')
    messages = {
        'deep': 'layers that the body does not have',
        'shallow': 'another architecture',
        'stemless': 'body.conv1.weight',
        'text': 'copied whole',
        'list': 'no state dict, but list',
        'none': 'no state dict, but nothing',
    }
    for name, says in messages.items():
        with pytest.raises(NetError, match=says):
            load_weights(net, tmp_path/f'{name}.pth')
    for name in ('empty.pt', 'text.safetensors'):
        with pytest.raises(NetError, match='copied whole'):
            load_weights(net, tmp_path/name)
    assert same(net.state_dict(), before) and net.config == config


def test_old_counters_are_not_missed(plain, tmp_path):
    torch.save({k: v for k, v in plain.items() if 'num_batches' not in k}, tmp_path/'old.pth')
    net = rgby_model('resnet18', weights=tmp_path/'old.pth')
    assert net.body.layer1[0].conv1.weight.equal(plain['layer1.0.conv1.weight'])


def test_no_code_is_run(tmp_path):
    class Sly:
        def __reduce__(self): return exec, (f"open({str(tmp_path/'ran')!r}, 'w')",)
    torch.save(dict(state_dict=Sly()), tmp_path/'sly.pth')
    with pytest.raises(NetError, match='could run code.*state_dict'):
        rgby_model('resnet18', weights=tmp_path/'sly.pth')
    torch.save(nn.Linear(2, 2), tmp_path/'module.pth')
    with pytest.raises(NetError, match='could run code'):
        read_state(tmp_path/'module.pth')
    assert not (tmp_path/'ran').exists()


def test_fastai_learner_file(tmp_path):
    "`learn.save` without the optimiser writes what can be read; with it, objects of other classes"
    net = rgby_model('resnet18', n_out=3, weights=None, head='linear')
    _, learn = frozen_step(net)
    learn.path = tmp_path
    twin = rgby_model('resnet18', n_out=3, weights=None, head='linear')
    report = load_weights(twin, learn.save('stage1', with_opt=False), strict=True)
    assert report.prefix == '' and same(twin.state_dict(), net.state_dict())
    with pytest.raises(NetError, match='with_opt=False'):
        load_weights(twin, learn.save('stage1', with_opt=True))


def test_files_of_earlier_versions(tmp_path):
    "A recipe without the newer settings; one with a setting that is newer still; weights of another network"
    net = rgby_model('resnet18', n_out=3, weights=None, hidden=16).eval()
    def write(name, config): save_file(net.state_dict(), tmp_path/name, metadata=dict(config=json.dumps(config)))
    earlier = ('arch', 'n_out', 'channels', 'stem', 'rescale', 'head', 'hidden', 'ps', 'weights')
    write('old.safetensors', {k: net.config[k] for k in earlier})
    again = load_model(tmp_path/'old.safetensors')
    assert again.config == net.config and same(again.state_dict(), net.state_dict())
    write('new.safetensors', net.config | dict(colour='blue'))
    with pytest.raises(NetError, match='does not know colour'):
        load_model(tmp_path/'new.safetensors')
    write('odd.safetensors', net.config | dict(arch='resnet34'))
    with pytest.raises(NetError, match='do not belong together'):
        load_model(tmp_path/'odd.safetensors')
    save_file(load_file(tmp_path/'old.safetensors'), tmp_path/'bare.safetensors')
    with pytest.raises(NetError, match='no recipe'):
        load_model(tmp_path/'bare.safetensors')


def test_find_prefix_takes_most():
    want = {'body.a': 0, 'body.b': 0, 'head.c': 0}
    assert find_prefix(['model.a', 'model.b', 'a'], want) == ('model.', 'body.')
    assert find_prefix(['x'], want) == ('', '')
    zero, one = torch.zeros(1), torch.ones(1)
    filled, report = match_state({'model.a': zero, 'z': zero}, {'body.a': one, 'body.b': one})
    assert list(filled) == ['body.a'] and report.missing == ['body.b'] and report.unexpected == ['z']


def test_names():
    cases = {
        'timm knows no': dict(arch='resnet19'),
        'no head is called': dict(head='avg'),
        'no stem rule': dict(stem='green'),
        'not known': dict(weights='resnet18'),
    }
    channels = [dict(channels=o) for o in ([], 'red', ['red', 'red'])]
    for says, wrong in [*cases.items(), *(('each once', o) for o in channels)]:
        with pytest.raises(NetError, match=says):
            rgby_model(**dict(weights=None) | wrong)
    with pytest.raises(FileNotFoundError):
        rgby_model(weights='nowhere.pth')
    with pytest.raises(TypeError):
        rgby_model(weigths=None)


def test_light_imports():
    "Stems and heads need torch only"
    heavy = ('fastai', 'timm', 'matplotlib', 'pandas')
    code = f'import sys, hpa_lib.nets.stems, hpa_lib.nets.heads; print([o for o in {heavy} if o in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'

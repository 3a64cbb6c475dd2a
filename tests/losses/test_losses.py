"""Every loss against loops over pairs, finite differences, the edges of its inputs, and itself in graph mode."""
import ast
import collections
import inspect
import subprocess
import sys
from pathlib import Path

import loss_oracles as oracles
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from src.common.errors import InputError
from src.losses import LOSSES, create_loss, loss_class, loss_kind
from src.losses.loss import Loss
from src.losses.pairs import normalize, squared_distances

ROOT = Path(__file__).resolve().parents[2]
D, C = 5, 4
SIZES = {'num_classes': C, 'embedding_size': D}
PAIRS = [0, 0, 2, 2, 1, 1, 3, 3]
REPEATED = [0, 0, 2, 2, 0, 0, 2, 2]
TRIPLETS = [0, 0, 1, 2, 2, 3, 1, 1, 0, 3, 3, 0]
IDENTITIES = [2] * 3 + [0] * 3 + [3] * 3 + [1] * 3
MASKED = [1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1, 1]
MASKED_MORE = [1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 1]
LONE = [0, 0, 1, 2, 2, 2, 3]
CTL = dict(SIZES, num_instances=3, margin=0.5, center_weight=0.01)

# oracle: the value; differentiated: what the gradient belongs to where that is not the value.
Case = collections.namedtuple('Case', 'name options labels mask oracle differentiated',
                              defaults=(None, None, None))


def case(name, options, labels, mask=None, oracle=None, differentiated=None):
    return Case(name, options, labels, mask, oracle, differentiated or oracle)


CASES = {
    'softmax': case('softmax', SIZES, PAIRS, None, oracles.softmax()),
    'softmax_ctl': case('softmax', dict(SIZES, label_smoothing=0.1, has_bias=False, weight_deviation=0.5),
                        IDENTITIES, MASKED, oracles.softmax(0.1)),
    'arcmargin': case('arcmargin', SIZES, PAIRS, None, oracles.arcmargin(80.0, 0.15, False)),
    'arcmargin_wide': case('arcmargin', dict(SIZES, scale=5.0, margin=1.2), TRIPLETS, None,
                           oracles.arcmargin(5.0, 1.2, False)),
    'arcmargin_easy': case('arcmargin', dict(SIZES, scale=5.0, margin=0.5, easy_margin=True), TRIPLETS, None,
                           oracles.arcmargin(5.0, 0.5, True)),
    'triplet': case('triplet', {'margin': 0.4}, TRIPLETS, None, oracles.triplet(0.4)),
    'triplet_sum': case('triplet', {'margin': 0.4, 'reduction': 'sum'}, TRIPLETS, None, oracles.triplet(0.4),
                        oracles.triplet(0.4, lambda triplets: triplets)),
    'quadruplet': case('quadruplet', {}, PAIRS, None, oracles.quadruplet(0.1)),
    'quadruplet_repeated': case('quadruplet', {'margin': 0.3}, IDENTITIES, None, oracles.quadruplet(0.3)),
    'eml': case('eml', {}, PAIRS, None, oracles.eml),
    'eml_repeated': case('eml', {}, IDENTITIES, None, oracles.eml),
    'eml_lone': case('eml', {}, LONE, None, oracles.eml),
    'npairs': case('npairs', {}, PAIRS, None, oracles.npairs(0.01)),
    'npairs_repeated': case('npairs', {'reg_lambda': 0.3}, REPEATED, None, oracles.npairs(0.3)),
    'npairs_lone': case('npairs', {}, [0, 0, 1, 2, 3, 0, 1, 1], None, oracles.npairs(0.01)),
    'center': case('center', SIZES, REPEATED, None, oracles.center),
    'center_masked': case('center', SIZES, IDENTITIES, MASKED, oracles.center),
    'centroid': case('centroid_triplet', {'num_instances': 3}, IDENTITIES, None, oracles.centroid_triplet(3, 0.5)),
    'centroid_masked': case('centroid_triplet', {'num_instances': 3, 'margin': 1.5}, IDENTITIES, MASKED,
                            oracles.centroid_triplet(3, 1.5)),
    'centroid_masked_more': case('centroid_triplet', {'num_instances': 3, 'margin': 1.5}, IDENTITIES, MASKED_MORE,
                                 oracles.centroid_triplet(3, 1.5)),
    'batch_hard': case('batch_hard_triplet', {'margin': 1.0}, TRIPLETS, None, oracles.batch_hard(1.0)),
    'batch_hard_masked': case('batch_hard_triplet', {}, IDENTITIES, MASKED, oracles.batch_hard(0.5)),
    'ctl': case('ctl', CTL, IDENTITIES, None, oracles.ctl(3, 0.5, 0.01)),
    'ctl_masked': case('ctl', CTL, IDENTITIES, MASKED, oracles.ctl(3, 0.5, 0.01)),
    'baseline': case('baseline', dict(SIZES, num_instances=3), IDENTITIES, MASKED, oracles.baseline(0.5)),
    'norm_softmax': case('norm_softmax', SIZES, PAIRS, None, oracles.norm_softmax(0.05)),
    'proxy_anchor': case('proxy_anchor', SIZES, REPEATED, None, oracles.proxy_anchor(32.0, 0.1)),
    'proxy_anchor_soft': case('proxy_anchor', dict(SIZES, alpha=2.0, delta=0.3), PAIRS, None,
                              oracles.proxy_anchor(2.0, 0.3)),
    'multi_similarity': case('multi_similarity', {}, PAIRS, None, oracles.multi_similarity(2.0, 50.0, 0.5, 0.1)),
    'multi_similarity_lone': case('multi_similarity', {'beta': 3.0, 'eps': 0.3}, LONE, None,
                                  oracles.multi_similarity(2.0, 3.0, 0.5, 0.3)),
    'supcon': case('supcon', {}, IDENTITIES, None, oracles.supcon(0.1)),
    'supcon_lone': case('supcon', {'temperature': 0.5}, LONE, None, oracles.supcon(0.5)),
    'smooth_ap': case('smooth_ap', {'temperature': 0.05}, PAIRS, None, oracles.smooth_ap(0.05)),
    'smooth_ap_lone': case('smooth_ap', {'temperature': 0.2}, LONE, None, oracles.smooth_ap(0.2)),
    'recall_at_k': case('recall_at_k', {'temperature': 0.05}, PAIRS, None, oracles.recall_at_k(0.05, (1, 2, 4, 8, 16))),
    'recall_at_k_lone': case('recall_at_k', {'k': (1, 2), 'temperature': 0.2}, LONE, None,
                             oracles.recall_at_k(0.2, (1, 2))),
    'smooth_ap_as_published': case('smooth_ap', {'temperature': 0.2, 'counts_query': True}, LONE, None,
                                   oracles.smooth_ap(0.2, True)),
    'recall_at_k_as_published': case('recall_at_k', {'k': (1, 2), 'temperature': 0.2, 'counts_query': True}, LONE, None,
                                     oracles.recall_at_k(0.2, (1, 2), True)),
    'contrastive': case('contrastive', {'margin': 0.1}, IDENTITIES, None, oracles.contrastive(0.1)),
    'contrastive_lone': case('contrastive', {}, LONE, None, oracles.contrastive(0.5)),
    'xbm': case('xbm', {}, PAIRS, None, oracles.contrastive(0.5)),
}
every_case = pytest.mark.parametrize('one', list(CASES.values()), ids=list(CASES))
# One of each loss, masked where it takes a mask.
every_loss = pytest.mark.parametrize('one', [CASES[key] for key in (
    'softmax_ctl', 'arcmargin', 'triplet_sum', 'quadruplet', 'eml_lone', 'npairs', 'center_masked', 'centroid_masked',
    'batch_hard_masked', 'ctl_masked', 'norm_softmax', 'proxy_anchor', 'multi_similarity', 'supcon_lone',
    'smooth_ap_lone', 'recall_at_k_lone', 'contrastive')], ids=lambda one: one.name)
# One of each loss that takes references.
pair_losses = pytest.mark.parametrize('one', [CASES[key] for key in (
    'quadruplet', 'eml_lone', 'npairs_lone', 'batch_hard_masked', 'multi_similarity_lone', 'supcon_lone', 'smooth_ap_lone',
    'smooth_ap_as_published', 'recall_at_k_lone', 'recall_at_k_as_published', 'contrastive')], ids=lambda one: one.name)
REFERENCE_LABELS = [0, -1, 2, 5, 1, -1]
# Compiled at once; those that ctl is made of are compiled with it.
COMPILED = [CASES[key] for key in (
    'arcmargin', 'triplet_sum', 'quadruplet', 'eml_lone', 'npairs', 'ctl_masked', 'norm_softmax', 'proxy_anchor',
    'multi_similarity', 'supcon_lone', 'smooth_ap_lone', 'recall_at_k_lone')]


@pytest.fixture(autouse=True)
def pynative():
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def random_inputs(one, seed=0, scale=1.0):
    random = np.random.default_rng(seed)
    count = 2 if loss_class(one.name).uses_neck else 1
    return [(scale * random.normal(size=(len(one.labels), D))).astype(np.float32) for _ in range(count)]


def build(one, seed=0):
    ms.set_seed(seed + 1)
    return create_loss(one.name, **one.options)


def parameters_of(loss):
    return {p.name: p.asnumpy() for p in loss.trainable_params()}


def evaluate(loss, inputs, labels, mask=None, references=None):
    """Value, gradients of the inputs, gradients of the parameters by name: numpy. references: (rows, labels)."""
    tensors = [Tensor(x) for x in inputs]
    labels = Tensor(np.array(labels, np.int32))
    weights = loss.trainable_params()
    # forward is a plain function, so that the mask may stay out.
    extra = () if mask is None else (Tensor(np.array(mask, np.int32)),)
    if references is not None:
        extra = (*(extra or (None,) * loss.takes_mask), Tensor(references[0]), Tensor(np.array(references[1], np.int32)))

    def forward(*args):
        return loss(*args, labels, *extra)

    value, gradients = ms.value_and_grad(forward, tuple(range(len(tensors))), weights or None)(*tensors)
    of_inputs, of_weights = gradients if weights else (gradients, ())
    if isinstance(of_inputs, Tensor):  # MindSpore unpacks a single one
        of_inputs = (of_inputs,)
    assert value.shape == () and value.dtype == ms.float32
    of_weights = {w.name: g.asnumpy() for w, g in zip(weights, of_weights)}
    return float(value.asnumpy()), [g.asnumpy() for g in of_inputs], of_weights


def check(one, inputs, loss=None, value_tolerance=2e-5, gradient_tolerance=2e-4, references=None):
    """Value and all gradients against the oracle; returns them."""
    loss = build(one) if loss is None else loss
    value, of_inputs, of_weights = evaluate(loss, inputs, one.labels, one.mask, references)
    parameters = parameters_of(loss)
    names = list(parameters)
    real = one.mask or [1] * len(one.labels)
    count = len(inputs)
    more = () if references is None else ((references[0].astype(np.float64), references[1]),)

    def oracle(function, arrays):
        return function(arrays[:count], one.labels, real, dict(zip(names, arrays[count:])), *more)

    arrays = [np.asarray(x, np.float64) for x in inputs] + [parameters[n].astype(np.float64) for n in names]
    expected = oracle(one.oracle, arrays)
    np.testing.assert_allclose(value, expected, rtol=value_tolerance, atol=value_tolerance)
    slopes = oracles.finite_differences(lambda a: oracle(one.differentiated, a), arrays)
    for got, slope in zip(of_inputs + [of_weights[n] for n in names], slopes):
        scale = max(1.0, float(np.abs(slope).max()))
        np.testing.assert_allclose(got, slope, rtol=gradient_tolerance, atol=gradient_tolerance * scale)
    return value, of_inputs, of_weights


def all_finite(value, of_inputs, of_weights):
    return np.isfinite(value) and all(np.isfinite(g).all() for g in of_inputs + list(of_weights.values()))


@every_case
@pytest.mark.parametrize('seed', [0, 1])
def test_value_and_gradients_equal_loops_and_finite_differences(one, seed):
    value, of_inputs, _ = check(one, random_inputs(one, seed), build(one, seed))
    assert value > 0 and np.abs(of_inputs[0]).max() > 0


def random_references():
    return np.random.default_rng(9).normal(size=(len(REFERENCE_LABELS), D)).astype(np.float32), REFERENCE_LABELS


@pair_losses
class TestReferences:
    def test_value_and_gradients_equal_loops_and_finite_differences(self, one):
        inputs, references = random_inputs(one, 6), random_references()
        # Of another class beside the first row, and of its class far away.
        references[0][3], references[0][0] = 1.1 * inputs[0][0] + 0.05, -2 * inputs[0][0]
        value, *_ = check(one, inputs, references=references)
        assert value != evaluate(build(one), inputs, one.labels, one.mask)[0]

    def test_those_that_do_not_count_change_nothing(self, one):
        inputs, (rows, _) = random_inputs(one, 6), random_references()
        expected = evaluate(build(one), inputs, one.labels, one.mask)
        value, of_inputs, _ = evaluate(build(one), inputs, one.labels, one.mask, (rows, [-1] * len(rows)))
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        np.testing.assert_allclose(of_inputs[0], expected[1][0], rtol=1e-3, atol=1e-5)

    def test_float16_zero_and_equal_rows(self, one):
        inputs, (rows, labels) = [x.astype(np.float16) for x in random_inputs(one, 3)], random_references()
        inputs[0][:2], rows[:2], rows[2] = 0, 0, inputs[0][3]
        loss = build(one)
        value, of_inputs, _ = evaluate(loss, inputs, one.labels, one.mask, (rows, labels))
        real = one.mask or [1] * len(one.labels)
        expected = one.oracle([x.astype(np.float64) for x in inputs], one.labels, real, {}, (rows.astype(np.float64), labels))
        np.testing.assert_allclose(value, expected, rtol=2e-5, atol=1e-6)
        assert of_inputs[0].dtype == np.float16 and np.isfinite(of_inputs[0]).all()


class Several(nn.Cell):
    """The sum of losses, each of inputs of its own, so that its gradients are theirs; and their values."""

    def __init__(self, cases):
        super().__init__(auto_prefix=False)
        self.losses = nn.CellList([build(one) for one in cases])
        for one, loss in zip(cases, self.losses):
            for parameter in loss.get_parameters():
                parameter.name = f'{one.name}.{parameter.name}'
        self.inputs = [random_inputs(one, 2) for one in cases]
        self.others = [tuple(Tensor(np.array(column, np.int32)) for column in (one.labels, one.mask) if column)
                       for one in cases]
        self.starts = [sum(len(inputs) for inputs in self.inputs[:i]) for i in range(len(cases) + 1)]

    def construct(self, *tensors):
        values = ()
        for i in range(len(self.losses)):
            values += (self.losses[i](*tensors[self.starts[i]:self.starts[i + 1]], *self.others[i]),)
        return sum(values), values

    def found(self):
        """Values, gradients of the inputs, gradients of the parameters."""
        tensors = [Tensor(x) for inputs in self.inputs for x in inputs]
        (_, values), (of_inputs, of_weights) = ms.value_and_grad(
            self, tuple(range(len(tensors))), self.trainable_params(), has_aux=True)(*tensors)
        return [x.asnumpy() for x in (*values, *of_inputs, *of_weights)]


def test_graph_mode_equals_pynative():
    expected = Several(COMPILED).found()
    ms.set_context(mode=ms.GRAPH_MODE)
    for given, wanted in zip(Several(COMPILED).found(), expected):
        np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-6)


def test_graph_mode_without_mask():
    one = CASES['center']
    inputs = random_inputs(one, 2)
    ms.set_context(mode=ms.GRAPH_MODE)
    value = build(one)(*[Tensor(x) for x in inputs], Tensor(np.array(one.labels, np.int32)))
    ms.set_context(mode=ms.PYNATIVE_MODE)
    np.testing.assert_allclose(float(value.asnumpy()), evaluate(build(one), inputs, one.labels)[0], rtol=1e-5)


@every_loss
def test_float16_input_is_computed_in_float32(one):
    # 300: squared distances and similarities pass float16's 65,504.
    half = [x.astype(np.float16) for x in random_inputs(one, 3, scale=300.0)]
    loss = build(one)
    value, of_inputs, of_weights = evaluate(loss, half, one.labels, one.mask)
    expected = evaluate(loss, [x.astype(np.float32) for x in half], one.labels, one.mask)
    assert value == expected[0] and np.isfinite(value)
    for got, want in zip(of_inputs, expected[1]):
        assert got.dtype == np.float16
        np.testing.assert_array_equal(got, want.astype(np.float16))
    assert all(g.dtype == np.float32 for g in of_weights.values())


@every_loss
@pytest.mark.parametrize('content', ['zero', 'equal', 'one zero'])
def test_zero_and_equal_vectors_have_finite_gradients(one, content):
    inputs = random_inputs(one, 4)
    for x in inputs:
        if content == 'zero':
            x[:] = 0
        elif content == 'equal':
            x[:] = x[0]
        else:
            x[1] = 0
    loss = build(one)
    result = evaluate(loss, inputs, one.labels, one.mask)
    assert all_finite(*result)
    real = one.mask or [1] * len(one.labels)
    expected = one.oracle([x.astype(np.float64) for x in inputs], one.labels, real, parameters_of(loss))
    np.testing.assert_allclose(result[0], expected, rtol=2e-5, atol=1e-6)
    # No weight is hurt by a vector without a direction.
    assert max(np.abs(g).max() for g in result[1]) < 1e3


@every_loss
@pytest.mark.parametrize('scale', [1e-4, 1e4])
def test_far_scales_stay_finite_and_right(one, scale):
    inputs = random_inputs(one, 5, scale)
    loss = build(one)
    result = evaluate(loss, inputs, one.labels, one.mask)
    assert all_finite(*result)
    if one.name != 'eml' or scale < 1:  # the loops overflow there, see test_eml_far_distances
        real = one.mask or [1] * len(one.labels)
        expected = one.oracle([x.astype(np.float64) for x in inputs], one.labels, real, parameters_of(loss))
        np.testing.assert_allclose(result[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name, options, labels', [
    ('quadruplet', {}, [0] * 6), ('quadruplet', {}, range(6)), ('eml', {}, [0] * 6), ('eml', {}, range(6)),
    ('batch_hard_triplet', {}, [0] * 6), ('centroid_triplet', {'num_instances': 2}, [0] * 6),
    ('quadruplet', {}, [0]), ('eml', {}, [0]), ('batch_hard_triplet', {}, [0]),
    ('multi_similarity', {}, [0] * 6), ('multi_similarity', {}, range(6)), ('multi_similarity', {}, [0]),
    ('supcon', {}, range(6)), ('supcon', {}, [0]), ('smooth_ap', {}, range(6)), ('smooth_ap', {}, [0]),
    ('recall_at_k', {}, range(6)), ('recall_at_k', {}, [0]), ('contrastive', {'margin': 1.0}, range(6)),
    ('contrastive', {}, [0])])
def test_no_positive_or_no_negative_pair_gives_zero_and_no_gradient(name, options, labels):
    one = case(name, options, labels)
    value, of_inputs, _ = evaluate(build(one), random_inputs(one), labels)
    assert value == 0 and not of_inputs[0].any()


def test_batch_hard_with_one_image_an_identity_pushes_negatives_apart():
    one = case('batch_hard_triplet', {'margin': 4.0}, [0, 1, 2, 3], oracle=oracles.batch_hard(4.0))
    value, of_inputs, _ = check(one, random_inputs(one))
    assert value > 0 and of_inputs[0].any()


@pytest.mark.parametrize('key', ['softmax_ctl', 'center_masked', 'batch_hard_masked', 'centroid_masked', 'ctl_masked'])
class TestMask:
    def test_masked_rows_change_nothing(self, key):
        one = CASES[key]
        inputs = random_inputs(one, 6)
        loss = build(one)
        first = evaluate(loss, inputs, one.labels, one.mask)
        masked = [i for i, real in enumerate(one.mask) if not real]
        for x in inputs:
            x[masked] = 7.0
        second = evaluate(loss, inputs, one.labels, one.mask)
        np.testing.assert_allclose(first[0], second[0], rtol=1e-6)
        for gradient in first[1] + second[1]:
            assert not gradient[masked].any()
        for a, b in zip(first[1], second[1]):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    def test_all_masked_is_zero_without_gradient(self, key):
        one = CASES[key]
        value, of_inputs, of_weights = evaluate(build(one), random_inputs(one), one.labels, [0] * len(one.labels))
        assert value == 0
        assert not any(g.any() for g in of_inputs + list(of_weights.values()))

    def test_a_full_mask_is_no_mask(self, key):
        one = CASES[key]
        loss, inputs = build(one), random_inputs(one)
        assert evaluate(loss, inputs, one.labels)[0] == evaluate(loss, inputs, one.labels, [1] * len(one.labels))[0]
        booleans = loss(*[Tensor(x) for x in inputs], Tensor(np.array(one.labels, np.int32)),
                        Tensor(np.array(one.mask, bool)))
        floats = loss(*[Tensor(x) for x in inputs], Tensor(np.array(one.labels, np.int32)),
                      Tensor(np.array(one.mask, np.float32)))
        assert float(booleans.asnumpy()) == float(floats.asnumpy())


def test_centroids_of_random_identities_with_1_to_4_images():
    random = np.random.default_rng(0)
    k = 4
    loss = create_loss('centroid_triplet', num_instances=k)
    oracle = oracles.centroid_triplet(k, 0.5)
    values = []
    for _ in range(20):
        identities = int(random.integers(1, 6))
        labels = np.repeat(random.permutation(9)[:identities], k)
        mask = np.concatenate([random.permutation(np.arange(k) < random.integers(1, k + 1))
                               for _ in range(identities)]).astype(np.float32)
        x = random.normal(size=(identities * k, D)).astype(np.float32)
        values.append(float(loss(Tensor(x), Tensor(labels.astype(np.int32)), Tensor(mask)).asnumpy()))
        np.testing.assert_allclose(values[-1], oracle([x.astype(np.float64)], labels, mask, {}), rtol=1e-5, atol=1e-6)
    assert 0 in values and max(values) > 0


def arcmargin_at(cosines, easy=False, margin=0.5, scale=4.0):
    """Case, loss, input: unit vectors at these cosines to the first axis, which is the weight of their class 0."""
    one = case('arcmargin', dict(num_classes=2, embedding_size=2, scale=scale, margin=margin, easy_margin=easy),
               [0] * len(cosines), oracle=oracles.arcmargin(scale, margin, easy))
    loss = build(one)
    loss.weight.set_data(Tensor(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)))
    cosines = np.array(cosines, np.float64)
    return one, loss, np.stack([cosines, np.sqrt(1 - cosines ** 2)], 1).astype(np.float32)


def test_a_vector_too_short_for_a_direction_becomes_zero_without_gradient():
    rows = Tensor(np.array([[3, 4], [6e-7, 6e-7], [0, 0]]), ms.float32)
    unit, gradient = ms.value_and_grad(lambda x: normalize(x).sum())(rows)
    np.testing.assert_allclose(normalize(rows).asnumpy(), [[0.6, 0.8], [0, 0], [0, 0]], rtol=1e-6)
    assert unit.asnumpy() == pytest.approx(1.4) and not gradient.asnumpy()[1:].any()


@pytest.mark.parametrize('easy', [False, True])
def test_arcmargin_on_both_sides_of_its_threshold(easy):
    threshold = 0.0 if easy else float(np.cos(np.pi - 0.5))
    one, loss, x = arcmargin_at([threshold - 1e-3, threshold + 1e-3, threshold - 0.05, threshold + 0.05], easy)
    check(one, [x], loss)


@pytest.mark.parametrize('easy', [False, True])
@pytest.mark.parametrize('cosine', [1.0, -1.0])
def test_arcmargin_at_the_ends(easy, cosine):
    one, loss, x = arcmargin_at([cosine] * 3, easy)
    x[1] *= 1e5
    x[2] *= 1e-4
    result = evaluate(loss, [x], one.labels)
    assert all_finite(*result)
    expected = one.oracle([x.astype(np.float64)], one.labels, [1] * 3, {'weight': np.eye(2)})
    # The 1e-6 under the root leaves about sqrt(1e-6) to rounding.
    np.testing.assert_allclose(result[0], expected, atol=4e-3)


def test_arcmargin_of_parallel_high_dimensional_vectors():
    # Rounding carries some of these cosines past 1, just short of what the 1e-6 under the root forgives.
    random = np.random.default_rng(0)
    weight = random.normal(size=(64, 2048)).astype(np.float32)
    loss = create_loss('arcmargin', num_classes=64, embedding_size=2048)
    loss.weight.set_data(Tensor(weight))
    for sign in (1, -1):
        assert all_finite(*evaluate(loss, [sign * 3 * weight], range(64)))


def test_arcmargin_margin_makes_the_target_harder():
    one, loss, x = arcmargin_at([-1.0, -0.95, -0.5, 0.0, 0.5, 0.9])
    _, without, _ = arcmargin_at([0.0], margin=0.0)
    without.weight.set_data(loss.weight.value())
    for row in x:
        assert evaluate(loss, [row[None]], [0])[0] > evaluate(without, [row[None]], [0])[0]


@pytest.mark.parametrize('gap', [-5000.0, -30.0, 19.0, 21.0, 30.0, 1000.0, 5000.0])
def test_eml_far_distances(gap):
    """Two classes of two on a line: every anchor's bias is gap, theta is known, so is the loss."""
    # Positives sqrt(p) apart, classes on perpendicular axes far from or near each other.
    positive, far = (gap + 1, 1.0) if gap > 0 else (1.0, 1 - gap)
    p, h = np.sqrt(positive), np.sqrt(far)
    x = np.array([[0, 0], [p, 0], [0, h], [p, h]], np.float32)
    value, of_inputs, _ = evaluate(create_loss('eml'), [x], [0, 0, 1, 1])
    # Negatives of each anchor: far and far + positive, so theta = (1 + exp(-positive)) / 2.
    log_theta = np.log((1 + np.exp(-positive)) / 2)
    bias = positive - far
    expected = np.logaddexp(0, np.log(1e5) + log_theta + bias) / np.log1p(1e5)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
    assert np.isfinite(of_inputs[0]).all()
    if gap > 20:
        # There the loss is linear in the distances: d loss / d x0 of anchors 0 and 1 together.
        np.testing.assert_allclose(of_inputs[0][0, 0], -p / np.log1p(1e5), rtol=1e-2)


def test_eml_equals_the_loops_next_to_its_threshold():
    one = case('eml', {}, PAIRS, oracle=oracles.eml)
    random = np.random.default_rng(7)
    for scale in (1.5, 2.5):
        x = (scale * random.normal(size=(8, D))).astype(np.float32)
        check(one, [x], value_tolerance=1e-4, gradient_tolerance=1e-3)


def test_distances_survive_a_large_common_offset():
    for key in ('eml', 'batch_hard', 'centroid'):
        one = CASES[key]
        x = np.round(random_inputs(one)[0] * 64) / 64  # exact in float32 with the offset added
        near, far = (evaluate(build(one), [x + offset], one.labels) for offset in (np.float32(0), np.float32(1024)))
        np.testing.assert_allclose(far[0], near[0], rtol=1e-4)
        np.testing.assert_allclose(far[1][0], near[1][0], rtol=1e-3, atol=1e-3)


def test_distances_of_tight_clusters_far_apart():
    random = np.random.default_rng(0)
    x = (np.repeat(random.normal(size=(2, 1, 64)), 3, 1) * 1e3 + random.normal(size=(2, 3, 64)) * 0.1)
    x = x.reshape(6, 64).astype(np.float32)
    expected = [[oracles.squared(a, b) for b in x.astype(np.float64)] for a in x.astype(np.float64)]
    np.testing.assert_allclose(squared_distances(Tensor(x), 6).asnumpy(), expected, rtol=1e-5)


@pytest.mark.parametrize('size', [1.0, 300.0, 60000.0])
def test_npairs_of_float16_networks_takes_a_large_loss_scale(size):
    """Its gradient is no larger than the largest embedding, so the scale need not be below 65,504 / that."""
    x = np.random.default_rng(0).uniform(-size, size, (60, 512)).astype(np.float16)
    labels = Tensor(np.arange(30).repeat(2).astype(np.int32))
    loss, scale = create_loss('npairs'), 2.0 ** int(np.log2(60000 / size))
    value, gradient = ms.value_and_grad(lambda e: scale * loss(e, labels))(Tensor(x))
    assert np.isfinite(value.asnumpy()) and np.isfinite(gradient.asnumpy()).all()
    assert 0 < np.abs(gradient.asnumpy().astype(float)).max() <= 1.1 * scale * size


def test_npairs_huge_similarities():
    x = np.eye(4, D, dtype=np.float32).repeat(2, 0) * 1e6
    labels = [0, 0, 1, 1, 2, 2, 3, 3]
    value, of_inputs, _ = evaluate(create_loss('npairs', reg_lambda=0.0), [x], labels)
    assert value == 0 and not of_inputs[0].any()
    shifted = np.array(x)
    shifted[1::2] = np.roll(shifted[1::2], 1, 0)
    value, of_inputs, _ = evaluate(create_loss('npairs', reg_lambda=0.0), [shifted], labels)
    np.testing.assert_allclose(value, 1e12, rtol=1e-5)
    assert np.isfinite(of_inputs[0]).all() and of_inputs[0].any()


def test_quadruplet_with_equally_hard_pairs():
    # A square: both positive pairs are as far, both negative pairs as near.
    x = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]], np.float32)
    value, of_inputs, _ = evaluate(create_loss('quadruplet', margin=0.5), [x], [0, 0, 1, 1])
    np.testing.assert_allclose(value, 0.5, rtol=1e-6)
    assert np.isfinite(of_inputs[0]).all()


def test_triplet_sum_logs_the_mean():
    one = CASES['triplet']
    x = random_inputs(one)
    mean = evaluate(create_loss('triplet', reduction='mean'), x, one.labels)
    total = evaluate(create_loss('triplet', reduction='sum'), x, one.labels)
    assert total[0] == mean[0]
    np.testing.assert_allclose(total[1][0], len(one.labels) / 3 * mean[1][0], rtol=1e-5, atol=1e-7)


def test_center_clamp_cuts_the_gradient():
    loss = create_loss('center', num_classes=2, embedding_size=2)
    loss.centers.set_data(Tensor(np.array([[1, 2], [0, 0]], np.float32)))
    value, of_inputs, of_weights = evaluate(loss, [np.array([[1, 2], [3e6, 0]], np.float32)], [0, 1])
    np.testing.assert_allclose(value, 0.5e12, rtol=1e-6)
    assert not of_inputs[0].any() and not of_weights['centers'].any()


def test_one_sgd_step_at_half_with_the_weight_divided_out_moves_the_centre_to_its_only_image():
    one = CASES['ctl']
    loss, inputs = build(one), random_inputs(one)
    mask = [1] + [0] * 11
    _, _, of_weights = evaluate(loss, inputs, one.labels, mask)
    (centers, step_size), = loss.own_updates()
    moved = centers.asnumpy() - step_size * of_weights[centers.name]
    expected = loss.center.centers.asnumpy()
    expected[one.labels[0]] = inputs[0][0]
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-5)


def test_initial_classifiers():
    ms.set_seed(1)
    loss = create_loss('softmax', num_classes=300, embedding_size=64)
    for name in ('weight', 'bias'):
        values = getattr(loss, name).asnumpy()
        assert 0.11 < np.abs(values).max() <= 0.125
    ctl = create_loss('ctl', num_classes=300, embedding_size=64)
    assert {p.name: p.shape for p in ctl.trainable_params()} == {
        'classifier.weight': (300, 64), 'center.centers': (300, 64)}
    np.testing.assert_allclose(ctl.classifier.weight.asnumpy().std(), 1e-3, rtol=0.05)
    np.testing.assert_allclose(ctl.center.centers.asnumpy().std(), 1.0, rtol=0.05)
    bound = np.sqrt(6 / (300 + 64))
    weight = create_loss('arcmargin', num_classes=300, embedding_size=64).weight.asnumpy()
    assert 0.95 * bound < np.abs(weight).max() <= bound
    proxies = create_loss('proxy_anchor', num_classes=300, embedding_size=64).proxies.asnumpy()
    np.testing.assert_allclose(proxies.std(), np.sqrt(2 / 300), rtol=0.05)


@pytest.mark.parametrize('name', LOSSES)
def test_every_loss_says_what_it_needs(name):
    cls, kind = loss_class(name), loss_kind(name)
    assert issubclass(cls, Loss) and 'Source:' in cls.__doc__
    assert kind in ('element', 'pair', 'semantic')
    assert cls.batch in ('shuffle', 'triplet', 'groups', 'pairs', 'identities', 'images', 'prototypes')
    system = {'num_classes': C, 'embedding_size': D, 'num_instances': 3}
    loss = cls(**{option: system[option] for option in cls.needs})
    parameters = {p.name for p in loss.trainable_params()}
    assert bool(parameters) == (kind == 'element')
    assert kind != 'element' or {'num_classes', 'embedding_size'} <= set(cls.needs)
    assert set(loss.lr_factors()) | {p.name for p, _ in loss.own_updates()} <= parameters
    # DEM's two take no embeddings with labels; they are tested elsewhere.
    assert kind == 'semantic' or name in {one.name for one in CASES.values()}


@pytest.mark.parametrize('name', LOSSES)
def test_declarations_equal_the_signatures(name):
    cls = loss_class(name)
    takes = list(inspect.signature(cls.construct).parameters)
    assert cls.takes_mask == ('mask' in takes)
    assert cls.takes_references == (takes[-2:] == ['references', 'reference_labels'])
    assert takes[1:] == [name for name in takes[1:] if name not in ('mask', 'references', 'reference_labels')] + [
        'mask'] * cls.takes_mask + ['references', 'reference_labels'] * cls.takes_references
    assert cls.uses_neck == ('neck' in takes)
    options = inspect.signature(cls).parameters if '__init__' in vars(cls) else {}
    required = {option for option, parameter in options.items() if parameter.default is parameter.empty}
    assert required <= set(cls.needs) <= set(options)
    # What is listed for users is read from the source.
    for node in ast.walk(ast.parse(inspect.getsource(inspect.getmodule(cls)))):
        if isinstance(node, ast.FunctionDef) and node.name == '__init__':
            assert all(one.annotation is not None for one in node.args.args[1:])
            for default in node.args.defaults:
                ast.literal_eval(default)


def test_parameters_that_are_updated_in_their_own_way():
    ctl = create_loss('ctl', **SIZES, center_weight=0.25)
    assert [(p.name, size) for p, size in ctl.own_updates()] == [('center.centers', 2.0)]
    assert create_loss('baseline', **SIZES).own_updates() == []
    assert [p.name for p in create_loss('baseline', **SIZES).get_parameters()] == ['classifier.weight']
    assert [(p.name, size) for p, size in create_loss('center', **SIZES).own_updates()] == [('centers', 0.5)]
    assert create_loss('proxy_anchor', **SIZES).lr_factors() == {'proxies': 100.0}
    assert create_loss('norm_softmax', **SIZES, lr_factor=3.0).lr_factors() == {'weight': 3.0}


def test_names_are_read_without_mindspore():
    subprocess.run([sys.executable, '-c', 'import sys, src.losses; src.losses.loss_kind("ctl"); '
                    'assert "mindspore" not in sys.modules'], check=True,
                   cwd=ROOT)


def test_unknown_name_lists_the_names():
    for ask in (create_loss, loss_class, loss_kind):
        with pytest.raises(InputError) as error:
            ask('tripplet')
        message = str(error.value)
        assert '--loss_name' in message and '\n' not in message and all(name in message for name in LOSSES)


@pytest.mark.parametrize('name, options, rows', [
    ('triplet', {}, 4), ('npairs', {}, 3), ('centroid_triplet', {'num_instances': 4}, 6)])
def test_torn_batches_are_refused(name, options, rows):
    with pytest.raises(ValueError, match=str(rows)):
        create_loss(name, **options)(Tensor(np.ones((rows, D), np.float32)), Tensor(np.zeros(rows, np.int32)))


def test_unknown_reduction():
    with pytest.raises(ValueError, match='reduction'):
        create_loss('triplet', reduction='none')

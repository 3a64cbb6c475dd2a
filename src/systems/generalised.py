"""Generalised zero-shot learning by the protocol of the benchmark: choose on val classes, train on trainval, report."""
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from src.accuracy.gzsl import generalised_accuracy, seen_unseen_curve
from src.accuracy.hubness import hubness
from src.accuracy.kernel_ridge import fit_kernel_ridge, kernel
from src.checkpoints.exported import network_identity
from src.common.arrays import unit_rows
from src.common.device import Process, gather
from src.common.errors import InputError
from src.common.whitening import whitening
from src.datasets.gbu import open_gbu
from src.datasets.scaling import fit_scaling
from src.pictures import seen_unseen_picture
from src.recipes.config import Recipe
from src.retrieval.naming import CLASSES, NamedClasses, Space
from src.systems.zero_shot import ZeroShot
from src.training.learning_rate import schedule
from src.training.train_step import create_step

# What another candidate must be better by, as the mean of T1 and H, than the best so far: less is chance.
MARGIN = 0.003
# Shares of the regression in an ensemble that are tried beside the recipe's.
SHARES = (0.3, 0.7, 0.0, 1.0)
CURVE = 'gzsl_curve.png'


def changed(recipe, changes):
    """The recipe with entries {name or DICT.OPTION: value} changed."""
    entries = dict(recipe)
    for path, value in changes.items():
        name, _, option = path.partition('.')
        entries[name] = {**entries[name], option: value} if option else value
    return Recipe(entries)


def score_of(curve):
    """What is chosen by: the mean of T1 and of H at the curve's best gamma."""
    return (curve.unseen_alone + curve.at(curve.best_gamma())['H']) / 2


class Generalised(ZeroShot):
    """Training on trainval; seen and unseen classes told apart by calibrated stacking.

    The recipe's `kernel_candidates` and `candidates` are lists of changes of entries; from each list the change that does
    best on the val classes is kept. gamma is taken from the same curve. found: choice, the entries that were so chosen;
    gamma; chosen_on, the figures there; network_options.
    """

    measure = 'harmonic mean'

    @classmethod
    def build_network(cls, recipe, found):
        return super().build_network(changed(recipe, found.get('choice', {})), found)

    def prepare(self, found=None):
        recipe = self.recipe
        if recipe.validation not in ('none', 'test_classes'):
            raise InputError(f'--validation={recipe.validation}: the benchmark chooses on its val classes; choose none or '
                             'test_classes')
        bench = self._open()
        verbose = self.process.rank == 0
        if verbose:
            print(bench.statistics())
        if found is None:
            found = self._choose(bench, verbose)
        self.recipe = changed(recipe, found['choice'])
        self.data = bench.final()
        ms.set_seed(recipe.seed)
        self._train_on(self.data)
        self.found = {**self.found, **{name: found[name] for name in ('choice', 'gamma', 'chosen_on')}}

    def _open(self):
        return open_gbu(self.recipe.data_path, self.recipe.features, self.recipe.splits)

    def _more_options(self):
        if self.recipe.network != 'ensemble':
            return {}
        options = self.recipe.kernel_options
        return {'classes': len(self.train.seen_class_ids), 'width': options.width, 'share': options.share}

    def _train_on(self, data):
        super()._train_on(data)
        if self.recipe.network == 'ensemble':
            regression = Regression(self.recipe.kernel_options, self.train)
            self.network.set_regression(*regression.arrays)

    def _choose(self, bench, verbose):
        """What does best on the val classes, trained on the other seen classes: {choice, gamma, chosen_on}."""
        data = bench.choosing(self.recipe.seed)
        share = len(data.train_labels) / len(bench.trainval)
        tried, fitted = [], {}

        def by_regression(recipe):
            return [({}, regression_curve(recipe, data, fitted))]

        def by_training(recipe):
            trial = Trial(Recipe({**recipe, 'kernel_candidates': [], 'candidates': []}), self.process)
            trial.fitted = fitted
            return trial.run(data, share)

        def keep(lists, curves_of, choice, what):
            """The best of the choice and its changes by the lists, one list after another, and its number in tried."""
            best, known = None, set()
            for changes in [[{}], *lists]:
                kept = choice
                for change in changes:
                    recipe = changed(self.recipe, {**kept, **change})
                    if repr(sorted(recipe.items())) in known:
                        continue
                    known.add(repr(sorted(recipe.items())))
                    extra, curve = None, None
                    for more, other in curves_of(recipe):
                        if curve is None or score_of(other) > score_of(curve) + MARGIN:
                            extra, curve = more, other
                    gamma = round(curve.best_gamma(), 6)
                    figures = {name: value for name, value in generalised_accuracy(curve, gamma).items() if '_' not in name}
                    tried.append({'by': what, 'entries': {**change, **extra}, **figures, 'gamma': gamma})
                    if verbose:
                        entries = ', '.join(f'{name} {value}' for name, value in {**change, **extra}.items()) or 'as so far'
                        print(f'val classes, {what}, {entries}: T1 {figures["T1"]:.4f}, H {figures["H"]:.4f}, AUSUC '
                              f'{figures["AUSUC"]:.4f}', flush=True)
                    if best is None or score_of(curve) > best[0] + MARGIN:
                        best, choice = (score_of(curve), len(tried) - 1), {**kept, **change, **extra}
            return choice, best[1]

        choice = {}
        if self.recipe.kernel_candidates:
            choice = keep(self.recipe.kernel_candidates, by_regression, choice, 'regression')[0]
        choice, which = keep(self.recipe.candidates, by_training, choice, 'training')
        # All processes go on with what the first one found.
        at, *bits = gather([which, *np.array([tried[which]['gamma']]).view(np.int32)], self.process)[0]
        if at != which:
            raise InputError('the processes chose different candidates: train on one device')
        names = sorted(bench.names[i] for i in data.test.class_ids)
        chosen_on = {'unseen': len(names), 'unseen_classes': names, 'train_images': len(data.train_labels),
                     'seen_images': len(data.seen_test.labels), 'unseen_images': len(data.test.labels), 'tried': tried}
        return {'choice': choice, 'gamma': float(np.array(bits, np.int32).view(np.float64)[0]), 'chosen_on': chosen_on}

    @property
    def space(self):
        """Where scaled features and the network's prototypes are compared."""
        if self.recipe.network != 'ensemble':
            return Space(self.scaling.features, metric=self.recipe.metric)
        return Space(self.scaling.features, self.network.whitening.asnumpy(), self.recipe.kernel_options.share)

    def _test(self, data):
        """Both test parts together, scaled: features, labels, ids, semantics, and which ids are seen."""
        return together(*(self.scaling.part(part) for part in (data.seen_test, data.test)))

    def _curve(self, data):
        """The seen-unseen curve on the test parts of data, and N_k's skewness over all classes."""
        for part in (data.seen_test, data.test):
            self._check_widths(part)
        features, labels, ids, semantics, seen = self._test(data)
        space, prototypes = self.space, self.prototypes(semantics)
        features = space.near(features)
        self.skewness = lambda: hubness(features, prototypes, (1, 5, 10), self.recipe.metric)
        return seen_unseen_curve(space.scores(features, prototypes), labels, ids, seen)

    def validate(self):
        """H of the test classes at the chosen gamma."""
        return self._curve(self.data).at(self.found['gamma'])['H']

    def evaluate(self, checkpoint):
        """T1, u, s, H and AUSUC at the gamma that was chosen on the val classes; printed, the curve drawn, and the classes
        written with names and prototypes for infer.py (src.retrieval.naming)."""
        if not hasattr(self, 'data'):
            self.recipe = recipe = changed(self.recipe, self.found['choice'])
            self.data = self._open().final()
            self.scaling = fit_scaling(self.data, recipe.feature_scaling, recipe.semantics_scaling)
        data, recipe = self.data, self.recipe
        curve, gamma = self._curve(data), self.found['gamma']
        result = {**generalised_accuracy(curve, gamma), 'gamma': gamma,
                  'gamma_chosen_on': f'{self.found["chosen_on"]["unseen"]} val classes of trainval',
                  'choice': self.found['choice'], 'hubness': {str(k): value for k, value in self.skewness().items()}}
        print('============== Starting Evaluating ==============')
        print(f'accuracy _ {Path(str(recipe.data_path)).resolve().name} _ {recipe.train_mode} = {result["T1"]:.5f}')
        print(f'generalised: u = {result["u"]:.5f}, s = {result["s"]:.5f}, H = {result["H"]:.5f}, AUSUC = '
              f'{result["AUSUC"]:.5f} at gamma {gamma:.6f}, chosen on {result["gamma_chosen_on"]}')
        print(f'without calibration: u = {result["u_0"]:.5f}, s = {result["s_0"]:.5f}, H = {result["H_0"]:.5f}')
        print('hubness: ' + ', '.join(f'skewness of N_{k} = {value:.3f}' for k, value in result['hubness'].items()))
        folder = Path(checkpoint) if Path(checkpoint).is_dir() else Path(checkpoint).parent
        seen_unseen_picture(curve.unseen, curve.seen, (result['u'], result['s']), folder / CURVE)
        self.named_classes().save(folder / CLASSES)
        return result

    def named_classes(self):
        """Names and prototypes of the classes of the test."""
        _, _, ids, semantics, seen = self._test(self.data)
        return NamedClasses([self.data.names[i] for i in ids], ~seen, self.prototypes(semantics), self.space,
                            self.found['gamma'], self.scaling.semantics[0], network_identity(self.network))


def together(*parts):
    """Features, labels, ids, semantics of (seen, unseen) EvalParts, and which ids are seen."""
    features, labels, ids = (np.concatenate([getattr(part, name) for part in parts])
                             for name in ('features', 'labels', 'class_ids'))
    semantics = [np.concatenate(rows) for rows in zip(*(part.semantics for part in parts))]
    return features, labels, ids, semantics, np.isin(ids, parts[0].class_ids)


class Regression:
    """Kernel ridge regression on scaled training data, by the options of a recipe."""

    def __init__(self, options, train):
        self.width = options.width
        labels = np.searchsorted(train.seen_class_ids, train.train_labels)
        self.centres = train.seen_prototypes[0]
        self.whitening = whitening(train.train_features, labels, options.shrinkage)
        self.weights = fit_kernel_ridge(unit_rows(train.train_features @ self.whitening), labels, self.centres, options.width,
                                        options.ridge)

    @property
    def arrays(self):
        return self.centres, self.weights, self.whitening

    def scores(self, features, semantics):
        """Cosine of scaled features (M, V) and the prototypes of scaled semantics (C, A)."""
        prototypes = kernel(semantics, self.centres, self.width) @ self.weights
        return unit_rows(features @ self.whitening) @ unit_rows(prototypes).T


def regression_curve(recipe, data, fitted):
    """The curve that the regression of a recipe alone gives on the test parts of data."""
    scaling = fit_scaling(data, recipe.feature_scaling, recipe.semantics_scaling, fitted)
    features, labels, ids, semantics, seen = together(*(scaling.part(part) for part in (data.seen_test, data.test)))
    return seen_unseen_curve(Regression(recipe.kernel_options, scaling.train(data)).scores(features, semantics[0]), labels,
                             ids, seen)


class Trial(Generalised):
    """A training of one candidate on a part of the data, in memory and in silence."""

    def run(self, data, share):
        """Train on data for `share` of the recipe's iterations; returns [(further entries, the curve on its test parts)]."""
        recipe = self.recipe
        if recipe.total_iter_num:
            recipe = self.recipe = Recipe({**recipe, 'total_iter_num': max(1, round(share * recipe.total_iter_num))})
        self.process = Process(self.process.target, self.process.device_id, 0, 1)
        ms.set_seed(recipe.seed)
        self._train_on(data)
        lr = schedule(recipe, self.steps_per_epoch)
        step = create_step(self.network, self.loss, self.network_columns, recipe, lr, self.process)
        self.network.set_train()
        stop, finite = Tensor(0, ms.int32), []
        while len(finite) < len(lr):
            for columns in self.batches(len(finite) // self.steps_per_epoch, 0):
                finite.append(step(stop, *columns)[1])
                if len(finite) == len(lr):
                    break
        if not all(bool(one.asnumpy()) for one in finite):
            raise InputError('the loss became NaN or infinite: lower --lr, or look at the data')
        self.network.set_train(False)
        if recipe.network != 'ensemble':
            return [({}, self._curve(data))]
        features, labels, ids, semantics, seen = self._test(data)
        prototypes, width = self.prototypes(semantics), features.shape[1]
        of_networks = unit_rows(features) @ unit_rows(prototypes[:, :width]).T
        of_regression = unit_rows(features @ self.network.whitening.asnumpy()) @ unit_rows(prototypes[:, width:]).T
        return [({'kernel_options.share': part}, seen_unseen_curve((1 - part) * of_networks + part * of_regression, labels,
                                                                   ids, seen))
                for part in (recipe.kernel_options.share, *SHARES)]

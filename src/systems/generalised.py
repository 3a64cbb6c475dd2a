"""Generalised zero-shot learning by the protocol of the benchmark: choose on val classes, train on trainval, report."""
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor

from src.accuracy.gzsl import generalised_accuracy, seen_unseen_curve
from src.accuracy.hubness import hubness
from src.config import Recipe
from src.datasets.gbu import open_gbu
from src.datasets.scaling import fit_scaling
from src.device import Process, gather
from src.errors import InputError
from src.pictures import seen_unseen_picture
from src.systems.zero_shot import ZeroShot
from src.training.learning_rate import schedule
from src.training.train_step import create_step

# What another candidate must be better by, as the mean of T1 and H, than the best so far: less is chance.
MARGIN = 0.003
CURVE = 'gzsl_curve.png'


class Generalised(ZeroShot):
    """Training on trainval; seen and unseen classes told apart by calibrated stacking.

    The recipe's `candidates` are lists of changes of entries; from each list the change that does best on the val classes is
    kept. gamma is taken from the same curve. found: choice, the entries that were so chosen; gamma; chosen_on, the
    figures there; network_options.
    """

    measure = 'harmonic mean'

    @classmethod
    def build_network(cls, recipe, found):
        return super().build_network(Recipe({**recipe, **found.get('choice', {})}), found)

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
        self.recipe = Recipe({**recipe, **found['choice']})
        self.data = bench.final()
        ms.set_seed(recipe.seed)
        self._train_on(self.data)
        self.found = {**self.found, **{name: found[name] for name in ('choice', 'gamma', 'chosen_on')}}

    def _open(self):
        return open_gbu(self.recipe.data_path, self.recipe.features, self.recipe.splits)

    def _choose(self, bench, verbose):
        """What does best on the val classes, trained on the other seen classes: {choice, gamma, chosen_on}."""
        data = bench.choosing(self.recipe.seed)
        share = len(data.train_labels) / len(bench.trainval)
        tried, best, choice, fitted = [], None, {}, {}
        for changes in [[{}], *self.recipe.candidates]:
            kept = choice
            for change in changes:
                entries = {**kept, **change}
                trial = Trial(Recipe({**self.recipe, **entries, 'candidates': []}), self.process)
                trial.fitted = fitted
                curve = trial.run(data, share)
                gamma = round(curve.best_gamma(), 6)
                figures = {name: value for name, value in generalised_accuracy(curve, gamma).items() if '_' not in name}
                tried.append({'entries': change, **figures, 'gamma': gamma})
                if verbose:
                    what = ', '.join(f'{name} {value}' for name, value in change.items()) or 'as the recipe says'
                    print(f'val classes, {what}: T1 {figures["T1"]:.4f}, H {figures["H"]:.4f}, AUSUC {figures["AUSUC"]:.4f}',
                          flush=True)
                score = (figures['T1'] + figures['H']) / 2
                if best is None or score > best[0] + MARGIN:
                    best, choice = (score, len(tried) - 1), entries
        # All processes go on with what the first one found.
        at, millionths = gather([best[1], round(tried[best[1]]['gamma'] * 1e6)], self.process)[0]
        if at != best[1]:
            raise InputError('the processes chose different candidates: train on one device')
        names = sorted(bench.names[i] for i in data.test.class_ids)
        chosen_on = {'unseen': len(names), 'unseen_classes': names, 'train_images': len(data.train_labels),
                     'seen_images': len(data.seen_test.labels), 'unseen_images': len(data.test.labels), 'tried': tried}
        return {'choice': choice, 'gamma': int(millionths) / 1e6, 'chosen_on': chosen_on}

    def _scores(self, features, prototypes):
        """Nearness of scaled features (M, V) to prototypes (C, V): float64 (M, C), cosine or minus squared distance."""
        features, prototypes = features.astype(np.float64), prototypes.astype(np.float64)
        if self.recipe.metric == 'cosine':
            def unit(rows):
                return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
            return unit(features) @ unit(prototypes).T
        return 2 * features @ prototypes.T - (features ** 2).sum(1)[:, None] - (prototypes ** 2).sum(1)

    def _curve(self, data):
        """The seen-unseen curve on the test parts of data, and N_k's skewness over all classes."""
        parts = [self.scaling.part(part) for part in (data.seen_test, data.test)]
        for part in parts:
            self._check_widths(part)
        features, labels, ids = (np.concatenate([getattr(part, name) for part in parts])
                                 for name in ('features', 'labels', 'class_ids'))
        prototypes = self.prototypes([np.concatenate(rows) for rows in zip(*(part.semantics for part in parts))])
        self.skewness = lambda: hubness(features, prototypes, (1, 5, 10), self.recipe.metric)
        return seen_unseen_curve(self._scores(features, prototypes), labels, ids, np.isin(ids, parts[0].class_ids))

    def validate(self):
        """H of the test classes at the chosen gamma."""
        return self._curve(self.data).at(self.found['gamma'])['H']

    def evaluate(self, checkpoint):
        """T1, u, s, H and AUSUC at the gamma that was chosen on the val classes; printed, and the curve drawn."""
        data, recipe = self._open().final(), Recipe({**self.recipe, **self.found['choice']})
        self.recipe, self.scaling = recipe, fit_scaling(data, recipe.feature_scaling, recipe.semantics_scaling)
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
        return result


class Trial(Generalised):
    """A training of one candidate on a part of the data, in memory and in silence."""

    def run(self, data, share):
        """Train on data for `share` of the recipe's iterations; returns the curve on its test parts."""
        recipe = self.recipe
        if recipe.total_iter_num:
            recipe = self.recipe = Recipe({**recipe, 'total_iter_num': max(1, round(share * recipe.total_iter_num))})
        self.process = Process(self.process.target, self.process.device_id, 0, 1)
        ms.set_seed(recipe.seed)
        self._train_on(data)
        lr = schedule(recipe, self.steps_per_epoch)
        step = create_step(self.network, self.loss, self.network_columns, recipe, lr, self.process)
        self.network.set_train()
        stop, done = Tensor(0, ms.int32), 0
        while done < len(lr):
            for columns in self.batches(done // self.steps_per_epoch, 0):
                finite = step(stop, *columns)[1]
                done += 1
                if done == len(lr):
                    break
        if not bool(finite.asnumpy()):
            raise InputError('the loss became NaN or infinite: lower --lr, or look at the data')
        self.network.set_train(False)
        return self._curve(data)

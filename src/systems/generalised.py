"""Generalised zero-shot learning by the protocol of the benchmark: choose on val classes, train on trainval, report."""
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import mindspore as ms
import numpy as np
from mindspore import nn
from numpy.typing import NDArray

from src.accuracy.gzsl import Curve, generalised_accuracy, seen_unseen_curve
from src.accuracy.hubness import hubness
from src.accuracy.kernel_ridge import fit_kernel_ridge, kernel
from src.checkpoints.exported import network_identity
from src.common.arrays import unit_rows
from src.common.device import Process, gather
from src.common.errors import InputError
from src.common.registry import check_choice
from src.common.whitening import whitening
from src.datasets.gbu import Benchmark, open_gbu
from src.datasets.scaling import Scale, Scaling, fit_scaling
from src.datasets.zero_shot_data import EvalPart, GeneralisedData, ZeroShotData
from src.page import check_page, evaluation_page
from src.pictures import seen_unseen_picture
from src.recipes.recipe import Recipe
from src.retrieval.gallery import ways
from src.retrieval.naming import CLASSES, NamedClasses, Space, export_classes
from src.systems.zero_shot import ZeroShot, ZeroShotFound, check_told_apart, say_measured
from src.training.loop import train_in_memory
from src.training.system import System

# Smallest gain in the mean of T1 and H for which a candidate replaces the best so far: less is chance.
MARGIN = 0.003
# Weights of the regression in an ensemble that are tried beside the recipe's.
SHARES = (0.3, 0.7, 0.0, 1.0)
CURVE = 'gzsl_curve.png'
Changes = Dict[str, Any]
# Changes that a trial tried by itself, and their curve.
Curves = Iterable[Tuple[Changes, Curve]]


@dataclass(frozen=True)
class GeneralisedFound(ZeroShotFound):
    """Facts found in the data and choices made on the val classes.

    choice: the changes of entries that were kept. gamma: calibration factor. chosen_on: the val classes, numbers of images
    and results of all candidates. image_model: identity of the embeddings trained on, see Benchmark.
    """
    choice: Changes = field(default_factory=dict)
    gamma: float = 0.0
    chosen_on: Dict[str, Any] = field(default_factory=dict)
    image_model: Optional[str] = None


class Generalised(ZeroShot):
    """Training on trainval; seen and unseen classes told apart by calibrated stacking.

    The recipe's `kernel_candidates` and `candidates` are lists of changes of entries; from each list the change with the best
    result on the val classes is kept. The recipe with these changes is trained, stored and reported. gamma is taken from
    the same curve.
    """

    Found = GeneralisedFound
    measure = 'harmonic mean'
    # The seen and unseen parts of the test, once they are read.
    data: Optional[GeneralisedData] = None

    @classmethod
    def restored(cls, recipe: Recipe, found: GeneralisedFound) -> Recipe:
        return recipe.changed({**found.choice, 'candidates': [], 'kernel_candidates': []})

    def prepare(self, found: Optional[GeneralisedFound] = None) -> None:
        recipe = self.recipe
        # The benchmark chooses on its val classes.
        check_choice(('none', 'test_classes'), recipe.validation, '--validation')
        bench = self._open()
        if self.process.rank == 0:
            print(bench.statistics())
        found = found or self._choose(bench)
        self.recipe = self.restored(recipe, found)
        self.data = self._final(bench, found)
        ms.set_seed(recipe.seed)
        self._train_on(self.data)
        self.found = replace(found, network_options=self.found.network_options, contents=self._contents(self.data, found))

    def _open(self) -> Benchmark:
        return open_gbu(self.recipe.data_path, self.recipe.features, self.recipe.splits)

    def _final(self, bench: Benchmark, found: GeneralisedFound) -> GeneralisedData:
        """The data of training and test. Raises InputError if they are of another image network than those of the training."""
        if bench.image_model and found.image_model and bench.image_model != found.image_model:
            raise InputError(f'{self.recipe.data_path}: holds embeddings of another image network or other preprocessing than '
                             f'those of the training ({ways(found.image_model, bench.image_model)}); give the folder of those')
        data = bench.final()
        if len(data.test.class_ids) > 1:  # one is still told apart from the seen ones
            check_told_apart(data.test, str(self.recipe.data_path))
        return data

    def _more_options(self) -> Dict[str, Any]:
        if self.recipe.network != 'ensemble':
            return {}
        options = self.recipe.kernel_options
        return {'classes': len(self.train.seen_class_ids), 'width': options.width, 'share': options.share}

    def _train_on(self, data: ZeroShotData) -> None:
        super()._train_on(data)
        if self.recipe.network == 'ensemble':
            self.network.set_regression(*Regression(self.recipe.kernel_options, self.train).arrays)

    def _choose(self, bench: Benchmark) -> GeneralisedFound:
        """Choose the changes and gamma that do best on the val classes, trained on the other seen classes."""
        data = bench.choosing(self.recipe.seed)
        share = len(data.train_labels) / len(bench.trainval)
        fitted: Dict[str, Scale] = {}
        selection = Selection(self.recipe, self.process.rank == 0)
        if self.recipe.kernel_candidates:
            selection.keep(self.recipe.kernel_candidates, 'regression', lambda recipe: [
                ({}, regression_curve(recipe, data, fitted))])
        selection.keep(self.recipe.candidates, 'training', lambda recipe: Trial(recipe, self.process, fitted).run(data, share))
        if selection.verbose:
            print(f'chosen on the val classes: {_listed(selection.choice)}')
        # All processes continue with the choice of the first.
        gamma = selection.tried[selection.best]['gamma']
        at, *bits = gather([selection.best, *np.array([gamma]).view(np.int32)], self.process)[0]
        if at != selection.best:
            raise InputError('the processes chose different candidates: train on one device')
        names = sorted(bench.names[i] for i in data.test.class_ids)
        chosen_on = {'unseen': len(names), 'unseen_classes': names, 'train_images': len(data.train_labels),
                     'seen_images': len(data.seen_test.labels), 'unseen_images': len(data.test.labels),
                     'tried': selection.tried}
        return GeneralisedFound(choice=selection.choice, gamma=float(np.array(bits, np.int32).view(np.float64)[0]),
                                chosen_on=chosen_on, image_model=bench.image_model)

    @property
    def space(self) -> Space:
        """Space in which scaled features and the network's prototypes are compared."""
        if self.recipe.network != 'ensemble':
            return Space(self.scaling.features, metric=self.recipe.metric)
        return Space(self.scaling.features, self.network.whitening.asnumpy(), self.recipe.kernel_options.share)

    def _curve(self, data: GeneralisedData) -> Curve:
        """Seen-unseen curve on the test parts of data."""
        test = WholeTest.of(data, self.scaling)
        return test.curve(self.space.scores(self.space.near(test.features), self.prototypes(test.semantics)))

    def validate(self) -> float:
        """H of the test classes at the chosen gamma."""
        return self._curve(self._test_data()).at(self.found.gamma)['H']

    def _test_data(self) -> GeneralisedData:
        """Data whose test parts are measured; read here if no training has read it."""
        if self.data is None:
            self.data = self._final(self._open(), self.found)
            self.scaling = fit_scaling(self.data, self.recipe.feature_scaling, self.recipe.semantics_scaling)
        return self.data

    def evaluate(self, checkpoint: str) -> Dict[str, Any]:
        """Print and return T1, u, s, H and AUSUC at the gamma chosen on the val classes; draw the curve, and write the names
        and prototypes of the classes for infer.py (src.retrieval.naming)."""
        recipe, gamma = self.recipe, self.found.gamma
        check_page(recipe.report)
        data = self._test_data()
        test, space = WholeTest.of(data, self.scaling), self.space
        self._check_widths(test)
        near, prototypes = space.near(test.features), self.prototypes(test.semantics)
        scores = space.scores(near, prototypes)
        curve, answers = test.curve(scores), [test.class_ids[those.argmax(1)] for those in (scores - gamma * test.seen, scores)]
        skewness = hubness(near, prototypes, metric=recipe.metric)
        result = {**generalised_accuracy(curve, gamma), 'gamma': gamma,
                  'gamma_chosen_on': f'{self.found.chosen_on["unseen"]} val classes of trainval',
                  'accuracy': curve.unseen_alone, 'choice': self.found.choice,
                  'hubness': {str(k): value for k, value in skewness.items()}}
        result['measures'] = {name: result[name] for name in ('T1', 'u', 's', 'H', 'AUSUC')}
        print('============== Starting Evaluating ==============')
        print(f'accuracy _ {Path(str(recipe.data_path)).resolve().name} _ {recipe.train_mode} = {result["T1"]:.5f}')
        print(f'generalised: T1 = {result["T1"]:.5f}, u = {result["u"]:.5f}, s = {result["s"]:.5f}, H = {result["H"]:.5f}, '
              f'AUSUC = {result["AUSUC"]:.5f} at gamma {gamma:.6f}, chosen on {result["gamma_chosen_on"]}')
        print(f'without calibration: u = {result["u_0"]:.5f}, s = {result["s_0"]:.5f}, H = {result["H_0"]:.5f}')
        print('hubness: ' + ', '.join(f'skewness of N_{k} = {value:.3f}' for k, value in result['hubness'].items()))
        if len(data.test.class_ids) == 1:
            print('one unseen class: T1 is 1 for every network')
        result['test'] = say_measured(test, answers[0])
        folder = Path(checkpoint) if Path(checkpoint).is_dir() else Path(checkpoint).parent
        seen_unseen_picture(curve, gamma, folder / CURVE)
        NamedClasses([data.names[i] for i in test.class_ids], ~test.seen, prototypes, space, gamma, self.scaling.semantics[0],
                     network_identity(self.network), self.found.image_model).save(folder / CLASSES)
        if recipe.report:
            page = evaluation_page('Generalised zero-shot learning', recipe, checkpoint, result['measures'], {
                'images': len(test.labels), 'classes': len(test.class_ids), 'unseen classes': int((~test.seen).sum())})
            page.add_seen_unseen(curve, gamma)
            names = {i: data.names[i] + ' (unseen)' * (not seen) for i, seen in zip(test.class_ids.tolist(), test.seen)}
            page.add_classification((test.labels, *answers), names, near, prototypes)
            page.write(recipe.report)
        return result

    # The results need more than the network's outputs.
    run_on_test = System.run_on_test

    @classmethod
    def export_beside(cls, network: nn.Cell, checkpoint: str, path: str) -> None:
        """Write the test classes with their prototypes."""
        export_classes(checkpoint, network_identity(network), path)


@dataclass(frozen=True)
class WholeTest(EvalPart):
    """The seen and the unseen part of a test together. seen: (C,) bool, which classes are seen."""
    seen: NDArray[np.bool_]

    @classmethod
    def of(cls, data: GeneralisedData, scaling: Scaling) -> 'WholeTest':
        """Join the parts of the test of data, scaled."""
        parts = scaling.part(data.seen_test), scaling.part(data.test)
        features, labels, ids = (np.concatenate([getattr(part, name) for part in parts])
                                 for name in ('features', 'labels', 'class_ids'))
        semantics = tuple(np.concatenate(rows) for rows in zip(*(part.semantics for part in parts)))
        return cls(features, labels, ids, semantics, np.isin(ids, parts[0].class_ids))

    def curve(self, scores: NDArray[Any]) -> Curve:
        """Seen-unseen curve of scores (M, C)."""
        return seen_unseen_curve(scores, self.labels, self.class_ids, self.seen)


class Selection:
    """Greedy selection of changes that do best on the val classes.

    Args:
        recipe: the recipe to change. verbose: whether to print every candidate.

    Attributes: choice, the changes that were kept; tried, the results of every candidate; best, the index in `tried` of the
    candidate kept last.
    """

    def __init__(self, recipe: Recipe, verbose: bool):
        self.recipe, self.verbose = recipe, verbose
        self.choice: Changes = {}
        self.tried: List[Dict[str, Any]] = []
        self.best = 0

    def keep(self, lists: List[List[Changes]], what: str, curves_of: Callable[[Recipe], Curves]) -> None:
        """Try the choice so far and its changes by the lists, one list after another.

        Args:
            what: name of the measurement, for the log. curves_of: function that measures a recipe.
        """
        best, known = -np.inf, set()
        nothing: List[Changes] = [{}]
        for changes in [nothing, *lists]:
            kept = self.choice
            for change in changes:
                recipe = self.recipe.changed({**kept, **change, 'candidates': [], 'kernel_candidates': []})
                if repr(sorted(recipe.items())) in known:
                    continue
                known.add(repr(sorted(recipe.items())))
                extra, curve = _best_of(curves_of(recipe))
                self._note(what, {**change, **extra}, curve)
                if best == -np.inf or score_of(curve) > best + MARGIN:
                    best, self.best, self.choice = score_of(curve), len(self.tried) - 1, {**kept, **change, **extra}

    def _note(self, what: str, entries: Changes, curve: Curve) -> None:
        gamma = round(curve.best_gamma(), 6)
        figures = {name: value for name, value in generalised_accuracy(curve, gamma).items() if '_' not in name}
        self.tried.append({'by': what, 'entries': entries, **figures, 'gamma': gamma})
        if self.verbose:
            print(f'val classes, {what}, {_listed(entries)}: T1 {figures["T1"]:.4f}, H {figures["H"]:.4f}, AUSUC '
                  f'{figures["AUSUC"]:.4f}', flush=True)


def _listed(entries: Changes) -> str:
    return ', '.join(f'{name} {value}' for name, value in entries.items()) or 'no change'


def _best_of(curves: Curves) -> Tuple[Changes, Curve]:
    """The first of the curves, or a later one that is better by MARGIN."""
    (extra, curve), *others = curves
    for more, other in others:
        if score_of(other) > score_of(curve) + MARGIN:
            extra, curve = more, other
    return extra, curve


def score_of(curve: Curve) -> float:
    """Criterion of the choice: the mean of T1 and of H at the curve's best gamma."""
    return (curve.unseen_alone + curve.at(curve.best_gamma())['H']) / 2


class Regression:
    """Kernel ridge regression on scaled training data, by the options of a recipe."""

    def __init__(self, options: Recipe, train: ZeroShotData):
        self.width = options.width
        labels = np.searchsorted(train.seen_class_ids, train.train_labels)
        self.centres = train.seen_prototypes[0]
        self.whitening = whitening(train.train_features, labels, options.shrinkage)
        self.weights = fit_kernel_ridge(unit_rows(train.train_features @ self.whitening), labels, self.centres, options.width,
                                        options.ridge)

    @property
    def arrays(self) -> Tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Arguments of EnsembleNetwork.set_regression."""
        return self.centres, self.weights, self.whitening

    def scores(self, features: NDArray[Any], semantics: NDArray[Any]) -> NDArray[Any]:
        """Cosine of scaled features (M, V) and the prototypes of scaled semantics (C, A): (M, C)."""
        prototypes = kernel(semantics, self.centres, self.width) @ self.weights
        return unit_rows(features @ self.whitening) @ unit_rows(prototypes).T


def regression_curve(recipe: Recipe, data: GeneralisedData, fitted: Dict[str, Scale]) -> Curve:
    """Curve of the recipe's regression alone on the test parts of data."""
    scaling = fit_scaling(data, recipe.feature_scaling, recipe.semantics_scaling, fitted)
    test = WholeTest.of(data, scaling)
    return test.curve(Regression(recipe.kernel_options, scaling.train(data)).scores(test.features, test.semantics[0]))


class Trial(Generalised):
    """Training of one candidate on a part of the data, in memory and without printing.

    fitted: feature scales already fitted to the same data, by name.
    """

    def __init__(self, recipe: Recipe, process: Process, fitted: Dict[str, Scale]):
        super().__init__(recipe, Process(process.target, process.device_id, 0, 1))
        self.fitted = fitted

    def run(self, data: GeneralisedData, share: float) -> Curves:
        """Train on data for `share` of the recipe's iterations; returns further changes and the curves on its test parts."""
        if self.recipe.total_iter_num:
            self.recipe = self.recipe.changed({'total_iter_num': max(1, round(share * self.recipe.total_iter_num))})
        ms.set_seed(self.recipe.seed)
        self._train_on(data)
        train_in_memory(self)
        yield {}, self._curve(data)
        space, test = self.space, WholeTest.of(data, self.scaling)
        # For a weight of 0 or 1 the network gives only one part of its prototypes.
        if space.whitening is None or not 0 < space.share < 1:
            return
        parts = [unit_rows(part) for part in np.split(self.prototypes(test.semantics), 2, axis=1)]
        for part in SHARES:
            other = replace(space, share=part)
            yield {'kernel_options.share': part}, test.curve(other.scores(other.near(test.features), other.mixed(*parts)))

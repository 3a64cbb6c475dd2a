"""Embed images into a file or a Milvus gallery, search or change a gallery, or name the classes of images with --classes,
unseen classes included."""
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache

from src.common.run import run


def main(argv=None):
    """Embed --dataset_path, load or change --gallery, or print the neighbours or the class names of every query."""
    from src.recipes.command_line import parse_args
    from src.recipes.infer_modes import CHANGE, EMBED, LOAD, SEARCH, idle_flags, infer_mode
    command = parse_args('infer', argv)
    mode = infer_mode(command)
    # MindSpore takes a second to import, so not before it is needed.
    from src.common.device import set_up
    from src.inference import change_gallery, embed_images, load_embedder, load_gallery
    from src.page import check_page
    from src.pictures import check_picture
    options = command.options
    check_picture(options.picture)
    check_page(options.report)

    @cache
    def process():
        return set_up(options.device_target, options.device_id, use_gpu=options.use_gpu)

    @cache
    def embedder():
        # Lines about the device and the weights must not mix with answers, which a program may be reading.
        with redirect_stdout(sys.stdout if mode == EMBED else sys.stderr):
            loaded = load_embedder(options.save_ckpt, command.recipe_for, engine=options.engine, target=process().target)
            batch = [change for change in command.changes if change.entry == 'test_batch_size'][-1:]
            if batch and batch[0].value != loaded.options.batch_size:
                print(f'{batch[0].word}: has no effect: the model takes {loaded.options.batch_size} images at a time')
            return replace(loaded, subset=options.subset) if options.subset else loaded
    if mode == EMBED:
        done = embed_images(options.dataset_path, options.output, embedder, encoding=options.encoding,
                            skip_broken=options.skip_broken)
    elif mode == LOAD:
        done = load_gallery(options.gallery, options.output)
    elif mode == CHANGE:
        lines = change_gallery(options.gallery, remove=options.remove, threshold=options.threshold, index=options.index,
                               centroids=options.centroids, listed=options.list, encoding=options.encoding)
        done = sys.stdout.writelines(f'{line}\n' for line in lines)
    else:
        done = find(options, embedder) if mode == SEARCH else name(options, embedder, process)
    idle = [] if embedder.cache_info().currsize else idle_flags(command)
    if idle:
        print(f'{", ".join(idle)}: had no effect: no image was embedded', file=sys.stderr)
    return done


def find(options, embedder):
    """Print query, rank, path and similarity of every neighbour; below --threshold the first path is `unknown`."""
    from src.accuracy import Rerank
    from src.inference import Search, answer_queries, open_rows
    rerank = Rerank(**(options.rerank_options or {})) if options.rerank or options.rerank_options else None
    search = Search.open(options.gallery, options.top_k, options.where, rerank, options.threshold)
    rows = open_rows(options.query, embedder, search.check, encoding=options.encoding)
    neighbours = answer_queries(rows, search, options.picture, options.report)
    sys.stderr.writelines(f'{line}\n' for line in search.warnings())
    sys.stdout.writelines(f'{query}\t{rank}\t{path}\t{similarity:.4f}\n' for query, rank, path, similarity in neighbours)
    return neighbours


def name(options, embedder, process):
    """Print path, rank, class, calibrated score, and seen or unseen, for the best classes of every image."""
    from src.common.device import cap_instruction_set
    from src.inference import name_images, open_classes, open_rows
    from src.retrieval.search import TOP_K
    with redirect_stdout(sys.stderr):
        process()
        # Products are computed for the classes, after which the network of the images could not ask for it.
        cap_instruction_set()
        classes = open_classes(options.classes, options.add_classes, options.encoding)
    flag, path = ('--query', options.query) if options.query else ('--dataset_path', options.dataset_path)
    rows = open_rows(path, embedder, classes.check_model, flag, options.encoding)
    named = name_images(rows, classes, options.top_k or TOP_K, options.picture, options.report)
    sys.stdout.writelines(f'{path}\t{rank}\t{name}\t{score:.4f}\t{"unseen" if unseen else "seen"}\n'
                          for path, best in named for rank, (name, score, unseen) in enumerate(best, 1))
    return named


if __name__ == '__main__':
    run(main)

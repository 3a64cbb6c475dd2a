"""Embed images into a file or a Milvus gallery, search or change a gallery, or name the classes of images with --classes,
unseen classes included."""
import os
import sys
import time
from contextlib import redirect_stdout

from src.common.run import run
from src.recipes.command_line import parse_args
from src.recipes.infer_modes import infer_mode


def main(argv=None):
    """Embed --dataset_path, load or change --gallery, or print the neighbours or the class names of every query."""
    command = parse_args('infer', argv)
    mode = infer_mode(command)
    # MindSpore takes a second to import, so not before it is needed.
    from src.common.device import set_up
    from src.inference import load_embedder
    from src.page import check_page
    from src.pictures import check_picture
    options = command.options
    check_picture(options.picture)
    check_page(options.report)

    def embedder():
        process = set_up(options.device_target, options.device_id, use_gpu=options.use_gpu)
        return load_embedder(options.save_ckpt, command.recipe_for, engine=options.engine, target=process.target)

    def embedder_aside():
        # Lines about the device and the weights must not mix with the answers, which a program may be reading.
        with redirect_stdout(sys.stderr):
            return embedder()
    return {'change': change, 'load': load, 'name': name, 'search': search, 'embed': embed}[mode](
        options, embedder if mode == 'embed' else embedder_aside)


def embed(options, embedder):
    """Write the embeddings of --dataset_path to --output; returns (images, width)."""
    from src.common.values import in_milvus
    from src.datasets.broken import without_broken
    from src.datasets.images import open_images
    from src.retrieval.embedding_file import check_output, write_embeddings
    from src.retrieval.gallery import Card, in_parts, open_collection
    gallery = open_collection(options.output, new=True) if in_milvus(options.output) else check_output(options.output)
    loaded = embedder()
    images = without_broken(open_images(options.dataset_path, 'test', subset=loaded.subset, need_labels=False,
                                        encoding=options.encoding), options.skip_broken, keep=False, show_progress=True)
    print(*(f'{count} {why}: left out' for why, count in images.left_out.items()), sep='\n', end='\n' * bool(images.left_out))
    began = time.perf_counter()
    if gallery:
        width = gallery.add(in_parts(images, images.names, loaded.embed(images)),
                            Card.of(images, loaded.model, bool(images.names)))
    else:
        width = write_embeddings(options.output, loaded.embed(images), images, model=loaded.model, classes=images.names)
    seconds = time.perf_counter() - began
    print(f'{options.output}: {len(images)} embeddings of {width} values in {seconds:.1f} s, {len(images) / seconds:.1f} '
          'images/s')
    return len(images), width


def load(options, _):
    """Load --gallery into the gallery --output in Milvus, without the network."""
    import mindspore  # noqa: F401  # see open_collection

    from src.common.errors import InputError
    from src.retrieval.gallery import open_collection, open_gallery
    if os.path.realpath(options.output) == os.path.realpath(options.gallery):
        raise InputError(f'--output={options.output}: is the same file as --gallery; give another name')
    began, source = time.perf_counter(), open_gallery(options.gallery)
    gallery = open_collection(options.output, new=True)
    gallery.add(source.parts(), source.card)
    print(f'{options.output}: {gallery.size()} images now; {options.gallery} loaded in {time.perf_counter() - began:.1f} s')


def change(options, _):
    """Apply the changes to --gallery, in the order below, and print its classes."""
    import mindspore  # noqa: F401  # see open_collection

    from src.common.records import as_table
    from src.datasets.images import read_any_list
    from src.retrieval.embedding_file import check_output
    from src.retrieval.gallery import open_collection, open_gallery
    from src.retrieval.milvus import read_index
    from src.retrieval.search import centroids_of
    from src.retrieval.thresholds import read_threshold
    if options.centroids:
        check_output(options.centroids, '--centroids')
    index = read_index(options.index) if options.index else ()
    if options.remove:
        print(f'{options.gallery}: {open_collection(options.gallery).remove(read_any_list(options.remove).paths)} images')
    if options.threshold:
        gallery = open_collection(options.gallery)
        threshold = read_threshold(options.threshold, gallery.model or '')
        gallery.keep_threshold(as_table(threshold))
        print(f'{options.gallery}: keeps the threshold {threshold.similarity:.4f}')
    if options.index:
        print(open_collection(options.gallery).build_index(*index))
    if options.centroids:
        print(f'{options.centroids}: {centroids_of(open_gallery(options.gallery), options.centroids)} classes')
    if options.list:
        gallery = open_gallery(options.gallery)
        sizes = gallery.class_sizes()
        print(f'{options.gallery}: {gallery.size()} images of {len(sizes) or "unknown"} classes, {gallery.width} values each')
        sys.stdout.writelines(f'{one}\t{count}\n' for one, count in sizes.items())


def search(options, embedder):
    """Print query, rank, path and similarity of every neighbour; below --threshold the first path is `unknown`."""
    from src.accuracy import Rerank
    from src.inference import Search, answer_queries, open_rows
    from src.retrieval.gallery import open_gallery
    from src.retrieval.search import check_size
    rerank = Rerank(**(options.rerank_options or {})) if options.rerank or options.rerank_options else None
    gallery = open_gallery(options.gallery)
    how = Search(check_size(gallery, options.top_k, options.where), options.threshold, options.where, rerank)
    rows = open_rows(options.query, embedder, encoding=options.encoding)
    neighbours, warnings = answer_queries(rows, gallery, how, options.picture, options.report)
    print(*warnings, sep='\n', end='\n' * bool(warnings), file=sys.stderr)
    sys.stdout.writelines(f'{query}\t{rank}\t{path}\t{similarity:.4f}\n' for query, rank, path, similarity in neighbours)
    return neighbours


def name(options, embedder):
    """Print path, rank, class, calibrated score, and seen or unseen, for the best classes of every image."""
    from src.common.device import set_up
    from src.inference import name_images, open_classes, open_rows
    from src.retrieval.search import TOP_K
    with redirect_stdout(sys.stderr):
        set_up(options.device_target, options.device_id, use_gpu=options.use_gpu)
        classes = open_classes(options.classes, options.add_classes, options.encoding)
    rows = open_rows(options.query or options.dataset_path, embedder, '--query' if options.query else '--dataset_path',
                     options.encoding)
    named = name_images(rows, classes, options.top_k or TOP_K, options.picture, options.report)
    sys.stdout.writelines(f'{path}\t{rank}\t{name}\t{score:.4f}\t{"unseen" if unseen else "seen"}\n'
                          for path, best in named for rank, (name, score, unseen) in enumerate(best, 1))
    return named


if __name__ == '__main__':
    run(main)

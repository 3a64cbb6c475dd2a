"""Embeddings of images, written as .npy or .npz; the nearest neighbours in such a file, and changes of it; with --classes the
names of pictures, unseen classes included."""
import sys
import time
from contextlib import redirect_stdout

from src.common.run import run
from src.recipes.command_line import parse_args
from src.recipes.infer_modes import infer_mode


def main(argv=None):
    """Embed the images of --dataset_path, change --gallery, or print the neighbours or the names of every query."""
    command = parse_args('infer', argv)
    mode = infer_mode(command)
    # MindSpore takes a second to import: not before there is something to compute.
    from src.common.device import set_up
    from src.inference import load_embedder
    from src.pictures import check_picture
    options = command.options
    check_picture(options.picture)

    def embedder():
        process = set_up(options.device_target, options.device_id, use_gpu=options.use_gpu)
        return load_embedder(options.save_ckpt, command.recipe_for, engine=options.engine, target=process.target)

    def embedder_aside():
        # What is said of the device and the weights must not be among the answers, which a program may be reading.
        with redirect_stdout(sys.stderr):
            return embedder()
    return {'change': change, 'name': name, 'search': search, 'embed': embed}[mode](
        options, embedder if mode == 'embed' else embedder_aside)


def embed(options, embedder):
    """Write the embeddings of --dataset_path to --output; returns (images, width)."""
    from src.datasets.images import open_images
    from src.inference import embed_to_file
    from src.retrieval.embedding_file import EmbeddingFile, check_output
    check_output(options.output)
    if options.append:
        EmbeddingFile(options.output)
    loaded = embedder()
    images = open_images(options.dataset_path, 'test', subset=loaded.subset, need_labels=False)
    began = time.perf_counter()
    width, total = embed_to_file(images, loaded, options.output, options.append)
    seconds = time.perf_counter() - began
    print(f'{options.output}: {len(images)} embeddings of {width} values in {seconds:.1f} s, {len(images) / seconds:.1f} '
          'images/s' + f'; {total} images now' * options.append)
    return len(images), width


def change(options, _):
    """Change --gallery; returns how many images or centroids there are."""
    from src.inference import change_gallery
    from src.retrieval.embedding_file import check_output
    if options.centroids:
        check_output(options.centroids, '--centroids')
    count = change_gallery(options.gallery, options.remove, options.centroids)
    print(f'{options.centroids or options.gallery}: {count} {"classes" if options.centroids else "images"}')
    return count


def search(options, embedder):
    """Print query, rank, path, similarity of every neighbour; with --threshold the path of the first may be `unknown`."""
    from src.inference import Search, answer_queries, open_rows
    from src.retrieval.embedding_file import EmbeddingFile
    gallery = EmbeddingFile(options.gallery)
    how = Search(options.top_k, options.threshold, options.index == 'ivf', options.rerank)
    how.check(gallery)
    neighbours, warnings = answer_queries(open_rows(options.query, embedder), gallery, how, options.picture,
                                         options.report)
    print(*warnings, sep='\n', end='\n' * bool(warnings), file=sys.stderr)
    sys.stdout.writelines(f'{query}\t{rank}\t{path}\t{similarity:.4f}\n' for query, rank, path, similarity in neighbours)
    return neighbours


def name(options, embedder):
    """Print path, rank, class, calibrated score, seen or unseen of the best classes of every image."""
    from src.common.device import set_up
    from src.inference import name_images, open_classes, open_rows
    with redirect_stdout(sys.stderr):
        set_up(options.device_target, options.device_id, use_gpu=options.use_gpu)
        classes = open_classes(options.classes, options.add_classes)
    rows = open_rows(options.query or options.dataset_path, embedder, '--query' if options.query else '--dataset_path')
    named = name_images(rows, classes, options.top_k, options.picture, options.report)
    sys.stdout.writelines(f'{path}\t{rank}\t{name}\t{score:.4f}\t{"unseen" if unseen else "seen"}\n'
                          for path, best in named for rank, (name, score, unseen) in enumerate(best, 1))
    return named


if __name__ == '__main__':
    run(main)

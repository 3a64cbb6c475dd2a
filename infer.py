"""Embeddings of images, written as .npy or .npz; with --query and --gallery the nearest neighbours in such a file; with
--classes the names of pictures, unseen classes included."""
import sys
import time

from src.set_parser import parse_args, run


def main(argv=None):
    """Embed the images of --dataset_path, or print the neighbours of every query: query, rank, path, similarity; or the
    names of every image: path, rank, class, calibrated score, seen or unseen."""
    command = parse_args('infer', argv)
    # MindSpore takes a second to import: not before there is something to compute.
    from src.inference import embed_to_file, find_neighbours, name_images
    options = command.options
    if options.classes:
        named = name_images(command)
        sys.stdout.writelines(f'{path}\t{rank}\t{name}\t{score:.4f}\t{"unseen" if unseen else "seen"}\n'
                              for path, best in named for rank, (name, score, unseen) in enumerate(best, 1))
        return named
    if options.query or options.gallery:
        neighbours = find_neighbours(command)
        sys.stdout.writelines(f'{query}\t{rank}\t{path}\t{similarity:.4f}\n'
                              for query, rank, path, similarity in neighbours)
        return neighbours
    began = time.perf_counter()
    count, width = embed_to_file(command)
    seconds = time.perf_counter() - began
    print(f'{options.output}: {count} embeddings of {width} values in {seconds:.1f} s, {count / seconds:.1f} images/s')
    return count, width


if __name__ == '__main__':
    run(main)

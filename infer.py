"""Embeddings of images, written as .npy or .npz; the nearest neighbours in such a file, and changes of it; with --classes the
names of pictures, unseen classes included."""
import sys
import time

from src.recipes.set_parser import parse_args, run


def main(argv=None):
    """Embed the images of --dataset_path, change --gallery, or print the neighbours or the names of every query.

    A neighbour is a line of query, rank, path, similarity; with --threshold the path of the first may be `unknown`. A name
    is a line of path, rank, class, calibrated score, seen or unseen.
    """
    command = parse_args('infer', argv)
    # MindSpore takes a second to import: not before there is something to compute.
    from src.inference import change_gallery, check_flags, embed_to_file, find_neighbours, name_images
    options = command.options
    check_flags(command)
    if options.remove or options.centroids:
        count = change_gallery(command)
        print(f'{options.centroids or options.gallery}: {count} {"classes" if options.centroids else "images"}')
        return count
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
    count, width, total = embed_to_file(command)
    seconds = time.perf_counter() - began
    print(f'{options.output}: {count} embeddings of {width} values in {seconds:.1f} s, {count / seconds:.1f} images/s'
          + f'; {total} images now' * options.append)
    return count, width


if __name__ == '__main__':
    run(main)

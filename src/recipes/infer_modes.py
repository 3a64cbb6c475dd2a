"""What infer.py does, by the flags that say so, and which flags go with it: others would be without effect."""
from typing import Dict, Tuple

from src.common.errors import InputError
from src.recipes.command_line import Command

NAME, CHANGE, SEARCH, EMBED = 'name', 'change', 'search', 'embed'
_A_SEARCH = ((SEARCH,), 'is for a search; give --query and --gallery')
_A_FILE = ((CHANGE,), 'is for an embedding file; give --gallery, without --query')
_ANSWERS = ((SEARCH, NAME), 'is for a search or for --classes; give --query and --gallery, or --classes')
# Flag -> what it goes with, and what to do where it does not.
GOES_WITH: Dict[str, Tuple[Tuple[str, ...], str]] = {
    'threshold': _A_SEARCH, 'index': _A_SEARCH, 'rerank': _A_SEARCH, 'remove': _A_FILE, 'centroids': _A_FILE,
    'top_k': _ANSWERS, 'picture': _ANSWERS, 'report': _ANSWERS,
    'gallery': ((SEARCH, CHANGE), 'is not for --classes; leave one of them out'),
    'query': ((SEARCH, NAME), 'is for a search or for --classes; leave --remove and --centroids out'),
    'append': ((EMBED,), 'adds images to --output; leave --query and --gallery out'),
    'output': ((EMBED,), 'is for the embeddings of --dataset_path; leave the flags of searching, naming and changing out'),
    'dataset_path': ((EMBED, NAME), 'is for images to embed or to name; those of a search are --query'),
    'add_classes': ((NAME,), 'is for --classes'),
}


def infer_mode(command: Command) -> str:
    """What the flags of infer.py ask for. Raises InputError where they do not go together."""
    options = command.options
    mode = (NAME if options.classes else CHANGE if options.remove or options.centroids
            else SEARCH if options.query or options.gallery else EMBED)
    for name, (modes, advice) in GOES_WITH.items():
        if name in command.given and mode not in modes:
            raise InputError(f'--{name}: {advice}')
    if mode == CHANGE and not options.gallery:
        raise InputError(f'--{"remove" if options.remove else "centroids"}: {_A_FILE[1]}')
    if mode == SEARCH and not (options.query and options.gallery):
        raise InputError('--query and --gallery: give both or neither')
    if mode == NAME and options.query and 'dataset_path' in command.given:
        raise InputError('--query, --dataset_path: both name images for --classes; leave one of them out')
    return mode

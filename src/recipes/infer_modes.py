"""What infer.py does, by the flags that say so, and which flags go with it: others would be without effect."""
from typing import Dict, Tuple

from src.common.errors import InputError
from src.common.values import in_milvus
from src.recipes.command_line import Command

NAME, CHANGE, LOAD, SEARCH, EMBED = 'name', 'change', 'load', 'search', 'embed'
_CHANGES = ('remove', 'list', 'index', 'centroids')
_A_SEARCH = ((SEARCH,), 'is for a search; give --query and --gallery')
_A_GALLERY = ((CHANGE,), 'is for a gallery; give --gallery, without --query and --output')
_ANSWERS = ((SEARCH, NAME), 'is for a search or for --classes; give --query and --gallery, or --classes')
# Flag -> what it goes with, and what to do where it does not.
GOES_WITH: Dict[str, Tuple[Tuple[str, ...], str]] = {
    'where': _A_SEARCH, 'rerank': _A_SEARCH, 'rerank_options': _A_SEARCH, **dict.fromkeys(_CHANGES, _A_GALLERY),
    'top_k': _ANSWERS, 'picture': _ANSWERS, 'report': _ANSWERS,
    'threshold': ((SEARCH, CHANGE), 'is for a search, or is kept with --gallery; give --gallery'),
    'gallery': ((SEARCH, CHANGE, LOAD), 'is not for --classes; leave one of them out'),
    'query': ((SEARCH, NAME), 'is for a search or for --classes; leave --remove, --list, --index and --centroids out'),
    'output': ((EMBED, LOAD), 'is for the embeddings of --dataset_path or --gallery; leave the flags of searching, naming and '
                              'changing out'),
    'dataset_path': ((EMBED, NAME), 'is for images to embed or to name; those of a search are --query'),
    'add_classes': ((NAME,), 'is for --classes'),
}


def infer_mode(command: Command) -> str:
    """What the flags of infer.py ask for. Raises InputError where they do not go together."""
    options = command.options
    changes = [name for name in _CHANGES if options[name]]
    kept = options.threshold and not options.query
    mode = (NAME if options.classes else CHANGE if changes else SEARCH if options.query
            else EMBED if not options.gallery else LOAD if 'output' in command.given else CHANGE if kept else SEARCH)
    for name, (modes, advice) in GOES_WITH.items():
        if name in command.given and mode not in modes:
            raise InputError(f'--{name}: {advice}')
    if mode == CHANGE and not options.gallery:
        raise InputError(f'--{changes[0]}: {_A_GALLERY[1]}')
    if mode == LOAD and not in_milvus(options.output):
        raise InputError(f'--output={options.output}: --gallery is loaded into a gallery in Milvus alone; give NAME.db or '
                         'http://HOST:PORT, or --dataset_path instead of --gallery')
    if mode == SEARCH and not (options.query and options.gallery):
        raise InputError('--query and --gallery: give both, or --gallery with one of --list, --remove, --index, --output')
    if mode == NAME and options.query and 'dataset_path' in command.given:
        raise InputError('--query, --dataset_path: both name images for --classes; leave one of them out')
    return mode

"""The modes of infer.py, chosen by flags, and the flags that each mode takes; others would have no effect."""
from typing import Dict, Tuple

from src.common.errors import InputError
from src.common.values import in_milvus
from src.recipes.command_line import Command

NAME, CHANGE, LOAD, SEARCH, EMBED = 'name', 'change', 'load', 'search', 'embed'
_CHANGES = ('remove', 'list', 'index', 'centroids')
_A_SEARCH = ((SEARCH,), 'is for a search; give --query and --gallery')
_A_GALLERY = ((CHANGE,), 'is for a gallery; give --gallery, without --query and --output')
_ANSWERS = ((SEARCH, NAME), 'is for a search or for --classes; give --query and --gallery, or --classes')
# Flag -> modes that take it, and advice for other modes.
GOES_WITH: Dict[str, Tuple[Tuple[str, ...], str]] = {
    'where': _A_SEARCH, 'rerank': _A_SEARCH, 'rerank_options': _A_SEARCH, **dict.fromkeys(_CHANGES, _A_GALLERY),
    'top_k': _ANSWERS, 'picture': _ANSWERS, 'report': _ANSWERS,
    'threshold': ((SEARCH, CHANGE), 'is for a search, or is kept with --gallery; give --gallery'),
    'gallery': ((SEARCH, CHANGE, LOAD), 'is not for --classes; leave one of them out'),
    'query': ((SEARCH, NAME), 'is for a search or for --classes; leave out --remove, --list, --index and --centroids'),
    'output': ((EMBED, LOAD), 'is for the embeddings of --dataset_path or --gallery; leave out the flags of searching, naming '
                              'and changing'),
    'dataset_path': ((EMBED, NAME), 'is for images to embed or to name; those of a search are --query'),
    'add_classes': ((NAME,), 'is for --classes'),
}


def infer_mode(command: Command) -> str:
    """Mode that the flags of infer.py ask for. Raises InputError: flags that do not go together."""
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
        raise InputError(f'--output={options.output}: --gallery can only be loaded into a Milvus gallery; give NAME.db or '
                         'http://HOST:PORT, or --dataset_path instead of --gallery')
    if mode == SEARCH and not (options.query and options.gallery):
        raise InputError('--query and --gallery: give both, or --gallery with one of --list, --remove, --index, --output')
    if mode == NAME and options.query and 'dataset_path' in command.given:
        raise InputError('--query, --dataset_path: both name images for --classes; leave one of them out')
    return mode

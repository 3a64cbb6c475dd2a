"""The modes of infer.py, chosen by flags, and the flags that each mode takes; others would have no effect."""
from typing import Dict, List, Tuple

from src.common.errors import InputError
from src.common.values import in_milvus
from src.recipes.command_line import Command
from src.recipes.entries import ENTRIES
from src.recipes.flags import FLAGS, INFER

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
    'skip_broken': ((EMBED,), 'is for images to embed into --output; remove the broken ones from --query or --dataset_path'),
}
# Flags that matter only if images are embedded, beside those that set an entry of the recipe.
EMBEDDING = ('save_ckpt', 'engine', 'subset', 'dataset', 'recipe', 'train_mode', 'set')


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
    images = {EMBED: options.dataset_path, SEARCH: options.query, NAME: options.query or options.dataset_path}.get(mode)
    for name in ('subset', 'encoding'):
        why = name in command.given and ENTRIES[name].why_idle({
            'query': images, 'dataset_path': options.remove, 'train_list': options.add_classes})
        if why:
            raise InputError(f'--{name}={options[name]}: would have no effect: {why}')
    return mode


def idle_flags(command: Command) -> List[str]:
    """Names of the given flags of infer.py that have no effect if no image was embedded."""
    rows = {flag.attribute: flag for flag in FLAGS if INFER in flag.doors}
    idle = {name: rows[name].names[0] for name in command.given if rows[name].sets or name in EMBEDDING}
    return list(idle.values())

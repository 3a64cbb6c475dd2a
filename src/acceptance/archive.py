"""The archive that a user sends: the table, the machine, the logs; without the user's paths, name and host."""
import getpass
import io
import os
import re
import socket
import sys
import tarfile
from pathlib import Path
from typing import Dict

from src.common.files import replacing

# Folders whose names say nothing about a user.
SYSTEM = 'usr|dev|proc|sys|opt|etc|lib|lib64|bin|sbin|run'
ELSEWHERE = re.compile(rf'(?<![\w./])/(?!/|(?:{SYSTEM})\b)[^\s\'":,;()\[\]<>|]+')


def without_paths(text: str, folder: Path) -> str:
    """Remove private names from a text.

    The run's folder, the project, Python and the home folder get names; of other paths outside the system's folders only the
    last part is kept; user and host become USER and HOST."""
    names = {str(folder): 'FOLDER', str(Path(__file__).resolve().parents[2]): 'PROJECT', sys.prefix: 'PYTHON',
             os.path.expanduser('~'): 'HOME'}
    for path in sorted((path for path in names if len(path) > 1), key=len, reverse=True):
        text = text.replace(path, names[path])
    text = ELSEWHERE.sub(lambda found: '.../' + found[0].rstrip('/').rpartition('/')[2], text)
    for name, instead in ((getpass.getuser(), 'USER'), (socket.gethostname(), 'HOST')):
        if len(name) > 2:
            text = re.sub(rf'(?<!\w){re.escape(name)}(?!\w)', instead, text)
    return text


def write_archive(path: Path, texts: Dict[str, str], folder: Path) -> None:
    """Write texts by name, without paths, and the logs below `folder`, as a .tar.gz.

    Raises:
        InputError: the file cannot be written.
    """
    logs = {f'logs/{log.relative_to(folder)}': log.read_text(errors='replace') for log in sorted(folder.rglob('*.log'))}
    with replacing(path) as temporary, tarfile.open(temporary, 'w:gz') as file:
        for name, text in {**texts, **logs}.items():
            content = without_paths(text, folder).encode()
            entry = tarfile.TarInfo(f'acceptance/{name}')
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))

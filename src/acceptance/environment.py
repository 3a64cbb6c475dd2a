"""Checks of the installation: packages, driver, CANN."""
import os
import re
from glob import glob
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from src.acceptance.items import Node, Skipped, Wrong, judged
from src.report import DRIVER, OF_CANN, cann_home

REQUIREMENTS = Path(__file__).resolve().parents[2] / 'requirements.txt'
MODULES = {'pyyaml': 'yaml'}
DEVICES = '/dev/davinci[0-9]*'


def packages(node: Node) -> str:
    names = re.findall(r'^[a-z0-9]+', REQUIREMENTS.read_text(), re.M)
    missing = []
    for name in names:
        try:
            import_module(MODULES.get(name, name))
        except ImportError as error:
            missing.append(f'{name}: {error}')
    if missing:
        raise Wrong('; '.join(missing))
    return ', '.join(f'{name} {version(name)}' for name in names)


def driver(node: Node) -> str:
    if node.target != 'Ascend':
        raise Skipped(f'this is a {node.target}')
    found = glob(DEVICES)
    text = Path(DRIVER).read_text().split('\n')[0] if Path(DRIVER).is_file() else f'no {DRIVER}'
    if len(found) < node.devices:
        raise Wrong(f'{len(found)} of {DEVICES} for {node.devices} devices; {text}')
    return f'{len(found)} devices; {text}'


def _needs_cann(node: Node) -> None:
    """Without a card CANN is looked at too where it is: it compiles for one that is not there."""
    if not cann_home():
        raise Wrong("source CANN's set_env.sh first") if node.target == 'Ascend' else Skipped(f'this is a {node.target}')


def cann(node: Node) -> str:
    _needs_cann(node)
    # Releases differ in where they say it: MindSpore reads the first, the folder itself is called cann-9.0.0.
    files = [f'{cann_home()}/compiler/version.info', *sorted(glob(f'{cann_home()}/*/ascend_toolkit_install.info'))]
    texts = [*(Path(path).read_text(errors='replace') for path in files if os.path.isfile(path)), os.path.realpath(cann_home())]
    said = [found[1] for text in texts for found in [re.search(r'(\d+\.\d+)\.', text)] if found]
    if not said:
        raise Wrong(f'no release in {", ".join(files)}')
    from mindspore.run_check._check_version import AscendEnvChecker
    accepted = AscendEnvChecker(None).version
    return judged(f'{said[0]}; MindSpore {version("mindspore")} accepts {", ".join(accepted)}', said[0] in accepted)


def packages_of_cann(node: Node) -> str:
    _needs_cann(node)
    missing = [name for name in OF_CANN if not find_spec(name)]
    if missing:
        raise Wrong(f'{" and ".join(missing)} missing: pip install $ASCEND_HOME_PATH/lib64/{{te,hccl}}-*.whl')
    return 'found'

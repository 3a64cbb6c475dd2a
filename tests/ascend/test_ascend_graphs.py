"""The graphs of every recipe in Ascend's precision hold only what primitives.tsv says that Ascend computes.

A primitive with dtypes that are not in the table fails until somebody has looked it up; see the table's first lines.
"""
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CALL = re.compile(r'  %\d+\([^)]*\) = (?:PrimFunc_)?(\w+)\(')
DTYPE = re.compile(r'Tensor\[(\w+)\]')
# Of the graph itself, not computed by the device.
CONTROL = {'Depend', 'Load', 'MakeTuple', 'Partial', 'Switch', 'TupleGetItem', 'UpdateState'}


def primitives(text):
    """(name, dtypes of the inputs, dtypes of the outputs) of all nodes of a graph as MindSpore saves it.

    A node's line is followed, after the values of its constants, by one of the types of its inputs and outputs.
    """
    name = None
    for line in text.splitlines():
        call = CALL.match(line)
        if call:
            name = call[1]
        elif name and line.startswith('      : ('):
            given, _, out = line.partition(') -> (')
            if name not in CONTROL:
                yield name, ' '.join(DTYPE.findall(given)), ' '.join(DTYPE.findall(out))
            name = None


def table():
    """{(name, inputs, outputs): source}."""
    rows = [line.split('\t') for line in (HERE / 'primitives.tsv').read_text().splitlines() if not line.startswith('#')]
    return {tuple(row[:3]): row[3] for row in rows}


def test_the_nodes_of_a_graph_are_read():
    text = '''  %0(x) = PrimFunc_Equal(%para1, Tensor(shape=[1, 2], dtype=Int64, value=
[[0 1]])) cnode_attrs: {a: I64(1)}
      : (<Tensor[Int64], (12, 1)>, <Tensor[Int64], (1, 2), value=...>) -> (<Tensor[Bool], (12, 2)>)
  %1(y) = Load(%para4_dense.weight, UMonad[U])
      : (<Ref[Tensor[Float32]], (8, 3), ref_key=:dense>, <UMonad, NoShape>) -> (<Tensor[Float32], (8, 3)>)
  %2(z) = PrimFunc_Cast(%1, I64(42))
      : (<Tensor[Float32], (8, 3)>, <Int64, NoShape>) -> (<Tensor[Float16], (8, 3)>)
'''
    assert list(primitives(text)) == [('Equal', 'Int64 Int64', 'Bool'), ('Cast', 'Float32', 'Float16')]


def test_every_row_of_the_table_has_a_source_and_no_float64():
    assert all(source.strip() for source in table().values())
    assert not [row for row in table() if 'Float64' in ' '.join(row)]


@pytest.mark.by_hand
def test_recipes_compile_to_what_ascend_computes(tmp_path):
    subprocess.run([sys.executable, str(HERE / 'compile_recipes.py'), str(tmp_path)], check=True, timeout=3600,
                   capture_output=True, cwd=tmp_path)
    graphs = list(tmp_path.rglob('*_validate_*.ir'))
    found = {row for path in graphs for row in primitives(path.read_text())}
    missing = sorted(found - set(table()))
    assert len(graphs) > 50 and not missing, '\n'.join('\t'.join(row) for row in missing)

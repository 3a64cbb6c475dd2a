"""Check an HCCL rank table for the launchers and print its device ids in rank order.

    python rank_table.py TABLE DEVICE_NUM

Format 1.0 as hccl_tools writes it: {"server_list": [{"device": [{"device_id": "0", "rank_id": "0", ...}]}]}.
A table that cannot be used is one line on standard output and exit code 1. Standard library only: it may run
under another Python than the training.
"""
import json
import sys


def device_ids(path, device_num):
    """The device id of each rank, as strings, of the one server listed in the file; ValueError says what is wrong."""
    try:
        with open(path, encoding='utf-8') as file:
            table = json.load(file)
    except (OSError, ValueError) as error:
        raise ValueError(f'rank table {path} is not readable as JSON: {error}') from None
    try:
        servers = [[(int(device['rank_id']), int(device['device_id'])) for device in server['device']]
                   for server in table['server_list']]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f'rank table {path} has no server_list[].device[] with rank_id and device_id') from None
    devices = sorted(device for server in servers for device in server)
    if len(devices) != device_num:
        raise ValueError(f'rank table {path} lists {len(devices)} devices, DEVICE_NUM is {device_num}')
    if len(servers) != 1:
        raise ValueError(f'rank table {path} lists {len(servers)} servers; start several nodes with - (msrun)')
    if [rank for rank, _ in devices] != list(range(device_num)):
        raise ValueError(f'rank table {path} does not number its ranks 0 to {device_num - 1}')
    return [str(device) for _, device in devices]


if __name__ == '__main__':
    try:
        print(' '.join(device_ids(sys.argv[1], int(sys.argv[2]))))
    except ValueError as problem:
        print(problem)
        sys.exit(1)

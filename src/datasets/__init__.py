"""Files on disk -> arrays and mindspore.dataset pipelines."""

# Re-identification: name -> type. To add a dataset, write its file (see market1501.py) and add a line here.
REID_DATASETS = {
    'DukeMTMC-reID': 'dukemtmc_reid.DukeMTMCreID',
    'Market1501': 'market1501.Market1501',
    'lists': 'reid.ReidLists',
}

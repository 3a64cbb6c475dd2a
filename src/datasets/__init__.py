"""Files on disk -> arrays and mindspore.dataset pipelines."""

# Re-identification: name -> class; a dataset more is one file (see market1501.py) and one line here.
REID_DATASETS = {
    'DukeMTMC-reID': 'dukemtmc_reid.DukeMTMCreID',
    'Market1501': 'market1501.Market1501',
    'lists': 'reid.ReidLists',
}

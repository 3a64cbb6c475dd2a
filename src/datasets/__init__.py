"""Files on disk -> arrays and mindspore.dataset pipelines."""

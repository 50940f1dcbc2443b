"""What the experiments of examples/ have in common: ssl, semi, transfer and detection.

options.py    a dataclass of settings becomes a command line, and names the folder of a run
runs.py       set up, save and resume a run, read its log, write its result
grid.py       run every cell of a table in a process of its own, skip what is done
table.py      mean ± deviation, runs by their settings, Markdown, where numbers come from
views.py      the views of ssl by name, and the VAE for a data set
images.py     labelled images in memory
packed.py     the same from a small file, as one JPEG
wide_resnet.py  of FixMatch, a page
backbones.py  build a network, or load it from a checkpoint of ssl or semi, with plain batch norms
parallel.py   many processes that do what one would
"""

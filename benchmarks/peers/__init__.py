"""The demo checkpoint through other tools, each as its documentation shows it; ``run.py`` measures all of them.

In: the network with its BatchNorms, an InputSpec, calibration images. Out: a ``Peer`` each: a name and how to open it.
"""

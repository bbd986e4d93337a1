"""Model repositories that a model server loads as they are: OpenVINO Model Server's and Triton's.

In: a bundle. Out: a folder with the model, the server's configuration and a compose file that starts it.
"""

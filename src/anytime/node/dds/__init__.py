"""The node on Cyclone DDS: topics as ROS 2 has them on the wire, without a ROS installation.

Names, types, hashes and the graph are those of Jazzy. Nothing here uses Cyclone's listeners: its Python binding
writes and takes while it holds the GIL, so a callback that waits for the GIL could wait for ever.
"""

"""The node itself is in the Python package anytime, which pip installs; this package is what colcon and ros2 need."""

"""The node as a ROS 2 lifecycle node, over rclpy, which is imported only here and only when asked for.

Written for ROS 2 Jazzy. Not yet run on a real ROS 2: tested against a double of rclpy's API
(``tests/doubles_rclpy.py``).
"""

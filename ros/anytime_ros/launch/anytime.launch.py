"""The node, configured and activated; not yet run on a real ROS 2."""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition


def generate_launch_description():
    """``ros2 launch anytime_ros anytime.launch.py [name:=anytime] [namespace:=/] [params_file:=FILE]``."""
    params = os.path.join(get_package_share_directory("anytime_ros"), "config", "anytime.yaml")
    node = LifecycleNode(
        package="anytime_ros",
        executable="node",
        name=LaunchConfiguration("name"),
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params_file")],
        output="screen",
    )

    def changed(transition):
        return EmitEvent(event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition))

    return LaunchDescription(
        [
            DeclareLaunchArgument("name", default_value="anytime"),
            DeclareLaunchArgument("namespace", default_value="/"),
            DeclareLaunchArgument("params_file", default_value=params),
            # Only from configuring: who deactivates the node later wants it to stay so.
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=node,
                    start_state="configuring",
                    goal_state="inactive",
                    entities=[changed(Transition.TRANSITION_ACTIVATE)],
                )
            ),
            node,
            changed(Transition.TRANSITION_CONFIGURE),
        ]
    )

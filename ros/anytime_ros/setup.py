"""What colcon installs: the entry point, the launch file and the parameters."""

from setuptools import setup

NAME = "anytime_ros"

setup(
    name=NAME,
    version="0.1.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/anytime.launch.py"]),
        (f"share/{NAME}/config", ["config/anytime.yaml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The anytime authors",
    maintainer_email="anytime@example.org",
    description="A lifecycle node that answers questions by their deadlines.",
    license="Apache-2.0",
    entry_points={"console_scripts": ["node = anytime.node.ros.main:main"]},
)

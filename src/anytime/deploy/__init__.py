"""Deploying: a directory that installs a bundle and the runtime on a device without a network."""

from anytime.deploy.directory import Deployed, Plan, deploy

__all__ = ["Deployed", "Plan", "deploy"]

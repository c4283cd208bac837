"""From a Hugging Face checkpoint to a bundle. Meets the runtime only on disk; needs the extra ``[export]``."""

from anytime.export.export import export_checkpoint

__all__ = ["export_checkpoint"]

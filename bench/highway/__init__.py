"""Does reasoning by the deadline drive better than reflex, and than reasoning that comes late? See docs/highway.md."""

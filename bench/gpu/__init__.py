"""On an NVIDIA GPU: steps against the memory's bandwidth, captured graphs, and lateness, by every engine that loads."""

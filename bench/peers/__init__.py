"""Our engine and its peers, side by side: the same weights, bits and threads, each through its public interface."""

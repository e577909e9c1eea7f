"""The numerics of guided policy search: pure functions on frozen records, numpy and scipy only."""

"""Time: the clock, the latency model and its profile, the token cap, admission. Never sees an engine."""

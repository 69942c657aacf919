"""The hot loop of the load: a native thread in C, and a pure-Python one of the same behaviour."""
